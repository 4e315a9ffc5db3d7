"""The numerical safety functions on NumPy arrays.

All take arrays, scalars and nested lists, broadcast, and accept `out` and `where` as NumPy's ufuncs do (elements outside `where` keep what
`out` holds, 0 without `out`), but for the functions of rows and of units in the last place. float16, float32, float64, integers and bools;
bfloat16, float8_e4m3fn and float8_e5m2 where ml_dtypes is installed. Dtypes smaller than float32 compute in float32 and round once; casts
to 8 bits saturate. Python numbers take the dtype of the arrays. Large arrays are worked through in pieces that fit the cache, so that no
temporary of their size is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ._errors import InvalidValueError, check_bounds, check_positive, check_zero_tol, missing
from ._formats import FORMATS, Tolerance, name_of, tolerances
from ._names import EXPORTS

try:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
except ImportError as e:
    raise missing("NumPy", "numpy", e) from None

__all__ = [*EXPORTS, "ulp_add"]

Array = NDArray[Any]
_PIECE = 16384  # elements: a handful of float64 pieces stay in the second-level cache
_WEAK = (bool, int, float)


class _Inputs:
    """The arguments of a call as arrays, the dtype of its result and the one in which it computes."""

    def __init__(self, *values: ArrayLike, floating: bool = True) -> None:
        strong = [np.asarray(x) for x in values if type(x) not in _WEAK]
        self.dtypes = [x.dtype for x in strong]
        weak = [x for x in values if type(x) in _WEAK]
        whole = all(name_of(d) not in FORMATS for d in self.dtypes)
        self.integers = whole and not any(type(x) is float for x in weak)
        dtype = _promote(self.dtypes) if strong else np.result_type(*[np.asarray(x) for x in weak])
        if whole and (floating or not self.integers):
            dtype = np.dtype(np.float64)
        self.dtype = dtype
        known = name_of(dtype) in FORMATS
        if not known and dtype.kind not in "iub":
            raise TypeError(f"keel.numerics.numpy has no {dtype}")
        self.work = dtype if dtype.kind in "iub" or dtype == np.float64 else np.dtype(np.float32)
        self.arrays = [np.asarray(x, self.work) if type(x) in _WEAK else np.asarray(x) for x in values]

    def tolerance(self, rel_tol: float | None, abs_tol: float | None) -> Tolerance:
        """What was given, else what follows from the dtypes."""
        t = tolerances(*self.dtypes)
        if t.rel_tol == 0 and not self.integers:
            t = FORMATS["float64"].tolerance
        return Tolerance(t.rel_tol if rel_tol is None else rel_tol, t.abs_tol if abs_tol is None else abs_tol)


def _promote(dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
    try:
        return np.result_type(*dtypes)
    except TypeError:  # two small floats without a common dtype
        return np.dtype(np.float32)


def _tolerance_in(work: np.dtype[Any], tol: float) -> Any:
    with np.errstate(over="ignore"):
        return work.type(tol)


def _store(out: Array, values: Array) -> None:
    """Rounds `values` into `out`; finite values beyond the largest of 8 bits become that."""
    name = name_of(out.dtype)
    if out.dtype != values.dtype and name.startswith("float8"):
        top = FORMATS[name].max
        values = np.where(np.isinf(values), values, np.clip(values, -top, top))
    out[...] = values.astype(out.dtype, copy=False)


def _apply(
    kernel: Callable[..., None], inputs: list[Array], work: np.dtype[Any], made: Any, dtype: Any, out: Array | None, where: Any
) -> Any:
    """Runs kernel(o, *inputs), where o of dtype `made` takes the results and inputs have dtype `work`; both may be pieces."""
    mask = None if where is True else np.asarray(where, bool)
    shape = np.broadcast_shapes(*(x.shape for x in inputs), () if mask is None else mask.shape)
    scalar = out is None and not shape
    if out is None:
        out = np.empty(shape, dtype) if mask is None else np.zeros(shape, dtype)
    elif out.shape != shape:
        raise InvalidValueError(f"out has shape {out.shape}, the result {shape}")
    elif not np.can_cast(dtype, out.dtype, "same_kind"):
        raise TypeError(f"a result of {dtype} cannot be written to an out of {out.dtype}")
    direct = mask is None and out.dtype == made
    for i, x in enumerate(inputs):
        if np.may_share_memory(out, x):
            direct = False
            if x.shape != shape or x.strides != out.strides or x.__array_interface__["data"] != out.__array_interface__["data"]:
                inputs[i] = x.copy()

    def piece(o: Array, m: Array | None, *xs: Array) -> None:
        converted = [x.astype(work, copy=False) for x in xs]
        if direct:
            kernel(o, *converted)
            return
        values = np.empty(o.shape, made)
        kernel(values, *converted)
        if m is None:
            _store(o, values)
        else:
            rounded = np.empty(o.shape, o.dtype)
            _store(rounded, values)
            np.copyto(o, rounded, where=m)

    operands = inputs if mask is None else [*inputs, mask]
    with np.errstate(all="ignore"):
        flat = out.flags.c_contiguous and all(x.ndim == 0 or (x.shape == shape and x.flags.c_contiguous) for x in operands)
        if not shape:
            piece(out.reshape(1), None if mask is None else mask.reshape(1), *(x.reshape(1) for x in inputs))
        elif out.size <= 2 * _PIECE or not flat:
            piece(out, mask, *inputs)
        else:
            line, lines = out.reshape(-1), [x if x.ndim == 0 else x.reshape(-1) for x in operands]
            for i in range(0, out.size, _PIECE):
                cut = [x if x.ndim == 0 else x[i : i + _PIECE] for x in lines]
                m = None if mask is None else cut.pop()
                piece(line[i : i + _PIECE], m, *cut)
    return out[()] if scalar else out


def _answer(default: ArrayLike | None, inputs: _Inputs) -> Array:
    """`default` as an array of the result's dtype; NaN where it was not given."""
    if default is None:
        if inputs.integers:
            raise InvalidValueError("default is needed for integers: they have no NaN to stand for a missing answer")
        return np.asarray(np.nan, inputs.work)
    given = np.asarray(default)
    wide = given.astype(np.float64)
    with np.errstate(all="ignore"):
        fits = wide.astype(inputs.dtype)
        lost = np.isfinite(wide) & ~np.isfinite(fits.astype(np.float64))
        if name_of(inputs.dtype) == "float8_e4m3fn":
            lost |= np.isinf(wide)
    if lost.any():
        raise InvalidValueError(f"default does not fit {inputs.dtype}", default)
    return fits.astype(inputs.work)


