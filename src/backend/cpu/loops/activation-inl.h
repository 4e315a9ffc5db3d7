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
inline constexpr double kGeluBeta = 0.79788456080286535588, kGeluKappa = 0.044715;  // sqrt(2/pi), and the cubic term of the tanh form

/// x F(x) = max(x, 0) - |x| F(-|x|), F(-u) of pieces.
template <class D, class Far>
HWY_INLINE Vec<D> times_tail(D d, Vec<D> x, Vec<D> u, double reach, Vec<D> tail, Far far) {
  return or_far(d, u, reach, fnma(d, u, tail, at_least(d, x, hn::Zero(d))), far);
}
/// The slope of that, F(x) + x F'(x), of pieces of F(-u) - u F'(-u).
template <class D, class Far>
HWY_INLINE Vec<D> tail_slope(D d, Vec<D> x, const Pieces<6>& p, Far far) {
  const Vec<D> u = hn::Abs(x), tail = bent_pieces(d, u, p);
  return or_far(d, u, p.reach, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(num(d, 1), tail)), far);
}
/// x Phi(x).
template <class D>
HWY_INLINE Vec<D> gelu(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR { return hn::Mul(x, normal_cdf(d, x)); };
  if constexpr (kIsF32<D>) {
    const Vec<D> u = hn::Abs(x);
    return times_tail(d, x, u, kNormalTail.reach, bent_pieces(d, u, kNormalTail), far);
  } else {
    return far();
  }
}
/// Phi(x) + x phi(x).
template <class D>
HWY_INLINE Vec<D> gelu_slope(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR {
    const Vec<D> c = at_least(d, at_most(d, x, num(d, 45)), num(d, -45));
    const Vec<D> bell = exp(d, hn::Mul(hn::Mul(c, num(d, -0.5)), c));
    return fma(d, hn::Mul(c, num(d, 0.39894228040143267794)), bell, normal_cdf(d, x));
  };
  if constexpr (kIsF32<D>)
    return tail_slope(d, x, kNormalSlope, far);
  else
    return far();
}
/// x / (1 + exp(-z)). Where exp(z) alone would be subnormal, z is moved up (which is exact) and the product down again.
template <class D>
HWY_INLINE Vec<D> times_sigmoid(D d, Vec<D> x, Vec<D> z) {
  constexpr double kFar = kIsF32<D> ? -80 : -700, kUp = kIsF32<D> ? 44 : 372, kDown = kIsF32<D> ? 7.781132241133797e-20 : 2.7698275585638865e-162;  // exp(-kUp)
  const auto far_out = hn::Lt(z, num(d, kFar));
  const Vec<D> one = num(d, 1), e = exp(d, hn::IfThenElse(far_out, hn::Add(z, num(d, kUp)), hn::Neg(hn::Abs(z))));
  const Vec<D> y = hn::Div(hn::IfThenElse(hn::Lt(z, hn::Zero(d)), hn::Mul(x, e), x), hn::Add(one, e));
  return hn::Mul(y, hn::IfThenElse(far_out, num(d, kDown), one));
}
/// x (1 + tanh(b (x + k x^3))) / 2 = x / (1 + exp(-2 b (x + k x^3))).
template <class D>
HWY_INLINE Vec<D> gelu_tanh(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR {
    return times_sigmoid(d, x, hn::Mul(x, fma(d, hn::Mul(x, x), num(d, 2 * kGeluBeta * kGeluKappa), num(d, 2 * kGeluBeta))));
  };
  if constexpr (kIsF32<D>) {
    const Vec<D> u = hn::Abs(x);
    return times_tail(d, x, u, kBentTail.reach, bent_pieces(d, u, kBentTail), far);
  } else {
    return far();
  }
}
template <class D>
HWY_INLINE Vec<D> gelu_tanh_slope(D d, Vec<D> x) {
  const auto far = [&]() HWY_ATTR {
    const Vec<D> c = at_least(d, at_most(d, x, num(d, 45)), num(d, -45)), sq = hn::Mul(c, c);
    const Vec<D> s = sigmoid(d, hn::Mul(c, fma(d, sq, num(d, 2 * kGeluBeta * kGeluKappa), num(d, 2 * kGeluBeta))));
    const Vec<D> inner = fma(d, sq, num(d, 6 * kGeluBeta * kGeluKappa), num(d, 2 * kGeluBeta));
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
  const auto far = [&]() HWY_ATTR { return times_sigmoid(d, x, x); };
  if constexpr (kIsF32<D>) {
    const Vec<D> u = hn::Abs(x);
    return times_tail(d, x, u, kLogisticTail.reach, even_pieces(d, u, kLogisticTail), far);
  } else {
    return far();
  }
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
template <class D>
HWY_INLINE Vec<D> mish(D d, Vec<D> x) {
  return hn::Mul(x, tanh_softplus(d, x));
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
