"""A monitor for PyTorch's models: hooks that take the range of every module's output and gradient, and rules that look ahead."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._errors import NumericsError
from .._formats import FORMATS, name_of, rounded

_HISTORY = 128
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()))


@dataclass
class Finding:
    """What went wrong or will. `severity` is "fault" or "warning", `detector` the rule, `path` the module, `phase` "forward", "backward" or
    "update"; `eta` the steps that are left if it goes on like this (-1: no such number)."""

    severity: str
    detector: str
    step: int
    path: str
    op: str
    phase: str
    message: str
    suggestion: str = ""
    eta: float = -1
    count: int = 1

    def __str__(self) -> str:
        where = f"{self.path or 'the program'} ({self.op}), {self.phase}, step {self.step}"
        text = f"{self.severity}: {self.detector} at {where}: {self.message}"
        return text + (f"; try: {self.suggestion}" if self.suggestion else "")


class InstabilityError(NumericsError, ArithmeticError):
    """Raised by a monitor that was told to; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@dataclass
class _Row:
    """A place whose largest magnitude is recorded once a step. `role`: "out", "in" (no module's output: made between modules), "grad"."""

    path: str
    op: str
    phase: str
    role: str
    dtype: torch.dtype
    history: deque[tuple[int, float]]


class Monitor:
    """See `monitor`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        read_every: int,
        sample: int,
        break_on_instability: bool,
        on_finding: Callable[[Finding], None] | None,
    ) -> None:
        self.findings: list[Finding] = []
        self.steps = 0
        self._model, self._optimizer = model, optimizer
        self._read_every, self._sample = max(1, read_every), max(1, sample)
        self._break, self._on_finding = break_on_instability, on_finding
        self._rows: dict[tuple[str, str], _Row] = {}
        self._pending: list[tuple[_Row, Tensor]] = []
        self._ends: list[Tensor] = []
        self._step_rows: list[_Row] = []
        self._step_values: list[Tensor] = []
        self._parents: list[tuple[_Row, list[_Row]]] = []
        self._known: dict[int, tuple[Any, _Row]] = {}
        self._unread: list[tuple[int, list[_Row], Tensor, list[tuple[_Row, list[_Row]]]]] = []
        self._norm_mean, self._norm_var, self._norm_count = 0.0, 0.0, 0
        self._norms: deque[tuple[int, float]] = deque(maxlen=_HISTORY)
        self._absorbed: dict[str, int] = {}
        self._sampled: list[tuple[str, Tensor, Tensor, Tensor]] = []
        self._seen: dict[tuple[str, str, str], Finding] = {}
        self._handles: list[Any] = []
        self._poisoned: Finding | None = None

    # Life
    def __enter__(self) -> Monitor:
        for path, module in self._model.named_modules():
            leaf = next(module.children(), None) is None
            if leaf:
                if getattr(module, "inplace", False):  # what it overwrites has to be looked at before
                    self._handles.append(module.register_forward_pre_hook(lambda m, a: self._flush()))
                self._handles.append(module.register_forward_hook(self._forward_hook(path, type(module).__name__)))
            if isinstance(module, _NORMS):
                self._lint_norm(path, module)
                self._handles.append(module.register_forward_pre_hook(self._norm_hook(path)))
        if self._optimizer is not None:
            self._lint_optimizer(self._optimizer)
            self._handles.append(self._optimizer.register_step_pre_hook(lambda *a: self._before_update()))
            self._handles.append(self._optimizer.register_step_post_hook(lambda *a: self.step()))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._end_step()
        self._read(raising=False)

    def step(self) -> None:
        """Ends a step: called by the optimizer's hook, or by the program where the monitor was given no optimizer."""
        self._after_update()
        self._end_step()
        self.steps += 1
        if self.steps % self._read_every == 0:
            self._read(raising=True)

    def report(self) -> str:
        """All findings, one a line."""
        return "\n".join(str(f) + (f" ({f.count} times)" if f.count > 1 else "") for f in self.findings) or "no findings"

    # Recording. Nothing here waits for a device.
    def _row(self, path: str, op: str, phase: str, role: str, dtype: torch.dtype) -> _Row:
        key = (path, f"{phase}.{role}")
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row(path, op, phase, role, dtype, deque(maxlen=_HISTORY))
        return row

    def _add(self, row: _Row, x: Tensor) -> None:
        if not x.numel():
            return
        if x.is_cpu and not self._pending:  # now, while it is in the cache; a kept reference would keep its memory from being used again
            with torch.no_grad():
                self._step_rows.append(row)
                self._ends.extend(torch.aminmax(self._view(x.detach())))
                return
        self._pending.append((row, x.detach()))
        if len(self._pending) >= 64:
            self._flush()

    def _view(self, x: Tensor) -> Tensor:
        """The tensor, or every sample-th kilobyte of it, another one each step."""
        n = x.numel()
        if self._sample > 1 and n >= 1 << 16 and x.is_contiguous():
            block = 1024 // x.element_size()
            return x.view(-1)[: n // block * block].view(-1, block)[self.steps % self._sample :: self._sample]
        return x

    def _flush(self) -> None:
        """What was handed over since the last time: one reduction of many tensors on a device, one stack of numbers on the CPU."""
        with torch.no_grad():
            if self._ends:
                ends = torch.stack([e.float() for e in self._ends]).view(-1, 2)
                self._step_values.append(torch.maximum(-ends[:, 0], ends[:, 1]))  # a NaN is at both ends
                self._ends = []
            by_dtype: dict[Any, list[tuple[_Row, Tensor]]] = {}
            for row, x in self._pending:
                by_dtype.setdefault((x.dtype, x.device), []).append((row, x))
            for group in by_dtype.values():
                self._step_rows += [row for row, _ in group]
                self._step_values.append(torch.stack(list(torch._foreach_norm([self._view(x) for _, x in group], math.inf))).float())
        self._pending.clear()

    def _forward_hook(self, path: str, op: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            parents = []
            for x in _tensors(args):
                known = self._known.get(id(x))
                if known is not None and known[0]() is x:
                    parents.append(known[1])
                else:
                    row = self._row(path, op, "forward", "in", x.dtype)
                    self._add(row, x)
                    parents.append(row)
            given = _tensors(args)
            for x in _tensors(output):
                if any(x is y for y in given):  # passed through
                    continue
                row = self._row(path, op, "forward", "out", x.dtype)
                self._add(row, x)
                self._known[id(x)] = (weakref.ref(x), row)
                self._parents.append((row, parents))
                if x.requires_grad:
                    grad = self._row(path, op, "backward", "grad", x.dtype)
                    x.register_hook(lambda g, grad=grad: self._add(grad, g))  # type: ignore[no-untyped-call]

        return hook

    def _norm_hook(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            if self.steps % self._read_every or not args or not args[0].is_floating_point():
                return
            x = args[0].detach().float()
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                if not module.training:
                    return
                v = x.var([d for d in range(x.dim()) if d != 1], unbiased=False)
            elif isinstance(module, nn.GroupNorm):
                v = x.reshape(x.shape[0], module.num_groups, -1).var(-1, unbiased=False)
            else:
                dims = list(range(-len(module.normalized_shape), 0))  # type: ignore[arg-type]
                v = x.var(dims, unbiased=False) if isinstance(module, nn.LayerNorm) else x.square().mean(dims)
            row = self._row(path, type(module).__name__, "forward", "denominator", torch.float32)
            self._add(row, v.min().reshape(1))
            self._add(self._row(path, type(module).__name__, "forward", "denominator_mean", torch.float32), v.mean().reshape(1))

        return hook

    def _before_update(self) -> None:
        self._flush()
        grads: dict[Any, list[Tensor]] = {}
        self._sampled = []
        for path, p in self._model.named_parameters():
            if p.grad is None:
                continue
            grads.setdefault((p.grad.device, p.grad.dtype), []).append(p.grad)
            if p.dtype in (torch.float16, torch.bfloat16):
                stride = max(1, p.numel() // 1024)
                w = p.detach().reshape(-1)[::stride]
                self._sampled.append((path, p.detach(), w.clone(), p.grad.detach().reshape(-1)[::stride] != 0))
        if grads:
            with torch.no_grad():
                norms = [torch.stack(list(torch._foreach_norm(g, 2))).float() for g in grads.values()]
                total = torch.linalg.vector_norm(torch.cat([n.to(norms[0].device) for n in norms]))
            self._flush()
            self._step_rows.append(self._row("", "parameters", "update", "gradient_norm", torch.float32))
            self._step_values.append(total.reshape(1))

    def _after_update(self) -> None:
        self._flush()
        for path, p, before, moving in self._sampled:
            stride = max(1, p.numel() // 1024)
            kept = (p.reshape(-1)[::stride] == before) & moving
            share = kept.sum() / moving.sum().clamp(min=1)
            self._step_rows.append(self._row(path, "update", "update", "absorbed", torch.float32))
            self._step_values.append(share.float().reshape(1))
        self._sampled = []

    def _end_step(self) -> None:
        self._flush()
        if self._step_rows:
            device = self._step_values[-1].device
            values = torch.cat([v.to(device, non_blocking=True) for v in self._step_values])
            self._unread.append((self.steps, self._step_rows, values, self._parents))
        self._step_rows, self._step_values, self._parents = [], [], []
        self._known.clear()

    # Judging, on the host, every `read_every` steps.
    def _read(self, raising: bool) -> None:
        unread, self._unread = self._unread, []
        found = len(self.findings)
        if unread:
            everything = torch.cat([values.to(unread[-1][2].device) for _, _, values, _ in unread]).tolist()
            at = 0
            for step, rows, values, parents in unread:
                n = values.numel()
                self._judge(step, rows, everything[at : at + n], parents)
                at += n
        if raising and self._break and len(self.findings) > found:
            raise InstabilityError(self.findings[found])

    def _find(self, finding: Finding) -> Finding:
        key = (finding.detector, finding.path, finding.phase)
        known = self._seen.get(key)
        if known is not None and (known.severity == "fault" or finding.severity != "fault"):
            known.count += 1
            return known
        self._seen[key] = finding
        self.findings.append(finding)
        if self._on_finding is not None:
            self._on_finding(finding)
        return finding

    def _judge(self, step: int, rows: list[_Row], values: list[float], parents: list[tuple[_Row, list[_Row]]]) -> None:
        bad = {id(row) for row, v in zip(rows, values) if not math.isfinite(v) and row.role in ("in", "out", "grad")}
        if bad and self._poisoned is not None:  # weights that a bad step wrote: more of the same
            self._poisoned.count += 1
        elif bad:
            self._blame(step, rows, dict(zip(map(id, rows), values)), parents, bad)
        if not bad:
            self._poisoned = None
        for row, v in zip(rows, values):
            if row.role == "gradient_norm":
                self._judge_norm(step, row, v)
            elif row.role == "absorbed":
                self._judge_absorbed(step, row, v)
            elif math.isfinite(v):
                row.history.append((step, v))
                if row.role == "denominator":
                    mean = self._rows[(row.path, "forward.denominator_mean")].history
                    self._judge_denominator(step, row, v, mean[-1][1] if mean else v)
                elif row.role != "denominator_mean" and not bad:
                    self._judge_headroom(step, row, v)

    def _blame(self, step: int, rows: list[_Row], values: dict[int, float], parents: list[tuple[_Row, list[_Row]]], bad: set[int]) -> None:
        """Who made the first NaN or infinity; those that pass it on are not named."""

        def what(row: _Row) -> str:
            return "NaN" if math.isnan(values[id(row)]) else "an infinity"

        inputs = {id(row): above for row, above in parents}
        last_clean: _Row | None = None
        for row in rows:
            if row.role == "grad":
                if id(row) in bad:
                    maker = last_clean if last_clean is not None else row
                    text = f"the gradient that reaches {row.path} is {what(row)}" + (
                        "" if last_clean is None else f", that of {maker.path}'s output was finite"
                    )
                    op = maker.op if last_clean is not None else "what follows it"
                    self._poisoned = self._find(Finding("fault", "nonfinite", step, maker.path, op, "backward", text))
                    return
                last_clean = row
            elif id(row) in bad and row.role == "out" and not any(id(above) in bad for above in inputs.get(id(row), [])):
                self._poisoned = self._find(
                    Finding("fault", "nonfinite", step, row.path, row.op, "forward", f"makes {what(row)} of finite inputs")
                )
                return
            elif id(row) in bad and row.role == "in":
                owner = row.path.rpartition(".")[0]
                text = f"the input of {row.path} is {what(row)}; no module made it: the program's own code did, or the data"
                self._poisoned = self._find(Finding("fault", "nonfinite", step, owner, f"before {row.path}", "forward", text))
                return

    def _judge_headroom(self, step: int, row: _Row, v: float) -> None:
        """D2: bits between the largest magnitude and the largest number, and the steps until none is left."""
        f = FORMATS.get(name_of(row.dtype))
        if f is None or v == 0:
            return
        room = math.log2(f.max) - math.log2(v)
        narrow = f.max < 1e30
        eta, fit = _eta([(s, math.log2(f.max) - math.log2(x)) for s, x in list(row.history)[-8:] if x > 0])
        if (eta <= 20 and fit > 0.8 and (room <= 6 or not narrow)) or room < (2 if narrow else 8):
            text = f"largest magnitude {v:.3g} is {room:.1f} bits below the end of {name_of(row.dtype)}"
            if math.isfinite(eta):
                text += f", overflow in about {eta:.0f} steps"
            hint = "bfloat16, a smaller scale, or a normalisation before it" if narrow else "a smaller learning rate, or gradient clipping"
            self._find(Finding("warning", "headroom", step, row.path, row.op, row.phase, text, hint, eta if math.isfinite(eta) else -1))
        if narrow and row.role == "grad" and v < f.min_normal:
            text = f"the largest gradient {v:.3g} is subnormal in {name_of(row.dtype)}: smaller ones are zero"
            scale = 2.0 ** (math.floor(math.log2(f.max / v)) - 2)
            self._find(Finding("warning", "underflow", step, row.path, row.op, row.phase, text, f"a loss scale of {scale:g}"))

    def _judge_denominator(self, step: int, row: _Row, low: float, mean: float) -> None:
        """D3: the smallest variance that a norm layer divides by."""
        module = self._model.get_submodule(row.path)
        eps = float(getattr(module, "eps", None) or 0.0)
        suggestion = f"eps = {10.0 ** round(math.log10(max(3e-4 * mean, 1e-38))):g}"
        if low <= max(eps, 1e-30) * 1e-3 and eps < 1e-8:
            text = f"smallest variance {low:.3g} (mean {mean:.3g}) with eps {eps:g}: the quotient has no bound"
            self._find(Finding("warning", "denominator", step, row.path, row.op, "forward", text, suggestion))
            return
        eta, fit = _eta([(s, math.log2(x) + 126) for s, x in list(row.history)[-8:] if x > 0])
        if eps < 1e-12 and eta <= 50 and fit > 0.8:
            text = f"smallest variance {low:.3g} shrinks, zero in about {eta:.0f} steps, eps {eps:g}"
            self._find(Finding("warning", "denominator", step, row.path, row.op, "forward", text, suggestion, eta))

    def _judge_norm(self, step: int, row: _Row, v: float) -> None:
        """D4: growth without a pause; D9: a gradient norm far from what it was."""
        if not math.isfinite(v):
            return
        if self._norm_count >= 20:
            z = (v - self._norm_mean) / max(math.sqrt(self._norm_var), 1e-3 * self._norm_mean, 1e-30)
            if z > 6:
                text = f"gradient norm {v:.3g} is {z:.0f} deviations above its mean {self._norm_mean:.3g}"
                self._find(Finding("warning", "gradient_norm", step, "", "parameters", "update", text, "gradient clipping"))
        weight = 0.03 if self._norm_count >= 20 else 1 / (self._norm_count + 1)
        delta = v - self._norm_mean
        self._norm_mean += weight * delta
        self._norm_var = (1 - weight) * (self._norm_var + weight * delta * delta)
        self._norm_count += 1
        self._norms.append((step, v))
        rises = [math.log2(b / a) if a > 0 and b > 0 else 0 for (_, a), (_, b) in zip(list(self._norms)[-8:], list(self._norms)[-7:])]
        if len(rises) >= 7 and all(r > 0.5 for r in rises):
            text = f"gradient norm {v:.3g} grew by {2 ** (sum(rises) / len(rises)):.2g} a step for {len(rises)} steps"
            eta = (127 - math.log2(v)) / (sum(rises) / len(rises))
            self._find(Finding("warning", "growth", step, "", "parameters", "update", text, "a smaller learning rate", eta))

    def _judge_absorbed(self, step: int, row: _Row, share: float) -> None:
        """D7: weights whose update is smaller than half of their last digit."""
        self._absorbed[row.path] = self._absorbed.get(row.path, 0) + 1 if share > 0.5 else 0
        if self._absorbed[row.path] >= 10:
            text = f"{100 * share:.0f} % of the weights with a gradient did not change for 10 steps: updates are below half a digit"
            self._find(Finding("warning", "absorption", step, row.path, "update", "update", text, "float32 master weights"))

    # Before the first step (D14).
    def _lint_norm(self, path: str, module: nn.Module) -> None:
        eps = getattr(module, "eps", None)
        p = next(module.parameters(), None)
        if eps and p is not None and rounded(float(eps), FORMATS[name_of(p.dtype)]) == 0:
            text = f"eps {eps:g} is 0 in {name_of(p.dtype)}"
            self._find(Finding("warning", "epsilon", 0, path, type(module).__name__, "forward", text, "eps = 1e-05"))

    def _lint_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            eps = group.get("eps")
            for dtype in {p.dtype for p in group["params"]}:
                if eps and dtype.is_floating_point and rounded(float(eps), FORMATS[name_of(dtype)]) == 0:
                    text = f"eps {eps:g} is 0 in {name_of(dtype)}, the dtype of the optimiser's state"
                    hint = "eps = 1e-04, or float32 state"
                    self._find(Finding("warning", "epsilon", 0, "", type(optimizer).__name__, "update", text, hint))


def _tensors(x: Any) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x] if x.is_floating_point() and x.dtype.itemsize > 1 else []
    if isinstance(x, (tuple, list)):
        return [t for y in x for t in _tensors(y)]
    return [t for y in x.values() for t in _tensors(y)] if isinstance(x, dict) else []


def _eta(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Steps from the last point until a line through them reaches 0, and r^2; infinity where it does not fall."""
    n = len(points)
    if n < 8:
        return math.inf, 0.0
    mx, my = sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
    sxx, syy = sum((p[0] - mx) ** 2 for p in points), sum((p[1] - my) ** 2 for p in points)
    sxy = sum((p[0] - mx) * (p[1] - my) for p in points)
    if sxx == 0 or syy == 0 or sxy >= 0:
        return math.inf, 0.0
    return points[-1][1] / (-sxy / sxx), sxy * sxy / (sxx * syy)


def monitor(
    model: nn.Module,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    read_every: int = 10,
    sample: int = 1,
    break_on_instability: bool = False,
    on_finding: Callable[[Finding], None] | None = None,
) -> Monitor:
    """A context in which every module of `model` is watched: its output, the gradient of that, norm layers' variances, the update.

    The largest magnitude of each is taken by batched reductions; the numbers stay on the device and are read every `read_every`
    steps.
    Detectors: `nonfinite` (which module made the first NaN or infinity, or between which modules the program did), `headroom` (will
    overflow its dtype, with steps left), `underflow` (float16 gradients), `denominator` (variances of norm layers), `growth` and
    `gradient_norm`, `absorption` (updates too small for 16-bit weights), `epsilon` (an eps that its dtype does not have). With `optimizer`
    each of its steps ends one here, else call `step()`. `sample` n looks at every n-th kilobyte of large tensors, another one each step:
    cheaper, and a lone NaN may be seen late. `break_on_instability` raises InstabilityError at the reading that finds something.

    >>> model = torch.nn.Linear(2, 1)
    >>> with monitor(model) as m:
    ...     _ = model(torch.tensor([[float("inf"), 1.0]]))
    ...     m.step()
    >>> m.findings[0].detector
    'nonfinite'
    """
    return Monitor(model, optimizer, read_every, sample, break_on_instability, on_finding)
