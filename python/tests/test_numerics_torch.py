"""keel.numerics.torch: values as NumPy's form has them, exact gradients twice, no NaN gradient where the mathematics is finite, compile
and vmap."""

import math

import keel.numerics.numpy as kn
import keel.numerics.torch as kt
import numpy as np
import pytest
import torch
from keel.numerics import scalar
from numerics_goldens import GRID, INF, NAN
from torch.autograd import gradcheck, gradgradcheck

torch.set_num_threads(1)
T = torch.tensor
DTYPES = {np.float64: torch.float64, np.float32: torch.float32, np.float16: torch.float16}


def grid(dtype):
    """The adversarial grid in a dtype: its own smallest, largest and neighbours of 1."""
    f = torch.finfo(dtype)
    tiny = torch.zeros((), dtype=dtype)
    steps = [kt.ulp_next(tiny).item(), f.tiny, f.max, 1.0, 1 + f.eps, 1 - f.eps / 2, 0.5, 3.0]
    return T([NAN] + [s * x for x in (INF, 0.0, *steps) for s in (1, -1)], dtype=dtype)


def pairs(dtype):
    g = grid(dtype)
    return g.repeat_interleave(len(g)), g.repeat(len(g))


# Functions of one and two tensors, and a point where each is smooth.
UNARY = {
    "sqrt": lambda x: kt.sqrt_safe(x, default=0.0),
    "rsqrt": lambda x: kt.rsqrt_safe(x, default=0.0),
    "log": lambda x: kt.log_safe(x, default=0.0),
    "log2": lambda x: kt.log_safe(x, base=2, default=0.0),
    "log3": lambda x: kt.log_safe(x, base=3.0, default=0.0),
    "sanitize": kt.sanitize,
    "clamp_to_zero": lambda x: kt.clamp_to_zero(x, abs_tol=0.2),
    "clamp_to_zero_ste": lambda x: kt.clamp_to_zero(x, abs_tol=0.2, grad="ste"),
    "to_int": lambda x: kt.to_int(x, abs_tol=0.1),
    "clamp_safe": lambda x: kt.clamp_safe(x, -0.7, 0.9),
    "to_range": lambda x: kt.to_range(x, -0.7, 0.9),
    "soft_clamp": lambda x: kt.soft_clamp(x, -0.7, 0.9),
    "soft_clamp_leak": lambda x: kt.soft_clamp(x, -0.7, 0.9, 3.0, leak=0.1),
    "soft_relu": lambda x: kt.soft_relu(x, 2.0),
}
BINARY = {
    "div": lambda a, b: kt.div_safe(a, b, default=0.0),
    "div_tol": lambda a, b: kt.div_safe(a, b, default=0.0, zero_tol=0.1),
    "div_saturate": lambda a, b: kt.div_safe(a, b, default=0.0, saturate=True),
    "pow": lambda a, b: kt.pow_safe(a, b, default=0.0),
    "soft_near": lambda a, b: kt.soft_near(a, b, rel_tol=0.3, temperature=0.2),
    "soft_near_tol": lambda a, b: kt.soft_near(a, b, rel_tol=0.9, abs_tol=0.1, normalized=True),
    "soft_compare": lambda a, b: kt.soft_compare(a, b, 0.7),
    "clamp_bounds": lambda a, b: kt.clamp_safe(a, b - 1, b + 1),
}


@pytest.mark.parametrize("name", UNARY)
def test_gradients_of_one(name):
    x = T([0.53, -0.41, 1.27, 2.05, -1.6, 0.06, 30.0, -30.0], dtype=torch.float64, requires_grad=True)
    if "ste" in name:  # whose gradient is not that of its value, on purpose
        (g,) = torch.autograd.grad(UNARY[name](x).sum(), x)
        assert g.tolist() == [1] * 8
    else:
        assert gradcheck(UNARY[name], x, atol=1e-6) and gradgradcheck(UNARY[name], x, atol=1e-6)


@pytest.mark.parametrize("name", BINARY)
def test_gradients_of_two(name):
    a = T([0.53, 0.41, 1.27, 2.05, 1.6, 0.06], dtype=torch.float64, requires_grad=True)
    b = T([1.11, 0.62, 3.0, 0.8, 0.21, 0.9], dtype=torch.float64, requires_grad=True)
    assert gradcheck(BINARY[name], (a, b), atol=1e-6) and gradgradcheck(BINARY[name], (a, b), atol=1e-6)
    c = a.detach()[:, None].requires_grad_()  # broadcast
    assert gradcheck(BINARY[name], (c, b), atol=1e-6)


