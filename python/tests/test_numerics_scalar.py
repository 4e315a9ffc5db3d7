"""The scalar functions against the tables of the C++ core, and every mended defect of the first version."""

import inspect as python_inspect
import math
import random
import sys

import pytest
from keel.numerics import scalar
from keel.numerics.scalar import clamp, compare, inspect, safe, ulp
from numerics_goldens import GRID, INF, MAX, NAN, TINY, same, table


def test_ulp_tables():
    for x, up, down, step in table("kUlpGoldens"):
        assert same(ulp.next(x), up) and same(ulp.prev(x), down) and same(ulp.of(x), step), x


def test_sum_tables():
    for values, fits, total, mean in table("kSumGoldens"):
        if fits:
            assert same(safe.sum_exact(values), total)
        else:
            with pytest.raises(OverflowError):
                safe.sum_exact(values)
        assert safe.mean_exact(values) == mean == safe.mean_exact(values[::-1])


@pytest.mark.parametrize(
    "name, function, steps",
    [("kPowGoldens", safe.pow, 1), ("kModGoldens", safe.mod, 0), ("kLogGoldens", lambda a, b: safe.log(a, base=b), 2)],
)
def test_pair_tables(name, function, steps):
    rows = table(name)
    assert len(rows) > 150
    for a, b, has, result in rows:
        got = function(a, b)
        assert (got is not None) == has, (a, b)
        assert not has or same(got, result) or ulp.within(got, result, max_ulps=steps), (a, b, got)


# Names, keyword arguments and defaults.
def defaults(f):
    return {k: p.default for k, p in python_inspect.signature(f).parameters.items() if p.kind is p.KEYWORD_ONLY}


def test_signatures():
    near = {"rel_tol": 1e-9, "abs_tol": 1e-9}
    for f in (
        compare.near,
        compare.compare,
        compare.less_or_near,
        compare.greater_or_near,
        compare.all_near,
        compare.near_many,
        clamp.to_value,
        clamp.to_values,
    ):
        assert defaults(f) == {**near, "equal_nan": False}, f
    for f in (
        compare.near_zero,
        compare.is_integer,
        compare.near_zero_many,
        clamp.to_zero,
        clamp.to_int,
        clamp.to_zero_many,
        clamp.to_int_many,
    ):
        assert defaults(f) == {"abs_tol": 1e-9}, f
    assert defaults(compare.near_rel) == defaults(compare.near_abs) == {"tol": 1e-9}
    assert defaults(safe.div) == defaults(safe.mod) == defaults(safe.div_many) == {"default": None, "zero_tol": 0.0}
    assert defaults(safe.log) == {"base": None, "default": None} and defaults(safe.pow) == defaults(safe.sqrt) == {"default": None}
    assert defaults(ulp.within) == {"max_ulps": 4}
    for name in scalar.__all__:
        assert hasattr(scalar, name)


def test_near():
    assert compare.near(0.1 + 0.2, 0.3) and not compare.near(1.0, 1 + 2e-9) and compare.near(0.0, 1e-9)
    assert (
        not compare.near(INF, 1e308) and compare.near(INF, INF) and not compare.near(INF, -INF) and not compare.near(INF, MAX, rel_tol=INF)
    )
    assert (
        not compare.near(1e308, -1e308, rel_tol=3.0) and compare.near(1e308, 1.2e308, rel_tol=1e10) and compare.near(1.0, 2.0, rel_tol=INF)
    )
    assert not compare.near(NAN, NAN) and compare.near(NAN, NAN, equal_nan=True) and not compare.near(NAN, 1.0, equal_nan=True)
    for tol in (-1.0, NAN):
        assert compare.near(1.0, 1.0, rel_tol=tol, abs_tol=tol) and not compare.near(1.0, 1 + 1e-12, rel_tol=tol, abs_tol=tol)
    for a in GRID:
        for b in GRID:
            d = abs(a - b)
            want = a == b or (math.isfinite(d) and d <= max(1e-9 * max(abs(a), abs(b)), 1e-9))
            assert compare.near(a, b) == want == compare.near(b, a), (a, b)
    assert not compare.near_rel(1e-15, 2e-15, tol=1e-3) and not compare.near_rel(0.0, 1e-300) and compare.near_abs(1e-10, -1e-10)
    assert (
        not compare.near_abs(INF, 1.0, tol=INF)
        and not compare.near_zero(INF, abs_tol=INF)
        and compare.near_zero(-1e-9)
        and not compare.near_zero(NAN)
    )


