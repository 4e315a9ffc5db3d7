#!/usr/bin/env python3
"""Planted faults (docs/numerics/faults.md), re-implemented in PyTorch and, where it can say them, JAX: when do the usual guards speak?

Guards: torch.autograd.set_detect_anomaly (NaN in backward outputs), a forward hook on every module that looks for values that are not
finite, the rule "loss above ten times the largest of the last 100", jax_debug_nans. Lead: steps from the guard's word to the first loss,
gradient or weight that is not finite, or to the stall; 0: in the same step; -: never spoke.

    python3 bench/peers/faults_torch.py [--seeds N] [--only ROW ...]
"""
import argparse
import math
import statistics
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")


class Norm(nn.Module):
    def forward(self, x):
        c = x - x.mean(-1, keepdim=True)
        return c * torch.rsqrt((c * c).mean(-1, keepdim=True))


class Attention(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(w, w) for _ in range(4))

    def forward(self, x, mask=None):
        s = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(x.shape[-1])
        return self.out((s if mask is None else s + mask).softmax(-1) @ self.v(x))


class Block(nn.Module):
    def __init__(self, w, classes):
        super().__init__()
        self.attn, self.norm, self.head = Attention(w), nn.LayerNorm(w), nn.Linear(w, classes)

    def forward(self, x, mask=None):
        return self.head(self.norm(x + self.attn(x, mask)))


def mlp(i, h, o):
    return nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, o))


def scale(w, factor):
    w.data.mul_(factor)


class Row:
    """net, optimiser, loss(step), the failure if it is no NaN, and the dtype."""

    def __init__(self, net, loss, opt, stall=None, steps=300):
        self.net, self.loss, self.opt, self.stall, self.steps = net, loss, opt, stall, steps


def logits_grow():
    net = Block(32, 8)
    scale(net.attn.q.weight, 3), scale(net.attn.k.weight, 3)
    net.half()

    def loss(step):
        scale(net.attn.q.weight, 1.02), scale(net.attn.k.weight, 1.02)
        x = torch.randn(4, 12, 32)
        return nn.functional.cross_entropy(net(x.half()).float().flatten(0, 1), (x[..., 0] > 0).long().flatten())
    return Row(net, loss, torch.optim.SGD(net.parameters(), lr=1e-4))


def vanishing_variance():
    net = nn.Sequential(nn.Linear(16, 32, bias=False), Norm(), nn.Linear(32, 1))
    x, y = torch.randn(32, 16), torch.randn(32, 1)

    def loss(step):
        x.mul_(math.sqrt(0.5))
        return ((net(x) - y) ** 2).mean()
    return Row(net, loss, torch.optim.SGD(net.parameters(), lr=1e-3))


def softplus_by_hand():
    net = mlp(8, 32, 1)

    def loss(step):
        net[2].bias.data.add_(4)
        x = torch.randn(32, 8)
        z = net(x)
        return (torch.log(1 + torch.exp(z)) - z * (x[:, :1] > 0)).mean()
    return Row(net, loss, torch.optim.Adam(net.parameters(), lr=1e-2), steps=60)


def log_of_softmax():
    net = mlp(8, 32, 4)

    def loss(step):
        net[2].bias.data[0] += 2.5
        return nn.functional.nll_loss(torch.log(net(torch.randn(32, 8)).softmax(-1)), torch.randint(1, 4, (32,)))
    return Row(net, loss, torch.optim.Adam(net.parameters(), lr=1e-3), steps=100)


