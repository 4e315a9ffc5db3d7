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

/// Maximum and minimum of u over rows of elements, or, where zeros are left out, the minimum of u - 1 with wrap. Both may look at an
/// element twice, so a row's rest is a whole vector that ends where the row does.
/// Where zeros count, the minimum is taken of floats: integer maxima and minima share one of the two ports that wide vectors have. The
/// result then holds if there is no NaN and the minimum is a normal number; and false comes back, with no result, where no u is above
/// `high_known` or below `low_known`.
template <bool kLeaveZeros, class U>
bool extremes(const U* p, int64_t rows, int64_t cols, int64_t step, U magnitude, U inf, U high_known, U low_known, U& most, U& least) {
  const Tag<U> d;
  constexpr int64_t N = hn::MaxLanes(Tag<U>());
  constexpr int kWays = 4;
  most = 0, least = U(~U(0));
  if (cols < N) {
    for (int64_t i = 0; i < rows; ++i, p += step)
      for (int64_t j = 0; j < cols; ++j) {
        const U u = U(p[j] & magnitude), v = kLeaveZeros ? U(u - 1) : u;
        most = u > most ? u : most, least = v < least ? v : least;
      }
    return true;
  }
  const auto mask = hn::Set(d, magnitude), one = hn::Set(d, U(1));
  const U highest_low = kLeaveZeros || sizeof(U) < 4 ? least : inf;
  Vec<Tag<U>> high[kWays], low[kWays];
  for (int k = 0; k < kWays; ++k) high[k] = hn::Zero(d), low[k] = hn::Set(d, highest_low);
  const auto see = [&](const U* at, int k) HWY_ATTR {
    const auto u = hn::And(hn::LoadU(d, at), mask);
    high[k] = hn::Max(high[k], u);
    if constexpr (kLeaveZeros) {
      low[k] = hn::Min(low[k], hn::Sub(u, one));
    } else if constexpr (sizeof(U) >= 4) {
      const hn::RebindToFloat<Tag<U>> f;
      low[k] = hn::BitCast(d, hn::Min(hn::BitCast(f, u), hn::BitCast(f, low[k])));
    } else {
      low[k] = hn::Min(low[k], u);
    }
  };
  for (int64_t i = 0; i < rows; ++i, p += step) {
    int64_t j = 0;
    for (; j + kWays * N <= cols; j += kWays * N) {
      KEEL_UNROLL for (int k = 0; k < kWays; ++k) see(p + j + k * N, k);
    }
    if (j + N <= cols) see(p + j, 0), j += N;
    if (j + N <= cols) see(p + j, 1), j += N;
    if (j + N <= cols) see(p + j, 2), j += N;
    if (j < cols) see(p + cols - N, 3);
  }
  const auto highest = hn::Max(hn::Max(high[0], high[1]), hn::Max(high[2], high[3]));
  const auto lowest = hn::Min(hn::Min(low[0], low[1]), hn::Min(low[2], low[3]));
  if constexpr (!kLeaveZeros) {
    const auto top = hn::Set(d, high_known), bottom = hn::Set(d, low_known);
    if (hn::AllTrue(d, hn::And(hn::Eq(hn::Max(highest, top), top), hn::Eq(hn::Min(lowest, bottom), bottom)))) return false;
  }
  if constexpr (sizeof(U) == 4) {
    most = hn::GetLane(hn::MaxOfLanes(d, highest)), least = hn::GetLane(hn::MinOfLanes(d, lowest));
  } else {
    HWY_ALIGN U a[N], b[N];
    hn::Store(highest, d, a), hn::Store(lowest, d, b);
    U up = 0, down = U(~U(0));
    for (int64_t k = 0; k < N; ++k) up = std::max(up, a[k]), down = std::min(down, b[k]);
    most = up, least = down;
  }
  return true;
}

/// `rows` rows of `cols` elements, `step` apart.
template <class U>
void scan(const void* y, int64_t rows, int64_t cols, int64_t step, U magnitude, U inf, U min_normal, bool has_inf, StatSlot::Part& part) {
  const U* const p = static_cast<const U*>(y);
  if (rows == 0 || cols == 0) return;
  part.count += uint64_t(rows * cols);
  if (step == cols) cols *= rows, rows = 1;
  U most, least;
  // Most blocks hold normal numbers only; then u itself has the minimum, for an operation less. A block that shows a zero at one of a few
  // places has more of them. And most blocks bring nothing new.
  bool normal = true;
  for (int64_t k = 0; k < 4; ++k) normal = normal && U(p[k * cols >> 2] & magnitude) != 0;
  if (normal) {
    const U high_known = part.max_bits < inf ? U(part.max_bits) : U(inf - 1), low_known = part.min_bits < inf ? U(part.min_bits + 1) : inf;
    if (!extremes<false>(p, rows, cols, step, magnitude, inf, high_known, std::max(low_known, min_normal), most, least)) return;
    normal = least >= min_normal && most <= inf;
    --least;
  }
  if (!normal) extremes<true>(p, rows, cols, step, magnitude, inf, U(0), U(0), most, least);
  if (most >= inf) {
    uint64_t nan = 0, infinite = 0;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) {
        const U u = U(p[i * step + j] & magnitude);
        nan += u > inf, infinite += u == inf;
      }
    part.nan += has_inf ? nan : infinite, part.inf += has_inf ? infinite : 0;
  }
  if (least != U(~U(0)) && U(least + 1) < min_normal) {
    uint64_t subnormal = 0;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) subnormal += U(U(p[i * step + j] & magnitude) - 1) < U(min_normal - 1);
    part.subnormal += subnormal;
  }
  // An all-zero block has no nonzero value; its u - 1 is the widest unsigned value of 64 bits.
  const uint64_t low = least == U(~U(0)) ? ~uint64_t(0) : uint64_t(least);
  if (uint64_t(most) > part.max_bits) part.max_bits = most;
  if (low < part.min_bits) part.min_bits = low;
}
}  // namespace

