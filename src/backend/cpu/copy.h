#pragma once
#include "backend/kernel.h"

namespace keel::cpu {

/// Copies `x` into `y`: same shape and dtype, any strides.
KernelStatus copy_view(const TensorView& x, const TensorView& y);

}  // namespace keel::cpu
