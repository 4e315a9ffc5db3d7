"""What the monitor says."""

from __future__ import annotations

from dataclasses import dataclass

from .._errors import NumericsError


@dataclass
class Finding:
    """What went wrong or will. `severity` is "fault" or "warning", `detector` the rule, `path` the module, `phase` "forward", "backward" or
    "update"; `eta` the steps that are left if it goes on like this (-1: no such number)."""

    severity: str
    detector: str
    step: int
    path: str
    op: str
    phase: str
    message: str
    suggestion: str = ""
    eta: float = -1
    count: int = 1

    def __str__(self) -> str:
        where = f"{self.path or 'the program'} ({self.op}), {self.phase}, step {self.step}"
        text = f"{self.severity}: {self.detector} at {where}: {self.message}"
        return text + (f"; try: {self.suggestion}" if self.suggestion else "")


class InstabilityError(NumericsError, ArithmeticError):
    """Raised by a monitor that was told to; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding
