"""What a cast to a narrower float would do to a model's values and gradients, layer by layer: counted of casts that are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._errors import InvalidValueError
from .._formats import FORMATS, name_of


@dataclass
class ProfileEntry:
    """One layer's results ("value"), their gradients ("gradient"), or a parameter ("weight"). Shares are of all elements."""

    path: str
    op: str
    kind: str
    elements: int
    overflow: float
    """finite, but not after the cast"""
    underflow: float
    """not 0, but 0 after the cast"""
    subnormal: float
    """below the normal numbers of the target"""
    largest: float
    advice: str

    def __str__(self) -> str:
        shares = f"{100 * self.overflow:9.3f} % {100 * self.underflow:9.3f} % {100 * self.subnormal:9.3f} %"
        return f"{self.path or 'the model'} ({self.op})".ljust(44) + f"{self.kind:9s}{shares} {self.largest:11.3g}  {self.advice}"


class PrecisionProfile:
    """See `precision_profile`."""

    def __init__(self, target: torch.dtype, model: nn.Module | None) -> None:
        if name_of(target) not in FORMATS:
            raise InvalidValueError(f"target_dtype must be a floating dtype, got {target}", target)
        self.target = target
        self.entries: list[ProfileEntry] = []
        self._model = model
        self._format = FORMATS[name_of(target)]
        self._counts: dict[tuple[str, str, str], list[Tensor]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> PrecisionProfile:
        if self._model is None:
            self._handles.append(nn.modules.module.register_module_forward_pre_hook(lambda module, args: self._watch(module)))
        else:
            self._attach(self._model)
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._model is not None:
            for path, p in self._model.named_parameters():
                if p.is_floating_point() and p.numel():
                    self._count(path, type(p).__name__, "weight", p.detach())
        self.entries = [self._entry(*key, torch.stack(counts).double().cpu()) for key, counts in self._counts.items()]

    def _watch(self, module: nn.Module) -> None:
        if self._model is None:
            self._model = module
            self._attach(module)

    def _attach(self, model: nn.Module) -> None:
        for path, module in model.named_modules():
            if next(module.children(), None) is None:
                self._handles.append(module.register_forward_hook(self._hook(path, type(module).__name__)))

    def _hook(self, path: str, op: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for x in output if isinstance(output, (tuple, list)) else (output,):
                if isinstance(x, Tensor) and x.is_floating_point() and x.numel():
                    self._count(path, op, "value", x.detach())
                    if x.requires_grad:
                        x.register_hook(lambda g: self._count(path, op, "gradient", g.detach()))  # type: ignore[no-untyped-call]

        return hook

    def _count(self, path: str, op: str, kind: str, x: Tensor) -> None:
        """Elements, and how many of them overflow, vanish, become subnormal; the largest and the smallest magnitude. Waits for nothing."""
        with torch.no_grad():
            size, cast = x.abs(), x.to(self.target).to(torch.float64 if self.target is torch.float64 else torch.float32).abs()
            fine = torch.isfinite(x)
            counts = (
                torch.tensor(x.numel(), device=x.device),
                (fine & ~torch.isfinite(cast)).sum(),
                ((x != 0) & (cast == 0)).sum(),
                ((cast > 0) & (cast < self._format.min_normal)).sum(),
                torch.where(fine, size, 0).max(),
                torch.where(fine & (x != 0), size, math.inf).min(),
            )
            self._counts.setdefault((path, op, kind), []).append(torch.stack([c.double() for c in counts]))

    def _entry(self, path: str, op: str, kind: str, counts: Tensor) -> ProfileEntry:
        n, over, under, below = (float(v) for v in counts[:, :4].sum(0))
        largest, smallest = float(counts[:, 4].max()), float(counts[:, 5].min())
        advice = self._advice(kind, over / n, (under + below) / n, largest, smallest)
        return ProfileEntry(path, op, kind, int(n), over / n, under / n, below / n, largest, advice)

    def _advice(self, kind: str, over: float, small: float, largest: float, smallest: float) -> str:
        f = self._format
        if over == 0 and small < 1e-3:
            return "fits"
        if largest == 0 or math.log2(largest / smallest) > math.log2(f.max / f.min_subnormal) and over > 0:
            return "keep it wider: no scale fits all values"
        shift = math.floor(math.log2(f.max / largest)) - 1
        if kind == "gradient" and shift > 0:
            return f"a loss scale of 2^{shift}"
        return f"a scale of 2^{shift}" if shift else "little is lost"

    def report(self) -> str:
        """A table of all entries, those that lose most first, and what to do."""
        head = f"cast to {name_of(self.target)}".ljust(44) + "kind      overflow   underflow   subnormal     largest"
        lost = sorted(self.entries, key=lambda e: -(e.overflow + e.underflow + e.subnormal))
        return "\n".join([head, *map(str, lost), self.recommendation()])

    def recommendation(self) -> str:
        """One sentence for the whole model."""
        over = [e for e in self.entries if e.overflow > 0 and e.kind != "gradient"]
        small = [e for e in self.entries if e.kind == "gradient" and e.underflow + e.subnormal >= 1e-3]
        name, said = name_of(self.target), []
        if over:
            said.append(f"{len(over)} of the layers overflow {name}: keep {', '.join(e.path or e.op for e in over[:4])} in float32 or bfloat16")
        if small:
            room = self._format.max / max(e.largest for e in self.entries if e.kind == "gradient")
            said.append(f"gradients need a loss scale of about 2^{max(0, math.floor(math.log2(room)) - 3)}")
        return "; ".join(said) or f"everything fits {name}"


def precision_profile(target_dtype: torch.dtype, model: nn.Module | None = None) -> PrecisionProfile:
    """A context in which every result of the leaf modules of `model`, its gradient, and the parameters at the end, are cast to
    `target_dtype` and the values counted that overflow, vanish or become subnormal. `entries` hold the shares, `report()` the table.

    Without `model` it is the first module that runs. Everything is looked at: for a few steps, not for a whole training.

    >>> layer = torch.nn.Linear(2, 1)
    >>> with precision_profile(torch.float16) as p:
    ...     _ = layer(torch.full((4, 2), 1e9))
    >>> p.entries[0].overflow
    1.0
    """
    return PrecisionProfile(target_dtype, model)
