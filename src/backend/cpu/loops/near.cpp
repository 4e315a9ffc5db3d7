// Comparison with tolerances and in units in the last place, in plain C++ that the compiler vectorises: results are bytes, or integers of
// another width than their operands.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/near.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"
#include "backend/cpu/loops/safe.h"
#include "keel/numerics/compare.h"
#include "keel/numerics/ulp.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class T>
void near_float(const void* const* in, void* const* out, int64_t n, const double* args) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]), rel = T(args[0]), abs = T(args[1]),
          inf = T(__builtin_inf());
  const bool equal_nan = args[2] != 0;
  uint8_t* y = static_cast<uint8_t*>(out[0]);
  for (int64_t i = 0; i < n; ++i) {
    const T x = a[i], z = b[i], p = std::fabs(x), q = std::fabs(z), distance = std::fabs(x - z);
    const T scaled = rel * (p > q ? p : q), tol = scaled > abs ? scaled : abs;
    // the distance is infinite where one operand is, and where it overflows
    y[i] = uint8_t((x == z) | ((distance <= tol) & (distance < inf)) | (equal_nan & (x != x) & (z != z)));
  }
}
template <class T>
void near_int(const void* const* in, void* const* out, int64_t n, const double* args) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  uint8_t* y = static_cast<uint8_t*>(out[0]);
  if (args[0] == 0 && args[1] == 0) {
    for (int64_t i = 0; i < n; ++i) y[i] = uint8_t(a[i] == b[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i) y[i] = uint8_t(numerics::compare::is_near(a[i], b[i], {.rel_tol = args[0], .abs_tol = args[1]}));
}
template <class T>
void near_zero_float(const void* const* in, void* const* out, int64_t n, const double* args) {
  const T *x = static_cast<const T*>(in[0]), tol = T(args[0]), inf = T(__builtin_inf());
  uint8_t* y = static_cast<uint8_t*>(out[0]);
  for (int64_t i = 0; i < n; ++i) {
    const T size = std::fabs(x[i]);
    y[i] = uint8_t((size <= tol) & (size < inf));
  }
}

template <class T>
int64_t steps(T a, T b) {
  if (numerics::is_nan(a) || numerics::is_nan(b)) return INT64_MAX;
  const int64_t p = numerics::ordered(a), q = numerics::ordered(b);
  const uint64_t n = p < q ? uint64_t(q) - uint64_t(p) : uint64_t(p) - uint64_t(q);
  return n > uint64_t(INT64_MAX) ? INT64_MAX : int64_t(n);
}
template <class T>
void ulp_of(const void* const* in, void* const* out, int64_t n, const double*) {
  const T* x = static_cast<const T*>(in[0]);
  T* y = static_cast<T*>(out[0]);
  for (int64_t i = 0; i < n; ++i) y[i] = numerics::is_nan(x[i]) ? FloatTraits<T>::quiet_nan() : numerics::ulp::of(x[i]);
}
/// The code of the next larger value, in selects that the compiler vectorises; with `down` of the next smaller one, which mirrors it.
template <class T, bool down>
void ulp_step(const void* const* in, void* const* out, int64_t n, const double*) {
  using U = numerics::detail::Bits<T>;
  constexpr U kSign = numerics::detail::kSign<T>, kBeyond = numerics::detail::kBeyond<T>, kFlip = down ? kSign : U(0);
  const U* x = static_cast<const U*>(in[0]);
  U* y = static_cast<U*>(out[0]);
  for (int64_t i = 0; i < n; ++i) {
    const U u = U(x[i] ^ kFlip), size = U(u & U(~kSign));
    const bool stays = FloatTraits<T>::has_infinity ? (size > kBeyond) | (u == kBeyond) : size == kBeyond;
    const U moved = size == 0 ? U(1) : u == size ? U(u + 1) : U(u - 1);
    y[i] = U((stays ? u : moved) ^ kFlip);
  }
}
template <class T>
void ulp_diff(const void* const* in, void* const* out, int64_t n, const double*) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  int64_t* y = static_cast<int64_t*>(out[0]);
  for (int64_t i = 0; i < n; ++i) y[i] = steps(a[i], b[i]);
}
template <class T>
void ulp_within(const void* const* in, void* const* out, int64_t n, const double* args) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  const double limit = args[0];
  uint8_t* y = static_cast<uint8_t*>(out[0]);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t d = steps(a[i], b[i]);
    y[i] = uint8_t(d == 0 || (numerics::is_finite(a[i]) && numerics::is_finite(b[i]) && double(d) <= limit));
  }
}

template <class T>
FusedLoop find_ulp(NearOp op) {
  switch (op) {
    case NearOp::of: return ulp_of<T>;
    case NearOp::next: return ulp_step<T, false>;
    case NearOp::prev: return ulp_step<T, true>;
    case NearOp::diff: return ulp_diff<T>;
    case NearOp::within: return ulp_within<T>;
    default: return nullptr;
  }
}
template <class T>
FusedLoop find_float(NearOp op) {
  return op == NearOp::near ? near_float<T> : op == NearOp::near_zero ? near_zero_float<T> : find_ulp<T>(op);
}
}  // namespace

FusedLoop near_any(NearOp op, DType t) {
  switch (t) {
    case DType::f64: return find_float<double>(op);
    case DType::f32: return find_float<float>(op);
    case DType::f16: return find_ulp<float16>(op);
    case DType::bf16: return find_ulp<bfloat16>(op);
    case DType::f8e4m3fn: return find_ulp<float8_e4m3fn>(op);
    case DType::f8e5m2: return find_ulp<float8_e5m2>(op);
    case DType::boolean:
    case DType::u8: return near_int<uint8_t>;
    case DType::u16: return near_int<uint16_t>;
    case DType::u32: return near_int<uint32_t>;
    case DType::u64: return near_int<uint64_t>;
    case DType::i8: return near_int<int8_t>;
    case DType::i16: return near_int<int16_t>;
    case DType::i32: return near_int<int32_t>;
    case DType::i64: return near_int<int64_t>;
    default: return nullptr;
  }
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(near_any);
FusedLoop near_loop(NearOp op, DType t) { return KEEL_SIMD(near_any)(op, t); }
}  // namespace keel::cpu
#endif
