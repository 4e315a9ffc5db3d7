#!/usr/bin/env python3
"""Writes the learning rates of PyTorch's schedulers as a C++ table: python3 tests/unit/schedule_goldens.py > tests/unit/schedule_goldens.h (made with torch 2.15)."""
import torch

S = torch.optim.lr_scheduler


def rates(make, steps, lr=0.1, momentum=0.9, metric=None, what="lr"):
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=momentum)
    s = make(opt)
    out = [opt.param_groups[0][what]]
    for i in range(steps):
        opt.step()
        s.step(metric(i)) if metric else s.step()
        out.append(opt.param_groups[0][what])
    return out


def warm(opt):
    return S.SequentialLR(opt, [S.LinearLR(opt, 0.1, 1.0, 5), S.CosineAnnealingLR(opt, 15, 0.001)], [5])


METRIC = [1.0, 0.9, 0.95, 0.9, 0.93, 0.92, 0.91, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.79999, 0.8, 0.5, 0.6, 0.6, 0.6, 0.6]
TABLES = {
    "step": rates(lambda o: S.StepLR(o, 3, 0.5), 12),
    "multistep": rates(lambda o: S.MultiStepLR(o, [2, 5, 5, 9], 0.3), 12),
    "exponential": rates(lambda o: S.ExponentialLR(o, 0.93), 20),
    "cosine": rates(lambda o: S.CosineAnnealingLR(o, 20, 0.002), 20),
    "cosine_warm": rates(warm, 20),
    "one_cycle": rates(lambda o: S.OneCycleLR(o, 0.4, 25), 24),
    "one_cycle_momentum": rates(lambda o: S.OneCycleLR(o, 0.4, 25), 24, what="momentum"),
    "one_cycle_linear": rates(lambda o: S.OneCycleLR(o, 0.4, 25, anneal_strategy="linear", pct_start=0.2, div_factor=10, final_div_factor=100), 24),
    "one_cycle_three": rates(lambda o: S.OneCycleLR(o, 0.4, 30, three_phase=True), 29),
    "one_cycle_three_momentum": rates(lambda o: S.OneCycleLR(o, 0.4, 30, three_phase=True), 29, what="momentum"),
    "plateau": rates(lambda o: S.ReduceLROnPlateau(o, patience=2, cooldown=1, factor=0.5), 21, metric=lambda i: METRIC[i]),
    "plateau_max": rates(lambda o: S.ReduceLROnPlateau(o, mode="max", threshold_mode="abs", threshold=0.01, patience=1, factor=0.1, min_lr=0.002), 21, metric=lambda i: -METRIC[i]),
    "lambda_rule": rates(lambda o: S.LambdaLR(o, lambda t: 1 / (1 + t)), 10),
}
print("// Written by schedule_goldens.py.\n#pragma once\n#include <vector>\n\nnamespace keel::goldens {")
print("inline const std::vector<double> metric{" + ", ".join(repr(v) for v in METRIC) + "};")
for name, values in TABLES.items():
    lines, line = [], "   "
    for v in values:
        if len(line) > 120:
            lines.append(line)
            line = "   "
        line += f" {v!r},"
    print(f"inline const std::vector<double> {name}{{\n" + "\n".join(lines + [line]) + "};")
print("}  // namespace keel::goldens")
