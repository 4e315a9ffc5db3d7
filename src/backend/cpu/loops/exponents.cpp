// Exponent counts: places (exponent and fraction in one integer that orders as magnitudes do, subnormals normalised) and keys (row times
// columns plus column) by vectors, then increments one by one. MX blocks are compared with borders that move with their largest place.
#include "backend/cpu/loops/exponents.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/exponents.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class U>
struct Layout {
  using Float = std::conditional_t<sizeof(U) == 8, double, float>;
  using Int = std::make_signed_t<U>;
  static constexpr int kFraction = sizeof(U) == 8 ? 52 : 23, kBias = sizeof(U) == 8 ? 1023 : 127;
  static constexpr int kRowOfOne = kBias + kFraction;  // of the exponent 0
  static constexpr U kInf = U((U(1) << (8 * sizeof(U) - 1 - kFraction)) - 1) << kFraction, kMinNormal = U(1) << kFraction,
                     kUp = U(kFraction) << kFraction, kDown = U(kBias - 1) << kFraction, kBeyond = kInf + kUp, kMask = kMinNormal - 1;
  /// The smallest fraction at `numerator` / 2^`bits` or, where the format has fewer digits, at the last one that is not below.
  static constexpr U border(uint64_t numerator, int bits) {
    if (bits <= kFraction) return U(numerator) << (kFraction - bits);
    return U(((numerator - 1) >> (bits - kFraction)) + 1);
  }
};

template <class U>
void count(const typename Layout<U>::Float* x, int64_t n, U* place, ExponentPart<U>& part) {
  using L = Layout<U>;
  using Float = typename L::Float;
  constexpr U kMagnitude = U(~U(0)) >> 1;
  // Columns begin here; each border is the smallest fraction that lies beyond it.
  constexpr U kBorders[10] = {1,
                              L::border(3, 2),
                              L::border(13, 4) + 1,
                              L::border(7, 3),
                              L::border((1 << 7) - 1, 7),
                              L::border((1 << 8) - 1, 8),
                              L::border((1 << 10) - 1, 10),
                              L::border((1 << 11) - 1, 11),
                              L::border((1 << 23) - 1, 23),
                              L::border((1 << 24) - 1, 24)};
  U keys[kExponentBlock];
  const U* bits = reinterpret_cast<const U*>(x);
  U largest = part.largest, smallest = part.smallest;
  for (int64_t i = 0; i < n; ++i) {
    U u;
    std::memcpy(&u, bits + i, sizeof u);
    u &= kMagnitude;
    const Float as_float = Float(typename L::Int(u < L::kMinNormal ? u : U(0)));
    U low;
    std::memcpy(&low, &as_float, sizeof low);
    low = low ? low - L::kDown : 0;
    const U p = u < L::kMinNormal ? low : u + L::kUp, fraction = p & L::kMask;
    place[i] = p;
    const U finite = p < L::kBeyond ? p : 0;
    largest = largest > finite ? largest : finite;
    const U less = U(finite - 1);
    smallest = smallest < less ? smallest : less;
    U column = 0;
    KEEL_UNROLL for (int k = 0; k < 10; ++k) column += fraction >= kBorders[k];
    keys[i] = (p >> L::kFraction) * U(ExponentPart<U>::kColumns) + column;
  }
  part.largest = largest, part.smallest = smallest;
  int64_t i = 0;
  if constexpr (ExponentPart<U>::kTables == 4)
    for (; i + 4 <= n; i += 4)
      ++part.table[0][keys[i]], ++part.table[1][keys[i + 1]], ++part.table[2][keys[i + 2]], ++part.table[3][keys[i + 3]];
  for (; i < n; ++i) ++part.table[0][keys[i]];
  part.since += n;
}

/// Borders of an 8-bit format as distances from its largest exponent.
template <class U, int kTop, int kFlush, int kSubnormal>
struct Format {
  using L = Layout<U>;
  static constexpr U kLeast = U(-127 + kTop + L::kRowOfOne), kMost = U(127 + kTop + L::kRowOfOne);  // rows that a clamped scale gives
  static constexpr U kZero = U(kTop - kFlush) << L::kFraction, kSmall = U(kTop - kSubnormal) << L::kFraction;
};

template <class U, class F>
HWY_INLINE void block(const U* place, int64_t n, U largest, U over, U normal, bool over_from, bool round_up, int64_t* counts) {
  using L = Layout<U>;
  U row = std::clamp(largest >> L::kFraction, F::kLeast, F::kMost);
  const U beyond = over_from ? over : over + 1;  // the first fraction that overflows
  if (round_up && largest >= (row << L::kFraction) + beyond && row < F::kMost) ++row;
  static_assert((F::kLeast << L::kFraction) > F::kZero);
  const U top = row << L::kFraction, first_over = top + beyond, zero = top - F::kZero, small = top - F::kSmall + normal;
  U o = 0, z = 0, s = 0;
  for (int64_t i = 0; i < n; ++i) {
    const U p = place[i] < L::kBeyond ? place[i] : 0;
    o += p >= first_over, z += U(p - 1) < zero, s += (p > zero) & (p < small);
  }
  counts[0] += int64_t(o), counts[1] += int64_t(z), counts[2] += int64_t(s);
}

template <class U>
HWY_INLINE void one_block(const U* place, int64_t n, bool round_up, int64_t* counts) {
  using L = Layout<U>;
  U largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const U p = place[i] < L::kBeyond ? place[i] : 0;
    largest = largest > p ? largest : p;
  }
  block<U, Format<U, 8, -10, -7>>(place, n, largest, L::border(13, 4), L::border(7, 3), false, round_up, counts);
  block<U, Format<U, 15, -17, -15>>(place, n, largest, L::border(7, 3), L::border(3, 2), true, round_up, counts + 3);
}

template <class U>
void blocks(const U* place, int64_t n, bool round_up, int64_t* counts) {
  for (; n >= 32; n -= 32, place += 32) one_block(place, 32, round_up, counts);
  if (n > 0) one_block(place, n, round_up, counts);
}

}  // namespace

void count32(const float* x, int64_t n, uint32_t* place, ExponentPart<uint32_t>& part) { count<uint32_t>(x, n, place, part); }
void count64(const double* x, int64_t n, uint64_t* place, ExponentPart<uint64_t>& part) { count<uint64_t>(x, n, place, part); }
void blocks32(const uint32_t* place, int64_t n, bool up, int64_t* counts) { blocks(place, n, up, counts); }
void blocks64(const uint64_t* place, int64_t n, bool up, int64_t* counts) { blocks(place, n, up, counts); }

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(count32);
KEEL_SIMD_EXPORT(count64);
KEEL_SIMD_EXPORT(blocks32);
KEEL_SIMD_EXPORT(blocks64);
void count_exponents(const float* x, int64_t n, uint32_t* place, ExponentPart<uint32_t>& part) { KEEL_SIMD(count32)(x, n, place, part); }
void count_exponents(const double* x, int64_t n, uint64_t* place, ExponentPart<uint64_t>& part) { KEEL_SIMD(count64)(x, n, place, part); }
void count_blocks(const uint32_t* place, int64_t n, bool up, int64_t* counts) { KEEL_SIMD(blocks32)(place, n, up, counts); }
void count_blocks(const uint64_t* place, int64_t n, bool up, int64_t* counts) { KEEL_SIMD(blocks64)(place, n, up, counts); }
}  // namespace keel::cpu
#endif