def test_gradients_of_parameters():
    a, b, d, beta = (T(v, dtype=torch.float64, requires_grad=True) for v in ([1.0, -2.0, 3.0], [2.0, 0.0, 0.5], [0.3, 0.4, 0.5], 2.0))
    assert gradcheck(lambda a, d: kt.div_safe(a, b.detach(), default=d), (a, d)) and gradgradcheck(
        lambda a, d: kt.div_safe(a, b.detach(), default=d), (a, d)
    )
    for f in (kt.sqrt_safe, kt.log_safe):
        assert gradcheck(lambda a, d: f(a, default=d), (a, d))
    assert gradcheck(lambda a, k: kt.soft_relu(a, k), (a, beta)) and gradcheck(lambda a, k: kt.soft_clamp(a, -1.0, 1.0, k), (a, beta))
    assert gradcheck(lambda a, lo: kt.soft_clamp(a, lo, 4.0), (a, d))


def test_the_plans_example():
    x, y = T([1.0, 2.0], requires_grad=True), T([2.0, 0.0], requires_grad=True)
    z = kt.div_safe(x, y, default=0.0)
    z.sum().backward()
    assert z.tolist() == [0.5, 0] and x.grad.tolist() == [0.5, 0] and y.grad.tolist() == [-0.25, 0]


def gradients(f, *xs, g=None):
    xs = [x.detach().clone().requires_grad_() for x in xs]
    out = f(*xs)
    out.backward(torch.ones_like(out) if g is None else g)
    return out.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in xs]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_no_nan_gradient_on_the_grid(dtype):
    g, (a, b) = grid(dtype), pairs(dtype)
    for name, f in UNARY.items():
        _, (gx,) = gradients(f, g)
        assert not gx[~g.isnan()].isnan().any(), (name, g[gx.isnan()])
    finite = a.isfinite() & b.isfinite()
    for name, f in BINARY.items():
        _, (ga, gb) = gradients(f, a, b)
        bad = finite & (ga.isnan() | gb.isnan())
        assert not bad.any(), (name, a[bad], b[bad])
    # an incoming NaN is dropped where a default stands
    nan = torch.full_like(a, NAN)
    _, (ga, gb) = gradients(BINARY["div"], a, b, g=nan)
    assert not ga[b == 0].any() and not gb[b == 0].any()
    for name, masked in (
        ("sqrt", g < 0),
        ("log", g <= 0),
        ("rsqrt", g <= 0),
        ("sanitize", ~g.isfinite()),
        ("clamp_safe", g.abs() > 1),
        ("clamp_to_zero", g.abs() < 0.1),
    ):
        _, (gx,) = gradients(UNARY[name], g, g=torch.full_like(g, NAN))
        assert not gx[masked].any(), name


def test_gradients_that_overflow_late():
    for v, dtype in ((1e25, torch.float32), (1e-30, torch.float32)):
        _, (ga, gb) = gradients(BINARY["div"], T([v], dtype=dtype), T([v], dtype=dtype))
        assert ga.item() == pytest.approx(1 / v, rel=1e-6) and gb.item() == pytest.approx(-1 / v, rel=1e-6)
    _, (_, gb) = gradients(BINARY["div"], T([1.0]), T([1e-30]), g=T([1e-30]))
    assert gb.item() == pytest.approx(-1e30, rel=1e-6)  # -g * a / b^2, though a / b^2 overflows
    x = T([1e-300, 0.0, -0.0], dtype=torch.float64)
    assert gradients(UNARY["sqrt"], x)[1][0].tolist() == [pytest.approx(5e149), 0, 0]
    assert gradients(lambda v: kt.pow_safe(v, 2.0), T([-3.0, 0.0]))[1][0].tolist() == [-6, 0]
    assert gradients(lambda v: kt.soft_clamp(v, 0, 1), T([-5.0, 6.0, INF, -INF]))[1][0].tolist() == [
        pytest.approx(1.93e-22, rel=1e-2)
    ] * 2 + [0, 0]
    assert gradients(lambda v: kt.soft_compare(v, 0.0), T([25.0]))[1][0].item() == pytest.approx(4 * math.exp(-50), rel=1e-3)


