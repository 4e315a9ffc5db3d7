"""Safe and soft ops beside NumPy and PyTorch on special values, and what the documents promise of them."""
import itertools

import keel
import numpy as np
import pytest
import torch

FLOATS = {"float32": np.float32, "float64": np.float64, "float16": np.float16}


def grid(dtype):
    f = np.finfo(dtype)
    one = [f.eps, 1, np.nextafter(dtype(1), dtype(2)), np.nextafter(dtype(1), dtype(0))]
    half = [0, f.smallest_subnormal, f.smallest_normal, *one, f.max, np.inf]
    return np.array([s * v for v in half for s in (1, -1)] + [np.nan], dtype)


def pairs(dtype):
    return tuple(np.array(c, dtype) for c in zip(*itertools.product(grid(dtype), repeat=2)))


def gradients(f, *arrays):
    x = [keel.tensor(a).requires_grad_() for a in arrays]
    y = f(*x)
    y.sum().backward()
    return np.asarray(y.detach()), [np.asarray(t.grad) for t in x]


@pytest.mark.parametrize("dtype", FLOATS.values())
def test_div_safe_on_special_values(dtype):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        want = np.where(b == 0, dtype(7), a / np.where(b == 0, dtype(1), b))
    np.testing.assert_array_equal(np.asarray(keel.div_safe(keel.tensor(a), keel.tensor(b), otherwise=7)), want)


@pytest.mark.parametrize("dtype", FLOATS.values())
def test_no_gradient_is_nan_between_finite_numbers(dtype):
    a, b = pairs(dtype)
    ok = np.isfinite(a) & np.isfinite(b)
    a, b = a[ok], b[ok]
    for f in (lambda x, y: keel.div_safe(x, y, otherwise=0), lambda x, y: keel.div_safe(x, y, otherwise=0, zero_tol=1), lambda x, y: keel.div_safe(x, y, otherwise=0, saturate=True),
              lambda x, y: keel.soft_near(x, y), lambda x, y: keel.soft_near(x, y, temperature=0.1, normalized=True), lambda x, y: keel.soft_compare(x, y),
              lambda x, y: keel.clamp_safe(x, y, 1), lambda x, y: keel.pow_safe(x, y, otherwise=0)):
        for g in gradients(f, a, b)[1]:
            assert not np.isnan(g).any()
    x = grid(dtype)
    for f in (keel.sanitize, keel.clamp_to_zero, lambda t: keel.sqrt_safe(t, otherwise=0), lambda t: keel.rsqrt_safe(t, otherwise=0), lambda t: keel.log_safe(t, otherwise=0),
              lambda t: keel.soft_clamp(t, 0, 1), lambda t: keel.soft_clamp(t, 0, 1, leak=0.1), keel.soft_relu, keel.norm_safe, keel.normalize_safe):
        assert not np.isnan(gradients(f, x[np.isfinite(x)])[1][0]).any()


def test_the_hand_written_where_makes_nan_and_div_safe_does_not():
    b = torch.tensor([2.0, 0.0], requires_grad=True)
    torch.where(b == 0, 0.0, torch.tensor([1.0, 0.0]) / b).sum().backward()
    assert b.grad.isnan()[1]
    _, (da, db) = gradients(lambda a, b: keel.div_safe(a, b, otherwise=0), np.array([1, 2], np.float32), np.array([2, 0], np.float32))
    np.testing.assert_array_equal(da, [0.5, 0])
    np.testing.assert_array_equal(db, [-0.25, 0])


@pytest.mark.parametrize("dtype", FLOATS.values())
def test_sanitize_is_nan_to_num(dtype):
    x = grid(dtype)
    np.testing.assert_array_equal(np.asarray(keel.sanitize(keel.tensor(x))), np.nan_to_num(x))
    np.testing.assert_array_equal(np.asarray(keel.sanitize(keel.tensor(x), nan_value=1, inf_value=2, neginf_value=3)), np.nan_to_num(x, nan=1, posinf=2, neginf=3))
    np.testing.assert_array_equal(np.asarray(keel.sanitize(keel.tensor(x), keep=True)), np.where(np.isnan(x), dtype(0), x))


