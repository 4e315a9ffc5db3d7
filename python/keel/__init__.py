"""Keel: tensors, ops and gradients on the CPU.

Every op is a function here and a method of Tensor; names, defaults and docs come from the op's row (`keel.registry()`).
"""
from . import _errors, _keel, numerics
from ._errors import (
    AutogradError, DeviceError, DTypeError, Error, IndexError, InternalError, InterruptedError, IOError, NumericalError, OutOfMemory, ShapeError, UnsupportedError,
    ValueError,
)
from ._functions import debug_mode, enable_grad, no_grad
from ._keel import *
from ._lint import LintFinding, Suggestion, lint
from ._precision import PrecisionProfile, PrecisionReport, analyze_precision, precision_profile
from ._random import rand, randn, randn_like

_keel._set_errors(_errors.BY_CODE)
__version__ = _keel.version()
newaxis = None