void stat_scan(DType t, const void* y, int64_t rows, int64_t cols, int64_t step, StatSlot::Part& part) {
  switch (t) {
    case DType::complex128:
      return scan<uint64_t>(y, rows, 2 * cols, 2 * step, 0x7fffffffffffffff, 0x7ff0000000000000, 0x0010000000000000, true, part);
    case DType::f64:
      return scan<uint64_t>(y, rows, cols, step, 0x7fffffffffffffff, 0x7ff0000000000000, 0x0010000000000000, true, part);
    case DType::complex64: return scan<uint32_t>(y, rows, 2 * cols, 2 * step, 0x7fffffff, 0x7f800000, 0x00800000, true, part);
    case DType::f32: return scan<uint32_t>(y, rows, cols, step, 0x7fffffff, 0x7f800000, 0x00800000, true, part);
    case DType::f16: return scan<uint16_t>(y, rows, cols, step, 0x7fff, 0x7c00, 0x0400, true, part);
    case DType::bf16: return scan<uint16_t>(y, rows, cols, step, 0x7fff, 0x7f80, 0x0080, true, part);
    case DType::f8e5m2: return scan<uint8_t>(y, rows, cols, step, 0x7f, 0x7c, 0x04, true, part);
    case DType::f8e4m3fn: return scan<uint8_t>(y, rows, cols, step, 0x7f, 0x7f, 0x08, false, part);
    default: part.count += uint64_t(rows * cols);
  }
}

void sum_scan(const float* a, const float* b, float* y, int64_t n, StatSlot::Part& part) {
  const Tag<float> d;
  const Tag<uint32_t> du;
  constexpr int64_t N = hn::MaxLanes(Tag<float>());
  constexpr int kWays = 4;
  constexpr uint32_t kMagnitude = 0x7fffffff, kInf = 0x7f800000, kMinNormal = 0x00800000;
  const auto mask = hn::Set(du, kMagnitude);
  Vec<Tag<uint32_t>> high[kWays];
  Vec<Tag<float>> low[kWays];
  for (int k = 0; k < kWays; ++k) high[k] = hn::Zero(du), low[k] = hn::BitCast(d, hn::Set(du, kInf));
  const auto add = [&](int64_t i, int k) HWY_ATTR {
    const auto v = hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    hn::StoreU(v, d, y + i);
    const auto u = hn::And(hn::BitCast(du, v), mask);
    high[k] = hn::Max(high[k], u), low[k] = hn::Min(hn::BitCast(d, u), low[k]);
  };
  int64_t i = 0;
  for (; i + kWays * N <= n; i += kWays * N) {
    KEEL_UNROLL for (int k = 0; k < kWays; ++k) add(i + k * N, k);
  }
  for (; i + N <= n; i += N) add(i, 0);
  if (i < n) store_n(hn::Add(load_n(d, a + i, size_t(n - i)), load_n(d, b + i, size_t(n - i))), d, y + i, size_t(n - i));
  const uint32_t high_known = part.max_bits < kInf ? uint32_t(part.max_bits) : kInf - 1,
                 low_known = part.min_bits < kInf ? std::max(uint32_t(part.min_bits + 1), kMinNormal) : kInf;
  const auto highest = hn::Max(hn::Max(high[0], high[1]), hn::Max(high[2], high[3]));
  const auto lowest = hn::BitCast(du, hn::Min(hn::Min(low[0], low[1]), hn::Min(low[2], low[3])));
  const auto top = hn::Set(du, high_known), bottom = hn::Set(du, low_known);
  const bool known = hn::AllTrue(du, hn::And(hn::Eq(hn::Max(highest, top), top), hn::Eq(hn::Min(lowest, bottom), bottom)));
  // What brings something new is looked at once more, and so is the rest that is no whole vector.
  const int64_t from = known ? i : 0;
  part.count += uint64_t(from);
  scan<uint32_t>(y + from, 1, n - from, n - from, kMagnitude, kInf, kMinNormal, true, part);
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
KEEL_SIMD_EXPORT(sum_scan);
KEEL_SIMD_EXPORT(stream_bytes);
void stat_block(DType t, const void* y, int64_t n, StatSlot::Part& part) {
  if (n) KEEL_SIMD(stat_scan)(t, y, 1, n, n, part);
}
void stat_rows(DType t, const void* y, int64_t rows, int64_t cols, int64_t step, StatSlot::Part& part) {
  if (rows && cols) KEEL_SIMD(stat_scan)(t, y, rows, cols, step, part);
}
void add_watched(const float* a, const float* b, float* y, int64_t n, StatSlot::Part& part) {
  if (n) KEEL_SIMD(sum_scan)(a, b, y, n, part);
}
void stream_copy(void* to, const void* from, size_t bytes, const Ahead& ahead) {
  if (bytes) KEEL_SIMD(stream_bytes)(to, from, bytes, ahead);
}
void stream_fence() { hwy::FlushStream(); }
}  // namespace keel::cpu
#endif