def gradients_underflow():
    net = mlp(16, 32, 4).half()

    def loss(step):
        x = torch.randn(32, 16)
        return nn.functional.cross_entropy(net(x.half()).float(), x[:, :4].argmax(1)) * 2.0 ** -min(step // 5, 20)
    return Row(net, loss, torch.optim.SGD(net.parameters(), lr=1e-3), lambda: (net[0].weight.grad == 0).float().mean() > 0.99, 200)


def updates_absorbed():
    net = nn.Linear(16, 4)
    nn.init.uniform_(net.weight, 0.75, 1.25)
    net.bfloat16()
    start, count = net.weight.detach().clone(), [0]

    def loss(step):
        count[0] = step
        return ((net(torch.randn(32, 16).bfloat16()) - torch.randn(32, 4).bfloat16()) ** 2).mean()
    stall = lambda: count[0] >= 20 and (net.weight == start).float().mean() > 0.5  # noqa: E731
    return Row(net, loss, torch.optim.Adam(net.parameters(), lr=1e-3), stall, 60)


class Points(nn.Module):
    def __init__(self):
        super().__init__()
        self.points = nn.Parameter(torch.randn(8, 4))

    def forward(self):
        return torch.sqrt((self.points ** 2).sum(-1))


def root_at_zero():
    net = Points()
    return Row(net, lambda step: 0.5 * (net() ** 2).sum(), torch.optim.SGD(net.parameters(), lr=0.5), steps=160)


class RowNorm(nn.Module):
    def forward(self, x):
        return torch.sqrt((x * x).sum(-1, keepdim=True))


def norm_of_zero_row():
    net = nn.Sequential(nn.Linear(8, 16, bias=False), RowNorm())

    def loss(step):
        x = torch.randn(16, 8)
        if step >= 50:
            x[3] = 0
        return ((net(x) - 1) ** 2).mean()
    return Row(net, loss, torch.optim.Adam(net.parameters(), lr=1e-3), steps=110)


class Rnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.input, self.hidden = nn.Linear(2, 8), nn.Linear(8, 8, bias=False)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 1)
        self.hidden.weight.data = 1.1 * torch.eye(8).roll(3, 1)

    def forward(self, x):
        h = torch.zeros(x.shape[1], 8)
        for t in range(x.shape[0]):
            h = self.input(x[t]) + self.hidden(h)
        return self.head(self.norm(h))


def recurrence_explodes():
    net = Rnn()

    def loss(step):
        x = torch.randn(8 * step, 2, 2) * 0.1
        return ((net(x) - x[-1, :, :1]) ** 2).mean()
    return Row(net, loss, torch.optim.SGD(net.parameters(), lr=1e-5), steps=130)


def rate_too_high():
    net = nn.Linear(16, 1, bias=False)
    x, y = 4 * torch.eye(16), torch.randn(16, 1)
    return Row(net, lambda step: ((net(x) - y) ** 2).mean(), torch.optim.SGD(net.parameters(), lr=1.25), steps=240)


def masked_row():
    net = Block(16, 4)

    def loss(step):
        lengths = torch.randint(2, 7, (4, 1, 1))
        if step == 20:
            lengths[1] = 0
        mask = torch.where(torch.arange(6) < lengths, 0.0, -math.inf)
        return nn.functional.cross_entropy(net(torch.randn(4, 6, 16), mask).flatten(0, 1), torch.randint(0, 4, (24,)))
    return Row(net, loss, torch.optim.Adam(net.parameters(), lr=1e-3), steps=60)


def poisoned_batch():
    net = mlp(8, 16, 1)

    def loss(step):
        x = torch.randn(16, 8)
        if step == 50:
            x[3, 2] = math.nan
        return ((net(x) - x[:, :1].nan_to_num()) ** 2).mean()
    return Row(net, loss, torch.optim.Adam(net.parameters(), lr=1e-3), steps=110)


class Gate(nn.Module):
    def forward(self, h):
        return torch.where(h > 0, torch.log(h), 0)


class Square(nn.Module):
    def forward(self, x):
        return x * x


def masked_lane():
    net = nn.Sequential(nn.Linear(8, 16, bias=False), Square(), Gate(), nn.Linear(16, 1))

    def loss(step):
        x = torch.randn(16, 8)
        if step >= 20:
            x[3] = 0
        return ((net(x) - torch.randn(16, 1)) ** 2).mean()
    return Row(net, loss, torch.optim.Adam(net.parameters(), lr=1e-3), steps=60)


ROWS = {1: logits_grow, 4: vanishing_variance, 5: softplus_by_hand, 6: log_of_softmax, 10: gradients_underflow, 13: updates_absorbed,
        15: root_at_zero, 16: norm_of_zero_row, 20: recurrence_explodes, 21: rate_too_high, 25: masked_row, 28: poisoned_batch,
        31: masked_lane}


def finite(row, loss):
    tensors = [loss] + [p for p in row.net.parameters()] + [p.grad for p in row.net.parameters() if p.grad is not None]
    return all(torch.isfinite(t).all() for t in tensors)


