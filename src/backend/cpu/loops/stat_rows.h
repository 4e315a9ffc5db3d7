#pragma once
#include <cstdint>

#include "backend/stat_slot.h"
#include "keel/dtype.h"

namespace keel::cpu {

/// As `stat_block` for `rows` rows of `cols` elements, `step` elements apart.
void stat_rows(DType t, const void* y, int64_t rows, int64_t cols, int64_t step, StatSlot::Part& part);

}  // namespace keel::cpu
