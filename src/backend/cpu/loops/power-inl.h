// x^y with IEEE 754's special values (C's pow): of f32 in f64 vectors, of f64 with a logarithm of twice the digits.
#if defined(KEEL_CPU_LOOPS_POWER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_POWER_INL_H_
#undef KEEL_CPU_LOOPS_POWER_INL_H_
#else
#define KEEL_CPU_LOOPS_POWER_INL_H_
#endif

#include "backend/cpu/loops/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// z = |x|^y where that is all there is to it: sign, zeros, infinities and NaN as C has them.
template <class D>
HWY_INLINE Vec<D> power_specials(D d, Vec<D> x, Vec<D> y, Vec<D> z) {
  const Vec<D> zero = hn::Zero(d), one = hn::Set(d, 1.0), inf = inf_of(d), a = hn::Abs(x), whole = hn::CopySign(hn::Set(d, 0x1p52), y);
  const auto y_integer = hn::Or(hn::Eq(hn::Sub(hn::Add(y, whole), whole), y), hn::Ge(hn::Abs(y), hn::Set(d, 0x1p52)));
  const Vec<D> half = hn::Mul(y, hn::Set(d, 0.5)), half_rounded = hn::Sub(hn::Add(half, whole), whole);
  const auto y_odd = hn::And(hn::And(y_integer, hn::Ne(half, half_rounded)), hn::Lt(hn::Abs(y), hn::Set(d, 0x1p53)));
  const auto grows = hn::Xor(hn::Gt(a, one), hn::Lt(y, zero));  // |x| > 1 with y > 0, or |x| < 1 with y < 0
  const auto edge = hn::Or(hn::Or(hn::Eq(a, zero), hn::Eq(a, inf)), hn::Eq(hn::Abs(y), inf));
  z = hn::IfThenElse(edge, hn::IfThenElseZero(grows, inf), z);
  const auto negative = hn::Lt(hn::CopySign(one, x), zero);
  z = hn::IfThenElse(hn::And(negative, y_odd), hn::Neg(z), z);
  const auto finite_negative = hn::And(hn::And(hn::Lt(x, zero), hn::Lt(a, inf)), hn::Lt(hn::Abs(y), inf));
  z = hn::IfThenElse(hn::And(finite_negative, hn::Not(y_integer)), nan_of(d), z);
  z = hn::IfThenElse(hn::Or(is_nan(d, x), is_nan(d, y)), nan_of(d), z);
  const auto unit = hn::Or(hn::Or(hn::Eq(y, zero), hn::Eq(x, one)), hn::And(hn::Eq(a, one), hn::Eq(hn::Abs(y), inf)));
  return hn::IfThenElse(unit, one, z);
}

/// f32's power, as 2^(y log2|x|).
struct WidePow {
  template <class D>
  static HWY_INLINE Vec<D> call(D d, Vec<D> x, Vec<D> y) {
    const Vec<D> magic = hn::Set(d, 0x1.8p52);
    Vec<D> m, e;
    math::split_exponent(d, hn::Abs(x), m, e);  // the operands come from f32: no subnormals in f64
    const Vec<D> l = fma(d, math::log_reduced(d, hn::Sub(m, hn::Set(d, 1.0)), hn::Zero(d)), hn::Set(d, 0x1.71547652b82fep0), e);
    const Vec<D> p = at_least(d, at_most(d, hn::Mul(l, y), hn::Set(d, 200.0)), hn::Set(d, -200.0)), n = hn::Sub(hn::Add(p, magic), magic);
    Vec<D> z = hn::Mul(horner(d, hn::Sub(p, n), 0x1.ffffffffabbcep-1, 0x1.62e42ff116291p-1, 0x1.ebfbe0a4be7c8p-3, 0x1.c6b08aaf2e0acp-5,
                              0x1.3b29dc40d8f27p-7, 0x1.5d8a708923689p-10, 0x1.446a1fd95ccb4p-13, 0x1.fe1782f43403ap-17),
                       math::pow2(d, n));
    z = hn::IfThenElse(hn::Eq(n, p), math::pow2(d, n), z);  // exact powers of two stay exact
    return power_specials(d, x, y, z);
  }
};

