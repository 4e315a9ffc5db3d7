"""Facts of the six floating point formats, and the tolerances that follow from them. Names are NumPy's (and ml_dtypes')."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._errors import InvalidValueError


class Tolerance(NamedTuple):
    """How far two numbers may lie apart and still be near: |a - b| <= max(rel_tol * max(|a|, |b|), abs_tol)."""

    rel_tol: float
    abs_tol: float


class Format(NamedTuple):
    digits: int  # significant bits, the hidden one included
    max_exponent: int  # the largest values lie in [2^e, 2^(e+1))
    min_exponent: int  # of the smallest normal value
    has_infinity: bool
    max: float
    tolerance: Tolerance

    @property
    def min_normal(self) -> float:
        return 2.0**self.min_exponent

    @property
    def min_subnormal(self) -> float:
        return 2.0 ** (self.min_exponent - self.digits + 1)


FORMATS = {
    "float64": Format(53, 1023, -1022, True, 1.7976931348623157e308, Tolerance(1e-9, 1e-9)),
    "float32": Format(24, 127, -126, True, 2.0**127 * (2 - 2.0**-23), Tolerance(1e-6, 1e-7)),
    "float16": Format(11, 15, -14, True, 65504.0, Tolerance(1e-3, 1e-4)),
    "bfloat16": Format(8, 127, -126, True, 2.0**127 * (2 - 2.0**-7), Tolerance(1e-2, 1e-3)),
    "float8_e4m3fn": Format(4, 8, -6, False, 448.0, Tolerance(0.125, 0.0125)),
    "float8_e5m2": Format(3, 15, -14, True, 57344.0, Tolerance(0.25, 0.025)),
}
_SEED = {"float32": Tolerance(1e-9, 1e-9), "float8_e4m3fn": Tolerance(0.1, 0.01)}
_EXACT = Tolerance(0.0, 0.0)
_SHORT = {  # Keel's own names
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
}


def rounded(x: float, f: Format) -> float:
    """A finite x rounded to the format, ties to even; an infinity where that is beyond the largest value."""
    if x == 0:
        return x
    step = max(math.frexp(x)[1] - f.digits, f.min_exponent - f.digits + 1)
    y = math.ldexp(round(math.ldexp(x, -step)), step)
    return math.copysign(y if abs(y) <= f.max else math.inf, x)


def name_of(dtype: object) -> str:
    """NumPy's name of a dtype of any library: "float32" for np.float32, torch.float32, keel.float32, jnp.float32 or the name itself."""
    if isinstance(dtype, str):
        return dtype
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or repr(dtype)
    name = str(name).rpartition(".")[2].rstrip("_")
    return _SHORT.get(name, name)


def tolerances(*dtypes: object, profile: str = "keel") -> Tolerance:
    """The tolerances of a dtype, the looser of each for several; integers and bools are exact.

    Rule of profile "keel": rel_tol is at least the distance from 1 to its neighbour, so that neighbouring values are always near; abs_tol
    is a tenth of it below float64. Profile "seed" has the constants of the scalar core's plan, of which that of
    float32, 1e-9, means equality.

    >>> tolerances("float16")
    Tolerance(rel_tol=0.001, abs_tol=0.0001)
    """
    if profile not in ("keel", "seed"):
        raise InvalidValueError(f"profile must be 'keel' or 'seed', got {profile!r}", profile)
    found = _EXACT
    for dtype in dtypes:
        name = name_of(dtype)
        known = FORMATS.get(name)
        t = _EXACT if known is None else _SEED.get(name, known.tolerance) if profile == "seed" else known.tolerance
        found = Tolerance(max(found.rel_tol, t.rel_tol), max(found.abs_tol, t.abs_tol))
    return found
