#!/usr/bin/env python3
"""Whole networks on one GPU, Keel and PyTorch in turns: rounds of a few seconds each, one after the other, in one run of this program.

  gpu.py --keel build/cuda/apps/keel/keel [--rounds 3] [--seconds 2] [--only TEXT] [--json]

The peer of a row is the quickest way that PyTorch has for it and that works: torch.compile for GPT-2, a CUDA graph of the whole step (what an expert
writes by hand) for small images, both for large ones. Sizes, dtypes and losses are the same; PyTorch trains f32 weights under autocast, Keel bf16
weights with f32 masters in the optimiser; Keel clips GPT-2's gradients and PyTorch does not; MNIST's epoch is Keel's with its data against PyTorch's
steps alone; attention is PyTorch's own choice of a way, whose gradient adds in any order, as Keel's does at the level `fast` only. Prints for each row the median of the rounds' ratios, how far they spread, both
medians, and memory: the most that the allocator had handed out at once while steps ran, and what it kept of the device then. Workspaces of cuDNN and
cuBLAS are in both, on both sides, since both get them from the allocator. Of a captured step Keel counts the whole piece that the recording lies in
as handed out, PyTorch only what lived at once within it: the second pair holds the same on both sides.
"""
import argparse, json, os, statistics, subprocess, sys, time
import torch, torch.nn as nn, torch.nn.functional as F
import gpt2_curve

DEV = "cuda"
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True


def rate(step, units, seconds):
    """Median of units a second over pieces of five steps."""
    torch.cuda.synchronize()
    pieces, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(pieces) < 3:
        t = time.perf_counter()
        for _ in range(5):
            step()
        torch.cuda.synchronize()
        pieces.append(5 * units / (time.perf_counter() - t))
    return statistics.median(pieces)


def trainer(net, opt, x, y, loss, amp, forward=None):
    forward = net if forward is None else forward  # a module has no truth value

    def step():
        opt.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=amp):
            out = loss(forward(x), y)
        out.backward()
        opt.step()

    return step


def captured(net, opt, x, y, loss, amp):
    def step():
        opt.zero_grad(set_to_none=False)
        with torch.autocast("cuda", torch.bfloat16, enabled=amp, cache_enabled=False):
            out = loss(net(x), y)
        out.backward()
        opt.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(8):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def gpt2(batch):
    def make():
        net = gpt2_curve.build(torch, (50304, 1024, 12, 768, 12)).to(DEV)
        opt = torch.optim.AdamW(net.parameters(), lr=6e-4, fused=True)
        x, y = (torch.randint(0, 50257, (batch, 1024), device=DEV) for _ in range(2))
        step = trainer(net, opt, x, y, lambda o, t: F.cross_entropy(o.view(-1, o.size(-1)), t.view(-1)), True, torch.compile(net))
        for _ in range(6):
            step()
        return step, batch * 1024

    return make


def resnet50(batch, size, classes, small=False, way="graph"):
    def make():
        import torchvision
        net = torchvision.models.resnet50(num_classes=classes)
        if small:
            net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        net = net.to(DEV, memory_format=torch.channels_last)
        opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
        x = torch.randn(batch, 3, size, size, device=DEV).to(memory_format=torch.channels_last)
        y = torch.randint(0, classes, (batch,), device=DEV)
        if way == "graph":
            return captured(net, opt, x, y, F.cross_entropy, True), batch
        step = trainer(net, opt, x, y, F.cross_entropy, True, torch.compile(net))
        for _ in range(6):
            step()
        return step, batch

    return make


def bert():
    from transformers import BertConfig, BertModel
    net = BertModel(BertConfig()).to(DEV).to(torch.bfloat16).eval()
    x = torch.randint(0, 30000, (1, 128), device=DEV)
    with torch.no_grad():
        for _ in range(5):
            net(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            net(x)
    return graph.replay, 1


def attention(backward, same_bits=False):
    """Causal, bf16, [4, 16, 4096, 128]: the forward pass, or its gradient alone of a result that is kept, with PyTorch's choice of a way or,
    with `same_bits`, the way that gives the same bits in every run, as Keel's does."""
    def make():
        torch.use_deterministic_algorithms(same_bits)
        q, k, v = (torch.randn(4, 16, 4096, 128, device=DEV, dtype=torch.bfloat16, requires_grad=backward) for _ in range(3))
        forward = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        units = (5 if backward else 2) * 4 * 16 * 4096**2 * 128 / 1e12
        if not backward:
            return forward, units
        y = forward()
        g = torch.randn_like(y)
        return lambda: torch.autograd.grad(y, (q, k, v), g, retain_graph=True), units

    return make


def mnist(kind):
    def make():
        if kind == "mlp":
            net = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        else:
            net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                                nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
        net = net.to(DEV)
        opt = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, capturable=True)
        x, y = torch.randn(64, 1, 28, 28, device=DEV), torch.randint(0, 10, (64,), device=DEV)
        return captured(net, opt, x, y, F.cross_entropy, False), 64 / 60000

    return make


