#!/usr/bin/env python3
"""Writes the files of a new op, as a working op (scale * x * x) to be changed into yours.  new_op.py [--print] NAME; see docs/guide/add-an-op.md"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

HEADER = """#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct PascalParams {
  [[no_unique_address]] ByName by_name = ByName();
  double scale = 1.0;
  static constexpr void fields(auto& p, auto&& f) { f("scale", p.scale, "factor of the result; not 0"); }
};

/// scale * x * x, element by element; integers give the default float. NaN gives NaN.
Tensor NAME(const Tensor& x, const PascalParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
"""
SOURCE = """#include "keel/ops/NAME.h"

#include "ops/common.h"

namespace keel {

KEEL_OP(NAME, PascalParams) {
  def.doc("scale * x * x").in("x", kinds::floating).out("y").promote(Promote::to_float)
      .infer([](auto& p, Specs in) {
        check_value(p.scale != 0, "scale", "not 0", p.scale);
        return in[0];
      })
      .decompose([](auto& p, Inputs in) { return mul(mul(in[0], in[0]), p.scale); })
      .saves(In{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {mul(mul(a.g[0], a.in[0]), 2 * p.scale)}; });
}

Tensor NAME(const Tensor& x, const PascalParams& p) { return call(op_NAME, p, x); }

}  // namespace keel
"""
CASES = """#include "keel/ops/NAME.h"

#include "ops/cases.h"

KEEL_CASES(NAME) {
  c.op("NAME").torch("x * x * scale").numpy("x * x * scale")
      .sample(PascalParams{}, {normal({3, 4})})
      .sample(PascalParams{.scale = 0.5}, {normal({2, 3, 5})})
      .sample(PascalParams{}, {normal({})})
      .sample(PascalParams{}, {normal({0, 3})})
      .sample(PascalParams{.scale = -2}, {special({16})}, false)
      .error(PascalParams{.scale = 0}, {normal({2})}, ErrorCode::value, "scale must be not 0");
}
"""


def main():
    words = [w for w in sys.argv[1:] if not w.startswith("--")]
    if len(words) != 1 or not re.fullmatch(r"[a-z][a-z0-9_]*", words[0]):
        sys.exit("usage: ./dev new-op NAME   (snake_case)")
    name = words[0]
    pascal = "".join(part.capitalize() for part in name.split("_"))
    files = {path: text.replace("NAME", name).replace("Pascal", pascal) for path, text in {
        f"include/keel/ops/{name}.h": HEADER, f"src/ops/{name}.cpp": SOURCE, f"tests/ops/{name}_cases.cpp": CASES}.items()}
    if "--print" in sys.argv:
        return print("".join(f"// {path}\n{text}\n" for path, text in files.items()))
    for path in files:
        if (ROOT / path).exists():
            sys.exit(f"{path} exists")
    for path, text in files.items():
        (ROOT / path).write_text(text)
        print(f"wrote    {path}")
    umbrella = ROOT / "include/keel/ops.h"
    lines = umbrella.read_text().splitlines()
    includes = [line for line in lines if line.startswith("#include")]
    rest = [line for line in lines if not line.startswith("#include")]
    umbrella.write_text("\n".join(rest + sorted({*includes, f'#include "keel/ops/{name}.h"'})) + "\n")
    print(f"edited   include/keel/ops.h\nnext     change infer, decompose, vjp and the cases to your op; then ./dev test dev -R {name}")


if __name__ == "__main__":
    main()
