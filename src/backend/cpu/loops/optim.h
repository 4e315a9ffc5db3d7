#pragma once
// Raw loops of the optimiser steps over contiguous memory: `list[k]` is one stretch of list k, in f32 or f64. All lists but list 1 (gradients, values) are written. Element i depends neither on its position nor on n.
// The order of operations is PyTorch's: every product, sum and quotient is rounded by itself.
#include <cmath>
#include <cstdint>

#include "backend/step_guard.h"
#include "keel/dtype.h"

namespace keel::cpu {

struct StepScalars {
  double v[10] = {};
  bool decay = false;    // weight decay adds to the gradient
  bool first = false;    // sgd: the momentum buffers take the gradients
  bool nesterov = false;
  StepGuard* guard = nullptr;  // null: nobody asks whether numbers are finite
  int64_t tensor = 0;          // whose elements these are
  double limit = INFINITY;     // magnitudes from here on are infinite as a weight
};
using StepLoop = void (*)(void* const* list, int64_t n, const StepScalars& s);

enum class StepRule : uint8_t {
  sgd,           // p, g; v: -lr, weight_decay, sign
  sgd_momentum,  // p, g, buffer; v: -lr, weight_decay, sign, momentum, 1 - dampening
  adam,          // p, g, m, v; v: -lr / c1, weight_decay, sign, 1 - beta1, beta2, 1 - beta2, sqrt(c2), eps, 1 - lr * decoupled decay
  amsgrad,       // p, g, m, v, largest v; as adam
  rmsprop,       // p, g, v; v: -lr, weight_decay, sign, alpha, 1 - alpha, eps
  rmsprop_momentum,           // p, g, v, buffer; v: and momentum
  rmsprop_centered,           // p, g, v, mean; as rmsprop
  rmsprop_centered_momentum,  // p, g, v, mean, buffer
  ema,           // average, value; v: 1 - decay
  scale,         // x; v: factor
};
/// `t` is f32 or f64.
StepLoop step_loop(StepRule rule, DType t);

enum class NormKind : uint8_t { squares, magnitudes, largest };
/// The sum of squares or of magnitudes of x[0..n) in f64, or the largest magnitude (NaN if there is one). `t` is f32 or f64. Eight lanes add up side by side whatever the instruction set.
double norm_partial(NormKind kind, DType t, const void* x, int64_t n);

}  // namespace keel::cpu
