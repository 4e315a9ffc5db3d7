#pragma once
// Networks of language at the sizes that people compare: BERT-base; GPT-2 is Gpt of models.h with its sizes. `width` and `layers` scale
// them down for tests.
#include "models.h"

namespace keel::app {

/// 124 million parameters, with the vocabulary filled up to a multiple of 64.
inline GptConfig gpt2() { return {.vocab = 50304, .context = 1024, .layers = 12, .width = 768, .heads = 12}; }
inline GptConfig tiny_gpt2() { return {.vocab = 101, .context = 16, .layers = 2, .width = 32, .heads = 4}; }

struct BertConfig {
  int64_t vocab = 30522, context = 512, layers = 12, width = 768, heads = 12, inner = 3072;
};

/// Attention and two products, each normalised after its sum (Devlin et al. 2018).
struct BertLayer : nn::Module<BertLayer> {
  nn::Linear query, key, value, out, up, down;
  nn::LayerNorm norm1, norm2;
  int64_t heads;
  explicit BertLayer(const BertConfig& c)
      : query(c.width, c.width),
        key(c.width, c.width),
        value(c.width, c.width),
        out(c.width, c.width),
        up(c.width, c.inner),
        down(c.inner, c.width),
        norm1(c.width, {.eps = 1e-12}),
        norm2(c.width, {.eps = 1e-12}),
        heads(c.heads) {}
  static void fields(auto& m, auto&& f) {
    f("attention.self.query", m.query)("attention.self.key", m.key)("attention.self.value", m.value)("attention.output.dense", m.out)(
        "attention.output.LayerNorm", m.norm1)("intermediate.dense", m.up)("output.dense", m.down)("output.LayerNorm", m.norm2);
  }
  Tensor forward(const Tensor& x) const {
    const auto [b, t, d] = x.shape().as<3>();
    const auto split = [&, b = b, t = t, d = d](const Tensor& h) { return h.reshape({b, t, heads, d / heads}).transpose(1, 2); };
    const Tensor y = attention(split(query(x)), split(key(x)), split(value(x))).transpose(1, 2).reshape({b, t, d});
    const Tensor z = norm1(x + out(y));
    return norm2(z + down(gelu(up(z))));
  }
};

/// The encoder of BERT without its pooler, for whole sequences of one segment; names of the files that hold its weights.
struct Bert : nn::Module<Bert> {
  nn::Embedding words, positions, segments;
  nn::LayerNorm norm;
  nn::ModuleList<BertLayer> layers;
  explicit Bert(const BertConfig& c = {})
      : words(c.vocab, c.width), positions(c.context, c.width), segments(2, c.width), norm(c.width, {.eps = 1e-12}) {
    for (int64_t i = 0; i < c.layers; ++i) layers.emplace_back(c);
  }
  static void fields(auto& m, auto&& f) {
    f("embeddings.word_embeddings", m.words)("embeddings.position_embeddings", m.positions)("embeddings.token_type_embeddings", m.segments)(
        "embeddings.LayerNorm", m.norm)("encoder.layer", m.layers);
  }
  Tensor forward(const Tensor& ids) const {  // i64[b, t] -> [b, t, width]
    const Tensor at = arange(ids.shape()[1], {.device = ids.device()});
    Tensor x = norm(words(ids) + positions(at) + segments(zeros_like(at)));
    for (const BertLayer& layer : layers) x = layer(x);
    return x;
  }
};

}  // namespace keel::app
