#pragma once
// How a CUDA kernel is listed, and what all of them need on the host side.
#include "backend/cuda/launch.h"
#include "backend/cuda/runtime.h"
#include "backend/device_kernels.h"

namespace keel::cuda {

inline cudaStream_t stream(const KernelArgs& a) { return static_cast<cudaStream_t>(a.stream); }

/// What a launch gives back: an error of the launch itself. Errors of the kernel's work show at the next wait.
inline KernelStatus launched(cudaError_t e = cudaPeekAtLastError()) {
  if (e == cudaSuccess) return {};
  return KernelStatus::device(text_of(e, "starting a kernel"));
}
/// Queues `kernel` for the call `a`, on whose device `use` was called: the way of kernels that run for small tensors too, where the host's
/// share counts.
template <auto kernel, class... A>
KernelStatus start(const KernelArgs& a, unsigned blocks, unsigned threads, const A&... given) {
  return launched(start<kernel>(a.device, dim3(blocks), threads, stream(a), given...));
}

/// Passes over the outputs from `first` to before `end` of a kernel that took no statistics of them while it wrote, where somebody watches.
KernelStatus watch(const KernelArgs& a, int first = 0, int end = 4);
/// The same after a start that gave `s`. Kernels without statistics of their own have no slot here, and get a pass from whoever called
/// them.
inline KernelStatus then_watch(const KernelArgs& a, const KernelStatus& s) { return s.code || !board_slot(a, 0) ? s : watch(a); }

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
