#pragma once
// What the two ways to the gradients of layer_norm and rms_norm share: how rows are counted and their columns summed.
#include "backend/cuda/norm_row.cuh"
#include "backend/cuda/sum_parts.cuh"
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

/// All gradients in one reading, for rows that a warp holds; false where it does not take them.
bool norm_gradients_together(const KernelArgs& a, bool centered, KernelStatus& s);

}  // namespace keel::cuda
