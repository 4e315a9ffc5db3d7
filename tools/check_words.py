#!/usr/bin/env python3
"""Words that must not appear: exceptions outside their places, indirection that ops must do without, output and environment from library code."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OPS = r"(src|include/keel)/(core|op|ops|layers|backend|graph)/|include/keel/[a-z_]+\.h"
# what, pattern, where it is looked for, where it is allowed
RULES = [
    ("`throw` (errors leave through raise)", r"\bthrow\b", r"src/|include/", r"src/core/error\.cpp|include/keel/numerics/error\.h"),
    ("`try`/`catch`", r"\b(try|catch)\b\s*[({]", r"src/|include/", r"src/capi/|src/backend/loader|(src|include/keel)/data/loader"),
    ("std::function", r"std::function\b", OPS, r"$^"),
    ("virtual function", r"\bvirtual\b", OPS, r"$^"),
    ("RTTI", r"\b(dynamic_cast|typeid)\b", r"src/|include/", r"$^"),
    ("output from library code", r"\bstd::(cout|cerr)\b|\b(printf|puts|fprintf)\s*\(", r"src/|include/", r"src/base/log|src/core/error|src/train/progress"),
    ("getenv outside base/env.h", r"\bgetenv\b", r"src/|include/", r"src/base/env"),
    ("a dtype inside a decomposition", r"\.decompose\([^;]*?DType::", r"src/ops/", r"$^"),
    ("fast math", r"ffast-math|fp-contract=fast|#pragma STDC FP_CONTRACT ON", r"src/|include/|cmake/|CMakeLists", r"$^"),
]


def strip(text):
    """Blanks comments and literals, keeps line numbers."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def main():
    files = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).split()
    bad, count = [], 0
    for file in files:
        if not re.match(r"src/|include/|cmake/|CMakeLists", file) or not (ROOT / file).exists():
            continue
        count += 1
        raw = (ROOT / file).read_text()
        text = strip(raw) if file.endswith((".h", ".cpp")) else raw
        for what, pattern, where, allowed in RULES:
            if re.match(where, file) and not re.match(allowed, file):
                for m in re.finditer(pattern, text, re.S):
                    bad.append(f"{file}:{text.count(chr(10), 0, m.start()) + 1}: {what}")
    print("\n".join(bad) if bad else f"words: {count} files clean")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
