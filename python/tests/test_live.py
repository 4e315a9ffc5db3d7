"""The live judge: every op beside PyTorch (or NumPy), values, dtypes and gradients, in f32 and f64, on plain, broadcast, strided and empty tensors.

The reference is always computed in float64 from the same inputs, so a difference is Keel's own error. One table entry an op; `test_table_is_complete` fails where a row has none.
"""
import math

import keel
import numpy as np
import pytest
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
ROWS = {r["name"]: r for r in keel.registry()}
TOLERANCE = {"float32": 4e-6, "float64": 1e-12}


class Sample:
    """Arrays for the tensor inputs (None for an absent one) and how to lay them out."""

    def __init__(self, *arrays, tag=""):
        self.arrays, self.tag = arrays, tag


def rng(name):
    return np.random.default_rng(sum(map(ord, name)))


def normal(r, *shape):
    return r.standard_normal(shape)


def positive(r, *shape):
    return r.uniform(0.2, 3.0, shape)


def inside(r, *shape):
    return r.uniform(-0.9, 0.9, shape)


def distinct(r, *shape):
    return r.permutation(np.arange(math.prod(shape), dtype=float)).reshape(shape) * 0.37 - 1.1


def strided(a):
    """The same values in memory with gaps and a negative step."""
    if a.ndim == 0:
        return np.array([0, a], a.dtype)[1:].reshape(())
    wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
    view = wide[tuple(slice(None, None, -2) for _ in a.shape)]
    view[...] = a
    return view


UNARY_SHAPES = [(3, 4), (), (0, 3), (2, 1, 3), (37,)]
BINARY_SHAPES = [((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2, 3)), ((0, 3), (1, 3)), ((2, 1, 3), (5, 1))]


class Entry:
    def __init__(self, keel_fn, torch_fn, samples, grad=True, tol=1.0):
        self.keel_fn, self.torch_fn, self.samples, self.grad, self.tol = keel_fn, torch_fn, samples, grad, tol


TABLE: dict[str, list[Entry]] = {}


def entry(name, torch_fn, samples, grad=True, tol=1.0, keel_fn=None, **params):
    """`samples` makes a list of tuples of arrays from a random generator; integer and bool arrays stay as they are, floats take the dtype under test."""
    f = keel_fn or (lambda *a: getattr(keel, name)(*a, **params))
    TABLE.setdefault(name, []).append(Entry(f, torch_fn, samples, grad, tol))


def unary(name, torch_fn, make=normal, **k):
    entry(name, torch_fn, lambda r: [(make(r, *s),) for s in UNARY_SHAPES], **k)


def binary(name, torch_fn, make=normal, **k):
    entry(name, torch_fn, lambda r: [(make(r, *a), make(r, *b)) for a, b in BINARY_SHAPES], **k)


for n in ("abs", "neg", "exp", "expm1", "sin", "cos", "sinh", "cosh", "tanh", "sigmoid", "erf", "square"):
    unary(n, getattr(torch, n))
for n in ("log", "log2", "sqrt", "rsqrt", "reciprocal", "log1p"):
    unary(n, getattr(torch, n), positive)
unary("tan", torch.tan, inside)
for n in ("sign", "floor", "ceil", "round", "trunc"):
    unary(n, getattr(torch, n))
for n, f in {"relu": F.relu, "leaky_relu": F.leaky_relu, "elu": F.elu, "gelu": F.gelu, "silu": F.silu, "softplus": F.softplus, "hardswish": F.hardswish, "mish": F.mish, "selu": F.selu}.items():
    unary(n, f, lambda r, *s: normal(r, *s) * 3)
unary("gelu", lambda x: F.gelu(x, approximate="tanh"), approximate="tanh")
unary("leaky_relu", lambda x: F.leaky_relu(x, 0.2), slope=0.2)
unary("elu", lambda x: F.elu(x, 0.7), alpha=0.7)
unary("softplus", lambda x: F.softplus(x, 2.0, 3.0), beta=2.0, threshold=3.0)
for n in ("isnan", "isinf", "isfinite", "logical_not"):
    unary(n, getattr(torch, n), lambda r, *s: np.where(r.random(s) < 0.5, r.choice([0.0, np.nan, np.inf, -np.inf], s), 1.0), grad=False)
for n in ("add", "sub", "mul"):
    binary(n, getattr(torch, n))
