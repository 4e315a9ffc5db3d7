#!/usr/bin/env python3
"""Keel's safe ops beside the `where` expressions of NumPy and PyTorch, in turns, in one process on one core.

numerics.py [--elements 1000000] [--seconds 0.5] [--only TEXT] [--dtype float64] [--json]

A round runs all of a row once each, the order turning by one; a run is as many calls as last about 2 ms. Printed: milliseconds of a call
(the median), and per peer the median over the rounds of (the peer's time of the round / Keel's), with its 10th and 90th percentile: above 1
Keel is quicker. The expressions are those that their users write: np.divide with where=, torch.where with the masked operand replaced;
np.nan_to_num and np.isclose where the library has the function itself. Rows with `gradient` run forward and backward. Keel makes a new
tensor each call, as the others do.
"""
import argparse
import json
import math
import os
import statistics
import time

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before anybody counts the cores

import keel  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def turns(functions, seconds):
    """Times a call in seconds, a list a function, rounds aligned."""
    counts = []
    for f in functions:
        f()
        begin = time.perf_counter()
        f()
        counts.append(max(1, int(2e-3 / max(time.perf_counter() - begin, 1e-7))))
    times = [[] for _ in functions]
    end, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or len(times[0]) < 9:
        for k in range(len(functions)):
            i = (k + turn) % len(functions)
            begin = time.perf_counter()
            for _ in range(counts[i]):
                functions[i]()
            times[i].append((time.perf_counter() - begin) / counts[i])
        turn += 1
    return times


