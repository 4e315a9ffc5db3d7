"""The numerical safety functions for Numba: callable from Python and from functions under @njit, on numbers and on arrays (with
broadcasting).

float32 and float64; integers count as float64. Arguments as in `keel.numerics.numpy`, but all by position or name, without `out` and
`where`,
and default and tolerances are numbers: default NaN, tolerances NaN for those of the dtype. Functions of rows take arrays and an axis, and
compute in float64.
"""

from __future__ import annotations

import math
from typing import Any

from ._errors import missing
from ._formats import FORMATS
from ._names import FUNCTIONS

try:
    import numba as nb
    import numpy as np
    from numba.cpython.unsafe.tuple import tuple_setitem
    from numba.extending import overload
    from numba.np.unsafe.ndarray import to_fixed_tuple
except ImportError as e:
    raise missing("Numba", "numba", e) from None

__all__ = list(FUNCTIONS)

NAN, INF = math.nan, math.inf
_NAN_ULPS = 2**63 - 1
_TOLERANCES = {32: FORMATS["float32"].tolerance, 64: FORMATS["float64"].tolerance}
_MOST = {32: FORMATS["float32"].max, 64: FORMATS["float64"].max}


def _bits_of(*types: Any) -> int:
    """How wide a call computes: 32 if its arrays (or, without arrays, its numbers) are all float32, else 64."""
    arrays = [t.dtype for t in types if isinstance(t, nb.types.Array)] or types
    return 32 if all(t == nb.types.float32 for t in arrays) else 64


def _to(x: Any, a: Any, b: Any) -> Any:
    """x as a number of the type in which a call on a and b computes."""
    raise NotImplementedError


@overload(_to)
def _to_overload(x: Any, a: Any, b: Any) -> Any:
    number = np.float32 if _bits_of(a, b) == 32 else np.float64

    def narrow(x: Any, a: Any, b: Any) -> Any:
        return number(x)

    return narrow


def _constant(name: str, values: dict[int, float]) -> Any:
    """A function of a and b that is one of two values, by their type."""

    def of(a: Any, b: Any) -> Any:
        raise NotImplementedError

    def of_overload(a: Any, b: Any) -> Any:
        value = (np.float32 if _bits_of(a, b) == 32 else np.float64)(values[_bits_of(a, b)])

        def give(a: Any, b: Any) -> Any:
            return value

        return give

    of.__name__ = name
    overload(of)(of_overload)
    return of


_rel = _constant("_rel", {b: t.rel_tol for b, t in _TOLERANCES.items()})
_abs = _constant("_abs", {b: t.abs_tol for b, t in _TOLERANCES.items()})
_max = _constant("_max", _MOST)
_ufunc: Any = nb.vectorize
_njit: Any = nb.njit


@_ufunc
def _div(a, b, default, tol):  # type: ignore[no-untyped-def]
    if abs(b) <= tol:
        return default
    return a / b


@_ufunc
def _sqrt(x, default):  # type: ignore[no-untyped-def]
    return default if x < 0 else math.sqrt(x)


@_ufunc
def _rsqrt(x, default):  # type: ignore[no-untyped-def]
    return default if x <= 0 else _to(1 / math.sqrt(x), x, x)


@_ufunc
def _fill(x, default):  # type: ignore[no-untyped-def]
    return default


@_ufunc
def _log(x, default, scale):  # type: ignore[no-untyped-def]
    return default if x <= 0 else math.log(x) * scale


@_ufunc
def _log2(x, default):  # type: ignore[no-untyped-def]
    return default if x <= 0 else math.log2(x)


@_ufunc
def _log10(x, default):  # type: ignore[no-untyped-def]
    return default if x <= 0 else math.log10(x)


@_ufunc
def _pow(x, y, default, top):  # type: ignore[no-untyped-def]
    if y == 0 or x == 1:
        return top / top
    finite = math.isfinite(x) and math.isfinite(y)
    if finite and ((x == 0 and y < 0) or (x < 0 and np.floor(y) != y)):
        return default
    value = x**y
    if finite and abs(value) > top:
        return default
    return value


@_ufunc
def _sanitize(x, nan, top, low):  # type: ignore[no-untyped-def]
    if x != x:
        return nan
    return top if x == INF else low if x == -INF else x


