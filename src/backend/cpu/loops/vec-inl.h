// Per-target helpers of every raw loop: masked loads and stores for tails, fused multiply-add that is fused on every target, minimum and
// maximum that keep NaN. Written once a Highway target; included after hwy/highway.h and used between HWY_BEFORE_NAMESPACE and
// HWY_AFTER_NAMESPACE.
#if defined(KEEL_CPU_LOOPS_VEC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_VEC_INL_H_
#undef KEEL_CPU_LOOPS_VEC_INL_H_
#else
#define KEEL_CPU_LOOPS_VEC_INL_H_
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

/// 1 where a masked load or store of 4- and 8-byte lanes touches only the lanes under the mask; elsewhere tails go through a buffer.
#undef KEEL_MASKED_MEMORY
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
#define KEEL_MASKED_MEMORY 1
#else
#define KEEL_MASKED_MEMORY 0
#endif

// Unrolls a loop over the few vectors of a block; without vectors there are many, and they stay in memory.
#undef KEEL_UNROLL
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
#define KEEL_UNROLL
#elif defined(__clang__)
#define KEEL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KEEL_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class D>
using Vec = hn::Vec<D>;
template <class D>
using Lane = hn::TFromD<D>;
template <class D>
using IntTag = hn::RebindToSigned<D>;
template <class D>
using BitsTag = hn::RebindToUnsigned<D>;

/// The first `n` lanes from memory, the others zero. n < Lanes(d).
template <class D>
HWY_INLINE Vec<D> load_n(D d, const Lane<D>* p, size_t n) {
  if constexpr (KEEL_MASKED_MEMORY && sizeof(Lane<D>) >= 4 && hn::MaxLanes(D()) * sizeof(Lane<D>) >= 16) {
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);
  } else {
    HWY_ALIGN Lane<D> buffer[hn::MaxLanes(D())] = {};
    std::memcpy(buffer, p, n * sizeof(Lane<D>));
    return hn::Load(d, buffer);
  }
}

/// Writes the first `n` lanes only. n < Lanes(d).
template <class D>
HWY_INLINE void store_n(Vec<D> v, D d, Lane<D>* p, size_t n) {
  if constexpr (KEEL_MASKED_MEMORY && sizeof(Lane<D>) >= 4 && hn::MaxLanes(D()) * sizeof(Lane<D>) >= 16) {
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
  } else {
    HWY_ALIGN Lane<D> buffer[hn::MaxLanes(D())];
    hn::Store(v, d, buffer);
    std::memcpy(p, buffer, n * sizeof(Lane<D>));
  }
}

/// f applied lane by lane, in plain C++.
template <class D, class F>
HWY_INLINE Vec<D> per_lane(D d, Vec<D> x, F f) {
  HWY_ALIGN Lane<D> buffer[hn::MaxLanes(D())];
  hn::Store(x, d, buffer);
  for (size_t i = 0; i < hn::MaxLanes(D()); ++i) buffer[i] = Lane<D>(f(buffer[i]));
  return hn::Load(d, buffer);
}
template <class D, class F>
HWY_INLINE Vec<D> per_lane(D d, Vec<D> x, Vec<D> y, F f) {
  HWY_ALIGN Lane<D> a[hn::MaxLanes(D())], b[hn::MaxLanes(D())];
  hn::Store(x, d, a), hn::Store(y, d, b);
  for (size_t i = 0; i < hn::MaxLanes(D()); ++i) a[i] = Lane<D>(f(a[i], b[i]));
  return hn::Load(d, a);
}

/// a * b + c, rounded once on every target.
template <class D>
HWY_INLINE Vec<D> fma([[maybe_unused]] D d, Vec<D> a, Vec<D> b, Vec<D> c) {
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  HWY_ALIGN Lane<D> x[hn::MaxLanes(D())], y[hn::MaxLanes(D())], z[hn::MaxLanes(D())];
  hn::Store(a, d, x), hn::Store(b, d, y), hn::Store(c, d, z);
  for (size_t i = 0; i < hn::MaxLanes(D()); ++i) x[i] = std::fma(x[i], y[i], z[i]);
  return hn::Load(d, x);
#endif
}
/// c - a * b, rounded once on every target.
template <class D>
HWY_INLINE Vec<D> fnma(D d, Vec<D> a, Vec<D> b, Vec<D> c) {
#if HWY_NATIVE_FMA
  return (void)d, hn::NegMulAdd(a, b, c);
#else
  return fma(d, hn::Neg(a), b, c);
#endif
}

