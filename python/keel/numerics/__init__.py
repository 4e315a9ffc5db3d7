"""Arithmetic that cannot surprise: safe division and friends, comparisons with a tolerance, soft logic, distances in ULPs.

The functions of this module take Keel's tensors. The same ones for others' arrays, each in a module that is imported when it is first used:

- `keel.numerics.scalar`: Python numbers, with nothing but the standard library
- `keel.numerics.numpy`, `.torch`, `.jax`, `.numba`: the arrays of those libraries; pip install 'keel-dl[torch]' and so on
"""

from __future__ import annotations

import importlib
from typing import Any

from ._errors import EmptyInputError, InvalidValueError, NeonError, NumericsError, SumOverflowError
from ._formats import Tolerance, tolerances

_MODULES = ("scalar", "numpy", "torch", "jax", "numba")
# What belongs here and is a function of `keel`: rows of `keel.registry()`, and debug mode.
_OPS = (
    "all_near",
    "any_near",
    "clamp_safe",
    "clamp_to_zero",
    "count_near",
    "debug_mode",
    "fraction_near",
    "is_debug_mode",
    "near",
    "near_zero",
    "norm_safe",
    "normalize_safe",
    "set_debug_mode",
    "soft_clamp",
    "soft_compare",
    "soft_near",
    "soft_relu",
    "softmax_safe",
    "ulp_diff",
    "ulp_next",
    "ulp_of",
    "ulp_prev",
    "ulp_within",
)
_WRAPPED = ("div_safe", "log_safe", "pow_safe", "rsqrt_safe", "sanitize", "sqrt_safe")

__all__ = ["EmptyInputError", "InvalidValueError", "NeonError", "NumericsError", "SumOverflowError", "Tolerance", "tolerances", *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _WRAPPED:
        return getattr(importlib.import_module(f"{__name__}._tensors"), name)
    if name in _OPS:
        import keel

        return getattr(keel, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_OPS, *_WRAPPED])
