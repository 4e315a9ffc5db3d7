"""The numerical safety functions on PyTorch's tensors, and a monitor, a lint and a precision profile for PyTorch's models.

All are differentiable as the mathematics has it (no NaN gradient where a default stands), work on any device, without waiting for it, under
`torch.compile(fullgraph=True)` and `torch.func.vmap` and `grad`, and twice. Dtypes smaller than float32 compute in float32 and round once.
Python numbers take the dtype of the tensors; errors come from numbers only, never from what a tensor holds.
"""

from __future__ import annotations

from .._errors import missing
from .._formats import tolerances as tolerances
from .._names import EXPORTS

try:
    import torch as _torch  # noqa: F401
except ImportError as e:
    raise missing("PyTorch", "torch", e) from None

from ._finding import Finding as Finding
from ._finding import InstabilityError as InstabilityError
from ._functions import (
    all_near as all_near,
    any_near as any_near,
    clamp_safe as clamp_safe,
    clamp_to_zero as clamp_to_zero,
    count_near as count_near,
    div_safe as div_safe,
    fraction_near as fraction_near,
    log_safe as log_safe,
    near as near,
    near_zero as near_zero,
    pow_safe as pow_safe,
    rsqrt_safe as rsqrt_safe,
    sanitize as sanitize,
    soft_clamp as soft_clamp,
    soft_compare as soft_compare,
    soft_near as soft_near,
    soft_relu as soft_relu,
    sqrt_safe as sqrt_safe,
    to_int as to_int,
    to_range as to_range,
    to_zero as to_zero,
    ulp_diff as ulp_diff,
    ulp_next as ulp_next,
    ulp_of as ulp_of,
    ulp_prev as ulp_prev,
    ulp_within as ulp_within,
)
from ._lint import lint as lint
from ._monitor import Monitor as Monitor
from ._monitor import monitor as monitor
from ._profile import PrecisionProfile as PrecisionProfile
from ._profile import ProfileEntry as ProfileEntry
from ._profile import precision_profile as precision_profile
from ._rows import norm_safe as norm_safe
from ._rows import normalize_safe as normalize_safe
from ._rows import softmax_safe as softmax_safe

__all__ = ["Finding", "InstabilityError", "Monitor", "PrecisionProfile", "ProfileEntry", "lint", "monitor", "precision_profile", *EXPORTS]
