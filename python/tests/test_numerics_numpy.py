"""keel.numerics.numpy: every code of the small formats against the tables of the C++ core, the scalar functions on the grid, dtypes, out
and where."""

import math
import warnings

import keel.numerics.numpy as kn
import ml_dtypes
import numpy as np
import pytest
from keel.numerics import scalar
from numerics_goldens import GRID, INF, MAX, NAN, TINY, format_golden, same, table

SMALL = {
    "kFloat16": np.float16,
    "kBfloat16": ml_dtypes.bfloat16,
    "kFloat8E4m3fn": ml_dtypes.float8_e4m3fn,
    "kFloat8E5m2": ml_dtypes.float8_e5m2,
}
A, B = (np.array([p[i] for p in [(a, b) for a in GRID for b in GRID]]) for i in (0, 1))


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def every_code(dtype):
    size = np.dtype(dtype).itemsize
    return np.arange(1 << (8 * size), dtype=np.uint32).astype(f"u{size}").view(dtype)


def as_scalar(got, function, *arrays, bits=True, tol=0.0):
    for g, *xs in zip(np.asarray(got).tolist(), *(a.tolist() for a in arrays)):
        want = function(*xs)
        want = NAN if want is None else want
        assert same(g, want) or (not bits and g == want) or (tol and abs(g - want) <= tol * abs(want)), (xs, g, want)