@_ufunc
def _near(a, b, rel, absolute, equal_nan):  # type: ignore[no-untyped-def]
    if a == b:
        return True
    if a != a or b != b:
        return equal_nan and a != a and b != b
    distance = abs(a - b)
    return distance < INF and (distance <= rel * max(abs(a), abs(b)) or distance <= absolute)


@_ufunc
def _near_zero(x, tol):  # type: ignore[no-untyped-def]
    return abs(x) <= tol and abs(x) < INF


@_ufunc
def _clamp_to_zero(x, tol, zero):  # type: ignore[no-untyped-def]
    return zero if abs(x) <= tol and abs(x) < INF else x


@_ufunc
def _to_int(x, tol):  # type: ignore[no-untyped-def]
    if not math.isfinite(x):
        return x
    whole = np.rint(x)
    return _to(whole + 0.0, x, x) if abs(x - whole) <= tol else x


@_ufunc
def _clamp(x, lo, hi):  # type: ignore[no-untyped-def]
    if lo != lo or (x < lo and hi == hi):
        return lo
    return hi if hi != hi or x > hi else x


@nb.njit
def _softplus(x, beta):  # type: ignore[no-untyped-def]
    z = x * beta
    return (max(z, beta * 0) + math.log1p(math.exp(-abs(z)))) / beta


@_ufunc
def _soft_relu(x, beta):  # type: ignore[no-untyped-def]
    return x if x != x else _to(_softplus(x, beta), x, x)


@_ufunc
def _soft_clamp(x, lo, hi, beta, leak):  # type: ignore[no-untyped-def]
    if x != x:
        return x
    if x >= lo + (hi - lo) / 2:
        y = hi - (_softplus(hi - x, beta) - _softplus(lo - x, beta))
    else:
        y = lo + (_softplus(x - lo, beta) - _softplus(x - hi, beta))
    if leak != 0:
        y += leak * (_softplus(x - hi, beta) - _softplus(lo - x, beta))
    return _to(y, x, x)


@_ufunc
def _soft_near(a, b, rel, absolute, temperature, normalized):  # type: ignore[no-untyped-def]
    if a != a or b != b:
        return _to(NAN, a, b)
    if abs(a) == INF or abs(b) == INF:
        equal = 1.0 if normalized or temperature > 0 else 1 / (1 + math.exp(-4.0))
        return _to(equal if a == b else 0.0, a, b)
    distance = abs(a - b)
    edge = max(rel * max(abs(a), abs(b)), absolute)
    full = edge / temperature if temperature > 0 else 4.0
    if temperature > 0:
        z = (edge - distance) / temperature
    elif distance > 0:
        z = 4 - 4 * (distance / edge) if edge > 0 else -INF
    else:
        z = 4.0
    s = 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))
    return _to(s * (1 + math.exp(-full)) if normalized else s, a, b)


@_ufunc
def _range(x, lo, hi):  # type: ignore[no-untyped-def]
    cut = hi if hi < x else x
    return x if x != x else cut if lo < cut else lo


# Units in the last place. A position counts the values of a type in order, from its bits: 0 for both zeros, an infinity one step beyond the
# largest value.
def _position(x: Any) -> Any:
    raise NotImplementedError


@overload(_position)
def _position_overload(x: Any) -> Any:
    number, code, mask = (np.float32, np.int32, 2**31 - 1) if x == nb.types.float32 else (np.float64, np.int64, 2**63 - 1)

    def position(x: Any) -> Any:
        c = np.int64(number(x).view(code))
        return c if c >= 0 else -(c & mask)

    return position


def _value(p: Any, x: Any) -> Any:
    """The value of x's type at a position; 0 gives +0."""
    raise NotImplementedError


@overload(_value)
def _value_overload(p: Any, x: Any) -> Any:
    number, code = (np.float32, np.int32) if x == nb.types.float32 else (np.float64, np.int64)

    def value(p: Any, x: Any) -> Any:
        size: Any = code(abs(p)).view(number)
        return -size if p < 0 else size

    return value


@_ufunc
def _next(x, up):  # type: ignore[no-untyped-def]
    v = _to(x, x, x)
    if v != v or v == (INF if up else -INF):
        return v
    p = _position(v) + (1 if up else -1)
    return -_value(p, v) if up and p == 0 else _value(p, v)


@_ufunc
def _ulp(x):  # type: ignore[no-untyped-def]
    v = _to(x, x, x)
    if v != v:
        return v
    return abs(v) if abs(v) == INF else _value(_position(v) + 1, v) - v


