#pragma once
// What the two ways to the gradients of layer_norm and rms_norm share: how rows are counted, and the last pass over sums of their columns.
#include "backend/cuda/norm_row.cuh"
#include "keel/ops/norm.h"

namespace keel::cuda {

/// The rows of a norm, and how their columns are summed.
struct RowsAndColumns {
  int64_t rows = 1, n = 1;
  RowsAndColumns(const TensorView& x, int64_t axes) {
    for (int i = 0; i < x.rank(); ++i) (i < x.rank() - axes ? rows : n) *= x.dim(i);
  }
  /// Rows a part; at most 128 parts.
  int64_t share() const { return std::max<int64_t>(ceil_div(rows, 128), 32); }
  int64_t parts() const { return rows ? ceil_div(rows, share()) : 0; }
  /// The same for rows_and_columns: at most 256 blocks.
  int64_t block_share() const { return std::max<int64_t>(ceil_div(rows, 256), 8); }
  int64_t blocks() const { return rows ? ceil_div(rows, block_share()) : 0; }
  /// Packs a thread where rows_and_columns takes these rows, else 0.
  int packs(int vector) const {
    return rows >= 1024 && n > 0 && n % vector == 0 && n <= 32 * vector * 4 ? int(ceil_div(n, 32 * vector)) : 0;
  }
  /// The workspace of both ways, in bytes.
  size_t room() const { return size_t(2 * std::max(parts(), blocks()) * n) * 8; }
};

/// weight[i] and bias[i] = the sums of dw[part][i] and db[part][i] over `parts`, always in one order.
template <class T, class C>
__global__ void __launch_bounds__(kThreads) sum_both(int64_t n, int64_t parts, const C* dw, const C* db, T* weight, T* bias) {
  const int column = int(threadIdx.x % 32), first = int(threadIdx.x / 32);
  const int64_t i = int64_t(blockIdx.x) * 32 + column;
  C w = 0, b = 0;
  if (i < n)
    for (int64_t p = first; p < parts; p += kThreads / 32) {
      if (weight) w += dw[p * n + i];
      if (bias) b += db[p * n + i];
    }
  __shared__ C all[2][kThreads];
  all[0][threadIdx.x] = w, all[1][threadIdx.x] = b;
  __syncthreads();
  if (first || i >= n) return;
  for (int k = 1; k < kThreads / 32; ++k) w += all[0][k * 32 + column], b += all[1][k * 32 + column];
  if (weight) weight[i] = narrow<T>(w);
  if (bias) bias[i] = narrow<T>(b);
}

/// All gradients in one reading, for rows that a warp holds; false where it does not take them.
bool norm_gradients_together(const KernelArgs& a, bool centered, KernelStatus& s);

}  // namespace keel::cuda
