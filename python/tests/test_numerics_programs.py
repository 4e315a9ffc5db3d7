"""The programs that the plan of numerical safety begins with, one test each, as short as a user would write them."""

import math

import keel
import keel.numerics as num
import numpy as np
import pytest
from keel.numerics import scalar

NAN, INF = math.nan, math.inf


def sgd(parameters, loss, rate):
    """One step on Keel's tensors."""
    loss.backward()
    return [(p.detach() - rate * p.grad).requires_grad_() for p in parameters]


def test_n1_division_is_the_masked_one_without_nan():
    a, b = np.array([1.0, 0.0, -3.0, NAN]), np.array([2.0, 0.0, 0.0, 0.0])
    want = np.where(b == 0, 0.0, a / np.where(b == 0, 1.0, b))
    assert np.asarray(num.div_safe(keel.tensor(a), keel.tensor(b), default=0.0)).tolist() == want.tolist() == [0.5, 0, 0, 0]


def test_n2_its_gradient():
    x, y = keel.tensor([1.0, 2.0], requires_grad=True), keel.tensor([2.0, 0.0], requires_grad=True)
    z = num.div_safe(x, y, default=0.0)
    z.sum().backward()
    assert z.tolist() == [0.5, 0] and x.grad.tolist() == [0.5, 0] and y.grad.tolist() == [-0.25, 0]


def test_n3_a_relative_loss_with_zeros_compiled_as_eager():
    torch = pytest.importorskip("torch")
    from keel.numerics import torch as kt

    def loss(w, x, y):
        return kt.div_safe(x @ w - y, y, default=0.0).square().mean()

    torch.manual_seed(0)
    x, y = torch.randn(16, 4), torch.randn(16) * (torch.arange(16) % 4 != 0)
    compiled, runs = torch.compile(loss, fullgraph=True, backend="aot_eager"), []
    for f in (loss, compiled):
        w = torch.ones(4, requires_grad=True)
        for _ in range(5):
            (g,) = torch.autograd.grad(f(w, x, y), w)
            assert g.isfinite().all()
            w = (w - 1e-3 * g).detach().requires_grad_()
        runs.append(w)
    assert (y == 0).any() and torch.allclose(*runs)


def test_n4_a_soft_clamp_has_a_slope_outside():
    x = keel.tensor(-5.0, requires_grad=True)
    num.soft_clamp(x, 0.0, 1.0, beta=10.0).backward()
    assert x.grad.item() == pytest.approx(1.93e-22, rel=1e-2)


def test_n5_soft_near_is_a_probability_with_a_slope():
    a = keel.tensor([1.0, 1.05, 3.0], requires_grad=True)
    p = num.soft_near(a, keel.tensor([1.0, 1.0, 1.0]), rel_tol=1e-3, temperature=0.1)
    p.sum().backward()
    assert all(0 < v < 1 for v in p.tolist()) and p.tolist()[0] == pytest.approx(0.5025, abs=1e-6)
    assert a.grad.tolist()[1] < 0 and a.grad.tolist()[2] < 0


def test_n6_the_monitor_stops_a_loop_before_the_nan():
    """PyTorch's loop: Keel's own, with the line and the lost bits, is examples/numerics/vanishing_variance.cpp."""
    torch = pytest.importorskip("torch")
    from keel.numerics import torch as kt

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4, eps=0.0))
    losses = []
    with pytest.raises(kt.InstabilityError) as e:
        with kt.monitor(model, read_every=1, cost=None, break_on_instability=True) as m:
            for step in range(100):  # the variance falls by 16 a step
                losses.append(model[1](model[0](torch.ones(1, 4)) * 0.25**step).sum().item())
                m.step()
    f = e.value.finding
    assert f.detector == "denominator" and f.path == "1" and f.op == "LayerNorm" and "mean" in f.message and "eps = " in f.suggestion
    assert all(math.isfinite(v) for v in losses)


