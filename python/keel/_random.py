"""Random tensors in the spelling of NumPy and PyTorch, over the rows `uniform` and `normal`."""
from . import _keel


def _shape(shape):
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


def _made(name, shape, dtype, requires_grad, **params):
    x = getattr(_keel, name)(shape=_shape(shape), dtype=dtype, **params)
    return x.requires_grad_() if requires_grad else x


def rand(*shape, dtype=None, requires_grad: bool = False) -> _keel.Tensor:
    """Numbers evenly spread over [0, 1)."""
    return _made("uniform", shape, dtype, requires_grad, low=0.0, high=1.0)


def randn(*shape, dtype=None, requires_grad: bool = False) -> _keel.Tensor:
    """Normally distributed numbers of mean 0 and standard deviation 1."""
    return _made("normal", shape, dtype, requires_grad, mean=0.0, stddev=1.0)


def randn_like(x: _keel.Tensor) -> _keel.Tensor:
    """As randn, with the shape and dtype of `x`."""
    return randn(x.shape, dtype=x.dtype)
