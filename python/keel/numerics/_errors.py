"""The exceptions of the numerical functions. Each is a ValueError too, so that code which knows nothing of them can catch it."""

from __future__ import annotations

from collections.abc import Sized


class NumericsError(Exception):
    """Base of what the numerical functions raise."""


NeonError = NumericsError
"""The name that the scalar core's first version gave it."""


class InvalidValueError(NumericsError, ValueError):
    """An argument for which the function has no answer; `value` is that argument where there is one."""

    def __init__(self, message: str, value: object = None) -> None:
        super().__init__(message)
        self.value = value


class EmptyInputError(NumericsError, ValueError):
    """No values, where at least one is needed."""

    def __init__(self, message: str = "Cannot operate on empty values") -> None:
        super().__init__(message)


class SumOverflowError(InvalidValueError, OverflowError):
    """A sum that is too large for its type."""


def check_lengths(a: Sized, a_name: str, b: Sized, b_name: str) -> None:
    if len(a) != len(b):
        raise InvalidValueError(f"Input sequences must have equal length (got {len(a)} for {a_name} and {len(b)} for {b_name})")


def check_zero_tol(zero_tol: float) -> None:
    if not zero_tol >= 0:
        raise InvalidValueError(f"zero_tol must be non-negative, got {zero_tol}", zero_tol)


def check_bounds(lo: object, hi: object) -> None:
    """For bounds that are plain numbers."""
    if isinstance(lo, (int, float)) and isinstance(hi, (int, float)) and lo > hi:
        raise InvalidValueError(f"lo must not be greater than hi, got {lo} and {hi}", lo)


def check_positive(name: str, value: object) -> None:
    """For a parameter that is a plain number."""
    if isinstance(value, (int, float)) and not value > 0:
        raise InvalidValueError(f"{name} must be positive, got {value}", value)


def missing(package: str, extra: str, error: ImportError) -> ImportError:
    """What to raise where `package` cannot be imported."""
    return ImportError(f"keel.numerics.{extra} needs {package}: pip install 'keel-dl[{extra}]'", name=error.name, path=error.path)