binary("div", torch.div, positive)
binary("pow", torch.pow, positive, tol=3)
binary("maximum", torch.maximum)
binary("minimum", torch.minimum)
binary("floor_divide", torch.floor_divide, lambda r, *s: distinct(r, *s) + 0.6, grad=False)
binary("remainder", torch.remainder, lambda r, *s: distinct(r, *s) + 0.6, grad=False, tol=10)
whole = lambda r, *s: r.integers(-1, 2, s).astype(float)  # noqa: E731
for n, t in {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}.items():
    binary(n, getattr(torch, t), whole, grad=False)
for n in ("logical_and", "logical_or", "logical_xor"):
    binary(n, getattr(torch, n), whole, grad=False)
bits = lambda r, *s: r.integers(0, 99, s)  # noqa: E731
for n in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    binary(n, getattr(torch, n), bits, grad=False)
unary("bitwise_not", torch.bitwise_not, bits, grad=False)
entry("where", torch.where, lambda r: [(normal(r, *a) > 0, normal(r, *a), normal(r, *b)) for a, b in BINARY_SHAPES])
entry("masked_fill", lambda x, m: x.masked_fill(m, 2.5), lambda r: [(normal(r, 3, 4), normal(r, 3, 4) > 0), (normal(r, 3, 4), normal(r, 4) > 0)], keel_fn=lambda x, m: keel.masked_fill(x, m, 2.5))
entry("clamp", lambda x: x.clamp(-0.5, 0.7), lambda r: [(normal(r, *s),) for s in UNARY_SHAPES], lo=-0.5, hi=0.7)
entry("lerp", torch.lerp, lambda r: [(normal(r, 3, 4), normal(r, 3, 4), normal(r, 3, 4)), (normal(r, 3, 1), normal(r, 4), normal(r, 3, 4))])
entry("cast", lambda x: x.to(torch.float64), lambda r: [(normal(r, *s),) for s in UNARY_SHAPES], to="f64")
entry("copy", torch.clone, lambda r: [(normal(r, *s),) for s in UNARY_SHAPES])
entry("transfer", torch.clone, lambda r: [(normal(r, *s),) for s in UNARY_SHAPES], to="cpu")
entry("relayout", torch.clone, lambda r: [(normal(r, 2, 3, 4, 5),)], order="channels_last")

REDUCTIONS = [({}, {}), ({"axis": 0}, {"dim": 0}), ({"axis": -1, "keepdim": True}, {"dim": -1, "keepdim": True}), ({"axis": (0, 2)}, {"dim": (0, 2)})]


def reduction(name, torch_fn, make=normal, one_axis=False, extra=None, torch_extra=None, shapes=((3, 4, 5), (2, 1, 7), (1, 33, 3)), **k):
    for ours, theirs in REDUCTIONS[: 3 if one_axis else 4]:
        entry(name, lambda x, t=theirs: torch_fn(x, **t, **(torch_extra or {})), lambda r: [(make(r, *s),) for s in shapes], **ours, **(extra or {}), **k)


reduction("sum", torch.sum, shapes=((3, 4, 5), (2, 0, 7), (3, 0, 0), (1, 33, 3)))
reduction("mean", torch.mean)
reduction("var", torch.var, torch_extra={"correction": 0})
reduction("var", torch.var, extra={"correction": 1.0}, torch_extra={"correction": 1}, shapes=((3, 4, 5), (2, 3, 7)))
reduction("stddev", torch.std, torch_extra={"correction": 0}, shapes=((3, 4, 5), (2, 3, 7)))
reduction("prod", torch.prod, one_axis=True, tol=4)
reduction("max", torch.amax, distinct)
reduction("min", torch.amin, distinct)
reduction("any", lambda x, dim=None, keepdim=False: torch.any(x != 0) if dim is None else torch.any(x != 0, dim=dim, keepdim=keepdim), whole, grad=False)
reduction("all", lambda x, dim=None, keepdim=False: torch.all(x != 0) if dim is None else torch.all(x != 0, dim=dim, keepdim=keepdim), whole, grad=False)
reduction("argmax", torch.argmax, whole, one_axis=True, grad=False)
reduction("argmin", torch.argmin, whole, one_axis=True, grad=False)
for order in (1.0, 2.0, 3.0, math.inf):
    reduction("norm", lambda x, dim=None, keepdim=False, p=order: torch.linalg.vector_norm(x, p, dim=dim, keepdim=keepdim), distinct, extra={"p": order}, tol=2)
