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
                     kUp = U(kFraction) << kFraction, kDown = U(kBias - 1) << kFraction, kMask = kMinNormal - 1;
  /// The smallest fraction at `numerator` / 2^`bits` or, where the format has fewer digits, at the last one that is not below.
  static constexpr U border(uint64_t numerator, int bits) {
    if (bits <= kFraction) return U(numerator) << (kFraction - bits);
    return U(((numerator - 1) >> (bits - kFraction)) + 1);
  }
};

template <class U>
void count(const typename Layout<U>::Float* x, int64_t n, U* place, ExponentPart<U>& part) {
  using L = Layout<U>;
  using Int = typename L::Int;
  const Tag<U> d;
  const hn::RebindToSigned<Tag<U>> di;
  const hn::RebindToFloat<Tag<U>> df;
  constexpr int64_t N = hn::MaxLanes(Tag<U>());
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
  HWY_ALIGN U keys[kExponentBlock];
  const U* bits = reinterpret_cast<const U*>(x);
  const auto magnitude = hn::Set(d, U(~U(0)) >> 1), down = hn::Set(d, L::kDown), up = hn::Set(d, L::kUp), one = hn::Set(d, U(1));
  const auto min_normal = hn::Set(di, Int(L::kMinNormal)), inf = hn::Set(di, Int(L::kInf));
  const auto mask = hn::Set(d, L::kMask);
  auto largest = hn::Set(d, part.largest), smallest = hn::Set(d, part.smallest);
  for (int64_t i = 0; i < n; i += N) {  // the rest of the last vector is zeros, whose keys nobody reads
    const auto u = hn::And(i + N <= n ? hn::LoadU(d, bits + i) : load_n(d, bits + i, size_t(n - i)), magnitude);
    const auto ui = hn::BitCast(di, u);
    const auto tiny = hn::Lt(ui, min_normal);
    const auto low = hn::BitCast(d, hn::ConvertTo(df, hn::IfThenElseZero(tiny, ui)));
    const auto p = hn::IfThenElse(hn::RebindMask(d, tiny), hn::Sub(hn::Max(low, down), down), hn::Add(u, up));
    const auto finite = hn::IfThenElseZero(hn::RebindMask(d, hn::Lt(ui, inf)), p);
    hn::StoreU(finite, d, place + i);
    largest = hn::Max(largest, finite), smallest = hn::Min(smallest, hn::Sub(finite, one));
    const auto fraction = hn::BitCast(di, hn::And(p, mask)), row = hn::BitCast(di, hn::ShiftRight<L::kFraction>(p));
    auto key = hn::Add(hn::Add(hn::ShiftLeft<3>(row), hn::ShiftLeft<1>(row)), row);
    static_assert(ExponentPart<U>::kColumns == 11);
    KEEL_UNROLL for (int k = 0; k < 10; ++k) key = hn::Sub(key, hn::VecFromMask(di, hn::Gt(fraction, hn::Set(di, Int(kBorders[k] - 1)))));
    hn::StoreU(hn::BitCast(d, key), d, keys + i);
  }
  HWY_ALIGN U high[N], least[N];
  hn::Store(largest, d, high), hn::Store(smallest, d, least);
  for (int64_t k = 0; k < N; ++k) part.largest = std::max(part.largest, high[k]), part.smallest = std::min(part.smallest, least[k]);
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

/// Places from which on a block overflows, up to which it becomes zero, and below which it is subnormal.
template <class U>
struct Borders {
  U over, zero, small;
};
template <class U, class F>
HWY_INLINE Borders<U> borders(U largest, U beyond, U normal, bool round_up) {
  using L = Layout<U>;
  static_assert((F::kLeast << L::kFraction) > F::kZero);
  U row = std::clamp(largest >> L::kFraction, F::kLeast, F::kMost);
  if (round_up && largest >= (row << L::kFraction) + beyond && row < F::kMost) ++row;
  const U top = row << L::kFraction;
  return {top + beyond, top - F::kZero, top - F::kSmall + normal};
}
template <class U>
HWY_INLINE Borders<U> borders_e4m3(U largest, bool round_up) {
  return borders<U, Format<U, 8, -10, -7>>(largest, Layout<U>::border(13, 4) + 1, Layout<U>::border(7, 3), round_up);
}
template <class U>
HWY_INLINE Borders<U> borders_e5m2(U largest, bool round_up) {
  return borders<U, Format<U, 15, -17, -15>>(largest, Layout<U>::border(7, 3), Layout<U>::border(3, 2), round_up);
}

template <class U>
void short_block(const U* place, int64_t n, bool round_up, int64_t* counts) {
  U largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = largest > place[i] ? largest : place[i];
  if (largest == 0) return;
  const Borders<U> both[2] = {borders_e4m3(largest, round_up), borders_e5m2(largest, round_up)};
  for (int k = 0; k < 2; ++k)
    for (int64_t i = 0; i < n; ++i) {
      const U p = place[i];
      counts[3 * k] += p >= both[k].over, counts[3 * k + 1] += p != 0 && p <= both[k].zero;
      counts[3 * k + 2] += p > both[k].zero && p < both[k].small;
    }
}

template <class U>
void blocks(const U* place, int64_t n, bool round_up, int64_t* counts) {
  const Tag<U> d;
  const hn::RebindToSigned<Tag<U>> di;
  using Int = typename Layout<U>::Int;
  constexpr int64_t N = hn::MaxLanes(Tag<U>()), kVectors = 32 / N;
  constexpr U kFlip = U(1) << (8 * sizeof(U) - 1);  // signed comparisons are at hand everywhere
  const auto flip = hn::Set(d, kFlip), one = hn::Set(d, U(1));
  const auto signed_set = [&](U v) HWY_ATTR { return hn::Set(di, Int(v ^ kFlip)); };
  Vec<decltype(di)> sums[6];  // minus how many are: not over, zero, zero or subnormal; twice
  for (auto& s : sums) s = hn::Zero(di);
  const int64_t whole = n / 32;
  for (int64_t b = 0; b < whole; ++b, place += 32) {
    auto most = hn::LoadU(d, place);
    for (int64_t k = 1; k < kVectors; ++k) most = hn::Max(most, hn::LoadU(d, place + k * N));
    HWY_ALIGN U lanes[N];
    hn::Store(most, d, lanes);
    U largest = lanes[0];
    for (int64_t k = 1; k < N; ++k) largest = largest > lanes[k] ? largest : lanes[k];
    const Borders<U> e4m3 = borders_e4m3(largest, round_up), e5m2 = borders_e5m2(largest, round_up);
    const auto over4 = signed_set(e4m3.over), zero4 = signed_set(e4m3.zero), small4 = signed_set(e4m3.small - 1);
    const auto over5 = signed_set(e5m2.over), zero5 = signed_set(e5m2.zero), small5 = signed_set(e5m2.small - 1);
    for (int64_t k = 0; k < kVectors; ++k) {
      const auto v = hn::LoadU(d, place + k * N);
      // One less, so that zeros come out on top of all borders.
      const auto p = hn::BitCast(di, hn::Xor(v, flip)), q = hn::BitCast(di, hn::Xor(hn::Sub(v, one), flip));
      sums[0] = hn::Add(sums[0], hn::VecFromMask(di, hn::Lt(p, over4)));
      sums[1] = hn::Add(sums[1], hn::VecFromMask(di, hn::Lt(q, zero4)));
      sums[2] = hn::Add(sums[2], hn::VecFromMask(di, hn::Lt(q, small4)));
      sums[3] = hn::Add(sums[3], hn::VecFromMask(di, hn::Lt(p, over5)));
      sums[4] = hn::Add(sums[4], hn::VecFromMask(di, hn::Lt(q, zero5)));
      sums[5] = hn::Add(sums[5], hn::VecFromMask(di, hn::Lt(q, small5)));
    }
  }
  int64_t found[6] = {};
  for (int k = 0; k < 6; ++k) {
    HWY_ALIGN Int lanes[N];
    hn::Store(sums[k], di, lanes);
    for (int64_t l = 0; l < N; ++l) found[k] -= int64_t(lanes[l]);
  }
  for (int k = 0; k < 6; k += 3)
    counts[k] += 32 * whole - found[k], counts[k + 1] += found[k + 1], counts[k + 2] += found[k + 2] - found[k + 1];
  if (n % 32) short_block(place, n % 32, round_up, counts);
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
