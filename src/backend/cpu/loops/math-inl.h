// Vector functions: one source for elementwise kernels, softmax, norms, attention and GEMM epilogues, so that fused and unfused code give
// the same bits. Every function is built of correctly rounded operations and explicit FMA only, and a lane never looks at its neighbours:
// the bits of f(x) are the same on every target, at every position, for every n. Algorithms: exp by round-to-nearest reduction modulo ln 2
// (f64) or ln 2 / 16 (f32) in two parts and a minimax polynomial; log by a mantissa in [2/3, 4/3) (f32) or [sqrt 1/2, sqrt 2) (f64,
// s = f/(2+f)); tanh and sigmoid of f32 by a polynomial for each of 16 pieces, tanh of f64 and sinh from exp; erf by an odd polynomial and
// 1 - exp(polynomial) (f32), or Taylor steps from a table with spacing 1/64 (f64); sin and cos by a three-part reduction modulo pi/2, with
// libm for |x| >= 2^20. Coefficients: tools/math_coefficients.sollya, tools/math_pieces.py. Largest errors over all inputs:
// docs/numerics/ulp.md.
#if defined(KEEL_CPU_LOOPS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_MATH_INL_H_
#undef KEEL_CPU_LOOPS_MATH_INL_H_
#else
#define KEEL_CPU_LOOPS_MATH_INL_H_
#endif

#include "backend/cpu/loops/math_pieces.h"
#include "backend/cpu/loops/math_tables.h"
#include "backend/cpu/loops/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE::math {

template <class D>
inline constexpr bool kIsF32 = sizeof(Lane<D>) == 4;
template <class D>
HWY_INLINE Vec<D> num(D d, double v) {
  return hn::Set(d, Lane<D>(v));
}

/// table[i] of the piece i that the low four bits of `at` name. `table` is aligned to 64 bytes.
template <class D>
HWY_INLINE Vec<D> piece(D d, Vec<D> at, const float* table) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (hn::MaxLanes(D()) == 16)
    return (void)d, Vec<D>{_mm512_permutexvar_ps(_mm512_castps_si512(at.raw), _mm512_load_ps(table))};
#elif HWY_TARGET == HWY_AVX2
  if constexpr (hn::MaxLanes(D()) == 8) {
    const __m256i i = _mm256_castps_si256(at.raw);
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(table), i), high = _mm256_permutevar8x32_ps(_mm256_load_ps(table + 8), i);
    return (void)d, Vec<D>{_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)))};
  }
#endif
  HWY_ALIGN uint32_t i[hn::MaxLanes(D())];
  HWY_ALIGN float y[hn::MaxLanes(D())];
  hn::Store(hn::BitCast(BitsTag<D>(), at), BitsTag<D>(), i);
  for (size_t k = 0; k < hn::MaxLanes(D()); ++k) y[k] = table[i[k] & 15];
  return hn::Load(d, y);
}
/// The polynomials of the pieces that `at` names.
template <int degree, class D>
HWY_INLINE Vec<D> pieces(D d, Vec<D> at, Vec<D> u, const Pieces<degree>& p) {
  const Vec<D> t = hn::Sub(u, piece(d, at, p.centre));
  Vec<D> y = piece(d, at, p.c[degree]);
  KEEL_UNROLL for (int k = degree - 1; k >= 0; --k) y = fma(d, y, t, piece(d, at, p.c[k]));
  return y;
}
/// Pieces by round(u (scale u + shift)), evenly where scale stands alone.
template <int degree, class D>
HWY_INLINE Vec<D> even_pieces(D d, Vec<D> u, const Pieces<degree>& p) {
  return pieces(d, fma(d, u, num(d, p.scale), num(d, 0x1.8p23)), u, p);
}
template <int degree, class D>
HWY_INLINE Vec<D> bent_pieces(D d, Vec<D> u, const Pieces<degree>& p) {
  return pieces(d, fma(d, u, fma(d, u, num(d, p.scale), num(d, p.shift)), num(d, 0x1.8p23)), u, p);
}
/// `near` where u is within reach of the pieces, far() where it is not, which is seldom.
template <class D, class F>
HWY_INLINE Vec<D> or_far(D d, Vec<D> u, double reach, Vec<D> near, F far) {
  const auto beyond = hn::Gt(u, num(d, reach));
  if (HWY_LIKELY(hn::AllFalse(d, beyond))) return near;
  return hn::IfThenElse(beyond, far(), near);
}

