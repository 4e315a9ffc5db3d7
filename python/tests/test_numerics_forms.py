"""Every function of every form, by name, so that a new one cannot be left out: compiled, batched and plain calls agree, gradients are those
of the differences, and NumPy's form is the reference."""

import inspect
import sys

import keel
import keel.numerics
import keel.numerics.numpy as kn
import numpy as np
import pytest
from keel.numerics import _names

X = np.array([[0.53, -0.41, 1.27, 0.0, -1.6, 0.06], [2.0, 0.3, -0.7, 1.0, 30.0, -30.0], [0.0] * 6], np.float32)
Y = np.array([[1.11, 0.62, 3.0, 0.0, 0.21, 0.9], [2.0, -0.3, 0.7, 1.0, 2.0, -30.0], [1.0] * 6], np.float32)
# How each is called with a form and two arrays.
CALLS = {
    "all_near": lambda m, x, y: m.all_near(x, y),
    "any_near": lambda m, x, y: m.any_near(x, y),
    "clamp_safe": lambda m, x, y: m.clamp_safe(x, -0.5, 1.0),
    "clamp_to_zero": lambda m, x, y: m.clamp_to_zero(x, abs_tol=0.1),
    "count_near": lambda m, x, y: m.count_near(x, y),
    "div_safe": lambda m, x, y: m.div_safe(x, y, default=7.0),
    "fraction_near": lambda m, x, y: m.fraction_near(x, y),
    "log_safe": lambda m, x, y: m.log_safe(x, default=-9.0),
    "near": lambda m, x, y: m.near(x, y),
    "near_zero": lambda m, x, y: m.near_zero(x),
    "norm_safe": lambda m, x, y: m.norm_safe(x, axis=-1),
    "normalize_safe": lambda m, x, y: m.normalize_safe(x),
    "pow_safe": lambda m, x, y: m.pow_safe(x, y, default=5.0),
    "rsqrt_safe": lambda m, x, y: m.rsqrt_safe(x, default=3.0),
    "sanitize": lambda m, x, y: m.sanitize(x),
    "soft_clamp": lambda m, x, y: m.soft_clamp(x, -0.5, 1.0),
    "soft_compare": lambda m, x, y: m.soft_compare(x, y),
    "soft_near": lambda m, x, y: m.soft_near(x, y, rel_tol=0.3, temperature=0.2),
    "soft_relu": lambda m, x, y: m.soft_relu(x, 2.0),
    "softmax_safe": lambda m, x, y: m.softmax_safe(x),
    "sqrt_safe": lambda m, x, y: m.sqrt_safe(x, default=0.0),
    "to_int": lambda m, x, y: m.to_int(x, abs_tol=0.1),
    "to_range": lambda m, x, y: m.to_range(x, -0.5, 1.0),
    "to_zero": lambda m, x, y: m.to_zero(x, abs_tol=0.1),
    "ulp_diff": lambda m, x, y: m.ulp_diff(x, y),
    "ulp_next": lambda m, x, y: m.ulp_next(x),
    "ulp_of": lambda m, x, y: m.ulp_of(x),
    "ulp_prev": lambda m, x, y: m.ulp_prev(x),
    "ulp_within": lambda m, x, y: m.ulp_within(x, y),
}
SMOOTH = sorted({*_names.SAFE, *_names.SNAP, *_names.SOFT, *_names.ROWS})
# Where all of SMOOTH are: no kink, no tie, no bound nearer than the step of a difference.
A, B = np.array([[0.53, 0.41, 1.27, 2.05, 1.6, 0.26]]), np.array([[1.11, 0.62, 3.0, 0.8, 0.21, 0.9]])


def close(mine, want, tol=2e-6):
    mine, want = np.asarray(mine), np.asarray(want)
    assert mine.shape == want.shape and np.allclose(mine.astype(float), want.astype(float), rtol=tol, atol=tol), (mine, want)


def slopes(name, k):
    """By NumPy's form and central differences in float64: of the sum of the result, weighted, by argument k."""
    h, found = 1e-6, np.zeros_like(A)
    weights = np.arange(1, 1 + A.size).reshape(A.shape) if name != "norm_safe" else np.ones(1)
    for i in range(A.size):
        d = np.zeros_like(A)
        d[0, i] = h
        up, down = ((A + s * d, B) if k == 0 else (A, B + s * d) for s in (1, -1))
        found[0, i] = ((CALLS[name](kn, *up) - CALLS[name](kn, *down)) * weights).sum() / (2 * h)
    return weights, found


