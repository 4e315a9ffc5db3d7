// Activations of f32 and f64 in their forward form, and tan, which is computed in f64.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/unary_activation.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/activation-inl.h"
#include "backend/cpu/loops/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
KEEL_LANES1(Gelu, math::gelu(d, x))
KEEL_LANES1(GeluTanh, math::gelu_tanh(d, x))
KEEL_LANES1(Silu, math::silu(d, x))
KEEL_LANES1(Mish, math::mish(d, x))
KEEL_LANES1(Selu, math::elu(d, x, hn::Set(d, Lane<D>(math::kSeluScale)), hn::Set(d, Lane<D>(math::kSeluScale* math::kSeluAlpha))))
KEEL_LANES1(TanLibm, per_lane(d, x, [](double v) { return std::tan(v); }))

template <class D>
struct Elu {
  Vec<D> alpha;
  HWY_INLINE Elu(D d, const double* a) : alpha(hn::Set(d, Lane<D>(a[0]))) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> x) const { return math::elu(d, x, hn::Set(d, 1), alpha); }
};
template <class D>
struct Softplus {
  Vec<D> beta, threshold;
  HWY_INLINE Softplus(D d, const double* a) : beta(hn::Set(d, Lane<D>(a[0]))), threshold(hn::Set(d, Lane<D>(a[1]))) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> x) const {
    const Vec<D> z = hn::Mul(x, beta);
    return hn::IfThenElse(hn::Gt(z, threshold), x, hn::Div(math::softplus(d, z), beta));
  }
};

template <class T>
UnaryLoop find(UnaryOp op) {
  switch (op) {
    case UnaryOp::gelu: return unary<T, Gelu>;
    case UnaryOp::gelu_tanh: return unary<T, GeluTanh>;
    case UnaryOp::silu: return unary<T, Silu>;
    case UnaryOp::mish: return unary<T, Mish>;
    case UnaryOp::selu: return unary<T, Selu>;
    case UnaryOp::elu: return unary<T, Elu>;
    case UnaryOp::softplus: return unary<T, Softplus>;
    default: return nullptr;
  }
}
}  // namespace
UnaryLoop unary_activation(UnaryOp op, DType t) {
  if (op == UnaryOp::tan) return t == DType::f32 ? unary_wide<WideTan> : t == DType::f64 ? unary<double, TanLibm> : nullptr;
  return t == DType::f32 ? find<float>(op) : t == DType::f64 ? find<double>(op) : nullptr;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(unary_activation);
UnaryLoop unary_activation_loop(UnaryOp op, DType t);
UnaryLoop unary_activation_loop(UnaryOp op, DType t) { return KEEL_SIMD(unary_activation)(op, t); }
}  // namespace keel::cpu
#endif
