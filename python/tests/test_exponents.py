"""The table of exponents beside casts by ml_dtypes: what it foretells is what they do, value by value."""
import keel
import ml_dtypes
import numpy as np
import pytest

# dtype: largest exponent and first column that overflows there; exponent at whose power of two and below values become zero; exponent and
# column from which on they are normal
BORDERS = {
    "float8_e4m3fn": (8, 3, -10, -7, 4),
    "float8_e5m2": (15, 4, -17, -15, 2),
    "float16": (15, 8, -25, -15, 7),
    "bfloat16": (127, 6, -134, -127, 5),
}


def foretold(x, name):
    counts, _ = keel.exponent_counts(keel.from_dlpack(x))
    table = np.asarray(counts)
    top, over, flush, low, normal = BORDERS[name]
    least = -1074 if x.dtype == np.float64 else -149
    e, c = np.meshgrid(np.arange(table.shape[0]) - 1 + least, np.arange(11), indexing="ij")
    inner = np.zeros_like(e, bool)
    inner[1:-1] = True
    overflow = (e > top) | ((e == top) & (c >= over))
    flushed = (e < flush) | ((e == flush) & (c == 0))
    subnormal = ~flushed & ((e < low) | ((e == low) & (c < normal)))
    return [int(table[inner & m].sum()) for m in (overflow, flushed, subnormal)]


def executed(x, name):
    t = getattr(ml_dtypes, name, None) or np.dtype(name).type
    with np.errstate(all="ignore"):
        x = x[np.isfinite(x) & (x != 0)]
        y = x.astype(t).astype(np.float64)
    tiny = float((ml_dtypes.finfo(t)).tiny)
    return [int((~np.isfinite(y)).sum()), int((y == 0).sum()), int(((y != 0) & (abs(y) < tiny)).sum())]


def inputs():
    r = np.random.default_rng(0)
    bits = r.integers(0, 2**32, 60000, dtype=np.uint32).view(np.float32)
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    edges = np.array([448, 464, 465, 57344, 61440, 61439, 65504, 65520, 65519, 2.0**-9, 2.0**-10, 2.0**-17, 2.0**-25, 1.875 * 2.0**-7, 1.75 * 2.0**-15], np.float32)
    near = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(np.inf))])
    small = (r.standard_normal(50000) * np.exp2(r.integers(-40, 20, 50000))).astype(np.float32)
    return {"f32 bits": bits, "f16 patterns": halves, "f32 borders": near, "f32 spread": small, "f64 spread": small.astype(np.float64) * 1.0000001}


@pytest.mark.parametrize("name", BORDERS)
@pytest.mark.parametrize("what", inputs())
def test_foretold_is_executed(what, name):
    x = inputs()[what]
    if x.dtype == np.float64:  # ml_dtypes goes from float64 by way of float32
        x = x.astype(np.float32).astype(np.float64)
    assert foretold(x, name) == executed(x, name)


@pytest.mark.parametrize("name", BORDERS)
def test_report_has_the_shares_of_executed_casts(name):
    x = inputs()["f32 spread"]
    r = keel.analyze_precision(keel.from_dlpack(x))
    over, flushed, subnormal = executed(x, name)
    assert r.nonzero == int((x != 0).sum()) and r.amax == float(abs(x).max())
    got = r.target(name)
    assert (got["overflow"], got["flushed"], got["subnormal"]) == (over / r.nonzero, flushed / r.nonzero, subnormal / r.nonzero)
    assert r.target(name, scaled=True)["overflow"] == 0
    assert name in ("float16", "bfloat16") or r.target(name, blocks=True)["blocks"]
    assert "cast" in repr(r)


def test_report_refuses_what_it_cannot_know():
    with pytest.raises(keel.DTypeError):
        keel.analyze_precision(keel.tensor([1, 2]))
    with pytest.raises(keel.ValueError):
        keel.analyze_precision(keel.tensor([1.0])).target("int8")


def test_profile_of_a_step():
    w = keel.randn((16, 4), requires_grad=True)
    x = keel.randn((8, 16)) * 1e-6

    def step():
        keel.square(keel.matmul(x, w)).sum().backward()

    p = keel.precision_profile(step, low="float16")
    kinds = {(e["kind"], e["op"]) for e in p.entries}
    assert {("value", "matmul"), ("value", "square")} <= kinds and any(k == "parameter gradient" for k, _ in kinds)
    square = next(e for e in p.entries if e["op"] == "square" and e["kind"] == "value")
    exact = np.square(np.asarray(x.detach()) @ np.asarray(w.detach())).astype(np.float32)
    f16 = next(t for t in square["report"]["targets"] if t["dtype"] == "f16")
    assert f16["flushed"] == pytest.approx(executed(exact, "float16")[1] / exact.size, abs=0.01)
    assert p.loss_scale > 1 and p.policy["low"] == "f16"
    assert p.svg.startswith("<svg") and "matmul" in repr(p)
    with pytest.raises(ZeroDivisionError):
        keel.precision_profile(lambda: 1 / 0)
    keel.precision_profile(step)
