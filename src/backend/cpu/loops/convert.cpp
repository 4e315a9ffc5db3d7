// Conversions between dtypes. The pairs that networks use have a loop of their own; all others go through f64 (from floats, exact) or
// i64/u64 (from integers, exact) in L1 blocks, so that there is one rounding in any case. bf16 and fp8 are integer arithmetic that the
// compiler vectorises; f16 uses F16C where the target has it.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/convert.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/elementwise-inl.h"

#include <bit>
#include <type_traits>

#include "keel/numerics/types.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

struct Bool {
  uint8_t v;
};
template <class T>
struct Complex {
  T re, im;
};

/// What the processor's own conversion does: truncation, and the lowest i64 for NaN and what is out of range.
HWY_INLINE int64_t to_i64(double x) { return x >= -0x1p63 && x < 0x1p63 ? int64_t(x) : INT64_MIN; }

template <class To, class From>
HWY_INLINE To convert_one(From x) {
  if constexpr (std::is_same_v<From, Bool>)
    return convert_one<To>(x.v);
  else if constexpr (std::is_same_v<To, Bool>)
    return Bool{uint8_t(x != From(0))};
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>)
    return To(to_i64(double(x)));
  else
    return To(x);
}
template <class From, class To>
void direct(const void* x_, void* y_, int64_t n, const double*) {
  const From* x = static_cast<const From*>(x_);
  To* y = static_cast<To*>(y_);
  for (int64_t i = 0; i < n; ++i) y[i] = convert_one<To>(x[i]);
}
template <size_t bytes>
void same(const void* x, void* y, int64_t n, const double*) {
  if (x != y && n) std::memmove(y, x, size_t(n) * bytes);
}

// ---- 16 and 8 bits ----
void f16_to_f32(const void* x_, void* y_, int64_t n, const double*) {
  const uint16_t* x = static_cast<const uint16_t*>(x_);
  float* y = static_cast<float*>(y_);
  int64_t i = 0;
#if KEEL_MASKED_MEMORY
  const Tag<float> d;
  const hn::Rebind<hwy::float16_t, Tag<float>> dh;
  constexpr int64_t N = hn::MaxLanes(Tag<float>());
  const auto* h = reinterpret_cast<const hwy::float16_t*>(x);
  for (; i + N <= n; i += N) hn::StoreU(hn::PromoteTo(d, hn::LoadU(dh, h + i)), d, y + i);
  if (i < n) store_n(hn::PromoteTo(d, load_n(dh, h + i, size_t(n - i))), d, y + i, size_t(n - i));
#else
  for (; i < n; ++i) y[i] = float(float16::from_bits(x[i]));
#endif
}
void f32_to_f16(const void* x_, void* y_, int64_t n, const double*) {
  const float* x = static_cast<const float*>(x_);
  uint16_t* y = static_cast<uint16_t*>(y_);
  int64_t i = 0;
#if KEEL_MASKED_MEMORY
  const Tag<float> d;
  const hn::Rebind<hwy::float16_t, Tag<float>> dh;
  constexpr int64_t N = hn::MaxLanes(Tag<float>());
  auto* h = reinterpret_cast<hwy::float16_t*>(y);
  for (; i + N <= n; i += N) hn::StoreU(hn::DemoteTo(dh, hn::LoadU(d, x + i)), dh, h + i);
  if (i < n) store_n(hn::DemoteTo(dh, load_n(d, x + i, size_t(n - i))), dh, h + i, size_t(n - i));
#else
  for (; i < n; ++i) y[i] = float16(x[i]).bits;
#endif
}
void bf16_to_f32(const void* x_, void* y_, int64_t n, const double*) {
  const uint16_t* x = static_cast<const uint16_t*>(x_);
  uint32_t* y = static_cast<uint32_t*>(y_);
  for (int64_t i = 0; i < n; ++i) y[i] = uint32_t(x[i]) << 16;
}
void f32_to_bf16(const void* x_, void* y_, int64_t n, const double*) {
  const uint32_t* x = static_cast<const uint32_t*>(x_);
  uint16_t* y = static_cast<uint16_t*>(y_);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t u = x[i], rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, quiet = (u >> 16) | 0x40;
    y[i] = uint16_t((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
  }
}

template <class F8>
struct Decoded {
  float v[256];
};
template <class F8>
constexpr Decoded<F8> decoded() {
  Decoded<F8> t{};
  for (int i = 0; i < 256; ++i) t.v[i] = float(F8::from_bits(uint8_t(i)));
  return t;
}
template <class F8>
void f8_to_f32(const void* x_, void* y_, int64_t n, const double*) {
  static constexpr Decoded<F8> table = decoded<F8>();
  const uint8_t* x = static_cast<const uint8_t*>(x_);
  float* y = static_cast<float*>(y_);
  for (int64_t i = 0; i < n; ++i) y[i] = table.v[x[i]];
}
/// Normal numbers round by integer addition; subnormals by adding the number whose last place is the format's smallest step.
template <bool e4m3, bool saturate>
void f32_to_f8(const void* x_, void* y_, int64_t n, const double*) {
  constexpr int kDrop = e4m3 ? 20 : 21;
  constexpr uint32_t kRebase = e4m3 ? 120u << 23 : 112u << 23, kMinNormal = kRebase + (1u << 23), kLargest = e4m3 ? 0x7e : 0x7b,
                     kBeyond = e4m3 ? 0x7f : 0x7c;
  constexpr float kMagic = e4m3 ? 0x1p14f : 0x1p7f;
  const uint32_t* x = static_cast<const uint32_t*>(x_);
  uint8_t* y = static_cast<uint8_t*>(y_);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t u = x[i], a = u & 0x7fffffff, r = a - kRebase;
    const uint32_t normal = (r + ((1u << (kDrop - 1)) - 1) + ((r >> kDrop) & 1)) >> kDrop;
    const float small = std::bit_cast<float>(a < kMinNormal ? a : 0u) + kMagic;
    const uint32_t tiny = std::bit_cast<uint32_t>(small) - std::bit_cast<uint32_t>(kMagic);
    uint32_t code = a < kMinNormal ? tiny : normal;
    code = code > kLargest ? (saturate ? kLargest : kBeyond) : code;
    code = a == 0x7f800000 ? kBeyond : code;
    code = a > 0x7f800000 ? (e4m3 ? kBeyond : (0x7e | (((a >> kDrop) & 3)))) : code;
    y[i] = uint8_t(code | ((u >> 24) & 0x80));
  }
}