def _zero_tol(zero_tol: float | str, inputs: _Inputs) -> Any:
    if zero_tol == "auto":
        return inputs.work.type(FORMATS[name_of(inputs.work)].min_normal)
    if isinstance(zero_tol, str):
        raise InvalidValueError(f"zero_tol must be a number or 'auto', got {zero_tol!r}", zero_tol)
    check_zero_tol(zero_tol)
    return _tolerance_in(inputs.work, zero_tol)


def div_safe(
    a: ArrayLike,
    b: ArrayLike,
    *,
    default: ArrayLike | None = None,
    zero_tol: float | str = 0.0,
    saturate: bool = False,
    out: Array | None = None,
    where: Any = True,
) -> Any:
    """a / b, or `default` where |b| <= zero_tol, whatever a is: 0/0, NaN/0 and a/-0 too.

    `default` is a number or an array of one for each element; NaN where not given, integers need one. It must fit the dtype of the result.
    zero_tol "auto" is the smallest normal number of the dtype that computes. NaN as b, inf/inf and NaN/b give NaN, finite/inf a zero, a
    quotient that overflows an infinity, or the largest number with `saturate`. Integers give float64. Raises InvalidValueError for a
    negative
    or NaN zero_tol.

    >>> div_safe(np.array([1.0, 2.0]), np.array([2.0, 0.0]), default=0.0)
    array([0.5, 0. ])
    """
    inputs = _Inputs(a, b)
    tol = _zero_tol(zero_tol, inputs)
    top = FORMATS[name_of(inputs.dtype)].max

    def kernel(o: Array, x: Array, y: Array, d: Array) -> None:
        bad = np.equal(y, 0) if tol == 0 else np.less_equal(np.abs(y), tol)
        np.divide(x, y, out=o)
        if saturate:
            finite = np.isfinite(x) & np.isfinite(y)
            np.copyto(o, np.clip(o, -top, top), where=finite)
        if bad.any():
            np.copyto(o, d, where=bad)

    return _apply(kernel, [*inputs.arrays, _answer(default, inputs)], inputs.work, inputs.work, inputs.dtype, out, where)