/// x = n ln 2 + r with n an integer and |r| <= ln(2)/2; |x| < 2^21.
template <class D>
HWY_INLINE void reduce_ln2(D d, Vec<D> x, Vec<D>& n, Vec<D>& r) {
  const Vec<D> magic = num(d, kIsF32<D> ? 0x1.8p23 : 0x1.8p52);
  n = hn::Sub(fma(d, x, num(d, 0x1.71547652b82fep0), magic), magic);
  if constexpr (kIsF32<D>) {
    r = fnma(d, n, num(d, 0x1.62e43p-1), x);
    r = fnma(d, n, num(d, -0x1.05c610ca86c39p-29), r);
  } else {
    r = fnma(d, n, num(d, 0x1.62e42fefa39efp-1), x);
    r = fnma(d, n, num(d, 0x1.abc9e3b39803fp-56), r);
  }
}

/// (e^r - 1 - r) / r^2 for |r| <= ln(2)/2.
template <class D>
HWY_INLINE Vec<D> exp_curve(D d, Vec<D> r) {
  if constexpr (kIsF32<D>)
    return horner(d, r, 0x1.fffffap-2, 0x1.555492p-3, 0x1.555a26p-5, 0x1.12398p-7, 0x1.694ca6p-10);
  else
    return horner(d, r, 0x1p-1, 0x1.555555555555cp-3, 0x1.5555555555544p-5, 0x1.111111110ea06p-7, 0x1.6c16c16c1e5bdp-10,
                  0x1.a01a01b43e1c9p-13, 0x1.a01a017d48c66p-16, 0x1.71ddee863632bp-19, 0x1.27e5339dbae4cp-22, 0x1.af6e5bd233d8fp-26,
                  0x1.1eed10ba3ff62p-29);
}

/// e^r for |r| <= ln(2)/2.
template <class D>
HWY_INLINE Vec<D> exp_poly(D d, Vec<D> r) {
  return hn::Add(fma(d, hn::Mul(r, r), exp_curve(d, r), r), num(d, 1));
}

/// e^x 2^k for a small integer k: never overflows before the result does. `bounded`: x is at most 88, or NaN.
template <int k, bool bounded = false, class D>
HWY_INLINE Vec<D> exp_scaled(D d, Vec<D> x) {
  // Below, the result rounds to 0; made by arithmetic, it would underflow on the way, which costs processors some hundred cycles.
  const auto positive = hn::Not(hn::Lt(x, num(d, kIsF32<D> ? -104 : -746)));  // NaN stays
  const Vec<D> c = hn::IfThenElseZero(positive, bounded ? x : at_most(d, x, num(d, kIsF32<D> ? 90 : 712)));
  Vec<D> n, r;
  reduce_ln2(d, c, n, r);
  if constexpr (k != 0) n = hn::Add(n, num(d, k));
  return scale_pow2_or_zero(d, positive, exp_poly(d, r), n);
}