def test_boundaries():
    x = T([-1.0, 0.0, 0.5, 1.0, 2.0])
    for part in (1, 0.5, 0):
        assert gradients(lambda v: kt.clamp_safe(v, 0.0, 1.0, boundary_grad=part), x)[1][0].tolist() == [0, part, 1, part, 0]
    assert gradients(lambda v: kt.clamp_to_zero(v, abs_tol=0.6, grad="ste"), x)[1][0].tolist() == [1] * 5
    out, (_, lo) = gradients(lambda v, lo: kt.clamp_safe(v, lo, 1.0), x, torch.zeros(5))
    assert out.tolist() == [0, 0, 0.5, 1, 1] and lo.tolist() == [1, 0, 0, 0, 0]
    a = T([INF, INF, 1.0])
    assert [v.tolist() for v in gradients(lambda a, b: kt.soft_near(a, b), a, T([INF, -INF, INF]))[1]] == [[0] * 3] * 2
    one = T([1.0, 1.0], dtype=torch.float64)
    wide = gradients(lambda a, b: kt.soft_near(a, b, rel_tol=0.5, temperature=0.1), one, one * 1.2)[1]
    kept = gradients(lambda a, b: kt.soft_near(a, b, rel_tol=0.5, temperature=0.1, detach_tol=True), one, one * 1.2)[1]
    assert wide[1][0] != kept[1][0] and wide[0][0] == kept[0][0]


# Values.
def as_numpy(mine, theirs, *, ulps=0):
    mine = mine.detach().numpy()
    assert mine.dtype == theirs.dtype
    if mine.dtype.kind == "f":
        same = (mine.view(f"i{mine.itemsize}") == theirs.view(f"i{mine.itemsize}")) | (np.isnan(mine) & np.isnan(theirs))
        if ulps:
            same |= kn.ulp_within(mine, theirs, max_ulps=ulps)
        assert same.all(), (mine[~same], theirs[~same])
    else:
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_values_as_numpy_on_the_grid(dtype):
    a, b = pairs(dtype)
    x, y = a.numpy(), b.numpy()
    with np.errstate(all="ignore"):
        for kw in ({}, {"default": 2.0}, {"zero_tol": 0.5}, {"zero_tol": "auto"}, {"saturate": True}):
            as_numpy(kt.div_safe(a, b, **kw), kn.div_safe(x, y, **kw))
        for kw in (
            {},
            {"equal_nan": True},
            {"rel_tol": 0.3, "abs_tol": 2.0},
            {"rel_tol": INF},
            {"rel_tol": NAN, "abs_tol": -1.0},
            {"abs_tol": INF},
        ):
            as_numpy(kt.near(a, b, **kw), kn.near(x, y, **kw))
        as_numpy(kt.pow_safe(a, b, default=5.0), kn.pow_safe(x, y, default=5.0), ulps=2)
        for f in ("sqrt_safe", "rsqrt_safe", "log_safe"):
            as_numpy(getattr(kt, f)(a, default=3.0), getattr(kn, f)(x, default=3.0), ulps=2)
        for base in (2, 10, 3.0, 1, -1.0):
            as_numpy(kt.log_safe(a, base=base), kn.log_safe(x, base=base), ulps=2)
        for kw in ({}, {"inf_value": "keep", "nan_value": -0.0}, {"inf_value": 7.0}, {"neginf_value": 1.0, "nan_value": NAN}):
            as_numpy(kt.sanitize(a, **kw), kn.sanitize(x, **kw))
        for tol in (None, 0.0, 0.5, INF):
            for f in ("near_zero", "clamp_to_zero", "to_int"):
                as_numpy(getattr(kt, f)(a, abs_tol=tol), getattr(kn, f)(x, abs_tol=tol))
        as_numpy(kt.to_range(a, b, 1.0), kn.to_range(x, y, 1.0))
        low = b <= 3
        as_numpy(kt.clamp_safe(a[low], b[low], 3.0), kn.clamp_safe(x[low.numpy()], y[low.numpy()], 3.0))
        as_numpy(kt.clamp_safe(a, -0.7, NAN), kn.clamp_safe(x, -0.7, NAN))
        for f in ("ulp_next", "ulp_prev", "ulp_of"):
            as_numpy(getattr(kt, f)(a), getattr(kn, f)(x))
        as_numpy(kt.ulp_diff(a, b), kn.ulp_diff(x, y))
        as_numpy(kt.ulp_within(a, b), kn.ulp_within(x, y))
        for kw in ({}, {"normalized": True}, {"temperature": 0.1}, {"rel_tol": 0.0, "abs_tol": 0.0}):
            as_numpy(kt.soft_near(a, b, **kw), kn.soft_near(x, y, **kw), ulps=16)
        as_numpy(kt.soft_compare(a, b, 0.5), kn.soft_compare(x, y, 0.5), ulps=4)
        for kw in ({}, {"beta": 2.0, "leak": 0.25}):
            mine, theirs = kt.soft_clamp(a, -1.0, 2.0, **kw).numpy(), kn.soft_clamp(x, -1.0, 2.0, **kw)
            assert np.all(
                (mine == theirs)
                | kn.near(mine, theirs, equal_nan=True)
                | np.isnan(mine) & np.isinf(theirs)
                | np.isnan(theirs) & np.isinf(mine)
            )
        assert kt.all_near(kt.soft_relu(a, 3.0), torch.from_numpy(kn.soft_relu(x, 3.0)), equal_nan=True)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "bfloat16"])