/// min(x, bound) and max(x, bound) where a NaN in x stays.
template <class D>
HWY_INLINE Vec<D> at_most([[maybe_unused]] D d, Vec<D> x, Vec<D> bound) {
#if KEEL_MASKED_MEMORY
  return hn::Min(bound, x);  // minps returns its second operand where one is NaN
#else
  return hn::IfThenElse(hn::Gt(x, bound), bound, x);
#endif
}
template <class D>
HWY_INLINE Vec<D> at_least([[maybe_unused]] D d, Vec<D> x, Vec<D> bound) {
#if KEEL_MASKED_MEMORY
  return hn::Max(bound, x);
#else
  return hn::IfThenElse(hn::Lt(x, bound), bound, x);
#endif
}

template <class D>
HWY_INLINE auto is_nan(D, Vec<D> x) {
  return hn::IsNaN(x);
}
template <class D>
HWY_INLINE Vec<D> nan_of(D d) {
  return hn::Set(d, Lane<D>(__builtin_nan("")));
}
template <class D>
HWY_INLINE Vec<D> inf_of(D d) {
  return hn::Set(d, Lane<D>(__builtin_inf()));
}

/// c0 + x (c1 + x (c2 + ...)).
template <class D>
HWY_INLINE Vec<D> horner(D d, Vec<D>, double c0) {
  return hn::Set(d, Lane<D>(c0));
}
template <class D, class... C>
HWY_INLINE Vec<D> horner(D d, Vec<D> x, double c0, C... c) {
  return fma(d, horner(d, x, c...), x, hn::Set(d, Lane<D>(c0)));
}

/// Whether the two functions that follow round n down themselves, and make nothing of lanes that are not kept.
template <class D>
inline constexpr bool kScaleFloors =
    (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL) && hn::MaxLanes(D()) * sizeof(Lane<D>) == 64;
/// x * 2^n for n = an integer in floating point, rounded once; |n| < 2 bias.
template <class D>
HWY_INLINE Vec<D> scale_pow2(D d, Vec<D> x, Vec<D> n) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (hn::MaxLanes(D()) * sizeof(Lane<D>) == 64) {
    if constexpr (sizeof(Lane<D>) == 4)
      return (void)d, Vec<D>{_mm512_scalef_ps(x.raw, n.raw)};
    else
      return (void)d, Vec<D>{_mm512_scalef_pd(x.raw, n.raw)};
  }
#endif
  constexpr bool kF32 = sizeof(Lane<D>) == 4;
  constexpr int kMantissa = kF32 ? 23 : 52;
  const BitsTag<D> du;
  const auto magic = hn::Set(d, Lane<D>(kF32 ? 0x1.8p23 + 254 : 0x1.8p52 + 2046));
  const auto u = hn::Sub(hn::BitCast(du, hn::Add(n, magic)), hn::BitCast(du, hn::Set(d, Lane<D>(kF32 ? 0x1.8p23 : 0x1.8p52))));
  const auto half = hn::ShiftRight<1>(u), rest = hn::Sub(u, half);
  return hn::Mul(hn::Mul(x, hn::BitCast(d, hn::ShiftLeft<kMantissa>(half))), hn::BitCast(d, hn::ShiftLeft<kMantissa>(rest)));
}

/// The same, and 0 where `kept` is not.
template <class D, class M>
HWY_INLINE Vec<D> scale_pow2_or_zero(D d, M kept, Vec<D> x, Vec<D> n) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (hn::MaxLanes(D()) * sizeof(Lane<D>) == 64) {
    if constexpr (sizeof(Lane<D>) == 4)
      return (void)d, Vec<D>{_mm512_maskz_scalef_ps(kept.raw, x.raw, n.raw)};
    else
      return (void)d, Vec<D>{_mm512_maskz_scalef_pd(kept.raw, x.raw, n.raw)};
  }
#endif
  return hn::IfThenElseZero(kept, scale_pow2(d, x, n));
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
