#pragma once
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel::nn {

struct ClipOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double p = 2;                     // order of the norm; infinity gives the largest magnitude
  bool error_if_nonfinite = false;  // NumericError where the norm is NaN or infinite; costs a synchronisation on a GPU
};
/// Scales the gradients of `parameters` in place so that the norm of all of them together is at most `max_norm`: by max_norm / (norm + 1e-6) where that is below 1. Gives the norm before, 0-d, of the gradients'
/// dtype. Squares add up in f64, in a fixed order. Parameters without a gradient do not count.
Tensor clip_grad_norm(const Tensors& parameters, double max_norm, const ClipOptions& o = {});
/// Clamps every element of the gradients to [-limit, limit]; NaN stays.
void clip_grad_value(const Tensors& parameters, double limit);

}  // namespace keel::nn
#pragma GCC visibility pop
