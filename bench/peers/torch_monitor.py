#!/usr/bin/env python3
"""What watching a PyTorch model costs: keel.numerics.torch.monitor, detect_anomaly, and an isfinite hook per module,
on a small GPT and a CNN.

A step is forward, backward and SGD. All ways take turns, so that what else the machine does hits them alike; printed is the
median over rounds of each way's time over the plain one's in the same round, and the middle half of those ratios.
`plain again` is the control: how far 1.000 is to be trusted.

    python3 bench/peers/torch_monitor.py [--rounds 5] [--steps 10] [--threads 1] [--only gpt|cnn]
"""

import argparse
import contextlib
import statistics
import time

import torch
from keel.numerics.torch import monitor
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln1, self.attn, self.ln2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Gpt(nn.Module):
    def __init__(self, vocabulary=96, width=192, layers=3, heads=6):
        super().__init__()
        self.embed, self.blocks, self.head = (
            nn.Embedding(vocabulary, width),
            nn.Sequential(*[Block(width, heads) for _ in range(layers)]),
            nn.Linear(width, vocabulary),
        )

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)))


def cnn():
    def stage(i, o):
        return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *stage(3, 32),
        *stage(32, 32),
        nn.MaxPool2d(2),
        *stage(32, 64),
        *stage(64, 64),
        nn.MaxPool2d(2),
        *stage(64, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def cases():
    torch.manual_seed(0)
    yield "GPT 3 x 192, batch 4 x 128", Gpt(), torch.randint(0, 96, (4, 128)), torch.randint(0, 96, (4 * 128,))
    yield "CNN 5 convolutions, batch 16 x 3 x 32 x 32", cnn(), torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))


@contextlib.contextmanager
def isfinite_hooks(model):
    """The usual guard: every module's output is looked at, and the host waits for the answer."""

    def hook(module, args, output):
        if isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
            raise FloatingPointError(type(module).__name__)

    handles = [m.register_forward_hook(hook) for m in model.modules()]
    yield
    for h in handles:
        h.remove()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="steps a measurement")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name, model, x, y in cases():
        if args.only and not name.lower().startswith(args.only):
            continue
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        # One monitor for all rounds: its governor has found its measure after the first steps, as in a long run.
        watching, frugal = (monitor(model, optimizer=optimizer, cost=cost) for cost in (0.04, 0.02))
        ways = {
            "plain": contextlib.nullcontext,
            "plain again": contextlib.nullcontext,
            "monitor": lambda: watching,
            "monitor, cost=0.02": lambda: frugal,
            "monitor, cost=None": lambda: monitor(model, optimizer=optimizer, cost=None),
            "isfinite hook a module": lambda: isfinite_hooks(model),
            "detect_anomaly": torch.autograd.detect_anomaly,
        }

        def step():
            optimizer.zero_grad()
            logits = model(x)
            nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y).backward()
            optimizer.step()

        def measure(way):
            with ways[way]():
                start = time.perf_counter()
                for _ in range(args.steps):
                    step()
                return (time.perf_counter() - start) / args.steps

        for way in ways:
            for _ in range(40 // args.steps if way.startswith("monitor") else 1):
                measure(way)
        times = [{way: measure(way) for way in (ways if i % 2 else reversed(ways))} for i in range(args.rounds)]
        middle = 1e3 * statistics.median(t["plain"] for t in times)
        print(f"{name}, {args.threads} thread(s): plain step {middle:.1f} ms (median of {args.rounds} rounds)")
        for way in ways:
            ratios = sorted(t[way] / t["plain"] for t in times)
            if way != "plain":
                low, _, high = statistics.quantiles(ratios, n=4)
                print(f"  {way:24} {statistics.median(ratios):6.3f} x   middle half {low:.3f} - {high:.3f}")
        print(f"  by its own clock the monitor takes {watching.share:.3f}, with cost=0.02 {frugal.share:.3f}")


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", message="Anomaly Detection")
    main()