@_ufunc
def _steps(a, b):  # type: ignore[no-untyped-def]
    x, y = _to(a, a, b), _to(b, a, b)
    if x != x or y != y:
        return _NAN_ULPS
    p, q = _position(x), _position(y)
    return _NAN_ULPS if abs(float(p) - float(q)) >= 2.0**63 else abs(p - q)


@_ufunc
def _within(a, b, most):  # type: ignore[no-untyped-def]
    x, y = _to(a, a, b), _to(b, a, b)
    if x == y:
        return True
    if not (math.isfinite(x) and math.isfinite(y)):
        return False
    p, q = _position(x), _position(y)
    return abs(float(p) - float(q)) < 2.0**63 and abs(p - q) <= most


@_ufunc
def _soft_compare(a, b, temperature):  # type: ignore[no-untyped-def]
    if a == b:
        return _to(0.0, a, b)
    return _to(math.tanh((a - b) / temperature), a, b)


@_njit
def div_safe(a, b, default=NAN, zero_tol=0.0):  # type: ignore[no-untyped-def]
    """a / b, or `default` where |b| <= zero_tol, whatever a is."""
    if not zero_tol >= 0:
        raise ValueError("zero_tol must be non-negative")
    return _div(a, b, _to(default, a, b), _to(zero_tol, a, b))


@_njit
def sqrt_safe(x, default=NAN):  # type: ignore[no-untyped-def]
    """The square root; `default` for x < 0."""
    return _sqrt(x, _to(default, x, x))


@_njit
def rsqrt_safe(x, default=NAN):  # type: ignore[no-untyped-def]
    """1 / sqrt(x); `default` for x <= 0."""
    return _rsqrt(x, _to(default, x, x))


@_njit
def log_safe(x, base=0.0, default=NAN):  # type: ignore[no-untyped-def]
    """The logarithm to `base` (e for 0); `default` where x <= 0 or the base is 1 or negative."""
    if base < 0 or base == 1:
        return _fill(x, _to(default, x, x))
    if base == 2:
        return _log2(x, _to(default, x, x))
    if base == 10:
        return _log10(x, _to(default, x, x))
    return _log(x, _to(default, x, x), _to(1.0 / math.log(base) if base > 0 else 1.0, x, x))


@_njit
def pow_safe(base, exp, default=NAN):  # type: ignore[no-untyped-def]
    """base to the power of exp; `default` where that is not real, 0 has a negative exponent, or finite arguments overflow."""
    return _pow(base, exp, _to(default, base, exp), _max(base, exp))


@_njit
def sanitize(x, nan_value=0.0, inf_value=NAN):  # type: ignore[no-untyped-def]
    """x with `nan_value` for NaN and ±inf_value (NaN: the largest number of the type) for infinities."""
    top = _max(x, x) if inf_value != inf_value else _to(inf_value, x, x)
    return _sanitize(x, _to(nan_value, x, x), top, -top)


@_njit
def near(a, b, rel_tol=NAN, abs_tol=NAN, equal_nan=False):  # type: ignore[no-untyped-def]
    """Where a == b, or both are finite and |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol)."""
    rel = _rel(a, b) if rel_tol != rel_tol else _to(rel_tol, a, b)
    absolute = _abs(a, b) if abs_tol != abs_tol else _to(abs_tol, a, b)
    return _near(a, b, rel, absolute, equal_nan)


@_njit
def near_zero(x, abs_tol=NAN):  # type: ignore[no-untyped-def]
    """Where |x| <= abs_tol; never for NaN and infinities."""
    return _near_zero(x, _abs(x, x) if abs_tol != abs_tol else _to(abs_tol, x, x))


@_njit
def all_near(a, b, rel_tol=NAN, abs_tol=NAN, equal_nan=False):  # type: ignore[no-untyped-def]
    """Whether all elements are near."""
    return np.all(np.asarray(near(a, b, rel_tol, abs_tol, equal_nan)))


@_njit
def any_near(a, b, rel_tol=NAN, abs_tol=NAN, equal_nan=False):  # type: ignore[no-untyped-def]
    """Whether any elements are near."""
    return np.any(np.asarray(near(a, b, rel_tol, abs_tol, equal_nan)))


@_njit
def count_near(a, b, rel_tol=NAN, abs_tol=NAN, equal_nan=False):  # type: ignore[no-untyped-def]
    """How many elements are near."""
    return np.sum(np.asarray(near(a, b, rel_tol, abs_tol, equal_nan)))


