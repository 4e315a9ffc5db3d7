#pragma once
// Residual networks (He et al. 2015) with torchvision's names of parameters.
#include <array>

#include "keel/keel.h"

namespace keel::app {

struct ResNetConfig {
  int64_t width = 64, classes = 1000;
  bool small_images = false;  // a stem of one 3x3 window and no pool, for images of 32x32
  bool shallow = false;       // one block a stage, for tests
};
/// Ten kinds of images of 32x32.
inline constexpr ResNetConfig kCifar{.classes = 10, .small_images = true};

/// Two windows of 3x3; the stride is in the first.
struct BasicBlock : nn::Module<BasicBlock> {
  static constexpr int64_t kWidens = 1;  // times that the result is as wide as `width`
  nn::Conv2d conv1, conv2, shortcut;
  nn::BatchNorm2d norm1, norm2, shortcut_norm;
  bool projects;
  BasicBlock(int64_t in, int64_t width, int64_t stride)
      : conv1(in, width, {.kernel = 3, .stride = stride, .padding = 1, .bias = false}),
        conv2(width, width, {.kernel = 3, .padding = 1, .bias = false}),
        shortcut(in, width, {.kernel = 1, .stride = stride, .bias = false}),
        norm1(width),
        norm2(width),
        shortcut_norm(width),
        projects(stride != 1 || in != width) {}
  static void fields(auto& m, auto&& f) {
    f("conv1", m.conv1)("bn1", m.norm1)("conv2", m.conv2)("bn2", m.norm2);
    if (m.projects) f("downsample.0", m.shortcut)("downsample.1", m.shortcut_norm);
  }
  Tensor forward(const Tensor& x) const {
    const Tensor y = conv2(norm1.then_relu(conv1(x)));
    return norm2.then_relu(y, projects ? shortcut_norm(shortcut(x)) : x);
  }
};

/// 1x1, 3x3, 1x1; the stride is in the middle (torchvision's ResNet v1.5).
struct Bottleneck : nn::Module<Bottleneck> {
  static constexpr int64_t kWidens = 4;
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

/// A stem, four stages of blocks, each after the first at half the size and twice the width, and a mean over what is left of the image.
template <class Net, class Block>
struct ResNet : nn::Module<Net> {
  ResNetConfig config;
  nn::Conv2d conv1;
  nn::BatchNorm2d norm1;
  nn::ModuleList<Block> layer1, layer2, layer3, layer4;
  nn::Linear fc;
  ResNet(const ResNetConfig& c, const std::array<int64_t, 4>& depths)
      : config(c), conv1(3, c.width, stem(c.small_images)), norm1(c.width), fc(8 * c.width * Block::kWidens, c.classes) {
    int64_t in = c.width, width = c.width, stage = 0;
    for (nn::ModuleList<Block>* layer : {&layer1, &layer2, &layer3, &layer4}) {
      for (int64_t i = 0; i < (c.shallow ? 1 : depths[size_t(stage)]); ++i) {
        layer->emplace_back(in, width, int64_t(i == 0 && stage > 0 ? 2 : 1));
        in = width * Block::kWidens;
      }
      width *= 2, ++stage;
    }
  }
  static void fields(auto& m, auto&& f) {
    f("conv1", m.conv1)("bn1", m.norm1)("layer1", m.layer1)("layer2", m.layer2)("layer3", m.layer3)("layer4", m.layer4)("fc", m.fc);
  }
  Tensor forward(const Tensor& image) const {  // f32[n, 3, h, w] -> f32[n, classes]
    Tensor x = norm1.then_relu(conv1(image));
    if (!config.small_images) x = max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1});
    for (const nn::ModuleList<Block>* layer : {&layer1, &layer2, &layer3, &layer4})
      for (const Block& b : *layer) x = b(x);
    return fc(adaptive_avg_pool2d(x).flatten(1));
  }

 private:
  static nn::Conv2dOptions stem(bool small) {
    return {.kernel = small ? 3 : 7, .stride = small ? 1 : 2, .padding = small ? 1 : 3, .bias = false};
  }
};
/// 11,689,512 parameters for 1000 classes, 11,173,962 with kCifar.
struct ResNet18 : ResNet<ResNet18, BasicBlock> {
  explicit ResNet18(const ResNetConfig& c = {}) : ResNet(c, {2, 2, 2, 2}) {}
};
/// 25,557,032 parameters for 1000 classes.
struct ResNet50 : ResNet<ResNet50, Bottleneck> {
  explicit ResNet50(const ResNetConfig& c = {}) : ResNet(c, {3, 4, 6, 3}) {}
};

}  // namespace keel::app
