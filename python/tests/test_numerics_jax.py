"""keel.numerics.jax: values as NumPy's form has them, jit, grad, vmap and jacfwd, no NaN gradient where the mathematics is finite."""

import math

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jax.config.update("jax_platforms", "cpu")
import jax.numpy as jnp  # noqa: E402
import keel.numerics.jax as kj  # noqa: E402
import keel.numerics.numpy as kn  # noqa: E402
from keel.numerics import scalar  # noqa: E402
from numerics_goldens import INF, NAN  # noqa: E402

UNARY = {
    "sqrt": lambda x: kj.sqrt_safe(x, default=0.0),
    "rsqrt": lambda x: kj.rsqrt_safe(x, default=0.0),
    "log": lambda x: kj.log_safe(x, default=0.0),
    "log3": lambda x: kj.log_safe(x, base=3.0, default=0.0),
    "sanitize": kj.sanitize,
    "clamp_to_zero": lambda x: kj.clamp_to_zero(x, abs_tol=0.2),
    "to_int": lambda x: kj.to_int(x, abs_tol=0.1),
    "clamp_safe": lambda x: kj.clamp_safe(x, -0.7, 0.9),
    "soft_clamp": lambda x: kj.soft_clamp(x, -0.7, 0.9, leak=0.1),
    "soft_relu": lambda x: kj.soft_relu(x, 2.0),
}
BINARY = {
    "div": lambda a, b: kj.div_safe(a, b, default=0.0),
    "div_saturate": lambda a, b: kj.div_safe(a, b, default=0.0, saturate=True),
    "pow": lambda a, b: kj.pow_safe(a, b, default=0.0),
    "soft_near": lambda a, b: kj.soft_near(a, b, rel_tol=0.3, temperature=0.2),
    "soft_near_tol": lambda a, b: kj.soft_near(a, b, rel_tol=0.9, abs_tol=0.1, normalized=True),
    "soft_compare": lambda a, b: kj.soft_compare(a, b, 0.7),
}


@pytest.fixture(params=[np.float32, np.float64, np.float16], ids=str)
def dtype(request):
    with jax.enable_x64(request.param == np.float64):
        yield request.param


@pytest.fixture(params=[np.float32, np.float64], ids=str)
def wide_dtype(request):
    with jax.enable_x64(request.param == np.float64):
        yield request.param


def grid(dtype):
    """The adversarial grid without subnormal numbers, which XLA may flush."""
    f = np.finfo(dtype)
    values = [NAN] + [
        s * x for x in (INF, 0.0, float(f.tiny), float(f.max), 1.0, 1 + float(f.eps), 1 - float(f.epsneg), 0.5, 3.0) for s in (1, -1)
    ]
    g = np.array(values, dtype)
    return g, np.repeat(g, len(g)), np.tile(g, len(g))


def same(mine, theirs, ulps=0):
    mine, theirs = np.asarray(mine), np.asarray(theirs)
    ok = (mine == theirs) | (mine != mine) & (theirs != theirs)
    if mine.dtype.kind == "f":
        assert mine.dtype == theirs.dtype
        flushed = (np.abs(theirs) < np.finfo(mine.dtype).tiny) & (mine == 0)  # subnormal results
        ok |= kn.ulp_within(mine, theirs, max_ulps=ulps) | flushed
    assert ok.all(), (mine[~ok], theirs[~ok])


def calls(m, a, b, g):
    """The same calls of both modules by name: their value and how many ulps (or "near") they may differ by."""
    for kw in ({}, {"default": 2.0}, {"zero_tol": 0.5}, {"zero_tol": "auto"}, {"saturate": True}):
        yield f"div_safe {kw}", m.div_safe(a, b, **kw), 1
    for kw in ({}, {"equal_nan": True}, {"rel_tol": 0.3, "abs_tol": 2.0}, {"rel_tol": INF}, {"abs_tol": INF}):
        yield f"near {kw}", m.near(a, b, **kw), 0
    yield "pow_safe", m.pow_safe(a, b, default=5.0), 16
    for f in ("sqrt_safe", "rsqrt_safe", "log_safe"):
        yield f, getattr(m, f)(a, default=3.0), 8
    for base in (2, 10, 3.0, 1, -1.0):
        yield f"log_safe {base}", m.log_safe(a, base=base), 8
    for kw in ({}, {"inf_value": "keep"}, {"inf_value": 7.0}, {"neginf_value": 1.0, "nan_value": NAN}):
        yield f"sanitize {kw}", m.sanitize(a, **kw), 0
    for tol in (None, 0.0, 0.5, INF):
        for f in ("near_zero", "clamp_to_zero", "to_int"):
            yield f"{f} {tol}", getattr(m, f)(a, abs_tol=tol), 0
    yield "to_range", m.to_range(a, b, 1.0), 0
    yield "clamp_safe", m.clamp_safe(a, -0.7, 3.0), 0
    yield "ulp_within", m.ulp_within(a, b), 0
    for kw in ({}, {"normalized": True}, {"temperature": 0.1}):
        yield f"soft_near {kw}", m.soft_near(a, b, **kw), "near"
    yield "soft_compare", m.soft_compare(a, b, 0.5), "near"
    yield "soft_clamp", m.soft_clamp(a, -1.0, 2.0), "near"
    yield "soft_relu", m.soft_relu(a, 3.0), "near"
    for f in ("ulp_next", "ulp_prev", "ulp_of"):
        yield f, getattr(m, f)(g), "bits"
    yield "ulp_diff", m.ulp_diff(a, b), "count"


