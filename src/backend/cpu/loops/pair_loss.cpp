// Squared, absolute and logistic loss loops. Bound by memory.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/pair_loss.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"
#include "backend/cpu/loops/pair_loss.h"
#include "backend/cpu/loops/reduce-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
template <class D>
HWY_INLINE Vec<D> squared(D, Vec<D> x, Vec<D> y) {
  const Vec<D> d = hn::Sub(x, y);
  return hn::Mul(d, d);
}
KEEL_LANES2(Square, squared(d, x, y))
KEEL_LANES2(Absolute, hn::Abs(hn::Sub(x, y)))
KEEL_LANES2(Logits, hn::Add(hn::Sub(at_least(d, x, hn::Zero(d)), hn::Mul(x, y)), math::log1p(d, math::exp(d, hn::Neg(hn::Abs(x))))))

template <class T, template <class> class Op>
void block(const void* x_, const void* t_, int64_t n, void* out) {
  const T *x = static_cast<const T*>(x_), *t = static_cast<const T*>(t_);
  using D = Tag<T>;
  const Op<D> op(D(), nullptr);
  *static_cast<T*>(out) = reduce_lanes<SumOf, T>(
      n, [&](int64_t i) HWY_ATTR { return op(D(), hn::LoadU(D(), x + i), hn::LoadU(D(), t + i)); },
      [&](int64_t i, size_t count) HWY_ATTR { return op(D(), load_n(D(), x + i, count), load_n(D(), t + i, count)); });
}
template <class T>
PairLossLoops find(PairLoss loss) {
  constexpr BinaryMode vv = BinaryMode::vv;
  switch (loss) {
    case PairLoss::square: return {binary<T, Square, vv>, block<T, Square>};
    case PairLoss::absolute: return {binary<T, Absolute, vv>, block<T, Absolute>};
    default: return {binary<T, Logits, vv>, block<T, Logits>};
  }
}
}  // namespace
PairLossLoops pair_losses(PairLoss loss, DType t) { return t == DType::f32 ? find<float>(loss) : find<double>(loss); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(pair_losses);
PairLossLoops pair_loss_loops(PairLoss loss, DType t) { return KEEL_SIMD(pair_losses)(loss, t); }
}  // namespace keel::cpu
#endif