def test_every_form_has_every_name():
    assert sorted(CALLS) == sorted(_names.FUNCTIONS)
    for form, names in {"numpy": _names.FUNCTIONS, "torch": _names.FUNCTIONS, "jax": _names.FUNCTIONS, "numba": _names.FUNCTIONS}.items():
        if form != "numpy":
            pytest.importorskip(form)
        m = getattr(keel.numerics, form)
        assert set(names) <= set(m.__all__) and all(callable(getattr(m, n)) for n in m.__all__)
        made = {n for n, f in vars(m).items() if inspect.isfunction(f) and f.__module__.startswith(m.__name__) and n[0] != "_"}
        assert made <= set(m.__all__), f"not in __all__ of {form}: {made - set(m.__all__)}"
    for n in _names.FUNCTIONS:
        assert callable(getattr(keel.numerics, n))


@pytest.mark.parametrize("name", _names.FUNCTIONS)
def test_torch(name):
    torch = pytest.importorskip("torch")
    import keel.numerics.torch as kt

    def f(x, y):
        return CALLS[name](kt, x, y)

    x, y = torch.tensor(X), torch.tensor(Y)
    plain = f(x, y)
    close(plain, CALLS[name](kn, X, Y))
    torch._dynamo.reset()
    assert torch.equal(torch.compile(f, fullgraph=True, backend="eager")(x, y), plain)
    assert torch.equal(torch.func.vmap(f)(x, y), torch.stack([f(*row) for row in zip(x, y)]))
    if name in SMOOTH:
        a, b = (torch.tensor(v, requires_grad=True) for v in (A, B))
        inputs = (a, b) if f(a, b).ne(f(a, b.detach() + 0.3)).any() else (a,)
        call = (lambda a, b: f(a, b)) if len(inputs) == 2 else (lambda a: f(a, b.detach()))
        assert torch.autograd.gradcheck(call, inputs) and torch.autograd.gradgradcheck(call, inputs)
        weights = torch.tensor(slopes(name, 0)[0])
        close(torch.func.grad(lambda a, b: (f(a, b) * weights).sum())(a.detach(), b.detach()), slopes(name, 0)[1], 1e-5)


@pytest.mark.parametrize("name", _names.FUNCTIONS)
def test_jax(name):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_platforms", "cpu")
    import keel.numerics.jax as kj

    def f(x, y):
        return CALLS[name](kj, x, y)

    plain, want = np.asarray(f(X, Y)), np.asarray(CALLS[name](kn, X, Y))
    close(plain, want if want.dtype != np.int64 else np.minimum(want, 2**31 - 1))
    close(jax.jit(f)(X, Y), plain)
    close(jax.jit(jax.vmap(f))(X, Y), np.stack([f(*row) for row in zip(X, Y)]))
    if name in SMOOTH:
        with jax.enable_x64(True):
            for k in (0, 1):
                weights, want = slopes(name, k)
                slope = jax.grad(lambda a, b: (f(a, b) * weights).sum(), k)
                close(slope(A, B), want, 1e-5)
                close(jax.jit(slope)(A, B), want, 1e-5)


@pytest.mark.parametrize("name", _names.ELEMENTS)
def test_numba(name):
    numba = pytest.importorskip("numba")
    import keel.numerics.numba as kb

    function, call = getattr(kb, name), CALLS[name]

    class Compiled:
        """The form, each call of whose function is made by a compiled one."""

        def __getattr__(self, wanted):
            assert wanted == name

            def run(*args, **options):
                values = [*args]
                for parameter in list(inspect.signature(function.py_func).parameters.values())[len(args) :]:
                    if not options:
                        break
                    values.append(options.pop(parameter.name, parameter.default))
                return numba.njit(lambda values: function(*values))(tuple(values))

            return run

    plain = call(kb, X, Y)
    close(plain, call(kn, X, Y))
    assert np.array_equal(plain, call(Compiled(), X, Y))
    if name in _names.ULPS:  # the grid of float64, of integers too
        x = np.array([0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, 1.0, -1.0, 1 + 2**-52, 1.7976931348623157e308, np.inf, -np.inf, np.nan])
        a, b = np.repeat(x, len(x)), np.tile(x, len(x))
        mine, want = call(kb, a, b), call(kn, a, b)
        assert mine.dtype == want.dtype and np.array_equal(mine, want, equal_nan=want.dtype.kind == "f")
        assert np.array_equal(np.signbit(mine[want == 0]), np.signbit(want[want == 0]))
        assert call(kb, 1, 2) == call(kn, 1.0, 2.0)


