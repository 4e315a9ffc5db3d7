#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct SoftmaxParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = -1;
  static constexpr void fields(auto& p, auto&& f) { f("axis", p.axis, "axis to normalise; negative counts from the end"); }
};
/// exp(x - max) / sum(exp(x - max)) along `axis`: entries >= 0 that sum to 1. f16 and bf16 compute in f32.
Tensor softmax(const Tensor& x, const SoftmaxParams& p = {});
/// log(softmax(x)) without its underflow.
Tensor log_softmax(const Tensor& x, const SoftmaxParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
