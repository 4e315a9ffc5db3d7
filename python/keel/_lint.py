"""What is wrong with a program as it is put together."""
from dataclasses import dataclass

from . import _keel


@dataclass(frozen=True)
class Suggestion:
    """What to do: `kind` ("epsilon", "dtype", "stable_op", ...; "" for none), the number that goes with it, and a sentence."""

    kind: str
    value: float
    text: str


@dataclass(frozen=True)
class LintFinding:
    """What `lint` found at one op. `severity`: "warning" is wrong as it stands, "info" breaks for inputs that may come. `rule`: see
    docs/numerics/detectors.md. `op` is to blame, at `path` among modules; `site` is the native function that called it. `value`: the number
    that it is about, where there is one; `count`: calls at this place."""

    severity: str
    rule: str
    op: str
    path: str
    site: str
    phase: str
    text: str
    value: float
    suggestion: Suggestion
    count: int

    def __str__(self) -> str:
        where = f"{self.op} in {self.path}" if self.path else self.op
        advice = f"; to do: {self.suggestion.text}" if self.suggestion.text else ""
        return f"{self.severity}: {self.rule} at {where}: {self.text}{advice}"


def lint(f) -> list[LintFinding]:
    """Runs `f()` once, as usual, while its ops are recorded, and judges them by how they are put together: logarithms of softmax, roots and
    quotients of what may be 0, exponentials that nothing bounds, numbers that their dtype rounds to 0 or infinity. No value is looked at.

    One entry a place and rule, in order of appearance; what the backward pass does is not judged. UnsupportedError inside another
    recording, and for an op whose result's shape depends on data; what f raises comes through.

    >>> x = keel.randn((4, 8))
    >>> [f.rule for f in lint(lambda: keel.log(keel.softmax(x)))]
    ['log of softmax']
    """
    return [LintFinding(*x[:8], Suggestion(*x[8]), x[9]) for x in _keel._lint(f)]
