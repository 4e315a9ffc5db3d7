"""Comparing, snapping, dividing and inspecting single Python numbers so that nothing surprises.

The Python form of C++'s `keel/numerics.h`: modules `compare`, `clamp`, `safe`, `ulp`, `inspect`, and the most used functions under short
names. Numbers are floats and ints; results are floats. Nothing here needs more than the standard library.
"""

from __future__ import annotations

from .._errors import EmptyInputError, InvalidValueError, NeonError, NumericsError, SumOverflowError
from . import clamp, compare, inspect, safe, ulp
from .clamp import to_int, to_range, to_zero
from .compare import is_integer, near, near_zero
from .safe import div, sqrt, sum_exact
from .ulp import diff as ulp_diff
from .ulp import of as ulp_of
from .ulp import within as ulp_within

__all__ = [
    "EmptyInputError",
    "InvalidValueError",
    "NeonError",
    "NumericsError",
    "SumOverflowError",
    "clamp",
    "compare",
    "div",
    "inspect",
    "is_integer",
    "near",
    "near_zero",
    "safe",
    "sqrt",
    "sum_exact",
    "to_int",
    "to_range",
    "to_zero",
    "ulp",
    "ulp_diff",
    "ulp_of",
    "ulp_within",
]