def _masked(
    function: Callable[..., Any], is_bad: Callable[[Array], Array], x: ArrayLike, default: ArrayLike | None, out: Array | None, where: Any
) -> Any:
    inputs = _Inputs(x)

    def kernel(o: Array, v: Array, d: Array) -> None:
        bad = is_bad(v)
        function(v, out=o)
        if bad.any():
            np.copyto(o, d, where=bad)

    return _apply(kernel, [*inputs.arrays, _answer(default, inputs)], inputs.work, inputs.work, inputs.dtype, out, where)


def sqrt_safe(x: ArrayLike, *, default: ArrayLike | None = None, out: Array | None = None, where: Any = True) -> Any:
    """The square root; `default` (NaN if not given) for x < 0. sqrt(-0) = -0, NaN gives NaN."""
    return _masked(np.sqrt, lambda v: v < 0, x, default, out, where)


def rsqrt_safe(x: ArrayLike, *, default: ArrayLike | None = None, out: Array | None = None, where: Any = True) -> Any:
    """1 / sqrt(x); `default` (NaN if not given) for x <= 0. NaN gives NaN, infinity 0."""

    def rsqrt(v: Array, out: Array) -> None:
        np.divide(1, np.sqrt(v), out=out)

    return _masked(rsqrt, lambda v: v <= 0, x, default, out, where)


def log_safe(
    x: ArrayLike, *, base: float | None = None, default: ArrayLike | None = None, out: Array | None = None, where: Any = True
) -> Any:
    """The logarithm to `base` (e if not given); `default` (NaN if not given) where x <= 0 or the base is 1 or not positive.

    log(inf) = inf, NaN gives NaN. Bases 2 and 10 go through log2 and log10.
    """
    if base is not None and (base <= 0 or base == 1):
        return _masked(lambda v, out: np.copyto(out, v), lambda v: np.ones(v.shape, bool), x, default, out, where)

    def log(v: Array, out: Array) -> None:
        if base == 2 or base == 10:
            (np.log2 if base == 2 else np.log10)(v, out=out)
        else:
            np.log(v, out=out)
            if base is not None:
                np.divide(out, out.dtype.type(math.log(base)), out=out)

    return _masked(log, lambda v: v <= 0, x, default, out, where)


def pow_safe(base: ArrayLike, exp: ArrayLike, *, default: ArrayLike | None = None, out: Array | None = None, where: Any = True) -> Any:
    """base to the power of exp.

    `default` (NaN if not given) where there is no real result (a negative base, a fraction as exp), where 0 has a negative exponent, and
    where
    finite arguments overflow the dtype of the result. x^0 = 1 and 1^x = 1 for every x, also NaN; infinite arguments as in C.
    """
    inputs = _Inputs(base, exp)
    top = FORMATS[name_of(inputs.dtype)].max
    exact = inputs.dtype == inputs.work

    def kernel(o: Array, x: Array, y: Array, d: Array) -> None:
        finite = np.isfinite(x) & np.isfinite(y)
        domain = ((x == 0) & (y < 0)) | ((x < 0) & (np.floor(y) != y))
        values = np.power(x, y)
        over = np.isinf(values) if exact else np.abs(values) > top
        if not exact and over.any():  # what rounds down to the largest value fits
            over &= ~np.isfinite(values.astype(inputs.dtype).astype(np.float32))
        bad = (domain | over) & finite
        o[...] = values
        if bad.any():
            np.copyto(o, d, where=bad)

    return _apply(kernel, [*inputs.arrays, _answer(default, inputs)], inputs.work, inputs.work, inputs.dtype, out, where)


