#pragma once
#include <cstdint>

#include "backend/stat_slot.h"
#include "keel/dtype.h"

namespace keel::cpu {

/// As `stat_block` for `rows` rows of `cols` elements, `step` elements apart.
void stat_rows(DType t, const void* y, int64_t rows, int64_t cols, int64_t step, StatSlot::Part& part);

/// y = a + b, and what `stat_block` says of y; `y` may be `a` or `b`. The sum waits for memory, so that the statistics cost next to nothing.
void add_watched(const float* a, const float* b, float* y, int64_t n, StatSlot::Part& part);

/// StatSlot::merge where no other thread can be at it: a locked operation would wait for every store that the kernel has under way.
inline void merge_alone(StatSlot& slot, const StatSlot::Part& p) {
  const auto add = [](std::atomic<uint64_t>& a, uint64_t n) {
    if (n) a.store(a.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  };
  if (p.max_bits > slot.max_bits.load(std::memory_order_relaxed)) slot.max_bits.store(p.max_bits, std::memory_order_relaxed);
  if (p.min_bits < slot.min_bits.load(std::memory_order_relaxed)) slot.min_bits.store(p.min_bits, std::memory_order_relaxed);
  add(slot.count, p.count), add(slot.nan, p.nan), add(slot.inf, p.inf), add(slot.subnormal, p.subnormal);
}

}  // namespace keel::cpu
