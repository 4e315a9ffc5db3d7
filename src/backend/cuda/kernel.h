#pragma once
// How a CUDA kernel is listed, and what all of them need on the host side.
#include "backend/cuda/runtime.h"
#include "backend/device_kernels.h"

namespace keel::cuda {

inline cudaStream_t stream(const KernelArgs& a) { return static_cast<cudaStream_t>(a.stream); }

/// What a launch gives back: an error of the launch itself. Errors of the kernel's work show at the next wait.
inline KernelStatus launched() {
  const cudaError_t e = cudaPeekAtLastError();
  if (e == cudaSuccess) return {};
  return KernelStatus::device(text_of(e, "starting a kernel"));
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace keel::cuda

/// A CUDA kernel of op `NAME`, or of OP where the name is OP__WHICH; the body fills `k`. Found by the build.
#define KEEL_CUDA_KERNEL(NAME)                     \
  namespace keel::cuda {                           \
  static KernelEntry entry_##NAME;                 \
  static void define_kernel_##NAME(KernelDef k);   \
  KernelEntry* register_kernel_##NAME();           \
  KernelEntry* register_kernel_##NAME() {          \
    entry_##NAME.name = "cuda." #NAME;             \
    define_kernel_##NAME(KernelDef(entry_##NAME)); \
    return &entry_##NAME;                          \
  }                                                \
  }                                                \
  void keel::cuda::define_kernel_##NAME([[maybe_unused]] ::keel::KernelDef k)
