#!/usr/bin/env python3
"""Keel beside its peers: runs `keel bench peers` and a peer's script in turns and prints, for each row that both know, the ratio of their medians (best of each round), its median and its spread over the rounds.

compare.py KEEL PEER_SCRIPT... [--rounds 5] [--threads 1] [--seconds 1] [--only GROUP] [--json]
A peer script takes --threads, --seconds and --only and prints JSON lines with name, unit, best and median, as keel does. For times a ratio below 1 means that Keel is faster, for rates above 1.
"""
import argparse
import json
import statistics
import subprocess
import sys

GROUPS = ["one_add", "mlp_tiny", "mlp_mnist", "cnn_mnist", "char_gpt", "resnet", "gemm", "conv", "memory"]


def rows(command):
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found = {}
    for line in out.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            if "name" in row and "best" in row:
                found[row["name"]] = row
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("keel")
    p.add_argument("peers", nargs="+")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--only", default="")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    common = ["--threads", str(a.threads), "--seconds", str(a.seconds)]
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown")
    doctor = json.loads(subprocess.run([a.keel, "doctor", "--json"], stdout=subprocess.PIPE, text=True).stdout)
    if not a.json:
        print(f"{cpu}, kernels for {doctor['isa']}, {a.threads} thread(s), {a.rounds} rounds")
    for group in [g for g in GROUPS if a.only in g]:
        ours, theirs = {}, {}
        for _ in range(a.rounds):
            for name, row in rows([a.keel, "bench", "peers", "--json", "--only", group, *common]).items():
                ours.setdefault(name, []).append(row)
            for peer in a.peers:
                for name, row in rows([sys.executable, peer, "--only", group, *common]).items():
                    theirs.setdefault((name, peer), []).append(row)
        for (name, peer), their_rows in theirs.items():
            if name not in ours:
                continue
            ratios = sorted(x["best"] / y["best"] for x, y in zip(ours[name], their_rows))
            unit = their_rows[0]["unit"]
            row = {"name": name, "unit": unit, "peer": peer.rsplit("/", 1)[-1], "keel": statistics.median(x["best"] for x in ours[name]), "peer_value": statistics.median(y["best"] for y in their_rows),
                   "ratio": statistics.median(ratios), "ratio_low": ratios[0], "ratio_high": ratios[-1], "cpu": cpu, "isa": doctor["isa"], "threads": a.threads}
            if a.json:
                print(json.dumps(row), flush=True)
            else:
                print(f"{name:<46} {row['keel']:>12.3f} against {row['peer_value']:>12.3f} {unit:<8} ratio {row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})", flush=True)


if __name__ == "__main__":
    main()
