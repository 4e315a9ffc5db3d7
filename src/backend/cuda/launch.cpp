#include "backend/cuda/launch.h"

#include <cuda.h>

namespace keel::cuda {
namespace {

using Launch = decltype(&cuLaunchKernel);

/// The driver's function; null where this driver has none.
Launch driver_launch() {
  static const Launch launch = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    const cudaError_t e = cudaGetDriverEntryPointByVersion("cuLaunchKernel", &found, 12000, cudaEnableDefault, &result);
    if (e != cudaSuccess) cudaGetLastError();
    return e == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Launch>(found) : nullptr;
  }();
  return launch;
}

}  // namespace

cudaError_t start(KernelHandles& handles, const void* kernel, int device, dim3 blocks, unsigned threads, cudaStream_t stream,
                  void** arguments) {
  const Launch launch = driver_launch();
  if (!launch || device >= KernelHandles::kDevices) return cudaLaunchKernel(kernel, blocks, dim3(threads), arguments, 0, stream);
  std::atomic<cudaFunction_t>& handle = handles.on[device];
  cudaFunction_t f = handle.load(std::memory_order_acquire);
  if (!f) [[unlikely]] {
    if (const cudaError_t e = cudaGetFuncBySymbol(&f, kernel)) return e;
    handle.store(f, std::memory_order_release);
  }
  // The driver's numbers of errors are the runtime's.
  return cudaError_t(launch(f, blocks.x, blocks.y, blocks.z, threads, 1, 1, 0, stream, arguments, nullptr));
}

}  // namespace keel::cuda
