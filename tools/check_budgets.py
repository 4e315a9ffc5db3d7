#!/usr/bin/env python3
"""Budgets: lines a file, compile time of public headers, compile time and memory of the slowest units, library size and needs.  check_budgets.py [BUILD_DIR, default build/release]

Times are the best of several runs, so that a busy machine does not fail the check; the header limit is a ratio to <string> on the same machine.
"""
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release").resolve()
MAX_LINES, MAX_HEADER_RATIO, MAX_HELLO_S, MAX_UNIT_S, MAX_UNIT_MB, MAX_LIBRARY_MB = 800, 1.5, 1.5, 15.0, 800, 15
MAX_CUDA_UNIT_S = 20.0  # four compilers in turn, an architecture
CXX = os.environ.get("CXX", "g++")
failures = []


def report(name, value, limit, unit):
    ok = value <= limit
    print(f"{'ok  ' if ok else 'OVER'}  {name}: {value:.3g} {unit} (limit {limit:g})")
    if not ok:
        failures.append(name)


def measure(command, cwd=ROOT):
    """Wall seconds, processor seconds and peak MB of one command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {shlex.join(command)}\n{error.decode()[-2000:]}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def files():
    worst = ("", 0)
    for file in subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).split():
        if file.endswith((".cpp", ".h", ".cu", ".cuh", ".py", ".cmake", ".sh", ".txt", ".pyi")) and not file.startswith("bench/shapes") and (ROOT / file).exists():
            lines = (ROOT / file).read_text(errors="replace").count("\n")
            worst = max(worst, (file, lines), key=lambda w: w[1])
            if lines > MAX_LINES:
                report(file, lines, MAX_LINES, "lines")
    print(f"ok    longest file: {worst[0]}, {worst[1]} lines")


def headers():
    if not (ROOT / "include/keel/tensor.h").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        def unit(name, text):
            path = pathlib.Path(folder) / name
            path.write_text(text)
            return [CXX, "-std=c++20", f"-I{ROOT}/include", "-c", str(path), "-o", "/dev/null"]
        text = {name: unit(f"{name}.cpp", body) for name, body in {
            "string": "#include <string>\n", "tensor": "#include <keel/tensor.h>\n",
            "hello": '#include <keel/keel.h>\n#include <cstdio>\nint main() { keel::Tensor x = keel::ones({2, 2}); std::puts(keel::matmul(x, x).shape() == x.shape() ? "ok" : "no"); }\n'}.items()}
        best = {name: 1e9 for name in text}
        for _ in range(7):
            for name in best:
                best[name] = min(best[name], measure(text[name])[1])
    print(f"      <string> {best['string']:.3f} s, tensor.h {best['tensor']:.3f} s")
    report("keel/tensor.h against <string>", best["tensor"] / best["string"], MAX_HEADER_RATIO, "times")
    report("hello-tensor compiles", best["hello"], MAX_HELLO_S, "s")


def units():
    """The slowest units of the build's log, compiled again without a cache: side by side, and one that takes too long so once more alone."""
    log, commands = BUILD / ".ninja_log", BUILD / "compile_commands.json"
    if not log.exists() or not commands.exists():
        return print(f"      {BUILD.name}: not built, units and library not judged")
    taken = {}
    for line in log.read_text().splitlines()[1:]:
        start, end, _, output, _ = line.split("\t")
        if output.endswith(".o"):
            taken[output] = (int(end) - int(start)) / 1000
    known = {}
    for entry in json.loads(commands.read_text()):
        words = shlex.split(entry["command"])
        known[words[words.index("-o") + 1]] = entry
    largest = sorted(((pathlib.Path(e["file"]).stat().st_size, o) for o, e in known.items() if pathlib.Path(e["file"]).exists()), reverse=True)[:3]
    slowest = [o for o, _ in sorted(taken.items(), key=lambda t: -t[1]) if o in known]
    cuda = [o for o in slowest if known[o]["file"].endswith(".cu")]
    slow = list(dict.fromkeys([o for o in slowest if o not in cuda][:6] + [o for _, o in largest] + cuda[:4]))

    def compile_again(output):
        command = shlex.split(known[output]["command"])
        command = command[1:] if "ccache" in command[0] else command
        architectures = sum("arch=compute" in word for word in command) or 1
        with tempfile.TemporaryDirectory() as folder:
            command[command.index("-o") + 1] = f"{folder}/unit.o"
            _, seconds, megabytes = measure(command, BUILD)
        return seconds / architectures, megabytes

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = list(pool.map(compile_again, slow))
    for output, (seconds, megabytes) in zip(slow, measured):
        name, most = pathlib.Path(known[output]["file"]).name, MAX_CUDA_UNIT_S if output in cuda else MAX_UNIT_S
        report(f"{name} compiles", seconds if seconds <= most else compile_again(output)[0], most, "s")
        report(f"{name} compiles", megabytes, MAX_UNIT_MB, "MB")


def library():
    archive = BUILD / "libkeel.a"
    if not archive.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        shared = f"{folder}/libkeel.so"
        subprocess.check_call([CXX, "-shared", "-o", shared, "-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive", "-Wl,-z,defs", "-Wl,--as-needed"])
        subprocess.check_call(["strip", shared])
        report("stripped core library", os.path.getsize(shared) / 2**20, MAX_LIBRARY_MB, "MB")
        needs = [line.split()[0] for line in subprocess.check_output(["ldd", shared], text=True).splitlines()]
        extra = [n for n in needs if not any(n.split("/")[-1].startswith(p) for p in ("linux-vdso", "libc.so", "libm.so", "libstdc++.so", "libgcc_s.so", "ld-linux"))]
        print(f"{'OVER' if extra else 'ok  '}  core needs: {' '.join(extra) or 'libc, libm, libstdc++, libgcc only'}")
        failures.extend(extra)


files()
headers()
units()
library()
sys.exit(bool(failures))
