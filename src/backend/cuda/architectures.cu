// Only nvcc knows for which architectures it compiles.
#include "backend/cuda/architectures.h"

namespace keel::cuda {

std::span<const int> architectures() {
  static constexpr int all[] = {__CUDA_ARCH_LIST__};
  return all;
}

}  // namespace keel::cuda
