"""What rounding costs a module: some values of what it gave, computed again in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._formats import FORMATS, name_of

_ROWS, _COLUMNS = 8, 8
_MOST = 1 << 18  # elements of an example of a convolution
_CONVOLUTIONS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
_ROW_WISE = (nn.LayerNorm, nn.Softmax, *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()))


def drift(module: nn.Module, x: Tensor, y: Tensor, turn: int) -> Tensor | None:
    """The largest error of some values of y = module(x), in units of the last place of y's dtype, as a tensor that nobody waited for.

    A unit is that of the value, or where terms cancel, of the root mean square of what is added up: what no order of the terms avoids.
    None for a module that this cannot compute again. `turn` chooses which values.
    """
    if not y.numel() or type(x) is not Tensor or type(y) is not Tensor or name_of(y.dtype) not in FORMATS:
        return None
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        if type(module) is nn.Linear:
            return _of_product(module, x, y, turn)
        if type(module) in _CONVOLUTIONS:
            return _of_convolution(module, x, y, turn)
        if type(module) in _ROW_WISE:
            return _of_rows(module, x, y, turn)
    return None


def _some(x: Tensor, count: int, turn: int) -> Tensor:
    """At most `count` slices along the first axis, evenly spaced, others each turn."""
    stride = max(1, x.shape[0] // count)
    return x[turn % stride :: stride][:count]


def _worst(y: Tensor, exact: Tensor, scale: Tensor, digits: int) -> Tensor:
    unit = scale * 2.0 ** (1 - digits)
    known = torch.isfinite(y) & torch.isfinite(exact) & (scale > FORMATS[name_of(y.dtype)].min_normal * 16)
    return torch.where(known, (y.double() - exact).abs() / unit, 0).max().float().reshape(1)


def _of_product(module: nn.Linear, x: Tensor, y: Tensor, turn: int) -> Tensor:
    rows, w = _some(x.detach().flatten(0, -2) if x.dim() > 1 else x.detach()[None], _ROWS, turn).double(), module.weight.detach()
    bias = torch.zeros_like(w[:, 0]) if module.bias is None else module.bias.detach()
    wide, b = _some(w, _COLUMNS, turn).double(), _some(bias, _COLUMNS, turn).double()
    got = _some(_some(y.detach().reshape(-1, y.shape[-1]), _ROWS, turn).T, _COLUMNS, turn).T
    exact, size = rows @ wide.T + b, rows.abs() @ wide.abs().T + b.abs()
    digits = FORMATS[name_of(y.dtype)].digits
    if y.dtype is torch.float32:
        digits = {"high": 11, "medium": 8}.get(torch.get_float32_matmul_precision(), digits)
    return _worst(got, exact, torch.maximum(exact.abs(), size / math.sqrt(w.shape[1])), digits)


def _of_convolution(module: nn.Module, x: Tensor, y: Tensor, turn: int) -> Tensor | None:
    if module.groups != 1 or module.padding_mode != "zeros" or x.dim() != module.weight.dim() or x[0].numel() > _MOST:
        return None
    example = turn % x.shape[0]
    one, w = x.detach()[example : example + 1].double(), _some(module.weight.detach(), _COLUMNS, turn).double()
    b = None if module.bias is None else _some(module.bias.detach(), _COLUMNS, turn).double()
    how = (module.stride, module.padding, module.dilation)
    convolve = _CONVOLUTIONS[type(module)]
    exact, size = convolve(one, w, b, *how), convolve(one.abs(), w.abs(), None if b is None else b.abs(), *how)
    got = _some(y.detach()[example], _COLUMNS, turn)[None]
    digits = 11 if y.is_cuda and y.dtype is torch.float32 else FORMATS[name_of(y.dtype)].digits  # cuDNN takes TF32 unless told not to
    return _worst(got, exact, torch.maximum(exact.abs(), size / math.sqrt(w[0].numel())), digits)


def _of_rows(module: nn.Module, x: Tensor, y: Tensor, turn: int) -> Tensor | None:
    """A norm's unit is that of its weight: what it gives is of that size, but for values that happen to lie at the mean."""
    axes = 1 if isinstance(module, nn.Softmax) else len(module.normalized_shape)
    if x.dim() <= axes or (isinstance(module, nn.Softmax) and module.dim not in (-1, x.dim() - 1)):
        return None
    rows, got = (_some(t.detach().flatten(0, -1 - axes), _ROWS, turn) for t in (x, y))
    digits = FORMATS[name_of(y.dtype)].digits
    if isinstance(module, nn.Softmax):
        exact = rows.double().softmax(-1)
        return _worst(got, exact, exact, digits)
    w = torch.ones(module.normalized_shape, dtype=torch.float64, device=x.device) if module.weight is None else module.weight.detach().double()
    if isinstance(module, nn.LayerNorm):
        b = None if module.bias is None else module.bias.detach().double()
        exact = F.layer_norm(rows.double(), module.normalized_shape, w, b, module.eps)
    else:
        eps = torch.finfo(x.dtype).eps if module.eps is None else module.eps
        exact = F.rms_norm(rows.double(), module.normalized_shape, w, eps)
    return _worst(got, exact, torch.maximum(exact.abs(), w.abs()), digits)
