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


def test_tolerances_of_keels_dtypes():
    for name in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
        assert num.tolerances(getattr(keel, name)) == num.tolerances(name) != (0, 0)
    assert num.tolerances(keel.int64, keel.float16) == (1e-3, 1e-4) and num.tolerances(keel.int64) == (0, 0)


def test_every_name_is_there():
    for name in dir(num):
        if name not in ("torch", "jax", "numba"):
            assert getattr(num, name) is not None
