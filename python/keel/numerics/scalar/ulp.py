"""Units in the last place: distances counted in representable floats."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

from .._errors import InvalidValueError, check_lengths

_INFINITY = 0x7FF << 52


def ordered(x: float) -> int:
    """The position of x among the floats: 0 for both zeros, 1 for the smallest positive one; an infinity is one step beyond the largest."""
    bits: int = struct.unpack("<q", struct.pack("<d", x))[0]
    return bits if bits >= 0 else -(bits + 2**63)


def from_ordered(position: int) -> float:
    """The float at a position; positions beyond an infinity give the infinity. 0 gives +0."""
    size: float = struct.unpack("<d", struct.pack("<q", min(abs(position), _INFINITY)))[0]
    return -size if position < 0 else size


def next(x: float) -> float:
    """The next larger float: after the largest comes infinity, after the largest negative one -0. Infinity and NaN stay."""
    return math.nextafter(x, math.inf)


def prev(x: float) -> float:
    """The next smaller float: the mirror of `next`."""
    return math.nextafter(x, -math.inf)


def add(x: float, n: int) -> float:
    """The float n steps up (down for n < 0): `next` or `prev` n times, in constant time. NaN and the infinities stay, whatever n."""
    if n == 0 or not math.isfinite(x):
        return float(x)
    y = from_ordered(ordered(x) + n)
    return -0.0 if y == 0 and n > 0 else y


def of(x: float) -> float:
    """The distance to the next larger float, |next(x) - x|: of(1) = 2^-52, of(-1) = 2^-53, of(0) = 5e-324, of the largest infinity.

    Raises InvalidValueError for NaN. Differs from math.ulp, which measures away from zero, for negative powers of two and the largest
    float.
    """
    if x != x:
        raise InvalidValueError("Cannot compute the ULP of NaN", x)
    return math.inf if math.isinf(x) else next(x) - x


def diff(a: float, b: float) -> int:
    """How many steps lie between a and b; counts across zero, whose two signs are one number: diff(-5e-324, 5e-324) = 2.

    Raises InvalidValueError where one of them is NaN or an infinity, even if both are the same.
    """
    if a != a or b != b:
        raise InvalidValueError("Cannot compute a distance in ULPs to NaN")
    if math.isinf(a) or math.isinf(b):
        raise InvalidValueError("Cannot compute a distance in ULPs to an infinity")
    return abs(ordered(a) - ordered(b))


def within(a: float, b: float, *, max_ulps: int = 4) -> bool:
    """Whether a == b, or both are finite and at most max_ulps steps apart. NaN is within nothing, an infinity only within itself."""
    return a == b or (math.isfinite(a) and math.isfinite(b) and diff(a, b) <= max_ulps)


def of_many(values: Iterable[float]) -> list[float]:
    """`of` each value."""
    return [of(x) for x in values]


def diff_many(a_values: Sequence[float], b_values: Sequence[float]) -> list[int]:
    """`diff` of a_values[i] and b_values[i]. Raises InvalidValueError where the lengths differ."""
    check_lengths(a_values, "a_values", b_values, "b_values")
    return [diff(a, b) for a, b in zip(a_values, b_values)]


def within_many(a_values: Sequence[float], b_values: Sequence[float], *, max_ulps: int = 4) -> list[bool]:
    """`within` of a_values[i] and b_values[i]. Raises InvalidValueError where the lengths differ."""
    check_lengths(a_values, "a_values", b_values, "b_values")
    return [within(a, b, max_ulps=max_ulps) for a, b in zip(a_values, b_values)]
