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
from ._names import FUNCTIONS, SNAP

_MODULES = ("scalar", "numpy", "torch", "jax", "numba")
_WRAPPED = ("div_safe", "log_safe", "pow_safe", "rsqrt_safe", "sanitize", "sqrt_safe", *SNAP)
# What belongs here and is a function of `keel`: rows of `keel.registry()`, debug mode, and what casts to narrower floats do.
_DEBUG = ("debug_mode", "is_debug_mode", "set_debug_mode")
_OPS = (*_DEBUG, "analyze_precision", "precision_profile", *(f for f in FUNCTIONS if f not in _WRAPPED))

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
