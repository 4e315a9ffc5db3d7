// Fused backward loops of activations, dx = g f'(saved), and the ternary loops.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/binary_grad.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
// x is the cotangent, y the saved value.
KEEL_LANES2(TanhGrad, hn::Mul(x, fnma(d, y, y, hn::Set(d, 1))))
KEEL_LANES2(SigmoidGrad, hn::Mul(hn::Mul(x, hn::Sub(hn::Set(d, 1), y)), y))
KEEL_LANES2(GeluGrad, hn::Mul(x, math::gelu_slope(d, y)))
KEEL_LANES2(GeluTanhGrad, hn::Mul(x, math::gelu_tanh_slope(d, y)))
KEEL_LANES2(SiluGrad, hn::Mul(x, math::silu_slope(d, y)))
KEEL_LANES2(MishGrad, hn::Mul(x, math::mish_slope(d, y)))
KEEL_LANES2(ReluGrad, hn::IfThenZeroElse(hn::Le(y, hn::Zero(d)), x))

template <class D>
struct LeakyReluGrad {
  Vec<D> slope;
  HWY_INLINE LeakyReluGrad(D d, const double* a) : slope(hn::Set(d, Lane<D>(a[0]))) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> g, Vec<D> x) const { return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), g, hn::Mul(g, slope)); }
};
template <class D>
struct SoftplusGrad {
  Vec<D> beta, threshold;
  HWY_INLINE SoftplusGrad(D d, const double* a) : beta(hn::Set(d, Lane<D>(a[0]))), threshold(hn::Set(d, Lane<D>(a[1]))) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> g, Vec<D> x) const {
    const Vec<D> z = hn::Mul(x, beta);
    return hn::IfThenElse(hn::Gt(z, threshold), g, hn::Mul(g, math::sigmoid(d, z)));
  }
};
template <class D>
struct EluGrad {
  Vec<D> alpha;
  HWY_INLINE EluGrad(D d, const double* a) : alpha(hn::Set(d, Lane<D>(a[0]))) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> g, Vec<D> x) const {
    return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), g, hn::Mul(g, hn::Mul(alpha, math::exp(d, x))));
  }
};
template <class D>
struct SeluGrad {
  HWY_INLINE SeluGrad(D, const double*) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> g, Vec<D> x) const {
    const Vec<D> scale = hn::Set(d, Lane<D>(math::kSeluScale)), slope = hn::Set(d, Lane<D>(math::kSeluScale * math::kSeluAlpha));
    return hn::Mul(g, hn::IfThenElse(hn::Gt(x, hn::Zero(d)), scale, hn::Mul(slope, math::exp(d, x))));
  }
};
template <class D>
struct HardswishGrad {
  HWY_INLINE HardswishGrad(D, const double*) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> g, Vec<D> x) const {
    const Vec<D> three = hn::Set(d, 3), inner = hn::Mul(g, hn::Add(hn::Div(x, three), hn::Set(d, Lane<D>(0.5))));
    return hn::IfThenZeroElse(hn::Le(x, hn::Neg(three)), hn::IfThenElse(hn::Lt(x, three), inner, g));
  }
};

template <class T>
BinaryLoop find(BinaryOp op) {
  constexpr BinaryMode vv = BinaryMode::vv;
  switch (op) {
    case BinaryOp::tanh_grad: return binary<T, TanhGrad, vv>;
    case BinaryOp::sigmoid_grad: return binary<T, SigmoidGrad, vv>;
    case BinaryOp::gelu_grad: return binary<T, GeluGrad, vv>;
    case BinaryOp::gelu_tanh_grad: return binary<T, GeluTanhGrad, vv>;
    case BinaryOp::silu_grad: return binary<T, SiluGrad, vv>;
    case BinaryOp::mish_grad: return binary<T, MishGrad, vv>;
    case BinaryOp::softplus_grad: return binary<T, SoftplusGrad, vv>;
    case BinaryOp::relu_grad: return binary<T, ReluGrad, vv>;
    case BinaryOp::leaky_relu_grad: return binary<T, LeakyReluGrad, vv>;
    case BinaryOp::elu_grad: return binary<T, EluGrad, vv>;
    case BinaryOp::hardswish_grad: return binary<T, HardswishGrad, vv>;
    case BinaryOp::selu_grad: return binary<T, SeluGrad, vv>;
    default: return nullptr;
  }
}

