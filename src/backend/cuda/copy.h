#pragma once
// Copies between views on a device.
#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// to[i] = from[i], broadcasting; both of one dtype.
KernelStatus copy_view(const TensorView& from, const TensorView& to, int device, cudaStream_t stream);

}  // namespace keel::cuda
