#pragma once
// Losses of one element against another: elementwise, and summed over a block without a tensor between.
#include <cstdint>

#include "keel/dtype.h"

namespace keel::cpu {

/// (x - t)^2, |x - t|, and max(x, 0) - x t + log(1 + exp(-|x|)).
enum class PairLoss : uint8_t { square, absolute, logits };

struct PairLossLoops {
  void (*each)(const void* x, const void* t, void* y, int64_t n, const double* args);  // a BinaryLoop
  void (*block)(const void* x, const void* t, int64_t n, void* out);                   // the sum over n <= kReduceBlock elements
};
/// t is f32 or f64.
PairLossLoops pair_loss_loops(PairLoss loss, DType t);

}  // namespace keel::cpu