@_njit
def fraction_near(a, b, rel_tol=NAN, abs_tol=NAN, equal_nan=False):  # type: ignore[no-untyped-def]
    """The share of elements that are near; NaN without any."""
    n = np.asarray(near(a, b, rel_tol, abs_tol, equal_nan))
    return np.sum(n) / n.size if n.size > 0 else NAN


@_njit
def clamp_to_zero(x, abs_tol=NAN):  # type: ignore[no-untyped-def]
    """+0 where |x| <= abs_tol, else x."""
    return _clamp_to_zero(x, _abs(x, x) if abs_tol != abs_tol else _to(abs_tol, x, x), _to(0.0, x, x))


to_zero = clamp_to_zero


@_njit
def to_range(x, lo, hi):  # type: ignore[no-untyped-def]
    """max(lo, min(x, hi)) as Python has them, for numbers lo and hi: bounds in the wrong order give lo, NaN as x passes."""
    return _range(x, _to(lo, x, x), _to(hi, x, x))


@_njit
def to_int(x, abs_tol=NAN):  # type: ignore[no-untyped-def]
    """The nearest integer, ties to even, where x lies within abs_tol of it, else x."""
    return _to_int(x, _abs(x, x) if abs_tol != abs_tol else _to(abs_tol, x, x))


@_njit
def clamp_safe(x, lo, hi):  # type: ignore[no-untyped-def]
    """min(max(x, lo), hi) for numbers lo <= hi; NaN where one of the three is."""
    if lo > hi:
        raise ValueError("lo must not be greater than hi")
    return _clamp(x, _to(lo, x, x), _to(hi, x, x))


@_njit
def soft_relu(x, beta=1.0):  # type: ignore[no-untyped-def]
    """log(1 + exp(beta x)) / beta."""
    return _soft_relu(x, _to(beta, x, x))


@_njit
def soft_clamp(x, min, max, beta=10.0, leak=0.0):  # type: ignore[no-untyped-def]
    """min + softplus(x - min) - softplus(x - max), computed from the nearer bound."""
    if min > max:
        raise ValueError("lo must not be greater than hi")
    return _soft_clamp(x, _to(min, x, x), _to(max, x, x), _to(beta, x, x), _to(leak, x, x))


@_njit
def soft_near(a, b, rel_tol=NAN, abs_tol=NAN, temperature=0.0, normalized=False):  # type: ignore[no-untyped-def]
    """sigmoid((tol - |a - b|) / temperature); temperature 0 is tol / 4."""
    rel = _rel(a, b) if rel_tol != rel_tol else _to(rel_tol, a, b)
    absolute = _abs(a, b) if abs_tol != abs_tol else _to(abs_tol, a, b)
    return _soft_near(a, b, rel, absolute, _to(temperature, a, b), normalized)


@_njit
def soft_compare(a, b, temperature=1.0):  # type: ignore[no-untyped-def]
    """tanh((a - b) / temperature); equal infinities give 0."""
    return _soft_compare(a, b, _to(temperature, a, b))


@_njit
def ulp_next(x):  # type: ignore[no-untyped-def]
    """The next larger value of the type of x. Infinity and NaN stay; after the largest negative value comes -0."""
    return _next(x, True)


@_njit
def ulp_prev(x):  # type: ignore[no-untyped-def]
    """The next smaller value of the type of x: the mirror of `ulp_next`."""
    return _next(x, False)


@_njit
def ulp_of(x):  # type: ignore[no-untyped-def]
    """The distance to the next larger value; infinity for the largest and for infinities, NaN for NaN."""
    return _ulp(x)


@_njit
def ulp_diff(a, b):  # type: ignore[no-untyped-def]
    """How many values lie between a and b, plus one, counted across zero; 0 where they are equal, the largest int64 for NaN and where the
    count does not fit. Two types count as their common one."""
    return _steps(a, b)


@_njit
def ulp_within(a, b, max_ulps=4):  # type: ignore[no-untyped-def]
    """Where a == b, or both are finite and at most max_ulps steps apart."""
    return _within(a, b, max_ulps)


# Rows along an axis: `count` lines of `width` elements that lie `step` apart. Of line k the first is number k // step * width * step + k %
# step, in row-major order.
@_njit
def _lines(x, axis):  # type: ignore[no-untyped-def]
    if axis < -x.ndim or axis >= x.ndim:
        raise ValueError("axis is out of range")
    step = 1
    for k in range(axis % x.ndim + 1, x.ndim):
        step *= x.shape[k]
    return x.shape[axis % x.ndim], step