def test_ints_are_exact():
    assert not compare.near(10**12, 10**12 + 1) and compare.near(10**12, 10**12 + 1, rel_tol=1e-9) and compare.near(100, 101, abs_tol=1)
    assert compare.near(10**400, 10**400 + 1, abs_tol=1) and not compare.near(10**400, INF) and not compare.near(-(2**63), 2**63 - 1)
    assert compare.near(1, 1 + 1e-10) and not compare.near(True, False, abs_tol=5.0) and compare.near(True, 1)
    assert (
        compare.near_zero(0)
        and not compare.near_zero(1)
        and compare.near_zero(-3, abs_tol=3)
        and compare.is_integer(7)
        and clamp.to_zero(5) == 5.0
    )


def test_order_and_integers():
    assert [compare.compare(*p) for p in ((NAN, NAN), (1, NAN), (NAN, 1), (1.0, 1 + 1e-12), (-INF, INF), (2, 1))] == [1, 1, 1, 0, -1, 1]
    assert (
        compare.less_or_near(1.0, 1 - 1e-12)
        and not compare.less_or_near(NAN, 1)
        and compare.greater_or_near(1.0, -INF)
        and not compare.greater_or_near(1, NAN)
    )
    assert (
        compare.is_integer(2.9999999999) and not compare.is_integer(2.9999999) and compare.is_integer(1e300) and not compare.is_integer(INF)
    )
    assert compare.is_integer(4503599627370495.5, abs_tol=0.5) and not compare.is_integer(4503599627370495.5)
    assert compare.all_near([]) and not compare.all_near([(1, 1), (1, 2)]) and compare.near_many([(1, 1), (1, 2)]) == [True, False]
    assert compare.near_zero_many([0, 1, NAN]) == [True, False, False] and compare.is_integer_many([1, 1.5]) == [True, False]


def test_clamp():
    for x in (-0.0, -1e-15, -1e-9, TINY):
        assert same(clamp.to_zero(x), 0.0)
    assert (
        same(clamp.to_zero(-0.0, abs_tol=0.0), 0.0)
        and same(clamp.to_zero(-0.0, abs_tol=-1.0), -0.0)
        and clamp.to_zero(INF, abs_tol=INF) == INF
    )
    assert math.isnan(clamp.to_zero(NAN)) and math.isnan(clamp.to_int(NAN)) and clamp.to_int(-INF) == -INF
    assert (
        same(clamp.to_int(-1e-10), 0.0)
        and clamp.to_int(2.5) == 2.5
        and clamp.to_int(2.5, abs_tol=0.5) == 2
        and clamp.to_int(1e300) == 1e300
    )
    assert isinstance(clamp.to_int(3), float) and clamp.to_int_many([2.9999999999, 2.9999999]) == [3.0, 2.9999999]
    assert clamp.to_value(0.3, 0.1 + 0.2) == 0.1 + 0.2 and clamp.to_values(0.5, [0.5000000001, 0.5]) == 0.5000000001
    assert clamp.to_values(0.499999999, [0.5]) == 0.499999999 and clamp.to_values(0.7, []) == 0.7
    assert clamp.to_range(5, 2, 3) == 3 and clamp.to_range(5.0, 10.0, 0.0) == 10 and clamp.to_range(5.0, 1.0, NAN) == 5
    assert (
        math.isnan(clamp.to_range(5.0, NAN, 1.0)) and math.isnan(clamp.to_range(NAN, 0, 1)) and clamp.to_range_many([1, 5], 2, 3) == [2, 3]
    )
    assert same(clamp.to_range(-0.0, 0.0, 1.0), 0.0) and same(clamp.to_range(0.0, -0.0, 1.0), -0.0)
    for x in GRID:
        for lo in GRID:
            for hi in GRID:
                if lo > hi:
                    continue
                got = clamp.clamp_safe(x, lo, hi)
                if x != x or lo != lo or hi != hi:
                    assert got != got
                else:
                    assert got == min(max(x, lo), hi) and (not lo <= x <= hi or same(got, x))
    with pytest.raises(scalar.InvalidValueError):
        clamp.clamp_safe(1, 2, 1)