def test_every_code_of_torchs_small_floats(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype, theirs, code = getattr(torch, name), np.dtype(getattr(ml_dtypes, name)), np.uint16 if name == "bfloat16" else np.uint8
    every = np.arange(1 << (8 * np.dtype(code).itemsize), dtype=np.uint32).astype(code)
    mine = torch.from_numpy(every.copy()).view(dtype)
    view = every.view(theirs)
    back = torch.from_numpy(every[::-1].copy()).view(dtype)

    def same(t, n):
        t = t.float().numpy()
        with np.errstate(all="ignore"):
            n = np.asarray(n).astype(np.float32)
        assert np.all((t == n) & (np.signbit(t) == np.signbit(n)) | np.isnan(t) & np.isnan(n)), name

    for f in ("ulp_next", "ulp_prev", "ulp_of", "sanitize", "clamp_to_zero", "to_int"):
        same(getattr(kt, f)(mine), getattr(kn, f)(view))
    same(kt.div_safe(mine, back, default=0.5), kn.div_safe(view, view[::-1], default=0.5))
    same(kt.sqrt_safe(mine, default=0.5), kn.sqrt_safe(view, default=0.5))
    assert np.array_equal(kt.near(mine, back).numpy(), kn.near(view, view[::-1])) and np.array_equal(
        kt.ulp_diff(mine, back).numpy(), kn.ulp_diff(view, view[::-1])
    )
    up = kt.ulp_next(mine)
    assert kt.near(mine, up)[mine.float().isfinite() & up.float().isfinite()].all()


def test_dtypes_and_errors():
    h, f, i = torch.ones(2, dtype=torch.float16), torch.ones(2), torch.tensor([1, 2])
    assert (
        kt.div_safe(h, 2).dtype == torch.float16 and kt.div_safe(2.0, f).dtype == torch.float32 and kt.div_safe(h, f).dtype == torch.float32
    )
    assert (
        kt.div_safe(i, i, default=0).dtype == torch.float32
        and kt.clamp_safe(i, 0, 1).tolist() == [1, 1]
        and kt.sanitize(i).dtype == torch.int64
    )
    assert kt.div_safe(h, h.bfloat16()).dtype == torch.float32 and kt.tolerances(torch.bfloat16) == (1e-2, 1e-3)
    for bad in (
        lambda: kt.div_safe(i, i),
        lambda: kt.div_safe(h, h, default=1e5),
        lambda: kt.sanitize(h, nan_value=1e5),
        lambda: kt.sanitize(h, inf_value="x"),
        lambda: kt.clamp_safe(f, 2, 1),
        lambda: kt.soft_clamp(f, 2, 1),
        lambda: kt.soft_clamp(f, 0, 1, 0.0),
        lambda: kt.soft_relu(f, -1),
        lambda: kt.div_safe(f, f, zero_tol="x"),
        lambda: kt.soft_near(f, f, temperature=0.0),
        lambda: kt.clamp_safe(f, 0, 1, boundary_grad=2),
        lambda: kt.clamp_to_zero(f, grad="x"),
        lambda: kt.div_safe(f, f, zero_tol=NAN),
    ):
        with pytest.raises(scalar.InvalidValueError):
            bad()
    with pytest.raises(ValueError, match="zero_tol must be non-negative, got -1.0"):
        kt.div_safe(f, f, zero_tol=-1.0)
    with pytest.raises(TypeError, match="needs a tensor"):
        kt.near(1.0, 2.0)
    for dtype in (torch.int64, torch.int8, torch.uint8):
        info = torch.iinfo(dtype)
        v = T([info.min, info.min + 1, 0, 1, 5, info.max - 1, info.max], dtype=dtype)
        a, b = v.repeat_interleave(len(v)), v.repeat(len(v))
        for kw in ({}, {"abs_tol": 1.0}, {"abs_tol": 2.5}, {"rel_tol": 0.5}, {"abs_tol": 9e18}, {"abs_tol": INF}):
            kw = {"rel_tol": 0.0, "abs_tol": 0.0, **kw} if kw else {}
            assert kt.near(a, b, **kw).tolist() == [scalar.near(x, y, **kw) for x, y in zip(a.tolist(), b.tolist())], (dtype, kw)
        assert torch.equal(kt.near_zero(a), a == 0)
    e = torch.empty(0)
    assert (
        kt.all_near(e, e)
        and not kt.any_near(e, e)
        and kt.count_near(e, e) == 0
        and kt.fraction_near(e, e).isnan()
        and kt.fraction_near(T([1.0, 2.0]), 1.0) == 0.5
    )
    assert kt.soft_near(T(1.0), T(1.0), rel_tol=1e-3, temperature=0.1).item() == pytest.approx(0.5025, abs=1e-6)


def everything(a, b):
    """A sum over all functions, as a model would use them."""
    x = sum(f(a).sum() for f in UNARY.values()) + sum(f(a, b).sum() for f in BINARY.values())
    x = (
        x
        + kt.div_safe(a, b, default=0.0, zero_tol="auto").sum()
        + kt.div_safe(a, b, default=b).sum()
        + kt.soft_clamp(a, b - 1, b + 1, 2.0).sum()
    )
    x = (
        x
        + torch.where(kt.near(a, b), a, b).sum()
        + kt.count_near(a, b)
        + kt.fraction_near(a, b)
        + kt.ulp_diff(a, b).clamp(max=9).sum()
        + kt.ulp_next(a).sum()
        + kt.ulp_of(b).sum()
    )
    return (
        x + kt.clamp_safe(a, 0.0, 1.0, boundary_grad=0.5).sum() + kt.ulp_within(a, b).sum() + kt.near_zero(a).sum() + kt.ulp_prev(a).sum()
    )


def few(a, b):
    return (
        kt.div_safe(a, b, default=0.0)
        + kt.div_safe(a, a)
        + kt.pow_safe(a, b, default=0.0)
        + kt.sanitize(a)
        + kt.log_safe(a, default=0.0) * kt.soft_compare(a, b)
    )


# Dynamo finds the graph breaks, whatever comes behind it; AOT autograd traces the gradients.
@pytest.mark.parametrize("function, backend, dtype", [(everything, "eager", torch.float32), (few, "aot_eager", torch.bfloat16)])
def test_compiles_without_a_graph_break(function, backend, dtype):
    torch._dynamo.reset()
    r = torch.Generator().manual_seed(3)
    a, b = (torch.randn(40, generator=r).to(dtype).requires_grad_() for _ in range(2))
    value = torch.compile(function, fullgraph=True, backend=backend)(a, b)
    want, wanted = function(a, b), torch.autograd.grad(function(a, b).sum(), (a, b))
    assert torch.allclose(value, want)
    for w, g in zip(wanted, torch.autograd.grad(value.sum(), (a, b))):
        assert torch.allclose(w, g)


def test_vmap_and_functional_gradients():
    r = torch.Generator().manual_seed(4)
    a, b = (torch.randn(5, 7, generator=r, dtype=torch.float64) for _ in range(2))
    assert torch.allclose(torch.func.vmap(everything)(a, b), torch.stack([everything(*p) for p in zip(a, b)]))
    by_row = torch.func.vmap(torch.func.grad(everything, argnums=(0, 1)))(a, b)
    x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
    for mine, want in zip(by_row, torch.autograd.grad(sum(everything(*p) for p in zip(x, y)), (x, y))):
        assert torch.allclose(mine, want)
    hessian = torch.func.jacrev(torch.func.grad(lambda v: kt.div_safe(v, v * v + 1, default=0.0).sum()))(a[0])
    assert torch.allclose(hessian, torch.autograd.functional.hessian(lambda v: (v / (v * v + 1)).sum(), a[0]))
    assert torch.allclose(
        torch.func.vmap(lambda v, k: kt.div_safe(v, k, default=0.0), in_dims=(0, None))(a, b[0]), kt.div_safe(a, b[0], default=0.0)
    )


def test_soft_logic_trains():
    """A weight that must pass 2 to be near: soft_near pulls it there and soft_compare orders it, which near and < cannot."""
    w = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        (1 - kt.soft_near(w, 2.0, rel_tol=0.0, abs_tol=0.1, temperature=0.5) + 0.1 * (1 - kt.soft_compare(w, 1.0))).backward()
        optimiser.step()
    assert abs(w.item() - 2) < 0.2
