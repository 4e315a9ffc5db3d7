// Philox4x32-10 with one block a 64-bit lane: the products of a round are the even-lane multiplications that every vector unit has, and
// upper halves may hold anything until the end. Two vectors are in flight to cover the latency of the multiplier; about 1.5 cycles a word
// with AVX-512. Box-Muller takes log from math-inl.h, and sine and cosine of whole quarter turns plus a rest in [-1/2, 1/2] from two short
// polynomials, which needs no range reduction.
#include "backend/cpu/loops/random.h"

#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/random.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

using Words = hn::ScalableTag<uint64_t>;
using V = Vec<Words>;

struct Block {
  V c0, c1, c2, c3;
};

HWY_INLINE V wide_product(V a, V b) {
#if HWY_TARGET == HWY_SCALAR
  return V(uint64_t(uint32_t(hn::GetLane(a))) * uint32_t(hn::GetLane(b)));
#else
  const hn::Repartition<uint32_t, Words> d32;
  return hn::MulEven(hn::BitCast(d32, a), hn::BitCast(d32, b));
#endif
}
HWY_INLINE void philox_round(Block& s, V m0, V m1, V k0, V k1) {
  const V a = wide_product(m0, s.c0), b = wide_product(m1, s.c2);
  s.c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(b), s.c1), k0), s.c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(a), s.c3), k1);
  s.c1 = b, s.c3 = a;
}
HWY_INLINE void put_words(const Block& s, uint32_t* to) {
  const Words d;
  const V low = hn::Set(d, uint64_t(0xffffffff));
  hn::StoreInterleaved2(hn::Or(hn::And(s.c0, low), hn::ShiftLeft<32>(s.c1)), hn::Or(hn::And(s.c2, low), hn::ShiftLeft<32>(s.c3)), d,
                        reinterpret_cast<uint64_t*>(to));
}

