// The monitor's two integer reductions over one block, and copies past the caches. With u the bits without sign: the maximum of u and the
// minimum of u - 1, as unsigned integers; order does not matter. The compiler vectorises the loops. A second pass counts, only where the
// extremes show that there is something to count.
#include <algorithm>

#include "backend/cpu/loops/stat_rows.h"
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/stats.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class U>
void scan(const void* y, int64_t n, U magnitude, U inf, U min_normal, bool has_inf, StatSlot::Part& part) {
  const U* p = static_cast<const U*>(y);
  U most = 0, least = U(~U(0));
  if (n == 0) return;
  const auto without_zeros = [&] {
    for (int64_t i = 0; i < n; ++i) {
      const U v = U(U(p[i] & magnitude) - 1);
      least = v < least ? v : least;
    }
  };
  // Most blocks hold no zero; then u itself has the minimum, for an operation less. A block that begins with a zero has more of them.
  if (U(p[0] & magnitude) != 0) {
    for (int64_t i = 0; i < n; ++i) {
      const U u = U(p[i] & magnitude);
      most = u > most ? u : most;
      least = u < least ? u : least;
    }
    if (least != 0)
      --least;
    else
      least = U(~U(0)), without_zeros();
  } else {
    for (int64_t i = 0; i < n; ++i) {
      const U u = U(p[i] & magnitude), v = U(u - 1);
      most = u > most ? u : most;
      least = v < least ? v : least;
    }
  }
  if (most >= inf) {
    uint64_t nan = 0, infinite = 0;
    for (int64_t i = 0; i < n; ++i) {
      const U u = U(p[i] & magnitude);
      nan += u > inf, infinite += u == inf;
    }
    part.nan += has_inf ? nan : infinite, part.inf += has_inf ? infinite : 0;
  }
  if (least != U(~U(0)) && U(least + 1) < min_normal) {
    uint64_t subnormal = 0;
    for (int64_t i = 0; i < n; ++i) subnormal += U(U(p[i] & magnitude) - 1) < U(min_normal - 1);
    part.subnormal += subnormal;
  }
  // An all-zero block has no nonzero value; its u - 1 is the widest unsigned value of 64 bits.
  const uint64_t low = least == U(~U(0)) ? ~uint64_t(0) : uint64_t(least);
  if (uint64_t(most) > part.max_bits) part.max_bits = most;
  if (low < part.min_bits) part.min_bits = low;
  part.count += uint64_t(n);
}
/// `rows` rows of `cols` elements, `step` apart: one reduction at the end instead of one a row.
template <class U>
void scan_rows(const void* y, int64_t rows, int64_t cols, int64_t step, U magnitude, U inf, U min_normal, bool has_inf,
               StatSlot::Part& part) {
  const U* p = static_cast<const U*>(y);
  const hn::ScalableTag<U> d;
  const int64_t lanes = int64_t(hn::Lanes(d)), whole = cols - cols % (2 * lanes);
  const auto mask = hn::Set(d, magnitude), one = hn::Set(d, U(1));
  auto most0 = hn::Zero(d), most1 = most0, least0 = hn::Set(d, U(~U(0))), least1 = least0;
  for (int64_t i = 0; i < rows; ++i, p += step) {
    for (int64_t j = 0; j < whole; j += 2 * lanes) {
      const auto u = hn::And(hn::LoadU(d, p + j), mask), v = hn::And(hn::LoadU(d, p + j + lanes), mask);
      most0 = hn::Max(most0, u), least0 = hn::Min(least0, hn::Sub(u, one));
      most1 = hn::Max(most1, v), least1 = hn::Min(least1, hn::Sub(v, one));
    }
    if (whole < cols) scan<U>(p + whole, cols - whole, magnitude, inf, min_normal, has_inf, part);
  }
  if (whole == 0) return;
  HWY_ALIGN U highest[hn::MaxLanes(d)], lowest[hn::MaxLanes(d)];
  hn::Store(hn::Max(most0, most1), d, highest), hn::Store(hn::Min(least0, least1), d, lowest);
  U most = 0, least = U(~U(0));
  for (int64_t k = 0; k < lanes; ++k) most = std::max(most, highest[k]), least = std::min(least, lowest[k]);
  if (most >= inf || (least != U(~U(0)) && U(least + 1) < min_normal)) {  // something to count
    p = static_cast<const U*>(y);
    for (int64_t i = 0; i < rows; ++i, p += step) scan<U>(p, whole, magnitude, inf, min_normal, has_inf, part);
    return;
  }
  const uint64_t low = least == U(~U(0)) ? ~uint64_t(0) : uint64_t(least);
  if (uint64_t(most) > part.max_bits) part.max_bits = most;
  if (low < part.min_bits) part.min_bits = low;
  part.count += uint64_t(rows * whole);
}
}  // namespace

