"""The exceptions of Keel. Each is also the built-in exception that fits, so that `except ValueError` works.

Attributes: `code` (the kind, as in "ShapeError"), `op` (the op that refused), `args_` (pairs of an argument's name and its text, as in "f32[2, 3]"), `message` (what is wrong), `hint` (what would
work), `path` (the modules that were running). `str(e)` is the whole report.
"""
import builtins


class Error(Exception):
    """Base of all exceptions of Keel."""

    code = op = message = hint = path = ""
    args_ = ()


class ShapeError(Error, builtins.ValueError):
    """Shapes that do not fit together."""


class DTypeError(Error, builtins.TypeError):
    """A dtype that an op does not take, or dtypes without a common one."""


class IndexError(Error, builtins.IndexError):
    """An index or axis out of range."""


class ValueError(Error, builtins.ValueError):
    """A parameter out of its range, an empty tensor."""


class DeviceError(Error, builtins.RuntimeError):
    """A device that is not there, or tensors on different devices."""


class AutogradError(Error, builtins.RuntimeError):
    """A gradient that cannot be taken."""


class IOError(Error, builtins.OSError):
    """A file that cannot be read or written."""

    def __str__(self):
        return str(self.args[0]) if self.args else ""


class OutOfMemory(Error, builtins.MemoryError):
    """No memory, or the limit was reached; the report lists the largest blocks."""


class UnsupportedError(Error, builtins.NotImplementedError):
    """Something that this build or device cannot do."""


class NumericalError(Error, builtins.ArithmeticError):
    """A result that is not a number where one was promised."""


class InterruptedError(Error, builtins.InterruptedError):
    """Stopped from outside."""


class InternalError(Error, builtins.RuntimeError):
    """A bug of Keel."""


BY_CODE = {c.__name__: c for c in Error.__subclasses__() if c is not OutOfMemory} | {"MemoryError": OutOfMemory}
