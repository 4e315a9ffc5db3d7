"""The functions behind keel.numerics.torch."""

from __future__ import annotations

import math
from typing import Any, Union

import torch
from torch import Tensor

from .._errors import InvalidValueError, check_bounds, check_positive, check_zero_tol
from .._formats import FORMATS, Tolerance, name_of, rounded, tolerances

Number = Union[Tensor, float]  # an operand: a tensor, or a number that takes the dtype of the tensors
_EIGHT = tuple(d for d in (getattr(torch, "float8_e4m3fn", None), getattr(torch, "float8_e5m2", None)) if d is not None)


# Dtypes. Smaller than float32 computes in float32 and rounds once; integers become the default float where a division or a root is taken.
def _dtypes(*values: Number) -> list[torch.dtype]:
    return [x.dtype for x in values if isinstance(x, Tensor)]


def _result_dtype(*values: Number, floating: bool = True) -> torch.dtype:
    found: torch.dtype | None = None
    for x in values:
        if isinstance(x, Tensor) and x.dtype != found:
            if found is None:
                found = x.dtype
            elif found in _EIGHT or x.dtype in _EIGHT:  # torch has no promotion of 8-bit floats
                small = found if found in _EIGHT else x.dtype
                other = x.dtype if found in _EIGHT else found
                found = other if other.is_floating_point and other not in _EIGHT else torch.float32 if other in _EIGHT else small
            else:
                found = torch.promote_types(found, x.dtype)
    if found is None:
        raise TypeError("keel.numerics.torch needs a tensor among its arguments")
    if not found.is_floating_point and (floating or any(type(x) is float for x in values)):
        found = torch.get_default_dtype()
    return found


def _work_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in (torch.float64, torch.float32) or not dtype.is_floating_point else torch.float32


def _operands(dtype: torch.dtype, *values: Number) -> list[Tensor]:
    """Every value as a tensor of `dtype`, all of one shape."""
    device = next(x.device for x in values if isinstance(x, Tensor))
    made = [x.to(dtype) if isinstance(x, Tensor) else torch.full((), x, dtype=dtype, device=device) for x in values]
    first = made[0].shape
    if any(x.shape != first for x in made):
        shape = torch.broadcast_shapes(*(x.shape for x in made))  # type: ignore[no-untyped-call]
        made = [x.expand(shape) for x in made]
    for i in range(1, len(made)):  # torch.compile does not take one tensor twice
        if any(made[i] is x for x in made[:i]):
            made[i] = made[i].view_as(made[i])
    return made


def _rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """To the dtype of the result; finite values beyond the largest of 8 bits become that."""
    if x.dtype == dtype:
        return x
    if dtype in _EIGHT:
        top = torch.finfo(dtype).max
        x = torch.where(torch.isinf(x), torch.nan if not FORMATS[name_of(dtype)].has_infinity else x, x.clamp(-top, top))
    return x.to(dtype)


def _tolerance(rel_tol: float | None, abs_tol: float | None, *values: Number) -> Tolerance:
    t = tolerances(*_dtypes(*values))
    if t.rel_tol == 0 and any(type(x) is float for x in values):
        t = tolerances(torch.get_default_dtype())
    return Tolerance(t.rel_tol if rel_tol is None else rel_tol, t.abs_tol if abs_tol is None else abs_tol)


def _in_float32(x: float) -> float:
    """x as float32 has it, as a number that stays weak."""
    return rounded(x, FORMATS["float32"]) if math.isfinite(x) else x


def _check_default(default: Number | None, dtype: torch.dtype, *values: Number) -> Number:
    if default is None:
        if not any(d.is_floating_point for d in _dtypes(*values)) and not any(type(x) is float for x in values):
            raise InvalidValueError("default is needed for integers: they have no NaN to stand for a missing answer")
        return math.nan
    if not isinstance(default, Tensor):
        f = FORMATS[name_of(dtype)]
        if f.has_infinity and math.isinf(default) or math.isnan(default):
            return default
        if math.isinf(default) or math.isinf(rounded(float(default), f)):
            raise InvalidValueError(f"default does not fit {name_of(dtype)}", default)
    return default