@pytest.mark.parametrize("dtype", FLOATS.values())
def test_ulps_are_numpys(dtype):
    x = grid(dtype)
    t = keel.tensor(x)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.asarray(keel.ulp_next(t)), np.nextafter(x, dtype(np.inf)))
        np.testing.assert_array_equal(np.asarray(keel.ulp_prev(t)), np.nextafter(x, dtype(-np.inf)))
        finite = x[np.isfinite(x)]
        up = np.nextafter(finite, dtype(np.inf))
        np.testing.assert_array_equal(np.asarray(keel.ulp_of(keel.tensor(finite))), np.where(np.isinf(up), dtype(np.inf), up - finite))
    bits = x.view({2: np.int16, 4: np.int32, 8: np.int64}[x.itemsize]).astype(object)
    low = 1 << (8 * x.itemsize - 1)
    code = np.array([b if b >= 0 else -(int(b) + low) for b in bits], object)
    got = np.asarray(keel.ulp_diff(keel.tensor(x[:, None]), t))
    within = np.asarray(keel.ulp_within(keel.tensor(x[:, None]), t, max_ulps=2))
    top = np.iinfo(np.int64).max
    for i, j in itertools.product(range(x.size), repeat=2):
        want = top if np.isnan(x[i]) or np.isnan(x[j]) else min(abs(code[i] - code[j]), top)
        assert got[i, j] == want, (x[i], x[j])
        assert within[i, j] == (x[i] == x[j] or (np.isfinite(x[i]) and np.isfinite(x[j]) and want <= 2))


def test_near_is_symmetric_and_knows_infinity():
    inf, nan = np.inf, np.nan
    a, b = np.array([inf, inf, nan, 1e308, 0.0, 0.1 + 0.2, -inf]), np.array([1e308, inf, nan, -1e308, -0.0, 0.3, inf])
    want = [False, True, False, False, True, True, False]
    assert np.asarray(keel.near(keel.tensor(a), keel.tensor(b))).tolist() == want
    assert np.asarray(keel.near(keel.tensor(b), keel.tensor(a))).tolist() == want
    assert np.asarray(keel.near(keel.tensor(a), keel.tensor(b), equal_nan=True)).tolist()[2]
    assert not np.isclose(1.0, np.nan) and keel.near(keel.tensor([1, 2]), keel.tensor([1, 3])).tolist() == [True, False]


def test_documented_numbers():
    near = lambda v: pytest.approx(v, rel=2e-2)  # noqa: E731
    assert float(keel.soft_clamp(keel.tensor([1e8], dtype="f32"), 0, 1)) == 1
    _, (g,) = gradients(lambda x: keel.soft_clamp(x, 0, 1), np.array([6, -5], np.float32))
    assert g.tolist() == [near(1.9e-22)] * 2
    one = keel.tensor([1.0])
    assert float(keel.soft_near(one, one, rel_tol=1e-3, abs_tol=0, temperature=0.1)) == pytest.approx(0.5025, abs=1e-5)
    assert float(keel.soft_near(one, one)) == pytest.approx(0.98201, abs=1e-5)
    assert float(keel.soft_near(one, one, rel_tol=1e-3, temperature=0.1, normalized=True)) == 1
    _, (_, db) = gradients(lambda a, b: keel.div_safe(a, b, otherwise=0), np.array([1e25], np.float32), np.array([1e25], np.float32))
    assert db[0] == np.float32(-1e-25)
    masked = keel.tensor([[-np.inf, -np.inf], [0.0, -np.inf]]).requires_grad_()
    y = keel.softmax_safe(masked)
    (y * keel.tensor([[1.0, np.nan], [1.0, np.nan]])).sum().backward()
    assert y.tolist() == [[0, 0], [1, 0]] and np.asarray(masked.grad).tolist() == [[0, 0], [0, 0]]


def test_none_means_not_given():
    assert np.isnan(float(keel.div_safe(keel.tensor(1.0), keel.tensor(0.0), otherwise=None)))
    with pytest.raises(ValueError, match="otherwise must be given for integers"):
        keel.div_safe(keel.tensor([1]), keel.tensor([0]))
    with pytest.raises(ValueError, match="lo must be at most hi"):
        keel.clamp_safe(keel.tensor([1.0]), 2, 1)
    with pytest.raises(ValueError, match="f16"):
        keel.div_safe(keel.tensor([1.0], dtype="f16"), keel.tensor([0.0], dtype="f16"), otherwise=1e5)
