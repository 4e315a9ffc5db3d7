"""The names of the functions, in one place: what each form's module exports is made of these tuples, and the tests go through them."""

from __future__ import annotations

SAFE = ("clamp_safe", "clamp_to_zero", "div_safe", "log_safe", "pow_safe", "rsqrt_safe", "sanitize", "sqrt_safe")
SNAP = ("to_int", "to_range", "to_zero")
NEAR = ("all_near", "any_near", "count_near", "fraction_near", "near", "near_zero")
SOFT = ("soft_clamp", "soft_compare", "soft_near", "soft_relu")
ULPS = ("ulp_diff", "ulp_next", "ulp_of", "ulp_prev", "ulp_within")
ROWS = ("norm_safe", "normalize_safe", "softmax_safe")
"""Functions of whole rows along an axis."""

ELEMENTS = (*SAFE, *SNAP, *NEAR, *SOFT, *ULPS)
FUNCTIONS = (*ELEMENTS, *ROWS)
EXPORTS = ("tolerances", *FUNCTIONS)
