#pragma once
// What to do about a finding: sentences with numbers computed from what was seen.
#include <string>

#include "keel/monitor.h"
#include "keel/op.h"
#include "op/scope.h"

namespace keel {

/// What a suggestion may depend on beside the op.
struct Circumstances {
  float factor = 0;    // log2 of a number of the program's that the op multiplies by
  uint32_t calls = 1;  // of the same place in one step
};
/// `v` in three digits, as findings print numbers.
std::string number(double v);
/// For a result of `op` that leaves the range of `t`, or a NaN or infinity that it made.
Suggestion suggest_for(const OpDef& op, DType t, Phase phase, const Circumstances& how = {});
/// An epsilon for a denominator or argument with that mean magnitude.
Suggestion suggest_epsilon(const OpDef& op, DType t, double mean);
/// For a subtraction that feeds `user`.
Suggestion suggest_for_cancellation(const OpDef& user);
/// By how much to multiply a loss whose gradients' largest magnitude is 2^`high`.
Suggestion suggest_loss_scale(DType t, float high);

}  // namespace keel