def test_values_as_numpy_on_the_grid(dtype):
    g, a, b = grid(dtype)
    mine = jax.jit(lambda a, b, g: {name: value for name, value, _ in calls(kj, a, b, g)})(a, b, g)
    most = np.iinfo(np.int64 if dtype == np.float64 else np.int32).max
    for name, theirs, how in calls(kn, a, b, g):
        value = np.asarray(mine[name])
        if how == "bits":
            bits = f"i{value.itemsize}"
            assert np.all((value.view(bits) == theirs.view(bits)) | np.isnan(value) & np.isnan(theirs)), name
        elif how == "count":
            assert np.array_equal(value, np.minimum(theirs, most))
        elif how == "near":  # values of order one, or differences of such
            assert kn.all_near(value, theirs, abs_tol=8 * np.finfo(dtype).eps, equal_nan=True), name
        else:
            same(value, theirs, how)


@jax.jit
def gradients(g, a, b):
    """Of all functions at once, so that XLA compiles once: reverse and forward mode."""
    one = {n: (jax.vmap(jax.grad(f))(g), jax.jvp(f, (g,), (jnp.ones_like(g),))[1]) for n, f in UNARY.items()}
    return one, {n: jax.vmap(jax.grad(f, (0, 1)))(a, b) for n, f in BINARY.items()}


def test_no_nan_gradient_on_the_grid(wide_dtype):
    g, a, b = grid(wide_dtype)
    one, two = jax.tree.map(np.asarray, gradients(g, a, b))
    for name, (reverse, forward) in one.items():
        assert not np.isnan(reverse[~np.isnan(g)]).any() and not np.isnan(forward[~np.isnan(g)]).any(), (name, g[np.isnan(reverse)])
    finite = np.isfinite(a) & np.isfinite(b)
    for name, (ga, gb) in two.items():
        bad = finite & (np.isnan(ga) | np.isnan(gb))
        assert not bad.any(), (name, a[bad], b[bad])
    out, pull = jax.vjp(BINARY["div"], jnp.asarray(a), jnp.asarray(b))
    ga, gb = (np.asarray(v) for v in pull(jnp.full_like(out, NAN)))  # an incoming NaN is dropped where a default stands
    assert not ga[b == 0].any() and not gb[b == 0].any()


def test_gradients_against_differences():
    with jax.enable_x64(True):
        x = jnp.asarray([0.53, -0.41, 1.27, 2.05, -1.6, 0.06, 30.0, -30.0])
        a, b = jnp.asarray([0.53, 0.41, 1.27, 2.05, 1.6, 0.06]), jnp.asarray([1.11, 0.62, 3.0, 0.8, 0.21, 0.9])
        h = 1e-6

        @jax.jit
        def compare(x, a, b):
            pairs = {}
            for name, f in UNARY.items():
                df = jax.vmap(jax.grad(f))
                pairs[name] = [
                    (df(x), (f(x + h) - f(x - h)) / (2 * h)),
                    (jax.vmap(jax.grad(jax.grad(f)))(x), (df(x + h) - df(x - h)) / (2 * h)),
                ]
            for name, f in BINARY.items():
                df = jax.vmap(jax.grad(f, (0, 1)))
                ga, gb = df(a, b)
                pairs[name] = [(ga, (f(a + h, b) - f(a - h, b)) / (2 * h)), (gb, (f(a, b + h) - f(a, b - h)) / (2 * h))]
                if name != "soft_near_tol":
                    for k in (0, 1):
                        second = jax.vmap(jax.grad(lambda a, b, f=f, k=k: jax.grad(f, k)(a, b)))(a, b)
                        pairs[name].append((second, (df(a + h, b)[k] - df(a - h, b)[k]) / (2 * h)))
            return pairs

        for name, found in compare(x, a, b).items():
            for order, (mine, want) in enumerate(found):
                assert np.allclose(mine, want, rtol=1e-5, atol=1e-5), (name, order, mine, want)
        assert np.allclose(jax.jacfwd(BINARY["div"])(a, b), np.diag(1 / np.asarray(b)))


