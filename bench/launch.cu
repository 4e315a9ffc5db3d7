#include "launch.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include "backend/cuda/launch.h"

namespace {

/// As many bytes as an addition takes.
struct Words {
  void* p[10];
};
__global__ void nothing(Words) {}

/// What an addition takes, in as many parameters.
struct Operand {
  const float* p;
  float value;
  bool one;
};
struct Function {};
__global__ void nothing_of_five(Function, int64_t, float*, Operand, Operand) {}

cudaStream_t queue() {
  static const cudaStream_t q = [] {
    cudaStream_t made = nullptr;
    return cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking) == cudaSuccess ? made : nullptr;
  }();
  return q;
}
void wait() { cudaStreamSynchronize(queue()); }

void by_runtime() { nothing<<<1, 256, 0, queue()>>>(Words{}); }
/// As ops were started until they went by the driver.
void five_by_runtime() {
  nothing_of_five<<<1, 256, 0, queue()>>>(Function{}, 1, nullptr, Operand{}, Operand{});
  if (cudaPeekAtLastError() != cudaSuccess) cudaGetLastError();
}
/// As ops are started.
void five_by_driver() { keel::cuda::start<nothing_of_five>(0, dim3(1), 256, queue(), Function{}, 1, nullptr, Operand{}, Operand{}); }

struct Driver {
  decltype(&cuLaunchKernel) launch = nullptr;
  CUfunction function = nullptr;
  Driver() {
    cudaDriverEntryPointQueryResult found;
    void* f = nullptr;
    if (cudaGetDriverEntryPointByVersion("cuLaunchKernel", &f, 12000, cudaEnableDefault, &found) != cudaSuccess || !f) return;
    if (cudaGetFuncBySymbol(&function, reinterpret_cast<const void*>(&nothing)) == cudaSuccess)
      launch = reinterpret_cast<decltype(launch)>(f);
  }
};
const Driver& driver() {
  static const Driver d;
  return d;
}
void by_driver() {
  Words words{};
  void* arguments[] = {&words};
  driver().launch(driver().function, 1, 1, 1, 256, 1, 1, 0, queue(), arguments, nullptr);
}
void by_driver_in_one_piece() {
  Words words{};
  size_t bytes = sizeof words;
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &words, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
  driver().launch(driver().function, 1, 1, 1, 256, 1, 1, 0, queue(), nullptr, extra);
}

}  // namespace

std::vector<BareLaunch> bare_launches() {
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0 || !queue()) return {};
  std::vector<BareLaunch> all{{"empty kernel by the runtime, host alone", by_runtime, wait},
                              {"empty kernel of five parameters by the runtime, host alone", five_by_runtime, wait},
                              {"empty kernel of five parameters as ops start, host alone", five_by_driver, wait}};
  if (driver().launch) {
    all.push_back({"empty kernel by the driver, host alone", by_driver, wait});
    all.push_back({"empty kernel by the driver, its parameters in one piece, host alone", by_driver_in_one_piece, wait});
  }
  return all;
}