/// e^x = base (1 + share) 2^n, none of it rounded to the result yet.
template <class D>
struct Power {
  Vec<D> base, share, n;
};
/// e^(x + low) for |x| < 2^10 and a `low` far below it, or none. f32: n counts sixteenths, whose four bits are the index of a table.
template <class D, class... Low>
HWY_INLINE Power<D> power(D d, Vec<D> x, Low... low) {
  if constexpr (kIsF32<D>) {
    const Vec<D> magic = num(d, 0x1.8p19), at = fma(d, x, num(d, 0x1.71547652b82fep0), magic), n = hn::Sub(at, magic);
    Vec<D> r = fnma(d, n, num(d, -0x1.05c610ca86c39p-29), fnma(d, n, num(d, 0x1.62e43p-1), x));
    ((r = hn::Add(r, low)), ...);
    const Vec<D> share = horner(d, r, kExpTerms[0], kExpTerms[1], kExpTerms[2], kExpTerms[3]);
    return {piece(d, at, kExpTable), share, kScaleFloors<D> ? n : hn::Floor(n)};
  } else {
    Vec<D> n, r;
    reduce_ln2(d, x, n, r);
    ((r = hn::Add(r, low)), ...);
    return {num(d, 1), fma(d, hn::Mul(r, r), exp_curve(d, r), r), n};
  }
}
template <class D>
HWY_INLINE Vec<D> rounded(D d, const Power<D>& e) {
  return scale_pow2(d, fma(d, e.base, e.share, e.base), e.n);
}
/// a e^x (1 - less), rounded about once however small e^x alone may be.
template <class D>
HWY_INLINE Vec<D> times_power(D d, Vec<D> a, const Power<D>& e, Vec<D> less) {
  const Vec<D> p = hn::Mul(a, e.base), low = fma(d, p, e.share, fma(d, a, e.base, hn::Neg(p)));
  return scale_pow2(d, hn::Add(p, fnma(d, p, less, fnma(d, low, less, low))), e.n);
}

/// e^x, `bounded` as above.
template <bool bounded, class D>
HWY_INLINE Vec<D> exp_of(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    const auto positive = hn::Not(hn::Lt(x, num(d, -104)));
    // Of -infinity, which masks are made of, arithmetic would make NaN on the way and raise the flag that the monitor asks for.
    const Power<D> e = power(d, hn::IfThenElseZero(positive, bounded ? x : at_most(d, x, num(d, 90))));
    return scale_pow2_or_zero(d, positive, fma(d, e.base, e.share, e.base), e.n);
  } else {
    return exp_scaled<0, bounded>(d, x);
  }
}

/// e^x. Overflows to infinity, underflows through the subnormals to 0.
template <class D>
HWY_INLINE Vec<D> exp(D d, Vec<D> x) {
  return exp_of<false>(d, x);
}

/// The same bits for x <= 88, in fewer instructions.
template <class D>
HWY_INLINE Vec<D> exp_bounded(D d, Vec<D> x) {
  return exp_of<true>(d, x);
}

/// e^r - 1 for |r| <= ln(2)/2.
template <class D>
HWY_INLINE Vec<D> expm1_poly(D d, Vec<D> r) {
  if constexpr (kIsF32<D>) {
    return fma(d, hn::Mul(r, r), horner(d, r, 0x1p-1, 0x1.555554p-3, 0x1.5554fp-5, 0x1.111306p-7, 0x1.6d436ap-10, 0x1.9e0bfep-13), r);
  } else {
    const Vec<D> q = horner(d, r, 0x1p-1, 0x1.5555555555555p-3, 0x1.5555555555557p-5, 0x1.1111111111307p-7, 0x1.6c16c16c1578p-10,
                            0x1.a01a019f16bbp-13, 0x1.a01a01ab11fa9p-16, 0x1.71de3e26cf5b3p-19, 0x1.27e4d1499e731p-22, 0x1.ae56dfa3c331p-26,
                            0x1.1f83d757807ffp-29, 0x1.7361d785ada44p-33);
    return fma(d, hn::Mul(r, r), q, r);
  }
}

/// 2^n for an integer in the normal range of exponents.
template <class D>
HWY_INLINE Vec<D> pow2(D d, Vec<D> n) {
  constexpr int kMantissa = kIsF32<D> ? 23 : 52;
  const BitsTag<D> du;
  return hn::BitCast(d, hn::ShiftLeft<kMantissa>(hn::BitCast(du, hn::Add(n, num(d, kIsF32<D> ? 0x1p23 + 127 : 0x1p52 + 1023)))));
}

/// e^x - 1, accurate near 0.
template <class D>
HWY_INLINE Vec<D> expm1(D d, Vec<D> x) {
  const Vec<D> c = at_least(d, at_most(d, x, num(d, kIsF32<D> ? 89 : 710)), num(d, -44));
  Vec<D> n, r;
  reduce_ln2(d, c, n, r);
  const Vec<D> half = pow2(d, hn::Sub(n, num(d, 1)));
  const Vec<D> y = fma(d, expm1_poly(d, r), half, hn::Sub(half, num(d, 0.5)));
  return hn::IfThenElse(hn::Lt(hn::Abs(x), num(d, kIsF32<D> ? 0x1p-26 : 0x1p-55)), x, hn::Add(y, y));
}

