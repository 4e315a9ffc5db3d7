#pragma once
// Kernels as the driver starts them. The runtime's own way there finds the device, the context and the kernel anew at each start, and
// leaves its error to be asked for: a tenth of what starting a small kernel costs the host.
#include <cuda_runtime_api.h>

#include <atomic>

namespace keel::cuda {

/// What the driver calls a kernel, by device; found at the first start on each.
struct KernelHandles {
  static constexpr int kDevices = 16;  // on those beyond, the runtime starts it
  std::atomic<cudaFunction_t> on[kDevices];
};
template <auto kernel>
inline constinit KernelHandles handles_of{};

/// Queues `kernel`, the host's name of it, on `device`, which is the thread's current one; `arguments` point to one value a parameter.
cudaError_t start(KernelHandles& handles, const void* kernel, int device, dim3 blocks, unsigned threads, cudaStream_t stream,
                  void** arguments);

/// The same with values as they are, each converted to its parameter's type.
template <class... P, class... A>
cudaError_t start(void (*kernel)(P...), KernelHandles& handles, int device, dim3 blocks, unsigned threads, cudaStream_t stream,
                  const A&... given) {
  return [&](P... values) {
    void* arguments[] = {const_cast<void*>(static_cast<const void*>(&values))...};
    return start(handles, reinterpret_cast<const void*>(kernel), device, blocks, threads, stream, arguments);
  }(given...);
}
template <auto kernel, class... A>
cudaError_t start(int device, dim3 blocks, unsigned threads, cudaStream_t stream, const A&... given) {
  return start(kernel, handles_of<kernel>, device, blocks, threads, stream, given...);
}

}  // namespace keel::cuda