reduction("logsumexp", lambda x, dim=None, keepdim=False: torch.logsumexp(x, tuple(range(x.ndim)) if dim is None else dim, keepdim))
for axis in (0, 1, -1):
    entry("cumsum", lambda x, a=axis: torch.cumsum(x, a), lambda r: [(normal(r, 3, 4, 5),), (normal(r, 2, 0, 3),)], axis=axis)
    entry("softmax", lambda x, a=axis: torch.softmax(x, a), lambda r: [(normal(r, 3, 4, 5) * 4,), (normal(r, 2, 33, 3),), (normal(r, 0, 3, 4),)], axis=axis)
    entry("log_softmax", lambda x, a=axis: torch.log_softmax(x, a), lambda r: [(normal(r, 3, 4, 5) * 4,), (normal(r, 2, 33, 3),), (normal(r, 0, 3, 4),)], axis=axis)
    entry("sort", lambda x, a=axis: torch.sort(x, a), lambda r: [(distinct(r, 3, 4, 5),)], axis=axis)
    entry("sort", lambda x, a=axis: torch.sort(x, a, descending=True), lambda r: [(distinct(r, 3, 4, 5),)], axis=axis, descending=True)
    entry("topk", lambda x, a=axis: torch.topk(x, 2, a), lambda r: [(distinct(r, 3, 4, 5),)], k=2, axis=axis)
    entry("topk", lambda x, a=axis: torch.topk(x, 3, a, largest=False), lambda r: [(distinct(r, 3, 4, 5),)], k=3, axis=axis, largest=False)

entry("reshape", lambda x: x.reshape(4, -1), lambda r: [(normal(r, 2, 6),), (normal(r, 4),)], shape=(4, -1))
entry("permute", lambda x: x.permute(2, 0, 1), lambda r: [(normal(r, 2, 3, 4),), (normal(r, 2, 0, 4),)], order=(2, 0, 1))
entry("expand", lambda x: x.expand(5, 3, 4), lambda r: [(normal(r, 3, 1),), (normal(r, 1, 1, 4),)], shape=(5, 3, 4))
entry("slice_view", lambda x: x[1:3, 0:5:2], lambda r: [(normal(r, 4, 5),)], start=(1, 0), stop=(3, 5), step=(1, 2))
entry("transpose", lambda x: x.transpose(0, 2), lambda r: [(normal(r, 2, 3, 4),)], a=0, b=2)
entry("flatten", lambda x: x.flatten(1), lambda r: [(normal(r, 2, 3, 4),)], first=1)
entry("squeeze", torch.squeeze, lambda r: [(normal(r, 1, 3, 1),)])
entry("unsqueeze", lambda x: x.unsqueeze(1), lambda r: [(normal(r, 2, 3),)], axis=1)
entry("broadcast_to", lambda x: x.broadcast_to(2, 3), lambda r: [(normal(r, 3),)], shape=(2, 3))
entry("flip", lambda x: x.flip(0, 2), lambda r: [(normal(r, 2, 3, 4),)], axis=(0, 2))
entry("concat", lambda a, b: torch.cat([a, b], 1), lambda r: [(normal(r, 2, 3), normal(r, 2, 1)), (normal(r, 2, 0), normal(r, 2, 4))], keel_fn=lambda a, b: keel.concat([a, b], axis=1))
entry("stack", lambda a, b: torch.stack([a, b], -1), lambda r: [(normal(r, 2, 3), normal(r, 2, 3))], keel_fn=lambda a, b: keel.stack([a, b], axis=-1))
entry("split", lambda x: torch.split(x, 2, 1), lambda r: [(normal(r, 2, 5),)], size=2, axis=1)
entry("split", lambda x: torch.split(x, [1, 4], 1), lambda r: [(normal(r, 2, 5),)], size=[1, 4], axis=1)
entry("chunk", lambda x: torch.chunk(x, 3, 1), lambda r: [(normal(r, 2, 7),)], count=3, axis=1)
for mode in ("constant", "reflect", "replicate"):
    entry("pad", lambda x, m=mode: F.pad(x, (1, 2, 2, 1), mode=m), lambda r: [(normal(r, 1, 2, 4, 5),)], before=(0, 0, 2, 1), after=(0, 0, 1, 2), mode=mode)
entry("repeat", lambda x: x.repeat(2, 3), lambda r: [(normal(r, 2, 4),), (normal(r, 3),)], repeats=(2, 3))

