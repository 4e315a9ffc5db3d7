// Elementwise functions of one operand that are a few instructions: bound by memory or by L1 throughput. Integers are plain C++ that the
// compiler vectorises; signed overflow wraps.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/unary_basic.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"

#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
KEEL_LANES1(Abs, hn::Abs(x))
KEEL_LANES1(Neg, hn::Neg(x))
KEEL_LANES1(Square, hn::Mul(x, x))
KEEL_LANES1(Relu, at_least(d, x, hn::Zero(d)))
KEEL_LANES1(Sqrt, hn::Sqrt(x))
KEEL_LANES1(Rsqrt, hn::Div(hn::Set(d, 1), hn::Sqrt(x)))
KEEL_LANES1(Reciprocal, hn::Div(hn::Set(d, 1), x))

template <class D>
struct Sign {
  HWY_INLINE Sign(D, const double*) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> x) const {
    const Vec<D> one = hn::Set(d, 1), zero = hn::Zero(d);
    const Vec<D> s = hn::Sub(hn::IfThenElseZero(hn::Gt(x, zero), one), hn::IfThenElseZero(hn::Lt(x, zero), one));
    return hn::IfThenElse(is_nan(d, x), x, s);
  }
};
#if KEEL_MASKED_MEMORY
KEEL_LANES1(Floor, hn::Floor(x))
KEEL_LANES1(Ceil, hn::Ceil(x))
KEEL_LANES1(Round, hn::Round(x))
KEEL_LANES1(Trunc, hn::Trunc(x))
#else
KEEL_LANES1(Floor, per_lane(d, x, [](Lane<D> v) { return std::floor(v); }))
KEEL_LANES1(Ceil, per_lane(d, x, [](Lane<D> v) { return std::ceil(v); }))
KEEL_LANES1(Round, per_lane(d, x, [](Lane<D> v) { return std::nearbyint(v); }))
KEEL_LANES1(Trunc, per_lane(d, x, [](Lane<D> v) { return std::trunc(v); }))
#endif

template <class D>
struct LeakyRelu {
  Vec<D> slope;
  HWY_INLINE LeakyRelu(D d, const double* a) : slope(hn::Set(d, Lane<D>(a[0]))) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> x) const { return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), x, hn::Mul(x, slope)); }
};
template <class D>
struct Hardswish {
  HWY_INLINE Hardswish(D, const double*) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> x) const {
    const Vec<D> six = hn::Set(d, 6), gate = at_most(d, at_least(d, hn::Add(x, hn::Set(d, 3)), hn::Zero(d)), six);
    return hn::Mul(x, hn::Div(gate, six));
  }
};

template <class T>
UnaryLoop find_float(UnaryOp op) {
  switch (op) {
    case UnaryOp::abs: return unary<T, Abs>;
    case UnaryOp::neg: return unary<T, Neg>;
    case UnaryOp::sign: return unary<T, Sign>;
    case UnaryOp::square: return unary<T, Square>;
    case UnaryOp::relu: return unary<T, Relu>;
    case UnaryOp::sqrt: return unary<T, Sqrt>;
    case UnaryOp::rsqrt: return unary<T, Rsqrt>;
    case UnaryOp::reciprocal: return unary<T, Reciprocal>;
    case UnaryOp::floor: return unary<T, Floor>;
    case UnaryOp::ceil: return unary<T, Ceil>;
    case UnaryOp::round: return unary<T, Round>;
    case UnaryOp::trunc: return unary<T, Trunc>;
    case UnaryOp::clamp: return unary<T, Between>;
    case UnaryOp::leaky_relu: return unary<T, LeakyRelu>;
    case UnaryOp::hardswish: return unary<T, Hardswish>;
    default: return nullptr;
  }
}

