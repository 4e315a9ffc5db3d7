#!/usr/bin/env python3
"""Keel beside the frameworks a user would pick instead: `keel bench peers` and the peers' scripts run in turns, on the same cores, on
rows of the same name.

compare.py [--keel BINARY] [--peers FOLDER] [--only ROW] [--rounds 5] [--seconds 1] [--threads 1] [--json FILE] [--markdown] [--all]
[--libtorch]
  --peers     folder with torch_cpu.py, jax_cpu.py and libtorch_small.cpp (default: $KEEL_PEERS, else `peers` beside $KEEL_DATA, else
              ../shared/peers)
  --only      rows whose group or name holds this; groups: one_add mlp_tiny mlp_mnist cnn_mnist char_gpt resnet, and with --all or named
              here: gemm conv memory
  --libtorch  also compiles libtorch_small.cpp against the installed torch (about 20 s, once) for the C++ rows
  --json      one JSON object a row into FILE ('-': stdout)

What is compared. A round runs Keel and every peer once, each in a process of its own for --seconds a row after warm-up, in an order that
turns by one each round, all bound to the same --threads cores (another core each round).
The ratio of a row is Keel's best of a round over the best of the same round of the BEST peer (the one with the lowest median over the
rounds); printed: its median over the rounds and its lowest and highest.
Times: below 1 Keel is quicker. Rates (GFLOP/s, GB/s): above 1 Keel is quicker. Peak memory is the process's largest resident set; `own`
is what remains after taking away a process that only starts and imports.

Same for all: network, batch, f32 data and arithmetic, the labels' type (i64), the fixed batch already in memory, the loss (mean cross
entropy), the optimiser's formula and hyper-parameters, gradients cleared each step, channels-last images for ResNet-18.
Not the same, and which side it helps:
  - PyTorch runs its default optimisers (not fused=True). torch.compile compiles the network alone, as its documentation shows; loss and
    optimiser stay eager. Its ResNet-18 forward row is eager in both modes, so it appears once.
  - JAX jits the whole step with donated buffers (helps JAX); its images are NHWC, its GELU the tanh form where Keel and PyTorch compute
    erf (helps JAX), its GPT step Adam where they run AdamW (helps JAX), its attention keeps the T x T matrix. No ResNet-18.
  - JAX's script takes ten steps a sample, so that its best is a mean of ten (on a busy machine this helps Keel; the ratio of medians,
    printed beside, is free of it); the others' samples hold equally many steps.
  - `add [1]` of torch is called from Python; its C++ figure is the row `libtorch`. Keel's is C++.
  - sgemm: torch writes into a tensor made before (out=), Keel makes a new one each call (helps torch). `add ... out=` is in place in Keel,
    `add ... new` makes a new tensor in both.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GROUPS = {  # group: (what torch_cpu.py calls it, what jax_cpu.py calls it, do the rows compile, the names of its rows)
    "one_add": ("one_add", None, False, ["add [1] no_grad", "add [1] with grad"]),
    "mlp_tiny": ("mlp_tiny", "MLP 64", True, ["MLP 64-64-10 step b32 adam"]),
    "mlp_mnist": ("mlp_mnist", "MNIST MLP", True, ["MNIST MLP step b64 adam"]),
    "cnn_mnist": ("cnn_mnist", "MNIST CNN", True, ["MNIST CNN step b64 adam"]),
    "char_gpt": ("char_gpt", "char-GPT", True, ["char-GPT 4x128 T64 b12 step adamw"]),
    "resnet": ("resnet", None, True, ["ResNet-18 CIFAR step b32 sgd nhwc", "ResNet-18 CIFAR forward b32 nhwc"]),
    "gemm": ("gemm", None, False, []),
    "conv": ("conv", None, False, []),
    "memory": ("memory", None, False, ["add 10000000 new"]),
}
LONG = ("gemm", "conv", "memory")
ALIASES = {
    "char-GPT 4x128 T64 b12 step adam": "char-GPT 4x128 T64 b12 step adamw",
    "cpp add [1] no_grad": "add [1] no_grad",
    "cpp add [1] grad": "add [1] with grad",
    "cpp MLP 64-64-10 step b32 adam": "MLP 64-64-10 step b32 adam",
}
MARKS = {
    "MLP 64-64-10 step b32 adam": 0.7,
    "MNIST MLP step b64 adam": 0.75,
    "MNIST CNN step b64 adam": 0.3,
    "char-GPT 4x128 T64 b12 step adamw": 0.7,
    "ResNet-18 CIFAR step b32 sgd nhwc": 0.8,
}
MARKS_RATE = {"add 10000000 new": 2.0}
MARKS_NS = {"add [1] no_grad": 100, "add [1] with grad": 250}


class Runner:
    """One framework: how to start it for a group, and what its rows were, round by round."""

    def __init__(self, name, command):
        self.name, self.command, self.rows, self.peak, self.base, self.failed = name, command, {}, {}, 0, {}

    def start(self, command, cores):
        quiet = dict(os.environ, OMP_NUM_THREADS=str(len(cores)), TF_CPP_MIN_LOG_LEVEL="3", JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet, preexec_fn=lambda: os.sched_setaffinity(0, cores)
        )
        return communicate(process)

    def run(self, group, seconds, cores, counted=True):
        command = self.command(group, seconds)
        if not command:
            return
        out, error, process = self.start(command, cores)
        found = parse(out)
        if process.returncode or not found:
            self.failed[group] = error.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        if counted:
            for name, row in found.items():
                self.rows.setdefault(name, []).append(row)
            self.peak[group] = max(self.peak.get(group, 0), process.peak)


def communicate(process):
    """Both outputs and the exit code, and the process's own peak resident set in bytes."""
    error = []
    reader = threading.Thread(target=lambda: error.append(process.stderr.read()))
    reader.start()
    out = process.stdout.read()
    reader.join()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode, process.peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
    return out, error[0], process