@pytest.mark.parametrize("name", SMALL)
def test_every_code_of_small_formats(name):
    dtype = SMALL[name]
    up_sum, of_sum, near_pairs = format_golden(name)
    every = every_code(dtype)
    code = f"u{every.itemsize}"
    nan = {"kFloat16": 0x7E00, "kBfloat16": 0x7FC0, "kFloat8E4m3fn": 0x7F, "kFloat8E5m2": 0x7E}[name]

    def fnv(x):
        with np.errstate(all="ignore"):
            codes = np.where(np.isnan(x), nan, x.view(code))
        h = 0xCBF29CE484222325
        for c in codes.tolist():
            h = ((h ^ c) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return h

    assert kn.ulp_next(every).dtype == dtype == kn.ulp_of(every).dtype
    assert fnv(kn.ulp_next(every)) == up_sum and fnv(kn.ulp_of(every)) == of_sum
    step = 1 if every.itemsize == 1 else 509
    assert sum(kn.count_near(every, y) for y in every[::step]) == near_pairs
    with np.errstate(all="ignore"):  # ml_dtypes warns of NaN
        finite = every[np.isfinite(every)]
    up, down = kn.ulp_next(finite), kn.ulp_prev(finite)
    assert np.array_equal(kn.ulp_add(finite, 1).view(code), up.view(code)) and np.array_equal(
        kn.ulp_add(finite, -1).view(code), down.view(code)
    )
    with np.errstate(all="ignore"):
        inside = np.isfinite(up)
        added = np.isfinite(kn.ulp_add(finite, 4))
    assert np.all(kn.ulp_diff(finite, up)[inside] == 1) and np.all(kn.near(finite, up)[inside])
    assert np.all(kn.ulp_within(finite, kn.ulp_add(finite, 4)) == added)


def test_ulp_on_float64():
    rows = table("kUlpGoldens")
    x = np.array([r[0] for r in rows])
    for f, column in ((kn.ulp_next, 1), (kn.ulp_prev, 2), (kn.ulp_of, 3)):
        assert all(same(g, r[column]) for g, r in zip(f(x).tolist(), rows))
    assert kn.ulp_diff(-TINY, TINY) == 2 and kn.ulp_diff(-0.0, TINY) == 1 and kn.ulp_within(-TINY, TINY) and kn.ulp_diff(MAX, INF) == 1
    assert (
        kn.ulp_diff(NAN, 1.0) == 2**63 - 1 == kn.ulp_diff(-MAX, MAX)
        and not kn.ulp_within(NAN, NAN)
        and kn.ulp_within(INF, INF)
        and not kn.ulp_within(INF, MAX)
    )
    steps = np.array([3, -3, 2**62, -(2**62), 2**63 - 1, -(2**63), 1, -1, 0])
    for y in (1.0, -1.0, MAX, -MAX, TINY, -TINY, 0.0, -0.0, INF, NAN):
        assert all(same(g, scalar.ulp.add(y, n)) for g, n in zip(kn.ulp_add(np.float64(y), steps).tolist(), steps.tolist())), y


def test_as_scalar_on_the_grid():
    as_scalar(kn.div_safe(A, B), scalar.div, A, B)
    as_scalar(kn.div_safe(A, B, default=7.0, zero_tol=1e-9), lambda a, b: scalar.div(a, b, default=7.0, zero_tol=1e-9), A, B)
    as_scalar(kn.pow_safe(A, B), scalar.safe.pow, A, B, tol=2.3e-16)
    as_scalar(kn.sqrt_safe(A), scalar.sqrt, A)
    as_scalar(kn.log_safe(A), scalar.safe.log, A, tol=2.3e-16)
    for base in (2.0, 10.0, 0.5, 3.0, 1.0, -1.0):
        as_scalar(kn.log_safe(A, base=base), lambda a: scalar.safe.log(a, base=base), A, tol=4.5e-16)
    as_scalar(kn.near(A, B), scalar.near, A, B)
    as_scalar(
        kn.near(A, B, rel_tol=0.3, abs_tol=2.0, equal_nan=True),
        lambda a, b: scalar.near(a, b, rel_tol=0.3, abs_tol=2.0, equal_nan=True),
        A,
        B,
    )
    as_scalar(kn.near(A, B, rel_tol=INF), lambda a, b: scalar.near(a, b, rel_tol=INF), A, B)
    as_scalar(kn.near(A, B, rel_tol=NAN, abs_tol=-1.0), lambda a, b: scalar.near(a, b, rel_tol=NAN, abs_tol=-1.0), A, B)
    for tol in (1e-9, 0.0, 0.5, INF):
        as_scalar(kn.near_zero(A, abs_tol=tol), lambda a: scalar.near_zero(a, abs_tol=tol), A)
        as_scalar(kn.clamp_to_zero(A, abs_tol=tol), lambda a: scalar.to_zero(a, abs_tol=tol), A)
        as_scalar(kn.to_int(A, abs_tol=tol), lambda a: scalar.to_int(a, abs_tol=tol), A)
    as_scalar(kn.to_range(A, B, 1.0), lambda a, b: scalar.to_range(a, b, 1.0), A, B)
    as_scalar(kn.to_range(A, 0.0, B), lambda a, b: scalar.to_range(a, 0.0, b), A, B)
    low = ~(B > 3.0)
    as_scalar(kn.clamp_safe(A[low], B[low], 3.0), lambda a, b: scalar.clamp.clamp_safe(a, b, 3.0), A[low], B[low])


@pytest.mark.parametrize("dtype", [np.float32, *SMALL.values()])
def test_small_dtypes_round_once(dtype):
    r = np.random.default_rng(1)
    a, b = (r.standard_normal(500).astype(dtype) for _ in range(2))
    b[::7] = 0
    with np.errstate(all="ignore"):
        wide = a.astype(np.float32) / b.astype(np.float32)
        bounded = (
            np.clip(wide, -float(ml_dtypes.finfo(dtype).max), float(ml_dtypes.finfo(dtype).max)) if np.dtype(dtype).itemsize == 1 else wide
        )
        want = np.where(b == 0, dtype(0.5), bounded.astype(dtype))
    got = kn.div_safe(a, b, default=0.5)
    assert got.dtype == dtype and np.array_equal(got, want)
    assert (
        kn.sqrt_safe(a).dtype == kn.clamp_to_zero(a).dtype == kn.sanitize(a).dtype == kn.soft_relu(a).dtype == kn.to_int(a).dtype == dtype
    )
    every = np.array([NAN, INF, -INF, -0.0, 1.5]).astype(dtype)
    top = float(ml_dtypes.finfo(dtype).max)
    kept = dtype == ml_dtypes.float8_e4m3fn  # whose infinities are NaN
    assert kn.sanitize(every).astype(float).tolist() == ([0, 0, 0] if kept else [0, top, -top]) + [0, 1.5]
    assert np.signbit(kn.sanitize(every)[3])


def test_dtypes():
    f16, f32, i32, i64 = np.float16(1), np.float32([1.0]), np.array([1, 2], np.int32), np.array([3])
    assert kn.div_safe(f32, 2).dtype == kn.div_safe(2.0, f32).dtype == np.float32 and kn.div_safe(f16, f32).dtype == np.float32
    assert (
        kn.div_safe(i32, i64, default=0).dtype == np.float64 == kn.div_safe(1, 2, default=0).dtype
        and kn.div_safe(np.float16([1]), ml_dtypes.bfloat16(2)).dtype == np.float32
    )
    assert (
        kn.clamp_safe(i32, 0, 1).dtype == np.int32
        and kn.to_range(i32, 0, 1).tolist() == [1, 1]
        and kn.sanitize(i32).dtype == np.int32
        and kn.to_int(i32).dtype == np.int32
    )
    assert isinstance(kn.div_safe(1.0, 2.0), np.float64) and isinstance(kn.near(1.0, 1.0), np.bool_)
    for f in (kn.div_safe, kn.pow_safe):
        with pytest.raises(scalar.InvalidValueError, match="default is needed"):
            f(i32, i32)
    for bad in (np.array(["a"]), np.array([1j])):
        with pytest.raises(TypeError):
            kn.sanitize(bad)


def test_defaults_must_fit():
    h = np.ones(3, np.float16)
    for bad in (1e5, [0.0, 1e5, 0.0]):
        with pytest.raises(scalar.InvalidValueError, match="does not fit float16"):
            kn.div_safe(h, h, default=bad)
    with pytest.raises(scalar.InvalidValueError):
        kn.sqrt_safe(h.astype(ml_dtypes.float8_e4m3fn), default=INF)
    with pytest.raises(scalar.InvalidValueError):
        kn.sanitize(h, nan_value=1e5)
    assert kn.div_safe(h, 0, default=65519.0).tolist() == [65504] * 3 and kn.div_safe(h, 0, default=INF)[0] == INF
    for bad in (-1.0, NAN):
        with pytest.raises(ValueError, match=f"zero_tol must be non-negative, got {bad}"):
            kn.div_safe(h, h, zero_tol=bad)
    with pytest.raises(ValueError, match="'auto'"):
        kn.div_safe(h, h, zero_tol="some")


def test_div_safe_options():
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([2.0, 0.0])
    assert kn.div_safe(a, b, default=np.array([[9.0], [8.0]])).tolist() == [[0.5, 9], [1.5, 8]] and math.isnan(kn.div_safe(a, b)[0, 1])
    assert kn.div_safe(np.float32([1, 1]), np.float32([1e-40, 1e-38]), default=0, zero_tol="auto").tolist()[0] == 0
    assert (
        kn.div_safe(np.float32(1), np.float32(1e-40), saturate=True) == np.finfo(np.float32).max
        and kn.div_safe(INF, 1.0, saturate=True) == INF
    )
    assert (
        kn.div_safe(np.float16(60000), np.float16(0.1), saturate=True) == 65504 and kn.div_safe(np.float16(60000), np.float16(0.1)) == INF
    )
    assert (
        kn.pow_safe(np.float16(300), np.float16(2), default=1) == 1
        and kn.pow_safe(ml_dtypes.float8_e4m3fn(20), ml_dtypes.float8_e4m3fn(2)) == 384
    )
    assert math.isnan(kn.pow_safe(-1.0, 0.5)) and kn.pow_safe(np.float16(255.9), np.float16(2), default=1) == np.float16(
        np.float32(np.float16(255.9)) ** 2
    )
    assert kn.rsqrt_safe(np.array([4.0, 0, -1, INF]), default=9).tolist() == [0.5, 9, 9, 0]


def test_out_and_where():
    a, b = np.arange(6.0).reshape(2, 3), np.array([0.0, 1.0, 2.0])
    out = np.full((2, 3), 7.0)
    assert kn.div_safe(a, b, default=-1, out=out) is out and out.tolist() == [[-1, 1, 1], [-1, 4, 2.5]]
    kn.div_safe(a, b, default=-2, out=out, where=a > 3)
    assert out.tolist() == [[-1, 1, 1], [-1, 4, 2.5]] and kn.near(a, a, where=[True, False, True]).tolist() == [[True, False, True]] * 2
    x = a.copy()
    assert kn.div_safe(x, x, default=5, out=x) is x and x.tolist() == [[5, 1, 1], [1, 1, 1]]
    y = np.array([4.0, -9.0, NAN, 16.0])
    assert same(kn.sqrt_safe(y[::-1], default=0, out=y).tolist()[1], NAN) and y.tolist()[::3] == [4, 2]
    z = np.arange(5.0)
    kn.div_safe(z[:-1], z[1:], out=z[1:])  # overlapping
    assert z.tolist() == [0, 0, 0.5, 2 / 3, 0.75]
    low = np.empty(3, np.float32)
    assert kn.div_safe(np.ones(3), 4.0, out=low) is low and low.tolist() == [0.25] * 3
    for bad in (np.empty(4), np.empty((1, 3))):
        with pytest.raises(scalar.InvalidValueError, match="out has shape"):
            kn.sqrt_safe(np.ones(3), out=bad)
    with pytest.raises(TypeError):
        kn.sqrt_safe(np.ones(3), out=np.empty(3, int))


def test_large_arrays_go_in_pieces():
    r = np.random.default_rng(2)
    n = 100_003
    a, b = r.standard_normal(n), r.standard_normal(n)
    b[::1000] = 0
    a[5::5000] = NAN
    a[7::5000] = INF
    with np.errstate(all="ignore"):
        want = np.where(b == 0, 3.0, a / b)
    assert np.array_equal(kn.div_safe(a, b, default=3.0), want, equal_nan=True) and np.array_equal(
        kn.div_safe(a[::-1], b[::-1], default=3.0), want[::-1], equal_nan=True
    )
    assert np.array_equal(kn.div_safe(a, b, default=np.full(n, 3.0)), want, equal_nan=True) and np.array_equal(
        kn.sanitize(a), np.nan_to_num(a)
    )
    assert np.array_equal(kn.near(a, a * (1 + 1e-10)), np.isfinite(a) | np.isinf(a)) and kn.count_near(a, b) == int(kn.near(a, b).sum())
    m = np.arange(n) % 3 == 0
    got = kn.div_safe(a, b, default=3.0, where=m, out=np.full(n, -1.0))
    assert np.array_equal(got[m], want[m], equal_nan=True) and np.all(got[~m] == -1)


def test_near():
    assert (
        kn.near(np.float32(1), np.float32(1 + 1e-6))
        and not kn.near(1.0, 1 + 1e-6)
        and kn.near(np.float16(1), 1.0009)
        and not kn.near(np.float16(1), np.float16(1.01))
    )
    assert (
        kn.near(np.float32(0.1), np.float64(0.1))
        and not kn.near(np.float16(65504), np.float16(-65504))
        and kn.near(np.float16(65504), np.float16(-65504), rel_tol=2.0)
    )
    e = np.array([])
    assert kn.all_near(e, e) and not kn.any_near(e, e) and kn.count_near(e, e) == 0 and math.isnan(kn.fraction_near(e, e))
    a, b = np.array([1.0, 2.0, NAN, 4.0]), np.array([1.0, 2.0, NAN, 5.0])
    assert kn.fraction_near(a, b) == 0.5 and kn.count_near(a, b, equal_nan=True) == 3 and kn.any_near(a, b) and not kn.all_near(a, b)
    assert kn.all_near(a, b, where=[1, 1, 0, 0]) and kn.fraction_near(a, b, where=[True, False, True, True]) == 1 / 3
    assert (
        kn.tolerances(np.float16) == (1e-3, 1e-4)
        and kn.tolerances(ml_dtypes.bfloat16, np.float64) == (1e-2, 1e-3)
        and kn.tolerances(np.int8) == (0, 0)
    )
    assert kn.tolerances("float8_e4m3fn", profile="seed") == (0.1, 0.01)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8, np.uint8])
