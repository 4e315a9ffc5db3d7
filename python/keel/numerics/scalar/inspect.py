"""Reports for people: what is wrong with a number, a comparison, a division, a list of numbers; what a cast to a narrower type would do.

The texts may change between versions, the conditions do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .._errors import InvalidValueError
from .._formats import FORMATS, Format, rounded
from . import compare, safe, ulp

TARGETS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2"}
_MIN_NORMAL = 2.0**-1022
_DIV_HINT = "\nTry: keel.numerics.scalar.safe.div with an answer for this case"
_RESCALE = "Rescale, or take a type with a wider range"


def _text(x: float) -> str:
    return repr(float(x)).removesuffix(".0")


def _share(part: int, total: int) -> str:
    return f"{part} of {total}" + (f" ({100 * part / total:.3g} %)" if total else "")


def check(x: float) -> str | None:
    """What is wrong with x: NaN, an infinity, or a subnormal value; None where all is well, also for zeros and ints.

    A literal below the smallest subnormal, such as 1e-400, is 0 before any function can see it.
    """
    if isinstance(x, int):
        return None
    if math.isnan(x):
        return "Value is NaN: look for 0/0, inf - inf, or a root or logarithm of a negative number"
    if math.isinf(x):
        return f"Value is {'-' if x < 0 else '+'}inf: look for an overflow or a division by zero"
    if 0 < abs(x) < _MIN_NORMAL:
        return f"Value {_text(x)} is subnormal: it has fewer significant digits than its type"
    return None


@dataclass
class AnalysisReport:
    """What `analyze` counts: normal + denormal + zero + nan + inf = total. `precision_risk` is "HIGH" with a NaN or an infinity, "MEDIUM"
    with more than 5 % denormal, else "LOW"."""

    total: int = 0
    normal: int = 0
    denormal: int = 0
    zero: int = 0
    nan: int = 0
    inf: int = 0
    precision_risk: str = "LOW"
    issues: list[str] = field(default_factory=list)
    recommendations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.total} values, precision risk {self.precision_risk}"]
        lines += [f"  {name}: {_share(getattr(self, name), self.total)}" for name in ("normal", "denormal", "zero", "nan", "inf")]
        lines += [f"  issue: {s}" for s in self.issues] + [f"  try: {s}" for s in self.recommendations]
        return "\n".join(lines) + "\n"


def analyze(values: Iterable[float]) -> AnalysisReport:
    """Counts normal, denormal, zero, NaN and infinite values and says what to do about them. An empty list is at low risk."""
    r = AnalysisReport()
    for v in values:
        x = float(v)
        r.total += 1
        if math.isnan(x):
            r.nan += 1
        elif math.isinf(x):
            r.inf += 1
        elif x == 0:
            r.zero += 1
        elif abs(x) < _MIN_NORMAL:
            r.denormal += 1
        else:
            r.normal += 1
    many = r.denormal * 20 > r.total
    r.precision_risk = "HIGH" if r.nan + r.inf else "MEDIUM" if many else "LOW"
    if r.nan:
        r.issues.append(f"NaN: {_share(r.nan, r.total)}")
        r.recommendations.append("find the operation that makes NaN: a division by zero, a root or logarithm of a negative number")
    if r.inf:
        r.issues.append(f"infinite: {_share(r.inf, r.total)}")
        r.recommendations.append("rescale, or divide with keel.numerics.scalar.safe.div")
    if many:
        r.issues.append(f"denormal: {_share(r.denormal, r.total)}")
        r.recommendations.append("rescale, or set them to zero with keel.numerics.scalar.clamp.to_zero")
    return r


def check_many(values: Iterable[float]) -> str:
    """One line: what `analyze` found."""
    r = analyze(values)
    found = ", ".join(f"{n} {name}" for name, n in (("NaN", r.nan), ("infinite", r.inf), ("denormal", r.denormal)) if n)
    if not found:
        return f"All {r.total} values are normal or zero: no issues"
    return f"Found {found} of {r.total}: precision risk {r.precision_risk}"


def compare_debug(a: float, b: float) -> str:
    """How far a and b lie apart, absolutely, as a share of the larger magnitude and in ULPs, and whether `compare.near` takes them for
    equal."""
    if a == b:
        return "Values are exactly equal"
    x, y = float(a), float(b)
    distance = abs(x - y)
    size = math.nan if x != x or y != y else max(abs(x), abs(y))
    s = f"Values differ by {distance:.10g} ({100 * (distance / size):.10g} %)\n"
    if not (math.isfinite(x) and math.isfinite(y)):
        return s + "ULP distance: none (a value is NaN or infinite)\nThey are not near: this is no rounding error"
    s += f"ULP distance: {ulp.diff(x, y)}\n"
    if compare.near(x, y):
        return s + "They are near: compare them with keel.numerics.scalar.compare.near and its default tolerances"
    return s + "They are not near with the default tolerances: this is more than rounding"


def div_debug(a: float, b: float) -> str:
    """What is wrong with a / b: a denominator that is zero, NaN, infinite or subnormal, else a result that is."""
    if b == 0:
        return "Division by zero" + _DIV_HINT
    issue = check(float(b))
    if issue:
        return f"Denominator: {issue}{_DIV_HINT}"
    result = safe.div(a, b)
    issue = check(result) if result is not None else None
    return f"Result: {issue}{_DIV_HINT}" if issue else "The division is safe: no issues"


def precision_loss(got: float, expected: float) -> str | None:
    """A report where `got` differs from `expected` by rounding: by more than nothing and at most 1 % of |expected|, or where `got` is NaN.

    None where they are equal, further apart (a wrong result, not a rounding one) or where `expected` is 0.
    """
    if got == expected or expected == 0:
        return None
    p, q = float(got), float(expected)
    finite = math.isfinite(p) and math.isfinite(q)
    error = abs(p / q - 1) if finite else math.nan
    if not (error <= 0.01 if finite else p != p):
        return None
    s = f"Precision loss\n  expected: {_text(q)}\n  got:      {_text(p)}\n"
    if finite:
        s += f"  error:    {error:.3g} ({ulp.diff(p, q)} ULP)\n"
    return s + "  try:      keel.numerics.scalar.safe.sum_exact, or another order of the operations"


class Limits(NamedTuple):
    """The borders of a target: largest value; smallest magnitude that a cast without saturation takes beyond it; smallest value with all
    digits; smallest value."""

    max: float
    overflow_from: float
    min_normal: float
    min_subnormal: float


def _format(target: str) -> Format:
    if target not in TARGETS:
        raise InvalidValueError(f"Unknown dtype. Valid options: {', '.join(TARGETS)}", target)
    return FORMATS[TARGETS[target]]


def limits_of(target: str) -> Limits:
    """The borders of a target: "fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2".

    Source: IEEE 754, OCP 8-bit Floating Point Specification 1.0.
    """
    f = _format(target)
    half = f.max + math.ldexp(1, f.max_exponent - f.digits)
    return Limits(f.max, half if math.isinf(rounded(half, f)) else ulp.next(half), f.min_normal, f.min_subnormal)


def issue_for_dtype(x: float, target: str) -> tuple[str | None, bool]:
    """What a rounding cast of x does in the target: "overflow", "underflow" (a nonzero value becomes zero), "invalid" (NaN, infinities) or
    None; and whether the result is subnormal. Saturating 8-bit casts would give the largest value where this says overflow."""
    f = _format(target)
    v = float(x)
    if not math.isfinite(v):
        return "invalid", False
    there = rounded(v, f)
    if math.isinf(there):
        return "overflow", False
    if there == 0:
        return (None if v == 0 else "underflow"), False
    return None, abs(there) < f.min_normal


@dataclass
class SafetyCheck:
    """`subnormal`: safe, but kept with fewer digits than the target has."""

    safe: bool
    issue: str | None
    message: str
    recommendation: str | None = None
    subnormal: bool = False


def safe_for_dtype(x: float, target: str) -> SafetyCheck:
    """`issue_for_dtype` with words."""
    issue, subnormal = issue_for_dtype(x, target)
    value, limits = f"Value {_text(x)}", limits_of(target)
    if issue == "invalid":
        return SafetyCheck(False, issue, f"{value} is no number that a cast could keep", "Remove NaN and infinities before the cast")
    if issue == "overflow":
        return SafetyCheck(False, issue, f"{value} overflows {target} (largest: {limits.max:.6g})", _RESCALE)
    if issue == "underflow":
        return SafetyCheck(False, issue, f"{value} becomes 0 in {target} (smallest: {limits.min_subnormal:.6g})", _RESCALE)
    if subnormal:
        text = f"{value} is subnormal in {target} (smallest with all digits: {limits.min_normal:.6g})"
        return SafetyCheck(True, None, text, "Rescale to keep all digits", True)
    return SafetyCheck(True, None, f"{value} is safe in {target}")


@dataclass
class DTypeReport:
    """Counts of `issue_for_dtype`: safe + overflow + underflow + invalid = total; `subnormal` and `zero` are among `safe`."""

    total: int = 0
    safe: int = 0
    overflow: int = 0
    underflow: int = 0
    invalid: int = 0
    subnormal: int = 0
    zero: int = 0
    recommendation: str = ""


def analyze_for_dtype(values: Iterable[float], target: str) -> DTypeReport:
    """What a cast of all values to the target would do."""
    r = DTypeReport()
    _format(target)
    for x in values:
        issue, subnormal = issue_for_dtype(x, target)
        r.total += 1
        r.subnormal += subnormal
        r.zero += x == 0
        name = issue or "safe"
        setattr(r, name, getattr(r, name) + 1)
    for count, text in (
        (r.invalid, "are NaN or infinite: remove them before the cast"),
        (r.overflow, f"overflow {target}: scale them down or take a wider range"),
        (r.underflow, f"become 0 in {target}: scale them up or take a wider range"),
        (r.subnormal, f"are subnormal in {target}: scale them up to keep all digits"),
    ):
        if count:
            r.recommendation = f"{_share(count, r.total)} {text}"
            return r
    r.recommendation = f"All values are safe in {target}"
    return r


@dataclass
class DTypeComparison:
    """`best` is the first that fits of fp8_e4m3, fp8_e5m2, bf16, fp16, fp32."""

    results: dict[str, DTypeReport]
    best: str | None
    recommendation: str


def compare_dtypes(values: Iterable[float], targets: Sequence[str] = tuple(TARGETS)) -> DTypeComparison:
    """`analyze_for_dtype` for several targets. A target fits where no value overflows or is invalid and less than 1 % of the nonzero values
    become zero."""
    all_ = list(values)
    results = {t: analyze_for_dtype(all_, t) for t in targets}
    best = None
    for t in ("fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32"):
        r = results.get(t)
        if r and r.overflow + r.invalid == 0 and (r.underflow == 0 or r.underflow * 100 < r.total - r.zero):
            best = t
            break
    return DTypeComparison(results, best, f"Use {best}" if best else "None of them fits: rescale the values first")
