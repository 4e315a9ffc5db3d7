#pragma once
// What the rows of attention and their kernels share.
#include <cmath>

#include "keel/ops/attention.h"

namespace keel {

/// The factor of q k.
inline double attention_scale(const AttentionParams& p, int64_t width) {
  return p.scale != 0 ? p.scale : 1 / std::sqrt(double(width > 0 ? width : 1));
}

}  // namespace keel