def sanitize(
    x: ArrayLike,
    *,
    nan_value: float = 0.0,
    inf_value: float | str | None = None,
    neginf_value: float | None = None,
    out: Array | None = None,
    where: Any = True,
) -> Any:
    """x with `nan_value` for NaN and, for infinities, the largest number of the dtype with their sign, or ±`inf_value`, or themselves
    where that is "keep". `neginf_value` is for -infinity alone. Everything else is untouched, integers too.

    >>> sanitize(np.array([np.nan, -np.inf, 1.0]), inf_value=100.0)
    array([   0., -100.,    1.])
    """
    inputs = _Inputs(x, floating=False)
    v = inputs.arrays[0]
    if inputs.dtype.kind in "iub":
        return _apply(lambda o, a: np.copyto(o, a), [v], inputs.dtype, inputs.dtype, inputs.dtype, out, where)
    if isinstance(inf_value, str) and inf_value != "keep":
        raise InvalidValueError(f"inf_value must be a number or 'keep', got {inf_value!r}", inf_value)
    top = FORMATS[name_of(inputs.dtype)].max if inf_value is None else math.inf if isinstance(inf_value, str) else float(inf_value)
    low = -top if neginf_value is None else neginf_value
    fill = [nan_value] + ([] if inf_value in (None, "keep") else [top]) + ([] if neginf_value is None else [low])
    _answer(np.asarray(fill, np.float64), inputs)

    def kernel(o: Array, a: Array) -> None:
        o[...] = a
        finite = np.isfinite(a)
        if not finite.all():
            bad = np.flatnonzero(~finite.reshape(-1))
            special = np.ravel(a)[bad].astype(np.float64)
            o.reshape(-1)[bad] = np.where(special != special, nan_value, np.where(special > 0, top, low)).astype(o.dtype)

    if name_of(inputs.dtype).startswith("float8") or not (out is None or out.flags.c_contiguous):
        made = np.empty(v.shape, inputs.dtype)
        with np.errstate(all="ignore"):
            kernel(made, v)
        return _apply(lambda o, a: np.copyto(o, a), [made], inputs.dtype, inputs.dtype, inputs.dtype, out, where)
    return _apply(kernel, [v], inputs.dtype, inputs.dtype, inputs.dtype, out, where)


def near(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rel_tol: float | None = None,
    abs_tol: float | None = None,
    equal_nan: bool = False,
    out: Array | None = None,
    where: Any = True,
) -> Any:
    """Where a == b, or both are finite and |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol). Symmetric, unlike np.isclose.

    Tolerances that are not given follow from the dtypes (`tolerances`): 1e-9 for float64, 1e-6 and 1e-7 for float32; the looser for two
    dtypes; integers are compared exactly. NaN is near to nothing (to NaN with `equal_nan`), an infinity only to itself.
    """
    inputs = _Inputs(a, b, floating=False)
    t = inputs.tolerance(rel_tol, abs_tol)
    if inputs.integers:
        return _near_integers(inputs, t, out, where)
    rel, absolute = _tolerance_in(inputs.work, t.rel_tol), _tolerance_in(inputs.work, t.abs_tol)

    def kernel(o: Array, x: Array, y: Array) -> None:
        distance = np.subtract(x, y, out=np.empty(o.shape, inputs.work))
        np.abs(distance, out=distance)
        most = distance.max(initial=0)
        if most <= absolute:
            o[...] = True
            return
        size = np.maximum(np.abs(x), np.abs(y))
        np.multiply(size, rel, out=size)
        np.less_equal(distance, size, out=o)
        o |= distance <= absolute
        if not np.isfinite(most):  # a NaN or an infinity, or a difference that overflows
            o &= distance < np.inf
            o |= x == y
            if equal_nan:
                o |= (x != x) & (y != y)
        elif not (rel >= 0 and absolute >= 0):
            o |= x == y

    return _apply(kernel, inputs.arrays, inputs.work, np.bool_, np.bool_, out, where)


def _near_integers(inputs: _Inputs, t: Tolerance, out: Array | None, where: Any) -> Any:
    kinds = {x.dtype.kind for x in inputs.arrays}
    if kinds == {"b"} or not (t.rel_tol > 0 or t.abs_tol > 0):
        x, y = inputs.arrays
        equal = np.asarray(np.equal(x, y))
        return _apply(lambda o, v: np.copyto(o, v), [equal], np.dtype(bool), np.bool_, np.bool_, out, where)
    kind = inputs.dtype.kind  # "f" for int64 with uint64, which have no common integer dtype
    work: np.dtype[Any] = np.dtype({"f": np.float64, "u": np.uint64}.get(kind, np.int64))

    def limit(tol: Any) -> Array:
        """The largest distance that a tolerance admits."""
        inside = np.where(tol >= 0, np.minimum(tol, 2.0**63), 0)
        return np.asarray(inside).astype(np.uint64) * np.uint64(1) | np.where(
            np.asarray(tol) >= 2.0**64, np.uint64(2**64 - 1), np.uint64(0)
        )

    def kernel(o: Array, x: Array, y: Array) -> None:
        if work.kind == "f":
            np.less_equal(np.abs(x - y), np.maximum(t.rel_tol * np.maximum(np.abs(x), np.abs(y)), t.abs_tol), out=o)
            return
        high, low = np.maximum(x, y), np.minimum(x, y)
        distance = high.astype(np.uint64) - low.astype(np.uint64)
        size = np.maximum(np.abs(x.astype(np.float64)), np.abs(y.astype(np.float64)))
        o[...] = (distance == 0) | (distance <= limit(t.abs_tol)) | (distance <= limit(t.rel_tol * size))

    return _apply(kernel, inputs.arrays, work, np.bool_, np.bool_, out, where)