entry("gather", lambda x, i: torch.gather(x, 1, i), lambda r: [(normal(r, 3, 5), r.integers(0, 5, (3, 4)))], axis=1)
entry("index_select", lambda x, i: torch.index_select(x, 1, i), lambda r: [(normal(r, 3, 5), r.integers(0, 5, 7))], axis=1)
entry("scatter_add", lambda x, i, s: torch.scatter_add(x, 0, i, s), lambda r: [(normal(r, 4, 3), r.integers(0, 4, (6, 3)), normal(r, 6, 3))], axis=0)
entry("nonzero", torch.nonzero, lambda r: [(whole(r, 4, 5),), (whole(r, 0, 3),), (whole(r, 9),)], grad=False)
entry("index_get", lambda x, i, j: x[i, j], lambda r: [(normal(r, 4, 5, 2), r.integers(0, 4, 6), r.integers(0, 5, 6))], keel_fn=lambda x, i, j: keel.index_get(x, [i, j], axis=(0, 1)))
entry("index_put", lambda x, v, i: x.index_put((i,), v, accumulate=True), lambda r: [(normal(r, 4, 5), normal(r, 6, 5), r.integers(0, 4, 6))],
      keel_fn=lambda x, v, i: keel.index_put(x, v, [i], axis=0, accumulate=True))
entry("embedding", F.embedding, lambda r: [(r.integers(0, 7, (2, 3)), normal(r, 7, 4)), (r.integers(0, 7, (0,)), normal(r, 7, 4))])