def test_div():
    for a in GRID:
        for b in GRID:
            got = safe.div(a, b, default=0.5)
            assert got == 0.5 and safe.div(a, b) is None if b == 0 else same(got, a / b)
    assert (
        safe.div(NAN, 0.0) is None
        and safe.div(1.0, 1e-9, zero_tol=1e-9) is None
        and math.isnan(safe.div(1.0, NAN, default=0.0, zero_tol=1.0))
    )
    for bad in (-1.0, NAN, -TINY, -INF):
        with pytest.raises(ValueError, match="zero_tol must be non-negative, got"):
            safe.div(1, 2, zero_tol=bad)
    assert safe.div_or_zero(1, 0) == 0 and safe.div_or_zero(1, 4) == 0.25
    assert (
        [safe.div_or_inf(a, 0.0) for a in (1, -1, NAN)] == [INF, -INF, INF]
        and math.isnan(safe.div_or_inf(0, 0))
        and math.isnan(safe.div_or_inf(1, NAN))
    )
    assert safe.div_many([1, 2], [0, 2]) == [None, 1.0] and safe.div_many([1, 2], [0, 2], default=9.0) == [9.0, 1.0]


def test_mod_sqrt_log_pow():
    assert safe.mod(-7, 3) == -1 and safe.mod(5, INF) == 5 and safe.mod(INF, 0.0) is None and safe.mod(5, 0, default=1.0) == 1
    with pytest.raises(ValueError):
        safe.mod(INF, 3)
    assert (
        safe.sqrt(-1.0) is None
        and safe.sqrt(-INF, default=0.0) == 0
        and same(safe.sqrt(-0.0), -0.0)
        and math.isnan(safe.sqrt(NAN))
        and safe.sqrt_many([4, -1]) == [2, None]
    )
    assert (
        safe.log(1000, base=10) == 3
        and safe.log(TINY, base=2) == -1074
        and safe.log(0) is None
        and math.isnan(safe.log(NAN))
        and safe.log(2, base=1, default=7.0) == 7
    )
    assert safe.log_many([1, 0], default=0.0) == [0, 0]
    assert (
        safe.pow(-1, 0.5) is None
        and safe.pow(-8, 1 / 3, default=0.0) == 0
        and safe.pow(0, -1) is None
        and safe.pow(1e200, 2) is None
        and safe.pow(NAN, 0) == 1
        and safe.pow(1, NAN) == 1
    )
    assert safe.pow_many([2, 0], [3, -1]) == [8, None]
    with pytest.raises(ValueError, match=r"Input sequences must have equal length \(got 1 for bases and 2 for exps\)"):
        safe.pow_many([1], [1, 2])
    with pytest.raises(scalar.NeonError, match="got 1 for a_values and 2 for b_values"):
        safe.div_many([1], [1, 2])


def test_sums():
    assert (
        safe.sum_exact([1e16, 1.0, -1e16]) == 1
        and safe.sum_exact([1e308, 1e308, -1e308]) == 1e308
        and same(safe.sum_exact([-0.0, -0.0]), 0.0)
    )
    assert (
        safe.sum_exact([2**63 - 1, 2**63 - 1, -(2**63), -(2**63), 7]) == 5
        and safe.mean_exact([MAX, MAX, MAX]) == MAX
        and safe.mean_exact([1, 2]) == 1.5
    )
    assert safe.sum_exact([INF, 1]) == INF and math.isnan(safe.sum_exact([NAN, INF])) and math.isnan(safe.mean_exact([1, NAN]))
    for f in (safe.sum_exact, safe.mean_exact):
        with pytest.raises(scalar.EmptyInputError):
            f([])
        with pytest.raises(scalar.InvalidValueError):
            f([INF, -INF])
    with pytest.raises(scalar.InvalidValueError) as e:
        safe.sum_exact([MAX, MAX])
    assert isinstance(e.value, OverflowError)