/// log(1 + f) for f in [-1/3, 1/3] (f32) or [sqrt(1/2) - 1, sqrt(2) - 1] (f64), plus e ln 2.
template <class D>
HWY_INLINE Vec<D> log_reduced(D d, Vec<D> f, Vec<D> e) {
  if constexpr (kIsF32<D>) {
    const Vec<D> q = horner(d, f, -0x1p-1, 0x1.555502p-2, -0x1.ffff14p-3, 0x1.99d1c6p-3, -0x1.559802p-3, 0x1.1ec0dp-3, -0x1.f3a7dep-4,
                            0x1.1ec6e2p-3, -0x1.06cdfap-3);
    return fma(d, e, num(d, 0x1.62e43p-1), fma(d, hn::Mul(f, f), q, f));
  } else {
    const Vec<D> s = hn::Div(f, hn::Add(f, num(d, 2))), z = hn::Mul(s, s), half_sq = hn::Mul(hn::Mul(f, f), num(d, 0.5));
    const Vec<D> r = hn::Mul(z, horner(d, z, 0x1.5555555555558p-1, 0x1.99999999951bep-2, 0x1.2492492e0f0a4p-2, 0x1.c71c62c2129f2p-3,
                                       0x1.7462be2d80336p-3, 0x1.39fd33ebf6d94p-3, 0x1.2b662be05ef14p-3));
    const Vec<D> low = fma(d, s, hn::Add(half_sq, r), hn::Mul(e, num(d, 0x1.ef35793c76730p-45)));
    return fma(d, e, num(d, 0x1.62e42fefa3800p-1), hn::Sub(f, hn::Sub(half_sq, low)));
  }
}

/// x = 2^e m with m in [2/3, 4/3) (f32) or [sqrt(1/2), sqrt(2)) (f64); x normal and positive.
template <class D>
HWY_INLINE void split_exponent(D d, Vec<D> x, Vec<D>& m, Vec<D>& e) {
  const BitsTag<D> du;
  using U = Lane<BitsTag<D>>;
  constexpr int kMantissa = kIsF32<D> ? 23 : 52;
  constexpr U kOne = U(kIsF32<D> ? 127 : 1023) << kMantissa, kLow = kIsF32<D> ? U(0x3f2aaaab) : U(0x3fe6a09e667f3bcd);
  const auto i = hn::BitCast(du, x), k = hn::ShiftRight<kMantissa>(hn::Add(i, hn::Set(du, kOne - kLow)));
  const Vec<D> magic = num(d, kIsF32<D> ? 0x1p23 : 0x1p52);
  e = hn::Sub(hn::BitCast(d, hn::Or(k, hn::BitCast(du, magic))), num(d, kIsF32<D> ? 0x1p23 + 127 : 0x1p52 + 1023));
  m = hn::BitCast(d, hn::Add(hn::Sub(i, hn::ShiftLeft<kMantissa>(k)), hn::Set(du, kOne)));
}

/// Puts log's values at 0, negative numbers, infinity and NaN.
template <class D>
HWY_INLINE Vec<D> log_specials(D d, Vec<D> x, Vec<D> y) {
  y = hn::IfThenElse(hn::Lt(x, inf_of(d)), y, hn::Add(x, x));  // +inf, NaN
  y = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(inf_of(d)), y);
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), nan_of(d), y);
}

/// m and e of any positive x, subnormals included.
template <class D>
HWY_INLINE void split_any(D d, Vec<D> x, Vec<D>& m, Vec<D>& e) {
  const auto tiny = hn::Lt(x, num(d, kIsF32<D> ? 0x1p-126 : 0x1p-1022));
  split_exponent(d, hn::IfThenElse(tiny, hn::Mul(x, num(d, kIsF32<D> ? 0x1p24 : 0x1p53)), x), m, e);
  e = hn::Sub(e, hn::IfThenElseZero(tiny, num(d, kIsF32<D> ? 24 : 53)));
}