MATMULS = [((3, 4), (4, 5)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((0, 4), (4, 3)), ((3, 0), (0, 2)), ((33, 65), (65, 17))]
entry("matmul", torch.matmul, lambda r: [(normal(r, *a), normal(r, *b)) for a, b in MATMULS], tol=8)
entry("linear", F.linear, lambda r: [(normal(r, 3, 4), normal(r, 5, 4), normal(r, 5)), (normal(r, 2, 3, 4), normal(r, 5, 4), normal(r, 5))], tol=4)
entry("linear", F.linear, lambda r: [(normal(r, 3, 4), normal(r, 5, 4))], tol=4)
entry("linear_gelu", lambda x, w, b: F.gelu(F.linear(x, w, b), approximate="tanh"), lambda r: [(normal(r, 2, 3, 4), normal(r, 5, 4), normal(r, 5))], tol=8)
entry("feed_forward", lambda x, u, p, d, q: F.linear(F.gelu(F.linear(x, u, p), approximate="tanh"), d, q),
      lambda r: [(normal(r, 2, 3, 4), normal(r, 6, 4), normal(r, 6), normal(r, 5, 6), normal(r, 5))], tol=16)
entry("dot", torch.dot, lambda r: [(normal(r, 9), normal(r, 9)), (normal(r, 0), normal(r, 0))], tol=4)
entry("outer", torch.outer, lambda r: [(normal(r, 3), normal(r, 4))])
CONVS = [({}, (2, 3, 7, 6), (4, 3, 3, 3)), ({"stride": 2, "padding": 1}, (2, 3, 8, 7), (4, 3, 3, 3)), ({"dilation": 2, "padding": (2, 1)}, (1, 2, 9, 9), (3, 2, 3, 3)),
         ({"groups": 2, "padding": 1}, (2, 4, 5, 5), (6, 2, 3, 3)), ({"groups": 4}, (1, 4, 5, 5), (4, 1, 3, 3)), ({"padding": 2}, (1, 1, 28, 28), (8, 1, 5, 5))]
for k, x, w in CONVS:
    entry("conv2d", lambda a, b, c, k=k: F.conv2d(a, b, c, **k), lambda r, x=x, w=w: [(normal(r, *x), normal(r, *w), normal(r, w[0]))], tol=16, **k)
for k in ({}, {"kernel": 3, "stride": 2, "padding": 1}, {"kernel": (2, 3), "stride": 1}):
    t = {"kernel_size": k.get("kernel", 2), "stride": k.get("stride"), "padding": k.get("padding", 0)}
    entry("max_pool2d", lambda x, t=t: F.max_pool2d(x, **t), lambda r: [(distinct(r, 2, 3, 6, 7),)], **k)
    entry("avg_pool2d", lambda x, t=t: F.avg_pool2d(x, **t), lambda r: [(normal(r, 2, 3, 6, 7),)], **k)
for size in (1, 3, (2, 5)):
    entry("adaptive_avg_pool2d", lambda x, s=size: F.adaptive_avg_pool2d(x, s), lambda r: [(normal(r, 2, 3, 7, 6),)], size=size)

for axes in (1, 2):
    def ln(x, w=None, b=None, n=axes):
        return F.layer_norm(x, x.shape[-n:], w, b, 1e-5)

    def rms(x, w=None, n=axes):
        return F.rms_norm(x, x.shape[-n:], w, 1e-5)

    entry("layer_norm", ln, lambda r, n=axes: [(normal(r, 2, 3, 8), normal(r, *(3, 8)[-n:]), normal(r, *(3, 8)[-n:])), (normal(r, 2, 3, 8),)], axes=axes, tol=8)
    entry("rms_norm", rms, lambda r, n=axes: [(normal(r, 2, 3, 8), normal(r, *(3, 8)[-n:])), (normal(r, 2, 3, 8),)], axes=axes, tol=8)


def torch_batch_norm(x, w, b):
    axes = [i for i in range(x.ndim) if i != 1]
    return F.batch_norm(x, None, None, w, b, True, 0.1, 1e-5), x.mean(axes), x.var(axes, correction=0)


entry("batch_norm", torch_batch_norm, lambda r: [(normal(r, 4, 3, 5, 2), normal(r, 3), normal(r, 3)), (normal(r, 6, 3), normal(r, 3), normal(r, 3))], tol=8)
entry("batch_norm_eval", lambda x, m, v, w, b: F.batch_norm(x, m.detach(), v.detach(), w, b, False, 0.1, 1e-5), lambda r: [(normal(r, 4, 3, 5, 2), normal(r, 3), positive(r, 3), normal(r, 3), normal(r, 3))],
      keel_fn=lambda x, m, v, w, b: keel.batch_norm_eval(x, m.detach(), v.detach(), w, b), tol=8)
images = lambda r: [(normal(r, 4, 3, 5, 2), normal(r, 3), normal(r, 3), normal(r, 4, 3, 5, 2))]  # noqa: E731
entry("batch_norm_relu", lambda x, w, b, z: F.relu(torch_batch_norm(x, w, b)[0] + z), images, keel_fn=lambda x, w, b, z: keel.batch_norm_relu(x, w, b, z)[0], tol=8)
entry("batch_norm_relu_eval", lambda x, m, v, w, b, z: F.relu(F.batch_norm(x, m.detach(), v.detach(), w, b, False, 0.1, 1e-5) + z),
      lambda r: [(normal(r, 4, 3, 5, 2), normal(r, 3), positive(r, 3), normal(r, 3), normal(r, 3), normal(r, 4, 3, 5, 2))],
      keel_fn=lambda x, m, v, w, b, z: keel.batch_norm_relu_eval(x, m.detach(), v.detach(), w, b, z), tol=8)

for red in ("none", "mean", "sum"):
    for n, t in {"mse_loss": F.mse_loss, "l1_loss": F.l1_loss}.items():
        entry(n, lambda x, y, t=t, red=red: t(x, y, reduction=red), lambda r: [(normal(r, 3, 4), normal(r, 3, 4))], reduction=red)
    entry("bce_with_logits", lambda x, y, red=red: F.binary_cross_entropy_with_logits(x, y, reduction=red), lambda r: [(normal(r, 3, 4) * 5, r.random((3, 4)))], reduction=red)
    targets = lambda r: [(normal(r, 6, 5), np.array([0, 4, 2, 2, -100, 1]))]  # noqa: E731
    entry("cross_entropy", lambda x, y, red=red: F.cross_entropy(x, y, reduction=red), targets, reduction=red)
    entry("cross_entropy", lambda x, y, red=red: F.cross_entropy(x, y, reduction=red, label_smoothing=0.1), targets, reduction=red, label_smoothing=0.1)
    entry("cross_entropy", lambda x, y, red=red: F.cross_entropy(x, torch.softmax(y, -1), reduction=red), lambda r: [(normal(r, 6, 5), normal(r, 6, 5))], reduction=red,
          keel_fn=lambda x, y, red=red: keel.cross_entropy(x, keel.softmax(y), reduction=red), tol=2)
    entry("nll_loss", lambda x, y, red=red: F.nll_loss(x, y, reduction=red), targets, reduction=red)
entry("cross_entropy", lambda x, y: F.cross_entropy(x, y), lambda r: [(normal(r, 2, 5, 3, 4), r.integers(0, 5, (2, 3, 4)))], axis=1)

heads = lambda r: [(normal(r, 2, 3, 5, 8), normal(r, 2, 3, 5, 8), normal(r, 2, 3, 5, 8))]  # noqa: E731
entry("attention", F.scaled_dot_product_attention, heads, tol=8)
entry("attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), heads, causal=True, tol=8)



def some(r, *s):
    """Numbers of both signs and a few zeros."""
    return np.where(r.random(s) < 0.3, 0.0, r.choice([-1, 1], s) * r.uniform(0.3, 3, s))


def odd(r, *s):
    return np.where(r.random(s) < 0.5, r.choice([np.nan, np.inf, -np.inf, -0.0], s), normal(r, *s))


def where(c, a, b):
    return torch.where(c, torch.as_tensor(a, dtype=b.dtype), b)


def soft_near(a, b):
    s = torch.maximum(0.1 * torch.maximum(a.abs(), b.abs()), torch.tensor(0.02, dtype=a.dtype))
    return torch.sigmoid((s - (a - b).abs()) / 0.5)


def torch_near(a, b):
    return (a - b).abs() <= torch.maximum(0.25 * torch.maximum(a.abs(), b.abs()), torch.tensor(0.125, dtype=a.dtype))


entry("div_safe", lambda a, b: where(b == 0, 0.5, a / where(b == 0, 1, b)), lambda r: [(normal(r, *a), some(r, *b)) for a, b in BINARY_SHAPES], otherwise=0.5)
entry("div_safe", lambda a, b, f: torch.where(b.abs() <= 0.5, f, a / where(b == 0, 1, b)), lambda r: [(normal(r, *a), some(r, *b), normal(r, *b)) for a, b in BINARY_SHAPES], zero_tol=0.5)
unary("sanitize", lambda x: torch.nan_to_num(x, 0.25, 9.0, -3.0), odd, nan_value=0.25, inf_value=9, neginf_value=-3)
unary("sanitize", torch.nan_to_num, normal)
unary("clamp_to_zero", lambda x: where(x.abs() <= 0.5, 0, x), some, abs_tol=0.5)
unary("clamp_safe", lambda x: x.clamp(-0.5, 0.7), lo=-0.5, hi=0.7)
unary("sqrt_safe", lambda x: where(x < 0, -1, torch.sqrt(where(x <= 0, 1, x)) * (x != 0)), some, otherwise=-1)
unary("rsqrt_safe", lambda x: where(x <= 0, 2, torch.rsqrt(where(x <= 0, 1, x))), some, otherwise=2)
for base in (math.e, 2.0, 10.0, 3.0):
    unary("log_safe", lambda x, b=base: where(x <= 0, 2, torch.log(where(x <= 0, 1, x)) / math.log(b)), some, otherwise=2, base=base)
binary("pow_safe", torch.pow, positive, tol=3)
reduction("norm_safe", torch.linalg.vector_norm, tol=2)
for axis in (0, -1):
    entry("normalize_safe", lambda x, a=axis: F.normalize(x, dim=a), lambda r: [(normal(r, 3, 4),), (normal(r, 2, 5),)], axis=axis, tol=2)
    entry("softmax_safe", lambda x, a=axis: torch.softmax(x, a), lambda r: [(normal(r, 3, 4, 5) * 4,), (normal(r, 2, 33, 3),), (normal(r, 0, 3, 4),)], axis=axis)
unary("soft_clamp", lambda x: F.softplus(x, 10, 1e9) - F.softplus(x - 1, 10, 1e9), lo=0, hi=1, tol=2)
unary("soft_relu", lambda x: F.softplus(x, 5, 1e9), beta=5)
binary("soft_near", soft_near, rel_tol=0.1, abs_tol=0.02, temperature=0.5, tol=2)
binary("soft_compare", lambda a, b: torch.tanh((a - b) / 0.5), temperature=0.5, tol=2)
for n, f in {"near": lambda t: t, "all_near": torch.all, "any_near": torch.any, "count_near": torch.sum, "fraction_near": lambda t: t.float().mean()}.items():
    binary(n, lambda a, b, f=f: f(torch_near(a, b)), grad=False, rel_tol=0.25, abs_tol=0.125)
unary("near_zero", lambda x: x.abs() <= 0.5, some, grad=False, abs_tol=0.5)

# Rows that this table does not call, and why.
ELSEWHERE = {
    "ulp_of": "test_safe.py", "ulp_next": "test_safe.py", "ulp_prev": "test_safe.py", "ulp_diff": "test_safe.py", "ulp_within": "test_safe.py",
    "full": "creation, test_tensor.py", "arange": "creation, test_tensor.py", "linspace": "creation, test_tensor.py", "eye": "creation, test_tensor.py",
    "assign": "writes in place, test_tensor.py", "index_write": "writes in place, test_tensor.py", "index_winners": "inner part of index_put", "max_pool2d_pick": "inner part of max_pool2d",
    "exponent_counts": "PyTorch has no such table, test_exponents.py",
}


def is_inner(row):
    """Gradient rows are judged through the gradients of the ops that call them, optimiser steps through the optimisers."""
    return "_backward" in row["name"] or row["random"] or any(i["written"] for i in row["inputs"])


def test_table_is_complete():
    missing = [n for n, r in ROWS.items() if n not in TABLE and n not in ELSEWHERE and not is_inner(r)]
    assert not missing


def run_cases():
    for name, entries in TABLE.items():
        if not hasattr(keel, name):
            continue
        for i, e in enumerate(entries):
            yield pytest.param(name, e, id=f"{name}-{i}")


def as_list(x):
    return list(x) if isinstance(x, (tuple, list)) else [x]


def check(name, what, got, want, same, tol, scale=None):
    assert got.shape == tuple(want.shape), f"{name} {what}: shape {got.shape}, want {tuple(want.shape)}"
    if same is not None:
        assert str(same).removeprefix("torch.") == repr(got.dtype).removeprefix("keel.").rstrip("_"), f"{name} {what}: dtype {got.dtype}, PyTorch has {same}"
    g, w = np.asarray(got.detach()).astype(np.float64), want.detach().to(torch.float64).numpy()
    np.testing.assert_allclose(g, w, rtol=tol, atol=tol * max(1.0, float(np.max(np.abs(w[np.isfinite(w)]), initial=0.0))), equal_nan=True, err_msg=f"{name} {what}")


@pytest.mark.parametrize("layout", ["plain", "strided"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, e", list(run_cases()))
def test_against_torch(name, e, dtype, layout):
    tol = TOLERANCE[dtype] * e.tol
    for arrays in e.samples(rng(name)):
        arrays = [np.asarray(a, dtype=dtype) if np.asarray(a).dtype.kind == "f" else np.asarray(a) for a in arrays]
        if layout == "strided":
            arrays = [strided(a) for a in arrays]
        floats = [a.dtype.kind == "f" for a in arrays]
        ours = [keel.from_dlpack(a) for a in arrays]
        theirs = [torch.from_numpy(np.array(a)) for a in arrays]
        exact = [t.to(torch.float64) if f else t.clone() for t, f in zip(theirs, floats)]
        if e.grad:
            for a, b, f in zip(ours, exact, floats):
                if f:
                    a.requires_grad_()
                    b.requires_grad_()
        got, want, same = as_list(e.keel_fn(*ours)), as_list(e.torch_fn(*exact)), as_list(e.torch_fn(*theirs))
        assert len(got) == len(want)
        for k, (g, w, s) in enumerate(zip(got, want, same)):
            check(name, f"result {k}", g, w, s.dtype, tol)
        if not e.grad:
            continue
        pairs = [(g, w) for g, w in zip(got, want) if w.requires_grad]
        assert pairs, f"{name}: nothing to differentiate"
        cotangents = [np.asarray(rng(name + "g").standard_normal(tuple(w.shape)), dtype=repr(g.dtype)[5:]) for g, w in pairs]
        inputs = [(a, b) for a, b, f in zip(ours, exact, floats) if f]
        d = keel.grad([g for g, _ in pairs], [a for a, _ in inputs], [keel.tensor(c) for c in cotangents], allow_unused=True)
        t = torch.autograd.grad([w for _, w in pairs], [b for _, b in inputs], [torch.from_numpy(c.astype(np.float64)) for c in cotangents], allow_unused=True)
        for k, ((a, _), g, w) in enumerate(zip(inputs, d, t)):
            if g is None or w is None:
                assert (g is None or not np.asarray(g).any()) and (w is None or not w.any()), f"{name}: only one side has a gradient for input {k}"
                continue
            assert g.dtype == a.dtype
            check(name, f"gradient {k}", g, w, None, 4 * tol)
