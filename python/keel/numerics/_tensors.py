"""The functions of keel.numerics for Keel's tensors that are no rows by themselves, or whose rows have other argument names."""

from __future__ import annotations

import importlib
import math
from typing import Any

from ._errors import InvalidValueError, check_zero_tol
from ._formats import FORMATS, name_of, tolerances

Tensor = Any  # keel.Tensor, a number, or what keel.tensor takes


def _given(default: float | None) -> float:
    return math.nan if default is None else default


def div_safe(a: Tensor, b: Tensor, *, default: Tensor | None = None, zero_tol: float | str = 0.0, saturate: bool = False) -> Tensor:
    """a / b, or `default` (a number, or a tensor of one for each element; NaN where not given) where |b| <= zero_tol: `keel.div_safe`.

    zero_tol "auto" is the smallest normal number of the dtype that computes.
    """
    keel = importlib.import_module("keel")

    if isinstance(zero_tol, str):
        if zero_tol != "auto":
            raise InvalidValueError(f"zero_tol must be a number or 'auto', got {zero_tol!r}", zero_tol)
        wide = any(getattr(x, "dtype", None) == keel.float64 for x in (a, b))
        zero_tol = FORMATS["float64" if wide else "float32"].min_normal
    check_zero_tol(zero_tol)
    if isinstance(default, keel.Tensor):
        return keel.div_safe(a, b, default, zero_tol=zero_tol, saturate=saturate)
    return keel.div_safe(a, b, otherwise=_given(default), zero_tol=zero_tol, saturate=saturate)


def sqrt_safe(x: Tensor, *, default: float | None = None) -> Tensor:
    """The square root; `default` (NaN where not given) for x < 0: `keel.sqrt_safe`."""
    keel = importlib.import_module("keel")

    return keel.sqrt_safe(x, otherwise=_given(default))


def rsqrt_safe(x: Tensor, *, default: float | None = None) -> Tensor:
    """1 / sqrt(x); `default` (NaN where not given) for x <= 0: `keel.rsqrt_safe`."""
    keel = importlib.import_module("keel")

    return keel.rsqrt_safe(x, otherwise=_given(default))


def log_safe(x: Tensor, *, base: float | None = None, default: float | None = None) -> Tensor:
    """The logarithm to `base` (e if not given); `default` (NaN where not given) for x <= 0: `keel.log_safe`."""
    keel = importlib.import_module("keel")

    return keel.log_safe(x, base=math.e if base is None else base, otherwise=_given(default))


def pow_safe(base: Tensor, exp: Tensor, *, default: float | None = None) -> Tensor:
    """base to the power of exp; `default` (NaN where not given) where there is no finite real result: `keel.pow_safe`."""
    keel = importlib.import_module("keel")

    return keel.pow_safe(base, exp, otherwise=_given(default))


def sanitize(x: Tensor, *, nan_value: float = 0.0, inf_value: float | str | None = None, neginf_value: float | None = None) -> Tensor:
    """x with `nan_value` for NaN and, for infinities, ±the largest number of the dtype, or ±inf_value, or themselves where that is
    "keep": `keel.sanitize`."""
    keel = importlib.import_module("keel")

    if isinstance(inf_value, str):
        if inf_value != "keep":
            raise InvalidValueError(f"inf_value must be a number or 'keep', got {inf_value!r}", inf_value)
        return keel.sanitize(x, nan_value=nan_value, keep=True)
    return keel.sanitize(x, nan_value=nan_value, inf_value=_given(inf_value), neginf_value=_given(neginf_value))


def to_zero(x: Tensor, *, abs_tol: float | None = None, grad: str = "exact") -> Tensor:
    """+0 where |x| <= abs_tol (that of the dtype where not given), else x: `keel.clamp_to_zero`."""
    return importlib.import_module("keel").clamp_to_zero(x, abs_tol=abs_tol, grad=grad)


def to_int(x: Tensor, *, abs_tol: float | None = None, grad: str = "exact") -> Tensor:
    """The nearest integer, ties to even, where x lies within abs_tol of it (that of the dtype where not given), else x; the dtype stays.

    Gradient 0 where x became an integer and that of the result elsewhere; with grad "ste" (straight through) everywhere.
    """
    keel = importlib.import_module("keel")

    if grad not in ("exact", "ste"):
        raise InvalidValueError(f"grad must be 'exact' or 'ste', got {grad!r}", grad)
    x = x if isinstance(x, keel.Tensor) else keel.tensor(x)
    if name_of(x.dtype) not in FORMATS:
        return x.clone()
    tol = tolerances(x.dtype).abs_tol if abs_tol is None else abs_tol
    v = x.detach().to(keel.float64 if x.dtype == keel.float64 else keel.float32)  # where neither the distance nor the tolerance is rounded
    whole = keel.round(v)
    zone = keel.logical_and(keel.abs(v - whole) <= tol, keel.isfinite(v))
    if grad == "exact":
        return keel.where(zone, (whole + 0.0).to(x.dtype), x)
    return x + keel.where(zone, whole - v, 0.0).to(x.dtype)


def to_range(x: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """max(lo, min(x, hi)) as Python has them: bounds in the wrong order give lo, NaN as lo gives NaN, NaN as hi is no bound, NaN as x
    passes."""
    keel = importlib.import_module("keel")

    x = x if isinstance(x, keel.Tensor) else keel.tensor(x)
    cut = keel.where(hi < x, hi, x)
    return keel.where(keel.isnan(x), x, keel.where(lo < cut, cut, lo))
