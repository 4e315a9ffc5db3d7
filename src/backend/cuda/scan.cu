// cumsum along any axis: a block takes a row, 256 elements at a time.
#include "backend/cuda/around.cuh"
#include "keel/ops/reduce.h"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class T, class O>
__global__ void __launch_bounds__(kThreads) scan_kernel(int64_t n, int64_t inner, const T* x, O* y) {
  using A = std::conditional_t<std::is_integral_v<T>, int64_t, Compute<T>>;
  const int64_t base = int64_t(blockIdx.x) / inner * n * inner + int64_t(blockIdx.x) % inner;
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  __shared__ A warps[kThreads / 32];
  A before = 0;
  for (int64_t from = 0; from < n; from += kThreads) {
    const int64_t i = from + threadIdx.x;
    A v = i < n ? A(widen(x[base + i * inner])) : A(0);
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const A other = __shfl_up_sync(~0u, v, d);
      if (lane >= d) v = other + v;
    }
    if (lane == 31) warps[warp] = v;
    __syncthreads();
    A ahead = before;
    for (int w = 0; w < kThreads / 32; ++w) {
      if (w < warp) ahead += warps[w];
      before += warps[w];
    }
    if (i < n) {
      if constexpr (std::is_integral_v<T>)
        y[base + i * inner] = O(ahead + v);
      else
        y[base + i * inner] = narrow<O>(ahead + v);
    }
    __syncthreads();
  }
}

}  // namespace

KEEL_CUDA_KERNEL(cumsum) {
  k.dtypes(kinds::ordered).inputs(Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& x = a.in[0];
    const Around v(x.shape(), a.get<CumsumParams>().axis);
    if (x.size() == 0) return {};
    use(a.device);
    const auto blocks = unsigned(v.rows());
    if (Floats::call(x.dtype, [&](auto t) {
          using T = decltype(t);
          scan_kernel<T, T><<<blocks, kThreads, 0, stream(a)>>>(v.n, v.inner, x.ptr<T>(), a.out[0].ptr<T>());
        }))
      return launched();
    TypeList<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, bool>::call(x.dtype, [&](auto t) {
      using T = decltype(t);
      scan_kernel<T, int64_t><<<blocks, kThreads, 0, stream(a)>>>(v.n, v.inner, x.ptr<T>(), a.out[0].ptr<int64_t>());
    });
    return launched();
  });
}
