#pragma once
// What losses share: targets that are classes, of which some may not count, and the sum of what rows lost, in a fixed order.
#include "backend/cuda/around.cuh"
#include "backend/cuda/fault.cuh"
#include "keel/ops/loss.h"

namespace keel::cuda {

/// What rows need to know of their targets.
struct Targets {
  const void* p;
  DType dtype;
  int64_t ignore;
  Reporter reporter;
  Targets(const KernelArgs& a, const TensorView& t, int64_t ignore, int64_t classes)
      : p(t.data), dtype(t.dtype), ignore(ignore), reporter(a, KernelStatus::place(0, classes, "target")) {}
  /// The class of a row, or -1 where it does not count.
  __device__ int64_t of(int64_t row) const {
    const int64_t t = load_index(p, dtype, row);
    return t == ignore ? -1 : reporter.place(t, row);
  }
};

inline constexpr int kWhole = 1024;  // threads of a kernel that is one block

/// The sum over the threads of a block, in a fixed order; in thread 0.
template <int threads, class C>
__device__ C block_sum(C v) {
  __shared__ C warps[threads / 32];
#pragma unroll
  for (int d = 16; d; d >>= 1) v += __shfl_down_sync(~0u, v, d);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  v = 0;
  if (threadIdx.x == 0)
    for (int w = 0; w < threads / 32; ++w) v += warps[w];
  return v;
}

/// Targets of which some may not count; none where `p` is null.
struct Classes {
  const void* p = nullptr;
  DType dtype = DType::none;
  int64_t ignore = 0;
  Classes() = default;
  explicit Classes(const Targets& t) : p(t.p), dtype(t.dtype), ignore(t.ignore) {}
  __device__ bool counts(int64_t i) const { return load_index(p, dtype, i) != ignore; }
};
/// One block: y = the sum of x, for the mean divided by how many of `classes` count, where there are any, or else by `count`.
template <class T, class C>
__global__ void __launch_bounds__(kWhole) sum_losses(int64_t n, const C* x, bool mean, Classes classes, double count, T* y) {
  C c = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += kWhole) c += x[i];
  c = block_sum<kWhole>(c);
  if (mean && classes.p) {
    int64_t own = 0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += kWhole) own += classes.counts(i);
    count = block_sum<kWhole>(double(own));
  }
  if (threadIdx.x == 0) *y = narrow<T>(mean ? c / C(count) : c);
}
template <class T, class C>
__global__ void __launch_bounds__(kThreads) copy_losses(int64_t n, const C* x, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) y[i] = narrow<T>(x[i]);
}
/// The rows' losses as the result wants them; `classes`: the targets of rows that may not count.
template <class T>
KernelStatus reduce_losses(const KernelArgs& a, Reduction r, int64_t n, const Compute<T>* losses, const Classes& classes) {
  const cudaStream_t s = stream(a);
  T* y = a.out[0].ptr<T>();
  if (r == Reduction::none) {
    if (n) copy_losses<T><<<unsigned(ceil_div(n, kThreads)), kThreads, 0, s>>>(n, losses, y);
    return launched();
  }
  // Who goes on with what the rows gave, as gradients do, need not wait for their sum.
  const auto* const targets = static_cast<const char*>(classes.p);
  const MemoryUse uses[] = {
      {losses, losses + n, false}, {targets, targets + (targets ? n * int64_t(size_of(classes.dtype)) : 0), false}, {y, y + 1, true}};
  piece(a.device, 3, uses);
  sum_losses<T><<<1, kWhole, 0, s>>>(n, losses, r == Reduction::mean, classes, double(n), y);
  return launched();
}

/// Gradients by losses of dtype T, in T or in what it computes in: one a row, or one for all.
template <class T>
struct LossGradients {
  using C = Compute<T>;
  const void* p;
  bool computed, each;
  LossGradients(const TensorView& g, Reduction r) : p(g.data), computed(g.dtype != dtype_of<T>), each(r == Reduction::none) {}
  __device__ C of(int64_t row) const {
    const int64_t i = each ? row : 0;
    return computed ? static_cast<const C*>(p)[i] : C(widen(static_cast<const T*>(p)[i]));
  }
};

/// Workspace: a loss a row.
inline size_t rows_bytes(int64_t rows) { return size_t(rows) * 8; }
/// What a gradient is divided by: the count of targets in the workspace, made where the mean is wanted; else null.
const double* counted_targets(const KernelArgs& a, Reduction r, const Targets& t, int64_t rows);

}  // namespace keel::cuda
