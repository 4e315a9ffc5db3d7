"""Arithmetic whose undefined cases have an answer that the caller chose: `default`, or None."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .._errors import EmptyInputError, InvalidValueError, SumOverflowError, check_lengths, check_zero_tol


def div(a: float, b: float, *, default: float | None = None, zero_tol: float = 0.0) -> float | None:
    """a / b, or `default` where |b| <= zero_tol, whatever a is: 0/0, NaN/0 and a/-0 too.

    NaN as b, inf/inf and NaN/b give NaN, finite/inf a zero, a quotient that overflows an infinity. Raises InvalidValueError for a negative
    or
    NaN zero_tol.

    >>> div(1, 2), div(1, 0), div(1, 0, default=0.0)
    (0.5, None, 0.0)
    """
    check_zero_tol(zero_tol)
    return default if abs(b) <= zero_tol else float(a) / float(b)


def div_or_zero(a: float, b: float, *, zero_tol: float = 0.0) -> float:
    """`div` with 0 where |b| <= zero_tol."""
    check_zero_tol(zero_tol)
    return 0.0 if abs(b) <= zero_tol else float(a) / float(b)


def div_or_inf(a: float, b: float, *, zero_tol: float = 0.0) -> float:
    """`div` with an infinity where |b| <= zero_tol: of the sign of a alone; NaN for 0/0, +infinity for NaN/0."""
    check_zero_tol(zero_tol)
    if abs(b) > zero_tol or b != b:
        return float(a) / float(b)
    return math.nan if a == 0 else -math.inf if a < 0 else math.inf


def mod(a: float, b: float, *, default: float | None = None, zero_tol: float = 0.0) -> float | None:
    """The remainder of a / b rounded towards zero, C's fmod: exact, with the sign of a; `default` where |b| <= zero_tol, whatever a is.

    mod(a, inf) = a for finite a; NaN gives NaN. Raises InvalidValueError for an infinite a, as math.fmod does.
    """
    check_zero_tol(zero_tol)
    if abs(b) <= zero_tol:
        return default
    if a != a or b != b:
        return math.nan
    if math.isinf(a):
        raise InvalidValueError("mod of an infinity", a)
    return math.fmod(a, b)


def sqrt(x: float, *, default: float | None = None) -> float | None:
    """The square root; `default` for x < 0, also -infinity. sqrt(-0) = -0, NaN gives NaN."""
    return default if x < 0 else math.sqrt(x)


def log(x: float, *, base: float | None = None, default: float | None = None) -> float | None:
    """The logarithm to `base` (e if not given); `default` where x <= 0 or the base is 1 or not positive. log(inf) = inf, NaN gives NaN.

    Bases 2 and 10 go through log2 and log10, which are exact at powers of the base: log(1000, base=10) is 3.
    """
    if x <= 0 or (base is not None and (base <= 0 or base == 1)):
        return default
    if base is None:
        return math.log(x)
    return math.log2(x) if base == 2 else math.log10(x) if base == 10 else math.log(x) / math.log(base)


def pow(base: float, exp: float, *, default: float | None = None) -> float | None:
    """base to the power of exp.

    `default` where there is no real result (a negative base, a fraction as exp), where 0 has a negative exponent, and where finite
    arguments
    overflow. x^0 = 1 and 1^x = 1 for every x, also NaN; other NaN give NaN; infinite arguments as in C: pow(0, -inf) = inf.
    """
    x, y = float(base), float(exp)
    if y == 0 or x == 1:
        return 1.0
    if x != x or y != y:
        return math.nan
    if x == 0 and y < 0:
        return default if math.isfinite(y) else math.inf
    try:
        return math.pow(x, y)
    except (OverflowError, ValueError):
        return default


def _special_sum(values: Sequence[float]) -> float | None:
    """What NaN and infinities make of a sum; None if all values are finite."""
    special = [x for x in values if isinstance(x, float) and not math.isfinite(x)]
    if math.inf in special and -math.inf in special:
        raise InvalidValueError("The sum of infinities of both signs is undefined")
    return sum(special) if special else None


def _exact(values: Iterable[float]) -> int:
    """The exact sum in units of 2^-1074."""
    total = 0
    for x in values:
        n, d = x.as_integer_ratio()
        total += n << (1075 - d.bit_length())
    return total


def sum_exact(values: Iterable[float]) -> float:
    """The sum of all values, correctly rounded: that of math.fsum, but also where partial sums overflow and for ints beyond 2^53.

    A sum of zeros is +0. NaN gives NaN, infinities of one sign the infinity. Raises EmptyInputError without values, InvalidValueError for
    infinities of both signs, SumOverflowError (which is an OverflowError too) for a sum too large for a float.
    """
    all_ = list(values)
    if not all_:
        raise EmptyInputError
    special = _special_sum(all_)
    if special is not None:
        return special
    try:
        if not any(isinstance(x, int) and abs(x) > 2**53 for x in all_):
            return math.fsum(all_) + 0.0
    except OverflowError:
        pass
    try:
        return _exact(all_) / (1 << 1074)
    except OverflowError:
        raise SumOverflowError("The sum is too large for its type") from None


def mean_exact(values: Iterable[float]) -> float:
    """The mean of all values: their exact sum divided by their number, rounded once. It never overflows. Errors as in `sum_exact`."""
    all_ = list(values)
    if not all_:
        raise EmptyInputError
    special = _special_sum(all_)
    return special if special is not None else _exact(all_) / (len(all_) << 1074)


def div_many(
    a_values: Sequence[float], b_values: Sequence[float], *, default: float | None = None, zero_tol: float = 0.0
) -> list[float | None]:
    """`div` of a_values[i] and b_values[i]. Raises InvalidValueError where the lengths differ."""
    check_lengths(a_values, "a_values", b_values, "b_values")
    return [div(a, b, default=default, zero_tol=zero_tol) for a, b in zip(a_values, b_values)]


def sqrt_many(values: Iterable[float], *, default: float | None = None) -> list[float | None]:
    """`sqrt` of each value."""
    return [sqrt(x, default=default) for x in values]


def log_many(values: Iterable[float], *, base: float | None = None, default: float | None = None) -> list[float | None]:
    """`log` of each value."""
    return [log(x, base=base, default=default) for x in values]


def pow_many(bases: Sequence[float], exps: Sequence[float], *, default: float | None = None) -> list[float | None]:
    """`pow` of bases[i] and exps[i]. Raises InvalidValueError where the lengths differ."""
    check_lengths(bases, "bases", exps, "exps")
    return [pow(a, b, default=default) for a, b in zip(bases, exps)]
