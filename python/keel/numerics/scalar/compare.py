"""Comparing computed numbers. No comparison raises; a negative or NaN tolerance admits nothing, but equal numbers stay near."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

TOL = float(
    "1e-9"
)  # an object of its own: told apart from a 1e-9 that the caller wrote, since ints are compared exactly unless told otherwise


def _admits(tolerance: float, distance: int, size: int = 1) -> bool:
    """distance <= tolerance * size, for ints of any length."""
    if math.isnan(tolerance) or tolerance < 0:
        return False
    return math.isinf(tolerance) or distance <= Fraction(tolerance) * size


def near(a: float, b: float, *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> bool:
    """Whether a == b, or both are finite and |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol). Symmetric.

    NaN is near to nothing (to NaN with `equal_nan`), an infinity only to itself, +0 to -0. A difference that overflows is not near. Two
    ints
    are compared exactly unless a tolerance is given; two bools are near where they are equal.

    >>> near(0.1 + 0.2, 0.3), near(float("inf"), 1e308), near(100, 101), near(100, 101, abs_tol=1)
    (True, False, False, True)
    """
    if isinstance(a, int) and isinstance(b, int):
        if a == b or (isinstance(a, bool) and isinstance(b, bool)):
            return a == b
        distance = abs(a - b)
        return (abs_tol is not TOL and _admits(abs_tol, distance)) or (
            rel_tol is not TOL and _admits(rel_tol, distance, max(abs(a), abs(b)))
        )
    if a == b:
        return True
    if a != a or b != b:
        return equal_nan and a != a and b != b
    try:
        x, y = float(a), float(b)
    except OverflowError:  # an int beyond every float
        return False
    distance_ = abs(x - y)
    if math.isinf(x) or math.isinf(y) or math.isinf(distance_):
        return False
    return distance_ <= abs_tol or distance_ <= rel_tol * max(abs(x), abs(y))


def near_rel(a: float, b: float, *, tol: float = TOL) -> bool:
    """`near` by the relative tolerance alone: a == b, or |a - b| <= tol * max(|a|, |b|). Only 0 is near to 0."""
    return near(a, b, rel_tol=tol, abs_tol=0.0)


def near_abs(a: float, b: float, *, tol: float = TOL) -> bool:
    """`near` by the absolute tolerance alone: a == b, or |a - b| <= tol."""
    return near(a, b, rel_tol=0.0, abs_tol=tol)


def near_zero(x: float, *, abs_tol: float = TOL) -> bool:
    """Whether |x| <= abs_tol. False for NaN and the infinities, whatever the tolerance. Only 0 of the ints, unless a tolerance is given."""
    if isinstance(x, int):
        return x == 0 if abs_tol is TOL else _admits(abs_tol, abs(x))
    return math.isfinite(x) and abs(x) <= abs_tol


def less_or_near(a: float, b: float, *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> bool:
    """Whether a < b or a is near b. False where a or b is NaN (but for `equal_nan`)."""
    return a < b or near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan)


def greater_or_near(a: float, b: float, *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> bool:
    """Whether a > b or a is near b. False where a or b is NaN (but for `equal_nan`)."""
    return a > b or near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan)


def compare(a: float, b: float, *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> int:
    """0 if a is near b, else -1 if a < b, else 1.

    A NaN gives 1, on whichever side it stands, so the result is antisymmetric only without NaN; with tolerances it is no ordering that a
    sort
    could use.
    """
    return 0 if near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan) else -1 if a < b else 1


def is_integer(x: float, *, abs_tol: float = TOL) -> bool:
    """Whether x lies within abs_tol of an integer: |x - round(x)| <= abs_tol, ties to even.

    Numbers too large for a fraction (1e300) are integers; NaN and the infinities are not.
    """
    if isinstance(x, int):
        return abs_tol >= 0
    return math.isfinite(x) and abs(x - round(x)) <= abs_tol


def all_near(pairs: Iterable[tuple[float, float]], *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> bool:
    """Whether the numbers of each pair are near; True without pairs."""
    return all(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan) for a, b in pairs)


def near_many(pairs: Iterable[tuple[float, float]], *, rel_tol: float = TOL, abs_tol: float = TOL, equal_nan: bool = False) -> list[bool]:
    """`near` of each pair."""
    return [near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan) for a, b in pairs]


def near_zero_many(values: Iterable[float], *, abs_tol: float = TOL) -> list[bool]:
    """`near_zero` of each value."""
    return [near_zero(x, abs_tol=abs_tol) for x in values]


def is_integer_many(values: Iterable[float], *, abs_tol: float = TOL) -> list[bool]:
    """`is_integer` of each value."""
    return [is_integer(x, abs_tol=abs_tol) for x in values]