/// Natural logarithm: -inf at 0, NaN below.
template <class D>
HWY_INLINE Vec<D> log(D d, Vec<D> x) {
  Vec<D> m, e;
  split_any(d, x, m, e);
  return log_specials(d, x, log_reduced(d, hn::Sub(m, num(d, 1)), e));
}

/// Logarithm to base 2; f64 by libm.
template <class D>
HWY_INLINE Vec<D> log2(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    Vec<D> m, e;
    split_any(d, x, m, e);
    const Vec<D> l = log_reduced(d, hn::Sub(m, num(d, 1)), hn::Zero(d));
    return log_specials(d, x, fma(d, l, num(d, 0x1.715476p0), fma(d, l, num(d, 0x1.4ae0cp-26), e)));
  } else {
    return per_lane(d, x, [](double v) { return std::log2(v); });
  }
}

/// log(1 + x), accurate near 0; f64 by libm.
template <class D>
HWY_INLINE Vec<D> log1p(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    const BitsTag<D> du;
    const Vec<D> one = num(d, 1), quarter = num(d, 0.25);
    const auto i = hn::BitCast(du, hn::Add(x, one)), k = hn::ShiftRight<23>(hn::Add(i, hn::Set(du, 0x3f800000u - 0x3f2aaaabu)));
    const Vec<D> e = hn::Sub(hn::BitCast(d, hn::Or(k, hn::BitCast(du, num(d, 0x1p23)))), num(d, 0x1p23 + 127));
    const Vec<D> s = hn::BitCast(d, hn::ShiftLeft<23>(hn::Sub(hn::Set(du, 127u + 129u), k)));  // 4 * 2^-e stays normal up to the largest x
    const Vec<D> f = fma(d, s, hn::Mul(x, quarter), fma(d, s, quarter, num(d, -1)));
    const Vec<D> y = log_specials(d, hn::Add(x, one), log_reduced(d, f, e));
    return hn::IfThenElse(hn::Lt(hn::Abs(x), num(d, 0x1p-26)), x, y);
  } else {
    return per_lane(d, x, [](double v) { return std::log1p(v); });
  }
}

/// Hyperbolic tangent. f32: pieces, four to an octave of 2 + 30 |x| / reach; f64: an odd polynomial below 0.55, 1 - 2 / (e^2x + 1) above.
template <class D>
HWY_INLINE Vec<D> tanh(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    const Vec<D> u = at_most(d, hn::Abs(x), num(d, kTanh.reach)), w = fma(d, u, num(d, kTanh.scale), num(d, kTanh.shift));
    const Vec<D> at = hn::BitCast(d, hn::ShiftRight<21>(hn::BitCast(BitsTag<D>(), w)));
    return hn::CopySign(pieces(d, at, u, kTanh), x);
  } else {
    const Vec<D> a = at_most(d, hn::Abs(x), num(d, 21));
    Vec<D> n, r;
    const Vec<D> z = hn::Mul(x, x);
    const Vec<D> q = horner(d, z, -0x1.5555555555555p-2, 0x1.1111111110fe7p-3, -0x1.ba1ba1b9f61fap-5, 0x1.664f4873ff05cp-6,
                            -0x1.226e3262ce4bap-7, 0x1.d6d31c4fb82bcp-9, -0x1.7d9605edec127p-10, 0x1.34b4323934bf2p-11,
                            -0x1.eb435cdfc50fp-13, 0x1.626471d101384p-14, -0x1.5285ca57b8cd9p-16);
    reduce_ln2(d, hn::Add(a, a), n, r);
    const Vec<D> e = hn::Mul(exp_poly(d, r), pow2(d, n));
    const Vec<D> large = hn::Sub(num(d, 1), hn::Div(num(d, 2), hn::Add(e, num(d, 1))));
    return hn::CopySign(hn::IfThenElse(hn::Lt(a, num(d, 0.55)), fma(d, hn::Mul(a, z), q, a), large), x);
  }
}

