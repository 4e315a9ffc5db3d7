#pragma once
// What the run-time compiler lacks where no header is at hand: types of fixed size, traits, and 16-bit floats by the instructions that
// CUDA's own headers use for them, so that they round and treat NaN alike.

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long;
using uint64_t = unsigned long;
#define INT64_MIN (-0x7fffffffffffffffl - 1)
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

namespace std {
template <class A, class B>
inline constexpr bool is_same_v = false;
template <class A>
inline constexpr bool is_same_v<A, A> = true;
template <class T>
inline constexpr bool is_floating_point_v = is_same_v<T, float> || is_same_v<T, double>;
template <class T>
inline constexpr bool is_unsigned_v =
    is_same_v<T, bool> || is_same_v<T, uint8_t> || is_same_v<T, uint16_t> || is_same_v<T, uint32_t> || is_same_v<T, uint64_t>;
template <class T>
inline constexpr bool is_integral_v =
    is_unsigned_v<T> || is_same_v<T, int8_t> || is_same_v<T, int16_t> || is_same_v<T, int32_t> || is_same_v<T, int64_t>;
template <class T>
inline constexpr bool is_signed_v = is_floating_point_v<T> || (is_integral_v<T> && !is_unsigned_v<T>);
template <int bytes>
struct unsigned_of_size;
template <>
struct unsigned_of_size<1> {
  using type = uint8_t;
};
template <>
struct unsigned_of_size<2> {
  using type = uint16_t;
};
template <>
struct unsigned_of_size<4> {
  using type = uint32_t;
};
template <>
struct unsigned_of_size<8> {
  using type = uint64_t;
};
template <class T>
using make_unsigned_t = typename unsigned_of_size<sizeof(T)>::type;
}  // namespace std

struct __half {
  unsigned short bits;
};
struct __nv_bfloat16 {
  unsigned short bits;
};
__device__ __forceinline__ float __half2float(__half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ __forceinline__ __half __float2half_rn(float x) {
  __half y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
__device__ __forceinline__ __half __double2half(double x) {
  __half y;
  asm("cvt.rn.f16.f64 %0, %1;" : "=h"(y.bits) : "d"(x));
  return y;
}
__device__ __forceinline__ float __bfloat162float(__nv_bfloat16 x) {
  float y;
#if __CUDA_ARCH__ >= 900
  asm("cvt.f32.bf16 %0, %1;" : "=f"(y) : "h"(x.bits));
#else
  asm("mov.b32 %0, {0, %1};" : "=f"(y) : "h"(x.bits));
#endif
  return y;
}
__device__ __forceinline__ __nv_bfloat16 __float2bfloat16_rn(float x) {
  __nv_bfloat16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
__device__ __forceinline__ __nv_bfloat16 __double2bfloat16(double x) {
#if __CUDA_ARCH__ >= 900
  __nv_bfloat16 y;
  asm("cvt.rn.bf16.f64 %0, %1;" : "=h"(y.bits) : "d"(x));
  return y;
#else
  // Through f32 rounded to odd, which the second rounding cannot mistake for a tie.
  const float cut = __double2float_rz(x);
  return __float2bfloat16_rn(double(cut) == x || x != x ? cut : __uint_as_float(__float_as_uint(cut) | 1u));
#endif
}