void stat_scan_rows(DType t, const void* y, int64_t rows, int64_t cols, int64_t step, StatSlot::Part& part) {
  switch (t) {
    case DType::f64:
      return scan_rows<uint64_t>(y, rows, cols, step, 0x7fffffffffffffff, 0x7ff0000000000000, 0x0010000000000000, true, part);
    case DType::f32: return scan_rows<uint32_t>(y, rows, cols, step, 0x7fffffff, 0x7f800000, 0x00800000, true, part);
    case DType::f16: return scan_rows<uint16_t>(y, rows, cols, step, 0x7fff, 0x7c00, 0x0400, true, part);
    default: return scan_rows<uint16_t>(y, rows, cols, step, 0x7fff, 0x7f80, 0x0080, true, part);  // bf16
  }
}

void stat_scan(DType t, const void* y, int64_t n, StatSlot::Part& part) {
  switch (t) {
    case DType::complex128: return scan<uint64_t>(y, 2 * n, 0x7fffffffffffffff, 0x7ff0000000000000, 0x0010000000000000, true, part);
    case DType::f64: return scan<uint64_t>(y, n, 0x7fffffffffffffff, 0x7ff0000000000000, 0x0010000000000000, true, part);
    case DType::complex64: return scan<uint32_t>(y, 2 * n, 0x7fffffff, 0x7f800000, 0x00800000, true, part);
    case DType::f32: return scan<uint32_t>(y, n, 0x7fffffff, 0x7f800000, 0x00800000, true, part);
    case DType::f16: return scan<uint16_t>(y, n, 0x7fff, 0x7c00, 0x0400, true, part);
    case DType::bf16: return scan<uint16_t>(y, n, 0x7fff, 0x7f80, 0x0080, true, part);
    case DType::f8e5m2: return scan<uint8_t>(y, n, 0x7f, 0x7c, 0x04, true, part);
    case DType::f8e4m3fn: return scan<uint8_t>(y, n, 0x7f, 0x7f, 0x08, false, part);
    default: part.count += uint64_t(n);
  }
}

void stream_bytes(void* to_, const void* from_, size_t bytes, const Ahead& ahead) {
  uint8_t* to = static_cast<uint8_t*>(to_);
  const uint8_t* from = static_cast<const uint8_t*>(from_);
  const hn::ScalableTag<uint32_t> d;
  constexpr size_t kStep = hn::MaxLanes(hn::ScalableTag<uint32_t>()) * 4;
  constexpr size_t kLine = kStep > 64 ? kStep : 64;  // whole lines only
  const size_t head = (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine;
  if (bytes < head + kLine) {
    std::memcpy(to, from, bytes);
    return;
  }
  std::memcpy(to, from, head);
  size_t i = head;
  if (reinterpret_cast<uintptr_t>(from + head) % 4 == 0) {
    for (; i + kLine <= bytes; i += kLine) {
      for (int k = 0; k < ahead.n; ++k) __builtin_prefetch(static_cast<const uint8_t*>(ahead.at[k]) + i, 0, 3);
      for (size_t k = i; k < i + kLine; k += kStep)
        hn::Stream(hn::LoadU(d, reinterpret_cast<const uint32_t*>(from + k)), d, reinterpret_cast<uint32_t*>(to + k));
    }
  }
  std::memcpy(to + i, from + i, bytes - i);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "hwy/cache_control.h"
namespace keel::cpu {
KEEL_SIMD_EXPORT(stat_scan);
KEEL_SIMD_EXPORT(stat_scan_rows);
KEEL_SIMD_EXPORT(stream_bytes);
void stat_block(DType t, const void* y, int64_t n, StatSlot::Part& part) {
  if (n) KEEL_SIMD(stat_scan)(t, y, n, part);
}
void stat_rows(DType t, const void* y, int64_t rows, int64_t cols, int64_t step, StatSlot::Part& part) {
  if (rows && cols) KEEL_SIMD(stat_scan_rows)(t, y, rows, cols, step, part);
}
void stream_copy(void* to, const void* from, size_t bytes, const Ahead& ahead) {
  if (bytes) KEEL_SIMD(stream_bytes)(to, from, bytes, ahead);
}
void stream_fence() { hwy::FlushStream(); }
}  // namespace keel::cpu
#endif
