#include "backend/cpu/stat_pass.h"

#include <algorithm>
#include <cstring>

#include "keel/parallel.h"

namespace keel::cpu {
namespace {

/// Bit patterns that bound the classes of one format.
struct Format {
  uint64_t magnitude, inf, min_normal;
};
Format format_of(DType t) {
  switch (t) {
    case f64: case complex128: return {0x7fffffffffffffff, 0x7ff0000000000000, 0x0010000000000000};
    case f32: case complex64: return {0x7fffffff, 0x7f800000, 0x00800000};
    case f16: return {0x7fff, 0x7c00, 0x0400};
    case bf16: return {0x7fff, 0x7f80, 0x0080};
    case f8e5m2: return {0x7f, 0x7c, 0x04};
    case f8e4m3fn: return {0x7f, 0x7f, 0x08};  // 0x7f is NaN; there is no infinity, so it is told apart below
    default: return {0, 0, 0};
  }
}

template <class U>
void scan(const std::byte* p, int64_t n, int64_t step, const Format& f, bool has_inf, StatSlot::Part& part) {
  uint64_t m = part.max_bits, least = part.min_bits;
  for (int64_t i = 0; i < n; ++i) {
    U raw;
    std::memcpy(&raw, p + i * step, sizeof raw);
    const uint64_t u = raw & f.magnitude;
    m = std::max(m, u), least = std::min(least, u - 1);
    if (u >= f.inf) {
      if (u > f.inf || !has_inf) ++part.nan;
      else ++part.inf;
    } else if (u && u < f.min_normal) {
      ++part.subnormal;
    }
  }
  part.max_bits = m, part.min_bits = least, part.count += uint64_t(n);
}

}  // namespace

void stat_pass(const TensorView& v, StatSlot& slot) {
  if (!is_inexact(v.dtype)) return;
  const Format f = format_of(v.dtype);
  const bool has_inf = v.dtype != f8e4m3fn;
  const int64_t parts = is_complex(v.dtype) ? 2 : 1, bytes = int64_t(size_of(v.dtype)), width = bytes / parts;
  const int64_t n = v.size();
  if (n == 0) return;
  // Results of kernels are dense, whatever the order of axes, so one flat walk sees every element once.
  parallel_for(0, n * parts, 1 << 16, [&](int64_t lo, int64_t hi) {
    StatSlot::Part part;
    const std::byte* p = static_cast<const std::byte*>(v.data) + lo * width;
    if (width == 8) scan<uint64_t>(p, hi - lo, 8, f, has_inf, part);
    else if (width == 4) scan<uint32_t>(p, hi - lo, 4, f, has_inf, part);
    else if (width == 2) scan<uint16_t>(p, hi - lo, 2, f, has_inf, part);
    else scan<uint8_t>(p, hi - lo, 1, f, has_inf, part);
    slot.merge(part);
  });
}

}  // namespace keel::cpu
