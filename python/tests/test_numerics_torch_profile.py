"""keel.numerics.torch.precision_profile beside the casts that PyTorch makes."""

import math

import keel.numerics as num
import keel.numerics.torch as kt
import pytest
import torch
from torch import nn

TARGETS = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("target", TARGETS)
def test_shares_are_those_of_the_cast(target):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 3))
    seen = {}

    def keep(path):
        def hook(module, args, output):
            seen.setdefault((path, "value"), []).append(output.detach())
            output.register_hook(lambda g: seen.setdefault((path, "gradient"), []).append(g))

        return hook

    for path, module in model.named_children():
        module.register_forward_hook(keep(path))
    with kt.precision_profile(target, model) as p:
        for step in range(3):
            x = torch.randn(32, 8) * torch.logspace(-8, 8, 32)[:, None]
            (model(x).square().mean() * 1e-5).backward()
    for path, q in model.named_parameters():
        seen[(path, "weight")] = [q.detach()]
    assert {(e.path, e.kind) for e in p.entries} == set(seen)
    for e in p.entries:
        x = torch.cat([v.flatten() for v in seen[(e.path, e.kind)]])
        y = x.to(target).float()
        smallest = torch.finfo(target).smallest_normal
        assert e.elements == x.numel() and e.largest == x.abs().max()
        assert e.overflow == (~y.isfinite()).double().mean() and e.underflow == ((x != 0) & (y == 0)).double().mean()
        assert e.subnormal == ((y != 0) & (y.abs() < smallest)).double().mean()
        assert e.path in p.report() and e.advice in p.report()


def test_advice_holds():
    """A loss scale that is proposed leaves no gradient below the normal numbers that another would save."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    x = torch.randn(64, 8)

    def profile(scale, gain=1.0):
        with kt.precision_profile(torch.float16) as p:
            (model(x * gain).mean() * 1e-4 * scale).backward()
        return p

    before = profile(1.0)
    assert any(e.kind == "gradient" and e.underflow + e.subnormal > 0.1 for e in before.entries)
    said = before.recommendation()
    assert said.startswith("gradients need a loss scale of about 2^")
    after = profile(2.0 ** int(said.rpartition("^")[2]))
    assert after.recommendation() == "everything fits float16"
    assert "keep 0" in profile(1.0, 1e6).recommendation()
    assert all(e.advice == "fits" for e in after.entries if e.kind == "value")


def test_special_values_and_errors():
    layer = nn.Identity()
    with kt.precision_profile(torch.float16, layer) as p:
        layer(torch.tensor([math.nan, math.inf, 0.0, 1e9]))
    (e,) = p.entries
    assert (e.overflow, e.underflow, e.largest) == (0.25, 0.0, 1e9)  # what is no number before is not lost in the cast
    assert not layer._forward_hooks
    with kt.precision_profile(torch.float16, nn.Identity()) as p:
        pass
    assert p.entries == [] and p.recommendation() == "everything fits float16"
    with pytest.raises(num.InvalidValueError, match="floating dtype"):
        kt.precision_profile(torch.int32)
