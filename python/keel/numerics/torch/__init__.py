"""The numerical safety functions on PyTorch's tensors, and a monitor for PyTorch's models.

All are differentiable as the mathematics has it (no NaN gradient where a default stands), work on any device, without waiting for it, under
`torch.compile(fullgraph=True)` and `torch.func.vmap` and `grad`, and twice. Dtypes smaller than float32 compute in float32 and round once.
Python numbers take the dtype of the tensors; errors come from numbers only, never from what a tensor holds.
"""

from __future__ import annotations

from .._errors import missing
from .._formats import tolerances

try:
    import torch as _torch  # noqa: F401
except ImportError as e:
    raise missing("PyTorch", "torch", e) from None

from ._functions import (
    all_near,
    any_near,
    clamp_safe,
    clamp_to_zero,
    count_near,
    div_safe,
    fraction_near,
    log_safe,
    near,
    near_zero,
    pow_safe,
    rsqrt_safe,
    sanitize,
    soft_clamp,
    soft_compare,
    soft_near,
    soft_relu,
    sqrt_safe,
    to_int,
    to_range,
    to_zero,
    ulp_diff,
    ulp_next,
    ulp_of,
    ulp_prev,
    ulp_within,
)
from ._monitor import Finding, InstabilityError, Monitor, monitor

__all__ = [
    "Finding",
    "InstabilityError",
    "Monitor",
    "monitor",
    "all_near",
    "any_near",
    "clamp_safe",
    "clamp_to_zero",
    "count_near",
    "div_safe",
    "fraction_near",
    "log_safe",
    "near",
    "near_zero",
    "pow_safe",
    "rsqrt_safe",
    "sanitize",
    "soft_clamp",
    "soft_compare",
    "soft_near",
    "soft_relu",
    "sqrt_safe",
    "to_int",
    "to_range",
    "to_zero",
    "tolerances",
    "ulp_diff",
    "ulp_next",
    "ulp_of",
    "ulp_prev",
    "ulp_within",
]