def test_ulp():
    assert (
        ulp.diff(-TINY, TINY) == 2
        and ulp.diff(-TINY, 0.0) == 1
        and ulp.diff(-0.0, TINY) == 1
        and ulp.diff(-0.0, 0.0) == 0
        and ulp.within(-TINY, TINY)
    )
    assert (
        ulp.diff(-MAX, MAX) == 2 * 0x7FEFFFFFFFFFFFFF
        and ulp.diff(1, 2) == 2**52
        and ulp.of(MAX) == INF
        and ulp.of(-1.0) == 2**-53
        and ulp.of(0) == TINY
    )
    assert (
        ulp.add(MAX, 3) == INF
        and ulp.add(-1.0, -(2**63)) == -INF
        and ulp.add(1.0, -(2**63)) == -4
        and ulp.add(INF, -1) == INF
        and ulp.add(1.0, -3) == 1 - 3 * 2**-53
    )
    assert same(ulp.add(-TINY, 1), -0.0) and same(ulp.add(TINY, -1), 0.0) and same(ulp.add(-0.0, 0), -0.0)
    assert (
        ulp.within(INF, INF)
        and not ulp.within(INF, MAX)
        and not ulp.within(NAN, NAN)
        and ulp.within(1.0, 1.0, max_ulps=-1)
        and not ulp.within(1.0, ulp.next(1.0), max_ulps=-1)
    )
    for x in (INF, -INF, NAN):
        with pytest.raises(scalar.InvalidValueError):
            ulp.diff(x, x)
    with pytest.raises(scalar.InvalidValueError, match="Cannot compute the ULP of NaN"):
        ulp.of(NAN)
    r = random.Random(3)
    for _ in range(2000):
        x, n = r.uniform(-1, 1) * 2.0 ** r.randint(-1074, 1000), r.randint(-10, 10)
        y = x
        for _ in range(abs(n)):
            y = math.nextafter(y, INF if n > 0 else -INF)
        assert same(ulp.add(x, n), y) and ulp.diff(x, y) == abs(n) and ulp.from_ordered(ulp.ordered(x)) == x
    assert (
        ulp.of_many([1.0, -1.0]) == [2**-52, 2**-53]
        and ulp.diff_many([1.0, 2.0], [1.0, 4.0]) == [0, 2**52]
        and ulp.within_many([1.0, 1.0], [1.0, 2.0]) == [True, False]
    )


def test_inspect():
    assert inspect.check(0.0) is None and "NaN" in inspect.check(NAN) and "-inf" in inspect.check(-INF) and inspect.check(7) is None
    assert "subnormal" in inspect.check(2.225073858507201e-308) and inspect.check(2.2250738585072014e-308) is None
    r = inspect.analyze([1, NAN, 0, -INF])
    assert (r.total, r.normal, r.zero, r.nan, r.inf, r.precision_risk) == (4, 1, 1, 1, 1, "HIGH") and "nan: 1 of 4 (25 %)" in str(r)
    assert (
        inspect.analyze([1.0] * 19 + [TINY]).precision_risk == "LOW" and inspect.analyze([1.0] * 18 + [TINY] * 2).precision_risk == "MEDIUM"
    )
    assert "0 values" in str(inspect.analyze([])) and "%" not in str(inspect.analyze([]))
    assert inspect.check_many([1, 2]) == "All 2 values are normal or zero: no issues"
    assert inspect.check_many([1, NAN, INF, TINY]) == "Found 1 NaN, 1 infinite, 1 denormal of 4: precision risk HIGH"
    assert inspect.compare_debug(1.0, 1) == "Values are exactly equal" and "5.551115123e-17" in inspect.compare_debug(0.1 + 0.2, 0.3)
    assert (
        "ULP distance: 1\nThey are near" in inspect.compare_debug(0.1 + 0.2, 0.3)
        and "(50 %)" in inspect.compare_debug(1, 2)
        and "ULP distance: none" in inspect.compare_debug(NAN, 2.0)
    )
    assert inspect.div_debug(1, 3) == "The division is safe: no issues" and inspect.div_debug(1.0, -0.0).startswith("Division by zero")
    assert (
        inspect.div_debug(1.0, INF).startswith("Denominator:")
        and inspect.div_debug(1e300, 1e-300).startswith("Result:")
        and inspect.div_debug(NAN, 3.0).startswith("Result:")
    )
    assert (
        "(450360 ULP)" in inspect.precision_loss(1.0000000001, 1.0)
        and inspect.precision_loss(1.02, 1.0) is None
        and inspect.precision_loss(1.0, 0.0) is None
    )
    assert inspect.precision_loss(NAN, 1.0) and inspect.precision_loss(INF, 1.0) is None and inspect.precision_loss(-0.999, -1.0)


