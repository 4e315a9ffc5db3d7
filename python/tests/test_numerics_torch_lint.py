"""keel.numerics.torch.lint: each rule beside the form that it asks for, and models in which nothing is wrong."""

import pytest
import torch
import torch.nn.functional as F
from keel.numerics.torch import lint
from torch import nn

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
W = X.clone().requires_grad_()


def contrast(a, b, picked):
    e = torch.exp((a @ b.t() / 0.05).half())
    return -torch.log(picked(e) / e.sum(1)).mean()


BAD = [
    ("warning", "log of softmax", lambda: torch.log(F.softmax(X, -1))),
    ("warning", "log of softmax", lambda: X.softmax(-1).to(torch.float64).reshape(-1).log()),
    ("note", "log of sigmoid", lambda: X.sigmoid().log()),
    ("note", "log of 1 - sigmoid", lambda: torch.log(1 - torch.sigmoid(X))),
    ("note", "softplus by hand", lambda: torch.log(1 + torch.exp(2 * X))),
    ("note", "softplus by hand", lambda: X.exp().log1p()),
    ("note", "logsumexp by hand", lambda: torch.exp(X).sum(-1).log()),
    ("note", "softmax by hand", lambda: torch.exp(X) / torch.exp(X).sum(-1, keepdim=True)),
    ("warning", "softmax by hand", lambda: contrast(X, X, torch.diagonal)),
    ("warning", "softmax by hand", lambda: contrast(X, X, lambda e: e.gather(1, torch.arange(4)[:, None]).squeeze(1))),
    ("note", "one-pass variance", lambda: (X**2).mean(-1) - X.mean(-1) ** 2),
    ("note", "one-pass variance", lambda: (X * X).mean(-1) - X.mean(-1).square()),
    ("note", "norm by hand", lambda: torch.sqrt((W**2).sum(-1))),
    ("note", "root of what may be 0", lambda: W.var(-1).sqrt()),
    ("note", "division by what may be 0", lambda: W / W.norm(dim=-1, keepdim=True)),
    ("note", "division by what may be 0", lambda: (X - X.mean(0)) / X.std(0)),
    ("note", "division by what may be 0", lambda: 1 / (X.amax(-1) - X.amin(-1))),
    ("warning", "epsilon", lambda: X.half() / (X.half().var(-1, keepdim=True) + 1e-12)),
    ("warning", "number beyond the dtype", lambda: X.half() - 1e9),
    ("note", "sum in f16", lambda: X.half().expand(8192, 4, 8).sum()),
]


@pytest.mark.parametrize("at", range(len(BAD)))
def test_each_rule_speaks_once_and_names_the_line(at):
    severity, rule, f = BAD[at]
    found = lint(f)
    assert [(x.severity, x.detector) for x in found] == [(severity, rule)]
    assert "test_numerics_torch_lint.py:" in found[0].message and found[0].suggestion


@pytest.mark.parametrize(
    "f",
    [
        lambda: torch.log_softmax(X, -1),
        lambda: F.softplus(X),
        lambda: torch.logsumexp(X, -1),
        lambda: torch.log(torch.exp(X - X.max(-1, keepdim=True).values).sum(-1)),
        lambda: X.var(-1),
        lambda: torch.sqrt((W**2).sum(-1) + 1e-6),
        lambda: torch.sqrt((X**2).sum(-1)),  # no gradient
        lambda: (X - X.mean(0)) / (X.std(0) + 1e-5),
        lambda: X + 1e-12,
        lambda: X.half() + 1e-4,
        lambda: F.cross_entropy(X, torch.zeros(4, dtype=torch.long)),
    ],
)
def test_sound_forms_are_silent(f):
    assert lint(f) == []


def test_models_are_left_as_they_were_and_named_by_module():
    class Head(nn.Module):
        def forward(self, x):
            return torch.log(torch.softmax(x, -1))

    model = nn.Sequential(nn.Linear(8, 4), nn.Sequential(nn.ReLU(), Head()))
    (found,) = lint(model, X)
    assert (found.path, found.op, found.detector) == ("1.1", "log", "log of softmax")
    assert lint(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(2, 5, 16)) == []
    assert lint(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU()), torch.randn(2, 3, 8, 8)) == []
    with pytest.raises(ZeroDivisionError):
        lint(lambda: 1 / 0)
    assert not nn.modules.module._global_forward_hooks and not nn.modules.module._global_forward_pre_hooks
