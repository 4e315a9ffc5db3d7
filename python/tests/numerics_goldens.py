"""Reads the tables that the C++ tests of the scalar core use, and the adversarial grid that all forms are compared on."""

import math
import pathlib
import re

HEADER = pathlib.Path(__file__).resolve().parents[2] / "tests/unit/numerics_goldens.h"
INF, NAN, TINY, NORMAL, MAX = math.inf, math.nan, 5e-324, 2.0**-1022, 1.7976931348623157e308
WORDS = {"INFINITY": INF, "-INFINITY": -INF, "NAN": NAN, "true": True, "false": False}
# {NaN, ±inf, ±0, ±min subnormal, ±min normal, ±max, neighbours of 1} and a few plain numbers
GRID = [NAN] + [s * x for x in (INF, 0.0, TINY, NORMAL, MAX, 1.0, 1 + 2**-52, 1 - 2**-53, 0.5, 3.0, 1e-10, 1e10) for s in (1, -1)]


def number(text):
    return WORDS[text] if text in WORDS else float.fromhex(text) if "x" in text else float(text)


def table(name):
    """The rows of a table, as lists; a list inside a row is a list."""
    body = re.search(rf"\b{name}\[\] = \{{\n(.*?)\n\}};", HEADER.read_text(), re.S)[1]
    body = re.sub(r"[+-]?0x[0-9a-fp.+-]+|[+-]?[A-Za-z]+|[+-]?\d[\d.]*", lambda m: repr(m[0]), body).replace("{", "[").replace("}", "]")
    return [convert(row) for row in eval(f"[{body}]")]


def convert(x):
    return [convert(y) for y in x] if isinstance(x, list) else number(x)


def format_golden(name):
    """Checksums of `next` and `of` over all codes of a format, and the number of near pairs."""
    m = re.search(rf"\b{name}Golden = \{{(\w+)u, (\w+)u, (\d+)\}}", HEADER.read_text())
    return int(m[1], 16), int(m[2], 16), int(m[3])


def same(a, b):
    """Equal to the bit, but for the payload of NaN."""
    if a is None or b is None:
        return a is b
    return (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))