def test_limits_and_casts():
    assert inspect.limits_of("fp16") == (65504, 65520, 2**-14, 2**-24) and inspect.limits_of("fp8_e4m3") == (
        448,
        ulp.next(464.0),
        2**-6,
        2**-9,
    )
    assert inspect.limits_of("fp8_e5m2") == (57344, 61440, 2**-14, 2**-16) and inspect.limits_of("bf16").max == float.fromhex("0x1.fep127")
    for t in inspect.TARGETS:
        limits = inspect.limits_of(t)
        issue = lambda x: inspect.issue_for_dtype(x, t)[0]  # noqa: B023
        for s in (1, -1):
            assert (
                issue(s * limits.max) is None
                and issue(s * limits.overflow_from) == "overflow"
                and issue(s * ulp.prev(limits.overflow_from)) is None
            )
            assert (
                issue(s * limits.min_subnormal / 2) == "underflow"
                and issue(s * ulp.next(limits.min_subnormal / 2)) is None
                and issue(s * INF) == "invalid"
            )
            assert inspect.issue_for_dtype(s * limits.min_subnormal, t) == (None, True) and inspect.issue_for_dtype(
                s * limits.min_normal, t
            ) == (None, False)
    assert (
        inspect.safe_for_dtype(70000.0, "fp16").message == "Value 70000 overflows fp16 (largest: 65504)"
        and inspect.safe_for_dtype(65519.0, "fp16").safe
    )
    below = inspect.safe_for_dtype(6e-6, "fp16")
    assert below.safe and below.subnormal and below.recommendation and inspect.safe_for_dtype(1e-9, "fp16").issue == "underflow"
    with pytest.raises(scalar.InvalidValueError, match="Valid options"):
        inspect.safe_for_dtype(1.0, "fp17")
    r = inspect.analyze_for_dtype([1, 1e6, 1e-9, NAN, 0, 6e-6], "fp16")
    assert (r.total, r.safe, r.overflow, r.underflow, r.invalid, r.subnormal, r.zero) == (
        6,
        3,
        1,
        1,
        1,
        1,
        1,
    ) and "1 of 6 (16.7 %) are NaN" in r.recommendation
    best = lambda *a: inspect.compare_dtypes(*a).best
    assert [best([1, 2, 0.5]), best([1, 1000]), best([1, 1e6]), best([1, 1000], ["fp32", "fp16"]), best([1, 1e300])] == [
        "fp8_e4m3",
        "fp8_e5m2",
        "bf16",
        "fp16",
        None,
    ]
    assert (
        best([1e-20] + [1.0] * 199) == "fp8_e4m3"
        and best([1e-20] * 2 + [1.0] * 198) == "bf16"
        and len(inspect.compare_dtypes([1]).results) == 5
    )


def test_casts_as_numpy_does_them():
    import numpy as np

    r = random.Random(7)
    for _ in range(3000):
        x = r.uniform(-1, 1) * 2.0 ** r.randint(-30, 20)
        with np.errstate(over="ignore"):
            h = np.float16(x)
        issue, subnormal = inspect.issue_for_dtype(x, "fp16")
        assert (issue == "overflow") == np.isinf(h) and (issue == "underflow") == (h == 0 and x != 0) and subnormal == (0 < abs(h) < 2**-14)


def test_nothing_but_the_standard_library():
    for name, module in list(sys.modules.items()):
        if name.startswith("keel.numerics.scalar"):
            assert not {"numpy", "np", "torch"} & set(vars(module))
