#pragma once
// Dense tensors as rows along any axis: along the last one a warp or a block takes a row (rows.cuh), along another a thread takes a column.
#include "backend/cuda/rows.cuh"

namespace keel::cuda {

/// A tensor as [outer, n, inner] around an axis; row r is outer r / inner, inner r % inner.
struct Around {
  int64_t outer = 1, n = 1, inner = 1;
  Around(const Shape& x, int64_t axis) {
    if (x.rank() == 0) return;
    const int a = int(axis < 0 ? axis + x.rank() : axis);
    for (int i = 0; i < a; ++i) outer *= x[i];
    n = x[a];
    for (int i = a + 1; i < x.rank(); ++i) inner *= x[i];
  }
  int64_t rows() const { return outer * inner; }
  unsigned blocks() const { return unsigned(ceil_div(outer * inner, kThreads)); }
};

/// A thread a column: its number, where it begins, its length, and the distance between its elements.
template <class K, class... A>
__global__ void __launch_bounds__(kThreads) column_kernel(int64_t outer, int64_t n, int64_t inner, A... args) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < outer * inner) K::column(i, i / inner * n * inner + i % inner, n, inner, args...);
}

/// Launches Family::Kernel<T, G, P>::run(row, n, args...) where rows are dense, else Family::column(row, at, n, step, args...).
template <class Family, class T, class... A>
KernelStatus around(const KernelArgs& a, const Around& v, bool aligned, A... args) {
  if (v.rows() == 0 || v.n == 0) return {};
  if (v.inner == 1) return over_rows<Family::template Kernel, T>(a, v.outer, v.n, aligned, args...);
  return start<column_kernel<Family, A...>>(a, v.blocks(), kThreads, v.outer, v.n, v.inner, args...);
}

/// The same, where output 0 comes last among the arguments and may be watched.
template <class Family, class T, class... A>
KernelStatus around_watched(const KernelArgs& a, const Around& v, bool aligned, A... inputs) {
  T* const y = a.out[0].ptr<T>();
  if (v.inner == 1) return over_rows_watched<Family::template Kernel, T>(a, v.outer, v.n, aligned, inputs..., Marked<T>{y});
  const KernelStatus s = around<Family, T>(a, v, aligned, inputs..., y);
  return s.code ? s : watch(a, 0, 1);
}

}  // namespace keel::cuda
