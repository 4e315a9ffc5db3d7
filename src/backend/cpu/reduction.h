#pragma once
// The one outer driver of reductions: any axes of any layout, by stages over rows and columns.
#include "backend/cpu/loops/reduce.h"
#include "backend/kernel.h"

namespace keel::cpu {

/// One reduction of a.in[0] over `axes` (none: all) into a.out[0].
struct ReduceJob {
  ReduceOp op = ReduceOp::sum;
  DType as = DType::none;       // dtype in which elements are taken in; blocks are converted where it is not the input's
  const void* shift = nullptr;  // sum_deviation: one value of `as` for every output, in order
  /// y[i] = f(x[i]) on the n results, in the dtype of partial results, before they are converted to the output's dtype.
  void (*finish)(void* x, int64_t n, const double* args) = nullptr;
  const double* args = nullptr;
};

/// Bytes of workspace that `run_reduction` takes for reductions of this input and these axes.
size_t reduction_workspace(const TensorView& x, const Dims& axes, DType as, ReduceOp op);
/// Runs `r`; `y` is contiguous. `workspace` has the size above.
void run_reduction(const ReduceJob& r, const TensorView& x, const Dims& axes, const TensorView& y, void* workspace, StatSlot* slot);

}  // namespace keel::cpu