def near_zero(x: ArrayLike, *, abs_tol: float | None = None, out: Array | None = None, where: Any = True) -> Any:
    """Where |x| <= abs_tol; never for NaN and infinities. The default follows from the dtype; integers are compared exactly."""
    inputs = _Inputs(x, floating=False)
    t = inputs.tolerance(0.0, abs_tol)
    if inputs.integers:
        zero = inputs.dtype.type(0)
        return _near_integers(_Inputs(x, zero, floating=False), t, out, where)
    tol = _tolerance_in(inputs.work, t.abs_tol)

    def kernel(o: Array, v: Array) -> None:
        size = np.abs(v)
        np.less_equal(size, tol, out=o)
        if tol == np.inf:
            o &= size < np.inf

    return _apply(kernel, inputs.arrays, inputs.work, np.bool_, np.bool_, out, where)


def all_near(
    a: ArrayLike, b: ArrayLike, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False, where: Any = True
) -> bool:
    """Whether all elements are near; True for empty arrays."""
    return bool(np.all(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan), where=where))


def any_near(
    a: ArrayLike, b: ArrayLike, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False, where: Any = True
) -> bool:
    """Whether any elements are near; False for empty arrays."""
    return bool(np.any(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan), where=where))


def count_near(
    a: ArrayLike, b: ArrayLike, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False, where: Any = True
) -> int:
    """How many elements are near."""
    return int(np.count_nonzero(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan, where=where)))


def fraction_near(
    a: ArrayLike, b: ArrayLike, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False, where: Any = True
) -> float:
    """The share of elements that are near; NaN without any."""
    n = np.asarray(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan, where=where))
    total = n.size if where is True else int(np.count_nonzero(np.broadcast_to(where, n.shape)))
    return int(np.count_nonzero(n)) / total if total else math.nan


def clamp_to_zero(x: ArrayLike, *, abs_tol: float | None = None, out: Array | None = None, where: Any = True) -> Any:
    """+0 where |x| <= abs_tol, else x. abs_tol = 0 turns -0 into +0 and changes nothing else; NaN and infinities pass."""
    inputs = _Inputs(x, floating=False)

    def kernel(o: Array, v: Array) -> None:
        np.copyto(o, v)
        np.copyto(o, 0, where=near_zero(v, abs_tol=abs_tol))

    return _apply(kernel, inputs.arrays, inputs.dtype, inputs.dtype, inputs.dtype, out, where)


to_zero = clamp_to_zero


def to_int(x: ArrayLike, *, abs_tol: float | None = None, out: Array | None = None, where: Any = True) -> Any:
    """The nearest integer, ties to even, where x lies within abs_tol of it, else x; the dtype stays, integers are untouched."""
    inputs = _Inputs(x, floating=False)
    if inputs.integers:
        return _apply(lambda o, v: np.copyto(o, v), inputs.arrays, inputs.dtype, inputs.dtype, inputs.dtype, out, where)
    tol = _tolerance_in(inputs.work, inputs.tolerance(0.0, abs_tol).abs_tol)

    def kernel(o: Array, v: Array) -> None:
        whole = np.rint(v)
        close = (np.abs(v - whole) <= tol) & np.isfinite(v)
        np.copyto(o, v)
        np.copyto(o, whole + 0, where=close)

    return _apply(kernel, inputs.arrays, inputs.work, inputs.work, inputs.dtype, out, where)


def to_range(x: ArrayLike, lo: ArrayLike, hi: ArrayLike, *, out: Array | None = None, where: Any = True) -> Any:
    """max(lo, min(x, hi)) as Python has them: bounds in the wrong order give lo, NaN as lo gives NaN, NaN as hi is no bound, NaN as x
    passes."""
    inputs = _Inputs(x, lo, hi, floating=False)

    def kernel(o: Array, v: Array, low: Array, high: Array) -> None:
        cut = np.where(high < v, high, v)
        o[...] = np.where(v != v, v, np.where(low < cut, cut, low))

    return _apply(kernel, inputs.arrays, inputs.work, inputs.work, inputs.dtype, out, where)


