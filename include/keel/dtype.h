#pragma once
#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(default)
namespace keel {

struct float16;
struct bfloat16;
struct float8_e4m3fn;
struct float8_e5m2;

/// Element types. `none` stands for "not given".
enum class DType : uint8_t { none, boolean, u8, u16, u32, u64, i8, i16, i32, i64, f8e4m3fn, f8e5m2, f16, bf16, f32, f64, complex64, complex128 };
inline constexpr int kDTypes = 18;

inline constexpr DType boolean = DType::boolean, u8 = DType::u8, u16 = DType::u16, u32 = DType::u32, u64 = DType::u64, i8 = DType::i8, i16 = DType::i16, i32 = DType::i32,
                       i64 = DType::i64, f8e4m3fn = DType::f8e4m3fn, f8e5m2 = DType::f8e5m2, f16 = DType::f16, bf16 = DType::bf16, f32 = DType::f32, f64 = DType::f64,
                       complex64 = DType::complex64, complex128 = DType::complex128;

/// Bytes of one element.
constexpr size_t size_of(DType t) {
  constexpr uint8_t sizes[kDTypes] = {0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 1, 1, 2, 2, 4, 8, 8, 16};
  return sizes[int(t)];
}
/// "f32", "i64", "bool", ...
constexpr const char* name_of(DType t) {
  constexpr const char* names[kDTypes] = {"none", "bool", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f8e4m3fn", "f8e5m2", "f16", "bf16", "f32", "f64", "complex64", "complex128"};
  return names[int(t)];
}
/// The dtype of that name ("f32", also NumPy's "float32"); `none` where there is no such dtype.
DType dtype_from_name(const char* name);

constexpr bool is_floating(DType t) { return t >= DType::f8e4m3fn && t <= DType::f64; }
constexpr bool is_complex(DType t) { return t >= DType::complex64; }
constexpr bool is_unsigned(DType t) { return t >= DType::u8 && t <= DType::u64; }
constexpr bool is_signed_integer(DType t) { return t >= DType::i8 && t <= DType::i64; }
constexpr bool is_integer(DType t) { return t >= DType::u8 && t <= DType::i64; }
constexpr bool is_inexact(DType t) { return t >= DType::f8e4m3fn; }

/// A set of dtypes, one bit each.
using DTypeSet = uint32_t;
constexpr DTypeSet set_of(DType t) { return DTypeSet(1) << int(t); }
template <class... T>
constexpr DTypeSet set_of(DType first, T... rest) { return set_of(first) | (set_of(rest) | ...); }
constexpr bool contains(DTypeSet s, DType t) { return (s >> int(t)) & 1; }

/// The sets that op rows name.
namespace kinds {
inline constexpr DTypeSet boolean = set_of(DType::boolean), unsigned_integer = set_of(u8, u16, u32, u64), signed_integer = set_of(i8, i16, i32, i64),
                          integer = unsigned_integer | signed_integer, index = set_of(i32, i64), fp8 = set_of(f8e4m3fn, f8e5m2), floating = set_of(f16, bf16, f32, f64),
                          complex = set_of(complex64, complex128), inexact = floating | complex, real = integer | floating, numeric = real | complex, ordered = real | boolean,
                          any = numeric | boolean | fp8;
}

/// The dtype that stands for a C++ type.
template <class T> inline constexpr DType dtype_of = DType::none;
template <> inline constexpr DType dtype_of<bool> = DType::boolean;
template <> inline constexpr DType dtype_of<unsigned char> = DType::u8;
template <> inline constexpr DType dtype_of<unsigned short> = DType::u16;
template <> inline constexpr DType dtype_of<unsigned int> = DType::u32;
template <> inline constexpr DType dtype_of<unsigned long> = DType::u64;
template <> inline constexpr DType dtype_of<unsigned long long> = DType::u64;
template <> inline constexpr DType dtype_of<signed char> = DType::i8;
template <> inline constexpr DType dtype_of<short> = DType::i16;
template <> inline constexpr DType dtype_of<int> = DType::i32;
template <> inline constexpr DType dtype_of<long> = DType::i64;
template <> inline constexpr DType dtype_of<long long> = DType::i64;
template <> inline constexpr DType dtype_of<float8_e4m3fn> = DType::f8e4m3fn;
template <> inline constexpr DType dtype_of<float8_e5m2> = DType::f8e5m2;
template <> inline constexpr DType dtype_of<float16> = DType::f16;
template <> inline constexpr DType dtype_of<bfloat16> = DType::bf16;
template <> inline constexpr DType dtype_of<float> = DType::f32;
template <> inline constexpr DType dtype_of<double> = DType::f64;

/// The dtype in which a sum of `t` is accumulated: f32 for 16- and 8-bit floats, itself otherwise; i64/u64 for integers and bool.
constexpr DType accumulate_dtype(DType t) {
  if (is_floating(t)) return t == f64 ? f64 : f32;
  if (is_complex(t)) return t;
  return is_unsigned(t) ? u64 : i64;
}

/// The dtype of `a op b` for two tensors, by the Python Array API; int with float gives the float, f16 with bf16 gives f32. `none` where there is no common dtype (u64 with signed, fp8 with others).
DType promote(DType a, DType b);

}  // namespace keel
#pragma GCC visibility pop
