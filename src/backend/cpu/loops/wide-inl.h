// f32 functions computed in f64 vectors and rounded once: tan and atan2, and pow in power-inl.h. Their error is that of the final rounding (0.5 ulp) plus at most
// 2^-9 ulp.
#if defined(KEEL_CPU_LOOPS_WIDE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_WIDE_INL_H_
#undef KEEL_CPU_LOOPS_WIDE_INL_H_
#else
#define KEEL_CPU_LOOPS_WIDE_INL_H_
#endif

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

using WideTag = Tag<double>;
using NarrowTag = hn::Rebind<float, WideTag>;

/// The rounding conversion; Highway's scalar form would saturate instead of giving infinity.
HWY_INLINE Vec<NarrowTag> to_f32(NarrowTag df, Vec<WideTag> v) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  HWY_ALIGN double in[hn::MaxLanes(WideTag())];
  HWY_ALIGN float out[hn::MaxLanes(WideTag())];
  hn::Store(v, WideTag(), in);
  for (size_t i = 0; i < hn::MaxLanes(WideTag()); ++i) out[i] = float(in[i]);
  return hn::Load(df, out);
#else
  return hn::DemoteTo(df, v);
#endif
}

template <class Op>
void unary_wide(const void* x_, void* y_, int64_t n, const double*) {
  const WideTag d;
  const NarrowTag df;
  const float* x = static_cast<const float*>(x_);
  float* y = static_cast<float*>(y_);
  constexpr int64_t N = hn::MaxLanes(WideTag());
  int64_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(to_f32(df, Op::call(d, hn::PromoteTo(d, hn::LoadU(df, x + i)))), df, y + i);
  if (const size_t rest = size_t(n - i)) store_n(to_f32(df, Op::call(d, hn::PromoteTo(d, load_n(df, x + i, rest)))), df, y + i, rest);
}

template <class Op, BinaryMode mode>
void binary_wide(const void* a_, const void* b_, void* y_, int64_t n, const double*) {
  const WideTag d;
  const NarrowTag df;
  const float *a = static_cast<const float*>(a_), *b = static_cast<const float*>(b_);
  float* y = static_cast<float*>(y_);
  constexpr int64_t N = hn::MaxLanes(WideTag());
  constexpr bool kA = mode != BinaryMode::sv, kB = mode != BinaryMode::vs;
  const Vec<WideTag> a0 = kA ? hn::Zero(d) : hn::Set(d, n ? double(*a) : 0), b0 = kB ? hn::Zero(d) : hn::Set(d, n ? double(*b) : 0);
  int64_t i = 0;
  for (; i + N <= n; i += N)
    hn::StoreU(to_f32(df, Op::call(d, kA ? hn::PromoteTo(d, hn::LoadU(df, a + i)) : a0, kB ? hn::PromoteTo(d, hn::LoadU(df, b + i)) : b0)),
               df, y + i);
  if (const size_t rest = size_t(n - i)) {
    const auto v = Op::call(d, kA ? hn::PromoteTo(d, load_n(df, a + i, rest)) : a0, kB ? hn::PromoteTo(d, load_n(df, b + i, rest)) : b0);
    store_n(to_f32(df, v), df, y + i, rest);
  }
}
template <class Op>
BinaryLoop binary_wide_of(BinaryMode mode) {
  return mode == BinaryMode::vv   ? binary_wide<Op, BinaryMode::vv>
         : mode == BinaryMode::vs ? binary_wide<Op, BinaryMode::vs>
                                  : binary_wide<Op, BinaryMode::sv>;
}

/// tan, by libm for |x| >= 2^25.
struct WideTan {
  template <class D>
  static HWY_INLINE Vec<D> call(D d, Vec<D> x) {
    const BitsTag<D> du;
    const Vec<D> magic = hn::Set(d, 0x1.8p52), one = hn::Set(d, 1.0);
    const Vec<D> t = fma(d, x, hn::Set(d, 0x1.45f306dc9c883p-1), magic), j = hn::Sub(t, magic);
    const Vec<D> r = fnma(d, j, hn::Set(d, 0x1.1a62633145c07p-54), fnma(d, j, hn::Set(d, 0x1.921fb54442d18p0), x)), z = hn::Mul(r, r);
    const Vec<D> s = fma(
        d, hn::Mul(r, z),
        horner(d, z, -0x1.55555555521b5p-3, 0x1.1111110c7dd5bp-7, -0x1.a019f92c700f9p-13, 0x1.71d7661aa6bbap-19, -0x1.a95f112e0abecp-26),
        r);
    const Vec<D> c = fma(
        d, z,
        horner(d, z, -0x1.ffffffffe94fdp-2, 0x1.55555545a4761p-5, -0x1.6c16b3329b1e8p-10, 0x1.a00eadf63b2f3p-16, -0x1.23c75eae4450dp-22),
        one);
    const auto odd = hn::RebindMask(d, hn::TestBit(hn::BitCast(du, t), hn::Set(du, uint64_t(1))));
    Vec<D> y = hn::Div(hn::IfThenElse(odd, hn::Neg(c), s), hn::IfThenElse(odd, s, c));
    y = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), x, y);  // keeps -0
    const auto near = hn::Lt(hn::Abs(x), hn::Set(d, 0x1p25));
    if (HWY_LIKELY(hn::AllTrue(d, near))) return y;
    return hn::IfThenElse(near, y, per_lane(d, x, [](double v) { return std::tan(v); }));
  }
};

/// The angle of (x, y) with C's special values; call(y, x).
struct WideAtan2 {
  template <class D>
  static HWY_INLINE Vec<D> call(D d, Vec<D> y, Vec<D> x) {
    const Vec<D> ax = hn::Abs(x), ay = hn::Abs(y), one = hn::Set(d, 1.0), zero = hn::Zero(d), inf = inf_of(d);
    const auto steep = hn::Gt(ay, ax);
    Vec<D> q = hn::Div(hn::IfThenElse(steep, ax, ay), hn::IfThenElse(steep, ay, ax));
    q = hn::IfThenElse(hn::Eq(ay, zero), zero, q);                          // 0 / 0
    q = hn::IfThenElse(hn::And(hn::Eq(ax, inf), hn::Eq(ay, inf)), one, q);  // inf / inf
    q = hn::IfThenElse(hn::Or(is_nan(d, x), is_nan(d, y)), nan_of(d), q);
    const Vec<D> z = hn::Mul(q, q);
    Vec<D> a = fma(d, hn::Mul(q, z),
                   horner(d, z, -0x1.555554873f2c6p-2, 0x1.999937f20bcecp-3, -0x1.248a2ca9d7b6p-3, 0x1.c66e4c716167dp-4,
                          -0x1.700b2316d07c1p-4, 0x1.2958aa11856dap-4, -0x1.be980a234387p-5, 0x1.1a6ce15f68179p-5, -0x1.0b0c745a64683p-6,
                          0x1.42d9e4c71a9b2p-8, -0x1.6ded4a5e4d723p-11),
                   q);
    a = hn::IfThenElse(steep, hn::Sub(hn::Set(d, 0x1.921fb54442d18p0), a), a);
    a = hn::IfThenElse(hn::Lt(hn::CopySign(one, x), zero), hn::Sub(hn::Set(d, 0x1.921fb54442d18p1), a), a);
    return hn::CopySign(a, y);
  }
};

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