def clamp_safe(x: ArrayLike, lo: ArrayLike, hi: ArrayLike, *, out: Array | None = None, where: Any = True) -> Any:
    """min(max(x, lo), hi); NaN where x or a bound is NaN. Among zeros of different sign x stays. Raises InvalidValueError where lo > hi."""
    inputs = _Inputs(x, lo, hi, floating=False)
    check_bounds(lo, hi)
    if np.any(np.greater(inputs.arrays[1], inputs.arrays[2])):
        raise InvalidValueError("lo must not be greater than hi")

    def kernel(o: Array, v: Array, low: Array, high: Array) -> None:
        nan = (low != low) | (high != high)
        np.copyto(o, v)
        np.copyto(o, low, where=v < low)
        np.copyto(o, high, where=v > high)
        if nan.any():
            np.copyto(o, np.nan, where=nan)

    return _apply(kernel, inputs.arrays, inputs.work, inputs.work, inputs.dtype, out, where)


def _softplus(x: Array, beta: Any) -> Array:
    z = x * beta
    return np.asarray((np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


def soft_relu(x: ArrayLike, beta: float = 1.0, *, out: Array | None = None, where: Any = True) -> Any:
    """log(1 + exp(beta x)) / beta: a smooth max(x, 0), ln 2 / beta above it at 0."""
    inputs = _Inputs(x)
    check_positive("beta", beta)

    def kernel(o: Array, v: Array) -> None:
        o[...] = _softplus(v, inputs.work.type(beta))

    return _apply(kernel, inputs.arrays, inputs.work, inputs.work, inputs.dtype, out, where)


def soft_clamp(
    x: ArrayLike,
    min: float,
    max: float,
    beta: float = 10.0,
    *,
    leak: float = 0.0,
    out: Array | None = None,
    where: Any = True,
) -> Any:
    """min + softplus(x - min) - softplus(x - max): a smooth clamp, at most ln 2 / beta away from it.

    With leak, leak * (softplus(x - max) - softplus(min - x)) is added, so that it has a slope outside too. Computed from the nearer bound,
    since
    the one formula cancels to min for large x. Infinities give the bounds, NaN gives NaN. Raises InvalidValueError for min > max, beta <=
    0.
    """
    inputs = _Inputs(x)
    check_bounds(min, max)
    check_positive("beta", beta)
    t = inputs.work.type
    lo, hi, b = t(min), t(max), t(beta)

    def kernel(o: Array, v: Array) -> None:
        up = v >= lo + (hi - lo) / 2
        near_, far_ = np.where(up, hi - v, v - lo), np.where(up, lo - v, v - hi)
        s = _softplus(near_, b) - _softplus(far_, b)
        o[...] = np.where(up, hi - s, lo + s)
        if leak:
            o += t(leak) * (_softplus(v - hi, b) - _softplus(lo - v, b))

    return _apply(kernel, inputs.arrays, inputs.work, inputs.work, inputs.dtype, out, where)


def _sigmoid(z: Any) -> Array:
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, e) / (1 + e))


def soft_near(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rel_tol: float | None = None,
    abs_tol: float | None = None,
    temperature: float | None = None,
    normalized: bool = False,
    out: Array | None = None,
    where: Any = True,
) -> Any:
    """sigmoid((tol - |a - b|) / temperature), tol = max(rel_tol * max(|a|, |b|), abs_tol): how near, from 0 to 1, 0.5 at the tolerance's
    edge.

    temperature None is tol / 4, which gives 0.982 at equality; with `normalized` equality gives 1. Equal infinities count as equal, one
    infinity gives 0, NaN gives NaN. Tolerances as in `near`.
    """
    inputs = _Inputs(a, b)
    if temperature is not None:
        check_positive("temperature", temperature)
    tol = inputs.tolerance(rel_tol, abs_tol)
    t = inputs.work.type
    rel, absolute = t(tol.rel_tol), t(tol.abs_tol)
    top = 1.0 if normalized or temperature is not None else 1 / (1 + math.exp(-4))

    def kernel(o: Array, x: Array, y: Array) -> None:
        distance = np.abs(x - y)
        edge = np.maximum(rel * np.maximum(np.abs(x), np.abs(y)), absolute)
        if temperature is None:
            z = 4 - 4 * np.where(distance == 0, 0, distance / edge)
            s, full = _sigmoid(z), _sigmoid(t(4))
        else:
            s, full = _sigmoid((edge - distance) / t(temperature)), _sigmoid(edge / t(temperature))
        if normalized:
            s = s / full
        infinite = np.isinf(x) | np.isinf(y)
        s = np.where(infinite, np.where(x == y, t(top), t(0)), s)
        o[...] = np.where((x != x) | (y != y), t(np.nan), s)

    return _apply(kernel, inputs.arrays, inputs.work, inputs.work, inputs.dtype, out, where)


