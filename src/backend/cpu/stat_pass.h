#pragma once
#include "backend/kernel.h"

namespace keel::cpu {

/// Statistics of a whole tensor in a pass of its own, for kernels that do not take them while they write.
void stat_pass(const TensorView& v, StatSlot& slot);

}  // namespace keel::cpu