/// a / (1 + e^u) for u >= 0 and finite, of which e^-u is given.
template <class D>
HWY_INLINE Vec<D> times_logistic(D d, Vec<D> a, const Power<D>& e) {
  const Vec<D> y = rounded(d, e);
  return times_power(d, a, e, hn::Div(y, hn::Add(y, num(d, 1))));
}
/// Beyond this magnitude e^-u is 0 even where it is multiplied by u.
template <class D>
inline constexpr double kVanishes = kIsF32<D> ? 110 : 755;
/// u, but 0 beyond `last`, where nobody wants what follows and it would underflow; NaN stays.
template <class D>
HWY_INLINE Vec<D> up_to(D d, Vec<D> u, double last) {
  return hn::IfThenElseZero(hn::Not(hn::Gt(u, num(d, last))), u);
}

/// 1 / (1 + e^-x), accurate down to the subnormals. f32: pieces of 1 / (1 + e^|x|).
template <class D>
HWY_INLINE Vec<D> sigmoid(D d, Vec<D> x) {
  const Vec<D> u = hn::Abs(x), one = num(d, 1);
  const auto below = hn::Lt(x, hn::Zero(d));
  if constexpr (kIsF32<D>) {
    const auto far = [&]() HWY_ATTR {
      const Vec<D> tail = times_logistic(d, one, power(d, hn::Neg(up_to(d, u, kVanishes<D>))));
      return hn::IfThenElseZero(hn::Not(hn::Gt(u, num(d, kVanishes<D>))), tail);
    };
    const Vec<D> tail = or_far(d, u, kLogisticTail.reach, even_pieces(d, u, kLogisticTail), far);
    return hn::IfThenElse(below, tail, hn::Sub(one, tail));
  } else {
    const Vec<D> e = exp_bounded(d, hn::Neg(u));
    return hn::Div(hn::IfThenElse(below, e, one), hn::Add(one, e));
  }
}

/// Hyperbolic sine and cosine; f64 by libm.
template <class D>
HWY_INLINE Vec<D> sinh(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    const Vec<D> a = hn::Abs(x), z = hn::Mul(x, x), e = exp_scaled<-1>(d, a);
    const Vec<D> small = fma(d, hn::Mul(a, z), horner(d, z, 0x1.555556p-3, 0x1.1110eap-7, 0x1.a01c22p-13, 0x1.76771ep-19), a);
    const Vec<D> large = hn::Sub(e, hn::Div(num(d, 0.25), e));
    return hn::CopySign(hn::IfThenElse(hn::Lt(a, num(d, 1)), small, large), x);
  } else {
    return per_lane(d, x, [](double v) { return std::sinh(v); });
  }
}
template <class D>
HWY_INLINE Vec<D> cosh(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    const Vec<D> e = exp_scaled<-1>(d, hn::Abs(x));
    return hn::Add(e, hn::Div(num(d, 0.25), e));
  } else {
    return per_lane(d, x, [](double v) { return std::cosh(v); });
  }
}

