#pragma once
// Backward forms of activations, which are ops themselves: `g` is the gradient of the result, `y` the result, `x` the argument.
#include "keel/ops/elementwise.h"

namespace keel {

Tensor tanh_backward(const Tensor& g, const Tensor& y);
Tensor sigmoid_backward(const Tensor& g, const Tensor& y);
Tensor relu_backward(const Tensor& g, const Tensor& y);
Tensor leaky_relu_backward(const Tensor& g, const Tensor& x, const LeakyReluParams& p);
Tensor elu_backward(const Tensor& g, const Tensor& x, const EluParams& p);
Tensor gelu_backward(const Tensor& g, const Tensor& x, const GeluParams& p);
Tensor silu_backward(const Tensor& g, const Tensor& x);
Tensor softplus_backward(const Tensor& g, const Tensor& x, const SoftplusParams& p);
Tensor hardswish_backward(const Tensor& g, const Tensor& x);
Tensor mish_backward(const Tensor& g, const Tensor& x);
Tensor selu_backward(const Tensor& g, const Tensor& x);

}  // namespace keel
