// Comparisons and logic: uint8 0 or 1 out of any type, in plain C++ that the compiler vectorises, and where. For bool, add and maximum are
// or, mul and minimum are and.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/binary_compare.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
#define KEEL_TEST2(Name, expression)                              \
  template <class T>                                              \
  struct Name {                                                   \
    static uint8_t call(T a, T b) { return uint8_t(expression); } \
  };
KEEL_TEST2(Eq, a == b)
KEEL_TEST2(Lt, a < b)
KEEL_TEST2(Le, a <= b)
KEEL_TEST2(Ne, a != b)
KEEL_TEST2(And, (a != 0) & (b != 0))
KEEL_TEST2(Or, (a != 0) | (b != 0))
KEEL_TEST2(Xor, (a != 0) ^ (b != 0))
#undef KEEL_TEST2

template <BinaryLoop loop>
void swapped(const void* a, const void* b, void* y, int64_t n, const double* args) {  // a > b is b < a
  loop(b, a, y, n, args);
}
template <class T, template <class> class Test>
BinaryLoop swapped_of(BinaryMode mode) {
  return mode == BinaryMode::vv   ? swapped<binary_plain<T, uint8_t, Test<T>>>
         : mode == BinaryMode::vs ? swapped<binary_plain_spread<T, uint8_t, Test<T>, true>>
                                  : swapped<binary_plain_spread<T, uint8_t, Test<T>, false>>;
}

/// What depends on the order of T.
template <class T>
BinaryLoop find_order(BinaryOp op, BinaryMode mode) {
  switch (op) {
    case BinaryOp::lt: return binary_plain_of<T, uint8_t, Lt<T>>(mode);
    case BinaryOp::le: return binary_plain_of<T, uint8_t, Le<T>>(mode);
    case BinaryOp::gt: return swapped_of<T, Lt>(mode);
    case BinaryOp::ge: return swapped_of<T, Le>(mode);
    default: return nullptr;
  }
}
/// What is the same for signed and unsigned integers.
template <class T>
BinaryLoop find_equal(BinaryOp op, BinaryMode mode) {
  switch (op) {
    case BinaryOp::eq: return binary_plain_of<T, uint8_t, Eq<T>>(mode);
    case BinaryOp::ne: return binary_plain_of<T, uint8_t, Ne<T>>(mode);
    case BinaryOp::logical_and: return binary_plain_of<T, uint8_t, And<T>>(mode);
    case BinaryOp::logical_or: return binary_plain_of<T, uint8_t, Or<T>>(mode);
    case BinaryOp::logical_xor: return binary_plain_of<T, uint8_t, Xor<T>>(mode);
    default: return nullptr;
  }
}
template <class T, class Bits = T>
BinaryLoop find(BinaryOp op, BinaryMode mode) {
  const BinaryLoop f = find_order<T>(op, mode);
  return f ? f : find_equal<Bits>(op, mode);
}
BinaryOp bool_op(BinaryOp op) {
  switch (op) {
    case BinaryOp::add:
    case BinaryOp::maximum:
    case BinaryOp::bitwise_or: return BinaryOp::logical_or;
    case BinaryOp::mul:
    case BinaryOp::minimum:
    case BinaryOp::bitwise_and: return BinaryOp::logical_and;
    case BinaryOp::bitwise_xor: return BinaryOp::logical_xor;
    default: return op;
  }
}

template <class T, bool step_a, bool step_b>
void select_plain(const uint8_t* cond, const void* a_, const void* b_, void* y_, int64_t n) {
  const T *a = static_cast<const T*>(a_), *b = static_cast<const T*>(b_);
  T* y = static_cast<T*>(y_);
  for (int64_t i = 0; i < n; ++i) {
    const T u = a[step_a ? i : 0], v = b[step_b ? i : 0];
    y[i] = cond[i] ? u : v;
  }
}
template <class T>
void select(const uint8_t* cond, const void* a, int a_step, const void* b, int b_step, void* y, int64_t n) {
  if (a_step) return b_step ? select_plain<T, true, true>(cond, a, b, y, n) : select_plain<T, true, false>(cond, a, b, y, n);
  return b_step ? select_plain<T, false, true>(cond, a, b, y, n) : select_plain<T, false, false>(cond, a, b, y, n);
}
struct Pair {
  uint64_t lo, hi;
};
}  // namespace

BinaryLoop binary_compare(BinaryOp op, DType t, BinaryMode mode) {
  switch (t) {
    case DType::f32: return find<float>(op, mode);
    case DType::f64: return find<double>(op, mode);
    case DType::boolean: return find<uint8_t>(bool_op(op), mode);
    case DType::u8: return find<uint8_t>(op, mode);
    case DType::u16: return find<uint16_t>(op, mode);
    case DType::u32: return find<uint32_t>(op, mode);
    case DType::u64: return find<uint64_t>(op, mode);
    case DType::i8: return find<int8_t, uint8_t>(op, mode);
    case DType::i16: return find<int16_t, uint16_t>(op, mode);
    case DType::i32: return find<int32_t, uint32_t>(op, mode);
    case DType::i64: return find<int64_t, uint64_t>(op, mode);
    default: return nullptr;
  }
}
void where_any(const uint8_t* cond, const void* a, int a_step, const void* b, int b_step, void* y, int64_t n, size_t bytes) {
  switch (bytes) {
    case 1: return select<uint8_t>(cond, a, a_step, b, b_step, y, n);
    case 2: return select<uint16_t>(cond, a, a_step, b, b_step, y, n);
    case 4: return select<uint32_t>(cond, a, a_step, b, b_step, y, n);
    case 8: return select<uint64_t>(cond, a, a_step, b, b_step, y, n);
    default: return select<Pair>(cond, a, a_step, b, b_step, y, n);
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(binary_compare);
KEEL_SIMD_EXPORT(where_any);
BinaryLoop binary_compare_loop(BinaryOp op, DType t, BinaryMode mode);
BinaryLoop binary_compare_loop(BinaryOp op, DType t, BinaryMode mode) { return KEEL_SIMD(binary_compare)(op, t, mode); }
void where_loop(const uint8_t* cond, const void* a, int a_step, const void* b, int b_step, void* y, int64_t n, size_t bytes) {
  if (n) KEEL_SIMD(where_any)(cond, a, a_step, b, b_step, y, n, bytes);
}
}  // namespace keel::cpu
#endif
