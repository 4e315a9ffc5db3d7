// What softmax and norms of rows and their gradients share.
#if defined(KEEL_CPU_LOOPS_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_ROWS_INL_H_
#undef KEEL_CPU_LOOPS_ROWS_INL_H_
#else
#define KEEL_CPU_LOOPS_ROWS_INL_H_
#endif

#include "backend/cpu/loops/reduce-inl.h"
#include "backend/cpu/loops/rows.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// Fetches the line that lies as far behind p as `flow` says; where there is none, the line at hand.
template <class T>
HWY_INLINE void fetch(const T* p, RowFlow flow) {
  if (flow.near)
    __builtin_prefetch(p + flow.ahead, 0, 3);
  else
    __builtin_prefetch(p + flow.ahead, 0, 2);
}
/// The same of the lines of kReduceLanes / 2 elements.
template <class T>
HWY_INLINE void fetch_half(const T* p, RowFlow flow) {
  KEEL_UNROLL for (int64_t k = 0; k < kReduceLanes<T> / 2; k += 64 / int64_t(sizeof(T))) fetch(p + k, flow);
}

/// y[i] = f(i) past the caches, for a row of whole lines that begins at one, while `operands` are fetched. Backward, what the pass before
/// read last is met first.
template <bool backward, class T, class F, class... X>
HWY_INLINE void stream_row(T* y, int64_t n, RowFlow flow, F f, X... operands) {
  constexpr int64_t N = hn::MaxLanes(Tag<T>()), kLine = 64 / int64_t(sizeof(T)), kLines = 4 * kLine;
  const auto line = [&](int64_t at) HWY_ATTR {
    const int64_t i = backward ? n - kLine - at : at;
    (fetch(operands + at, flow), ...);
    KEEL_UNROLL for (int64_t k = 0; k < kLine; k += N) hn::Stream(f(i + k), Tag<T>(), y + i + k);
  };
  int64_t at = 0;
  for (; at + kLines <= n; at += kLines) { KEEL_UNROLL for (int64_t k = 0; k < kLines; k += kLine) line(at + k); }
  for (; at < n; at += kLine) line(at);
}

/// A walk over `rows` rows of n columns, `unit` columns a step: all rows of a block of columns, whose vectors of weights stay in L1, then
/// those of the next.
struct BlockWalk {
  static constexpr int64_t kBlock = 512;
  int64_t n, rows, unit, row = 0, column = 0, first = 0;
  HWY_INLINE BlockWalk(int64_t n_, int64_t rows_, int64_t unit_) : n(n_), rows(rows_), unit(unit_) {}
  HWY_INLINE bool more() const { return column < n; }
  HWY_INLINE void step() {
    column += unit;
    if (HWY_LIKELY(column < first + kBlock && column < n)) return;
    if (++row < rows)
      column = first;
    else
      row = 0, column = first += kBlock;
  }
};

/// What goes along with the passes of reduce_two over a row: one(i) for the vectors of the row before, and a later row, which is fetched. A
/// line a call, so that neither loads nor stores of memory come in bursts. n is a multiple of kUnit.
template <class T, class F>
class Along {
 public:
  static constexpr int64_t kUnit = 64 / int64_t(sizeof(T));
  HWY_INLINE Along(const T* x, int64_t n, RowFlow flow, const F& one) : later_(x), n_(n), flow_(flow), one_(one) {}
  HWY_INLINE void next() {
    fetch(later_, flow_), later_ += kUnit;
    some();
  }
  /// The same where the loop reads two lines at x for the first time.
  HWY_INLINE void next(const T* x) {
    if (!flow_.near) fetch_near(x), fetch_near(x + kUnit);
    next();
  }
  HWY_INLINE void some() {
    if (column_ >= n_) return;
    KEEL_UNROLL for (int64_t k = 0; k < kUnit; k += int64_t(hn::MaxLanes(Tag<T>()))) one_(column_ + k);
    column_ += kUnit;
  }
  HWY_INLINE void rest() {
    while (column_ < n_) some();
  }

 private:
  const T* later_;
  int64_t n_, column_ = 0;
  RowFlow flow_;
  const F& one_;
};

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
