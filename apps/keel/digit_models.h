#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "models.h"
#include "residual.h"

namespace keel::app {

/// A network for colour images of 32x32, fed with handwritten digits: a border of two background pixels, the same in three channels,
/// channels last, in the dtype of the weights. Its parameters have the network's own names. `background` is what a black pixel is after
/// normalisation.
template <class Net>
struct OnDigits : nn::Module<OnDigits<Net>> {
  Net net;
  double background = -0.1307 / 0.3081;
  explicit OnDigits(Net n) : net(std::move(n)) {}
  static void fields(auto& m, auto&& f) { Net::fields(m.net, f); }
  Tensor forward(const Tensor& image) const {  // f32[n, 1, 28, 28] -> f32[n, 10]
    const Tensor x = pad(image, {.before = {0, 0, 2, 2}, .after = {0, 0, 2, 2}, .value = background}).expand({image.shape()[0], 3, 32, 32});
    return net(x.astype(net.fc.weight.dtype()).channels_last()).astype(f32);
  }
};

/// The kinds of network that `keel train mnist` knows.
inline const std::vector<std::string>& image_models() {
  static const std::vector<std::string> names = {"mlp", "cnn", "resnet18", "resnet50"};
  return names;
}
inline bool is_image_model(const std::string& name) {
  return std::find(image_models().begin(), image_models().end(), name) != image_models().end();
}

/// What `f` gives for a new network of this kind, one of image_models(), which it may move from.
template <class F>
auto with_image_model(const std::string& name, F&& f) {
  if (name == "mlp") return f(mlp());
  if (name == "resnet18") return f(OnDigits<ResNet18>(ResNet18(kCifar)));
  if (name == "resnet50") return f(OnDigits<ResNet50>(ResNet50(kCifar)));
  return f(LeNet());
}

}  // namespace keel::app
