"""Keel: tensors, ops and gradients on the CPU.

Every op is a function here and a method of Tensor; names, defaults and docs come from the op's row (`keel.registry()`).
"""
# `X as X` makes X public to type checkers.
from . import _errors, _keel, numerics as numerics
from ._errors import (
    AutogradError as AutogradError, DeviceError as DeviceError, DTypeError as DTypeError, Error as Error, IndexError as IndexError,
    InternalError as InternalError, InterruptedError as InterruptedError, IOError as IOError, NumericalError as NumericalError,
    OutOfMemory as OutOfMemory, ShapeError as ShapeError, UnsupportedError as UnsupportedError, ValueError as ValueError,
)
from ._functions import debug_mode as debug_mode, enable_grad as enable_grad, no_grad as no_grad
from ._keel import *
from ._lint import LintFinding as LintFinding, Suggestion as Suggestion, lint as lint
from ._precision import (
    PrecisionProfile as PrecisionProfile, PrecisionReport as PrecisionReport, analyze_precision as analyze_precision,
    precision_profile as precision_profile,
)
from ._random import rand as rand, randn as randn, randn_like as randn_like

_keel._set_errors(_errors.BY_CODE)
__version__ = _keel.version()
newaxis = None
