"""What is wrong with a program, read off one run of it: each call is judged by its numbers and by the calls that made its inputs."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._formats import FORMATS, name_of, rounded
from ._finding import Finding

_ALIASES = {
    "__truediv__": "div",
    "true_divide": "div",
    "divide": "div",
    "__rtruediv__": "rdiv",
    "__rdiv__": "rdiv",
    "__mul__": "mul",
    "__rmul__": "mul",
    "multiply": "mul",
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "sub",
    "subtract": "sub",
    "__rsub__": "rsub",
    "__pow__": "pow",
    "amax": "max",
    "amin": "min",
    "absolute": "abs",
    "vector_norm": "norm",
    "linalg_vector_norm": "norm",
    "linalg_norm": "norm",
    "clamp_min": "clamp",
    "conv1d": "conv2d",
    "conv3d": "conv2d",
    "bmm": "matmul",
    "mm": "matmul",
    "__matmul__": "matmul",
    "addmm": "matmul",
}
_LOOKED_THROUGH = frozenset(
    "to float half double bfloat16 type type_as view reshape flatten unflatten unsqueeze squeeze transpose permute t mT expand expand_as "
    "broadcast_to contiguous __getitem__ narrow select chunk split detach clone movedim swapaxes diagonal diag".split()
)
_SPREADING = frozenset("linear matmul mul add div conv2d embedding layer_norm rms_norm batch_norm relu".split())
_PICKING = frozenset("add mul gather index_select take_along_dim".split())


@dataclass
class _Call:
    """A call and who made its inputs: calls ("input": from outside), numbers, None for anything else."""

    name: str
    inputs: list[Any] = field(default_factory=list)
    dtype: torch.dtype | None = None
    terms: float = 1  # elements that go into one of the result
    path: str = ""
    site: str = ""
    gradient: bool = False


_Made = Union[_Call, float, None]


def _is(x: _Made, *names: str) -> bool:
    return isinstance(x, _Call) and x.name in names


def _input(x: _Made, i: int = 0) -> _Made:
    return x.inputs[i] if isinstance(x, _Call) and i < len(x.inputs) else None


def _squares(x: _Made) -> bool:
    if _is(x, "square"):
        return True
    if _is(x, "pow"):
        return _input(x, 1) == 2
    return _is(x, "mul") and isinstance(_input(x), _Call) and _input(x) is _input(x, 1)


def _squared(x: _Made) -> _Made:
    return _input(x)


def _sums_squares(x: _Made) -> bool:
    return _is(x, "sum", "mean") and _squares(_input(x))


def _may_be_zero(x: _Made) -> bool:
    if _is(x, "var", "std", "norm", "relu"):
        return True
    if _is(x, "sqrt"):
        return _may_be_zero(_input(x))
    if _is(x, "sub"):
        return _is(_input(x), "max") and _is(_input(x, 1), "min")
    return _sums_squares(x) or (_is(x, "sum", "mean") and _is(_input(x), "abs"))


def _unbounded_exp(x: _Made) -> bool:
    """An exponential whose argument nothing keeps from being large: not shifted by a maximum, negated or bounded."""
    return _is(x, "exp") and _is(_input(x), "input", *_SPREADING)


def _exponential_in(x: _Made, depth: int = 4) -> _Call | None:
    if not isinstance(x, _Call) or not depth:
        return None
    if x.name == "exp":
        return x if _unbounded_exp(x) else None
    if x.name in ("sum", "mean"):
        return _exponential_in(_input(x), depth - 1)
    if x.name not in _PICKING:
        return None
    return _exponential_in(_input(x), depth - 1) or _exponential_in(_input(x, 1), depth - 1)


class _Recorder(TorchFunctionMode):
    def __init__(self, say: Callable[[str, str, _Call, str, str], None]) -> None:
        super().__init__()
        self.made: dict[int, _Call] = {}
        self.kept: list[Any] = []  # so that no identity is used twice
        self.paths: list[str] = [""]
        self.say = say

    def _maker(self, x: Any) -> _Made:
        if isinstance(x, Tensor):
            if id(x) not in self.made:
                self.kept.append(x)
            return self.made.setdefault(id(x), _Call("input"))
        return float(x) if isinstance(x, (int, float)) and not isinstance(x, bool) else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name.startswith("__") and name not in _ALIASES and name != "__getitem__":
            return out
        name = _ALIASES.get(name, name)
        name = _ALIASES.get(name.rstrip("_"), name.rstrip("_")) if not name.startswith("__") else name
        given = args[0] if args and isinstance(args[0], (tuple, list)) else args
        if name in _LOOKED_THROUGH and args and isinstance(args[0], Tensor):
            source = self.made.get(id(args[0]))
            for y in out if isinstance(out, (tuple, list)) else (out,):
                if source is not None and isinstance(y, Tensor):
                    self.made[id(y)] = source
                    self.kept.append(y)
            return out
        results = out if isinstance(out, tuple) else (out,)
        first = next((y for y in results if isinstance(y, Tensor)), None)
        if first is None or not first.is_floating_point():
            return out
        inputs = [self._maker(x) for x in given]
        if name in ("rdiv", "rsub"):
            name, inputs = name[1:], inputs[::-1]
        source_size = next((x.numel() for x in given if isinstance(x, Tensor)), 1)
        call = _Call(name, inputs, first.dtype, source_size / max(first.numel(), 1), self.paths[-1], _site(), first.requires_grad)
        self.made[id(first)] = call
        self.kept.append((first, args))
        self._judge(call, [*given, *(kwargs or {}).values()])
        return out

    def _judge(self, c: _Call, given: list[Any]) -> None:
        fmt = FORMATS.get(name_of(c.dtype)) if c.dtype is not None else None
        if fmt is None:
            return
        narrow = fmt.max < 1e30
        ends = math.log(fmt.max)
        if c.name in ("add", "sub", "div", "mul", "clamp", "maximum"):
            for v in (float(x) for x in given if isinstance(x, (int, float)) and not isinstance(x, bool)):
                if v and math.isfinite(v) and rounded(v, fmt) == 0:
                    eps = 10.0 ** math.ceil(math.log10(fmt.max ** (-2 / 3)))
                    text = f"the number {v:g} given to {c.name} is 0 in {name_of(c.dtype)}"
                    self.say("warning", "epsilon", c, text, f"{eps:g}, or float32")
                elif v and math.isfinite(v) and not math.isfinite(rounded(v, fmt)) and c.name != "clamp":
                    self.say("warning", "number beyond the dtype", c, f"the number {v:g} is infinite in {name_of(c.dtype)}", "float32")
        a, b = _input(c), _input(c, 1)
        if c.name in ("log", "log2", "log10"):
            if _is(a, "softmax"):
                text = "a probability that rounds to 0 has the logarithm -inf"
                self.say("warning", "log of softmax", c, text, "log_softmax or cross_entropy")
            if _is(a, "sigmoid"):
                self.say("note", "log of sigmoid", c, "a probability that rounds to 0 has the logarithm -inf", "logsigmoid")
            if _is(a, "sub") and _is(_input(a, 1), "sigmoid"):
                text = f"above {math.log(2) * fmt.digits:.1f} nothing is left of 1 - sigmoid"
                self.say("note", "log of 1 - sigmoid", c, text, "binary_cross_entropy_with_logits, or logsigmoid(-x)")
            for i in range(2 if _is(a, "add") else 1 if _is(a, "sum") else 0):
                if _unbounded_exp(_input(a, i)):
                    rule, better = ("softplus by hand", "softplus") if _is(a, "add") else ("logsumexp by hand", "logsumexp")
                    self.say("note", rule, c, f"arguments above {ends:.1f} overflow, though the result is small", better)
        if c.name == "log1p" and _unbounded_exp(a):
            self.say("note", "softplus by hand", c, f"arguments above {ends:.1f} overflow, though the result is small", "softplus")
        if c.name in ("div", "rsqrt", "reciprocal"):
            below = b if c.name == "div" else a
            hot = _exponential_in(below) if _is(below, "sum", "add") else None
            if c.name == "div" and hot is not None and _exponential_in(a) is not None:
                text = f"exp over its sum: arguments above {ends:.1f} make NaN of a probability"
                self.say("warning" if narrow else "note", "softmax by hand", hot, text, "softmax, or cross_entropy")
            elif _may_be_zero(below):
                text = f"{c.name} divides by the result of {below.name}, which may be 0"  # type: ignore[union-attr]
                self.say("note", "division by what may be 0", c, text, "an epsilon of 1e-6 added to it, or div_safe")
        if c.name == "sub" and _sums_squares(a) and _squares(b) and _is(_squared(b), "mean", "sum"):
            if _squared(_input(a)) is _input(_squared(b)):
                text = "mean of squares less square of mean: nothing is left where the mean is large against the deviation"
                self.say("note", "one-pass variance", c, text, "torch.var")
        if c.name == "sqrt" and c.gradient and _may_be_zero(a):
            rule = "norm by hand" if _sums_squares(a) else "root of what may be 0"
            self.say("note", rule, c, "the gradient of a root is infinite at 0", "norm_safe or sqrt_safe, or an epsilon under the root")
        if c.name == "sum" and c.dtype is torch.float16 and c.terms >= 16384:
            text = f"a sum of {c.terms:.0f} float16 numbers is infinite where their mean exceeds {65504 / c.terms:.3g}"
            self.say("note", "sum in f16", c, text, "mean, or sum(dtype=torch.float32)")


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


def _site() -> str:
    """The program's own line: the innermost outside PyTorch and this package."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_HERE, _TORCH)):
            return f"{os.path.basename(file)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def lint(f: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Finding]:
    """Runs `f(*args, **kwargs)` once, a model or a function such as one step's loss, and says what is wrong with how it is put together.

    No value is looked at: calls are judged by their numbers and by the calls that made their inputs; views and casts are looked through.
    `detector` is the rule, `severity` "warning" where it fails for ordinary values, else "note". Rules: `epsilon` (0 in its dtype), `number
    beyond the dtype`, `log of softmax`, `log of sigmoid`, `log of 1 - sigmoid`, `softplus by hand`, `logsumexp by hand`, `softmax by hand`,
    `one-pass variance`, `norm by hand`, `root of what may be 0`, `division by what may be 0`, `sum in f16`.

    >>> findings = lint(lambda x: torch.log(torch.softmax(x, -1)), torch.zeros(2, 3))
    >>> [(f.severity, f.detector, f.suggestion) for f in findings]
    [('warning', 'log of softmax', 'log_softmax or cross_entropy')]
    """
    findings: list[Finding] = []
    seen: set[tuple[str, str, str]] = set()

    def say(severity: str, rule: str, call: _Call, message: str, suggestion: str) -> None:
        if (rule, call.path, call.site) not in seen:
            seen.add((rule, call.path, call.site))
            findings.append(Finding(severity, rule, 0, call.path, call.name, "forward", f"{message} ({call.site})", suggestion))

    recorder = _Recorder(say)
    names = {id(m): path for path, m in f.named_modules()} if isinstance(f, nn.Module) else {}

    def enter(module: nn.Module, _: Any) -> None:
        recorder.paths.append(names.get(id(module), type(module).__name__))

    def leave(module: nn.Module, *_: Any) -> None:
        recorder.paths.pop()

    hooks = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        with recorder:
            f(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return findings