/// A number as the sum of two, the second at most half a unit in the last place of the first or little more.
template <class D>
struct Sum {
  Vec<D> high, low;
};

/// The logarithm of a positive number, to 2^-64 of itself: x = 2^e m, log m = 2 atanh(s) with s = f / (2 + f), f = m - 1, of whose series
/// the first two terms and the quotient have two parts.
template <class D>
HWY_INLINE Sum<D> long_log(D d, Vec<D> x) {
  const auto n = [d](double v) HWY_ATTR { return hn::Set(d, v); };
  Vec<D> m, e;
  math::split_any(d, x, m, e);
  const Vec<D> f = hn::Sub(m, n(1)), t = hn::Add(f, n(2)), t_low = hn::Sub(f, hn::Sub(t, n(2)));
  const Vec<D> s = hn::Div(f, t), s_low = hn::Div(fnma(d, s, t_low, fnma(d, s, t, f)), t);
  const Vec<D> z = hn::Mul(s, s), z_low = fma(d, hn::Add(s, s), s_low, fma(d, s, s, hn::Neg(z)));
  // w = z / 3 + z^2 / 5 + ... + z^12 / 25
  const Vec<D> rest = hn::Mul(hn::Mul(z, z), horner(d, z, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19,
                                                    1.0 / 21, 1.0 / 23, 1.0 / 25));
  const Vec<D> by = n(0x1.5555555555555p-2), third = hn::Mul(z, by);
  const Vec<D> third_low = fma(d, z_low, by, fma(d, z, n(0x1.5555555555555p-56), fma(d, z, by, hn::Neg(third))));
  const Vec<D> w = hn::Add(third, rest), w_low = hn::Add(hn::Add(hn::Sub(third, w), rest), third_low);
  const Vec<D> twice = hn::Add(s, s), twice_low = hn::Add(s_low, s_low), u = hn::Mul(twice, w);
  const Vec<D> u_low = fma(d, twice_low, w, fma(d, twice, w_low, fma(d, twice, w, hn::Neg(u))));
  const Vec<D> l = hn::Add(twice, u), l_low = hn::Add(hn::Add(hn::Sub(twice, l), u), hn::Add(twice_low, u_low));
  const Vec<D> whole = hn::Mul(e, n(0x1.62e42fefa3800p-1));  // exact
  const Vec<D> high = hn::Add(whole, l);
  return {high, hn::Add(hn::Add(hn::Sub(whole, high), l), fma(d, e, n(0x1.ef35793c76730p-45), l_low))};
}

/// f64's power, as e^(y log|x|).
template <class D>
HWY_INLINE Vec<D> long_pow(D d, Vec<D> x, Vec<D> y) {
  const auto n = [d](double v) HWY_ATTR { return hn::Set(d, v); };
  const Sum<D> l = long_log(d, hn::Abs(x));
  const Vec<D> product = hn::Mul(y, l.high), p = at_least(d, at_most(d, product, n(712)), n(-746));
  const Vec<D> p_low = hn::IfThenElseZero(hn::Eq(p, product), fma(d, y, l.low, fma(d, y, l.high, hn::Neg(product))));
  const Vec<D> magic = n(0x1.8p52), k = hn::Sub(fma(d, p, n(0x1.71547652b82fep0), magic), magic);
  const Vec<D> near = fnma(d, k, n(0x1.62e42fefa3800p-1), p), far = fnma(d, k, n(0x1.ef35793c76730p-45), p_low), r = hn::Add(near, far);
  const Vec<D> left = hn::Add(hn::Sub(near, r), far), h = hn::Add(n(1), r), h_low = hn::Add(hn::Sub(n(1), h), r);
  const Vec<D> curve = fma(d, hn::Mul(r, r), math::exp_curve(d, r), hn::Mul(left, h));
  const Vec<D> z = scale_pow2_or_zero(d, hn::Gt(p, n(-746)), hn::Add(h, hn::Add(h_low, curve)), k);
  return power_specials(d, x, y, z);
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
