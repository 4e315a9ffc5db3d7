#pragma once
// Sums of columns: what the warps of a block hold of 32 of them, and the last pass over sums that blocks left one row a part.
#include "backend/cuda/pointwise.cuh"

namespace keel::cuda {

/// Adds, in order, what the warps of a block of kThreads hold of its 32 columns; true in the first warp, which has the sums then.
template <int n, class C>
__device__ __forceinline__ bool add_warps(C (&v)[n]) {
  __shared__ C all[n][kThreads];
#pragma unroll
  for (int k = 0; k < n; ++k) all[k][threadIdx.x] = v[k];
  __syncthreads();
  if (threadIdx.x >= 32) return false;
#pragma unroll
  for (int w = 1; w < kThreads / 32; ++w)
#pragma unroll
    for (int k = 0; k < n; ++k) v[k] += all[k][w * 32 + threadIdx.x];
  return true;
}

/// sums[i] = the sum of part[p][i] over all parts, for each pair of pointers; nothing where `sums` is null.
template <int n, class C, class T>
struct PartSums {
  const C* part[n];
  T* sums[n];
};
/// Always in one order: a block takes 32 columns, a warp every eighth part.
template <int n, class C, class T>
__global__ void __launch_bounds__(kThreads) sum_parts(int64_t columns, int64_t parts, PartSums<n, C, T> s) {
  const int64_t i = int64_t(blockIdx.x) * 32 + threadIdx.x % 32;
  C sum[n] = {};
#pragma unroll
  for (int k = 0; k < n; ++k) {
    if (i >= columns || !s.sums[k]) continue;
#pragma unroll 8
    for (int64_t p = threadIdx.x / 32; p < parts; p += kThreads / 32) sum[k] += s.part[k][p * columns + i];
  }
  if (!add_warps(sum) || i >= columns) return;
#pragma unroll
  for (int k = 0; k < n; ++k)
    if (s.sums[k]) s.sums[k][i] = narrow<T>(sum[k]);
}
/// Queues it.
template <int n, class C, class T>
void add_parts(int64_t columns, int64_t parts, const PartSums<n, C, T>& s, cudaStream_t stream) {
  sum_parts<<<unsigned(ceil_div(columns, 32)), kThreads, 0, stream>>>(columns, parts, s);
}
/// The same of one array.
template <class C, class T>
void add_parts(int64_t columns, int64_t parts, const C* part, T* sums, cudaStream_t stream) {
  add_parts(columns, parts, PartSums<1, C, T>{{part}, {sums}}, stream);
}

}  // namespace keel::cuda
