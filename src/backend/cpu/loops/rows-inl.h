// What norms of rows and their gradients share.
#if defined(KEEL_CPU_LOOPS_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_ROWS_INL_H_
#undef KEEL_CPU_LOOPS_ROWS_INL_H_
#else
#define KEEL_CPU_LOOPS_ROWS_INL_H_
#endif

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

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

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
