#!/usr/bin/env python3
"""Compiles the C++ code of README.md and docs/, and the programs in examples/: a block marked `cpp` that has a main is a program, which is also linked and run if BUILD_DIR (default build/release) exists; one that has none is the inside of a
function. A block marked `cpp scaffold` must be text that tools/new_op.py writes."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release").resolve()
CXX = os.environ.get("CXX", "g++")
failed = count = 0


def fail(where, text):
    global failed
    failed += 1
    print(f"FAILED {where}\n{text[-3000:]}")


def compile_block(where, code, folder):
    program = "int main(" in code
    if not program:
        includes = "".join(re.findall(r"^#include.*\n", code, re.M))
        body = re.sub(r"^#include.*\n", "", code, flags=re.M)
        code = f"#include <keel/keel.h>\n{includes}using namespace keel;\n[[maybe_unused]] static void snippet() {{\n{body}}}\n"
    source = folder / "snippet.cpp"
    source.write_text(code)
    command = [CXX, "-std=c++20", "-Wall", f"-I{ROOT}/include", str(source)]
    linked = program and (BUILD / "libkeel_io.a").exists()
    command += ["-o", str(folder / "snippet"), str(BUILD / "libkeel_io.a"), str(BUILD / "libkeel.a"), "-lz"] if linked else ["-fsyntax-only"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0 and linked:
        done = subprocess.run([folder / "snippet"], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        fail(where, done.stderr + done.stdout)


def main():
    global count
    if not (ROOT / "include/keel/keel.h").exists():
        print("snippets: no keel/keel.h yet, nothing judged")
        return 0
    scaffold = None
    with tempfile.TemporaryDirectory() as name:
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
            text = path.read_text() if path.exists() else ""
            for m in re.finditer(r"^```cpp([^\n]*)\n(.*?)^```", text, re.M | re.S):
                where = f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, m.start()) + 1}"
                count += 1
                if m[1].strip() == "scaffold":
                    scaffold = scaffold or subprocess.check_output([ROOT / "tools/new_op.py", "--print", "double_up"], text=True)
                    if m[2].strip() not in scaffold:
                        fail(where, "tools/new_op.py does not write this text")
                elif m[1].strip() != "fragment":
                    compile_block(where, m[2], pathlib.Path(name))
        for path in sorted((ROOT / "examples").rglob("*.cpp")):
            count += 1
            compile_block(path.relative_to(ROOT), path.read_text(), pathlib.Path(name))
    print(f"snippets: {count} blocks, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
