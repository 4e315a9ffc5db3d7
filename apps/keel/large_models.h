#pragma once
// Networks of the sizes that people compare: ResNet-50 and BERT-base; GPT-2 is Gpt of models.h with its sizes. `width` and `layers` scale
// them down for tests.
#include "models.h"

namespace keel::app {

/// 124 million parameters, with the vocabulary filled up to a multiple of 64.
inline GptConfig gpt2() { return {.vocab = 50304, .context = 1024, .layers = 12, .width = 768, .heads = 12}; }
inline GptConfig tiny_gpt2() { return {.vocab = 101, .context = 16, .layers = 2, .width = 32, .heads = 4}; }

struct ResNetConfig {
  int64_t width = 64, classes = 1000;
  int64_t depths[4] = {3, 4, 6, 3};
  bool small_images = false;  // a stem of one 3x3 window and no pool, for images of 32x32
};

/// 1x1, 3x3, 1x1; the stride is in the middle (torchvision's ResNet v1.5).
struct Bottleneck : nn::Module<Bottleneck> {
  nn::Conv2d conv1, conv2, conv3, shortcut;
  nn::BatchNorm2d norm1, norm2, norm3, shortcut_norm;
  bool projects;
  Bottleneck(int64_t in, int64_t width, int64_t stride)
      : conv1(in, width, {.kernel = 1, .bias = false}),
        conv2(width, width, {.kernel = 3, .stride = stride, .padding = 1, .bias = false}),
        conv3(width, 4 * width, {.kernel = 1, .bias = false}),
        shortcut(in, 4 * width, {.kernel = 1, .stride = stride, .bias = false}),
        norm1(width),
        norm2(width),
        norm3(4 * width),
        shortcut_norm(4 * width),
        projects(stride != 1 || in != 4 * width) {}
  static void fields(auto& m, auto&& f) {
    f("conv1", m.conv1)("bn1", m.norm1)("conv2", m.conv2)("bn2", m.norm2)("conv3", m.conv3)("bn3", m.norm3);
    if (m.projects) f("downsample.0", m.shortcut)("downsample.1", m.shortcut_norm);
  }
  Tensor forward(const Tensor& x) const {
    const Tensor y = conv3(norm2.then_relu(conv2(norm1.then_relu(conv1(x)))));
    return norm3.then_relu(y, projects ? shortcut_norm(shortcut(x)) : x);
  }
};

/// ResNet-50 with torchvision's names: 25,557,032 parameters for 1000 classes.
struct ResNet50 : nn::Module<ResNet50> {
  ResNetConfig config;
  nn::Conv2d conv1;
  nn::BatchNorm2d norm1;
  nn::ModuleList<Bottleneck> layer1, layer2, layer3, layer4;
  nn::Linear fc;
  static nn::Conv2dOptions stem(bool small) {
    return {.kernel = small ? 3 : 7, .stride = small ? 1 : 2, .padding = small ? 1 : 3, .bias = false};
  }
  explicit ResNet50(const ResNetConfig& c = {})
      : config(c),
        conv1(3, c.width, stem(c.small_images)),
        norm1(c.width),
        fc(32 * c.width, c.classes) {
    int64_t in = c.width, width = c.width, k = 0;
    for (nn::ModuleList<Bottleneck>* layer : {&layer1, &layer2, &layer3, &layer4}) {
      for (int64_t i = 0; i < c.depths[k]; ++i) {
        layer->emplace_back(in, width, int64_t(i == 0 && k > 0 ? 2 : 1));
        in = 4 * width;
      }
      width *= 2, ++k;
    }
  }
  static void fields(auto& m, auto&& f) {
    f("conv1", m.conv1)("bn1", m.norm1)("layer1", m.layer1)("layer2", m.layer2)("layer3", m.layer3)("layer4", m.layer4)("fc", m.fc);
  }
  Tensor forward(const Tensor& image) const {  // f32[n, 3, h, w] -> f32[n, classes]
    Tensor x = norm1.then_relu(conv1(image));
    if (!config.small_images) x = max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1});
    for (const nn::ModuleList<Bottleneck>* layer : {&layer1, &layer2, &layer3, &layer4})
      for (const Bottleneck& b : *layer) x = b(x);
    return fc(adaptive_avg_pool2d(x).flatten(1));
  }
};

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
