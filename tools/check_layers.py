#!/usr/bin/env python3
"""Checks that includes point down the module graph, and that the graph below has no cycle."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# module: what it may include, beside itself and everything below that
BELOW = {
    "numerics": [], "base": ["numerics"], "core": ["base"], "op": ["core"], "params": ["op"], "backend": ["params"], "ops": ["params"], "layers": ["ops"], "graph": ["layers"], "nn": ["graph"],
    "optim": ["nn"], "io": ["core"], "text": ["params"], "data": ["io", "text", "layers"], "train": ["optim", "data"], "vision": ["train"],
    "everything": ["vision", "backend"],
}
# `params` is include/keel/ops: parameter structs and declarations, which kernels need; the definitions of ops are in src/ops
# public headers that are not in a folder named after their module, and private ones that belong elsewhere
HOME = {
    "numerics": ["numerics"],
    "op": ["op", "scope", "src/backend/*"],
    "base": ["parallel", "log", "version", "result", "env", "cpu"],
    "core": ["tensor", "dtype", "device", "error", "shape", "scalar", "index", "random", "spec", "literal", "allocator", "memory", "storage", "print", "tensor_of", "generator", "operand", "tensor_api", "state_dict", "determinism"],
    "layers": ["autograd", "autocast", "trace", "compile", "monitor", "debug", "lint", "guards", "checkpoint", "function"],
    "params": ["ops", "compare"],
    "io": ["io"],
    "nn": ["nn"],
    "optim": ["optim"],
    "data": ["data"],
    "train": ["train"],
    "everything": ["keel"],
}
# single includes that point up, with the reason
EXCEPTIONS = {
    ("src/io/tensor_bytes.cpp", "keel/ops/creation.h"): "readers make tensors as programs do, through `empty` and `from_memory`",
    ("src/op/dispatch.cpp", "keel/ops/cast.h"): "autocast and promotion go through the public cast",
    ("src/op/backend.cpp", "backend/cpu/stat_pass.h"): "the batched statistics pass for kernels without statistics of their own",
}


def module(path):
    parts = path.parts
    if parts[:2] == ("include", "keel"):
        if len(parts) > 3:
            return "params" if parts[2] == "ops" else parts[2]
        for name, stems in HOME.items():
            if path.stem in stems:
                return name
        homes = {p.parent.name for p in (ROOT / "src").glob(f"*/{path.stem}.cpp")}
        return homes.pop() if len(homes) == 1 else None
    if parts[0] == "src":
        if parts[1] == "backend" and len(parts) == 3:
            return "op"  # the contract between dispatch and the backends
        return parts[1]
    return "everything"


def reach(name, seen=()):
    if name in seen:
        sys.exit(f"cycle in the module graph: {' -> '.join(seen + (name,))}")
    return {name}.union(*(reach(n, seen + (name,)) for n in BELOW[name]))


def main():
    allowed = {name: reach(name) for name in BELOW}
    files = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "include", "src"], cwd=ROOT, text=True).split()
    bad = []
    for file in sorted(f for f in files if f.endswith((".h", ".cpp"))):
        path = pathlib.Path(file)
        home = module(path)
        if home not in allowed:
            bad.append(f"{file}: module {home} is not known; name it in tools/check_layers.py")
            continue
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            found = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
            if not found:
                continue
            name = found[1]
            target = next((p for p in (pathlib.Path("include") / name, pathlib.Path("src") / name, path.parent / name) if (ROOT / p).exists()), None)
            if target is None or target.parts[0] not in ("include", "src"):
                continue
            there = module(target)
            if file.startswith("include/") and target.parts[0] != "include":
                bad.append(f"{file}:{number}: a public header includes {name}, which is not installed")
            elif there not in allowed[home] and (file, name) not in EXCEPTIONS:
                bad.append(f"{file}:{number}: {home} may not include {name} ({there})")
    print("\n".join(bad) if bad else f"layers: {len(files)} files, includes point down")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