@_njit
def _line_norm(flat, first, width, step):  # type: ignore[no-untyped-def]
    """The root of the sum of squares, which are scaled by the largest."""
    top = 0.0
    for i in range(width):
        size = abs(np.float64(flat[first + i * step]))
        if not size <= top:
            top = size
            if size != size:
                return NAN
    if top == 0 or top == INF:
        return top
    total = 0.0
    for i in range(width):
        total += (np.float64(flat[first + i * step]) / top) ** 2
    return math.sqrt(total) * top


def _norm_of(x: Any, axis: Any) -> Any:
    raise NotImplementedError


@overload(_norm_of)
def _norm_of_overload(x: Any, axis: Any) -> Any:
    if not isinstance(x, nb.types.Array):
        return None
    none = axis is None or isinstance(axis, nb.types.NoneType) or (isinstance(axis, nb.types.Omitted) and axis.value is None)
    if none or x.ndim == 0:

        def whole(x: Any, axis: Any) -> Any:
            return _to(_line_norm(np.ascontiguousarray(x).reshape(-1), 0, x.size, 1), x, x)

        return whole
    if x.ndim == 1:

        def line(x: Any, axis: Any) -> Any:
            width, step = _lines(x, axis)
            return _to(_line_norm(x, 0, width, step), x, x)

        return line
    number = np.float32 if _bits_of(x) == 32 else np.float64
    rest = x.ndim - 1

    def lines(x: Any, axis: Any) -> Any:
        width, step = _lines(x, axis)
        flat, before = np.ascontiguousarray(x).reshape(-1), axis % x.ndim
        count = 1
        shape = to_fixed_tuple(np.array(x.shape)[:-1].copy(), rest)
        for k in range(rest):
            extent = x.shape[k if k < before else k + 1]
            count *= extent
            shape = tuple_setitem(shape, k, extent)
        y = np.empty(count, number)
        for k in range(count):
            y[k] = number(_line_norm(flat, k // step * width * step + k % step, width, step))
        return y.reshape(shape)

    return lines


def _like(x: Any) -> Any:
    """Memory for a result of the shape of x, in row-major order."""
    raise NotImplementedError


@overload(_like)
def _like_overload(x: Any) -> Any:
    number = np.float32 if _bits_of(x) == 32 else np.float64

    def like(x: Any) -> Any:
        return np.empty(x.shape, number)

    return like


@_njit
def norm_safe(x, axis=None):  # type: ignore[no-untyped-def]
    """sqrt(sum of x^2) over an axis (all if not given), without overflow or underflow on the way; NaN where the row holds one."""
    return _norm_of(x, axis)


@_njit
def normalize_safe(x, axis=-1, eps=1e-12):  # type: ignore[no-untyped-def]
    """x / max(norm, eps) along an axis: vectors of length 1, and 0 for 0."""
    if not eps > 0:
        raise ValueError("eps must be positive")
    y = _like(x)
    width, step = _lines(x, axis)
    flat, out = np.ascontiguousarray(x).reshape(-1), y.reshape(-1)
    for k in range(out.size // max(width, 1)):
        first = k // step * width * step + k % step
        norm = _line_norm(flat, first, width, step)
        length = eps if norm <= eps else norm
        for i in range(first, first + width * step, step):
            out[i] = flat[i] / length
    return y


@_njit
def softmax_safe(x, axis=-1):  # type: ignore[no-untyped-def]
    """softmax along an axis, with zeros for a row that is -inf throughout (fully masked)."""
    y = _like(x)
    width, step = _lines(x, axis)
    flat, out = np.ascontiguousarray(x).reshape(-1), y.reshape(-1)
    for k in range(out.size // max(width, 1)):
        first = k // step * width * step + k % step
        last = first + width * step
        top, bad = -INF, False
        for i in range(first, last, step):
            bad = bad or flat[i] != flat[i] or flat[i] == INF
            top = max(top, np.float64(flat[i]))
        total = 0.0
        if not bad and top > -INF:
            for i in range(first, last, step):
                total += math.exp(np.float64(flat[i]) - top)
        for i in range(first, last, step):
            if bad:
                out[i] = NAN
            else:
                out[i] = math.exp(np.float64(flat[i]) - top) / total if top > -INF else 0.0
    return y