/// Sine and cosine of f32: sine of x + quarter_turns pi/2.
template <int quarter_turns, class D>
HWY_INLINE Vec<D> sin_cos(D d, Vec<D> x) {
  const BitsTag<D> du;
  const Vec<D> magic = num(d, 0x1.8p23);
  const Vec<D> t = fma(d, x, num(d, 0x1.45f306p-1), magic), j = hn::Sub(t, magic);
  const Vec<D> r = fnma(d, j, num(d, -0x1.ee59dap-50), fnma(d, j, num(d, -0x1.777a5cp-25), fnma(d, j, num(d, 0x1.921fb6p0), x)));
  const auto i = hn::Add(hn::BitCast(du, t), hn::Set(du, uint32_t(quarter_turns)));
  const Vec<D> z = hn::Mul(r, r);
  const Vec<D> s = fma(d, hn::Mul(r, z), horner(d, z, -0x1.555556p-3, 0x1.111164p-7, -0x1.a0485cp-13, 0x1.77dd08p-19), r);
  const Vec<D> c = fma(d, hn::Mul(z, z), horner(d, z, 0x1.55554ap-5, -0x1.6c0c28p-10, 0x1.99e818p-16), fnma(d, z, num(d, 0.5), num(d, 1)));
  const auto odd = hn::RebindMask(d, hn::TestBit(i, hn::Set(du, 1u)));
  const Vec<D> sign = hn::BitCast(d, hn::ShiftLeft<30>(hn::And(i, hn::Set(du, 2u))));
  Vec<D> y = hn::Xor(hn::IfThenElse(odd, c, s), sign);
  if constexpr (quarter_turns == 0) y = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), x, y);  // keeps -0
  const auto near = hn::Lt(hn::Abs(x), num(d, 0x1p20));
  if (HWY_LIKELY(hn::AllTrue(d, near))) return y;
  return hn::IfThenElse(near, y, per_lane(d, x, [](float v) { return quarter_turns == 0 ? std::sin(double(v)) : std::cos(double(v)); }));
}
template <class D>
HWY_INLINE Vec<D> sin(D d, Vec<D> x) {
  if constexpr (kIsF32<D>)
    return sin_cos<0>(d, x);
  else
    return per_lane(d, x, [](double v) { return std::sin(v); });
}
template <class D>
HWY_INLINE Vec<D> cos(D d, Vec<D> x) {
  if constexpr (kIsF32<D>)
    return sin_cos<1>(d, x);
  else
    return per_lane(d, x, [](double v) { return std::cos(v); });
}

/// Error function.
template <class D>
HWY_INLINE Vec<D> erf(D d, Vec<D> x) {
  const Vec<D> a = hn::Abs(x);
  if constexpr (kIsF32<D>) {
    const Vec<D> z = hn::Mul(x, x), t = at_most(d, a, num(d, 4));
    const Vec<D> q =
        horner(d, z, 0x1.06eba8p-3, -0x1.812742p-2, 0x1.ce2decp-4, -0x1.b80cdap-6, 0x1.54bb3ap-8, -0x1.a9e392p-11, 0x1.5bd58cp-14);
    const Vec<D> g = horner(d, t, 0x1.70d54cp-13, -0x1.212846p0, -0x1.44447p-1, -0x1.bb926ap-4, 0x1.9bb50cp-6, -0x1.1196d2p-8,
                            0x1.c85bf2p-12, -0x1.63095cp-16);
    Vec<D> n, r;
    reduce_ln2(d, g, n, r);
    const Vec<D> large = fnma(d, exp_poly(d, r), pow2(d, n), num(d, 1));
    return hn::IfThenElse(hn::Lt(a, num(d, 0.921875)), fma(d, x, q, x), hn::CopySign(large, x));
  } else {
    // erf(c + h) = erf(c) + erf'(c) * integral of exp(-2ct - t^2) over [0, h], c = round(64 a) / 64; the integrand's Taylor coefficients
    // obey k a_k = -2c a_(k-1) - 2 a_(k-2).
    const IntTag<D> di;
    const Vec<D> t = at_most(d, a, num(d, 6)), magic = num(d, 0x1.8p46);
    const Vec<D> shifted = hn::Add(t, magic), c = hn::Sub(shifted, magic), h = hn::Sub(t, c);
    const auto at = hn::And(hn::BitCast(di, shifted), hn::Set(di, int64_t(511)));
    const Vec<D> base = hn::GatherIndex(d, kErfTable, at), slope = hn::GatherIndex(d, kErfSlopeTable, at);
    const Vec<D> k = hn::Mul(c, num(d, -2)), a1 = k;
    const Vec<D> a2 = fma(d, hn::Mul(k, num(d, 1.0 / 2)), a1, num(d, -1.0));
    const Vec<D> a3 = hn::Mul(fma(d, k, a2, hn::Mul(a1, num(d, -2.0))), num(d, 1.0 / 3));
    const Vec<D> a4 = hn::Mul(fma(d, k, a3, hn::Mul(a2, num(d, -2.0))), num(d, 1.0 / 4));
    const Vec<D> a5 = hn::Mul(fma(d, k, a4, hn::Mul(a3, num(d, -2.0))), num(d, 1.0 / 5));
    const Vec<D> a6 = hn::Mul(fma(d, k, a5, hn::Mul(a4, num(d, -2.0))), num(d, 1.0 / 6));
    Vec<D> p = fma(d, hn::Mul(a6, num(d, 1.0 / 7)), h, hn::Mul(a5, num(d, 1.0 / 6)));
    p = fma(d, p, h, hn::Mul(a4, num(d, 1.0 / 5)));
    p = fma(d, p, h, hn::Mul(a3, num(d, 1.0 / 4)));
    p = fma(d, p, h, hn::Mul(a2, num(d, 1.0 / 3)));
    p = fma(d, p, h, hn::Mul(a1, num(d, 1.0 / 2)));
    const Vec<D> step = hn::Mul(slope, fma(d, hn::Mul(p, h), h, h));
    const Vec<D> y = hn::IfThenElse(is_nan(d, x), x, hn::Add(base, step));
    return hn::CopySign(y, x);
  }
}

