"""Snapping numbers to values that they nearly are. Results are floats; NaN and the infinities pass unchanged unless said otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .._errors import InvalidValueError
from . import compare
from .compare import TOL


def to_zero(x: float, *, abs_tol: float = TOL) -> float:
    """|x| <= abs_tol ? +0 : x. Subnormals and -0 become +0 as well; abs_tol = 0 turns -0 into +0 and changes nothing else."""
    return 0.0 if compare.near_zero(x, abs_tol=abs_tol) else float(x)


def to_int(x: float, *, abs_tol: float = TOL) -> float:
    """The nearest integer, ties to even, where x lies within abs_tol of it, else x; always a float.

    >>> to_int(2.9999999999), to_int(2.5), to_int(-1e-10)
    (3.0, 2.5, 0.0)
    """
    return float(round(x)) if compare.is_integer(x, abs_tol=abs_tol) else float(x)


def to_value(x: float, target: float, *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> float:
    """`target` where x is near it, else x."""
    return float(target if compare.near(x, target, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan) else x)


def to_values(x: float, targets: Iterable[float], *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> float:
    """The first of `targets` that x is near to, which need not be the nearest, else x."""
    for target in targets:
        if compare.near(x, target, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan):
            return float(target)
    return float(x)


def to_range(x: float, lo: float, hi: float) -> float:
    """max(lo, min(x, hi)), the second argument winning only where it is really smaller (larger).

    So bounds in the wrong order give lo, NaN as lo gives NaN, NaN as hi is no bound, and NaN as x passes. `clamp_safe` is the strict one.
    """
    if x != x:
        return float(x)
    cut = hi if hi < x else x
    return float(cut if lo < cut else lo)


def clamp_safe(x: float, lo: float, hi: float) -> float:
    """min(max(x, lo), hi); NaN where x or a bound is NaN. Among zeros of different sign x stays. Raises InvalidValueError where lo > hi."""
    if lo > hi:
        raise InvalidValueError("clamp_safe: lo must not be greater than hi", lo)
    if math.isnan(x) or math.isnan(lo) or math.isnan(hi):
        return math.nan
    return float(lo if x < lo else hi if x > hi else x)


def to_zero_many(values: Iterable[float], *, abs_tol: float = TOL) -> list[float]:
    """`to_zero` of each value."""
    return [to_zero(x, abs_tol=abs_tol) for x in values]


def to_int_many(values: Iterable[float], *, abs_tol: float = TOL) -> list[float]:
    """`to_int` of each value."""
    return [to_int(x, abs_tol=abs_tol) for x in values]


def to_range_many(values: Iterable[float], lo: float, hi: float) -> list[float]:
    """`to_range` of each value."""
    return [to_range(x, lo, hi) for x in values]