template <class D>
struct Lerp {
  HWY_INLINE Lerp(D, const double*) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> a, Vec<D> b, Vec<D> w) const {
    const Vec<D> diff = hn::Sub(b, a);
    return hn::IfThenElse(hn::Lt(w, hn::Set(d, Lane<D>(0.5))), hn::Add(a, hn::Mul(w, diff)),
                          hn::Sub(b, hn::Mul(diff, hn::Sub(hn::Set(d, 1), w))));
  }
};
template <class D>
struct Clamp {
  HWY_INLINE Clamp(D, const double*) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> x, Vec<D> lo, Vec<D> hi) const {
    Vec<D> y = hn::IfThenElse(hn::Lt(x, lo), lo, x);
    y = hn::IfThenElse(hn::Gt(y, hi), hi, y);
    return hn::IfThenElse(is_nan(d, lo), lo, hn::IfThenElse(is_nan(d, hi), hi, y));
  }
};
template <class D>
struct Addcmul {
  Vec<D> value;
  HWY_INLINE Addcmul(D d, const double* a) : value(hn::Set(d, Lane<D>(a[0]))) {}
  HWY_INLINE Vec<D> operator()(D, Vec<D> a, Vec<D> b, Vec<D> c) const { return hn::Add(a, hn::Mul(hn::Mul(value, b), c)); }
};
template <class D>
struct Addcdiv {
  Vec<D> value;
  HWY_INLINE Addcdiv(D d, const double* a) : value(hn::Set(d, Lane<D>(a[0]))) {}
  HWY_INLINE Vec<D> operator()(D, Vec<D> a, Vec<D> b, Vec<D> c) const { return hn::Add(a, hn::Div(hn::Mul(value, b), c)); }
};
KEEL_LANES3(FusedMultiplyAdd, fma(d, x, y, z))

template <class T>
TernaryLoop find(TernaryOp op) {
  switch (op) {
    case TernaryOp::lerp: return ternary<T, Lerp>;
    case TernaryOp::clamp: return ternary<T, Clamp>;
    case TernaryOp::addcmul: return ternary<T, Addcmul>;
    case TernaryOp::addcdiv: return ternary<T, Addcdiv>;
    case TernaryOp::fma: return ternary<T, FusedMultiplyAdd>;
    default: return nullptr;
  }
}
template <class T>
void clamp_int(const void* x_, const void* lo_, const void* hi_, void* y_, int64_t n, const double*) {
  const T *x = static_cast<const T*>(x_), *lo = static_cast<const T*>(lo_), *hi = static_cast<const T*>(hi_);
  T* y = static_cast<T*>(y_);
  for (int64_t i = 0; i < n; ++i) {
    const T v = x[i] < lo[i] ? lo[i] : x[i];
    y[i] = v > hi[i] ? hi[i] : v;
  }
}
}  // namespace

BinaryLoop binary_grad(BinaryOp op, DType t) { return t == DType::f32 ? find<float>(op) : t == DType::f64 ? find<double>(op) : nullptr; }
TernaryLoop ternary_any(TernaryOp op, DType t) {
  if (t == DType::f32) return find<float>(op);
  if (t == DType::f64) return find<double>(op);
  if (op != TernaryOp::clamp) return nullptr;
  switch (t) {
    case DType::u8: return clamp_int<uint8_t>;
    case DType::u16: return clamp_int<uint16_t>;
    case DType::u32: return clamp_int<uint32_t>;
    case DType::u64: return clamp_int<uint64_t>;
    case DType::i8: return clamp_int<int8_t>;
    case DType::i16: return clamp_int<int16_t>;
    case DType::i32: return clamp_int<int32_t>;
    case DType::i64: return clamp_int<int64_t>;
    default: return nullptr;
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(binary_grad);
KEEL_SIMD_EXPORT(ternary_any);
BinaryLoop binary_grad_loop(BinaryOp op, DType t, BinaryMode mode);
BinaryLoop binary_grad_loop(BinaryOp op, DType t, BinaryMode) { return KEEL_SIMD(binary_grad)(op, t); }
TernaryLoop ternary_loop(TernaryOp op, DType t) { return KEEL_SIMD(ternary_any)(op, t); }
}  // namespace keel::cpu
#endif