class _Div(torch.autograd.Function):
    """a / b, `default` where |b| <= tol. Gradients: g / b and -(g / b) * (a / b), 0 where b counts as zero or the quotient was cut."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, default: Tensor, tol: float, top: float | None) -> Tensor:
        q = a / b
        if top is not None:
            q = torch.where(torch.isfinite(a) & torch.isfinite(b), q.clamp(-top, top), q)
        return torch.where(_counts_as_zero(b, tol), default, q)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        a, b, _, ctx.tol, ctx.top = inputs
        ctx.save_for_backward(b, output, *((a,) if ctx.top is not None else ()))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        b, out, *rest = ctx.saved_tensors
        zero = _counts_as_zero(b, ctx.tol)
        masked = zero
        if rest:
            masked = zero | (torch.isfinite(rest[0]) & torch.isfinite(b) & (out.abs() >= ctx.top))
        divisor = torch.where(masked, 1, b)
        ga = torch.where(masked, 0, g / divisor)
        gb = gd = None
        if ctx.needs_input_grad[1]:  # 0 / b is 0 for the smallest b too, where g / b overflows
            gb = torch.where(masked, 0, -torch.where(out == 0, g * (out / divisor), ga * out))
        if ctx.needs_input_grad[2]:
            gd = torch.where(zero, g, 0)
        return ga, gb, gd, None, None


def _counts_as_zero(b: Tensor, tol: float) -> Tensor:
    return b == 0 if tol == 0 else b.abs() <= tol


def div_safe(a: Number, b: Number, *, default: Number | None = None, zero_tol: float | str = 0.0, saturate: bool = False) -> Tensor:
    """a / b, or `default` where |b| <= zero_tol, whatever a is: 0/0, NaN/0 and a/-0 too.

    `default` is a number or a tensor of one for each element; NaN where not given, integers need one. zero_tol "auto" is the smallest
    normal number of the dtype that computes. NaN as b, inf/inf and NaN/b give NaN, finite/inf a zero; a quotient that overflows is an
    infinity,
    or the largest number with `saturate`. Integers give the default dtype.

    Gradients: g / b and -(g / b) * (a / b), each 0 where the default stands and where `saturate` cut; the default receives g there.

    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> div_safe(x, torch.tensor([2.0, 0.0]), default=0.0).sum().backward()
    >>> x.grad
    tensor([0.5000, 0.0000])
    """
    dtype = _result_dtype(a, b)
    work = _work_dtype(dtype)
    if isinstance(zero_tol, str):
        if zero_tol != "auto":
            raise InvalidValueError(f"zero_tol must be a number or 'auto', got {zero_tol!r}", zero_tol)
        zero_tol = FORMATS[name_of(work)].min_normal
    check_zero_tol(zero_tol)
    tol = zero_tol if work == torch.float64 or zero_tol == 0 else _in_float32(zero_tol)
    x, y, d = _operands(work, a, b, _check_default(default, dtype, a, b))
    out: Tensor = _Div.apply(x, y, d, tol, torch.finfo(dtype).max if saturate else None)
    return _rounded(out, dtype)


class _Sqrt(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, default: Tensor) -> Tensor:
        return torch.where(x < 0, default, x.sqrt())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, out = ctx.saved_tensors
        good = x > 0
        return torch.where(good, g / (2 * torch.where(good, out, 1)), 0), torch.where(x < 0, g, 0) if ctx.needs_input_grad[1] else None


class _Rsqrt(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, default: Tensor) -> Tensor:
        return torch.where(x <= 0, default, x.rsqrt())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, out = ctx.saved_tensors
        good = x > 0
        slope = -0.5 * torch.where(good, out, 0) / torch.where(good, x, 1)
        return torch.where(good, g * slope, 0), torch.where(x <= 0, g, 0) if ctx.needs_input_grad[1] else None


class _Log(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, default: Tensor, base: float | None) -> Tensor:
        value = x.log2() if base == 2 else x.log10() if base == 10 else x.log() if base is None else x.log() / math.log(base)
        return torch.where(x <= 0, default, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, _, base = inputs
        ctx.scale = 1.0 if base is None else math.log(base)
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        good = x > 0
        gd = torch.where(x <= 0, g, 0) if ctx.needs_input_grad[1] else None
        return torch.where(good, g / torch.where(good, x, 1) / ctx.scale, 0), gd, None


def _unary(function: Any, x: Tensor, default: Number | None, *args: Any) -> Tensor:
    dtype = _result_dtype(x)
    v, d = _operands(_work_dtype(dtype), x, _check_default(default, dtype, x))
    return _rounded(function.apply(v, d, *args), dtype)


def sqrt_safe(x: Tensor, *, default: Number | None = None) -> Tensor:
    """The square root; `default` (NaN if not given) for x < 0. sqrt(-0) = -0, NaN gives NaN. Gradient g / (2 sqrt(x)), 0 where x <= 0."""
    return _unary(_Sqrt, x, default)


def rsqrt_safe(x: Tensor, *, default: Number | None = None) -> Tensor:
    """1 / sqrt(x); `default` (NaN if not given) for x <= 0, where the gradient is 0."""
    return _unary(_Rsqrt, x, default)


def log_safe(x: Tensor, *, base: float | None = None, default: Number | None = None) -> Tensor:
    """The logarithm to `base` (e if not given); `default` (NaN if not given) where x <= 0 or the base is 1 or not positive.

    log(inf) = inf, NaN gives NaN. Gradient g / (x log(base)), 0 where x <= 0.
    """
    if base is not None and (base <= 0 or base == 1):
        dtype = _result_dtype(x)
        v, d = _operands(_work_dtype(dtype), x, _check_default(default, dtype, x))
        return _rounded(torch.where(torch.ones_like(v, dtype=torch.bool), d, v), dtype)
    return _unary(_Log, x, default, base)


class _Pow(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, default: Tensor, beyond: float) -> Tensor:
        return torch.where(_no_power(x, y, beyond), default, x.pow(y))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, y, _, ctx.beyond = inputs
        ctx.save_for_backward(x, y, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, y, out = ctx.saved_tensors
        bad = _no_power(x.detach(), y.detach(), ctx.beyond)
        gx = gy = gd = None
        if ctx.needs_input_grad[0]:
            flat = bad | (y == 0)
            power = torch.where(flat, 1, x).pow(torch.where(flat, 1, y) - 1)
            gx = torch.where(flat | (power == 0), 0, g * (y * power))
        if ctx.needs_input_grad[1]:
            good = ~bad & (x > 0) & (out != 0)
            gy = torch.where(good, g * (out * torch.where(good, x, 1).log()), 0)
        if ctx.needs_input_grad[2]:
            gd = torch.where(bad, g, 0)
        return gx, gy, gd, None


def _no_power(x: Tensor, y: Tensor, beyond: float) -> Tensor:
    """Where finite x and y have no finite real power."""
    domain = ((x == 0) & (y < 0)) | ((x < 0) & (y.floor() != y))
    return (domain | (x.pow(y).abs() >= beyond)) & torch.isfinite(x) & torch.isfinite(y)


def pow_safe(base: Number, exp: Number, *, default: Number | None = None) -> Tensor:
    """base to the power of exp.

    `default` (NaN if not given) where there is no real result (a negative base, a fraction as exp), where 0 has a negative exponent, and
    where
    finite arguments overflow the dtype of the result. x^0 = 1 and 1^x = 1 for every x, also NaN; infinite arguments as in C. Gradients are
    0
    where the default stands; that of exp is 0 for base <= 0.
    """
    dtype = _result_dtype(base, exp)
    x, y, d = _operands(_work_dtype(dtype), base, exp, _check_default(default, dtype, base, exp))
    f = FORMATS[name_of(dtype)]
    beyond = math.inf if dtype in (torch.float64, torch.float32) else f.max + 2.0 ** (f.max_exponent - f.digits)
    if dtype in _EIGHT and not f.has_infinity:
        beyond = _in_float32(beyond * (1 + 2.0**-23))  # the halfway value goes to the largest
    return _rounded(_Pow.apply(x, y, d, beyond), dtype)


class _Sanitize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, nan: float, top: float, low: float) -> Tensor:
        return torch.nan_to_num(x, nan, top, low)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return torch.where(torch.isfinite(ctx.saved_tensors[0]), g, 0), None, None, None


def sanitize(x: Tensor, *, nan_value: float = 0.0, inf_value: float | str | None = None, neginf_value: float | None = None) -> Tensor:
    """x with `nan_value` for NaN and, for infinities, the largest number of the dtype with their sign, or ±`inf_value`, or themselves
    where that is "keep". `neginf_value` is for -infinity alone. Gradient g where x is finite, else 0. Integers are untouched."""
    if not x.dtype.is_floating_point:
        return x.clone()
    if isinstance(inf_value, str) and inf_value != "keep":
        raise InvalidValueError(f"inf_value must be a number or 'keep', got {inf_value!r}", inf_value)
    f = FORMATS[name_of(x.dtype)]
    top = f.max if inf_value is None else math.inf if isinstance(inf_value, str) else float(inf_value)
    low = -top if neginf_value is None else float(neginf_value)
    for value in (nan_value, *(v for v in (top, low) if inf_value != "keep")):
        if f.has_infinity:
            _check_default(value, x.dtype)
        elif not math.isnan(value):
            _check_default(value, x.dtype)
    v = x.to(torch.float32) if x.dtype in _EIGHT else x
    return _rounded(_Sanitize.apply(v, nan_value, top, low), x.dtype)


def near(a: Number, b: Number, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Tensor:
    """Where a == b, or both are finite and |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol). Symmetric, unlike torch.isclose; no gradient.

    Tolerances that are not given follow from the dtypes (`tolerances`): 1e-9 for float64, 1e-6 and 1e-7 for float32, 1e-3 and 1e-4 for
    float16;
    the looser for two dtypes; integers are compared exactly. NaN is near to nothing (to NaN with `equal_nan`), an infinity only to itself.
    """
    dtype = _result_dtype(a, b, floating=False)
    t = _tolerance(rel_tol, abs_tol, a, b)
    with torch.no_grad():
        if not dtype.is_floating_point:
            x, y = _operands(dtype, a, b)
            return _near_integers(x, y, t)
        x, y = _operands(_work_dtype(dtype), a, b)
        distance = (x - y).abs()
        edge = torch.maximum(x.abs(), y.abs()) * t.rel_tol
        close = ((distance <= edge) | (distance <= t.abs_tol)) & (distance < math.inf)
        close = close | (x == y)
        return close | ((x != x) & (y != y)) if equal_nan else close


def _near_integers(x: Tensor, y: Tensor, t: Tolerance) -> Tensor:
    if x.dtype == torch.bool or not (t.rel_tol > 0 or t.abs_tol > 0):
        return x == y
    high, low = torch.maximum(x, y).to(torch.int64), torch.minimum(x, y).to(torch.int64)
    distance = high - low  # negative where it is beyond int64
    wide = distance < 0
    apart = torch.where(wide, high.to(torch.float64) - low.to(torch.float64), distance.to(torch.float64))
    edge = torch.maximum(x.to(torch.float64).abs(), y.to(torch.float64).abs()) * t.rel_tol

    def admits(limit: Any) -> Tensor:
        whole = torch.as_tensor(limit, dtype=torch.float64, device=x.device).clamp(0, 2.0**62).to(torch.int64)
        return torch.where(apart > 2.0**53, apart <= limit, (distance <= whole) & (torch.as_tensor(limit, device=x.device) >= 0))

    return (distance == 0) | admits(t.abs_tol) | admits(edge)


def near_zero(x: Tensor, *, abs_tol: float | None = None) -> Tensor:
    """Where |x| <= abs_tol; never for NaN and infinities. The default follows from the dtype; integers are compared exactly. No
    gradient."""
    t = _tolerance(0.0, abs_tol, x)
    with torch.no_grad():
        if not x.dtype.is_floating_point:
            return _near_integers(x, torch.zeros_like(x), t)
        size = x.to(_work_dtype(x.dtype)).abs()
        return (size <= t.abs_tol) & (size < math.inf)


def all_near(a: Number, b: Number, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Tensor:
    """Whether all elements are near, as a tensor of one bool (nothing waits for a device); True for empty tensors."""
    return near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan).all()


def any_near(a: Number, b: Number, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Tensor:
    """Whether any elements are near, as a tensor of one bool."""
    return near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan).any()


def count_near(a: Number, b: Number, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Tensor:
    """How many elements are near, as a tensor of one int64."""
    return near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan).sum()


def fraction_near(a: Number, b: Number, *, rel_tol: float | None = None, abs_tol: float | None = None, equal_nan: bool = False) -> Tensor:
    """The share of elements that are near, as a tensor of one number; NaN without any."""
    return near(a, b, rel_tol=rel_tol, abs_tol=abs_tol, equal_nan=equal_nan).to(torch.get_default_dtype()).mean()


def _snap(x: Tensor, v: Tensor, zone: Tensor, value: Number, grad: str) -> Tensor:
    """`value` in the zone, x elsewhere. The gradient is 0 in the zone, or g with grad "ste"."""
    if grad not in ("exact", "ste"):
        raise InvalidValueError(f"grad must be 'exact' or 'ste', got {grad!r}", grad)
    if grad == "ste":
        inside = torch.where(zone, v, 0)  # finite, so that the difference is 0
        value = value + (inside - inside.detach())
    return _rounded(torch.where(zone, value, v), x.dtype)


def clamp_to_zero(x: Tensor, *, abs_tol: float | None = None, grad: str = "exact") -> Tensor:
    """+0 where |x| <= abs_tol, else x. abs_tol = 0 turns -0 into +0 and changes nothing else; NaN and infinities pass.

    Gradient 0 where x was set to zero and g elsewhere; with grad "ste" (straight through) g everywhere.
    """
    return _snap(x, x, near_zero(x, abs_tol=abs_tol), 0, grad)


to_zero = clamp_to_zero


def to_int(x: Tensor, *, abs_tol: float | None = None, grad: str = "exact") -> Tensor:
    """The nearest integer, ties to even, where x lies within abs_tol of it, else x; the dtype stays. Gradient as in `clamp_to_zero`."""
    if not x.dtype.is_floating_point:
        return x.clone()
    v = x.to(_work_dtype(x.dtype))
    with torch.no_grad():
        whole = v.round()
        zone = ((v - whole).abs() <= _tolerance(0.0, abs_tol, x).abs_tol) & torch.isfinite(v)
    return _snap(x, v, zone, whole + 0, grad)


def to_range(x: Number, lo: Number, hi: Number) -> Tensor:
    """max(lo, min(x, hi)) as Python has them: bounds in the wrong order give lo, NaN as lo gives NaN, NaN as hi is no bound, NaN as x
    passes."""
    dtype = _result_dtype(x, lo, hi, floating=False)
    v, low, high = _operands(_work_dtype(dtype), x, lo, hi)
    cut = torch.where(high < v, high, v)
    return _rounded(torch.where(v != v, v, torch.where(low < cut, cut, low)), dtype)


def clamp_safe(x: Number, lo: Number, hi: Number, *, boundary_grad: float = 1.0) -> Tensor:
    """min(max(x, lo), hi); NaN where x or a bound is NaN. Among zeros of different sign x stays.

    Raises InvalidValueError for numbers lo > hi; tensors are not looked at (lo wins below it, hi above it). Gradient: g inside, on the
    bounds
    g * `boundary_grad` (0, 0.5 or 1), 0 outside; a bound that is a tensor receives g where it stands.
    """
    check_bounds(lo, hi)
    if boundary_grad not in (0, 0.5, 1):
        raise InvalidValueError(f"boundary_grad must be 0, 0.5 or 1, got {boundary_grad}", boundary_grad)
    dtype = _result_dtype(x, lo, hi, floating=False)
    v, low, high = _operands(_work_dtype(dtype), x, lo, hi)
    inner = v
    if boundary_grad != 1 and dtype.is_floating_point:
        on_bound, fixed = (v == low) | (v == high), v.detach()
        part = fixed if boundary_grad == 0 else fixed + boundary_grad * torch.where(on_bound & torch.isfinite(v), v - fixed, 0)
        inner = torch.where(on_bound, part, v)
    out = torch.where(v < low, low, torch.where(v > high, high, inner))
    if dtype.is_floating_point and not all(isinstance(bound, (int, float)) and bound == bound for bound in (lo, hi)):
        out = torch.where(low != low, low, torch.where(high != high, high, out))
    return _rounded(out, dtype)


def _softplus(x: Tensor, beta: Number) -> Tensor:
    return -torch.nn.functional.logsigmoid(-beta * x) / beta


def soft_relu(x: Tensor, beta: Number = 1.0) -> Tensor:
    """log(1 + exp(beta x)) / beta: a smooth max(x, 0), ln 2 / beta above it at 0. Gradient sigmoid(beta x). `beta` may be a tensor."""
    check_positive("beta", beta)
    dtype = _result_dtype(x)
    work = _work_dtype(dtype)
    return _rounded(_softplus(x.to(work), beta.to(work) if isinstance(beta, Tensor) else beta), dtype)


def soft_clamp(x: Tensor, min: Number, max: Number, beta: Number = 10.0, *, leak: float = 0.0) -> Tensor:
    """min + softplus(x - min) - softplus(x - max): a smooth clamp, at most ln 2 / beta away from it. Bounds and beta may be tensors.

    Gradient sigmoid(beta (x - min)) - sigmoid(beta (x - max)): it falls off as exp(-beta d) at the distance d outside. With leak,
    leak * (softplus(x - max) - softplus(min - x)) is added, whose slope goes to leak there. Value and gradient are computed from the nearer
    bound, where the one formula cancels. Infinities give the bounds and no gradient, NaN gives NaN. Raises InvalidValueError for min > max
    and
    beta <= 0.
    """
    check_bounds(min, max)
    check_positive("beta", beta)
    dtype = _result_dtype(x, min, max, beta)
    work = _work_dtype(dtype)
    x, lo, hi = _operands(work, x, min, max)
    b: Number = beta.to(work) if isinstance(beta, Tensor) else beta
    up = x >= lo + (hi - lo) / 2
    near_, far_ = torch.where(up, hi - x, x - lo), torch.where(up, lo - x, x - hi)
    s = _softplus(near_, b) - _softplus(far_, b)
    out = torch.where(up, hi - s, lo + s)
    if leak:
        out = out + leak * (_softplus(x - hi, b) - _softplus(lo - x, b))
    return _rounded(out, dtype)


def soft_near(
    a: Number,
    b: Number,
    *,
    rel_tol: float | None = None,
    abs_tol: float | None = None,
    temperature: float | None = None,
    normalized: bool = False,
    detach_tol: bool = False,
) -> Tensor:
    """sigmoid((tol - |a - b|) / temperature), tol = max(rel_tol * max(|a|, |b|), abs_tol): how near, from 0 to 1, 0.5 at the tolerance's
    edge.

    temperature None is tol / 4, which gives 0.982 at equality; with `normalized` equality gives 1. Equal infinities count as equal, one
    infinity gives 0, NaN gives NaN; all without gradient. With detach_tol the tolerance counts as constant, so that an optimiser cannot
    enlarge |a| to widen it. Tolerances as in `near`.
    """
    if temperature is not None:
        check_positive("temperature", temperature)
    dtype = _result_dtype(a, b)
    t = _tolerance(rel_tol, abs_tol, a, b)
    x, y = _operands(_work_dtype(dtype), a, b)
    finite = torch.isfinite(x - y)  # false where the difference overflows too: there the answer is 0
    p, q = torch.where(finite, x, 0), torch.where(finite, y, 0)
    distance = (p - q).abs()
    edge = torch.maximum(p.abs(), q.abs())
    edge = (edge.detach() if detach_tol else edge) * t.rel_tol
    edge = edge.clamp(min=t.abs_tol) if not math.isnan(t.abs_tol) else edge
    if temperature is None:
        flat = (edge <= 0) | (distance == 0)
        share = torch.where(flat, torch.where(distance == 0, 0, math.inf).to(p.dtype), distance / torch.where(edge <= 0, 1, edge))
        s = torch.sigmoid(4 - 4 * share)
        full: Number = 1 / (1 + math.exp(-4.0))
    else:
        s = torch.sigmoid((edge - distance) / temperature)
        full = torch.sigmoid(edge / temperature)
    if normalized:
        s = s / full
    top = 1.0 if normalized or temperature is not None else 1 / (1 + math.exp(-4.0))
    apart = torch.where(x == y, top, torch.where((x != x) | (y != y), (x + y).detach(), 0))
    return _rounded(torch.where(finite, s, apart), dtype)


class _Tanh(torch.autograd.Function):
    """tanh whose slope is sech(u)^2 from exp(-2|u|): 1 - tanh(u)^2 is 0 long before the true slope is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return u.tanh()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        e = torch.exp(-2 * ctx.saved_tensors[0].abs())
        return g * (4 * e / (1 + e) ** 2)


