#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

/// Matrix product as NumPy: [.., m, k] x [.., k, n] with broadcast batch axes; a 1-d operand is a row (left) or column (right) vector and its axis is dropped from the result. Sub-f32 floats accumulate in f32.
Tensor matmul(const Tensor& a, const Tensor& b);
/// x [.., in] times the transpose of weight [out, in], plus bias [out].
Tensor linear(const Tensor& x, const Tensor& weight);
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);
/// Sum of products of two 1-d tensors.
Tensor dot(const Tensor& a, const Tensor& b);
/// [n] and [m] to [n, m].
Tensor outer(const Tensor& a, const Tensor& b);

}  // namespace keel
#pragma GCC visibility pop