def rows(n, dtype):
    r = np.random.default_rng(1)
    a, b = r.uniform(-1, 1, n).astype(dtype), r.uniform(-1, 1, n).astype(dtype)
    b[::16] = 0
    odd = a.copy()
    odd[::16], odd[5::16] = np.nan, np.inf
    ka, kb, ko = (keel.tensor(x) for x in (a, b, odd))
    ta, tb, to = (torch.from_numpy(x.copy()) for x in (a, b, odd))
    ga, gb, ua, ub = (x.clone().requires_grad_() for x in (ka, kb, ta, tb))
    kg, tg = keel.ones((n,), dtype=ka.dtype), torch.ones(n, dtype=ta.dtype)
    rtol, atol = (1e-9, 1e-9) if dtype == "float64" else (1e-6, 1e-7)

    def numpy_div():
        return np.divide(a, b, out=np.zeros_like(a), where=b != 0)

    def torch_div(x, y):
        bad = y == 0
        return torch.where(bad, 0, x / torch.where(bad, 1, y))

    def torch_near():
        return (ta - tb).abs() <= torch.clamp(rtol * torch.maximum(ta.abs(), tb.abs()), min=atol)

    def torch_soft_clamp():
        return torch.nn.functional.softplus(ta, 10, 1e9) - torch.nn.functional.softplus(ta - 0.5, 10, 1e9)

    def numpy_soft_clamp():
        return (np.logaddexp(0, 10 * a) - np.logaddexp(0, 10 * (a - 0.5))) / 10

    km, tm, am = ka[: n // 1000 * 1000].reshape(-1, 1000), ta[: n // 1000 * 1000].reshape(-1, 1000), a[: n // 1000 * 1000].reshape(-1, 1000)

    def numpy_pow():
        p = np.power(a, b)
        return np.where(np.isfinite(p), p, 0)

    def torch_pow():
        p = torch.pow(ta, tb)
        return torch.where(p.isfinite(), p, 0)

    def numpy_softmax():
        e = np.exp(am - am.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    yield "div_safe", lambda: keel.div_safe(ka, kb, otherwise=0), {"numpy": numpy_div, "torch": lambda: torch_div(ta, tb)}
    yield ("div_safe with gradient", lambda: keel.grad([keel.div_safe(ga, gb, otherwise=0)], [ga, gb], [kg]),
           {"torch": lambda: torch.autograd.grad(torch_div(ua, ub), (ua, ub), tg)})
    yield "near", lambda: keel.near(ka, kb), {"numpy": lambda: np.isclose(a, b, rtol, atol), "torch": torch_near, "torch.isclose": lambda: torch.isclose(ta, tb, rtol, atol)}
    yield "sanitize", lambda: keel.sanitize(ko), {"numpy": lambda: np.nan_to_num(odd), "torch": lambda: torch.nan_to_num(to)}
    yield "clamp_to_zero", lambda: keel.clamp_to_zero(ka), {"numpy": lambda: np.where(np.abs(a) <= atol, 0, a), "torch": lambda: torch.where(ta.abs() <= atol, 0, ta)}
    yield "clamp_safe", lambda: keel.clamp_safe(ka, -0.5, 0.5), {"numpy": lambda: np.clip(a, -0.5, 0.5), "torch": lambda: ta.clamp(-0.5, 0.5)}
    yield ("sqrt_safe", lambda: keel.sqrt_safe(ka, otherwise=0),
           {"numpy": lambda: np.sqrt(a, out=np.zeros_like(a), where=a >= 0), "torch": lambda: torch.where(ta < 0, 0, torch.sqrt(torch.where(ta < 0, 1, ta)))})
    yield ("log_safe", lambda: keel.log_safe(ka, otherwise=0),
           {"numpy": lambda: np.log(a, out=np.zeros_like(a), where=a > 0), "torch": lambda: torch.where(ta <= 0, 0, torch.log(torch.where(ta <= 0, 1, ta)))})
    yield ("rsqrt_safe", lambda: keel.rsqrt_safe(ka, otherwise=0),
           {"numpy": lambda: np.where(a > 0, 1 / np.sqrt(np.where(a > 0, a, 1)), 0), "torch": lambda: torch.where(ta > 0, torch.rsqrt(torch.where(ta > 0, ta, 1)), 0)})
    yield "pow_safe", lambda: keel.pow_safe(ka, kb, otherwise=0), {"numpy": numpy_pow, "torch": torch_pow}
    yield ("norm_safe of rows of 1000", lambda: keel.norm_safe(km, axis=(1,)),
           {"numpy": lambda: np.linalg.norm(am, axis=1), "torch": lambda: torch.linalg.vector_norm(tm, dim=1)})
    yield ("normalize_safe of rows of 1000", lambda: keel.normalize_safe(km),
           {"numpy": lambda: am / np.maximum(np.linalg.norm(am, axis=1, keepdims=True), 1e-12), "torch": lambda: torch.nn.functional.normalize(tm, dim=1)})
    yield "softmax_safe of rows of 1000", lambda: keel.softmax_safe(km), {"numpy": numpy_softmax, "torch": lambda: torch.softmax(tm, 1).nan_to_num(0)}
    yield "soft_relu", lambda: keel.soft_relu(ka, 2), {"numpy": lambda: np.logaddexp(0, 2 * a) / 2, "torch": lambda: torch.nn.functional.softplus(ta, 2, 1e9)}
    yield ("soft_near", lambda: keel.soft_near(ka, kb, rel_tol=0.1, abs_tol=0.1, temperature=0.1),
           {"numpy": lambda: 1 / (1 + np.exp((np.abs(a - b) - np.maximum(0.1 * np.maximum(np.abs(a), np.abs(b)), 0.1)) / 0.1)),
            "torch": lambda: torch.sigmoid((torch.clamp(0.1 * torch.maximum(ta.abs(), tb.abs()), min=0.1) - (ta - tb).abs()) / 0.1)})
    yield "soft_clamp", lambda: keel.soft_clamp(ka, 0, 0.5), {"numpy": numpy_soft_clamp, "torch": torch_soft_clamp}
    yield "soft_compare", lambda: keel.soft_compare(ka, kb), {"numpy": lambda: np.tanh(a - b), "torch": lambda: torch.tanh(ta - tb)}
    yield "ulp_next", lambda: keel.ulp_next(ka), {"numpy": lambda: np.nextafter(a, np.inf), "torch": lambda: torch.nextafter(ta, torch.tensor(math.inf, dtype=ta.dtype))}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--elements", type=int, default=1_000_000)
    p.add_argument("--seconds", type=float, default=0.5)
    p.add_argument("--only", default="")
    p.add_argument("--dtype", default="float64", choices=["float64", "float32"])
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    np.seterr(all="ignore")
    print(f"{o.elements} {o.dtype}, one thread, numpy {np.__version__}, torch {torch.__version__}")
    for name, ours, peers in rows(o.elements, o.dtype):
        if o.only not in name:
            continue
        times = turns([ours, *peers.values()], o.seconds)
        row = {"row": name, "keel_ms": statistics.median(times[0]) * 1e3}
        for peer, t in zip(peers, times[1:]):
            ratios = sorted(x / y for x, y in zip(t, times[0]))
            row[peer] = [statistics.median(ratios), ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]]
        if o.json:
            print(json.dumps(row))
        else:
            print(f"{name:30s} {row['keel_ms']:7.3f} ms", *(f"  {k} {v[0]:.2f} ({v[1]:.2f} to {v[2]:.2f})" for k, v in row.items() if isinstance(v, list)))


if __name__ == "__main__":
    main()
