"""A monitor for PyTorch's models: hooks that take the range of every module's output and gradient, and rules that look ahead."""

from __future__ import annotations

import math
import statistics
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from .._formats import FORMATS, name_of, rounded
from ._finding import Finding, InstabilityError
from ._shadow import drift

_HISTORY = 128
_SHADOW_EVERY = 50  # steps
# What a monitor looks at, from all to little: every n-th kilobyte of large tensors, in turn, and every n-th step.
_LEVELS = ((1, 1), (4, 1), (16, 1), (16, 2), (16, 4), (16, 8), (16, 16))
_LARGE = 1 << 15  # elements
_clock = time.perf_counter
_EIGHT = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()))


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
        model: nn.Module | None,
        optimizer: torch.optim.Optimizer | None,
        read_every: int,
        cost: float | None,
        break_on_instability: bool,
        max_ulp_drift: float | None,
        on_finding: Callable[[Finding], None] | None,
        scaler: Any,
    ) -> None:
        self.findings: list[Finding] = []
        self.steps = 0
        self.share = math.nan
        """What the watching took, over what the steps take without it; from the host's clock, NaN in the first steps."""
        self._model, self._optimizer, self._waits = model or nn.Module(), optimizer, model is None
        self._read_every, self._cost = max(1, read_every), cost
        self._level = 0 if cost is None else 2
        self._spent, self._since = 0.0, _clock()
        self._window, self._window_spent, self._window_whole = 0, 0.0, 0.0
        self._break, self._on_finding, self._most_drift = break_on_instability, on_finding, max_ulp_drift
        self._rows: dict[tuple[str, str], _Row] = {}
        self._pending: list[tuple[_Row, Tensor]] = []
        self._ends: list[Tensor] = []
        self._step_rows: list[_Row] = []
        self._step_values: list[Tensor] = []
        self._parents: list[tuple[_Row, list[_Row]]] = []
        self._known: dict[int, tuple[Any, _Row]] = {}
        self._unread: list[tuple[int, list[_Row], Tensor, list[tuple[_Row, list[_Row]]]]] = []
        self._norms: deque[tuple[int, float]] = deque(maxlen=_HISTORY)
        self._absorbed: dict[str, int] = {}
        self._ratios: deque[float] = deque(maxlen=100)
        self._jumped = -1
        self._looking, self._looking_at_norms, self._looks, self._next_norms = True, True, 0, max(1, read_every)
        self._shadowing, self._next_shadow = max_ulp_drift is not None, _SHADOW_EVERY
        self._parameters: list[tuple[_Row, nn.Parameter]] = []
        self._sampled: list[tuple[str, Tensor, Tensor, Tensor]] = []
        self._seen: dict[tuple[str, str, str], Finding] = {}
        self._handles: list[Any] = []
        self._poisoned: Finding | None = None
        self._scaler, self._scale, self._skips, self._passed = scaler, 0.0, 0, False
        self._losses: deque[tuple[int, float]] = deque(maxlen=_HISTORY)

    # Life
    def __enter__(self) -> Monitor:
        if self._waits:
            self._handles.append(nn.modules.module.register_module_forward_pre_hook(lambda module, args: self._first_module(module)))
        else:
            self._watch_model()
        if self._optimizer is not None:
            self._watch_optimizer(self._optimizer)
        elif self._waits:
            self._handles.append(register_optimizer_step_pre_hook(lambda optimizer, *a: self._first_optimizer(optimizer)))
        self._spent, self._since = 0.0, _clock()
        return self

    def _first_module(self, module: nn.Module) -> None:
        """Of a monitor that was given no model: the first one that runs is it."""
        if self._waits:
            self._model, self._waits = module, False
            self._watch_model()

    def _first_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        if self._optimizer is None and not self._waits:
            self._optimizer = optimizer
            self._watch_optimizer(optimizer)

    def _watch_model(self) -> None:
        if self._scaler is not None and self._scaler.is_enabled():
            self._scale = self._scaler.get_scale()
            self._handles.append(self._model.register_forward_pre_hook(lambda *_: self._before_pass()))
        for path, module in self._model.named_modules():
            if next(module.children(), None) is None:
                if getattr(module, "inplace", False):  # what it overwrites has to be looked at before
                    self._handles.append(module.register_forward_pre_hook(lambda m, a: self._flush() if self._pending else None))
                self._handles.append(module.register_forward_hook(self._forward_hook(path, type(module).__name__)))
            elif module is self._model:
                self._handles.append(module.register_forward_hook(self._result_hook))
            if isinstance(module, _NORMS):
                self._lint_norm(path, module)
                self._handles.append(module.register_forward_pre_hook(self._norm_hook(path)))
            if module is self._model or isinstance(module, nn.modules.loss._Loss):
                self._handles.append(module.register_forward_hook(lambda m, a, output: self._loss_hook(output)))
            if isinstance(module, nn.Softmax):
                self._handles.append(module.register_forward_hook(self._entropy_hook(path)))
        if not self.steps:
            self._lint_parameters()
        self._find_parameters()

    def _watch_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._lint_optimizer(optimizer)
        self._handles.append(optimizer.register_step_pre_hook(lambda *a: self._before_update()))
        self._handles.append(optimizer.register_step_post_hook(lambda *a: self.step()))

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._end_step()
        self._read(raising=False)

    def step(self) -> None:
        """Ends a step: called by the optimizer's hook, or by the program where the monitor was given no optimizer."""
        start = _clock()
        self._passed, self._skips = False, 0
        self._after_update()
        self._end_step()
        self.steps += 1
        self._looks += self._looking
        self._looking = self.steps % _LEVELS[self._level][1] == 0
        self._looking_at_norms = self._looking and self.steps >= self._next_norms
        if self._looking_at_norms:
            self._next_norms = self.steps + self._read_every
        self._shadowing = self._looking and self._most_drift is not None and self.steps >= self._next_shadow
        if self._shadowing:
            self._next_shadow = self.steps + _SHADOW_EVERY
        try:
            if self.steps % self._read_every == 0:
                self._read(raising=True)
        finally:
            self._govern(start)

    def _govern(self, start: float) -> None:
        """Looks at less where the share of the steps' time that goes to watching is above the budget, at more where it is far below."""
        now = _clock()
        spent, whole = self._spent + now - start, now - self._since
        self._spent, self._since = 0.0, now
        self._window, self._window_spent, self._window_whole = self._window + 1, self._window_spent + spent, self._window_whole + whole
        if self._window < self._read_every:
            return
        self.share = self._window_spent / max(self._window_whole - self._window_spent, 1e-9)
        self._window, self._window_spent, self._window_whole = 0, 0.0, 0.0
        if self._cost is not None:
            if self.share > self._cost:
                self._level = min(self._level + (2 if self.share > 1.5 * self._cost else 1), len(_LEVELS) - 1)
            elif self.share < self._cost / 4 and self._level > 0:
                self._level -= 1

    def loss(self, value: Tensor) -> None:
        """Tells the step's loss where no module gives it: `growth` looks at it."""
        row = self._row("", "loss", "forward", "loss", torch.float32)
        if all(row is not known for known in self._step_rows):
            self._flush()
            self._step_rows.append(row)
            self._step_values.append(value.detach().float().reshape(1))

    def cast(self, name: str, x: Tensor, dtype: torch.dtype) -> None:
        """Tells what is about to be cast to a format of 8 bits, scaled: `fp8_scale` looks at what the cast would cut off. Where such a
        tensor passes between modules the monitor sees it by itself."""
        f = FORMATS.get(name_of(dtype))
        if f is None or dtype.itemsize != 1:
            raise TypeError(f"cast tells of a float8 dtype, got {dtype}")
        if self._looking and x.numel():
            with torch.no_grad():
                self._add(self._row(name, "cast", "forward", "over", dtype), (x.detach().abs().max().float() / f.max).reshape(1))

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

    def _find_parameters(self) -> None:
        named = self._model.named_parameters()
        self._parameters = [(self._row(path, "gradient", "update", "parameter", torch.float32), p) for path, p in named]

    def _add(self, row: _Row, x: Tensor) -> None:
        if not x.numel():
            return
        if x.is_cpu and not self._pending:  # now, while it is in the cache; a kept reference would keep its memory from being used again
            self._step_rows.append(row)
            self._ends.extend(torch.aminmax(self._view(x.detach())))
            return
        self._pending.append((row, x.detach()))
        if len(self._pending) >= 64:
            self._flush()

    def _view(self, x: Tensor) -> Tensor:
        """The tensor, or every n-th kilobyte of it, others each step."""
        every = _LEVELS[self._level][0]
        if every == 1 or type(x) is not Tensor or x.numel() < _LARGE or not x.is_contiguous():
            return x
        block = 1024 // x.element_size()
        rows = x.numel() // block
        first = self._looks % every
        offset = x.storage_offset() + first * block
        return x.as_strided(((rows - first + every - 1) // every, block), (every * block, 1), offset)

    def _flush(self) -> None:
        """What was handed over since the last time: one reduction of many tensors on a device, one stack of numbers on the CPU."""
        with torch.no_grad():
            if self._ends:
                ends = torch.stack([e if e.dtype is torch.float32 else e.float() for e in self._ends]).view(-1, 2)
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
        def of_gradient(row: _Row) -> Any:
            def hook(g: Tensor) -> None:
                start = _clock()
                self._add(row, g)
                self._spent += _clock() - start

            return hook

        outs: dict[tuple[int, torch.dtype], _Row] = {}

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not self._looking:
                return
            start = _clock()
            given, parents = _tensors(args), []
            for x in _narrow(output):
                # The largest number of a format, and above it what a cast made of still larger ones. A sound scale has few there, if any.
                with torch.no_grad():
                    cut = (x.detach().view(torch.uint8) & 0x7F) >= (0x7E if x.dtype is torch.float8_e4m3fn else 0x7B)
                    share = (cut.sum() - 4).clamp(min=0) / cut.numel()
                    self._add(self._row(path, op, "forward", "saturated", x.dtype), share.float().reshape(1))
            for x in given:
                known = self._known.get(id(x))
                if known is not None and known[0]() is x:
                    parents.append(known[1])
                else:
                    row = self._row(path, op, "forward", "in", x.dtype)
                    self._add(row, x)
                    parents.append(row)
            for at, x in enumerate(_tensors(output)):
                if any(x is y for y in given):  # passed through
                    continue
                found = outs.get((at, x.dtype))
                if found is None:
                    found = outs[(at, x.dtype)] = self._row(path, op, "forward", "out", x.dtype)
                self._known[id(x)] = (weakref.ref(x), found)
                self._add(found, x)
                self._parents.append((found, parents))
                if self._shadowing and len(given) == 1 and (off := drift(module, given[0], x, self.steps // _SHADOW_EVERY)) is not None:
                    self._add(self._row(path, op, "forward", "drift", x.dtype), off)
                if x.requires_grad:
                    x.register_hook(of_gradient(self._row(path, op, "backward", "grad", x.dtype)))  # type: ignore[no-untyped-call]
            self._spent += _clock() - start

        return hook

    def _result_hook(self, model: nn.Module, args: Any, output: Any) -> None:
        """What the model's own code makes last: no module takes it as an input, so that nobody else would see it."""
        if not self._looking:
            return
        start = _clock()
        given = _tensors(args)
        for x in _tensors(output):
            known = self._known.get(id(x))
            if (known is None or known[0]() is not x) and all(x is not y for y in given):
                row = self._row("", type(model).__name__, "forward", "out", x.dtype)
                self._parents.append((row, [made for made, _ in self._parents]))
                self._add(row, x)
        self._spent += _clock() - start

    def _loss_hook(self, output: Any) -> None:
        """A model, or a loss module, that gives one number, or has one under the name of a loss."""
        if not isinstance(output, Tensor):
            output = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
        if isinstance(output, Tensor) and output.numel() == 1 and output.is_floating_point() and output.requires_grad:
            start = _clock()
            self.loss(output)
            self._spent += _clock() - start

    def _before_pass(self) -> None:
        """Where the scaler took no step after the pass before and lowered its scale, that is how it finds one; not four times in a row."""
        if self._passed:
            scale = float(self._scaler.get_scale())
            if scale < self._scale:
                self._skips += 1
                self._judge_scale(scale)
            self._scale = scale
        self._passed = True

    def _entropy_hook(self, path: str) -> Any:
        """How sure the rows of a softmax of rank 3 or more are (attention): their mean entropy over the possible one, every 8th step."""

        def hook(module: nn.Softmax, args: Any, output: Any) -> None:
            if not self._looking or self._looks % 8 and self._level < 3 or not _tensors(output) or output.dim() < 3:
                return
            start = _clock()
            with torch.no_grad():
                axis = output.dim() - 1 if module.dim is None else module.dim
                p, x = (v.detach().movedim(axis, -1).flatten(0, -2) for v in (output, args[0]))
                every = max(1, p.shape[0] // 64)
                p, x = p[::every].float(), x[::every].float()
                share = torch.special.entr(p).sum(-1).mean() / math.log(max(2, p.shape[-1]))
                largest = torch.where(torch.isfinite(x), x, 0).abs().max()
                self._add(self._row(path, "Softmax", "forward", "logits", torch.float32), largest.reshape(1))
                self._add(self._row(path, "Softmax", "forward", "entropy", torch.float32), share.reshape(1))
            self._spent += _clock() - start

        return hook

    def _norm_hook(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            if not self._looking_at_norms or not args or not args[0].is_floating_point():
                return
            start = _clock()
            x = args[0].detach()
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                if not module.training:
                    return
                count = x.numel() // max(1, x.shape[1])
                part = x[:: max(1, min(x.shape[0] // 2, count // 4096))] if self._level else x
                v = _variance(part.float().transpose(0, 1).flatten(1))
            elif isinstance(module, nn.GroupNorm):
                v = _variance(x.reshape(x.shape[0], module.num_groups, -1).float())
            else:
                dims = list(range(-len(module.normalized_shape), 0))  # type: ignore[arg-type]
                rows = x.flatten(0, dims[0] - 1) if x.dim() > len(dims) else x
                if self._level and rows is not x:
                    rows = rows[:: max(1, min(_LEVELS[self._level][0], rows.shape[0] // 64))]
                flat = rows.float().flatten(dims[0])
                v = _variance(flat) if isinstance(module, nn.LayerNorm) else flat.square().mean(-1)
            row = self._row(path, type(module).__name__, "forward", "denominator", torch.float32)
            self._add(row, v.min().reshape(1))
            self._add(self._row(path, type(module).__name__, "forward", "denominator_mean", torch.float32), v.mean().reshape(1))
            self._spent += _clock() - start

        return hook

    def _before_update(self) -> None:
        start = _clock()
        self._flush()
        grads: dict[Any, list[tuple[_Row, Tensor]]] = {}
        self._sampled = []
        for row, p in self._parameters:
            if p.grad is None:
                continue
            grads.setdefault((p.grad.device, p.grad.dtype), []).append((row, p.grad))
            if p.dtype in (torch.float16, torch.bfloat16):
                stride = max(1, p.numel() // 1024)
                w = p.detach().reshape(-1)[::stride]
                self._sampled.append((row.path, p.detach(), w.clone(), p.grad.detach().reshape(-1)[::stride] != 0))
        if grads:
            with torch.no_grad():
                norms = [torch.stack(torch._foreach_norm([g for _, g in group], 2)).float() for group in grads.values()]
                each = norms[0] if len(norms) == 1 else torch.cat([n.to(norms[0].device, non_blocking=True) for n in norms])
                self._step_values += [each, torch.linalg.vector_norm(each).reshape(1)]
                for group in grads.values():
                    self._step_rows += [row for row, _ in group]
                self._step_rows.append(self._row("", "parameters", "update", "gradient_norm", torch.float32))
                self._second_moments()
        self._spent += _clock() - start

    def _second_moments(self) -> None:
        """Adam's: the root mean square of gradient / sqrt(second moment), of 64 weights of at most 16 parameters, always the same."""
        if not isinstance(self._optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            return
        g, v = [], []
        for group in self._optimizer.param_groups:
            for p in group["params"][:: max(1, len(group["params"]) // 16)]:
                state = self._optimizer.state.get(p)
                if p.grad is None or not state or "exp_avg_sq" not in state or not p.is_contiguous():
                    continue
                stride = max(1, p.numel() // 64)
                steps = float(state["step"]) if not isinstance(state["step"], Tensor) or state["step"].is_cpu else self.steps
                g.append(p.grad.detach().reshape(-1)[::stride][:64].float())
                v.append(state["exp_avg_sq"].reshape(-1)[::stride][:64].float() / (1 - group["betas"][1] ** max(1.0, steps)))
        if g:
            gs, vs = torch.cat(g), torch.cat(v)
            share = torch.where(vs > 0, gs.square() / torch.where(vs > 0, vs, 1), 0).sum() / (vs > 0).sum().clamp(min=1)
            self._step_rows.append(self._row("", "parameters", "update", "adam", torch.float32))
            self._step_values.append(share.sqrt().reshape(1))

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
        self._find_parameters()  # a program may exchange them
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
        lost = [row for row, v in zip(rows, values) if row.role == "parameter" and not math.isfinite(v)]
        if (bad or lost) and self._poisoned is not None:  # weights that a bad step wrote: more of the same
            self._poisoned.count += 1
        elif bad:
            self._blame(step, rows, dict(zip(map(id, rows), values)), parents, bad)
        if lost and self._poisoned is None:  # gradients are looked at in full, results in part
            text = f"the gradients of {len(lost)} parameters are NaN or infinite, this one's last; who made it was not looked at"
            self._poisoned = self._find(Finding("fault", "nonfinite", step, lost[-1].path, "gradient", "update", text))
        if not bad and not lost:
            self._poisoned = None
            for loss in (v for row, v in zip(rows, values) if row.role == "loss" and not math.isfinite(v)):
                text = f"the loss is {'NaN' if math.isnan(loss) else 'an infinity'}, and all that went into it is finite"
                self._find(Finding("fault", "nonfinite", step, "", "loss", "forward", text))
        for row, v in zip(rows, values):
            if row.role == "gradient_norm":
                self._judge_norm(step, row, v)
            elif row.role == "absorbed":
                self._judge_absorbed(step, row, v)
            elif row.role == "adam":
                self._judge_adam(step, v)
            elif row.role == "loss":
                self._judge_loss(step, v)
            elif math.isfinite(v) and row.role != "parameter":
                row.history.append((step, v))
                if row.role == "denominator":
                    mean = self._rows[(row.path, "forward.denominator_mean")].history
                    self._judge_denominator(step, row, v, mean[-1][1] if mean else v)
                elif row.role == "entropy":
                    self._judge_entropy(step, row)
                elif row.role == "drift":
                    self._judge_drift(step, row, v)
                elif row.role in ("saturated", "over"):
                    self._judge_fp8(step, row)
                elif row.role in ("in", "out", "grad") and not bad:
                    self._judge_jump(step, row, v)
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
        left = [(s, math.log2(f.max) - math.log2(x)) for s, x in list(row.history)[-8:] if x > 0]
        if len(left) == 8 and all(bits == room for _, bits in left):  # a mask's fill
            return
        eta, fit = _eta(left)
        if left[0][1] - room < 0.05 * 7:  # no trend
            eta = math.inf
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
            text = f"smallest variance {low:.3g} (mean {mean:.3g}) shrinks, zero in about {eta:.0f} steps, eps {eps:g}"
            self._find(Finding("warning", "denominator", step, row.path, row.op, "forward", text, suggestion, eta))

    def _judge_norm(self, step: int, row: _Row, v: float) -> None:
        """D4: growth without a pause; D9: a gradient norm far from what it was."""
        if not math.isfinite(v):
            return
        known = [math.log2(x) for _, x in self._norms if x > 0]
        if v > 0 and len(known) >= 30:
            middle = statistics.median(known)
            spread = max(1.4826 * statistics.median(abs(x - middle) for x in known), 0.25)
            if math.log2(v) > middle + 6 * spread and math.log2(v) > max(known) + math.log2(10):
                text = f"gradient norm {v:.3g} is {2 ** (math.log2(v) - middle):.0f} times its median and ten times any before"
                hint = f"gradient clipping at {2 * 2**middle:.2g}"
                self._find(Finding("warning", "gradient_norm", step, "", "parameters", "update", text, hint))
        self._norms.append((step, v))
        rises = [math.log2(b / a) if a > 0 and b > 0 else 0 for (_, a), (_, b) in zip(list(self._norms)[-8:], list(self._norms)[-7:])]
        if len(rises) >= 7 and all(r > 0.5 for r in rises):
            text = f"gradient norm {v:.3g} grew by {2 ** (sum(rises) / len(rises)):.2g} a step for {len(rises)} steps"
            eta = (127 - math.log2(v)) / (sum(rises) / len(rises))
            self._find(Finding("warning", "growth", step, "", "parameters", "update", text, "a smaller learning rate", eta))

    def _judge_loss(self, step: int, v: float) -> None:
        """D4: a loss that grows seven times in a row by more than half a bit."""
        if not math.isfinite(v):
            return
        self._losses.append((step, v))
        last = [x for _, x in list(self._losses)[-8:]]
        if len(last) < 8 or min(last) <= 0 or any(b < a * math.sqrt(2) for a, b in zip(last, last[1:])):
            return
        bits = math.log2(last[-1] / last[0]) / 7
        text = f"the loss {v:.3g} grew by {2**bits:.2g} a step for 7 steps"
        hint = "a smaller learning rate, or gradient clipping"
        self._find(Finding("warning", "growth", step, "", "loss", "forward", text, hint, (127 - math.log2(v)) / bits))

    def _judge_scale(self, scale: float) -> None:
        """D12: a loss scale that falls without a step between. The passes whose step was left out are not looked at, but for the last."""
        self._flush()
        rows, values, parents = self._step_rows, self._step_values, self._parents
        self._step_rows, self._step_values, self._parents = [], [], []
        self._known.clear()
        if self._skips != 4:
            return
        path, op, phase = "", "backward", "backward"
        if rows:
            numbers = torch.cat([v.to(values[-1].device) for v in values]).tolist()
            bad = {id(row) for row, v in zip(rows, numbers) if not math.isfinite(v) and row.role in ("in", "out", "grad")}
            if bad:
                self._blame(self.steps, rows, dict(zip(map(id, rows), numbers)), parents, bad)
            if self._poisoned is not None:
                path, op, phase = self._poisoned.path, self._poisoned.op, self._poisoned.phase
        text = f"the loss scale fell four times in a row, to {scale:g}, and no step was taken: something overflows at any scale"
        hint = "what overflows in bfloat16 or float32, or a smaller gain there"
        finding = self._find(Finding("warning", "loss_scale", self.steps, path, op, phase, text, hint))
        if self._break:
            raise InstabilityError(finding)

    def _judge_absorbed(self, step: int, row: _Row, share: float) -> None:
        """D7: weights whose update is smaller than half of their last digit."""
        self._absorbed[row.path] = self._absorbed.get(row.path, 0) + 1 if share > 0.5 else 0
        if self._absorbed[row.path] >= 10:
            text = f"{100 * share:.0f} % of the weights with a gradient did not change for 10 steps: updates are below half a digit"
            self._find(Finding("warning", "absorption", step, row.path, "update", "update", text, "float32 master weights"))

    def _judge_adam(self, step: int, v: float) -> None:
        """D8: gradients that the second moment does not know yet."""
        if not math.isfinite(v):
            return
        norms = [x for _, x in self._norms]
        new = len(norms) < 2 or norms[-1] > max(norms[:-1])  # this step's norm was judged before
        if len(self._ratios) >= 20 and v > 5 and v > 3 * max(self._ratios) and new:
            before = max(self._ratios)
            text = f"the root mean square of gradient / sqrt(second moment) is {v:.1f}, {before:.2g} at most before: too long a step"
            hint = "a smaller beta2, or clipping of the update"
            self._find(Finding("warning", "adam", step, "", type(self._optimizer).__name__, "update", text, hint))
        self._ratios.append(v)

    def _judge_jump(self, step: int, row: _Row, v: float) -> None:
        """D4, kind jump: 16 bits more than in all of at least 16 readings before, which lay within 8 bits. The first in a step speaks."""
        before = [x for s, x in row.history if s < step and x > 0]
        if len(before) < 16 or v <= 0 or step == self._jumped or v < 65536 * max(before) or max(before) > 256 * min(before):
            return
        self._jumped = step
        text = f"largest magnitude {v:.3g}, never above {max(before):.3g} in {len(before)} readings"
        hint = "compute the step again: what does not come back is the machine's, else look at the batch"
        self._find(Finding("warning", "jump", step, row.path, row.op, row.phase, text, hint))

    def _judge_entropy(self, step: int, row: _Row) -> None:
        """D10: rows of a softmax that settle on one entry while its input grows."""
        low = [x for _, x in list(row.history)[-4:]]
        logits = [x for _, x in list(self._rows[(row.path, "forward.logits")].history)[-4:]]
        grown = len(logits) == 4 and logits[-1] > 32 and all(a < b for a, b in zip(logits, logits[1:]))
        if len(low) == 4 and max(low) < 0.1 and grown:
            text = f"rows use {100 * low[-1]:.1f} % of the possible entropy, the largest input {logits[-1]:.3g} grows"
            hint = "normalised queries and keys, or a smaller learning rate"
            self._find(Finding("warning", "attention_entropy", step, row.path, row.op, "forward", text, hint))

    def _judge_drift(self, step: int, row: _Row, ulps: float) -> None:
        """D5: what rounding cost."""
        if self._most_drift is not None and ulps > self._most_drift:
            text = f"a value that was computed again in float64 is off by {ulps:.3g} units in the last place of {name_of(row.dtype)}"
            hint = "a wider dtype there, or an input without the part that cancels"
            self._find(Finding("warning", "lost_bits", step, row.path, row.op, "forward", text, hint))

    def _judge_fp8(self, step: int, row: _Row) -> None:
        """D11: a scale from the past: two readings in a row that a cast to 8 bits cuts off."""
        last = [x for _, x in list(row.history)[-2:]]
        if len(last) < 2 or min(last) <= (1.05 if row.role == "over" else 1e-3):
            return
        bits = math.ceil(math.log2(last[-1])) + 1 if row.role == "over" else 1
        what = f"is {last[-1]:.3g} times" if row.role == "over" else f"holds in {100 * last[-1]:.2g} % of its values"
        text = f"what is cast to {name_of(row.dtype)} {what} the largest number of the format, two readings in a row"
        hint = f"scale by this step's largest value, or leave a margin of {bits} bits"
        self._find(Finding("warning", "fp8_scale", step, row.path, row.op, "forward", text, hint))

    # Before the first step (D14).
    def _lint_norm(self, path: str, module: nn.Module) -> None:
        eps = getattr(module, "eps", None)
        p = next(module.parameters(), None)
        if eps and p is not None and rounded(float(eps), FORMATS[name_of(p.dtype)]) == 0:
            text = f"eps {eps:g} is 0 in {name_of(p.dtype)}"
            self._find(Finding("warning", "epsilon", 0, path, type(module).__name__, "forward", text, "eps = 1e-05"))

    def _lint_parameters(self) -> None:
        """D13: parameters whose exponents are spread as in random bits: memory that nothing was written to."""
        for path, p in self._model.named_parameters():
            f = FORMATS.get(name_of(p.dtype))
            if f is None or p.dtype.itemsize < 2 or p.numel() < 512 or p.is_meta:
                continue
            x = p.detach().reshape(-1)[:: max(1, p.numel() // 4096)].cpu().float()
            x = torch.where(torch.isfinite(x), x, 2.0**127)
            classes = torch.frexp(x).exponent // (1 if f.max < 1e30 else 8)  # 32 in all formats
            _, counts = torch.unique(classes, return_counts=True)
            share = counts.float() / counts.sum()
            if float(-(share * share.log2()).sum()) > 4.5:
                text = "exponents are spread as in random bits: was it initialised?"
                self._find(Finding("fault", "uninitialised", 0, path, "parameter", "forward", text, "torch.nn.init"))

    def _lint_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            eps = group.get("eps")
            for dtype in {p.dtype for p in group["params"]}:
                if eps and dtype.is_floating_point and rounded(float(eps), FORMATS[name_of(dtype)]) == 0:
                    text = f"eps {eps:g} is 0 in {name_of(dtype)}, the dtype of the optimiser's state"
                    hint = "eps = 1e-04, or float32 state"
                    self._find(Finding("warning", "epsilon", 0, "", type(optimizer).__name__, "update", text, hint))


def _tensors(x: Any) -> list[Tensor]:
    if type(x) is tuple and len(x) == 1:
        x = x[0]
    if isinstance(x, Tensor):
        return [x] if x.is_floating_point() and x.dtype.itemsize > 1 else []
    if isinstance(x, (tuple, list)):
        return [t for y in x for t in _tensors(y)]
    return [t for y in x.values() for t in _tensors(y)] if isinstance(x, dict) else []


def _narrow(x: Any) -> list[Tensor]:
    """What of a module's results is in a format of 8 bits."""
    if isinstance(x, Tensor):
        return [x] if x.dtype in _EIGHT and x.numel() else []
    return [t for y in x for t in _narrow(y)] if type(x) in (tuple, list) else []


def _variance(x: Tensor) -> Tensor:
    """Of rows; much faster than torch.var."""
    return (x - x.mean(-1, keepdim=True)).square().mean(-1)


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
    model: nn.Module | None = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    read_every: int = 10,
    cost: float | None = 0.04,
    break_on_instability: bool = False,
    max_ulp_drift: float | None = 1000,
    on_finding: Callable[[Finding], None] | None = None,
    scaler: Any = None,
) -> Monitor:
    """A context in which every module of `model` is watched: its output, the gradient of that, norm layers' variances, the update.

    The largest magnitude of each stays on the device and is read every `read_every` steps. Detectors: `nonfinite` (which module made the
    first NaN or infinity, or between which modules the program did), `headroom` (will overflow its dtype, with steps left), `jump`,
    `underflow` (float16 gradients), `denominator` (variances of norm layers), `growth` (of gradients and loss) and `gradient_norm`, `adam`
    (gradients that the second moment does not know), `attention_entropy` (of nn.Softmax), `absorption` (updates too small for 16-bit
    weights), `loss_scale` (it falls four times without a step between), `fp8_scale` (values of modules' float8 results, or of what
    `Monitor.cast` tells of, that the cast cuts off), `lost_bits` (every 50 steps some values of each nn.Linear, convolution, nn.LayerNorm,
    nn.RMSNorm and nn.Softmax are computed again in float64: one is off by more than `max_ulp_drift` units in the last place; None: no such
    values); before the first step `epsilon` (one that its dtype does not have)
    and `uninitialised` (parameters). With `optimizer` each of its steps ends one here, else call `step()`.
    Without `model` it is the first module that runs, and the optimiser the first that makes a step.

    The loss is seen where `model`, or a loss module in it, returns it (one number, or `loss` of a dict or an output); elsewhere
    `Monitor.loss(value)` tells it. `scaler`, a torch.amp.GradScaler: passes whose step it leaves out are no faults.

    `cost` is the share of a step's time that watching may take, by the host's clock: it begins with every 16th kilobyte of large tensors,
    then goes down to every 16th step, or up to everything. Gradients of parameters are always looked at in
    full, so that no NaN in them is missed. None: everything, each step. `Monitor.share` says what it takes. `break_on_instability`
    raises InstabilityError at the reading that finds something.

    >>> model = torch.nn.Linear(2, 1)
    >>> with monitor(model) as m:
    ...     _ = model(torch.tensor([[float("inf"), 1.0]]))
    ...     m.step()
    >>> m.findings[0].detector
    'nonfinite'
    """
    return Monitor(model, optimizer, read_every, cost, break_on_instability, max_ulp_drift, on_finding, scaler)
