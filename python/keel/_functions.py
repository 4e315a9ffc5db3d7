"""What reads better in Python than in C++: the grad mode as a context, the exchange with NumPy."""
import functools

import numpy as np

from . import _keel
from ._keel import Tensor


class _GradMode:
    _on = False

    def __enter__(self):
        self._before = _keel.grad_enabled()
        _keel.set_grad_enabled(self._on)
        return self

    def __exit__(self, *_):
        _keel.set_grad_enabled(self._before)

    def __call__(self, function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """A context, or a decorator, in which ops of this thread record no gradient."""


class enable_grad(_GradMode):
    """Gradients are recorded again, inside a no_grad too."""

    _on = True


class debug_mode:
    """A context in which an op that makes NaN or infinities raises NumericalError, and so does a safe op where it replaces a value.

    `debug_mode(False)` is quiet inside a loud one. `set_debug_mode(on)` does the same without a context.
    """

    def __init__(self, on: bool = True):
        self._on = on

    def __enter__(self):
        self._before = _keel.is_debug_mode()
        _keel.set_debug_mode(self._on)
        return self

    def __exit__(self, *_):
        _keel.set_debug_mode(self._before)


class _Window:
    """Tells NumPy where a tensor's elements lie, and keeps the tensor alive."""

    def __init__(self, t: Tensor, typestr: str):
        self._tensor = t
        itemsize = t.dtype.itemsize
        strides = tuple(s * itemsize for s in t.strides)
        self.__array_interface__ = {"version": 3, "shape": t.shape, "typestr": typestr, "data": (t._address, t.readonly or t.tracked), "strides": strides}


def _numpy_dtype(t: Tensor):
    """The NumPy dtype, and the one that stands for it in the array interface."""
    name = repr(t.dtype).removeprefix("keel.").removesuffix("_")
    if name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        bits = np.dtype("uint16" if name == "bfloat16" else "uint8")
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError(f"NumPy has no {name}; install ml_dtypes, or cast with x.float()") from None
        return np.dtype(getattr(ml_dtypes, name)), bits
    d = np.dtype(name)
    return d, d


def array_of(self: Tensor, dtype=None, copy: bool | None = None) -> np.ndarray:
    """A NumPy array on the same memory. Read-only where the tensor is, or where gradients flow through it."""
    own, bits = _numpy_dtype(self)
    if self.size == 0:
        a = np.empty(self.shape, bits)
    else:
        a = np.asarray(_Window(self, bits.str))
    if own != bits:
        a = a.view(own)
    if dtype is not None and np.dtype(dtype) != own:
        if copy is False:
            raise ValueError(f"{own} cannot become {np.dtype(dtype)} without a copy")
        return a.astype(dtype)
    return a.copy() if copy else a


Tensor.__array_ufunc__ = None  # NumPy's operators leave the work to ours


def _reduce(self: Tensor):
    return _rebuild, (array_of(self.detach(), copy=True), self.requires_grad)


def _rebuild(array, requires_grad):
    return _keel.tensor(array, requires_grad=requires_grad)


Tensor.__reduce__ = _reduce


def _dtype(name):
    return _keel.dtype(name)


_keel.DType.__reduce__ = lambda self: (_dtype, (self.name,))
