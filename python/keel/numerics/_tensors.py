"""The functions of keel.numerics for Keel's tensors whose ops have other argument names than the forms for others' arrays."""

from __future__ import annotations

import importlib
import math
from typing import Any

from ._errors import InvalidValueError, check_zero_tol
from ._formats import FORMATS

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