def test_near_integers(dtype):
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, 0, 1, 5, info.max - 1, info.max], dtype)
    a, b = np.repeat(values, len(values)), np.tile(values, len(values))
    assert np.array_equal(kn.near(a, b), a == b) and np.array_equal(kn.near_zero(a), a == 0)
    for kw in ({"abs_tol": 1.0}, {"abs_tol": 2.5}, {"rel_tol": 0.5}, {"abs_tol": 9e18}, {"abs_tol": 1.9e19}, {"abs_tol": INF}):
        kw = {"rel_tol": 0.0, "abs_tol": 0.0, **kw}
        assert kn.near(a, b, **kw).tolist() == [scalar.near(x, y, **kw) for x, y in zip(a.tolist(), b.tolist())], kw
    assert kn.near(np.array([True]), np.array([False]), abs_tol=5.0).tolist() == [False] and kn.near(
        np.uint64([2**64 - 1]), np.int64([-1])
    ).tolist() == [False]


def test_clamp():
    assert kn.clamp_to_zero(np.float32([5e-8, -0.0, 1e-3])).tolist() == [0, 0, np.float32(1e-3)] and kn.to_zero is kn.clamp_to_zero
    for bad in ((2, 1), (np.array([0.0, 2.0]), 1.0)):
        with pytest.raises(scalar.InvalidValueError, match="lo must not be greater"):
            kn.clamp_safe(np.zeros(2), *bad)
    assert kn.to_int(np.array([2.9999999999, 2.5, -1e-10])).tolist() == [3, 2.5, 0]


