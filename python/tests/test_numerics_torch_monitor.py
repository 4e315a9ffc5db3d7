"""keel.numerics.torch.monitor on small models with planted faults, each beside its repaired twin."""

import math

import keel.numerics.torch as kt
import pytest
import torch
from torch import nn

torch.set_num_threads(1)


class Block(nn.Module):
    """Two layers and code of its own between them."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.between = nn.Linear(4, 4), nn.Linear(4, 1), between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


def model_of(between=lambda x: x):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), Block(between), nn.Identity())


def train(model, steps, *, fault=None, lr=1e-3, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    options = {"read_every": 5, "cost": None, **options}
    with kt.monitor(model, optimizer=optimizer, **options) as m:
        for step in range(steps):
            torch.manual_seed(step)
            x = torch.randn(8, 4)
            if fault is not None:
                x = fault(step, x)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    return m


def test_healthy_runs_are_silent_and_unchanged():
    plain, watched = model_of(torch.relu), model_of(torch.relu)
    assert train(watched, 40).findings == []
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-3)
    for step in range(40):
        torch.manual_seed(step)
        optimizer.zero_grad()
        plain(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    for p, q in zip(plain.parameters(), watched.parameters()):
        assert torch.equal(p, q)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


@pytest.mark.parametrize("cost", [None, 0.04])
def test_the_producer_is_named(cost):
    model = model_of(lambda x: torch.log(x - x.detach().max() - 1))  # NaN, between first and second
    m = train(model, 5, cost=cost)
    (f,) = m.findings
    assert (
        (f.detector, f.severity, f.path, f.phase, f.step) == ("nonfinite", "fault", "1", "forward", 0)
        and "1.second" in f.op
        and "NaN" in f.message
    )
    model = model_of()
    with torch.no_grad():
        model[1].first.weight[0, 0] = math.inf
    m = train(model, 5, cost=cost)
    (f,) = m.findings
    assert (f.path, f.op, f.phase) == ("1.first", "Linear", "forward") and f.count == 5
    assert "1.first (Linear), forward, step 0" in str(f) and m.report() == f"{f} (5 times)"


class Logarithm(nn.Module):
    """Its last step is code of its own; the gradient of relu hides from the weights what comes out."""

    def __init__(self, floor):
        super().__init__()
        self.layer, self.floor = nn.Linear(4, 1), floor

    def forward(self, x):
        return torch.log(torch.relu(self.layer(x)) + self.floor)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_what_the_models_own_code_makes_last(floor):
    torch.manual_seed(0)
    m = train(Logarithm(floor), 5, lr=0.0)
    found = [(f.severity, f.detector, f.path, f.op, f.step) for f in m.findings]
    assert found == ([] if floor else [("fault", "nonfinite", "", "Logarithm", 0)])


@pytest.mark.parametrize("safe", [False, True])
def test_a_loss_that_breaks_behind_the_model(safe):
    model = nn.Linear(4, 1)
    with kt.monitor(model, cost=None) as m:
        for _ in range(3):
            y = torch.relu(model(torch.zeros(2, 4)) - 1e3)
            m.loss(torch.log(y + 1 if safe else y).sum())
            m.step()
    assert [(f.op, f.phase, f.count) for f in m.findings] == ([] if safe else [("loss", "forward", 3)])


def test_bad_data_and_late_faults():
    m = train(model_of(), 12, fault=lambda step, x: x / 0 if step == 7 else x)
    assert [(f.detector, f.step, f.op) for f in m.findings][:1] == [("nonfinite", 7, "before 0")]


def test_backward():
    model = model_of(lambda x: torch.sqrt((x * 0).abs()))  # finite forward, infinite slope
    m = train(model, 3)
    f = m.findings[0]
    assert (f.detector, f.phase, f.path) == ("nonfinite", "backward", "1.second") and "1.first" in f.message
    assert train(model_of(lambda x: kt.sqrt_safe((x * 0).abs())), 3).findings == []


def test_break_and_callback():
    seen = []
    model = model_of()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    with pytest.raises(kt.InstabilityError, match="nonfinite at 0") as e:
        train(model, 20, break_on_instability=True, on_finding=seen.append)
    assert seen == [e.value.finding] and e.value.finding.step == 0


class Growing(nn.Module):
    def __init__(self, dtype, rate):
        super().__init__()
        self.dtype, self.rate, self.at = dtype, rate, 0

    def forward(self, x):
        self.at += 1
        return (x.sign() * self.rate**self.at).to(self.dtype)


@pytest.mark.parametrize("dtype, rate, last", [(torch.float16, 1.2, 61), (torch.bfloat16, 4.0, 64)])
def test_overflow_is_foretold(dtype, rate, last):
    model = nn.Sequential(Growing(dtype, rate))
    with kt.monitor(model, read_every=2, cost=None) as m:
        for step in range(last):
            model(torch.ones(4))
            m.step()
    f = m.findings[0]
    assert f.detector == "headroom" and f.severity == "warning" and f.path == "0" and f.eta > 0
    assert m.findings[-1].detector == "nonfinite"
    first_bad = next(f.step for f in m.findings if f.detector == "nonfinite")
    assert first_bad - f.step >= 8 and abs(f.step + f.eta - first_bad) <= 4  # foretold, and when


def test_denominators_epsilons_and_gradients():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4, eps=0.0))
    with kt.monitor(model, read_every=1, cost=None) as m:
        for step in range(60):
            model(torch.randn(3, 4) * 0 + torch.tensor([1.0, 2.0, 3.0, 4.0]) * 0.25**step) if step < 40 else None
            m.step()
    assert "denominator" in {f.detector for f in m.findings} and all(f.path == "1" for f in m.findings if f.detector == "denominator")
    half = nn.Sequential(nn.LayerNorm(4, eps=1e-12)).half()
    adam = torch.optim.Adam(half.parameters(), eps=1e-8)
    with kt.monitor(half, optimizer=adam) as m:
        assert [f.detector for f in m.findings] == ["epsilon", "epsilon"] and m.findings[0].path == "0" and "1e-12" in m.findings[0].message
    with kt.monitor(nn.Sequential(nn.LayerNorm(4)), optimizer=None) as m:
        assert m.findings == []


def test_gradient_norms():
    m = train(model_of(), 60, fault=lambda step, x: x * (1000 if step == 50 else 1), lr=1e-9)
    assert [(f.detector, f.step) for f in m.findings] == [("gradient_norm", 50)]
    grown = train(model_of(), 30, lr=0.0, fault=lambda step, x: x * 2.0 ** max(0, step - 3))
    assert "growth" in {f.detector for f in grown.findings}


@pytest.mark.parametrize("told", [False, True])
def test_a_loss_that_grows(told):
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.criterion = nn.Linear(4, 1), nn.MSELoss()

        def forward(self, x):
            y = self.layer(x)
            return y if told else {"loss": self.criterion(y, x[:, :1])}

    def losses(rate):
        torch.manual_seed(0)
        model = WithLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        with kt.monitor(model, optimizer=optimizer, read_every=5, cost=None) as m:
            x = torch.randn(64, 4)
            for _ in range(20):
                optimizer.zero_grad()
                y = model(x)
                loss = (y - x[:, :1]).square().mean() if told else y["loss"]
                if told:
                    m.loss(loss)
                loss.backward()
                optimizer.step()
        return [f for f in m.findings if f.detector == "growth" and f.op == "loss"]

    (f,) = losses(2.0)
    assert f.severity == "warning" and f.step < 12 and "learning rate" in f.suggestion and 0 < f.eta < 200
    assert losses(0.1) == []


@pytest.mark.parametrize("gain, spoken", [(1e30, ["nonfinite", "loss_scale"]), (1.0, [])])
def test_a_loss_scale_that_falls(gain, spoken):
    model = model_of(lambda x: x * gain * gain)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    with kt.monitor(model, optimizer=optimizer, read_every=5, cost=None, scaler=scaler) as m:
        for step in range(12):
            torch.manual_seed(step)
            optimizer.zero_grad()
            # The repaired twin overflows now and then: how a scaler finds its scale.
            loss = model(torch.randn(8, 4)).square().mean() * (1 if spoken or step not in (0, 1, 2, 6) else math.inf)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert [f.detector for f in m.findings] == spoken, m.report()
    if spoken:
        assert (m.findings[0].path, m.findings[1].path, m.findings[1].phase) == ("1", "1", "forward")
        with pytest.raises(kt.InstabilityError, match="fell four times"), kt.monitor(
            model, optimizer=optimizer, scaler=scaler, break_on_instability=True
        ):
            for _ in range(8):
                optimizer.zero_grad()
                scaler.scale(model(torch.randn(8, 4)).square().mean()).backward()
                scaler.step(optimizer)
                scaler.update()
    else:
        assert m.steps == 8 and scaler.get_scale() == 64


def test_absorbed_updates():
    torch.manual_seed(1)

    def run(lr):
        model = nn.Linear(8, 8).bfloat16()
        with torch.no_grad():
            model.weight.fill_(1.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        with kt.monitor(model, optimizer=optimizer, read_every=4) as m:
            for _ in range(24):
                optimizer.zero_grad()
                model(torch.ones(2, 8, dtype=torch.bfloat16)).float().mean().backward()
                optimizer.step()
        return [f for f in m.findings if f.detector == "absorption"]

    assert any(f.path == "weight" and "master weights" in f.suggestion for f in run(1e-3)) and not run(1.0)


def test_in_place_modules_and_containers():
    class Pair(nn.Module):
        def forward(self, x):
            return {"a": x, "b": (x * 2, 3)}

    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].weight.fill_(0), model[0].bias.fill_(-1e38)
    with kt.monitor(model, read_every=1) as m:
        model(torch.ones(2, 4))
        m.step()
    assert [f.path for f in m.findings] == ["0"]  # the magnitude that the ReLU then overwrote
    with kt.monitor(Pair(), read_every=1) as m:
        out = Pair()(torch.ones(2))
        m.step()
    assert m.findings == [] and out["b"][1] == 3


@pytest.mark.parametrize("fault", [True, False])
def test_jumps(fault):
    """One result is 2^20 times what it was, as after a flipped bit: the first module is named, the next are not."""
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 4), nn.Linear(4, 4))
    with kt.monitor(model, read_every=4, cost=None) as m:
        for step in range(24):
            torch.manual_seed(step)
            model((torch.randn(8, 4) + 1) * (2.0**20 if step == 20 and fault else 4.0 if step == 20 else 1.0))
            m.step()
    assert [(f.detector, f.step) for f in m.findings] == ([("jump", 20)] if fault else [])


@pytest.mark.parametrize("fault", [True, False])
def test_a_stale_second_moment(fault):
    """Gradients grow by 30 at once: the root of Adam's second moment does not know that yet."""
    torch.manual_seed(2)
    model = nn.Linear(16, 4)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.999))
    with kt.monitor(model, optimizer=adam, read_every=5, cost=None) as m:
        for step in range(60):
            x = torch.randn(32, 16) + 1
            adam.zero_grad()
            (model(x).square().mean() * (30.0 if fault and step >= 40 else 1.0)).backward()
            adam.step()
    found = [f for f in m.findings if f.detector == "adam"]
    assert bool(found) == fault and all(f.step == 40 for f in found) and (fault or m.findings == [])