def parse(text):
    found = {}
    for line in text.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            if "median" in row:
                found.setdefault(ALIASES.get(row["name"], row["name"]), row)
        elif line.startswith("cpp "):  # libtorch_small: NAME VALUE UNIT, three times
            name, value, unit = line.rsplit(" ", 2)
            row = found.setdefault(ALIASES.get(name, name), {"unit": unit, "all": []})
            row["all"].append(float(value))
            row["best"], row["median"] = min(row["all"]), statistics.median(row["all"])
    return found


def libtorch_binary(source):
    """libtorch_small.cpp compiled against the torch that Python imports."""
    target = ROOT / "build/peers/libtorch_small"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        torch = pathlib.Path(subprocess.check_output([sys.executable, "-c", "import torch; print(torch.__path__[0])"], text=True).strip())
        lib = torch / "lib"
        begin = time.perf_counter()
        subprocess.check_call(
            [
                "g++",
                "-std=c++20",
                "-O2",
                str(source),
                "-o",
                str(target),
                f"-I{torch}/include",
                f"-I{torch}/include/torch/csrc/api/include",
                f"-L{lib}",
                f"-Wl,-rpath,{lib}",
                "-Wl,--no-as-needed",
                "-ltorch",
                "-ltorch_cpu",
                "-lc10",
                "-Wl,--allow-shlib-undefined",
            ]
        )
        print(f"libtorch_small.cpp compiled in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return str(target)


def runners(a):
    torch, jax = a.peers / "torch_cpu.py", a.peers / "jax_cpu.py"
    n = str(a.threads)
    found = [Runner("Keel", lambda g, s: [a.keel, "bench", "peers", "--json", "--only", g, "--threads", n, "--seconds", str(s)])]

    def torch_row(compiled):
        def command(g, s):
            name, _, compiles, _ = GROUPS.get(g, (g, None, False, []))
            if compiled and not compiles:
                return None
            return [sys.executable, str(torch), "--threads", n, "--seconds", str(s), "--only", name] + (["--compile"] if compiled else [])

        return command

    def has(module):
        return subprocess.run([sys.executable, "-c", f"import {module}"], stderr=subprocess.DEVNULL, check=False).returncode == 0

    if torch.exists() and has("torch"):
        found += [Runner("torch", torch_row(False)), Runner("torch.compile", torch_row(True))]
    if jax.exists() and has("jax"):

        def jax_row(g, s):
            name = GROUPS[g][1] if g in GROUPS else g
            return [sys.executable, str(jax), "--seconds", str(s), "--only", name] if name else None

        found.append(Runner("jax", jax_row))
    if a.libtorch and (a.peers / "libtorch_small.cpp").exists():
        binary = libtorch_binary(a.peers / "libtorch_small.cpp")
        found.append(Runner("libtorch", lambda g, s: [binary] if g in ("one_add", "mlp_tiny") else None))
    if len(found) == 1:
        sys.exit(f"no peer: no torch_cpu.py or jax_cpu.py in {a.peers}, or neither torch nor jax is installed")
    return found


def judge(name, keel, others, group, facts):
    """One row of the table, or None where no peer ran it."""
    mine = keel.rows.get(name)
    theirs = {r.name: r.rows[name] for r in others if name in r.rows}
    if not mine or not theirs:
        return None
    unit = mine[0]["unit"]
    rate = unit.endswith("/s")
    pick = max if rate else min
    best = pick(theirs, key=lambda p: statistics.median(r["best"] for r in theirs[p]))
    ratios = sorted(x["best"] / y["best"] for x, y in zip(mine, theirs[best]))
    value = lambda rows: {"best": pick(r["best"] for r in rows), "median": statistics.median(r["median"] for r in rows)}
    row = {
        "name": name,
        "unit": unit,
        "keel": value(mine),
        "peers": {p: value(rows) for p, rows in theirs.items()},
        "best_peer": best,
        "ratio": statistics.median(ratios),
        "ratio_of_medians": statistics.median(x["median"] / y["median"] for x, y in zip(mine, theirs[best])),
        "ratio_low": ratios[0],
        "ratio_high": ratios[-1],
        "rounds": len(ratios),
        **facts,
        "peak_rss_bytes": {r.name: r.peak[group] for r in [keel, *others] if group in r.peak and r.name != "torch.compile"},
        "own_rss_bytes": {r.name: r.peak[group] - r.base for r in [keel, *others] if group in r.peak and r.name != "torch.compile"},
    }
    if name in MARKS:
        row["mark"] = MARKS[name]
    if name in MARKS_RATE:
        row["mark_rate"] = MARKS_RATE[name]
    if name in MARKS_NS:
        row["mark_ns"] = MARKS_NS[name]
    return row


def verdict(row):
    if "mark" in row:
        return f"mark {row['mark']:g}: {'met' if row['ratio'] <= row['mark'] else 'missed'}"
    if "mark_rate" in row:
        return f"mark {row['mark_rate']:g}: {'met' if row['ratio'] >= row['mark_rate'] else 'missed'}"
    if "mark_ns" in row:
        return f"mark {row['mark_ns']} ns: {'met' if row['keel']['best'] <= row['mark_ns'] else 'missed'}"
    return ""


def text(row):
    peers = "; ".join(f"{p} {v['best']:.4g} / {v['median']:.4g}" for p, v in row["peers"].items())
    memory = ", ".join(f"{p} {row['peak_rss_bytes'][p] / 1e6:.0f} (own {row['own_rss_bytes'][p] / 1e6:.0f})" for p in row["peak_rss_bytes"])
    return (
        f"{row['name']} [{row['unit']}, best / median]\n    Keel {row['keel']['best']:.4g} / {row['keel']['median']:.4g}; {peers}\n"
        f"    ratio to {row['best_peer']} {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}), of medians "
        f"{row['ratio_of_medians']:.3f}  {verdict(row)}\n    peak MB: {memory}"
    )


def markdown(rows):
    lines = [
        "| row | unit | Keel best (median) | peers, best (median) | best peer | ratio (spread) | mark |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        peers = ", ".join(f"{p} {v['best']:.4g} ({v['median']:.4g})" for p, v in r["peers"].items())
        lines.append(
            f"| {r['name']} | {r['unit']} | **{r['keel']['best']:.4g}** ({r['keel']['median']:.4g}) | {peers} | {r['best_peer']} "
            f"| **{r['ratio']:.2f}** ({r['ratio_low']:.2f} to {r['ratio_high']:.2f}) | {verdict(r)} |"
        )
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("KEEL_DATA")
    p.add_argument("--keel", default=str(ROOT / "build/release/apps/keel/keel"))
    p.add_argument(
        "--peers",
        type=pathlib.Path,
        default=pathlib.Path(
            os.environ.get("KEEL_PEERS") or (pathlib.Path(data).parent / "peers" if data else ROOT.parent / "shared/peers")
        ),
    )
    p.add_argument("--only", default="")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--json", default="")
    p.add_argument("--markdown", action="store_true")
    p.add_argument("--all", action="store_true")
    p.add_argument("--libtorch", action="store_true")
    a = p.parse_args()
    doctor = json.loads(subprocess.run([a.keel, "doctor", "--json"], stdout=subprocess.PIPE, text=True, check=True).stdout)
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    facts = {"threads": a.threads, "cpu": cpu, "isa": doctor["isa"]}
    keel, *others = runners(a)
    names = {
        r.name: subprocess.check_output(
            [sys.executable, "-c", f"import {r.name}; print({r.name}.__version__)"], text=True, stderr=subprocess.DEVNULL
        ).strip()
        for r in others
        if r.name in ("torch", "jax")
    }
    say = (lambda *x: print(*x, flush=True)) if a.json != "-" else (lambda *x: None)
    versions = ", ".join(f"{r.name} {names.get(r.name, '')}".strip() for r in others)
    say(
        f"{cpu}, Keel's kernels for {doctor['isa']}, {a.threads} thread(s), {a.rounds} rounds of {a.seconds:g} s a row; peers: {versions}\n"
        "in turns, in own processes, on the same core(s): same network, batch, f32, loss, optimiser, data in memory;\n"
        "ratio: best of a round over the best peer's, median (lowest to highest); --help says what differs\n"
    )
    cores = sorted(os.sched_getaffinity(0))
    chosen = [
        g
        for g, (_, _, _, row_names) in GROUPS.items()
        if (a.only in g or any(a.only in n for n in row_names)) and (a.all or a.only or g not in LONG)
    ]
    for r in [keel, *others]:
        out = r.command("-none-", 0.1)
        if out:
            r.base = r.start(out, cores[: a.threads])[2].peak
    table, sink = [], None
    if a.json and a.json != "-":
        sink = open(a.json, "w", encoding="utf-8")
    for group in chosen:
        for r in others:  # compilers fill their caches outside the rounds
            if r.name == "torch.compile":
                r.run(group, 0.1, set(cores), counted=False)
        for i in range(a.rounds):
            at = i * a.threads % len(cores)
            on = set((cores + cores)[at : at + a.threads])
            turn = i % (1 + len(others))
            order = [keel, *others]
            for r in order[turn:] + order[:turn]:
                r.run(group, a.seconds, on)
        for r in [keel, *others]:
            if group in r.failed:
                print(f"{r.name}, {group}: {' '.join(r.failed[group])}", file=sys.stderr)
        for name in list(keel.rows):
            if any(row["name"] == name for row in table):
                continue
            for r in others:  # not compiled: the same as eager
                if r.name == "torch.compile" and name == "ResNet-18 CIFAR forward b32 nhwc":
                    r.rows.pop(name, None)
            row = judge(name, keel, others, group, facts)
            if row:
                table.append(row)
                say(text(row))
                line = json.dumps(row)
                if sink:
                    print(line, file=sink, flush=True)
                elif a.json == "-":
                    print(line, flush=True)
    if a.markdown:
        say(f"\n{cpu}, {doctor['isa']}, {a.threads} thread(s)\n\n{markdown(table)}")


if __name__ == "__main__":
    main()
