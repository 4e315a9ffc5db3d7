#!/usr/bin/env python3
"""keel.numerics.numpy and .torch beside the expressions that people write by hand, in turns: best of many, one million float64 or float32.

python3 bench/peers/numerics_python.py [--size 1000000] [--rounds 20]
"""

import argparse
import time

import keel.numerics.numpy as kn
import keel.numerics.torch as kt
import numpy as np
import torch


def by_hand_div(a, b):
    with np.errstate(all="ignore"):
        return np.where(b == 0, 0.0, a / b)


def forward_backward(f, *xs):
    xs = [x.detach().requires_grad_() for x in xs]
    f(*xs).sum().backward()


def double_where(a, b):  # the expression whose gradient has no NaN
    zero = b == 0
    return torch.where(zero, 0.0, a / torch.where(zero, 1.0, b))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    r = np.random.default_rng(0)
    a, b = r.standard_normal(args.size), r.standard_normal(args.size)
    c = a * (1 + 1e-10 * r.standard_normal(args.size))
    x, y, z = (torch.from_numpy(v.astype(np.float32)) for v in (a, b, c))
    cases = {
        "numpy div_safe | where(b == 0, 0, a / b)": (lambda: kn.div_safe(a, b, default=0.0), lambda: by_hand_div(a, b)),
        "numpy near | isclose": (lambda: kn.near(a, c), lambda: np.isclose(a, c, 1e-9, 1e-9)),
        "numpy sanitize | nan_to_num": (lambda: kn.sanitize(a), lambda: np.nan_to_num(a)),
        "torch div_safe | double where": (lambda: kt.div_safe(x, y, default=0.0), lambda: double_where(x, y)),
        "torch div_safe and gradient | double where": (
            lambda: forward_backward(lambda p, q: kt.div_safe(p, q, default=0.0), x, y),
            lambda: forward_backward(double_where, x, y),
        ),
        "torch near | isclose": (lambda: kt.near(x, z), lambda: torch.isclose(x, z, 1e-6, 1e-7)),
        "torch sanitize and gradient | nan_to_num": (
            lambda: forward_backward(kt.sanitize, x),
            lambda: forward_backward(torch.nan_to_num, x),
        ),
    }
    for name, pair in cases.items():
        best = [1e9, 1e9]
        for _ in range(args.rounds):
            for i, f in enumerate(pair):
                start = time.perf_counter()
                f()
                best[i] = min(best[i], time.perf_counter() - start)
        print(f"{name:45} {1e3 * best[0]:7.2f} ms | {1e3 * best[1]:7.2f} ms   {best[0] / best[1]:.2f} x")


if __name__ == "__main__":
    main()
