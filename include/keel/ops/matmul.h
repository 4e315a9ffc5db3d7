#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct LinearGradientParams {
  [[no_unique_address]] ByName by_name = ByName();
  bool need_bias = true;
  static constexpr void fields(auto& p, auto&& f) { f("need_bias", p.need_bias, "whether dbias is wanted"); }
};

/// Matrix product as NumPy: [.., m, k] x [.., k, n] with broadcast batch axes; a 1-d operand is a row (left) or column (right) vector and its axis is dropped from the result. Sub-f32 floats accumulate in f32.
Tensor matmul(const Tensor& a, const Tensor& b);
/// x [.., in] times the transpose of weight [out, in], plus bias [out].
Tensor linear(const Tensor& x, const Tensor& weight);
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);
/// gelu of linear in its tanh form: 0.5 h (1 + tanh(sqrt(2 / pi) (h + 0.044715 h^3))) with h = linear(x, weight, bias); `bias` may be
/// undefined. On a device with a kernel for it h is not rounded first.
Tensor linear_gelu(const Tensor& x, const Tensor& weight, const Tensor& bias);
/// The inner layers of a transformer block: linear(linear_gelu(x, up, up_bias), down, down_bias) for x [.., in], up [inner, in] and
/// down [out, inner]. Biases may be undefined. On a device with kernels for it the argument of gelu is written and read once each way; the
/// pass that applies gelu's slope makes the gradient of up_bias as well.
Tensor feed_forward(const Tensor& x, const Tensor& up, const Tensor& up_bias, const Tensor& down, const Tensor& down_bias);
/// Sum of products of two 1-d tensors.
Tensor dot(const Tensor& a, const Tensor& b);
/// [n] and [m] to [n, m].
Tensor outer(const Tensor& a, const Tensor& b);

}  // namespace keel
#pragma GCC visibility pop