template <class T>
struct IntAbs {
  static T call(T x) { return x < 0 ? T(0 - std::make_unsigned_t<T>(x)) : x; }
};
template <class T>
struct IntNeg {
  static T call(T x) { return T(0 - std::make_unsigned_t<T>(x)); }
};
template <class T>
struct IntSign {
  static T call(T x) { return T((x > 0) - (x < 0)); }
};
template <class T>
struct IntSquare {
  static T call(T x) { return T(uint64_t(x) * uint64_t(x)); }
};
template <class T>
struct IntRelu {
  static T call(T x) { return x > 0 ? x : T(0); }
};
template <class T>
struct IntNot {
  static T call(T x) { return T(~x); }
};

template <class T>
UnaryLoop find_int(UnaryOp op) {
  switch (op) {
    case UnaryOp::abs: return unary_plain<T, T, IntAbs<T>>;
    case UnaryOp::neg: return unary_plain<T, T, IntNeg<T>>;
    case UnaryOp::sign: return unary_plain<T, T, IntSign<T>>;
    case UnaryOp::square: return unary_plain<T, T, IntSquare<T>>;
    case UnaryOp::relu: return unary_plain<T, T, IntRelu<T>>;
    case UnaryOp::bitwise_not: return unary_plain<T, T, IntNot<T>>;
    default: return nullptr;
  }
}

template <class T>
struct IsNan {
  static uint8_t call(T x) { return x != x; }
};
template <class T>
struct IsInf {
  static uint8_t call(T x) { return (x < 0 ? -x : x) == T(__builtin_inf()); }
};
template <class T>
struct IsFinite {
  static uint8_t call(T x) { return (x < 0 ? -x : x) < T(__builtin_inf()); }
};
template <class T>
struct LogicalNot {
  static uint8_t call(T x) { return x == 0; }
};
template <class T>
UnaryLoop find_test(UnaryOp op) {
  if constexpr (std::is_floating_point_v<T>) {
    if (op == UnaryOp::isnan) return unary_plain<T, uint8_t, IsNan<T>>;
    if (op == UnaryOp::isinf) return unary_plain<T, uint8_t, IsInf<T>>;
    if (op == UnaryOp::isfinite) return unary_plain<T, uint8_t, IsFinite<T>>;
  }
  return op == UnaryOp::logical_not ? unary_plain<T, uint8_t, LogicalNot<T>> : nullptr;
}
template <class T>
UnaryLoop find(UnaryOp op) {
  if (UnaryLoop f = find_test<T>(op)) return f;
  if constexpr (std::is_floating_point_v<T>)
    return find_float<T>(op);
  else
    return find_int<T>(op);
}
}  // namespace

UnaryLoop unary_basic(UnaryOp op, DType t) {
  switch (t) {
    case DType::f32: return find<float>(op);
    case DType::f64: return find<double>(op);
    case DType::boolean: return op == UnaryOp::bitwise_not ? find_test<uint8_t>(UnaryOp::logical_not) : find_test<uint8_t>(op);
    case DType::u8: return find<uint8_t>(op);
    case DType::u16: return find<uint16_t>(op);
    case DType::u32: return find<uint32_t>(op);
    case DType::u64: return find<uint64_t>(op);
    case DType::i8: return find<int8_t>(op);
    case DType::i16: return find<int16_t>(op);
    case DType::i32: return find<int32_t>(op);
    case DType::i64: return find<int64_t>(op);
    default: return nullptr;
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(unary_basic);
UnaryLoop unary_math_loop(UnaryOp op, DType t);
UnaryLoop unary_activation_loop(UnaryOp op, DType t);
UnaryLoop unary_complex_loop(UnaryOp op, DType t);
UnaryLoop unary_loop(UnaryOp op, DType t) {
  if (UnaryLoop f = KEEL_SIMD(unary_basic)(op, t)) return f;
  if (UnaryLoop f = unary_math_loop(op, t)) return f;
  if (UnaryLoop f = unary_activation_loop(op, t)) return f;
  return unary_complex_loop(op, t);
}
}  // namespace keel::cpu
#endif