def run(make, seed, guard):
    """(step of the failure or 0, step of the guard's word or 0)."""
    torch.manual_seed(seed)
    row = make()
    spoke, losses, now = 0, [], [0]
    if guard == "hooks":
        heard = []
        for module in row.net.modules():
            module.register_forward_hook(lambda m, i, out: heard.append(now[0]) if not torch.isfinite(out).all() else None)
    for step in range(1, row.steps + 1):
        now[0] = step
        row.opt.zero_grad()
        loss = row.loss(step)
        try:
            with torch.autograd.set_detect_anomaly(guard == "anomaly"):
                loss.backward()
        except RuntimeError as e:
            assert "nan" in str(e), e
            spoke = step
        if guard == "hooks" and heard and not spoke:
            spoke = heard[0]
        if guard == "tenfold" and not spoke and len(losses) >= 5 and not loss.item() <= 10 * max(losses[-100:]):
            spoke = step
        losses.append(loss.item())
        if spoke == step and guard == "anomaly":
            return step, spoke
        row.opt.step()
        if not finite(row, loss) or (row.stall and row.stall()):
            return step, spoke
    return 0, spoke


def jax_rows():
    """Losses of the rows that jax can say in a line: value_and_grad under jax_debug_nans."""
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_debug_nans", True)
    k = jax.random.PRNGKey(0)
    w = jax.random.normal(k, (8, 4)) * 0.3
    x = jax.random.normal(jax.random.PRNGKey(1), (16, 8))

    def layer_norm(w, x):
        h = x @ w
        c = h - h.mean(-1, keepdims=True)
        return ((c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True)) - 1) ** 2).mean()
    cases = {
        4: lambda s: (layer_norm, x * 0.5 ** (s / 2)),
        5: lambda s: (lambda w, x: jnp.log(1 + jnp.exp(x @ w + 4.0 * s)).mean(), x),
        6: lambda s: (lambda w, x: -jnp.log(jax.nn.softmax(x @ w + jnp.array([2.5 * s, 0, 0, 0])))[:, 1].mean(), x),
        15: lambda s: (lambda w, x: (jnp.sqrt(((w * x[0, 0] * 0.5 ** s) ** 2).sum(0)) ** 2).sum(), x),
        16: lambda s: (lambda w, x: jnp.sqrt(((x @ w) ** 2).sum(-1)).sum(), x.at[3].set(0 if s >= 50 else 1.0)),
        21: lambda s: (lambda w, x: ((w * (-1.5) ** s) ** 2).sum(), x),
        25: lambda s: (lambda w, x: (jax.nn.softmax(x @ w + (-jnp.inf if s == 20 else 0.0)) ** 2).sum(), x),
        28: lambda s: (lambda w, x: ((x @ w) ** 2).sum(), x.at[3, 2].set(jnp.nan if s == 50 else 1.0)),
        31: lambda s: (lambda w, x: jnp.where((x @ w) ** 2 > 0, jnp.log((x @ w) ** 2), 0.0).sum(), x.at[3].set(0 if s >= 20 else 1.0)),
    }
    out = {}
    for number, case in cases.items():
        for step in range(1, 301):
            spoke = False
            try:
                f, arg = case(step)
                value, g = jax.value_and_grad(f)(w, arg)
            except FloatingPointError:
                spoke = True
            if spoke:
                out[number] = (step, "0")
                break
            if not (jnp.isfinite(value) and bool(jnp.isfinite(g).all())):
                out[number] = (step, "- (inf)")
                break
    return out


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--only", type=int, nargs="*", default=sorted(ROWS))
    o = a.parse_args()
    torch.set_num_threads(1)
    try:
        with_jax = jax_rows()
    except ImportError:
        with_jax = {}
    guards = ("anomaly", "hooks", "tenfold")
    print(f"torch {torch.__version__}; lead in steps, median of {o.seeds} seeds; - never spoke")
    print(f"{'row':<28} {'fails':>6} {'anomaly':>9} {'hooks':>7} {'10x loss':>9} {'jax debug_nans':>15}")
    for number in o.only:
        leads, fails = {}, []
        for guard in guards:
            found = []
            for seed in range(o.seeds):
                failed, spoke = run(ROWS[number], seed, guard)
                fails.append(failed)
                found.append(failed - spoke if spoke else None)
            known = [v for v in found if v is not None]
            leads[guard] = f"{statistics.median(known):.0f}" if len(known) * 2 > len(found) else "-"
        j = with_jax.get(number, (0, ""))[1]
        print(f"{number:>2} {ROWS[number].__name__:<25} {statistics.median(fails):>6.0f} {leads['anomaly']:>9} {leads['hooks']:>7} "
              f"{leads['tenfold']:>9} {j:>15}", flush=True)


if __name__ == "__main__":
    main()
