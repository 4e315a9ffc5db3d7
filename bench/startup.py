#!/usr/bin/env python3
"""How long a program of Keel takes to start and end, beside /bin/true in the same turns: startup.py [KEEL [ROUNDS]]"""
import json
import os
import statistics
import subprocess
import sys
import time

KEEL = sys.argv[1] if len(sys.argv) > 1 else "build/release/apps/keel/keel"
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 200
COMMANDS = {"true": ["/bin/true"], "keel --version": [KEEL, "--version"], "keel doctor": [KEEL, "doctor"], "keel inspect --registry --json": [KEEL, "inspect", "--registry", "--json"]}

times = {name: [] for name in COMMANDS}
for _ in range(ROUNDS):
    for name, command in COMMANDS.items():
        begin = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=dict(os.environ, LC_ALL="C"))
        times[name].append(time.perf_counter() - begin)
for name, t in times.items():
    print(json.dumps({"name": "start-up " + name, "unit": "ms", "best": round(1e3 * min(t), 3), "median": round(1e3 * statistics.median(t), 3), "n": len(t)}))