def soft_compare(a: Number, b: Number, temperature: float = 1.0) -> Tensor:
    """tanh((a - b) / temperature): -1 for a far below b, 0 at equality, 1 far above. Equal infinities give 0 and no gradient."""
    check_positive("temperature", temperature)
    dtype = _result_dtype(a, b)
    x, y = _operands(_work_dtype(dtype), a, b)
    difference = torch.where((x == y) & torch.isinf(x), 0, x - y)
    return _rounded(_Tanh.apply(difference / temperature), dtype)


# Units in the last place. No gradients.
_NAN_ULPS = torch.iinfo(torch.int64).max
_CODES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _beyond(dtype: torch.dtype) -> int:
    """The code after the largest value: infinity, or the NaN of float8_e4m3fn."""
    f = FORMATS[name_of(dtype)]
    return (1 << (dtype.itemsize * 8 - 1)) - ((1 << (f.digits - 1)) if f.has_infinity else 1)


def _ordered(x: Tensor) -> Tensor:
    """The position of each value among those of its dtype: 0 for both zeros, 1 for the smallest positive one."""
    code = x.detach().contiguous().view(_CODES[x.dtype.itemsize]).to(torch.int64)
    return torch.where(code < 0, -(code & ((1 << (x.dtype.itemsize * 8 - 1)) - 1)), code)