@pytest.mark.parametrize("growth", [1.2, 1.0])
def test_attention_that_collapses(growth):
    model = nn.Sequential(nn.Softmax(-1))
    torch.manual_seed(0)
    x = torch.randn(2, 16, 16)
    with kt.monitor(model, read_every=8, cost=None) as m:
        for step in range(96):
            model(x * growth ** (step / 2))
            m.step()
    found = [f for f in m.findings if f.detector == "attention_entropy"]
    assert bool(found) == (growth > 1) and all(f.path == "0" and "entropy" in f.message for f in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_parameters_of_random_bits(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).to(dtype)
    with kt.monitor(model) as m:
        pass
    assert m.findings == []
    bits = torch.randint(-(2**15), 2**15, (64 * 64 * dtype.itemsize // 2,), dtype=torch.int16)
    with torch.no_grad():
        model[1].weight.copy_(bits.view(dtype).view(64, 64))
    with kt.monitor(model) as m:
        pass
    assert [(f.detector, f.path, f.severity) for f in m.findings] == [("uninitialised", "1.weight", "fault")]


def test_bad_gradients_are_seen_in_every_step():
    """Also where the governor looks at few: the gradients of parameters are always looked at."""
    model = model_of(torch.relu)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with kt.monitor(model, optimizer=optimizer, read_every=2, cost=0.0) as m:
        for step in range(40):
            optimizer.zero_grad()
            (model(torch.ones(2, 4)).sum() * (math.inf if step == 33 else 1.0)).backward()
            optimizer.step()
    (f,) = m.findings
    assert (f.detector, f.step, f.phase) == ("nonfinite", 33, "update") and f.path == "1.second.bias"


def test_the_governor():
    """No budget: it looks at less and less; one of everything: at more and more. The results are those of a plain run."""
    looks = {}
    for cost in (0.0, 1e9):
        watched = model_of(torch.relu)
        optimizer = torch.optim.SGD(watched.parameters(), lr=1e-3)
        with kt.monitor(watched, optimizer=optimizer, read_every=4, cost=cost) as m:
            for _ in range(64):
                optimizer.zero_grad()
                watched(torch.ones(2, 4)).square().mean().backward()
                optimizer.step()
        assert m.findings == [] and m.share > 0
        looks[cost] = len(m._rows[("0", "forward.out")].history)
    assert looks[0.0] < 24 and looks[1e9] == 64


def test_large_tensors_in_turn():
    """A lone infinity in a megabyte is seen within 16 looks, at once with cost=None."""
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    x = torch.ones(512, 1024)
    x[300, 7] = math.inf
    for cost, last in ((None, 1), (1e9, 16)):
        with kt.monitor(model, read_every=100, cost=cost) as m:
            for _ in range(16):
                model(x)
                m.step()
        assert m.findings and m.findings[0].step < last and m.findings[0].op == "before 0"


class Scaled(nn.Module):
    """Casts to 8 bits with a scale from the past or from now."""

    def __init__(self, current):
        super().__init__()
        self.current, self.known = current, 1.0

    def forward(self, x):
        largest = float(x.detach().abs().max())
        scale = 448 / (largest if self.current else self.known)
        self.known = largest
        return (x * scale).clamp(-448, 448).to(torch.float8_e4m3fn)


@pytest.mark.parametrize("current", [False, True])
def test_a_stale_scale_of_8_bits(current):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cast, self.down = Scaled(current), nn.Linear(4, 1)

        def forward(self, x):
            return self.down(self.cast(x).float())

    torch.manual_seed(0)
    m = train(Net(), 20, fault=lambda step, x: torch.randn(256, 4) * 1.3**step, lr=0.0)
    named = [f for f in m.findings if f.detector == "fp8_scale"]
    assert [f.path for f in named] == ([] if current else ["cast"])
    assert current or "margin" in named[0].suggestion


@pytest.mark.parametrize("over", [1.0, 1.3])
def test_what_the_program_tells_of_a_cast(over):
    model = model_of()
    with kt.monitor(model, read_every=1, cost=None) as m:
        for _ in range(4):
            model(torch.randn(8, 4))
            m.cast("input", torch.full((4,), 448 * over), torch.float8_e4m3fn)
            m.step()
        with pytest.raises(TypeError, match="float8"):
            m.cast("input", torch.ones(4), torch.float16)
    assert [(f.detector, f.path, f.step) for f in m.findings] == ([("fp8_scale", "input", 1)] if over > 1 else [])


class Everything(nn.Module):
    """One of each module whose values are computed again."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.rms = nn.Conv2d(3, 12, 3, padding=1, stride=2), nn.LayerNorm(12), nn.RMSNorm(12)
        self.line, self.bare, self.soft = nn.Linear(12, 20), nn.Linear(20, 5, bias=False), nn.Softmax(dim=-1)

    def forward(self, x):
        return self.soft(self.bare(self.line(self.rms(self.norm(self.conv(x).flatten(2).transpose(1, 2))))))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shadow_values_agree_with_sound_modules(dtype):
    def run(model, **options):
        with kt.monitor(model, cost=None, **options) as m:
            for step in range(101):
                torch.manual_seed(step)
                model(torch.randn(4, 3, 8, 8, dtype=dtype))
                m.step()
        return m.findings

    torch.manual_seed(0)
    model = Everything().to(dtype)
    plain = model(torch.ones(4, 3, 8, 8, dtype=dtype))
    assert run(model) == []
    if dtype != torch.float64:  # the last digit is rounded, and each of them was computed again, in steps 0, 50 and 100
        found = run(model, max_ulp_drift=1e-4)
        assert {(f.path, f.detector, f.count) for f in found} == {(n, "lost_bits", 3) for n in ("conv", "norm", "rms", "line", "bare", "soft")}
        assert all(f.severity == "warning" and f.op in str(f) and "units in the last place" in f.message for f in found)
        assert run(model, max_ulp_drift=None) == []
        assert run(model, max_ulp_drift=24) == []  # sums in other orders, exponentials
    assert torch.equal(model(torch.ones(4, 3, 8, 8, dtype=dtype)), plain)
    state = torch.get_rng_state()
    with kt.monitor(model, cost=None):
        model(torch.ones(4, 3, 8, 8, dtype=dtype))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("offset", [0.0, 3e6])
def test_digits_that_an_offset_takes(offset):
    """A layer norm far from zero: its mean is rounded to more than what it is subtracted from differs by."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), nn.LayerNorm(64))

    def train():
        with kt.monitor(break_on_instability=True, max_ulp_drift=1000) as m:
            for _ in range(30):
                model(torch.randn(16, 64) + offset)
                m.step()
        return m.findings

    if offset == 0:
        assert train() == []
        return
    with pytest.raises(kt.InstabilityError) as e:
        train()
    f = e.value.finding
    assert (f.detector, f.path, f.op, f.step) == ("lost_bits", "1", "LayerNorm", 0)


def test_without_a_model_the_first_that_runs():
    model, other = model_of(torch.relu), nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with kt.monitor(read_every=1, cost=None) as m:
        for step in range(4):
            optimizer.zero_grad()
            out = model(torch.randn(8, 4)).square().mean()
            other(torch.randn(8, 4) / 0)  # not watched
            (out / (0 if step == 2 else 1)).backward()
            optimizer.step()
    assert m.steps == 4
    assert {(f.detector, f.step) for f in m.findings} == {("nonfinite", 2)}
    assert not any(x._forward_hooks or x._forward_pre_hooks for x in model.modules())
    assert not nn.modules.module._global_forward_pre_hooks