# name, what makes the peer, Keel's arguments (a text: a row of keel_bench_device), unit
ROWS = [
    ("gpt2 B16", gpt2(16), ["gpt2", "--batch", "16", "--clip", "1"], "tokens/s"),
    ("gpt2 B32", gpt2(32), ["gpt2", "--batch", "32", "--clip", "1"], "tokens/s"),
    ("gpt2 B64", gpt2(64), ["gpt2", "--batch", "64", "--clip", "1"], "tokens/s"),
    ("resnet50 32x32 b128", resnet50(128, 32, 10), ["resnet50", "--image", "32", "--batch", "128", "--compile"], "images/s"),
    ("resnet50 32x32 b512", resnet50(512, 32, 10), ["resnet50", "--image", "32", "--batch", "512", "--compile"], "images/s"),
    ("cifar resnet50 b512", resnet50(512, 32, 10, True), ["resnet50", "--image", "32", "--batch", "512", "--small-stem", "--compile"], "images/s"),
    ("resnet50 224x224 b128, graph", resnet50(128, 224, 1000), ["resnet50", "--batch", "128", "--compile"], "images/s"),
    ("resnet50 224x224 b128, torch.compile", resnet50(128, 224, 1000, way="compile"), ["resnet50", "--batch", "128", "--compile"], "images/s"),
    ("bert b1", bert, ["bert", "--forward", "--compile"], "sequences/s"),
    ("attention forward", attention(False), "attention causal bf16 [4,16,4096,128]", "TFLOP/s"),
    ("attention backward, any order", attention(True), "attention backward causal bf16 [4,16,4096,128], sums in any order", "TFLOP/s"),
    ("attention backward, the same bits against any order", attention(True), "attention backward causal bf16 [4,16,4096,128]", "TFLOP/s"),
    ("attention backward, the same bits", attention(True, True), "attention backward causal bf16 [4,16,4096,128]", "TFLOP/s"),
    ("mnist mlp", mnist("mlp"), None, "epochs/s"),
    ("mnist cnn", mnist("cnn"), None, "epochs/s"),
]


def keel_rate(o, name, args):
    """Work a second, and peak memory where Keel says it."""
    if isinstance(args, str):
        bench = os.path.join(os.path.dirname(o.keel), "..", "..", "keel_bench_device")
        return json.loads(subprocess.run([bench, "cuda", args], check=True, capture_output=True, text=True).stdout.splitlines()[0])["median"], 0, 0
    if args is not None:
        r = json.loads(subprocess.run([o.keel, "bench", "model", *args, "--device", "cuda", "--dtype", "bf16", "--seconds", str(o.seconds), "--json"],
                                      check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        return r["median"], r["peak_bytes"], r["reserved_bytes"]
    out = subprocess.run([o.keel, "train", "mnist", "--model", name.split()[1], "--device", "cuda", "--compile", "--epochs", "6", "--json", "--out",
                          f"/tmp/keel-gpu-{os.getpid()}"], check=True, capture_output=True, text=True).stdout.splitlines()
    seconds = [r["seconds"] for r in map(json.loads, out) if "epoch" in r]
    return 1 / statistics.median(seconds[1:]), 0, 0


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--keel", required=True), a.add_argument("--rounds", type=int, default=3), a.add_argument("--seconds", type=float, default=2)
    a.add_argument("--only", nargs="*", metavar="TEXT", help="rows whose names hold one of these, in this order"), a.add_argument("--json", action="store_true")
    o = a.parse_args()
    rows = [r for text in o.only for r in ROWS if text in r[0]] if o.only else ROWS
    for name, make, args, unit in rows:
        try:
            torch.cuda.reset_peak_memory_stats()
            step, units = make()
            torch.cuda.synchronize()
            ours, theirs = [], []
            rate(step, units, 0.2)
            for i in range(o.rounds):
                turns = [lambda: ours.append(keel_rate(o, name, args)), lambda: theirs.append(rate(step, units, o.seconds))]
                for turn in turns[::-1 if i % 2 else 1]:
                    turn()
            peak, kept = max(p for _, p, _ in ours), max(k for _, _, k in ours)
            ratios = sorted(k[0] / t for k, t in zip(ours, theirs))
            row = {"name": name, "unit": unit, "ratio": statistics.median(ratios), "least": ratios[0], "most": ratios[-1], "rounds": o.rounds,
                   "keel": statistics.median(k[0] for k in ours), "torch": statistics.median(theirs), "keel_peak_GiB": round(peak / 2**30, 2),
                   "torch_peak_GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2), "keel_kept_GiB": round(kept / 2**30, 2),
                   "torch_kept_GiB": round(torch.cuda.max_memory_reserved() / 2**30, 2)}
            print(json.dumps(row) if o.json else f"{name}: ratio {row['ratio']:.3f} ({row['least']:.3f} to {row['most']:.3f}), Keel {row['keel']:.6g}, "
                  f"PyTorch {row['torch']:.6g} {unit}, peak {row['keel_peak_GiB']} and {row['torch_peak_GiB']} GiB, "
                  f"kept {row['keel_kept_GiB']} and {row['torch_kept_GiB']}", flush=True)
        except Exception as e:
            said = e.stderr[-300:] if isinstance(e, subprocess.CalledProcessError) else str(e)[:300]
            print(f"{name}: failed: {said}", file=sys.stderr, flush=True)
        step = None
        torch.use_deterministic_algorithms(False)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
