// Arithmetic of two operands, f32 and f64. Bound by memory, but for floor_divide, remainder, and f64 atan2, which are libm's.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/binary_arith.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/power-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
KEEL_LANES2(Add, hn::Add(x, y))
KEEL_LANES2(Sub, hn::Sub(x, y))
KEEL_LANES2(Mul, hn::Mul(x, y))
KEEL_LANES2(Div, hn::Div(x, y))
KEEL_LANES2(LongPow, long_pow(d, x, y))
// maxps gives its second operand where one is NaN or both are zero; the others spell that out.
#if KEEL_MASKED_MEMORY
KEEL_LANES2(Maximum, hn::IfThenElse(is_nan(d, x), x, hn::Max(x, y)))
KEEL_LANES2(Minimum, hn::IfThenElse(is_nan(d, x), x, hn::Min(x, y)))
#else
KEEL_LANES2(Maximum, hn::IfThenElse(is_nan(d, x), x, hn::IfThenElse(hn::Gt(x, y), x, y)))
KEEL_LANES2(Minimum, hn::IfThenElse(is_nan(d, x), x, hn::IfThenElse(hn::Lt(x, y), x, y)))
#endif

/// Python's remainder, the sign of b, and the quotient that goes with it, rounded down.
template <class T>
struct Remainder {
  static T call(T a, T b) {
    const T m = std::fmod(a, b);
    return m == 0 ? std::copysign(m, b) : (m < 0) != (b < 0) ? m + b : m;
  }
};
template <class T>
struct FloorDivide {
  static T call(T a, T b) {
    if (b == 0) return a / b;
    const T m = std::fmod(a, b);
    const T q = (a - m) / b - T(m != 0 && (m < 0) != (b < 0));
    if (q == 0) return std::copysign(T(0), a / b);
    const T f = std::floor(q);
    return q - f > T(0.5) ? f + 1 : f;
  }
};
template <class T>
struct Atan2 {
  static T call(T a, T b) { return std::atan2(a, b); }
};

template <class T>
BinaryLoop find_float(BinaryOp op, BinaryMode mode) {
  switch (op) {
    case BinaryOp::add: return binary_of<T, Add>(mode);
    case BinaryOp::sub: return binary_of<T, Sub>(mode);
    case BinaryOp::mul: return binary_of<T, Mul>(mode);
    case BinaryOp::div: return binary_of<T, Div>(mode);
    case BinaryOp::maximum: return binary_of<T, Maximum>(mode);
    case BinaryOp::minimum: return binary_of<T, Minimum>(mode);
    case BinaryOp::remainder: return binary_plain_of<T, T, Remainder<T>>(mode);
    case BinaryOp::floor_divide: return binary_plain_of<T, T, FloorDivide<T>>(mode);
    case BinaryOp::pow: return sizeof(T) == 4 ? binary_wide_of<WidePow>(mode) : binary_of<double, LongPow>(mode);
    case BinaryOp::atan2: return sizeof(T) == 4 ? binary_wide_of<WideAtan2>(mode) : binary_plain_of<double, double, Atan2<double>>(mode);
    default: return nullptr;
  }
}

}  // namespace

BinaryLoop binary_arith(BinaryOp op, DType t, BinaryMode mode) {
  return t == DType::f32 ? find_float<float>(op, mode) : t == DType::f64 ? find_float<double>(op, mode) : nullptr;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(binary_arith);
BinaryLoop binary_int_loop(BinaryOp op, DType t, BinaryMode mode);
BinaryLoop binary_compare_loop(BinaryOp op, DType t, BinaryMode mode);
BinaryLoop binary_grad_loop(BinaryOp op, DType t, BinaryMode mode);
BinaryLoop binary_complex_loop(BinaryOp op, DType t, BinaryMode mode);
BinaryLoop binary_loop(BinaryOp op, DType t, BinaryMode mode) {
  if (BinaryLoop f = KEEL_SIMD(binary_arith)(op, t, mode)) return f;
  if (BinaryLoop f = binary_int_loop(op, t, mode)) return f;
  if (BinaryLoop f = binary_compare_loop(op, t, mode)) return f;
  if (BinaryLoop f = binary_complex_loop(op, t, mode)) return f;
  return mode == BinaryMode::vv ? binary_grad_loop(op, t, mode) : nullptr;
}
}  // namespace keel::cpu
#endif
