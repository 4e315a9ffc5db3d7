#!/usr/bin/env python3
"""Public headers: exported as a whole (visibility pragmas, because everything else is hidden), macros begin with KEEL_, costly or forbidden standard headers absent; the scalar core is small
and stands alone. --fix adds the pragmas."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PUSH, POP = "#pragma GCC visibility push(default)", "#pragma GCC visibility pop"
FORBIDDEN = {"iostream", "regex", "filesystem", "functional", "stdexcept"}
MAX_MACROS = 14
MAX_NUMERICS_BYTES = 100_000  # keel/numerics.h with all that it includes


def alone(header):
    """A header and everything of Keel's that it reaches."""
    found, todo = set(), [header]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += [ROOT / "include" / i for i in re.findall(r'#\s*include\s+"([^"]+)"', path.read_text())]
    return found


def fix(text):
    lines = text.rstrip("\n").split("\n")
    first = next((i for i, line in enumerate(lines) if re.match(r"(inline )?namespace \w|extern \"C", line)), None)
    if first is None:
        return text
    while first and re.match(r"\s*(///|//|template)", lines[first - 1]):
        first -= 1
    lines.insert(first, PUSH)
    last = max(i for i, line in enumerate(lines) if line.startswith("}"))
    lines.insert(last + 1, POP)
    return "\n".join(lines) + "\n"


def main():
    bad, macros = [], set()
    for path in sorted((ROOT / "include").rglob("*.h")):
        name, text = path.relative_to(ROOT), path.read_text()
        includes = re.findall(r"#\s*include\s+<([^>]+)>", text)
        bad += [f"{name}: <{i}> is not allowed in a public header" for i in includes if i in FORBIDDEN]
        bad += [f"{name}: <{i}> is not a standard header" for i in includes if "." in i or "/" in i]
        if "#pragma once" not in text:
            bad.append(f"{name}: no #pragma once")
        defined = set(re.findall(r"^\s*#\s*define\s+(\w+)", text, re.M)) - set(re.findall(r"^\s*#\s*undef\s+(\w+)", text, re.M))
        bad += [f"{name}: macro {m} does not begin with KEEL_" for m in defined if not m.startswith("KEEL_")]
        macros |= defined
        if re.search(r"^namespace ", text, re.M) and PUSH not in text:
            if "--fix" in sys.argv:
                path.write_text(fix(text))
            else:
                bad.append(f"{name}: no visibility pragmas; run tools/check_headers.py --fix")
        if text.count(PUSH) != text.count(POP):
            bad.append(f"{name}: visibility push and pop do not match")
    numerics = alone(ROOT / "include/keel/numerics.h")
    bad += [f"{p.relative_to(ROOT)}: keel/numerics.h must do without it" for p in numerics if p.parent.name != "numerics" and p.name != "numerics.h"]
    size = sum(p.stat().st_size for p in numerics)
    if size > MAX_NUMERICS_BYTES:
        bad.append(f"keel/numerics.h and what it includes: {size} bytes, at most {MAX_NUMERICS_BYTES}")
    if len(macros) > MAX_MACROS:
        bad.append(f"{len(macros)} public macros, at most {MAX_MACROS}: {' '.join(sorted(macros))}")
    print("\n".join(bad) if bad else f"headers: {len(macros)} public macros ({' '.join(sorted(macros))}); the scalar core has {len(numerics)} files, {size} bytes")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
