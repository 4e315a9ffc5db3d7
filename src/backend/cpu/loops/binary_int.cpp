// Arithmetic of two integer operands in plain C++ that the compiler vectorises. Overflow wraps; division by 0 gives 0.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/binary_int.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"

#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
template <class T>
using U = std::make_unsigned_t<T>;
template <class T>
struct IntAdd {
  static T call(T a, T b) { return T(U<T>(a) + U<T>(b)); }
};
template <class T>
struct IntSub {
  static T call(T a, T b) { return T(U<T>(a) - U<T>(b)); }
};
template <class T>
struct IntMul {
  static T call(T a, T b) { return sizeof(T) == 8 ? T(uint64_t(a) * uint64_t(b)) : T(uint32_t(a) * uint32_t(b)); }
};
template <class T>
struct IntMax {
  static T call(T a, T b) { return a > b ? a : b; }
};
template <class T>
struct IntMin {
  static T call(T a, T b) { return a < b ? a : b; }
};
template <class T>
struct IntRemainder {
  static T call(T a, T b) {
    if (b == 0) return 0;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
      const T m = T(a % b);
      return m != 0 && (m < 0) != (b < 0) ? T(m + b) : m;
    } else {
      return T(a % b);
    }
  }
};
template <class T>
struct IntFloorDivide {
  static T call(T a, T b) {
    if (b == 0) return 0;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return T(0 - U<T>(a));
      const T q = T(a / b);
      return T(q - (a % b != 0 && (a < 0) != (b < 0)));
    } else {
      return T(a / b);
    }
  }
};
template <class T>
struct IntPow {
  static T call(T a, T b) {
    if constexpr (std::is_signed_v<T>) {
      if (b < 0) return a == 1 ? T(1) : a == -1 ? (b & 1 ? T(-1) : T(1)) : T(0);
    }
    uint64_t r = 1, p = uint64_t(a);
    for (uint64_t e = uint64_t(b); e; e >>= 1, p *= p)
      if (e & 1) r *= p;
    return T(r);
  }
};
template <class T>
struct BitAnd {
  static T call(T a, T b) { return T(a & b); }
};
template <class T>
struct BitOr {
  static T call(T a, T b) { return T(a | b); }
};
template <class T>
struct BitXor {
  static T call(T a, T b) { return T(a ^ b); }
};

template <class T>
BinaryLoop find_bits(BinaryOp op, BinaryMode mode) {  // the same bits for signed and unsigned
  switch (op) {
    case BinaryOp::add: return binary_plain_of<T, T, IntAdd<T>>(mode);
    case BinaryOp::sub: return binary_plain_of<T, T, IntSub<T>>(mode);
    case BinaryOp::mul: return binary_plain_of<T, T, IntMul<T>>(mode);
    case BinaryOp::bitwise_and: return binary_plain_of<T, T, BitAnd<T>>(mode);
    case BinaryOp::bitwise_or: return binary_plain_of<T, T, BitOr<T>>(mode);
    case BinaryOp::bitwise_xor: return binary_plain_of<T, T, BitXor<T>>(mode);
    default: return nullptr;
  }
}
template <class T>
BinaryLoop find_int(BinaryOp op, BinaryMode mode) {
  switch (op) {
    case BinaryOp::maximum: return binary_plain_of<T, T, IntMax<T>>(mode);
    case BinaryOp::minimum: return binary_plain_of<T, T, IntMin<T>>(mode);
    case BinaryOp::remainder: return binary_plain_of<T, T, IntRemainder<T>>(mode);
    case BinaryOp::floor_divide: return binary_plain_of<T, T, IntFloorDivide<T>>(mode);
    case BinaryOp::pow: return binary_plain_of<T, T, IntPow<T>>(mode);
    default: return find_bits<std::make_unsigned_t<T>>(op, mode);
  }
}
}  // namespace

BinaryLoop binary_int(BinaryOp op, DType t, BinaryMode mode) {
  switch (t) {
    case DType::u8: return find_int<uint8_t>(op, mode);
    case DType::u16: return find_int<uint16_t>(op, mode);
    case DType::u32: return find_int<uint32_t>(op, mode);
    case DType::u64: return find_int<uint64_t>(op, mode);
    case DType::i8: return find_int<int8_t>(op, mode);
    case DType::i16: return find_int<int16_t>(op, mode);
    case DType::i32: return find_int<int32_t>(op, mode);
    case DType::i64: return find_int<int64_t>(op, mode);
    default: return nullptr;
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(binary_int);
BinaryLoop binary_int_loop(BinaryOp op, DType t, BinaryMode mode);
BinaryLoop binary_int_loop(BinaryOp op, DType t, BinaryMode mode) { return KEEL_SIMD(binary_int)(op, t, mode); }
}  // namespace keel::cpu
#endif