def soft_compare(a: ArrayLike, b: ArrayLike, temperature: float = 1.0, *, out: Array | None = None, where: Any = True) -> Any:
    """tanh((a - b) / temperature): -1 for a far below b, 0 at equality, 1 far above. Equal infinities give 0."""
    inputs = _Inputs(a, b)
    check_positive("temperature", temperature)

    def kernel(o: Array, x: Array, y: Array) -> None:
        o[...] = np.where((x == y) & np.isinf(x), 0, np.tanh((x - y) / inputs.work.type(temperature)))

    return _apply(kernel, inputs.arrays, inputs.work, inputs.work, inputs.dtype, out, where)


# Rows. They compute in float64, and take neither out nor where.
def _row_values(x: ArrayLike) -> tuple[np.dtype[Any], Array]:
    inputs = _Inputs(x)
    return inputs.dtype, inputs.arrays[0].astype(np.float64)


def _row_result(values: Any, dtype: np.dtype[Any]) -> Any:
    made = np.empty(np.shape(values), dtype)
    _store(made, np.asarray(values))
    return made[()]


def _norm(v: Array, axis: Any) -> Array:
    """With reduced axes kept: the square root of the sum of squares, which are scaled by the largest."""
    top = np.max(np.abs(v), axis, keepdims=True, initial=0)
    scale = np.where((top == 0) | ~np.isfinite(top), 1, top)
    return np.asarray(np.sqrt(np.sum(np.square(v / scale), axis, keepdims=True)) * scale)