def test_soft():
    x = np.linspace(-3, 4, 141)
    y = kn.soft_clamp(x, 0, 1)
    assert np.all(np.diff(y) >= 0) and np.all((y >= 0) & (y <= 1)) and kn.soft_clamp(0.5, 0.0, 1.0) == 0.5
    assert (
        np.abs(y - np.clip(x, 0, 1)).max() == pytest.approx(math.log(2) / 10, rel=1e-3)
        and np.abs(kn.soft_clamp(x, 0, 1, 1000.0) - np.clip(x, 0, 1)).max() < 7e-4
    )
    assert kn.soft_clamp(np.float32([1e8, INF, -INF]), 0, 1).tolist() == [1, 1, 0] and math.isnan(kn.soft_clamp(NAN, 0, 1))
    assert (
        kn.soft_clamp(5.0, 0, 1, leak=0.1) == pytest.approx(1.4)
        and kn.soft_relu(0.0, 2.0) == pytest.approx(math.log(2) / 2)
        and kn.soft_relu(np.array([-1e4, 1e4, INF])).tolist() == [0, 1e4, INF]
    )
    for bad in ({"beta": 0}, {"beta": -1.0}):
        with pytest.raises(scalar.InvalidValueError):
            kn.soft_clamp(x, 0, 1, **bad)
    with pytest.raises(scalar.InvalidValueError):
        kn.soft_clamp(x, 1, 0)
    assert kn.soft_near(1.0, 1.0, rel_tol=1e-3, temperature=0.1) == pytest.approx(0.5025, abs=1e-6) and kn.soft_near(
        1.0, 1.0
    ) == pytest.approx(0.982, abs=1e-3)
    assert kn.soft_near(1.0, 1.0, normalized=True) == 1 and kn.soft_near(1.0, 1.0 + 1e-9, rel_tol=0.0) == pytest.approx(0.5, abs=1e-3)
    assert kn.soft_near(np.array([INF, INF, -INF, 1, NAN]), np.array([INF, -INF, 1, INF, 1]))[:4].tolist() == [
        pytest.approx(0.982, abs=1e-3),
        0,
        0,
        0,
    ]
    assert (
        kn.soft_near(0.0, 0.0, rel_tol=0.0, abs_tol=0.0) == pytest.approx(0.982, abs=1e-3)
        and kn.soft_near(0.0, 1.0, rel_tol=0.0, abs_tol=0.0) == 0
    )
    assert kn.soft_compare(np.array([INF, 1.0, -INF, 3.0]), np.array([INF, INF, -INF, 1.0]), 2.0).tolist() == [
        0,
        -1,
        0,
        math.tanh(1),
    ] and math.isnan(kn.soft_compare(NAN, 1.0))
