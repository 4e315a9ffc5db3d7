// Elementwise transcendental functions of f32 and f64. Bound by memory for f32 above L2 (about 15 to 35 vector instructions an element
// vector).
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/unary_math.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
KEEL_LANES1(Exp, math::exp(d, x))
KEEL_LANES1(Expm1, math::expm1(d, x))
KEEL_LANES1(Log, math::log(d, x))
KEEL_LANES1(Log1p, math::log1p(d, x))
KEEL_LANES1(Log2, math::log2(d, x))
KEEL_LANES1(Sin, math::sin(d, x))
KEEL_LANES1(Cos, math::cos(d, x))
KEEL_LANES1(Sinh, math::sinh(d, x))
KEEL_LANES1(Cosh, math::cosh(d, x))
KEEL_LANES1(Tanh, math::tanh(d, x))
KEEL_LANES1(Sigmoid, math::sigmoid(d, x))
KEEL_LANES1(Erf, math::erf(d, x))
}  // namespace

template <class T>
UnaryLoop find_unary_math(UnaryOp op) {
  switch (op) {
    case UnaryOp::exp: return unary<T, Exp>;
    case UnaryOp::expm1: return unary<T, Expm1>;
    case UnaryOp::log: return unary<T, Log>;
    case UnaryOp::log1p: return unary<T, Log1p>;
    case UnaryOp::log2: return unary<T, Log2>;
    case UnaryOp::sin: return unary<T, Sin>;
    case UnaryOp::cos: return unary<T, Cos>;
    case UnaryOp::sinh: return unary<T, Sinh>;
    case UnaryOp::cosh: return unary<T, Cosh>;
    case UnaryOp::tanh: return unary<T, Tanh>;
    case UnaryOp::sigmoid: return unary<T, Sigmoid>;
    case UnaryOp::erf: return unary<T, Erf>;
    default: return nullptr;
  }
}
UnaryLoop unary_math(UnaryOp op, DType t) {
  return t == DType::f32 ? find_unary_math<float>(op) : t == DType::f64 ? find_unary_math<double>(op) : nullptr;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(unary_math);
UnaryLoop unary_math_loop(UnaryOp op, DType t);
UnaryLoop unary_math_loop(UnaryOp op, DType t) { return KEEL_SIMD(unary_math)(op, t); }
}  // namespace keel::cpu
#endif