// ---- everything else, in two steps ----
template <class From, class Wide>
void widen(const void* x_, Wide* w, int64_t n) {
  const From* x = static_cast<const From*>(x_);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (requires { x[i].re; })
      w[i] = Wide(x[i].re);
    else if constexpr (std::is_same_v<From, Bool>)
      w[i] = x[i].v;
    else
      w[i] = Wide(x[i]);
  }
}
template <class Wide, class To, bool saturate>
void narrow(const Wide* w, void* y_, int64_t n) {
  To* y = static_cast<To*>(y_);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<To, Complex<float>>)
      y[i] = {float(w[i]), 0};
    else if constexpr (std::is_same_v<To, Complex<double>>)
      y[i] = {double(w[i]), 0};
    else if constexpr (std::is_same_v<To, float8_e4m3fn> || std::is_same_v<To, float8_e5m2>)
      y[i] = To(w[i], saturate ? Overflow::saturate : Overflow::nan_or_inf);
    else
      y[i] = convert_one<To>(w[i]);
  }
}
template <class Wide>
struct Steps {
  void (*in)(const void*, Wide*, int64_t) = nullptr;
  void (*out)(const Wide*, void*, int64_t) = nullptr;
};
template <class Wide, bool saturate>
void (*narrow_of(DType t))(const Wide*, void*, int64_t) {
  switch (t) {
    case DType::boolean: return narrow<Wide, Bool, saturate>;
    case DType::u8: return narrow<Wide, uint8_t, saturate>;
    case DType::u16: return narrow<Wide, uint16_t, saturate>;
    case DType::u32: return narrow<Wide, uint32_t, saturate>;
    case DType::u64: return narrow<Wide, uint64_t, saturate>;
    case DType::i8: return narrow<Wide, int8_t, saturate>;
    case DType::i16: return narrow<Wide, int16_t, saturate>;
    case DType::i32: return narrow<Wide, int32_t, saturate>;
    case DType::i64: return narrow<Wide, int64_t, saturate>;
    case DType::f8e4m3fn: return narrow<Wide, float8_e4m3fn, saturate>;
    case DType::f8e5m2: return narrow<Wide, float8_e5m2, saturate>;
    case DType::f16: return narrow<Wide, float16, saturate>;
    case DType::bf16: return narrow<Wide, bfloat16, saturate>;
    case DType::f32: return narrow<Wide, float, saturate>;
    case DType::f64: return narrow<Wide, double, saturate>;
    case DType::complex64: return narrow<Wide, Complex<float>, saturate>;
    case DType::complex128: return narrow<Wide, Complex<double>, saturate>;
    default: return nullptr;
  }
}
void (*widen_float(DType t))(const void*, double*, int64_t) {
  switch (t) {
    case DType::f8e4m3fn: return widen<float8_e4m3fn, double>;
    case DType::f8e5m2: return widen<float8_e5m2, double>;
    case DType::f16: return widen<float16, double>;
    case DType::bf16: return widen<bfloat16, double>;
    case DType::f32: return widen<float, double>;
    case DType::f64: return widen<double, double>;
    case DType::complex64: return widen<Complex<float>, double>;
    case DType::complex128: return widen<Complex<double>, double>;
    default: return nullptr;
  }
}
void (*widen_int(DType t))(const void*, int64_t*, int64_t) {
  switch (t) {
    case DType::boolean: return widen<Bool, int64_t>;
    case DType::u8: return widen<uint8_t, int64_t>;
    case DType::u16: return widen<uint16_t, int64_t>;
    case DType::u32: return widen<uint32_t, int64_t>;
    case DType::i8: return widen<int8_t, int64_t>;
    case DType::i16: return widen<int16_t, int64_t>;
    case DType::i32: return widen<int32_t, int64_t>;
    case DType::i64: return widen<int64_t, int64_t>;
    default: return nullptr;
  }
}
template <class T>
void complex_to_bool(const void* x_, void* y_, int64_t n, const double*) {
  const T* x = static_cast<const T*>(x_);
  uint8_t* y = static_cast<uint8_t*>(y_);
  for (int64_t i = 0; i < n; ++i) y[i] = x[2 * i] != 0 || x[2 * i + 1] != 0;
}
template <class From, class To>
void complex_to_complex(const void* x, void* y, int64_t n, const double* args) {
  direct<From, To>(x, y, 2 * n, args);
}

