"""The numerical safety functions on JAX's arrays: pure functions for jit, grad, jacfwd, vmap and pmap.

Dtypes smaller than float32 compute in float32 and round once; Python numbers are weakly typed. No NaN gradient where a default stands, in
forward and in reverse mode. Errors come from plain numbers only, at trace time. XLA may flush subnormal numbers to zero (on CPU it does for
float32); with zero_tol "auto" a division takes them for zero everywhere.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Callable

from ._errors import InvalidValueError, check_bounds, check_positive, check_zero_tol, missing
from ._formats import FORMATS, Tolerance, name_of, rounded, tolerances
from ._names import EXPORTS

try:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax
except ImportError as e:
    raise missing("JAX", "jax", e) from None

__all__ = list(EXPORTS)

Array = Any  # jax.Array, a tracer, or what jnp.asarray takes
_WEAK = (bool, int, float)


def _result_dtype(*values: Array, floating: bool = True) -> Any:
    dtype = jnp.dtype(jnp.result_type(*values))
    if name_of(dtype) in FORMATS:
        return dtype
    if dtype.kind not in "iub":
        raise TypeError(f"keel.numerics.jax has no {dtype}")
    return jnp.dtype(jnp.result_type(float)) if floating or any(type(x) is float for x in values) else dtype


def _work_dtype(dtype: Any) -> Any:
    return dtype if dtype.kind in "iub" or dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def _operands(dtype: Any, *values: Array) -> list[Array]:
    return [jnp.asarray(x, dtype) for x in values]


def _rounded(x: Array, dtype: Any) -> Array:
    if x.dtype == dtype:
        return x
    f = FORMATS.get(name_of(dtype))
    if f is not None and dtype.itemsize == 1:
        x = jnp.where(jnp.isinf(x), x if f.has_infinity else jnp.nan, jnp.clip(x, -f.max, f.max))
    return x.astype(dtype)


def _strong(*values: Array) -> list[Any]:
    return [x.dtype if hasattr(x, "dtype") else jnp.asarray(x).dtype for x in values if type(x) not in _WEAK]


def _tolerance(rel_tol: float | None, abs_tol: float | None, *values: Array) -> Tolerance:
    t = tolerances(*_strong(*values))
    if t.rel_tol == 0 and any(type(x) is float for x in values):
        t = tolerances(jnp.result_type(float))
    return Tolerance(t.rel_tol if rel_tol is None else rel_tol, t.abs_tol if abs_tol is None else abs_tol)


def _check_default(default: Array | None, dtype: Any, *values: Array) -> Array:
    if default is None:
        if all(name_of(d) not in FORMATS for d in _strong(*values)) and not any(type(x) is float for x in values):
            raise InvalidValueError("default is needed for integers: they have no NaN to stand for a missing answer")
        return math.nan
    if type(default) in _WEAK:
        f = FORMATS[name_of(dtype)]
        x = float(default)
        if (math.isinf(x) and not f.has_infinity) or (math.isfinite(x) and math.isinf(rounded(x, f))):
            raise InvalidValueError(f"default does not fit {name_of(dtype)}", default)
    return default


def _quotient(a: Array, b: Array, tol: Array, top: Array) -> tuple[Array, Array, Array]:
    """Where b counts as zero, where the quotient was cut to ±top (if that is finite), the quotient."""
    bad = jnp.abs(b) <= tol
    q = a / jnp.where(bad, 1, b)
    cut = ~bad & (top < math.inf) & jnp.isfinite(a) & jnp.isfinite(b) & (jnp.abs(q) >= top)
    return bad, cut, jnp.where(cut, jnp.where((a < 0) == (b < 0), top, -top), q)


@jax.custom_jvp
def _div(a: Array, b: Array, default: Array, tol: Array, top: Array) -> Array:
    bad, _, q = _quotient(a, b, tol, top)
    return jnp.where(bad, default, q)


@_div.defjvp
def _div_jvp(primals: Any, tangents: Any) -> Any:
    a, b, default, tol, top = primals
    da, db, dd, _, _ = tangents
    bad, cut, q = _quotient(a, b, tol, top)
    masked = bad | cut
    divisor = jnp.where(masked, 1, b)
    out = jnp.where(masked, 0, a / divisor)
    # (da - q db) / b, so that the transposed tangent is -(g / b) * q; where 1 / b overflows, q / b first: a quotient of 0 has
    # no slope in b.
    # Each factor is finite, and each tangent selected, where the other way is taken, so that no 0 * inf arises in either mode.
    tiny = jnp.isinf(1 / divisor)
    usual = jnp.where(tiny, 0, jnp.where(tiny, 0, out) * db) / divisor
    late = jnp.where(tiny, jnp.where(tiny, out / divisor, 0) * db, 0)
    tangent = jnp.where(masked, 0, da / divisor - usual - late)
    return jnp.where(bad, default, q), jnp.where(bad, dd, tangent)


def div_safe(a: Array, b: Array, *, default: Array | None = None, zero_tol: float | str = 0.0, saturate: bool = False) -> Array:
    """a / b, or `default` where |b| <= zero_tol, whatever a is: 0/0, NaN/0 and a/-0 too.

    `default` is a number or an array of one for each element; NaN where not given, integers need one. zero_tol "auto" is the smallest
    normal number of the dtype that computes. A quotient that overflows is an infinity, or the largest number with `saturate`. Gradients:
    g / b and -(g / b) * (a / b), each 0 where the default stands and where `saturate` cut; the default receives g there.
    """
    dtype = _result_dtype(a, b)
    work = _work_dtype(dtype)
    if isinstance(zero_tol, str):
        if zero_tol != "auto":
            raise InvalidValueError(f"zero_tol must be a number or 'auto', got {zero_tol!r}", zero_tol)
        zero_tol = FORMATS[name_of(work)].min_normal
    check_zero_tol(zero_tol)
    top = FORMATS[name_of(dtype)].max if saturate else math.inf
    x, y, d, tol, limit = _operands(work, a, b, _check_default(default, dtype, a, b), zero_tol, top)
    x, y, d = jnp.broadcast_arrays(x, y, d)
    return _rounded(_div(x, y, d, tol, limit), dtype)


def _masked(x: Array, default: Array | None, function: Callable[[Array], Array], is_bad: Callable[[Array], Array]) -> Array:
    """function(x), the default where x is bad. No gradient where x is not positive."""
    dtype = _result_dtype(x)
    v, d = _operands(_work_dtype(dtype), x, _check_default(default, dtype, x))
    good = v > 0
    rest = jnp.where(is_bad(v), d, lax.stop_gradient(v))  # what is left over maps to itself: NaN, and zeros of a root
    return _rounded(jnp.where(good, function(jnp.where(good, v, 1)), rest), dtype)


def sqrt_safe(x: Array, *, default: Array | None = None) -> Array:
    """The square root; `default` (NaN if not given) for x < 0. sqrt(-0) = -0, NaN gives NaN. Gradient g / (2 sqrt(x)), 0 where x <= 0."""
    return _masked(x, default, jnp.sqrt, lambda v: v < 0)


def rsqrt_safe(x: Array, *, default: Array | None = None) -> Array:
    """1 / sqrt(x); `default` (NaN if not given) for x <= 0, where the gradient is 0."""
    return _masked(x, default, lax.rsqrt, lambda v: v <= 0)


def log_safe(x: Array, *, base: float | None = None, default: Array | None = None) -> Array:
    """The logarithm to `base` (e if not given); `default` (NaN if not given) where x <= 0 or the base is 1 or not positive.

    Gradient g / (x log(base)), 0 where x <= 0.
    """
    if base is None:
        return _masked(x, default, jnp.log, lambda v: v <= 0)
    if base <= 0 or base == 1:
        dtype = _result_dtype(x)
        v, d = _operands(dtype, x, _check_default(default, dtype, x))
        return jnp.broadcast_to(d, v.shape)
    if base == 2 or base == 10:
        return _masked(x, default, jnp.log2 if base == 2 else jnp.log10, lambda v: v <= 0)
    return _masked(x, default, lambda v: jnp.log(v) / math.log(base), lambda v: v <= 0)


def _no_power(x: Array, y: Array, beyond: Array) -> Array:
    domain = ((x == 0) & (y < 0)) | ((x < 0) & (jnp.floor(y) != y))
    return (domain | (jnp.abs(jnp.power(x, y)) >= beyond)) & jnp.isfinite(x) & jnp.isfinite(y)


@jax.custom_jvp
def _pow(x: Array, y: Array, default: Array, beyond: Array) -> Array:
    return jnp.where(_no_power(x, y, beyond), default, jnp.power(x, y))


@_pow.defjvp
def _pow_jvp(primals: Any, tangents: Any) -> Any:
    x, y, default, beyond = primals
    dx, dy, dd, _ = tangents
    bad = _no_power(x, y, beyond)
    value = jnp.power(x, y)
    flat = bad | (y == 0)
    power = jnp.power(jnp.where(flat, 1, x), jnp.where(flat, 1, y) - 1)
    good = ~bad & (x > 0) & (value != 0)
    tangent = jnp.where(flat | (power == 0), 0, y * power * dx)
    tangent += jnp.where(good, jnp.where(good, value, 0) * jnp.log(jnp.where(good, x, 1)) * dy, 0)
    return jnp.where(bad, default, value), jnp.where(bad, dd, tangent)


def pow_safe(base: Array, exp: Array, *, default: Array | None = None) -> Array:
    """base to the power of exp.

    `default` (NaN if not given) where there is no real result (a negative base, a fraction as exp), where 0 has a negative exponent, and
    where
    finite arguments overflow the dtype of the result. Gradients are 0 where the default stands; that of exp is 0 for base <= 0.
    """
    dtype = _result_dtype(base, exp)
    f = FORMATS[name_of(dtype)]
    work = _work_dtype(dtype)
    beyond = math.inf if dtype == work else f.max + 2.0 ** (f.max_exponent - f.digits)
    if not f.has_infinity:
        beyond = rounded(beyond * (1 + 2.0**-23), FORMATS["float32"])  # the halfway value goes to the largest
    x, y, d, top = _operands(work, base, exp, _check_default(default, dtype, base, exp), beyond)
    x, y, d = jnp.broadcast_arrays(x, y, d)
    return _rounded(_pow(x, y, d, top), dtype)


def sanitize(x: Array, *, nan_value: float = 0.0, inf_value: float | str | None = None, neginf_value: float | None = None) -> Array:
    """x with `nan_value` for NaN and, for infinities, the largest number of the dtype with their sign, or ±`inf_value`, or themselves
    where that is "keep". `neginf_value` is for -infinity alone. Gradient g where x is finite, else 0. Integers are untouched."""
    dtype = _result_dtype(x, floating=False)
    v = jnp.asarray(x, dtype)
    if name_of(dtype) not in FORMATS:
        return v
    if isinstance(inf_value, str) and inf_value != "keep":
        raise InvalidValueError(f"inf_value must be a number or 'keep', got {inf_value!r}", inf_value)
    f = FORMATS[name_of(dtype)]
    top = f.max if inf_value is None else math.inf if isinstance(inf_value, str) else float(inf_value)
    low = -top if neginf_value is None else float(neginf_value)
    for value in (nan_value, *(limit for limit in (top, low) if inf_value != "keep")):
        if not math.isnan(value):
            _check_default(value, dtype)
    w = v.astype(_work_dtype(dtype))
    fill = jnp.where(jnp.isnan(w), nan_value, jnp.where(w > 0, top, low)).astype(w.dtype)
    return _rounded(jnp.where(jnp.isfinite(w), w, fill), dtype)


def near(a: Array, b: Array, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Array:
    """Where a == b, or both are finite and |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol). Symmetric, unlike jnp.isclose; no gradient.

    Tolerances that are not given follow from the dtypes (`tolerances`), the looser for two; integers are compared exactly. NaN is near to
    nothing (to NaN with `equal_nan`), an infinity only to itself.
    """
    dtype = _result_dtype(a, b, floating=False)
    t = _tolerance(rel_tol, abs_tol, a, b)
    if dtype.kind in "iub":
        return _near_integers(*_operands(dtype, a, b), t=t)
    x, y = (lax.stop_gradient(v) for v in _operands(_work_dtype(dtype), a, b))
    distance = jnp.abs(x - y)
    edge = jnp.maximum(jnp.abs(x), jnp.abs(y)) * t.rel_tol
    close = (((distance <= edge) | (distance <= t.abs_tol)) & (distance < math.inf)) | (x == y)
    return close | (jnp.isnan(x) & jnp.isnan(y)) if equal_nan else close


def _near_integers(x: Array, y: Array, *, t: Tolerance) -> Array:
    if x.dtype == bool or not (t.rel_tol > 0 or t.abs_tol > 0):
        return x == y
    unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    most = float(np.iinfo(unsigned).max)
    distance = jnp.maximum(x, y).astype(unsigned) - jnp.minimum(x, y).astype(unsigned)  # wraps to the true distance
    wide = jnp.result_type(float)

    def admits(limit: Array) -> Array:
        limit = jnp.asarray(limit, wide)
        below = jnp.clip(limit, 0, most * (1 - 2.0**-23)).astype(unsigned)
        return (limit >= most) | ((limit >= 0) & (distance <= below))

    size = jnp.maximum(jnp.abs(x.astype(wide)), jnp.abs(y.astype(wide)))
    return (distance == 0) | admits(t.abs_tol) | admits(t.rel_tol * size)


def near_zero(x: Array, *, abs_tol: float | None = None) -> Array:
    """Where |x| <= abs_tol; never for NaN and infinities. The default follows from the dtype; integers are compared exactly. No
    gradient."""
    dtype = _result_dtype(x, floating=False)
    t = _tolerance(0.0, abs_tol, x)
    v = lax.stop_gradient(jnp.asarray(x, _work_dtype(dtype)))
    if dtype.kind in "iub":
        return _near_integers(v, jnp.zeros_like(v), t=t)
    return (jnp.abs(v) <= t.abs_tol) & jnp.isfinite(v)


def all_near(a: Array, b: Array, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Array:
    """Whether all elements are near; true for empty arrays."""
    return jnp.all(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan))


def any_near(a: Array, b: Array, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Array:
    """Whether any elements are near; false for empty arrays."""
    return jnp.any(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan))


def count_near(a: Array, b: Array, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Array:
    """How many elements are near."""
    return jnp.sum(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan))


def fraction_near(a: Array, b: Array, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Array:
    """The share of elements that are near; NaN without any."""
    return jnp.mean(near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan))


def _check_grad(grad: str) -> None:
    if grad not in ("exact", "ste"):
        raise InvalidValueError(f"grad must be 'exact' or 'ste', got {grad!r}", grad)


def _snap(v: Array, zone: Array, value: Array, grad: str) -> Array:
    if grad == "ste":
        inside = jnp.where(zone, v, 0)
        value = value + (inside - lax.stop_gradient(inside))
    return jnp.where(zone, value, v)


def clamp_to_zero(x: Array, *, abs_tol: float | None = None, grad: str = "exact") -> Array:
    """+0 where |x| <= abs_tol, else x. abs_tol = 0 turns -0 into +0 and changes nothing else; NaN and infinities pass.

    Gradient 0 where x was set to zero and g elsewhere; with grad "ste" (straight through) g everywhere.
    """
    _check_grad(grad)
    v = jnp.asarray(x)
    return _snap(v, near_zero(x, abs_tol=abs_tol), jnp.zeros((), v.dtype), grad)


to_zero = clamp_to_zero


def to_int(x: Array, *, abs_tol: float | None = None, grad: str = "exact") -> Array:
    """The nearest integer, ties to even, where x lies within abs_tol of it, else x; the dtype stays. Gradient as in `clamp_to_zero`."""
    _check_grad(grad)
    dtype = _result_dtype(x, floating=False)
    v = jnp.asarray(x, _work_dtype(dtype))
    if dtype.kind in "iub":
        return v
    whole = lax.stop_gradient(jnp.round(v))
    zone = (jnp.abs(v - whole) <= _tolerance(0.0, abs_tol, x).abs_tol) & jnp.isfinite(v)
    return _rounded(_snap(v, zone, jnp.where(whole == 0, 0, whole), grad), dtype)


def to_range(x: Array, lo: Array, hi: Array) -> Array:
    """max(lo, min(x, hi)) as Python has them: bounds in the wrong order give lo, NaN as lo gives NaN, NaN as hi is no bound, NaN as x
    passes."""
    dtype = _result_dtype(x, lo, hi, floating=False)
    v, low, high = _operands(_work_dtype(dtype), x, lo, hi)
    cut = jnp.where(high < v, high, v)
    return _rounded(jnp.where(v != v, v, jnp.where(low < cut, cut, low)), dtype)


def clamp_safe(x: Array, lo: Array, hi: Array, *, boundary_grad: float = 1.0) -> Array:
    """min(max(x, lo), hi); NaN where x or a bound is NaN. Among zeros of different sign x stays.

    Raises InvalidValueError for plain numbers lo > hi. Gradient: g inside, on the bounds g * `boundary_grad` (0, 0.5 or 1), 0 outside; a
    bound
    that is an array receives g where it stands.
    """
    check_bounds(lo, hi)
    if boundary_grad not in (0, 0.5, 1):
        raise InvalidValueError(f"boundary_grad must be 0, 0.5 or 1, got {boundary_grad}", boundary_grad)
    dtype = _result_dtype(x, lo, hi, floating=False)
    v, low, high = _operands(_work_dtype(dtype), x, lo, hi)
    inner = v
    if boundary_grad != 1:
        on_bound, fixed = (v == low) | (v == high), lax.stop_gradient(v)
        part = fixed if boundary_grad == 0 else fixed + boundary_grad * jnp.where(on_bound & jnp.isfinite(v), v - fixed, 0)
        inner = jnp.where(on_bound, part, v)
    out = jnp.where(v < low, low, jnp.where(v > high, high, inner))
    if dtype.kind not in "iub":
        out = jnp.where(low != low, low, jnp.where(high != high, high, out))
    return _rounded(out, dtype)


def _softplus(x: Array, beta: Array) -> Array:
    return jnp.logaddexp(beta * x, 0) / beta


def soft_relu(x: Array, beta: Array = 1.0) -> Array:
    """log(1 + exp(beta x)) / beta: a smooth max(x, 0), ln 2 / beta above it at 0. Gradient sigmoid(beta x)."""
    check_positive("beta", beta)
    dtype = _result_dtype(x)
    v, b = _operands(_work_dtype(dtype), x, beta)
    return _rounded(_softplus(v, b), dtype)


def soft_clamp(x: Array, min: Array, max: Array, beta: Array = 10.0, *, leak: float = 0.0) -> Array:
    """min + softplus(x - min) - softplus(x - max): a smooth clamp, at most ln 2 / beta away from it. Bounds and beta may be arrays.

    Value and gradient are computed from the nearer bound, where the one formula cancels. With leak, leak * (softplus(x - max) -
    softplus(min - x)) is added, whose slope goes to leak outside. Infinities give the bounds and no gradient, NaN gives NaN. Raises
    InvalidValueError for min > max and beta <= 0.
    """
    check_bounds(min, max)
    check_positive("beta", beta)
    dtype = _result_dtype(x, min, max)
    v, lo, hi, b = _operands(_work_dtype(dtype), x, min, max, beta)
    up = v >= lo + (hi - lo) / 2
    near_, far_ = jnp.where(up, hi - v, v - lo), jnp.where(up, lo - v, v - hi)
    s = _softplus(near_, b) - _softplus(far_, b)
    out = jnp.where(up, hi - s, lo + s)
    if leak:
        out = out + leak * (_softplus(v - hi, b) - _softplus(lo - v, b))
    return _rounded(out, dtype)


def soft_near(
    a: Array,
    b: Array,
    *,
    rel_tol: float | None = None,
    abs_tol: float | None = None,
    temperature: float | None = None,
    normalized: bool = False,
    detach_tol: bool = False,
) -> Array:
    """sigmoid((tol - |a - b|) / temperature), tol = max(rel_tol * max(|a|, |b|), abs_tol): how near, from 0 to 1, 0.5 at the tolerance's
    edge.

    temperature None is tol / 4, which gives 0.982 at equality; with `normalized` equality gives 1. Equal infinities count as equal, one
    infinity gives 0, NaN gives NaN; all without gradient. With detach_tol the tolerance counts as constant. Tolerances as in `near`.
    """
    if temperature is not None:
        check_positive("temperature", temperature)
    dtype = _result_dtype(a, b)
    t = _tolerance(rel_tol, abs_tol, a, b)
    x, y = _operands(_work_dtype(dtype), a, b)
    finite = jnp.isfinite(x - y)  # false where the difference overflows too: there the answer is 0
    p, q = jnp.where(finite, x, 0), jnp.where(finite, y, 0)
    distance = jnp.abs(p - q)
    edge = jnp.maximum(jnp.abs(p), jnp.abs(q))
    edge = (lax.stop_gradient(edge) if detach_tol else edge) * t.rel_tol
    edge = jnp.maximum(edge, t.abs_tol) if t.abs_tol == t.abs_tol else edge
    full: Array = 1 / (1 + math.exp(-4.0))
    if temperature is None:
        share = distance / jnp.where(edge <= 0, 1, edge)
        share = jnp.where(distance == 0, 0, jnp.where(edge <= 0, math.inf, share))
        s = jax.nn.sigmoid(4 - 4 * share)
    else:
        s = jax.nn.sigmoid((edge - distance) / temperature)
        full = jax.nn.sigmoid(edge / temperature)
    if normalized:
        s = s / full
    top = 1.0 if normalized or temperature is not None else 1 / (1 + math.exp(-4.0))
    apart = jnp.where(x == y, top, jnp.where(jnp.isnan(x) | jnp.isnan(y), math.nan, 0.0)).astype(x.dtype)
    return _rounded(jnp.where(finite, s, apart), dtype)


@jax.custom_jvp
def _tanh(u: Array) -> Array:
    return jnp.tanh(u)


@_tanh.defjvp
def _tanh_jvp(primals: Any, tangents: Any) -> Any:
    e = jnp.exp(-2 * jnp.abs(primals[0]))  # 1 - tanh(u)^2 is 0 long before the true slope is
    return jnp.tanh(primals[0]), 4 * e / (1 + e) ** 2 * tangents[0]


def soft_compare(a: Array, b: Array, temperature: float = 1.0) -> Array:
    """tanh((a - b) / temperature): -1 for a far below b, 0 at equality, 1 far above. Equal infinities give 0 and no gradient."""
    check_positive("temperature", temperature)
    dtype = _result_dtype(a, b)
    x, y = _operands(_work_dtype(dtype), a, b)
    return _rounded(_tanh(jnp.where((x == y) & jnp.isinf(x), 0, x - y) / temperature), dtype)


# Rows.
def _norm(v: Array, axis: Any) -> Array:
    """With reduced axes kept: the square root of the sum of squares, which are scaled by the largest."""
    top = lax.stop_gradient(jnp.max(jnp.abs(v), axis, keepdims=True, initial=0))
    scale = jnp.where((top == 0) | ~jnp.isfinite(top), 1, top)
    return jnp.sqrt(jnp.sum(jnp.square(v / scale), axis, keepdims=True)) * scale


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _norm_safe(v: Array, axis: Any) -> Array:
    return _norm(v, axis)


@_norm_safe.defjvp
def _norm_jvp(axis: Any, primals: Any, tangents: Any) -> Any:
    y = _norm_safe(primals[0], axis)
    unit = primals[0] / jnp.where(y == 0, 1, y)
    return y, jnp.where(y == 0, 0, jnp.sum(unit * tangents[0], axis, keepdims=True))


def norm_safe(x: Array, *, axis: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    """sqrt(sum of x^2) over an axis or several (all if not given), without overflow or underflow on the way. Gradient g x / norm, 0 where
    the norm is 0."""
    dtype = _result_dtype(x)
    v = jnp.asarray(x, _work_dtype(dtype))
    over = axis if v.ndim and axis != () else None
    norm = _norm_safe(v, over)
    return _rounded(norm if keepdim else jnp.squeeze(norm, over), dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _normalize(v: Array, axis: int, eps: float, cap: float) -> Array:
    n = _norm_safe(v, axis)
    return v / jnp.where(n <= eps, eps, n)


@_normalize.defjvp
def _normalize_jvp(axis: int, eps: float, cap: float, primals: Any, tangents: Any) -> Any:
    (v,), (dv,) = primals, tangents
    n = _norm_safe(v, axis)
    tiny = n <= eps
    size = jnp.where(tiny, eps, n)
    y = v / size
    turned = jnp.where(tiny, dv, dv - y * jnp.sum(jnp.where(tiny, 0, y) * dv, axis, keepdims=True))
    return y, turned / size if cap == math.inf else turned * jnp.minimum(1 / size, cap)


def normalize_safe(x: Array, *, axis: int = -1, eps: float = 1e-12, grad_cap: float | None = None) -> Array:
    """x / max(norm, eps) along an axis: vectors of length 1, and 0 for 0.

    Gradient (g - y sum(g y)) / norm with y the result; below eps, g / eps, which is 1e12 g at 0: `grad_cap` limits the factor 1 / norm.
    Raises InvalidValueError where eps or grad_cap is not positive.
    """
    check_positive("eps", eps)
    check_positive("grad_cap", grad_cap)
    dtype = _result_dtype(x)
    cap = math.inf if grad_cap is None else grad_cap
    v = jnp.asarray(x, _work_dtype(dtype))
    return _rounded(_normalize(v.reshape(v.shape or 1), axis, eps, cap).reshape(v.shape), dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax(v: Array, axis: int) -> Array:
    dead = jnp.all(v == -math.inf, axis, keepdims=True)
    return jnp.where(dead, 0, jax.nn.softmax(jnp.where(dead, 0, v), axis))


@_softmax.defjvp
def _softmax_jvp(axis: int, primals: Any, tangents: Any) -> Any:
    y = _softmax(primals[0], axis)
    part = jnp.where(y == 0, 0, tangents[0])
    return y, jnp.where(y == 0, 0, y * (part - jnp.sum(y * part, axis, keepdims=True)))


def softmax_safe(x: Array, *, axis: int = -1) -> Array:
    """softmax, with zeros for a row that is -inf throughout (fully masked), whose gradient is 0. A gradient that comes to an entry of 0,
    NaN too, is dropped."""
    dtype = _result_dtype(x)
    v = jnp.asarray(x, _work_dtype(dtype))
    return _rounded(_softmax(v.reshape(v.shape or 1), axis).reshape(v.shape), dtype)


# Units in the last place, on bits. Counts are int64 where JAX has 64 bits enabled, else int32.
def _count_dtype() -> Any:
    return jnp.result_type(int)


def _beyond(dtype: Any) -> int:
    """The code after the largest value: infinity, or the NaN of float8_e4m3fn."""
    f = FORMATS[name_of(dtype)]
    return int((1 << (dtype.itemsize * 8 - 1)) - ((1 << (f.digits - 1)) if f.has_infinity else 1))


def _ordered(x: Array) -> Array:
    code = lax.bitcast_convert_type(lax.stop_gradient(x), jnp.dtype(f"int{8 * x.dtype.itemsize}")).astype(_count_dtype())
    return jnp.where(code < 0, -(code & ((1 << (8 * x.dtype.itemsize - 1)) - 1)), code)


def _from_ordered(p: Array, dtype: Any) -> Array:
    bits = 8 * dtype.itemsize
    size = jnp.minimum(jnp.abs(p), _beyond(dtype)).astype(jnp.dtype(f"uint{bits}"))
    sign = jnp.left_shift((p < 0).astype(size.dtype), bits - 1)
    return lax.bitcast_convert_type(size | sign, dtype)


def _value(x: Array) -> tuple[Array, Array]:
    v = jnp.asarray(x, _result_dtype(x))
    return v, v.astype(_work_dtype(v.dtype))


def ulp_next(x: Array) -> Array:
    """The next larger value of the dtype of x. Infinity and NaN stay; after the largest negative value comes -0."""
    v, w = _value(x)
    p = _ordered(v) + 1
    return jnp.where(jnp.isnan(w) | (w == math.inf), v, jnp.where(p == 0, jnp.asarray(-0.0, v.dtype), _from_ordered(p, v.dtype)))


def ulp_prev(x: Array) -> Array:
    """The next smaller value of the dtype of x: the mirror of `ulp_next`."""
    v, w = _value(x)
    return jnp.where(jnp.isnan(w) | (w == -math.inf), v, _from_ordered(_ordered(v) - 1, v.dtype))


def ulp_of(x: Array) -> Array:
    """The distance to the next larger value, in the dtype of x; infinity for the largest and for infinities, NaN for NaN. From the bits
    alone:
    flushing of subnormals has no say."""
    v, w = _value(x)
    f, dtype, count = FORMATS[name_of(v.dtype)], v.dtype, _count_dtype()
    p = _ordered(v)
    code = jnp.abs(p) - (p < 0)
    field = (code >> (f.digits - 1)).astype(count)
    shift = jnp.maximum(field - 1, 0)
    low = jnp.left_shift(jnp.ones((), count), jnp.minimum(shift, f.digits - 2))
    step = jnp.where(shift < f.digits - 1, low, jnp.left_shift(jnp.maximum(shift - f.digits + 2, 0), f.digits - 1))
    end = jnp.isinf(w) | (p == _beyond(dtype) - 1)
    return jnp.where(jnp.isnan(w), v, _from_ordered(jnp.where(end, _beyond(dtype), step), dtype))


def ulp_diff(a: Array, b: Array) -> Array:
    """How many values lie between a and b, plus one; 0 where they are equal, counted across zero. The largest integer for NaN and where the
    count does not fit; an infinity is one step beyond the largest value. Two dtypes count as their common one."""
    dtype = _result_dtype(a, b)
    x, y = _operands(dtype, a, b)
    p, q = _ordered(x), _ordered(y)
    d = jnp.abs(p - q)
    half = np.iinfo(p.dtype).max
    wraps = ((p < 0) != (q < 0)) & (jnp.abs(p) > half - jnp.abs(q))
    nan = jnp.isnan(x.astype(_work_dtype(dtype))) | jnp.isnan(y.astype(_work_dtype(dtype)))
    return jnp.where(nan | wraps, half, d)


def ulp_within(a: Array, b: Array, *, max_ulps: int = 4) -> Array:
    """Where a == b, or both are finite and at most max_ulps steps apart."""
    dtype = _result_dtype(a, b)
    x, y = _operands(dtype, a, b)
    v, w = x.astype(_work_dtype(dtype)), y.astype(_work_dtype(dtype))
    return (v == w) | (jnp.isfinite(v) & jnp.isfinite(w) & (ulp_diff(x, y) <= max_ulps))
