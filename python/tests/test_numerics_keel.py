"""keel.numerics on Keel's own tensors, beside NumPy's form, and the gradients of the plan's example."""

import keel
import keel.numerics as num
import keel.numerics.numpy as kn
import numpy as np
import pytest
from numerics_goldens import GRID, INF, NAN

A, B = (np.array([p[i] for p in [(a, b) for a in GRID for b in GRID]]) for i in (0, 1))


def same(mine, theirs, ulps=0):
    mine = np.asarray(mine)
    assert mine.dtype == theirs.dtype
    ok = (mine == theirs) | (mine != mine) & (theirs != theirs)
    if ulps:
        ok |= kn.ulp_within(mine, theirs, max_ulps=ulps)
    assert ok.all(), (mine[~ok], theirs[~ok])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_as_numpy(dtype):
    with np.errstate(all="ignore"):
        x, y = A.astype(dtype), B.astype(dtype)
        a, b = keel.tensor(x), keel.tensor(y)
        for kw in ({}, {"default": 2.0}, {"zero_tol": 0.5}, {"zero_tol": "auto"}, {"saturate": True}):
            same(num.div_safe(a, b, **kw), kn.div_safe(x, y, **kw))
        same(num.div_safe(a, b, default=keel.tensor(y)), kn.div_safe(x, y, default=y))
        for f in ("sqrt_safe", "rsqrt_safe", "log_safe"):
            same(getattr(num, f)(a, default=3.0), getattr(kn, f)(x, default=3.0), 4)
        same(num.log_safe(a, base=10.0), kn.log_safe(x, base=10.0), 4)
        same(num.pow_safe(a, b, default=5.0), kn.pow_safe(x, y, default=5.0), 4)
        for kw in ({}, {"inf_value": "keep"}, {"inf_value": 7.0, "nan_value": 1.0}, {"neginf_value": 1.0}):
            same(num.sanitize(a, **kw), kn.sanitize(x, **kw))
        for kw in ({}, {"equal_nan": True}, {"rel_tol": 0.3, "abs_tol": 2.0}):
            same(num.near(a, b, **kw), kn.near(x, y, **kw))
        same(num.clamp_to_zero(a), kn.clamp_to_zero(x))
        for kw in ({}, {"abs_tol": 0.0}, {"abs_tol": 0.5}):
            for f in ("to_zero", "to_int"):
                same(getattr(num, f)(a, **kw), getattr(kn, f)(x, **kw))
                assert (np.signbit(np.asarray(getattr(num, f)(a, **kw))) == np.signbit(getattr(kn, f)(x, **kw))).all()
        for lo, hi in ((-0.5, 1.0), (1.0, -0.5), (NAN, 1.0), (-1.0, NAN), (-INF, INF)):
            same(num.to_range(a, lo, hi), kn.to_range(x, lo, hi).astype(dtype))
            same(num.to_range(a, keel.tensor(y), hi), kn.to_range(x, y, hi).astype(dtype))
        for f in ("ulp_next", "ulp_prev", "ulp_of"):
            same(getattr(num, f)(a), np.asarray(getattr(kn, f)(x)))
        same(num.ulp_within(a, b), kn.ulp_within(x, y))
        assert num.count_near(a, b).item() == kn.count_near(x, y)


def test_gradients_and_errors():
    x, y = keel.tensor([1.0, 2.0], requires_grad=True), keel.tensor([2.0, 0.0], requires_grad=True)
    num.div_safe(x, y, default=0.0).sum().backward()
    assert np.asarray(x.grad).tolist() == [0.5, 0] and np.asarray(y.grad).tolist() == [-0.25, 0]
    for bad in (
        lambda: num.div_safe(x, y, zero_tol=-1.0),
        lambda: num.div_safe(x, y, zero_tol="x"),
        lambda: num.sanitize(x, inf_value="x"),
    ):
        with pytest.raises(num.InvalidValueError):
            bad()


def test_snaps_and_their_gradients():
    values = [2.75, 3.00390625, -1.0, 0.0625, INF, NAN]
    for dtype in (keel.float16, keel.bfloat16, keel.float32, keel.float64):  # all of them have these values
        x = keel.tensor(values).to(dtype).requires_grad_()
        for options, slope in (({}, [1, 0, 0, 1, 1, 1]), ({"grad": "ste"}, [1] * 6)):
            x.grad = None
            y = num.to_int(x, abs_tol=0.01, **options)
            assert y.dtype == dtype and np.array_equal(np.asarray(y.to(keel.float32).detach()), [2.75, 3, -1, 0.0625, INF, NAN], equal_nan=True)
            y.backward(keel.ones_like(y))
            assert np.asarray(x.grad.to(keel.float32)).tolist() == slope
    x = keel.tensor([-2.0, 0.25, 3.0], requires_grad=True)
    lo, hi = keel.tensor([-1.0] * 3, requires_grad=True), keel.tensor([1.0] * 3, requires_grad=True)
    num.to_range(x, lo, hi).sum().backward()
    assert [np.asarray(t.grad).tolist() for t in (x, lo, hi)] == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    x.grad = None
    num.to_zero(x, abs_tol=0.5).sum().backward()
    assert np.asarray(x.grad).tolist() == [1, 0, 1]
    assert num.to_int(2.9999999999).item() == 3 and num.to_int(keel.tensor([1, 2])).tolist() == [1, 2] and num.to_range(5.0, 0.0, 1.0).item() == 1
    with pytest.raises(num.InvalidValueError, match="grad must be"):
        num.to_int(x, grad="none")


def test_tolerances_of_keels_dtypes():
    for name in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
        assert num.tolerances(getattr(keel, name)) == num.tolerances(name) != (0, 0)
    assert num.tolerances(keel.int64, keel.float16) == (1e-3, 1e-4) and num.tolerances(keel.int64) == (0, 0)


def test_every_name_is_there():
    assert num.analyze_precision is keel.analyze_precision and num.precision_profile is keel.precision_profile
    for name in dir(num):
        if name not in ("torch", "jax", "numba"):
            assert getattr(num, name) is not None