def test_the_plans_example_and_overflow():
    gx, gy = jax.grad(lambda x, y: kj.div_safe(x, y, default=0.0).sum(), (0, 1))(jnp.asarray([1.0, 2.0]), jnp.asarray([2.0, 0.0]))
    assert gx.tolist() == [0.5, 0] and gy.tolist() == [-0.25, 0]
    for v in (1e25, 1e-30):
        ga, gb = jax.grad(BINARY["div"], (0, 1))(jnp.float32(v), jnp.float32(v))
        assert float(ga) == pytest.approx(1 / v, rel=1e-6) and float(gb) == pytest.approx(-1 / v, rel=1e-6)
    assert float(jax.grad(lambda d: kj.div_safe(1.0, 0.0, default=d))(2.0)) == 1
    assert float(jax.grad(lambda x: kj.pow_safe(x, 2.0))(-3.0)) == -6 and float(jax.grad(UNARY["sqrt"])(0.0)) == 0
    assert float(jax.grad(lambda x: kj.soft_clamp(x, 0, 1))(-5.0)) == pytest.approx(1.93e-22, rel=1e-2)
    assert float(jax.grad(lambda x: kj.soft_compare(x, 0.0))(25.0)) == pytest.approx(4 * math.exp(-50), rel=1e-3)
    assert float(kj.soft_clamp(jnp.float32(1e8), 0, 1)) == 1
    for part in (1, 0.5, 0):
        g = jax.vmap(jax.grad(lambda v: kj.clamp_safe(v, 0.0, 1.0, boundary_grad=part)))(jnp.asarray([-1.0, 0.0, 0.5, 1.0, 2.0]))
        assert g.tolist() == [0, part, 1, part, 0]
    assert jax.vmap(jax.grad(lambda v: kj.clamp_to_zero(v, abs_tol=0.6, grad="ste")))(jnp.asarray([0.5, 1.0])).tolist() == [1, 1]


def everything(a, b):
    x = sum(f(a).sum() for f in UNARY.values()) + sum(f(a, b).sum() for f in BINARY.values())
    return (
        x
        + kj.fraction_near(a, b)
        + kj.count_near(a, b)
        + kj.all_near(a, b)
        + kj.any_near(a, b)
        + kj.ulp_within(a, b).sum()
        + kj.to_range(a, 0.0, b).sum()
    )


def test_jit_and_vmap():
    r = np.random.default_rng(0)
    a, b = (jnp.asarray(r.standard_normal((4, 6)), jnp.float32) for _ in range(2))
    one = jax.jit(everything)
    assert np.allclose(jax.jit(jax.vmap(everything))(a, b), [float(one(*p)) for p in zip(a, b)], rtol=1e-4)
    assert np.allclose(one(a[0], b[0]), everything(a[0], b[0]), rtol=1e-4)


def test_dtypes_and_errors():
    h, i = jnp.ones(2, jnp.bfloat16), jnp.asarray([1, 2])
    assert (
        kj.div_safe(h, 2.0).dtype == jnp.bfloat16
        and kj.div_safe(i, i, default=0).dtype == jnp.float32
        and kj.clamp_safe(i, 0, 1).dtype == i.dtype
    )
    assert (
        bool(kj.near(h, jnp.bfloat16(1.0078))[0])
        and not bool(kj.near(1.0, 1.1))
        and kj.near(i, 1).tolist() == [True, False]
        and kj.near(i, 3, abs_tol=1.0).tolist() == [False, True]
    )
    assert kj.near(jnp.asarray([-(2**31)]), 2**31 - 1, abs_tol=5e9).tolist() == [True] and kj.near(
        jnp.asarray([-(2**31)]), 2**31 - 1, abs_tol=4e9
    ).tolist() == [False]
    f8 = jnp.asarray([1.0, 448.0, 0.0], jnp.float8_e4m3fn)
    assert kj.div_safe(f8, jnp.asarray([2.0, 0.5, 0.0], jnp.float8_e4m3fn), default=3.0).astype(float).tolist() == [0.5, 448, 3]
    for bad in (
        lambda: kj.div_safe(i, i),
        lambda: kj.div_safe(h, h, default=1e39),
        lambda: kj.clamp_safe(h, 2, 1),
        lambda: kj.soft_clamp(h, 2, 1),
        lambda: kj.soft_relu(h, 0.0),
        lambda: kj.div_safe(h, h, zero_tol=-1.0),
        lambda: kj.div_safe(h, h, zero_tol="x"),
        lambda: kj.sanitize(h, inf_value="x"),
        lambda: kj.to_int(h, grad="x"),
    ):
        with pytest.raises(scalar.InvalidValueError):
            bad()