template <DType from, DType to, bool saturate>
void two_steps(const void* x, void* y, int64_t n, const double*) {
  constexpr int64_t kBlock = 512;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t m = n - i < kBlock ? n - i : kBlock;
    const void* at = static_cast<const std::byte*>(x) + i * int64_t(size_of(from));
    void* put = static_cast<std::byte*>(y) + i * int64_t(size_of(to));
    if constexpr (from == DType::u64) {
      narrow_of<uint64_t, saturate>(to)(static_cast<const uint64_t*>(at), put, m);
    } else if constexpr (is_inexact(from)) {
      double wide[kBlock];
      widen_float(from)(at, wide, m);
      narrow_of<double, saturate>(to)(wide, put, m);
    } else {
      int64_t wide[kBlock];
      widen_int(from)(at, wide, m);
      narrow_of<int64_t, saturate>(to)(wide, put, m);
    }
  }
}
template <DType from, bool saturate, int... to>
constexpr UnaryLoop pick(DType t, std::integer_sequence<int, to...>) {
  UnaryLoop f = nullptr;
  ((DType(to + 1) == t ? void(f = two_steps<from, DType(to + 1), saturate>) : void()), ...);
  return f;
}
template <bool saturate, int... from>
constexpr UnaryLoop pick_from(DType s, DType t, std::integer_sequence<int, from...>) {
  UnaryLoop f = nullptr;
  ((DType(from + 1) == s ? void(f = pick<DType(from + 1), saturate>(t, std::make_integer_sequence<int, kDTypes - 1>())) : void()), ...);
  return f;
}

template <class From>
UnaryLoop direct_of(DType to) {
  switch (to) {
    case DType::f32: return direct<From, float>;
    case DType::f64: return direct<From, double>;
    case DType::i32: return direct<From, int32_t>;
    case DType::i64: return direct<From, int64_t>;
    case DType::u8: return direct<From, uint8_t>;
    case DType::boolean: return direct<From, Bool>;
    default: return nullptr;
  }
}
}  // namespace

UnaryLoop convert_direct(DType from, DType to, bool nan_or_inf) {
  if (from == to) {
    switch (size_of(from)) {
      case 1: return same<1>;
      case 2: return same<2>;
      case 4: return same<4>;
      case 8: return same<8>;
      default: return same<16>;
    }
  }
  if (from == DType::f32) {
    if (to == DType::f16) return f32_to_f16;
    if (to == DType::bf16) return f32_to_bf16;
    if (to == DType::f8e4m3fn) return nan_or_inf ? f32_to_f8<true, false> : f32_to_f8<true, true>;
    if (to == DType::f8e5m2) return nan_or_inf ? f32_to_f8<false, false> : f32_to_f8<false, true>;
  }
  if (to == DType::f32) {
    if (from == DType::f16) return f16_to_f32;
    if (from == DType::bf16) return bf16_to_f32;
    if (from == DType::f8e4m3fn) return f8_to_f32<float8_e4m3fn>;
    if (from == DType::f8e5m2) return f8_to_f32<float8_e5m2>;
  }
  if (is_complex(from)) {
    if (to == DType::complex64) return complex_to_complex<double, float>;
    if (to == DType::complex128) return complex_to_complex<float, double>;
    if (to == DType::boolean) return from == DType::complex64 ? complex_to_bool<float> : complex_to_bool<double>;
  }
  switch (from) {
    case DType::f32: return direct_of<float>(to);
    case DType::f64: return direct_of<double>(to);
    case DType::i32: return direct_of<int32_t>(to);
    case DType::i64: return direct_of<int64_t>(to);
    case DType::u8: return direct_of<uint8_t>(to);
    case DType::boolean: return direct_of<Bool>(to);
    default: return nullptr;
  }
}

#if HWY_TARGET == HWY_STATIC_TARGET
UnaryLoop convert_any(DType from, DType to, bool nan_or_inf) {
  constexpr auto all = std::make_integer_sequence<int, kDTypes - 1>();
  return nan_or_inf ? pick_from<false>(from, to, all) : pick_from<true>(from, to, all);
}
#endif
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(convert_direct);
UnaryLoop convert_loop(DType from, DType to, bool nan_or_inf) {
  if (UnaryLoop f = KEEL_SIMD(convert_direct)(from, to, nan_or_inf)) return f;
  return HWY_STATIC_DISPATCH(convert_any)(from, to, nan_or_inf && (to == DType::f8e4m3fn || to == DType::f8e5m2));
}
}  // namespace keel::cpu
#endif