void philox_words_of(uint64_t seed, uint64_t counter, uint32_t* words, int64_t blocks) {
  const Words d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const V m0 = hn::Set(d, uint64_t(0xD2511F53)), m1 = hn::Set(d, uint64_t(0xCD9E8D57));
  HWY_ALIGN uint32_t rest[4 * 2 * hn::MaxLanes(Words())];
  for (int64_t i = 0; i < blocks; i += 2 * lanes) {
    const V at = hn::Add(hn::Set(d, counter + uint64_t(i)), hn::Iota(d, 0)), next = hn::Add(at, hn::Set(d, uint64_t(lanes)));
    Block s{at, hn::ShiftRight<32>(at), hn::Zero(d), hn::Zero(d)}, t{next, hn::ShiftRight<32>(next), hn::Zero(d), hn::Zero(d)};
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    KEEL_UNROLL
    for (int r = 0; r < 10; ++r) {
      const V a = hn::Set(d, uint64_t(k0)), b = hn::Set(d, uint64_t(k1));
      philox_round(s, m0, m1, a, b), philox_round(t, m0, m1, a, b);
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    const bool whole = i + 2 * lanes <= blocks;
    uint32_t* to = whole ? words + 4 * i : rest;
    put_words(s, to), put_words(t, to + 4 * lanes);
    if (!whole) std::memcpy(words + 4 * i, rest, size_t(blocks - i) * 16);
  }
}

/// Cosine and sine of a quarter turn times x, for 0 <= x < 4.
template <class D>
HWY_INLINE void turn(D d, Vec<D> x, Vec<D>& cosine, Vec<D>& sine) {
  constexpr bool kF32 = sizeof(Lane<D>) == 4;
  const BitsTag<D> du;
  const Vec<D> magic = hn::Set(d, Lane<D>(kF32 ? 0x1.8p23 : 0x1.8p52)), t = hn::Add(x, magic), f = hn::Sub(x, hn::Sub(t, magic)),
               z = hn::Mul(f, f);
  const auto q = hn::BitCast(du, t);
  Vec<D> s, c;
  if constexpr (kF32) {
    s = horner(d, z, 0x1.921fb52f77594p+0, -0x1.4abbb995f4895p-1, 0x1.465ec38e491e3p-4, -0x1.2d9b4039821c9p-8);
    c = horner(d, z, -0x1.3bd3cc989e979p+0, 0x1.03c1e9f5ea607p-2, -0x1.55cb977dede83p-6, 0x1.db6491818873ap-11);
  } else {
    s = horner(d, z, 0x1.921fb54442d18p+0, -0x1.4abbce625be53p-1, 0x1.466bc6775aad9p-4, -0x1.32d2cce62ac22p-8, 0x1.50783485cbd80p-13,
               -0x1.e3074b4ff2a9fp-19, 0x1.e8eed12e97e9cp-25, -0x1.6c5b87471d491p-31);
    c = horner(d, z, -0x1.3bd3cc9be45dep+0, 0x1.03c1f081b5ac4p-2, -0x1.55d3c7e3cbff7p-6, 0x1.e1f506891ae95p-11, -0x1.a6d1f2a086c8ep-16,
               0x1.f9d3870870d95p-22, -0x1.b6de8b8e693aep-28, 0x1.1e745e4e885c2p-34);
  }
  s = hn::Mul(f, s), c = fma(d, z, c, hn::Set(d, Lane<D>(1)));
  constexpr int kTop = int(sizeof(Lane<D>)) * 8 - 2;  // moves bit 1 into the sign
  const auto one = hn::Set(du, Lane<BitsTag<D>>(1)), two = hn::Set(du, Lane<BitsTag<D>>(2));
  const auto odd = hn::RebindMask(d, hn::TestBit(q, one));
  cosine = hn::Xor(hn::IfThenElse(odd, s, c), hn::BitCast(d, hn::ShiftLeft<kTop>(hn::And(hn::Add(q, one), two))));
  sine = hn::Xor(hn::IfThenElse(odd, c, s), hn::BitCast(d, hn::ShiftLeft<kTop>(hn::And(q, two))));
}

void box_muller_f32_of(const uint32_t* words, float* z, int64_t n) {
  const Tag<float> d;
  const BitsTag<Tag<float>> du;
  const IntTag<Tag<float>> di;
  const int64_t step = 2 * int64_t(hn::Lanes(d));
  HWY_ALIGN uint32_t in[2 * hn::MaxLanes(Tag<float>())] = {};
  HWY_ALIGN float out[2 * hn::MaxLanes(Tag<float>())];
  for (int64_t i = 0; i < n; i += step) {
    const bool whole = i + step <= n;
    if (!whole) std::memcpy(in, words + i, size_t(n - i) * 4);
    hn::VFromD<BitsTag<Tag<float>>> a, b;
    hn::LoadInterleaved2(du, whole ? words + i : in, a, b);
    const auto high = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<16>(a))),
               low = hn::ConvertTo(d, hn::BitCast(di, hn::And(a, hn::Set(du, 0xffffu))));
    const auto u = hn::Mul(hn::Add(hn::Add(hn::Mul(high, hn::Set(d, 65536.0f)), low), hn::Set(d, 0.5f)), hn::Set(d, 0x1p-32f));
    const auto r = hn::Sqrt(hn::Mul(math::log(d, u), hn::Set(d, -2.0f)));
    hn::VFromD<Tag<float>> c, s;
    turn(d, hn::Mul(hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<8>(b))), hn::Set(d, 0x1p-22f)), c, s);
    hn::StoreInterleaved2(hn::Mul(r, c), hn::Mul(r, s), d, whole ? z + i : out);
    if (!whole) std::memcpy(z + i, out, size_t(n - i) * 4);
  }
}

