#pragma once
#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// cast where one dtype or both are fp8, and the other one is a float.
KernelStatus cast_fp8(const KernelArgs& a);

}  // namespace keel::cuda
