#pragma once
// Reductions of contiguous blocks and of columns, in an order that depends on nothing but the element type and the reduced extent.
#include <cstdint>

#include "keel/dtype.h"

namespace keel::cpu {

/// sum_deviation is the sum of (x - shift)^2; it, the other sums of a function, prod and max_abs exist for floats.
enum class ReduceOp : uint8_t { sum, sum_abs, sum_square, sum_deviation, prod, max, min, any, all, max_abs };

/// Elements of one block of a row; rows of one group of a column, and rows of a column's block. Blocks are joined pairwise, by a binary
/// counter, so that an aligned run of 2^k blocks is a node of the tree.
inline constexpr int64_t kReduceBlock = 4096, kReduceGroup = 16, kReduceRows = 256;

/// The dtype of a partial result: f32 and f64 their own; integers and bool i64 or u64 for sum and prod, their own for max and min; u8 for
/// any and all.
DType reduce_acc(ReduceOp op, DType t);

struct ReduceLoops {
  /// One block, n <= kReduceBlock, of a row; writes one partial result. n = 0 gives the identity. `shift` is one element, for
  /// sum_deviation. `far`: x is read from memory, so that floats that follow are fetched meanwhile.
  void (*block)(const void* x, int64_t n, const void* shift, void* out, bool far) = nullptr;
  /// At most kReduceGroup rows of `width` elements, `stride` elements apart: out[i] = (join ? out[i] joined with : ) the reduction of
  /// column i. `shift` has `width` elements, for sum_deviation.
  void (*columns)(const void* x, int64_t rows, int64_t stride, int64_t width, bool join, const void* shift, void* out,
                  bool far) = nullptr;
  /// a[i] = a[i] joined with b[i], on partial results.
  void (*join)(void* a, const void* b, int64_t n) = nullptr;
};
/// The loops for elements of type `t`; empty where there are none (8- and 16-bit floats go through f32, but any and all take every type).
ReduceLoops reduce_loops(ReduceOp op, DType t);

/// What reduces the partial results of `op`: itself, or sum for the sums of a function.
constexpr ReduceOp second_stage(ReduceOp op) {
  return op == ReduceOp::sum_abs || op == ReduceOp::sum_square || op == ReduceOp::sum_deviation ? ReduceOp::sum
         : op == ReduceOp::max_abs                                                              ? ReduceOp::max
                                                                                                : op;
}

/// The index of the first largest (or smallest) element of x[0..n), n > 0; the first NaN wins. f32, f64, integers, bool as u8.
int64_t arg_extreme(bool largest, DType t, const void* x, int64_t n);
/// Row after row, `stride` elements apart: best[k], at[k] = x[k], index where x[k] beats best[k] or is the first NaN; the rows have the
/// indices `index`, `index` + 1, ...
void arg_rows(bool largest, DType t, const void* x, int64_t rows, int64_t stride, int64_t n, int32_t index, void* best, int32_t* at);

}  // namespace keel::cpu
