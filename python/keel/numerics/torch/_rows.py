"""Functions of whole rows: norms, vectors of length 1, softmax."""

from __future__ import annotations

import math
from typing import Any, Union

import torch
from torch import Tensor

from .._errors import check_positive
from ._functions import _result_dtype, _rounded, _work_dtype

Axes = Union[int, tuple[int, ...], None]


class _Norm(torch.autograd.Function):
    """The square root of the sum of squares, which are scaled by the largest. Gradient g x / norm, 0 where the norm is 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, axes: tuple[int, ...]) -> Tensor:
        if not x.numel():
            return x.sum(axes, keepdim=True)
        top = x.abs().amax(axes, keepdim=True)
        scale = torch.where((top == 0) | ~torch.isfinite(top), 1, top)
        return (x / scale).square().sum(axes, keepdim=True).sqrt() * scale

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, norm = ctx.saved_tensors
        return torch.where(norm == 0, 0, g * (x / torch.where(norm == 0, 1, norm))), None


def norm_safe(x: Tensor, *, axis: Axes = None, keepdim: bool = False) -> Tensor:
    """sqrt(sum of x^2) over an axis or several (all if not given), without overflow or underflow on the way.

    Gradient g x / norm, 0 where the norm is 0.

    >>> norm_safe(torch.tensor([3e30, 4e30]))
    tensor(5.0000e+30)
    """
    dtype = _result_dtype(x)
    given = (axis,) if isinstance(axis, int) else axis or range(x.dim())
    axes = tuple(a % max(x.dim(), 1) for a in given)
    norm: Tensor = _Norm.apply(x.to(_work_dtype(dtype)), axes)
    if not keepdim:
        norm = norm.reshape([n for i, n in enumerate(x.shape) if i not in axes])
    return _rounded(norm, dtype)


class _Normalize(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, axis: int, eps: float, cap: float) -> Tensor:
        norm = _Norm.forward(x, (axis,))
        return x / torch.where(norm <= eps, eps, norm)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, ctx.axis, ctx.eps, ctx.cap = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        norm = _Norm.apply(x, (ctx.axis,))
        tiny = norm <= ctx.eps
        size = torch.where(tiny, ctx.eps, norm)
        y = x / size
        turned = torch.where(tiny, g, g - y * (g * y).sum(ctx.axis, keepdim=True))
        return turned / size if ctx.cap == math.inf else turned * (1 / size).clamp(max=ctx.cap), None, None, None


def normalize_safe(x: Tensor, *, axis: int = -1, eps: float = 1e-12, grad_cap: float | None = None) -> Tensor:
    """x / max(norm, eps) along an axis: vectors of length 1, and 0 for 0.

    Gradient (g - y sum(g y)) / norm with y the result; below eps, g / eps, which is 1e12 g at 0: `grad_cap` limits the factor 1 / norm.
    Raises InvalidValueError where eps or grad_cap is not positive.
    """
    check_positive("eps", eps)
    check_positive("grad_cap", grad_cap)
    dtype = _result_dtype(x)
    cap = math.inf if grad_cap is None else grad_cap
    return _rounded(_Normalize.apply(x.to(_work_dtype(dtype)), axis % max(x.dim(), 1), eps, cap), dtype)


class _Softmax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, axis: int) -> Tensor:
        dead = (x == -math.inf).all(axis, keepdim=True)
        return torch.where(dead, 0, torch.where(dead, 0, x).softmax(axis))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.axis = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        part = torch.where(y == 0, 0, g)
        return y * (part - (part * y).sum(ctx.axis, keepdim=True)), None


def softmax_safe(x: Tensor, *, axis: int = -1) -> Tensor:
    """softmax, with zeros for a row that is -inf throughout (fully masked), whose gradient is 0. A gradient that comes to an entry of 0,
    NaN too, is dropped."""
    dtype = _result_dtype(x)
    return _rounded(_Softmax.apply(x.to(_work_dtype(dtype)), axis % max(x.dim(), 1)), dtype)
