#pragma once
// What the rules of detectors_state.cpp remember, and what they are shown.
#include <span>
#include <vector>

#include "layers/monitor/series.h"

namespace keel {

/// Samples of one parameter around an optimiser's step; lists that the step does not keep are empty.
struct SampledStep {
  std::span<const float> before, gradient, second, mean;
  double moved2 = 0, gradient2 = 0;  // sums of squares
};

/// How one parameter moved: a reading every few steps.
struct Stride {
  static constexpr int kReadings = 16, kEvery = 4;
  float stretch[kReadings] = {}, gradient[kReadings] = {};  // log2: of the step's length over the rate, of the gradient's
  uint32_t steps = 0;
  double size = 0, most = 0;  // the parameter's norm at its largest; the longest step beside it
};
/// A parameter that moved by more than twice its size, and many times as far as ever.
struct Leap {
  int parameter = -1;
  double beside = 0, most = 0;  // how many times its size, and the most of the steps before
};
/// Of one optimiser's step.
struct WatchedMoments {
  std::vector<Stride> strides;  // one a parameter
  Leap leap;                    // the first in this step
  Numbers second;               // log2 of the largest second moment
  double most_second = 0;       // in this step
  Streak cancels;               // steps in a row in which a centred second moment was rounding
  bool cancelled = false;       // in this step
};

/// A mixture, or sum, of narrow numbers that is copied over what it was made of.
struct WatchedMixture {
  const void* first = nullptr;       // the storage of its first operand, in its last call,
  int due = 0, still = 0;            // in which so many sampled elements should have moved, and did not
  int step_due = 0, step_still = 0;  // of all calls of a step that were copied back
  double factor = 0;                 // least one that would have moved half of them
  int64_t step = -1;
  Streak streak;  // steps in a row
};

}  // namespace keel
