#include "backend/cpu/stat_pass.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/loops/loops.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

/// Elements one behind the other; in blocks that stay in the first cache, for the counts.
void dense(DType t, const std::byte* data, int64_t n, StatSlot& slot) {
  const int64_t bytes = int64_t(size_of(t)), block = (slot.every > 1 ? 1024 : 16384) / bytes, blocks = (n + block - 1) / block;
  const int64_t every = slot.every, first = slot.rotation % every, visits = blocks > first ? (blocks - first + every - 1) / every : 0;
  parallel_for(0, visits, std::max<int64_t>(1, (1 << 18) / (block * bytes)), [&](int64_t lo, int64_t hi) {
    StatSlot::Part part;
    for (int64_t v = lo; v < hi; ++v) {
      const int64_t at = (first + v * every) * block;
      stat_block(t, data + at * bytes, std::min(block, n - at), part);
    }
    slot.merge(part);
  });
}

/// Any strides: the axis with the smallest one inside, in runs where that is 1.
void strided(const TensorView& v, StatSlot& slot) {
  int inner = 0;
  for (int i = 1; i < v.rank(); ++i)
    if (v.dim(i) > 1 && (v.dim(inner) == 1 || std::abs(v.stride(i)) <= std::abs(v.stride(inner)))) inner = i;
  const int64_t bytes = int64_t(size_of(v.dtype)), run = v.dim(inner), step = v.stride(inner);
  StatSlot::Part part;
  int64_t at[kMaxRank] = {};
  const int64_t rows = v.size() / run;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t offset = 0;
    for (int i = 0; i < v.rank(); ++i) offset += at[i] * v.stride(i);
    const auto* p = static_cast<const std::byte*>(v.data) + offset * bytes;
    if (step == 1)
      stat_block(v.dtype, p, run, part);
    else
      for (int64_t k = 0; k < run; ++k) stat_block(v.dtype, p + k * step * bytes, 1, part);
    for (int i = v.rank() - 1; i >= 0; --i) {
      if (i == inner) continue;
      if (++at[i] < v.dim(i)) break;
      at[i] = 0;
    }
  }
  slot.merge(part);
}

}  // namespace

void stat_pass(const TensorView& v, StatSlot& slot) {
  if (!is_inexact(v.dtype)) return;
  const int64_t n = v.size();
  if (n == 0) return;
  if (v.rank() == 0 || is_dense(v.shape(), v.strides()))
    dense(v.dtype, static_cast<const std::byte*>(v.data), n, slot);
  else
    strided(v, slot);
}

}  // namespace keel::cpu
