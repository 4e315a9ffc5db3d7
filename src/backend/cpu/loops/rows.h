#pragma once
// Functions of whole contiguous rows in f32 or f64: softmax and its relatives, cross entropy, layer and RMS norm. Sums run in the order of
// reduce-inl.h, exp and log are those of math-inl.h, so a row gives the same bits alone, in any batch, on any thread and instruction set.
#include <cstdint>

#include "keel/dtype.h"

namespace keel::cpu {

inline constexpr int64_t kGradRows = 4;
/// Bytes of a row that stays in L1 with the vectors of weights it meets and 16 KiB that are fetched meanwhile.
inline constexpr int64_t kShortRow = 9216;

/// How a row meets memory. `ahead`: elements behind what is read from memory of every operand, which are fetched meanwhile, into L1 where
/// `near`, else into L2; 0: none. `stream`: the result leaves past the caches; the caller ends with stream_fence.
struct RowFlow {
  int64_t ahead = 0;
  bool near = false, stream = false;
};

/// Rows of a norm's gradient of which both sums are known, but for their last pass, which goes along with the sums of the next, so that
/// arithmetic and stores past the caches do not take turns.
struct PendingGrad {
  int64_t rows = 0;
  const void *g = nullptr, *x = nullptr, *mean = nullptr, *rstd = nullptr;
  void *dx = nullptr, *dweight = nullptr, *dbias = nullptr;
  double total[kGradRows] = {}, share[kGradRows] = {};
};

/// A function of one row, and beside it that of `rows` rows one after the other, of whole lines, in place, which leave past the caches.
struct RowLoops {
  /// y = exp(x - max) / sum; y may be x. `scratch` holds n elements; without streaming it may be y.
  void (*softmax)(const void* x, void* y, void* scratch, int64_t n, RowFlow flow);
  void (*softmax_rows)(const void* x, void* y, void* scratch, int64_t rows, int64_t n, RowFlow flow);
  /// y = (x - max) - log(sum(exp(x - max))).
  void (*log_softmax)(const void* x, void* y, int64_t n, RowFlow flow);
  void (*log_softmax_rows)(const void* x, void* y, int64_t rows, int64_t n, RowFlow flow);
  /// dx = y (g - sum(g y)).
  void (*softmax_grad)(const void* g, const void* y, void* dx, int64_t n, RowFlow flow);
  void (*softmax_grad_rows)(const void* g, const void* y, void* dx, int64_t rows, int64_t n, RowFlow flow);
  /// dx = g - exp(y) sum(g).
  void (*log_softmax_grad)(const void* g, const void* y, void* dx, int64_t n, RowFlow flow);
  void (*log_softmax_grad_rows)(const void* g, const void* y, void* dx, int64_t rows, int64_t n, RowFlow flow);
  /// out[0] = max, out[1] = log(sum(exp(x - max))), out[2] = sum(x - max) where `want_sum`. A row of -inf has max -inf and log-sum 0.
  void (*log_sum_exp)(const void* x, int64_t n, bool want_sum, void* out);
  /// sum of t ((x - top) - log_sum), with target probabilities t.
  void (*weighted)(const void* x, const void* t, int64_t n, double top, double log_sum, void* out);
  /// dx = g (exp(x - lse) - rest), and at `target` (where >= 0) g (exp(x - lse) - rest - peak).
  void (*cross_entropy_grad)(const void* x, void* dx, int64_t n, double lse, double g, int64_t target, double peak, double rest);
  /// y = (x - mean) rstd weight + bias; weight and bias may be null. Writes mean and rstd where they are not null.
  void (*layer_norm)(const void* x, const void* weight, const void* bias, void* y, int64_t n, double eps, void* mean, void* rstd,
                     RowFlow flow);
  void (*layer_norm_rows)(const void* x, const void* weight, const void* bias, void* y, int64_t rows, int64_t n, double eps, void* mean,
                          void* rstd, RowFlow flow);
  /// The same without mean and bias: y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps).
  void (*rms_norm)(const void* x, const void* weight, void* y, int64_t n, double eps, void* rstd, RowFlow flow);
  void (*rms_norm_rows)(const void* x, const void* weight, void* y, int64_t rows, int64_t n, double eps, void* rstd, RowFlow flow);
  /// dx (may be null) of up to kGradRows rows that lie one after the other, and dweight += g normal, dbias += g (either may be null), row
  /// by row. `mean` null: RMS norm. With `pending`, which asks for dx, streaming and rows of whole lines, writes what was pending and
  /// leaves these rows so, or writes them at once; `flush` ends it.
  void (*norm_grad)(const void* g, const void* x, int64_t rows, const void* weight, const void* mean, const void* rstd, void* dx,
                    void* dweight, void* dbias, int64_t n, RowFlow flow, PendingGrad* pending);
  void (*norm_grad_flush)(PendingGrad& pending, const void* weight, int64_t n);
};
/// t is f32 or f64.
RowLoops row_loops(DType t);
// Its parts, one a file.
void add_softmax_loops(DType t, RowLoops& r);
void add_log_softmax_loops(DType t, RowLoops& r);
void add_softmax_grad_loops(DType t, RowLoops& r);
void add_norm_loops(DType t, RowLoops& r);
void add_norm_grad_loops(DType t, RowLoops& r);

}  // namespace keel::cpu