@np.errstate(all="ignore")
def norm_safe(x: ArrayLike, *, axis: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Any:
    """sqrt(sum of x^2) over an axis or several (all if not given), without overflow or underflow on the way.

    >>> norm_safe(np.float32([3e30, 4e30]))
    np.float32(5e+30)
    """
    dtype, v = _row_values(x)
    over = axis if v.ndim and axis != () else None
    norm = _norm(v, over)
    return _row_result(norm if keepdim else np.squeeze(norm, over), dtype)


@np.errstate(all="ignore")
def normalize_safe(x: ArrayLike, *, axis: int = -1, eps: float = 1e-12) -> Any:
    """x / max(norm, eps) along an axis: vectors of length 1, and 0 for 0. Raises InvalidValueError where eps is not positive."""
    check_positive("eps", eps)
    dtype, v = _row_values(x)
    norm = _norm(v, axis if v.ndim else None)
    return _row_result(v / np.where(norm <= eps, eps, norm), dtype)


@np.errstate(all="ignore")
def softmax_safe(x: ArrayLike, *, axis: int = -1) -> Any:
    """softmax, with zeros for a row that is -inf throughout (fully masked).

    >>> softmax_safe(np.array([[0.0, 0.0], [-np.inf, -np.inf]]))
    array([[0.5, 0.5],
           [0. , 0. ]])
    """
    dtype, v = _row_values(x)
    over = axis if v.ndim else None
    dead = np.all(v == -np.inf, over, keepdims=True)
    v = np.where(dead, 0, v)
    e = np.exp(v - np.max(v, over, keepdims=True, initial=-np.inf))
    return _row_result(np.where(dead, 0, e / np.sum(e, over, keepdims=True)), dtype)


# Units in the last place. A position counts the values of a dtype in order: 0 for both zeros, an infinity one step beyond the largest.
_NAN_ULPS = np.iinfo(np.int64).max


def _codes(dtype: np.dtype[Any]) -> tuple[Any, int]:
    """The signed integer dtype of the codes, and the code beyond the largest value: infinity, or the NaN of float8_e4m3fn."""
    f = FORMATS[name_of(dtype)]
    bits = dtype.itemsize * 8
    sign = 1 << (bits - 1)
    return np.dtype(f"i{dtype.itemsize}"), sign - ((1 << (f.digits - 1)) if f.has_infinity else 1)


def _ordered(x: Array) -> Array:
    code, _ = _codes(x.dtype)
    i: Array = np.ascontiguousarray(x).view(code).reshape(x.shape).astype(np.int64)
    return np.asarray(np.where(i < 0, -(i & ((1 << (8 * code.itemsize - 1)) - 1)), i))


def _from_ordered(p: Array, dtype: np.dtype[Any]) -> Array:
    """0 gives +0."""
    code, end = _codes(dtype)
    size = np.minimum(np.abs(p), end)
    bits = np.where(p < 0, size | np.int64(-(2**63) if dtype.itemsize == 8 else 1 << (8 * dtype.itemsize - 1)), size)
    result: Array = np.asarray(bits.astype(np.dtype(f"u{dtype.itemsize}"))).view(dtype).reshape(p.shape)
    return result


def _float_array(x: ArrayLike) -> Array:
    inputs = _Inputs(x)
    return inputs.arrays[0].astype(inputs.dtype, copy=False)


def _with_sign_of_zero(p: Array, result: Array, up: Any) -> Array:
    """-0 where steps upwards end at zero, as nextafter has it."""
    signed: Array = np.where((p == 0) & up, -result, result)
    return signed


@np.errstate(all="ignore")
def ulp_add(x: ArrayLike, n: ArrayLike) -> Any:
    """The value n steps up (down for n < 0) in the dtype of x. NaN and infinities stay, beyond the largest value lies infinity."""
    v, steps = _float_array(x), np.asarray(n, np.int64)
    _, end = _codes(v.dtype)
    p = np.broadcast_to(_ordered(v), np.broadcast_shapes(v.shape, steps.shape))
    moved = np.where((steps > 0) & (p > end - steps), end, np.where((steps < 0) & (p < -end - steps), -end, p + steps))
    result = _with_sign_of_zero(moved, _from_ordered(moved, v.dtype), steps > 0)
    return np.where(~np.isfinite(v) | (steps == 0), v, result)[()]


@np.errstate(all="ignore")
def ulp_next(x: ArrayLike) -> Any:
    """The next larger value of the dtype of x. Infinity and NaN stay; after the largest negative value comes -0."""
    v = _float_array(x)
    p = _ordered(v)
    result = _with_sign_of_zero(p + 1, _from_ordered(p + 1, v.dtype), True)
    return np.where((v != v) | (v == np.inf), v, result)[()]


@np.errstate(all="ignore")
def ulp_prev(x: ArrayLike) -> Any:
    """The next smaller value of the dtype of x: the mirror of `ulp_next`."""
    v = _float_array(x)
    return np.where((v != v) | (v == -np.inf), v, _from_ordered(_ordered(v) - 1, v.dtype))[()]


@np.errstate(all="ignore")
def ulp_of(x: ArrayLike) -> Any:
    """The distance to the next larger value, in the dtype of x; infinity for the largest and for infinities, NaN for NaN."""
    v = _float_array(x)
    up = np.asarray(ulp_next(v))
    step = (up.astype(np.float64) - v.astype(np.float64)).astype(v.dtype)
    return np.where(np.isinf(v), np.abs(v), step)[()]


@np.errstate(all="ignore")
def ulp_diff(a: ArrayLike, b: ArrayLike) -> Any:
    """How many values lie between a and b, plus one; 0 where they are equal, counted across zero. The largest int64 for NaN and where the
    count
    does not fit; an infinity is one step beyond the largest value. Two dtypes count as their common one."""
    inputs = _Inputs(a, b)
    x, y = (v.astype(inputs.dtype, copy=False) for v in inputs.arrays)
    p, q = _ordered(x), _ordered(y)
    d = np.abs(p - q)
    d = np.where((d < 0) | (np.abs(p.astype(np.float64) - q) >= 2.0**63), _NAN_ULPS, d)
    return np.where((x != x) | (y != y), _NAN_ULPS, d)[()]


@np.errstate(all="ignore")
def ulp_within(a: ArrayLike, b: ArrayLike, *, max_ulps: int = 4) -> Any:
    """Where a == b, or both are finite and at most max_ulps steps apart."""
    inputs = _Inputs(a, b)
    x, y = (v.astype(inputs.dtype, copy=False) for v in inputs.arrays)
    return ((x == y) | (np.isfinite(x) & np.isfinite(y) & (ulp_diff(x, y) <= max_ulps)))[()]
