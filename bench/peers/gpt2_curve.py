#!/usr/bin/env python3
"""GPT-2's first steps in PyTorch and in Keel: the same weights, the same windows of the same text, one loss curve beside the other.

  gpt2_curve.py --tokens-out FILE --text FILE --bpe FILE     encodes a text (r50k_base.tiktoken) once, for a machine without a tokenizer
  gpt2_curve.py --keel build/release/apps/keel/keel --tokens FILE [--device cuda] [--dtype bf16] [--tiny]

PyTorch trains with f32 weights (bf16: under autocast), Keel with f32 weights, or bf16 weights and f32 masters. Both: AdamW, --lr (6e-4) after 20 steps of
warm-up, decay 0.1 of matrices, norm clipped at 1. Prints the largest and the mean distance of the losses, relative, and with --json every step.
With --control PyTorch runs once more with the rows of each batch in the opposite order, which changes nothing but the order of sums: how far it
strays from itself is what rounding alone does.
"""
import argparse, copy, json, math, subprocess, sys, tempfile
import numpy as np


def encode(text_file, bpe_file, out):
    import tiktoken
    from base64 import b64decode
    ranks = {b64decode(a): int(b) for a, b in (line.split() for line in open(bpe_file, "rb") if line.strip())}
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    coder = tiktoken.Encoding("r50k", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    np.save(out, np.array(coder.encode_ordinary(open(text_file, encoding="utf-8").read()), dtype=np.int32))


def write_safetensors(path, tensors):
    header, at, parts = {}, 0, []
    for name, t in tensors.items():
        raw = t.detach().cpu().float().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        parts.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(parts))


def build(torch, sizes):
    nn, F = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(s, d, heads):
            super().__init__()
            s.heads, s.c_attn, s.c_proj = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

        def forward(s, x):
            b, t, d = x.shape
            q, k, v = s.c_attn(x).view(b, t, 3, s.heads, d // s.heads).permute(2, 0, 3, 1, 4)
            return s.c_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))

    class Inner(nn.Module):
        def __init__(s, d):
            super().__init__()
            s.c_fc, s.c_proj = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(s, x):
            return s.c_proj(F.gelu(s.c_fc(x), approximate="tanh"))

    class Block(nn.Module):
        def __init__(s, d, heads):
            super().__init__()
            s.ln_1, s.attn, s.ln_2, s.mlp = nn.LayerNorm(d), Attention(d, heads), nn.LayerNorm(d), Inner(d)

        def forward(s, x):
            x = x + s.attn(s.ln_1(x))
            return x + s.mlp(s.ln_2(x))

    class Gpt(nn.Module):
        def __init__(s, vocab, context, layers, width, heads):
            super().__init__()
            s.wte, s.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
            s.h, s.ln_f = nn.ModuleList(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width)
            for p in s.parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, std=0.02)

        def forward(s, ids):
            x = s.wte(ids) + s.wpe(torch.arange(ids.shape[1], device=ids.device))
            for block in s.h:
                x = block(x)
            return F.linear(s.ln_f(x), s.wte.weight)

    return Gpt(*sizes)


def torch_curve(torch, net, tokens, o, context, reverse=False):
    net = net.to(o.device)
    decayed = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() < 2]
    opt = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=o.lr)
    tokens = torch.from_numpy(tokens.astype(np.int64))
    starts, losses = len(tokens) - context - 1, []
    for step in range(o.steps):
        at = [((step * o.batch + r) * context) % starts for r in range(o.batch)][::-1 if reverse else 1]
        x = torch.stack([tokens[a:a + context] for a in at]).to(o.device)
        y = torch.stack([tokens[a + 1:a + context + 1] for a in at]).to(o.device)
        for g in opt.param_groups:
            g["lr"] = o.lr * min(1.0, (step + 1) / 20)
        opt.zero_grad(set_to_none=True)
        with torch.autocast(o.device, torch.bfloat16, enabled=o.dtype == "bf16"):
            logits = net(x)
            loss = torch.nn.functional.cross_entropy(logits.float().view(-1, logits.size(-1)), y.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
    return losses


def apart(prefix, curve, peer):
    share = [abs(a - b) / b if a is not None and math.isfinite(a) and math.isfinite(b) else math.inf for a, b in zip(curve, peer, strict=True)]
    return {prefix + "largest_percent": 100 * max(share), prefix + "at_step": int(np.argmax(share)), prefix + "mean_percent": 100 * float(np.mean(share))}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--text"), a.add_argument("--bpe"), a.add_argument("--tokens-out")
    a.add_argument("--keel"), a.add_argument("--tokens")
    a.add_argument("--device", default="cpu"), a.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    a.add_argument("--steps", type=int, default=200), a.add_argument("--batch", type=int, default=4), a.add_argument("--seed", type=int, default=0)
    a.add_argument("--lr", type=float, default=6e-4), a.add_argument("--control", action="store_true")
    a.add_argument("--tiny", action="store_true"), a.add_argument("--compile", action="store_true"), a.add_argument("--json", action="store_true")
    o = a.parse_args()
    if o.tokens_out:
        return encode(o.text, o.bpe, o.tokens_out)
    import torch
    torch.manual_seed(o.seed)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    sizes = (101, 16, 2, 32, 4) if o.tiny else (50304, 1024, 12, 768, 12)
    tokens = np.load(o.tokens)
    net = build(torch, sizes)
    with tempfile.TemporaryDirectory() as folder:
        write_safetensors(f"{folder}/init.safetensors", net.state_dict())
        command = [o.keel, "bench", "curve", "--tokens", o.tokens, "--weights", f"{folder}/init.safetensors", "--device", o.device, "--dtype", o.dtype,
                   "--steps", str(o.steps), "--batch", str(o.batch), "--lr", str(o.lr), "--json"] + ["--tiny"] * o.tiny + ["--compile"] * o.compile
        ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"keel failed: {ran.stderr.strip()}")
    sys.stderr.write(ran.stderr)
    keel = [json.loads(line)["loss"] for line in ran.stdout.splitlines()]
    again = copy.deepcopy(net)
    peer = torch_curve(torch, net, tokens, o, sizes[1])
    result = {"name": "gpt2_curve", "dtype": o.dtype, "device": o.device, "steps": o.steps, "batch": o.batch, "lr": o.lr, "first": keel[0], "last": keel[-1],
              "last_torch": peer[-1], **apart("", keel, peer)}
    if o.control:
        result |= apart("control_", torch_curve(torch, again, tokens, o, sizes[1], reverse=True), peer)
    if o.json:
        for i, (k, p) in enumerate(zip(keel, peer)):
            print(json.dumps({"step": i, "keel": k, "torch": p}))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
