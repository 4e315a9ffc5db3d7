#!/usr/bin/env python3
"""Writes what Python, NumPy and ml_dtypes say about scalar arithmetic as C++ tables: python3 tests/unit/numerics_goldens.py > tests/unit/numerics_goldens.h

Sums and means come from exact fractions, steps of 16- and 8-bit floats from NumPy's nextafter, special cases from Python's own float.
"""
import math
import random
import re
import textwrap
from fractions import Fraction

import ml_dtypes
import numpy as np

np.seterr(all="ignore")
INF, NAN = math.inf, math.nan
TINY, NORMAL, MAX = 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308


def c(x):
    if isinstance(x, bool):
        return "true" if x else "false"
    if isinstance(x, int):
        return str(x)
    if math.isnan(x):
        return "NAN"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    return re.sub(r"\.?0*p", "p", x.hex()).replace("p+0", "p0") if x else "-0.0" if math.copysign(1, x) < 0 else "0.0"


def table(kind, name, rows):
    print(f"inline const {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        text = " {" + ", ".join(row) + "},"
        if len(line) + len(text) > 140:
            print(line)
            line = "   "
        line += text
    print(f"{line}\n}};")


def attempt(f):
    """(has a result, result) as two C++ words."""
    try:
        r = f()
    except (ZeroDivisionError, OverflowError, ValueError):
        return ["false", "0.0"]
    return ["false", "0.0"] if isinstance(r, complex) else ["true", c(r)]


GRID = [0.0, -0.0, TINY, -TINY, NORMAL - TINY, -(NORMAL - TINY), NORMAL, -NORMAL, 1.0, -1.0, 1 + 2**-52, 1 - 2**-53, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 0.1, 1e10, -1e10, 1e300, MAX, -MAX, INF, -INF, NAN]

PAIRS = [0.0, -0.0, TINY, NORMAL, 1.0, -1.0, 1 - 2**-53, 0.5, -2.0, 3.0, -3.0, 1e300, -MAX, INF, -INF, NAN]

print("// Written by numerics_goldens.py.\n#pragma once\n#include <cmath>\n#include <cstdint>\n#include <vector>\n")
print("struct UlpGolden {\n  double x, next, prev, of;\n};")
rng = random.Random(5)
points = [x for x in GRID if not math.isnan(x)] + [rng.uniform(-1, 1) * 2.0 ** rng.randint(-1070, 1000) for _ in range(60)] + [s * 2.0**e for s in (1, -1) for e in (-1074, -1023, -1022, -1, 1, 52, 1023)]
table("UlpGolden", "kUlpGoldens", [[c(x), c(math.nextafter(x, INF)), c(math.nextafter(x, -INF)), c(abs(math.nextafter(x, INF) - x) if not math.isinf(x) else INF)] for x in points])

# Every code of the small formats: FNV-1a over the codes of nextafter(x, +inf) and of its distance from x, NaN as the positive quiet one.
print("struct FormatGolden {\n  uint64_t next, of, near_pairs;\n};")
for name, t, nan, largest in (("kFloat16", np.float16, 0x7E00, 65504), ("kBfloat16", ml_dtypes.bfloat16, 0x7FC0, None), ("kFloat8E4m3fn", ml_dtypes.float8_e4m3fn, 0x7F, 448), ("kFloat8E5m2", ml_dtypes.float8_e5m2, 0x7E, 57344)):
    size = np.dtype(t).itemsize
    code = np.uint16 if size == 2 else np.uint8
    every = np.arange(1 << (8 * size), dtype=np.uint32).astype(code).view(t)
    value = every.astype(np.float64)
    has_inf = name != "kFloat8E4m3fn"
    toward = np.full(every.shape, np.inf if has_inf else 448).astype(t)
    up = np.nextafter(every, toward)
    up_code, isnan = up.view(code).copy(), np.isnan(value)
    if not has_inf:
        isnan = isnan | (value == 448)
    up_code[isnan] = nan
    distance = np.abs(up.astype(np.float64) - value)
    distance[np.isinf(value)] = np.inf
    of_code = distance.astype(t).view(code).copy()
    assert np.all(of_code.view(t).astype(np.float64)[~isnan] == distance[~isnan])
    of_code[isnan] = nan
    rel, absolute = {"kFloat16": (1e-3, 1e-4), "kBfloat16": (1e-2, 1e-3), "kFloat8E4m3fn": (0.125, 0.0125), "kFloat8E5m2": (0.25, 0.025)}[name]
    near = 0
    single = every.astype(np.float32)
    for k in range(256) if size == 1 else range(0, 65536, 509):  # pairs with every 509th value
        b = single[k]
        d = np.abs(single - b)
        tol = np.maximum(np.float32(rel) * np.maximum(np.abs(single), np.abs(b)), np.float32(absolute))
        near += int(np.sum((single == b) | (np.isfinite(single) & np.isfinite(b) & np.isfinite(d) & (d <= tol))))

    def fnv(codes):
        h = 0xCBF29CE484222325
        for x in codes.tolist():
            h = ((h ^ x) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return f"{h:#x}u"
    print(f"inline const FormatGolden {name}Golden = {{{fnv(up_code)}, {fnv(of_code)}, {near}}};")

print("struct SumGolden {\n  std::vector<double> values;\n  bool fits;\n  double sum, mean;\n};")
lists = [[0.1] * 10, [1e16, 1.0, -1e16], [1e308, 1e308, -1e308], [MAX, MAX], [MAX, -MAX, TINY], [TINY], [TINY, TINY, TINY], [-0.0, -0.0], [1.0, 2.0, 4.0], [MAX, 2.0**969], [MAX, 2.0**970], [-MAX, -(2.0**970)],
         [1.0, 2.0**-53], [1.0, 2.0**-53, TINY], [1.0, 2.0**-53, -TINY], [1 + 2**-52, 2.0**-53], [NORMAL, -TINY], [0.5, 0.25, 2.0**-1074], [2.0**1000, -(2.0**947), 2.0**-1000], [2.0**32, -1.0, 2.0**-32]]
for n in (2, 3, 7, 40):
    for spread in (1, 40, 1000):
        lists.append([rng.uniform(-1, 1) * 2.0 ** rng.randint(-spread, min(spread, 900)) for _ in range(n)])
for _ in range(10):  # cancelling
    half = [rng.uniform(-1, 1) * 2.0 ** rng.randint(-200, 200) for _ in range(6)]
    rest = half + [-x for x in half] + [rng.uniform(-1, 1) * 2.0**-300]
    rng.shuffle(rest)
    lists.append(rest)
rows = []
for values in lists:
    exact = sum(map(Fraction, values), Fraction(0))
    try:
        total, fits = float(exact), True
    except OverflowError:
        total, fits = 0.0, False
    rows.append(["{" + ", ".join(map(c, values)) + "}", c(fits), c(total), c(float(exact / len(values)))])
print("inline const SumGolden kSumGoldens[] = {")
for row in rows:
    print(textwrap.fill("{" + ", ".join(row) + "},", 140, initial_indent=" " * 4, subsequent_indent=" " * 5))
print("};")

print("struct PairGolden {\n  double a, b;\n  bool has;\n  double result;\n};")
table("PairGolden", "kPowGoldens", [[c(a), c(b)] + attempt(lambda: a**b) for a in PAIRS for b in PAIRS])
table("PairGolden", "kModGoldens", [[c(a), c(b)] + attempt(lambda: math.fmod(a, b)) for a in PAIRS for b in PAIRS if b != 0 and not math.isinf(a)])
table("PairGolden", "kLogGoldens", [[c(a), c(b)] + attempt(lambda: math.log(a, b)) for a in PAIRS for b in PAIRS if not (b in (2.0, 10.0))])
