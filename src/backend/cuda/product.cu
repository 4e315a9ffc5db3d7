// Products of matrices without a library: a block makes 64 by 64 results, a thread every 16th row and column of them, and every sum runs in
// the order of k. For operands that cuBLASLt has no algorithm for whose sums would be the same for any number of rows.
#include <algorithm>

#include "backend/cuda/gemm.h"
#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

constexpr int kTile = 64, kDepth = 16, kEach = kTile / 16;

struct Steps {
  int64_t m, n, k, a_row, a_column, b_row, b_column, ldc, a_step, b_step, c_step;
};

template <class T, class R>
__global__ void __launch_bounds__(kThreads) product_kernel(Steps z, const T* a, const T* b, const T* bias, R* c) {
  using C = Compute<T>;
  __shared__ C left[kDepth][kTile + 1], right[kDepth][kTile + 1];
  const int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
  const int64_t from_row = int64_t(blockIdx.x) * kTile, from_column = int64_t(blockIdx.y) * kTile;
  a += blockIdx.z * z.a_step, b += blockIdx.z * z.b_step, c += blockIdx.z * z.c_step;
  C sum[kEach][kEach] = {};
  for (int64_t at = 0; at < z.k; at += kDepth) {
    __syncthreads();
    for (int i = int(threadIdx.x); i < kTile * kDepth; i += kThreads) {
      const int64_t k = at + i % kDepth, r = from_row + i / kDepth, n = from_column + i / kDepth;
      left[i % kDepth][i / kDepth] = r < z.m && k < z.k ? widen(a[r * z.a_row + k * z.a_column]) : C(0);
      right[i % kDepth][i / kDepth] = n < z.n && k < z.k ? widen(b[k * z.b_row + n * z.b_column]) : C(0);
    }
    __syncthreads();
    const int depth = z.k - at < kDepth ? int(z.k - at) : kDepth;
    for (int k = 0; k < depth; ++k)
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) sum[i][j] = fma(left[k][row + 16 * i], right[k][column + 16 * j], sum[i][j]);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int64_t r = from_row + row + 16 * i, n = from_column + column + 16 * j;
      if (r < z.m && n < z.n) c[r * z.ldc + n] = narrow<R>(bias ? sum[i][j] + widen(bias[n]) : sum[i][j]);
    }
}

}  // namespace

KernelStatus keel::cuda::plain_product(const Product& p, int device, cudaStream_t stream) {
  constexpr int64_t kMostBatches = 65535;
  use(device);
  const Steps z{p.m, p.n, p.k, p.a_row, p.a_column, p.b_row, p.b_column, p.ldc, p.a_step, p.b_step, p.c_step};
  const auto go = [&](auto t, auto r) {
    using T = decltype(t);
    using R = decltype(r);
    for (int64_t first = 0; first < p.batch; first += kMostBatches) {
      const dim3 grid(unsigned(ceil_div(p.m, kTile)), unsigned(ceil_div(p.n, kTile)), unsigned(std::min(kMostBatches, p.batch - first)));
      product_kernel<T, R><<<grid, kThreads, 0, stream>>>(z, static_cast<const T*>(p.a) + first * p.a_step,
                                                          static_cast<const T*>(p.b) + first * p.b_step, static_cast<const T*>(p.bias),
                                                          static_cast<R*>(p.c) + first * p.c_step);
    }
  };
  Floats::call(p.dtype, [&](auto t) {
    if (p.result == DType::none || p.result == p.dtype)
      go(t, t);
    else
      go(t, Compute<decltype(t)>());
  });
  return launched();
}