/// Standard normal distribution function Phi(x), relatively accurate in the lower tail; f64 by libm's erfc.
template <class D>
HWY_INLINE Vec<D> normal_cdf(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    // Phi(-u) = exp(-u^2/2 + q(u)) with the square in two parts, so that the exponent keeps an absolute error of about an ulp of q.
    const Vec<D> u = at_most(d, hn::Abs(x), num(d, 14.5));
    Vec<D> q = horner(d, hn::Sub(u, num(d, 3)), -0x1.0dc9f8p1, -0x1.21e4ap-2, 0x1.2101fp-5, -0x1.57bcf4p-8, 0x1.9dc92p-11, -0x1.dae8d2p-14,
                      0x1.e9cea2p-17, -0x1.b546b6p-20, 0x1.7de5fcp-23, -0x1.005b22p-28, -0x1.1803d4p-27, 0x1.85af72p-30);
    const auto far = hn::Gt(u, num(d, 6));
    if (HWY_UNLIKELY(!hn::AllFalse(d, far))) {
      const Vec<D> p = horner(d, hn::Sub(u, num(d, 10)), -0x1.9d9acp1, -0x1.91cap-4, 0x1.35824cp-8, -0x1.3859cp-12, 0x1.5bd634p-16,
                              -0x1.8ea284p-20, 0x1.e765d8p-24, -0x1.7018fep-27, 0x1.8cfa9p-31);
      q = hn::IfThenElse(far, p, q);
    }
    const Vec<D> half = hn::Mul(u, num(d, -0.5)), h = hn::Mul(half, u), low = fma(d, half, u, hn::Neg(h)), magic = num(d, 0x1.8p23);
    const Vec<D> n = hn::Sub(fma(d, hn::Add(h, q), num(d, 0x1.715476p0), magic), magic);
    const Vec<D> r = fnma(d, n, num(d, -0x1.05c610ca86c39p-29), hn::Add(fnma(d, n, num(d, 0x1.62e43p-1), h), hn::Add(q, low)));
    const Vec<D> tail = scale_pow2(d, exp_poly(d, r), n);
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(num(d, 1), tail));
  } else {
    return per_lane(d, x, [](double v) { return 0.5 * std::erfc(v * -0.70710678118654752440); });
  }
}

/// log(1 + e) for e in [0, 1]. f64: log(u) plus what rounding 1 + e to u has left, by its first derivative.
template <class D>
HWY_INLINE Vec<D> log1p_of_share(D d, Vec<D> e) {
  if constexpr (kIsF32<D>) {
    return log1p(d, e);
  } else {
    const Vec<D> one = num(d, 1), u = hn::Add(one, e), left = hn::Sub(e, hn::Sub(u, one));
    return hn::Add(log(d, u), hn::Div(left, u));
  }
}

/// log(1 + e^x) without overflow, accurate in both tails.
template <class D>
HWY_INLINE Vec<D> softplus(D d, Vec<D> x) {
  return hn::Add(log1p_of_share(d, exp_scaled<0>(d, hn::Neg(hn::Abs(x)))), at_least(d, x, hn::Zero(d)));
}

}  // namespace keel::cpu::HWY_NAMESPACE::math
HWY_AFTER_NAMESPACE();
#endif
