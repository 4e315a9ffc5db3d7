#pragma once
// Gradients of layer_norm and rms_norm to which another gradient is added while they are written.
#include "backend/kernel.h"
#include "keel/ops/norm.h"

namespace keel::cuda {

/// Whether there is a kernel for rows of this shape. `weighed`: the norm has a weight.
bool adds_to_norm_gradient(DType t, const Shape& shape, const NormBackwardParams& p, bool weighed);
size_t norm_gradient_room(const KernelArgs& a);
/// As the kernel of layer_norm_backward (`centered`) or rms_norm_backward, but output 0 is the sum of the gradient by x, rounded, and
/// `more`. Everything is dense and aligned to 16 bytes.
KernelStatus norm_gradient_and_sum(const KernelArgs& a, bool centered, const void* more);

}  // namespace keel::cuda
