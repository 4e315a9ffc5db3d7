#pragma once
// Batch-norm loops in f32 or f64: `rows` have channels innermost, `plane` is one channel's run. Whole rows are one run of n elements; the
// values of their channels come again after `period` elements, and go on for kBatchNormPad elements beyond. `stream`: the result leaves
// past the caches, and what follows the operands is fetched meanwhile; the caller ends with stream_fence.
#include <cstdint>

#include "keel/dtype.h"

namespace keel::cpu {

/// The length of a vector at least; periods are no shorter.
inline constexpr int64_t kBatchNormPad = 16;

struct BatchNormLoops {
  /// y = (x - mean) rstd weight + bias, weight and bias may be null; one value a channel.
  void (*apply_rows)(const void* x, void* y, int64_t n, int64_t period, const void* mean, const void* rstd, const void* weight,
                     const void* bias, bool stream);
  /// The same for one channel's run: pointers to its values.
  void (*apply_plane)(const void* x, void* y, int64_t n, const void* mean, const void* rstd, const void* weight, const void* bias,
                      bool stream);
  /// sum_g = sum of g over rows of `width` channels, `stride` elements apart, sum_gn the same of g (x - mean) rstd. `far`: operands come
  /// from memory.
  void (*grad_sums_rows)(const void* g, const void* x, int64_t rows, int64_t stride, int64_t width, const void* mean, const void* rstd,
                         bool far, void* sum_g, void* sum_gn);
  /// One block (n <= kReduceBlock) of one channel: out[0] = sum of g, out[1] = sum of g (x - mean) rstd.
  void (*grad_sums_plane)(const void* g, const void* x, int64_t n, const void* mean, const void* rstd, void* out);
  /// dx = scale ((g - mean_g) - (x - mean) rstd mean_gn).
  void (*grad_rows)(const void* g, const void* x, void* dx, int64_t n, int64_t period, const void* mean, const void* rstd,
                    const void* scale, const void* mean_g, const void* mean_gn, bool stream);
  void (*grad_plane)(const void* g, const void* x, void* dx, int64_t n, const void* mean, const void* rstd, const void* scale,
                     const void* mean_g, const void* mean_gn, bool stream);
};
/// t is f32 or f64.
BatchNormLoops batch_norm_loops(DType t);

}  // namespace keel::cpu
