// The loop of functions with several operands and several results. An op is `template <class D> struct Op { static constexpr int kIn, kOut;
// Op(D, const double* args); void operator()(D, const V* x, V* y) }`.
#if defined(KEEL_CPU_LOOPS_FUSED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_FUSED_INL_H_
#undef KEEL_CPU_LOOPS_FUSED_INL_H_
#else
#define KEEL_CPU_LOOPS_FUSED_INL_H_
#endif

#include "backend/cpu/loops/each-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// |x| as an integer: ordered as |x| is, NaN last.
template <class D>
HWY_INLINE auto magnitude(D, Vec<D> x) {
  return hn::BitCast(IntTag<D>(), hn::Abs(x));
}
/// |x| <= bound by bits; false for NaN. bound >= 0.
template <class D>
HWY_INLINE auto within(D d, Vec<D> x, Vec<D> bound) {
  return hn::RebindMask(d, hn::Not(hn::Gt(magnitude(d, x), hn::BitCast(IntTag<D>(), bound))));
}
/// Neither NaN nor an infinity, by bits.
template <class D>
HWY_INLINE auto finite(D d, Vec<D> x) {
  return hn::RebindMask(d, hn::Lt(magnitude(d, x), hn::BitCast(IntTag<D>(), inf_of(d))));
}
/// NaN, by bits.
template <class D>
HWY_INLINE auto nan_by_bits(D d, Vec<D> x) {
  return hn::RebindMask(d, hn::Gt(magnitude(d, x), hn::BitCast(IntTag<D>(), inf_of(d))));
}
template <class D>
HWY_INLINE Vec<D> arg(D d, double v) {
  return hn::Set(d, Lane<D>(v));
}

template <class T, template <class> class Op>
void fused(const void* const* in, void* const* out, int64_t n, const double* args) {
  using O = Op<Tag<T>>;
  const Tag<T> d;
  const O op(d, args);
  const T* x[O::kIn];
  T* y[O::kOut];
  for (int k = 0; k < O::kIn; ++k) x[k] = static_cast<const T*>(in[k]);
  for (int k = 0; k < O::kOut; ++k) y[k] = static_cast<T*>(out[k]);
  each<T>(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
    Vec<Tag<T>> v[O::kIn], r[O::kOut];
    KEEL_UNROLL
    for (int k = 0; k < O::kIn; ++k) v[k] = load(x[k] + i);
    op(d, v, r);
    KEEL_UNROLL
    for (int k = 0; k < O::kOut; ++k) store(r[k], y[k] + i);
  });
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
