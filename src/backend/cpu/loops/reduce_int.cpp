// Reductions of integers and bools, and any and all of every type, in plain C++ that the compiler vectorises: the order does not matter.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/reduce_int.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/reduce.h"
#include "backend/cpu/loops/vec-inl.h"

#include <limits>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class T>
struct Sum {  // A is i64 or u64; unsigned arithmetic wraps
  using A = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
  static constexpr A identity = 0;
  static A step(A a, T x) { return A(uint64_t(a) + uint64_t(A(x))); }
  static A join(A a, A b) { return A(uint64_t(a) + uint64_t(b)); }
};
struct SumBool {
  using A = int64_t;
  static constexpr A identity = 0;
  static A step(A a, uint8_t x) { return a + x; }
  static A join(A a, A b) { return a + b; }
};
template <class T>
struct Prod {
  using A = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
  static constexpr A identity = 1;
  static A step(A a, T x) { return A(uint64_t(a) * uint64_t(A(x))); }
  static A join(A a, A b) { return A(uint64_t(a) * uint64_t(b)); }
};
struct ProdBool {
  using A = int64_t;
  static constexpr A identity = 1;
  static A step(A a, uint8_t x) { return a * x; }
  static A join(A a, A b) { return a * b; }
};
template <class T>
struct Max {
  using A = T;
  static constexpr A identity = std::numeric_limits<T>::min();
  static A step(A a, T x) { return x > a ? x : a; }
  static A join(A a, A b) { return b > a ? b : a; }
};
template <class T>
struct Min {
  using A = T;
  static constexpr A identity = std::numeric_limits<T>::max();
  static A step(A a, T x) { return x < a ? x : a; }
  static A join(A a, A b) { return b < a ? b : a; }
};
/// On bit patterns; `keep` drops the sign of floats, so that -0 counts as zero.
template <class U, U keep>
struct Any {
  using A = uint8_t;
  static constexpr A identity = 0;
  static A step(A a, U x) { return a | uint8_t((x & keep) != 0); }
  static A join(A a, A b) { return a | b; }
};
template <class U, U keep>
struct All {
  using A = uint8_t;
  static constexpr A identity = 1;
  static A step(A a, U x) { return a & uint8_t((x & keep) != 0); }
  static A join(A a, A b) { return a & b; }
};

template <class M, class T>
void block(const void* x_, int64_t n, const void*, void* out, bool) {
  const T* x = static_cast<const T*>(x_);
  typename M::A a = M::identity;
  for (int64_t i = 0; i < n; ++i) a = M::step(a, x[i]);
  *static_cast<typename M::A*>(out) = a;
}
template <class M, class T>
void columns(const void* x_, int64_t rows, int64_t stride, int64_t width, bool join, const void*, void* out_, bool) {
  const T* x = static_cast<const T*>(x_);
  auto* out = static_cast<typename M::A*>(out_);
  if (!join)
    for (int64_t i = 0; i < width; ++i) out[i] = M::identity;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; ++i) out[i] = M::step(out[i], x[r * stride + i]);
}
template <class M>
void join(void* a_, const void* b_, int64_t n) {
  auto* a = static_cast<typename M::A*>(a_);
  const auto* b = static_cast<const typename M::A*>(b_);
  for (int64_t i = 0; i < n; ++i) a[i] = M::join(a[i], b[i]);
}
template <class M, class T>
ReduceLoops loops_of() {
  return {block<M, T>, columns<M, T>, join<M>};
}

template <class T>
ReduceLoops find(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum: return loops_of<Sum<T>, T>();
    case ReduceOp::prod: return loops_of<Prod<T>, T>();
    case ReduceOp::max: return loops_of<Max<T>, T>();
    case ReduceOp::min: return loops_of<Min<T>, T>();
    default: return {};
  }
}
template <class U>
ReduceLoops find_truth(ReduceOp op, bool drop_sign) {
  constexpr U kAll = U(~U(0)), kMagnitude = U(kAll >> 1);
  if (op == ReduceOp::any) return drop_sign ? loops_of<Any<U, kMagnitude>, U>() : loops_of<Any<U, kAll>, U>();
  return drop_sign ? loops_of<All<U, kMagnitude>, U>() : loops_of<All<U, kAll>, U>();
}
template <class T>
int64_t arg(bool largest, const void* x_, int64_t n) {
  const T* x = static_cast<const T*>(x_);
  T v;
  if (largest)
    block<Max<T>, T>(x, n, nullptr, &v, false);
  else
    block<Min<T>, T>(x, n, nullptr, &v, false);
  for (int64_t i = 0;; ++i)
    if (x[i] == v) return i;
}
}  // namespace

ReduceLoops reduce_int(ReduceOp op, DType t) {
  if (op == ReduceOp::any || op == ReduceOp::all) {
    switch (size_of(t)) {
      case 1: return find_truth<uint8_t>(op, is_floating(t));
      case 2: return find_truth<uint16_t>(op, is_floating(t));
      case 4: return find_truth<uint32_t>(op, is_floating(t));
      default: return find_truth<uint64_t>(op, is_floating(t));
    }
  }
  switch (t) {
    case DType::boolean:
      if (op == ReduceOp::sum) return loops_of<SumBool, uint8_t>();
      if (op == ReduceOp::prod) return loops_of<ProdBool, uint8_t>();
      return find<uint8_t>(op);
    case DType::u8: return find<uint8_t>(op);
    case DType::u16: return find<uint16_t>(op);
    case DType::u32: return find<uint32_t>(op);
    case DType::u64: return find<uint64_t>(op);
    case DType::i8: return find<int8_t>(op);
    case DType::i16: return find<int16_t>(op);
    case DType::i32: return find<int32_t>(op);
    case DType::i64: return find<int64_t>(op);
    default: return {};
  }
}
int64_t arg_int(bool largest, DType t, const void* x, int64_t n) {
  switch (t) {
    case DType::u16: return arg<uint16_t>(largest, x, n);
    case DType::u32: return arg<uint32_t>(largest, x, n);
    case DType::u64: return arg<uint64_t>(largest, x, n);
    case DType::i8: return arg<int8_t>(largest, x, n);
    case DType::i16: return arg<int16_t>(largest, x, n);
    case DType::i32: return arg<int32_t>(largest, x, n);
    case DType::i64: return arg<int64_t>(largest, x, n);
    default: return arg<uint8_t>(largest, x, n);
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(reduce_int);
KEEL_SIMD_EXPORT(arg_int);
ReduceLoops reduce_int_loops(ReduceOp op, DType t);
int64_t arg_extreme_int(bool largest, DType t, const void* x, int64_t n);
ReduceLoops reduce_int_loops(ReduceOp op, DType t) { return KEEL_SIMD(reduce_int)(op, t); }
int64_t arg_extreme_int(bool largest, DType t, const void* x, int64_t n) { return KEEL_SIMD(arg_int)(largest, t, x, n); }
}  // namespace keel::cpu
#endif
