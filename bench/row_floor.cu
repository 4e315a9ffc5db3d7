// What a row of a million floats costs that is read, told of between blocks and written, with nothing computed: the floor of softmax and
// layer_norm of it, by the very means of Keel's kernels.
#include <cuda_runtime.h>

#include "backend/cuda/long_rows.cuh"
#include "launch.h"

namespace keel::cuda {
namespace {

constexpr int kTimes = 50, kPacks = 4, kVector = 4;
constexpr int64_t kFloats = 1'000'000;
using Row = RowOf<float, kPartThreads, kPacks>;

__global__ void __launch_bounds__(kPartThreads, 1) nothing(Parts, Exchange*, const float*, float*) {}
template <bool tells>
__global__ void __launch_bounds__(kPartThreads, 1) move_row(Parts p, Exchange* exchange, const float* x, float* y) {
  const Meeting<float2> meeting(exchange);
  const Row r(x + p.at(), 0, p.count(blockIdx.x));
  if constexpr (tells)
    put_together(p, meeting, float2{r.kept[0].v[0], 0}, [](const Told<float2>& told) {
      float last = 0;
      told.each([&](float2 v, unsigned) { last = v.x; });
      return last;
    });
  r.write(y + p.at(), [](int64_t, float v) { return v; });
}

/// Launches in a recording, which leaves the host out.
struct Floor {
  cudaStream_t queue = nullptr;
  float* rows = nullptr;  // two, and then what blocks tell each other
  Parts parts;
  Floor() {
    int device = 0, processors = 0;
    cudaGetDevice(&device), cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking);
    const size_t bytes = 2 * kFloats * sizeof(float) + sizeof(Exchange);
    if (cudaMalloc(reinterpret_cast<void**>(&rows), bytes) == cudaSuccess) cudaMemset(rows, 0, bytes);
    parts = parts_of(1, kFloats, kVector, true, processors);
  }
  Exchange* exchange() const { return reinterpret_cast<Exchange*>(rows + 2 * kFloats); }
  cudaGraphExec_t record(void (*kernel)(Parts, Exchange*, const float*, float*), bool together) const {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t made = nullptr;
    cudaStreamBeginCapture(queue, cudaStreamCaptureModeRelaxed);
    for (int i = 0; i < kTimes; ++i) {
      cudaLaunchAttribute attribute{};
      attribute.id = cudaLaunchAttributeCooperative, attribute.val.cooperative = together;
      cudaLaunchConfig_t c{};
      c.gridDim = dim3(parts.parts), c.blockDim = dim3(kPartThreads), c.stream = queue, c.attrs = &attribute, c.numAttrs = 1;
      cudaLaunchKernelEx(&c, kernel, parts, exchange(), static_cast<const float*>(rows + i % 2 * kFloats), rows + (i + 1) % 2 * kFloats);
    }
    cudaStreamEndCapture(queue, &graph);
    cudaGraphInstantiate(&made, graph, 0);
    cudaGraphDestroy(graph);
    return made;
  }
};

}  // namespace
}  // namespace keel::cuda

std::vector<BareWork> row_floors() {
  using namespace keel::cuda;
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) return {};
  static const Floor floor;
  std::vector<BareWork> all;
  const auto add = [&](const char* name, auto kernel, bool together) {
    const cudaGraphExec_t made = floor.record(kernel, together);
    all.push_back({name, kTimes, [made] { cudaGraphLaunch(made, floor.queue); }, [] { cudaStreamSynchronize(floor.queue); }});
  };
  add("floor of a row of 1M f32: empty kernels one after another", nothing, false);
  add("floor of a row of 1M f32: empty kernels whose blocks run at once", nothing, true);
  add("floor of a row of 1M f32: read and written", move_row<false>, true);
  add("floor of a row of 1M f32: read, told of and written", move_row<true>, true);
  add("floor of a row of 1M f32: the same, started plainly", move_row<true>, false);
  return all;
}