def _from_ordered(p: Tensor, dtype: torch.dtype) -> Tensor:
    bits = dtype.itemsize * 8
    size = p.abs().clamp(max=_beyond(dtype))
    negative = size - 2**63 if bits == 64 else size - (1 << (bits - 1))  # the sign bit, in two's complement
    return torch.where(p < 0, negative, size).to(_CODES[dtype.itemsize]).view(dtype)


def _values(*values: Number) -> tuple[torch.dtype, list[Tensor]]:
    dtype = _result_dtype(*values)
    return dtype, _operands(dtype, *values)


def ulp_next(x: Tensor) -> Tensor:
    """The next larger value of the dtype of x. Infinity and NaN stay; after the largest negative value comes -0."""
    dtype, (v,) = _values(x)
    w, p = v.to(_work_dtype(dtype)), _ordered(v) + 1
    up = _from_ordered(p, dtype)
    up = (
        torch.where(p == 0, torch.full_like(v, -0.0), up)
        if dtype not in _EIGHT
        else _select(p == 0, torch.full_like(v, 0).view(torch.int8) - 128, up)
    )
    return _select((w != w) | (w == math.inf), v, up)


def _select(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """torch.where, for 8-bit floats too."""
    if b.dtype not in _EIGHT:
        return torch.where(condition, a, b)
    return torch.where(condition, a.view(torch.int8), b.view(torch.int8)).view(b.dtype)


def ulp_prev(x: Tensor) -> Tensor:
    """The next smaller value of the dtype of x: the mirror of `ulp_next`."""
    dtype, (v,) = _values(x)
    w = v.to(_work_dtype(dtype))
    return _select((w != w) | (w == -math.inf), v, _from_ordered(_ordered(v) - 1, dtype))


def ulp_of(x: Tensor) -> Tensor:
    """The distance to the next larger value, in the dtype of x; infinity for the largest and for infinities, NaN for NaN."""
    dtype, (v,) = _values(x)
    w = v.detach().to(torch.float64)
    step = ulp_next(v.detach()).to(torch.float64) - w
    return torch.where(torch.isinf(w), math.inf, step).to(dtype)


def ulp_diff(a: Number, b: Number) -> Tensor:
    """How many values lie between a and b, plus one; 0 where they are equal, counted across zero. The largest int64 for NaN and where the
    count
    does not fit; an infinity is one step beyond the largest value. Two dtypes count as their common one."""
    dtype, (x, y) = _values(a, b)
    p, q = _ordered(x), _ordered(y)
    d = (p - q).abs()
    too_far = (d < 0) | ((p < 0) != (q < 0)) & (p.to(torch.float64).abs() + q.to(torch.float64).abs() >= 2.0**63)
    v, w = x.to(_work_dtype(dtype)), y.to(_work_dtype(dtype))
    return torch.where(too_far | (v != v) | (w != w), _NAN_ULPS, d)


def ulp_within(a: Number, b: Number, *, max_ulps: int = 4) -> Tensor:
    """Where a == b, or both are finite and at most max_ulps steps apart."""
    dtype, (x, y) = _values(a, b)
    v, w = x.to(_work_dtype(dtype)), y.to(_work_dtype(dtype))
    return (v == w) | (torch.isfinite(v) & torch.isfinite(w) & (ulp_diff(x, y) <= max_ulps))
