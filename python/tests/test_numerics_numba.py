"""keel.numerics.numba against NumPy's form on the adversarial grid, from Python and from compiled functions."""

import math

import numpy as np
import pytest

numba = pytest.importorskip("numba")
import keel.numerics.numba as kb  # noqa: E402
import keel.numerics.numpy as kn  # noqa: E402
from numerics_goldens import INF, NAN  # noqa: E402


def grid(dtype):
    f = np.finfo(dtype)
    values = [NAN] + [
        s * x
        for x in (INF, 0.0, float(f.smallest_subnormal), float(f.tiny), float(f.max), 1.0, 1 + float(f.eps), 0.5, 3.0)
        for s in (1, -1)
    ]
    g = np.array(values, dtype)
    return np.repeat(g, len(g)), np.tile(g, len(g))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_numpy_on_the_grid(dtype):
    a, b = grid(dtype)

    def check(mine, theirs, tol=0.0):
        assert mine.dtype == theirs.dtype
        ok = (mine == theirs) | (mine != mine) & (theirs != theirs)
        if tol:
            ok |= np.abs(mine - theirs) <= tol * np.maximum(np.abs(theirs), 1)
        assert ok.all(), (mine[~ok], theirs[~ok], a[~ok], b[~ok])

    eps = 8 * np.finfo(dtype).eps
    with np.errstate(all="ignore"):
        check(kb.div_safe(a, b), kn.div_safe(a, b))
        check(kb.div_safe(a, b, 2.0, 0.5), kn.div_safe(a, b, default=2.0, zero_tol=0.5))
        check(kb.pow_safe(a, b, 5.0), kn.pow_safe(a, b, default=5.0), eps)
        check(kb.sqrt_safe(a, 3.0), kn.sqrt_safe(a, default=3.0))
        for base in (0.0, 2.0, 10.0, 3.0, 1.0, -1.0):
            check(kb.log_safe(a, base, 3.0), kn.log_safe(a, base=base or None, default=3.0), eps)
        check(kb.sanitize(a), kn.sanitize(a))
        check(kb.sanitize(a, 1.0, 7.0), kn.sanitize(a, nan_value=1.0, inf_value=7.0))
        check(kb.near(a, b), kn.near(a, b))
        check(kb.near(a, b, 0.3, 2.0, True), kn.near(a, b, rel_tol=0.3, abs_tol=2.0, equal_nan=True))
        check(kb.near_zero(a, 0.5), kn.near_zero(a, abs_tol=0.5))
        check(kb.clamp_to_zero(a, 0.5), kn.clamp_to_zero(a, abs_tol=0.5))
        check(kb.to_int(a), kn.to_int(a))
        check(kb.clamp_safe(a, -0.5, 3.0), kn.clamp_safe(a, -0.5, 3.0))
        check(kb.soft_relu(a, 3.0), kn.soft_relu(a, 3.0), eps)
        check(kb.soft_clamp(a, -1.0, 2.0), kn.soft_clamp(a, -1.0, 2.0), eps)
        check(kb.soft_compare(a, b), kn.soft_compare(a, b), eps)
        check(kb.soft_near(a, b), kn.soft_near(a, b), eps)
        assert kb.count_near(a, b) == kn.count_near(a, b)


def test_in_compiled_functions_and_on_numbers():
    @numba.njit
    def ratios(a, b):
        total = 0.0
        for i in range(a.size):
            if not kb.near(a[i], b[i]):
                total += kb.div_safe(a[i], b[i], 0.0)
        return total, kb.div_safe(a, b, -1.0), kb.all_near(a, a)

    total, whole, same = ratios(np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0, 3.0]))
    assert total == 0.5 and whole.tolist() == [0.5, -1, 1] and same
    assert kb.div_safe(1.0, 0.0, 7.0) == 7 and math.isnan(kb.div_safe(1.0, 0.0)) and kb.div_safe(1, 4) == 0.25
    with pytest.raises(ValueError, match="zero_tol must be non-negative"):
        kb.div_safe(1.0, 1.0, 0.0, -1.0)


ROWS = [
    [[0, 0, 0], [1, 2, 3], [-4, 5, 0]],
    [[1e-30, 2e-30, 0], [3e30, 4e30, 1], [1e-12, 0, 0]],
    [[-INF, -INF, -INF], [-INF, 1, 2], [NAN, 1, 2], [INF, 1, 2], [INF, NAN, 1]],
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("name", ["norm_safe", "normalize_safe", "softmax_safe"])
def test_rows_as_numpy(name, dtype):
    mine, theirs = getattr(kb, name), getattr(kn, name)
    for rows in ROWS[: 1 if dtype is np.int64 else 3]:
        x = np.array(rows, dtype)
        for y in (x, x.T, np.stack([x, x[::-1]]), x[:, ::2], x[0]):
            for axis in range(-y.ndim, y.ndim):
                got, want = mine(y, axis), theirs(y, axis=axis)
                assert np.shape(got) == np.shape(want)
                assert y.ndim == 1 and name == "norm_safe" or got.dtype == want.dtype
                np.testing.assert_allclose(got, want, rtol=4 * np.finfo(want.dtype).eps, atol=0)
        if name == "norm_safe":
            np.testing.assert_allclose(mine(x), theirs(x), rtol=4 * np.finfo(theirs(x).dtype).eps)


def test_rows_in_compiled_functions():
    @numba.njit
    def all_of(x):
        return kb.norm_safe(x), kb.norm_safe(x, 1), kb.normalize_safe(x, 1, 1e-6), kb.softmax_safe(x)

    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    whole, each, unit, share = all_of(x)
    assert whole == 5 and each.tolist() == [5, 0] and unit.tolist() == [[0.6, 0.8], [0, 0]] and share[1].tolist() == [0.5, 0.5]
    assert kb.norm_safe(np.ones((0, 3)), 0).tolist() == [0, 0, 0] and kb.softmax_safe(np.ones((2, 0))).shape == (2, 0)
    with pytest.raises(ValueError, match="axis is out of range"):
        kb.softmax_safe(x, 2)
    with pytest.raises(ValueError, match="eps must be positive"):
        kb.normalize_safe(x, 0, -1.0)