/// The upper 52 bits as an exact double.
HWY_INLINE Vec<Tag<double>> upper_bits(Vec<BitsTag<Tag<double>>> w) {
  const Tag<double> d;
  const BitsTag<Tag<double>> du;
  return hn::Sub(hn::BitCast(d, hn::Or(hn::ShiftRight<12>(w), hn::Set(du, uint64_t(0x4330000000000000)))), hn::Set(d, 0x1p52));
}
HWY_INLINE Vec<Tag<double>> open_uniform(Vec<BitsTag<Tag<double>>> w) {
  const Tag<double> d;
  return hn::Mul(hn::Add(upper_bits(w), hn::Set(d, 0.5)), hn::Set(d, 0x1p-52));
}

void box_muller_f64_of(const uint64_t* words, double* z, int64_t n) {
  const Tag<double> d;
  const BitsTag<Tag<double>> du;
  const int64_t step = 2 * int64_t(hn::Lanes(d));
  HWY_ALIGN uint64_t in[2 * hn::MaxLanes(Tag<double>())] = {};
  HWY_ALIGN double out[2 * hn::MaxLanes(Tag<double>())];
  for (int64_t i = 0; i < n; i += step) {
    const bool whole = i + step <= n;
    if (!whole) std::memcpy(in, words + i, size_t(n - i) * 8);
    hn::VFromD<BitsTag<Tag<double>>> a, b;
    hn::LoadInterleaved2(du, whole ? words + i : in, a, b);
    const auto r = hn::Sqrt(hn::Mul(math::log(d, open_uniform(a)), hn::Set(d, -2.0)));
    hn::VFromD<Tag<double>> c, s;
    turn(d, hn::Mul(upper_bits(b), hn::Set(d, 0x1p-50)), c, s);
    hn::StoreInterleaved2(hn::Mul(r, c), hn::Mul(r, s), d, whole ? z + i : out);
    if (!whole) std::memcpy(z + i, out, size_t(n - i) * 8);
  }
}

void exponential_of(const uint64_t* words, double* y, int64_t n) {
  const Tag<double> d;
  const BitsTag<Tag<double>> du;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Neg(math::log(d, open_uniform(hn::LoadU(du, words + i)))), d, y + i);
  if (i < n) store_n(hn::Neg(math::log(d, open_uniform(load_n(du, words + i, size_t(n - i))))), d, y + i, size_t(n - i));
}

void dropout_of(const uint32_t* words, uint32_t threshold, const float* x, float* y, int64_t n, float scale) {
  const Tag<float> d;
  const BitsTag<Tag<float>> du;
  const auto bound = hn::Set(du, threshold);
  const auto by = hn::Set(d, scale);
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto one = [&](auto w, auto v) { return hn::IfThenZeroElse(hn::RebindMask(d, hn::Lt(w, bound)), hn::Mul(v, by)); };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(one(hn::LoadU(du, words + i), hn::LoadU(d, x + i)), d, y + i);
  if (i < n) store_n(one(load_n(du, words + i, size_t(n - i)), load_n(d, x + i, size_t(n - i))), d, y + i, size_t(n - i));
}

}  // namespace

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(philox_words_of);
KEEL_SIMD_EXPORT(box_muller_f32_of);
KEEL_SIMD_EXPORT(box_muller_f64_of);
KEEL_SIMD_EXPORT(exponential_of);
KEEL_SIMD_EXPORT(dropout_of);
void philox_words(uint64_t seed, uint64_t counter, uint32_t* words, int64_t blocks) {
  KEEL_SIMD(philox_words_of)(seed, counter, words, blocks);
}
void box_muller(const uint32_t* words, float* z, int64_t n) { KEEL_SIMD(box_muller_f32_of)(words, z, n); }
void box_muller(const uint64_t* words, double* z, int64_t n) { KEEL_SIMD(box_muller_f64_of)(words, z, n); }
void exponential(const uint64_t* words, double* y, int64_t n) { KEEL_SIMD(exponential_of)(words, y, n); }
void dropout_loop(const uint32_t* words, uint32_t threshold, const float* x, float* y, int64_t n, float scale) {
  KEEL_SIMD(dropout_of)(words, threshold, x, y, n, scale);
}
}  // namespace keel::cpu
#endif