def test_n7_a_precision_profile():
    w = keel.tensor(np.linspace(0.1, 1, 12, dtype=np.float32).reshape(4, 3), requires_grad=True)
    x = keel.tensor(np.full((2, 4), 1e-6, np.float32))
    profile = keel.precision_profile(lambda: keel.square(x @ w).sum().backward(), low="float16")
    square = next(e for e in profile.entries if e["op"] == "square" and e["kind"] == "value")
    half = next(target for target in square["report"]["targets"] if target["dtype"] == "f16")
    assert half["flushed"] == 1 and "100" in str(profile) and "square" in str(profile.advice) and profile.policy["low"] == "f16"


def test_n8_near_by_dtype():
    for dtype, step, far in ((keel.float16, 1.0009, 1.01), (keel.bfloat16, 1.0078, 1.1)):
        one = keel.tensor([1.0], dtype=dtype)
        assert num.near(one, keel.tensor([step], dtype=dtype)).tolist() == [True]
        assert num.near(one, keel.tensor([far], dtype=dtype)).tolist() == [False]
    assert num.tolerances("float16") == (1e-3, 1e-4) and num.tolerances("bfloat16") == (1e-2, 1e-3)


def test_n9_no_exception_compiled_as_plain():
    a, b = np.array([1.0, NAN, INF, 0.0], np.float32), np.array([0.0, 0.0, INF, -0.0], np.float32)
    with np.errstate(all="raise"):
        want = num.numpy.div_safe(a, b, default=7.0)
    np.testing.assert_array_equal(want, [7, 7, NAN, 7])
    for package in ("torch", "jax", "numba"):
        pytest.importorskip(package)
    import jax
    import numba
    import torch

    kt, kj, kb = num.torch, num.jax, num.numba
    by_torch = torch.compile(lambda a, b: kt.div_safe(a, b, default=7.0), fullgraph=True, backend="eager")
    np.testing.assert_array_equal(by_torch(torch.tensor(a), torch.tensor(b)), want)
    np.testing.assert_array_equal(jax.jit(lambda a, b: kj.div_safe(a, b, default=7.0))(a, b), want)
    np.testing.assert_array_equal(numba.njit(lambda a, b: kb.div_safe(a, b, 7.0))(a, b), want)


def test_n10_debug_mode_changes_no_value():
    x = keel.tensor(np.linspace(0.5, 2, 32, dtype=np.float32))

    def chain():
        return np.asarray(num.div_safe(num.log_safe(x), x * 3 + 1, default=0.0) + num.soft_clamp(x, 0.0, 1.0))

    plain = chain()
    with num.debug_mode():
        np.testing.assert_array_equal(chain(), plain)


def test_n11_matrix_products_and_safe_division_train():
    r = np.random.default_rng(0)
    x = keel.tensor(r.standard_normal((32, 4)).astype(np.float32))
    s = np.asarray(x) @ np.array([[1], [-2], [0.5], [1]], np.float32)
    y = keel.tensor(np.where(s > 0, 1 + s, 0).astype(np.float32))  # half of the targets are 0
    parameters, losses = [keel.tensor(r.standard_normal(s).astype(np.float32) * 0.3, requires_grad=True) for s in ((4, 8), (8, 1))], []
    for _ in range(150):
        error = num.div_safe(keel.tanh(x @ parameters[0]) @ parameters[1] - y, y, default=0.0)
        loss = (error * error).mean()
        losses.append(loss.item())
        parameters = sgd(parameters, loss, 0.1)
    assert losses[-1] < 0.8 * losses[0] and all(math.isfinite(v) for v in losses)


def test_n12_loud_in_debug_silent_in_production():
    a, b = keel.tensor([1.0]), keel.tensor([0.0])
    assert num.div_safe(a, b, default=0.0).tolist() == [0]
    with num.debug_mode():
        with pytest.raises(keel.NumericalError, match="div_safe replaced values: 1 of 1"):
            num.div_safe(a, b, default=0.0)
    assert num.div_safe(a, b, default=0.0).tolist() == [0]


def test_n13_numbers_arrays_and_tensors_agree():
    """A package that is missing gives its install line: test_numerics_install.py."""
    assert scalar.div(1.0, 0.0, default=0.0) == 0.0
    assert num.numpy.div_safe(np.array([1.0]), np.array([0.0]), default=0.0).tolist() == [0.0]
    assert num.div_safe(keel.tensor([1.0]), keel.tensor([0.0]), default=0.0).tolist() == [0.0]
