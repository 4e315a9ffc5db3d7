#pragma once
// What several tests train, and how.
#include "keel/keel.h"

namespace keel {

/// A convolution, a batch norm and a head: images [n, 1, 8, 8] in 4 classes.
struct SmallCnn : nn::Module<SmallCnn> {
  nn::Conv2d conv{1, 8, {.kernel = 3}};
  nn::BatchNorm2d norm{8};
  nn::Linear head{8 * 6 * 6, 4};
  static void fields(auto& m, auto&& f) { f("conv", m.conv)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(relu(norm(conv(x))).reshape({x.size(0), -1})); }
  /// Of new images of noise, drawn on the CPU; the class is the brightest of the first four columns.
  Tensor loss_on_noise(Device where = cpu_device) const {
    const Tensor x = randn({16, 1, 8, 8}), columns = mean(x, {.axis = {1, 2}}).index({all, slice(0, 4)});
    return cross_entropy((*this)(x.to(where)), argmax(columns, {.axis = 1}).to(where));
  }
};

/// One step on {inputs, classes}, as a function that `compile` takes; it gives the loss. `net` and `opt` must outlive it.
template <class Net>
auto training_step(Net& net, optim::Optimizer& opt) {
  return [&net, &opt](const Tensors& in) {
    opt.zero_grad();
    const Tensor loss = cross_entropy(net(in[0]), in[1]);
    loss.backward();
    opt.step();
    return loss.detach();
  };
}

}  // namespace keel
