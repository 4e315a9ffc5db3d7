// Activation functions and their derivatives as vector functions, on top of math-inl.h.
#if defined(KEEL_CPU_LOOPS_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_ACTIVATION_INL_H_
#undef KEEL_CPU_LOOPS_ACTIVATION_INL_H_
#else
#define KEEL_CPU_LOOPS_ACTIVATION_INL_H_
#endif

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE::math {

inline constexpr double kSeluScale = 1.0507009873554804934193349852946, kSeluAlpha = 1.6732632423543772848170429916717;
inline constexpr double kInverseRootTau = 0.39894228040143267794;
/// gelu_tanh(x) = x sigmoid(linear x + cubic x^3): 2 sqrt(2 / pi) and 0.044715 of it, with what f64 leaves of them.
inline constexpr double kBentLinear = 0x1.9884533d43651p+0, kBentLinearLow = -0x1.cbc0d30ebfd15p-54;
inline constexpr double kBentCubic = 0x1.2444f2a4d8b4bp-4, kBentCubicLow = -0x1.6c843a29d1c70p-61;

/// What the lanes of D leave of a constant, of which f64 leaves `low`.
template <class D>
constexpr double left_of(double v, double low) {
  return kIsF32<D> ? v - double(float(v)) : low;
}

/// x F(x) = max(x, 0) - |x| F(-|x|), of that product. Where |x| is beyond `last`, x or 0.
template <class D>
HWY_INLINE Vec<D> but_tail(D d, Vec<D> x, double last, Vec<D> tail) {
  const Vec<D> zero = hn::Zero(d), beyond = hn::Mul(x, hn::IfThenElseZero(hn::Gt(x, zero), num(d, 1)));
  return hn::IfThenElse(hn::Gt(hn::Abs(x), num(d, last)), beyond, hn::CopySign(hn::Sub(at_least(d, x, zero), tail), x));
}
/// The same of F(-|x|) by pieces where they reach, and far() elsewhere.
template <class D, class P, class Far>
HWY_INLINE Vec<D> or_tail(D d, Vec<D> x, const P& p, Vec<D> pieces, Far far) {
  const Vec<D> u = hn::Abs(x);
  return or_far(d, u, p.reach, fnma(d, u, pieces, at_least(d, x, hn::Zero(d))), far);
}
/// The slope of that, F(x) + x F'(x), of pieces of F(-u) - u F'(-u).
template <class D, class Far>
HWY_INLINE Vec<D> tail_slope(D d, Vec<D> x, const Pieces<6>& p, Far far) {
  const Vec<D> u = hn::Abs(x), tail = bent_pieces(d, u, p);
  return or_far(d, u, p.reach, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(num(d, 1), tail)), far);
}
/// u Phi(-u) for u from 5.29 to 14.7, f32.
template <class D>
HWY_INLINE Vec<D> far_normal_tail(D d, Vec<D> u) {
  const Vec<D> half = hn::Mul(u, num(d, -0.5)), z = hn::Mul(half, u), s = hn::Div(num(d, 1), hn::Mul(u, u));
  const Vec<D> less = horner(d, s, kFarNormal[0], kFarNormal[1], kFarNormal[2], kFarNormal[3], kFarNormal[4], kFarNormal[5]);
  return times_power(d, num(d, kInverseRootTau), power(d, z, fma(d, half, u, hn::Neg(z))), less);
}
/// x Phi(x).
template <class D>
HWY_INLINE Vec<D> gelu(D d, Vec<D> x) {
  if constexpr (kIsF32<D>) {
    const Vec<D> u = hn::Abs(x);
    const auto far = [&]() HWY_ATTR { return but_tail(d, x, 14.6, far_normal_tail(d, at_least(d, up_to(d, u, 14.6), num(d, 5)))); };
    return or_tail(d, x, kNormalTail, bent_pieces(d, u, kNormalTail), far);
  } else {
    return hn::Mul(x, normal_cdf(d, x));
  }
}
/// Phi(x) + x phi(x).
template <class D>
HWY_INLINE Vec<D> gelu_slope(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR {
    const Vec<D> c = at_least(d, at_most(d, x, num(d, 45)), num(d, -45));
    const Vec<D> bell = exp(d, hn::Mul(hn::Mul(c, num(d, -0.5)), c));
    return fma(d, hn::Mul(c, num(d, kInverseRootTau)), bell, normal_cdf(d, x));
  };
  if constexpr (kIsF32<D>)
    return tail_slope(d, x, kNormalSlope, far);
  else
    return far();
}
/// x (1 + tanh(b (x + k x^3))) / 2 = x / (1 + exp(-2 b (x + k x^3))).
template <class D>
HWY_INLINE Vec<D> gelu_tanh(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR {
    // z = u (linear + cubic u^2) in two parts, since an ulp of it counts as many of the result.
    constexpr double kLast = kIsF32<D> ? 11 : 22;
    const Vec<D> u = up_to(d, hn::Abs(x), kLast), linear = num(d, kBentLinear), cubic = num(d, kBentCubic), sq = hn::Mul(u, u);
    const Vec<D> p = hn::Mul(sq, cubic), w = hn::Add(p, linear), added = hn::Sub(w, p), z = hn::Mul(u, w);
    Vec<D> low = hn::Add(hn::Sub(p, hn::Sub(w, added)), hn::Sub(linear, added));
    low = hn::Add(low, fma(d, cubic, fma(d, u, u, hn::Neg(sq)), fma(d, sq, cubic, hn::Neg(p))));
    low = hn::Add(low, fma(d, sq, num(d, left_of<D>(kBentCubic, kBentCubicLow)), num(d, left_of<D>(kBentLinear, kBentLinearLow))));
    low = fma(d, u, low, fma(d, u, w, hn::Neg(z)));
    return but_tail(d, x, kLast, times_logistic(d, u, power(d, hn::Neg(z), hn::Neg(low))));
  };
  if constexpr (kIsF32<D>)
    return or_tail(d, x, kBentTail, bent_pieces(d, hn::Abs(x), kBentTail), far);
  else
    return far();
}
template <class D>
HWY_INLINE Vec<D> gelu_tanh_slope(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR {
    const Vec<D> c = at_least(d, at_most(d, x, num(d, 45)), num(d, -45)), sq = hn::Mul(c, c);
    const Vec<D> s = sigmoid(d, hn::Mul(c, fma(d, sq, num(d, kBentCubic), num(d, kBentLinear))));
    const Vec<D> inner = fma(d, sq, num(d, 3 * kBentCubic), num(d, kBentLinear));
    return fma(d, hn::Mul(hn::Mul(c, inner), s), hn::Sub(num(d, 1), s), s);
  };
  if constexpr (kIsF32<D>)
    return tail_slope(d, x, kBentSlope, far);
  else
    return far();
}
/// x sigmoid(x).
template <class D>
HWY_INLINE Vec<D> silu(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR {
    const Vec<D> u = up_to(d, hn::Abs(x), kVanishes<D>);
    return but_tail(d, x, kVanishes<D>, times_logistic(d, u, power(d, hn::Neg(u))));
  };
  if constexpr (kIsF32<D>)
    return or_tail(d, x, kLogisticTail, even_pieces(d, hn::Abs(x), kLogisticTail), far);
  else
    return far();
}
template <class D>
HWY_INLINE Vec<D> silu_slope(D d, Vec<D> x) {
  const Vec<D> s = sigmoid(d, x);
  return hn::Mul(s, fma(d, x, hn::Sub(num(d, 1), s), num(d, 1)));
}
/// tanh(log(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2).
template <class D>
HWY_INLINE Vec<D> tanh_softplus(D d, Vec<D> x) {
  const Vec<D> e = exp(d, at_most(d, x, num(d, 30))), n = hn::Mul(e, hn::Add(e, num(d, 2)));
  return hn::Div(n, hn::Add(n, num(d, 2)));
}
/// x tanh(log(1 + e^x)) = x e^x (1 - e^x (e^x + 1) / m) = x (3 + 2 (m - 5) / m) / 5 with m = e^x (e^x + 2) + 2: the first form below -1/2,
/// the second, of which 3 / 5 is the larger part, above.
template <class D>
HWY_INLINE Vec<D> mish(D d, Vec<D> x) {
  constexpr double kShare = 0x1.333332p-1, kShareLeft = 0x1.3333333333333p-25;  // 3 / 5; what f32 leaves is not negative, so that -0 stays
  const auto vanishes = hn::Lt(x, num(d, -kVanishes<D>));
  const Vec<D> c = hn::IfThenElseZero(hn::Not(vanishes), at_most(d, x, num(d, 30)));
  const auto below = hn::Lt(x, num(d, -0.5));
  const Power<D> power_of_x = power(d, c);
  const Vec<D> e = rounded(d, power_of_x), m = fma(d, e, hn::Add(e, num(d, 2)), num(d, 2));
  const Vec<D> q = hn::Div(hn::IfThenElse(below, fma(d, e, e, e), hn::Mul(hn::Sub(e, num(d, 1)), hn::Add(e, num(d, 3)))), m);
  const Vec<D> rest = fma(d, q, num(d, 0.4), num(d, kShareLeft));
  const Vec<D> above = hn::IfThenElse(hn::Gt(x, c), x, fma(d, x, num(d, kShare), hn::Mul(x, rest)));
  return hn::IfThenElse(below, hn::IfThenElse(vanishes, hn::Mul(x, hn::Zero(d)), times_power(d, c, power_of_x, q)), above);
}
template <class D>
HWY_INLINE Vec<D> mish_slope(D d, Vec<D> x) {
  const Vec<D> t = tanh_softplus(d, x), rest = fnma(d, t, t, num(d, 1));
  return fma(d, hn::Mul(x, sigmoid(d, x)), rest, t);
}
/// scale x above 0, slope (e^x - 1) below.
template <class D>
HWY_INLINE Vec<D> elu(D d, Vec<D> x, Vec<D> scale, Vec<D> slope) {
  return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Mul(x, scale), hn::Mul(expm1(d, x), slope));
}

}  // namespace keel::cpu::HWY_NAMESPACE::math
HWY_AFTER_NAMESPACE();
#endif
