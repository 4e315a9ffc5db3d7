#pragma once
// The last pass over sums that blocks left one row a part.
#include "backend/cuda/pointwise.cuh"

namespace keel::cuda {

/// sums[i] = the sum of part[p][i] over `parts`, always in one order: a block takes 32 columns in eight shares.
template <class C, class T>
__global__ void __launch_bounds__(kThreads) sum_parts(int64_t n, int64_t parts, const C* __restrict__ part, T* __restrict__ sums) {
  constexpr int kShares = kThreads / 32;
  __shared__ C all[kShares][32];
  const int lane = int(threadIdx.x) % 32, share = int(threadIdx.x) / 32;
  const int64_t i = int64_t(blockIdx.x) * 32 + lane;
  C sum = 0;
  if (i < n) {
#pragma unroll 8
    for (int64_t p = share; p < parts; p += kShares) sum += part[p * n + i];
  }
  all[share][lane] = sum;
  __syncthreads();
  if (share > 0 || i >= n) return;
#pragma unroll
  for (int s = 1; s < kShares; ++s) sum += all[s][lane];
  sums[i] = narrow<T>(sum);
}
/// Queues it.
template <class C, class T>
void add_parts(int64_t n, int64_t parts, const C* part, T* sums, cudaStream_t stream) {
  sum_parts<C, T><<<unsigned(ceil_div(n, 32)), kThreads, 0, stream>>>(n, parts, part, sums);
}

}  // namespace keel::cuda
