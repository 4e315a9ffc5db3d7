#pragma once
// Functions of whole contiguous rows in f32 or f64: softmax and its relatives, cross entropy, layer and RMS norm. Sums run in the order of
// reduce-inl.h, exp and log are those of math-inl.h, so a row gives the same bits alone, in any batch, on any thread and instruction set.
#include <cstdint>

#include "keel/dtype.h"

namespace keel::cpu {

inline constexpr int64_t kGradRows = 4;

/// How a row meets memory. `ahead`: elements to a later row of every operand, which is fetched meanwhile, into L2 only where rows are
/// `wide`, and where `late` along with the pass that writes; 0: none. `stream`: the result leaves past the caches; the caller ends with
/// stream_fence.
struct RowFlow {
  int64_t ahead = 0;
  bool wide = false, stream = false, late = false;
  bool last = false;  // no row lies behind this one
};

/// A row that is computed but for its last pass, which goes along with the next row's, so that arithmetic and stores past the caches do not
/// take turns: y = from scale, (from - shift) - scale, (from - shift) scale weight + bias, or a gradient of `from` and `other` whose sum is
/// `scale`.
struct PendingRow {
  const void* from = nullptr;
  void* y = nullptr;
  double shift = 0, scale = 0;
  const void* other = nullptr;
  bool looked = false;  // `next` is the largest element of the row that comes next
  double next = 0;
};
/// Rows of a norm's gradient of which both sums are known, but for their last pass.
struct PendingGrad {
  int64_t rows = 0;
  const void *g = nullptr, *x = nullptr, *mean = nullptr, *rstd = nullptr;
  void *dx = nullptr, *dweight = nullptr, *dbias = nullptr;
  double total[kGradRows] = {}, share[kGradRows] = {};
};

struct RowLoops {
  /// y = exp(x - max) / sum; y may be x. `scratch` holds n elements; without streaming it may be y. With `pending`, which asks for
  /// streaming, rows aligned to 64 bytes and the same scratch for every row, writes what was pending and leaves this row so; `flush` ends
  /// it.
  void (*softmax)(const void* x, void* y, void* scratch, int64_t n, RowFlow flow, PendingRow* pending);
  void (*softmax_flush)(const PendingRow& pending, int64_t n);
  /// y = (x - max) - log(sum(exp(x - max))); `pending` as above, without scratch.
  void (*log_softmax)(const void* x, void* y, int64_t n, RowFlow flow, PendingRow* pending);
  void (*log_softmax_flush)(const PendingRow& pending, int64_t n);
  /// dx = y (g - sum(g y)); `pending` as above, without scratch.
  void (*softmax_grad)(const void* g, const void* y, void* dx, int64_t n, RowFlow flow, PendingRow* pending);
  void (*softmax_grad_flush)(const PendingRow& pending, int64_t n);
  /// dx = g - exp(y) sum(g); `pending` as above.
  void (*log_softmax_grad)(const void* g, const void* y, void* dx, int64_t n, RowFlow flow, PendingRow* pending);
  void (*log_softmax_grad_flush)(const PendingRow& pending, int64_t n);
  /// out[0] = max, out[1] = log(sum(exp(x - max))), out[2] = sum(x - max) where `want_sum`. A row of -inf has max -inf and log-sum 0.
  void (*log_sum_exp)(const void* x, int64_t n, bool want_sum, void* out);
  /// sum of t ((x - top) - log_sum), with target probabilities t.
  void (*weighted)(const void* x, const void* t, int64_t n, double top, double log_sum, void* out);
  /// dx = g (exp(x - lse) - rest), and at `target` (where >= 0) g (exp(x - lse) - rest - peak).
  void (*cross_entropy_grad)(const void* x, void* dx, int64_t n, double lse, double g, int64_t target, double peak, double rest);
  /// y = (x - mean) rstd weight + bias; weight and bias may be null. Writes mean and rstd where they are not null. `pending` as above.
  void (*layer_norm)(const void* x, const void* weight, const void* bias, void* y, int64_t n, double eps, void* mean, void* rstd,
                     RowFlow flow, PendingRow* pending);
  void (*layer_norm_flush)(const PendingRow& pending, const void* weight, const void* bias, int64_t n);
  /// The same without mean and bias: y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps). `pending` as above, its scale is rstd.
  void (*rms_norm)(const void* x, const void* weight, void* y, int64_t n, double eps, void* rstd, RowFlow flow, PendingRow* pending);
  void (*rms_norm_flush)(const PendingRow& pending, const void* weight, int64_t n);
  /// dx (may be null) of up to kGradRows rows that lie one after the other, and dweight += g normal, dbias += g (either may be null), row
  /// by row. `mean` null: RMS norm. `pending`, which asks for dx, streaming and rows aligned to 64 bytes: as above.
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
