#pragma once
#include <algorithm>

#include "backend/cpu/loops/loops.h"

namespace keel::cpu {

/// Statistics of rows as they are finished: rows that lie one behind the other go together, as long as they stay in cache. With no slot it
/// does nothing.
class WatchedRows {
 public:
  /// Rows of `n` elements; `stay`: each lies behind the one before, and is still there when the next one is made.
  WatchedRows(DType t, int64_t n, bool stay, StatSlot* slot)
      : t_(t), n_(n), most_(stay ? std::max<int64_t>(1, 2048 / std::max<int64_t>(n, 1)) : 1), slot_(slot) {}
  WatchedRows(const WatchedRows&) = delete;
  ~WatchedRows() {
    if (!slot_) return;
    flush();
    slot_->merge(part_);
  }
  void add(const void* row) {
    if (!slot_) return;
    if (rows_ == 0) first_ = row;
    if (++rows_ == most_) flush();
  }

 private:
  void flush() {
    if (rows_) stat_block(t_, first_, rows_ * n_, part_);
    rows_ = 0;
  }
  DType t_;
  int64_t n_, most_, rows_ = 0;
  StatSlot* slot_;
  const void* first_ = nullptr;
  StatSlot::Part part_;
};

}  // namespace keel::cpu