@pytest.mark.parametrize("name", _names.ROWS)
def test_rows_as_keels_ops(name):
    """Values and gradients of norm_safe, normalize_safe and softmax_safe, special rows too."""
    inf, nan = np.inf, np.nan
    usual = [[0, 0, 0], [1e-30, 2e-30, 0], [3e30, 4e30, 1], [1, 2, 3], [1e-12, 0, 0]]
    x = np.array([*usual, [-inf, -inf, -inf], [-inf, 1, 2], [nan, 1, 2], [inf, 1, 2]], np.float32)
    for options in ({"axis": 1}, {"axis": 0}, *({"axis": 1, **o} for o in ROW_OPTIONS[name])):
        plain = {k: v for k, v in options.items() if k != "grad_cap"}
        mine = keel.tensor(x).requires_grad_()
        out = getattr(keel, name)(mine, **{**options, **({"axis": (options["axis"],)} if name == "norm_safe" else {})})
        want = np.asarray(out.detach())
        g = np.random.default_rng(0).standard_normal(want.shape).astype(np.float32)
        g[want == 0] = nan if name == "softmax_safe" else 1  # dropped
        out.backward(keel.tensor(g))
        slope, tol = np.asarray(mine.grad), {"rtol": 4e-6, "atol": 4e-6}
        np.testing.assert_allclose(getattr(kn, name)(x, **plain), want, **tol)
        torch = pytest.importorskip("torch")
        t = torch.tensor(x, requires_grad=True)
        out = getattr(keel.numerics.torch, name)(t, **options)
        out.backward(torch.tensor(g))
        np.testing.assert_allclose(out.detach().numpy(), want, **tol)
        np.testing.assert_allclose(t.grad.numpy(), slope, **tol)
        jax = pytest.importorskip("jax")
        out, pull = jax.vjp(lambda v: getattr(keel.numerics.jax, name)(v, **options), x)
        np.testing.assert_allclose(out, want, **tol)
        np.testing.assert_allclose(pull(g)[0], slope, **tol)


ROW_OPTIONS = {"norm_safe": [{"keepdim": True}], "normalize_safe": [{"eps": 1.0}, {"grad_cap": 100.0}], "softmax_safe": []}


def test_rows_of_other_dtypes_and_shapes():
    for form in ("numpy", "torch", "jax"):
        if form != "numpy":
            pytest.importorskip(form)
        m = getattr(keel.numerics, form)
        make = {"numpy": np.asarray, "torch": getattr(sys.modules.get("torch"), "tensor", None), "jax": np.asarray}[form]
        half = make(np.array([300.0, 400.0], np.float16))  # whose squares overflow float16
        assert float(m.norm_safe(half)) == 500 and "float16" in str(m.norm_safe(half).dtype)
        np.testing.assert_allclose(np.asarray(m.normalize_safe(half)), [0.6, 0.8], rtol=1e-3)
        cube = make(np.arange(24.0, dtype=np.float32).reshape(2, 3, 4))
        want = np.sqrt((np.arange(24.0).reshape(2, 3, 4) ** 2).sum((0, 2)))
        np.testing.assert_allclose(np.asarray(m.norm_safe(cube, axis=(0, 2))), want, rtol=1e-6)
        assert np.asarray(m.norm_safe(cube, axis=(0, -1), keepdim=True)).shape == (1, 3, 1)
        assert float(m.norm_safe(make(np.float32(-3)))) == 3 and float(m.softmax_safe(make(np.float32(2)))) == 1
        assert float(m.norm_safe(make(np.zeros(0, np.float32)))) == 0 and m.softmax_safe(make(np.zeros((0, 3), np.float32))).shape == (0, 3)
        assert abs(float(m.norm_safe(make(np.array([3, 4])))) - 5) < 1e-6 and float(m.norm_safe(make(np.float32(-3)), axis=-1)) == 3
        for bad in ({"eps": 0.0}, {"grad_cap": -1.0}):
            with pytest.raises(keel.numerics.InvalidValueError if form != "numpy" or "eps" in bad else TypeError):
                m.normalize_safe(cube, **bad)
