#pragma once
// The networks that the command line trains and measures.
#include "keel/keel.h"

namespace keel::app {

inline nn::Sequential mlp() { return nn::Sequential{nn::Flatten(), nn::Linear(784, 128), nn::ReLU(), nn::Linear(128, 10)}; }

/// LeNet: 44,426 parameters.
struct LeNet : nn::Module<LeNet> {
  nn::Conv2d conv1{1, 6, {.kernel = 5}}, conv2{6, 16, {.kernel = 5}};
  nn::Linear fc1{256, 120}, fc2{120, 84}, fc3{84, 10};
  static void fields(auto& m, auto&& f) { f("conv1", m.conv1)("conv2", m.conv2)("fc1", m.fc1)("fc2", m.fc2)("fc3", m.fc3); }
  Tensor forward(const Tensor& image) const {  // f32[n, 1, 28, 28] -> f32[n, 10]
    Tensor x = max_pool2d(relu(conv1(image)), {.kernel = 2});
    x = max_pool2d(relu(conv2(x)), {.kernel = 2}).flatten(1);
    return fc3(relu(fc2(relu(fc1(x)))));
  }
};

struct GptConfig {
  int64_t vocab = 65, context = 64, layers = 4, width = 128, heads = 4;
  bool tied = true;
  Gelu gelu = Gelu::tanh;
};

struct GptBlock : nn::Module<GptBlock> {
  nn::LayerNorm norm1, norm2;
  nn::Linear qkv, proj, up, down;
  int64_t heads;
  Gelu kind;
  explicit GptBlock(const GptConfig& c)
      : norm1(c.width),
        norm2(c.width),
        qkv(c.width, 3 * c.width),
        proj(c.width, c.width),
        up(c.width, 4 * c.width),
        down(4 * c.width, c.width),
        heads(c.heads),
        kind(c.gelu) {}
  static void fields(auto& m, auto&& f) {
    f("ln_1", m.norm1)("attn.c_attn", m.qkv)("attn.c_proj", m.proj)("ln_2", m.norm2)("mlp.c_fc", m.up)("mlp.c_proj", m.down);
  }
  Tensor forward(const Tensor& x) const {
    const auto [b, t, d] = x.shape().as<3>();
    const auto h = qkv(norm1(x)).reshape({b, t, 3, heads, d / heads}).permute({2, 0, 3, 1, 4});
    const Tensor y = attention(h[0], h[1], h[2], {.causal = true}).transpose(1, 2).reshape({b, t, d});
    const Tensor z = x + proj(y);
    const Tensor n = norm2(z);
    return z + (kind == Gelu::tanh ? up.gelu_then(down, n) : down(gelu(up(n), {.approximate = kind})));
  }
};

/// A decoder-only transformer on token ids.
struct Gpt : nn::Module<Gpt> {
  GptConfig config;
  nn::Embedding tokens, positions;
  nn::ModuleList<GptBlock> blocks;
  nn::LayerNorm norm;
  nn::Linear head;
  explicit Gpt(const GptConfig& c)
      : config(c), tokens(c.vocab, c.width), positions(c.context, c.width), norm(c.width), head(c.width, c.vocab, {.bias = false}) {
    for (int64_t i = 0; i < c.layers; ++i) blocks.emplace_back(c);
    if (c.tied) {
      head.weight = tokens.weight;
      nn::init::normal(tokens.weight, {.std = 0.02});
      nn::init::normal(positions.weight, {.std = 0.02});
    }
  }
  static void fields(auto& m, auto&& f) { f("wte", m.tokens)("wpe", m.positions)("h", m.blocks)("ln_f", m.norm)("lm_head", m.head); }
  Tensor forward(const Tensor& ids) const {  // i64[b, t] -> f32[b, t, vocab]
    Tensor x = tokens(ids) + positions(arange(ids.shape()[1], {.device = ids.device()}));
    for (const GptBlock& block : blocks) x = block(x);
    return head(norm(x));
  }
};

}  // namespace keel::app
