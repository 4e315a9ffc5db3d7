#pragma once
// What to do about a finding: sentences with numbers computed from what was seen.
#include "keel/monitor.h"
#include "keel/op.h"
#include "op/scope.h"

namespace keel {

/// For a result of `op` that leaves the range of `t`, or a NaN or infinity that it made.
Suggestion suggest_for(const OpDef& op, DType t, Phase phase);
/// An epsilon for a denominator or argument with that mean magnitude.
Suggestion suggest_epsilon(const OpDef& op, DType t, double mean);
/// For a subtraction that feeds `user`.
Suggestion suggest_for_cancellation(const OpDef& user);
/// By how much to multiply a loss whose gradients' largest magnitude is 2^`high`.
Suggestion suggest_loss_scale(DType t, float high);

}  // namespace keel
