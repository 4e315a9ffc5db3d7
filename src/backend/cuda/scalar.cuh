#pragma once
// Number types on the device: Keel's dtypes as CUDA's own types, and the type that each computes in.
// Kernels of chains are made of this text, too (fuse_source.cpp).
#ifdef __CUDACC_RTC__
#include "backend/cuda/rtc.cuh"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "keel/dtype.h"

namespace keel {
template <>
inline constexpr DType dtype_of<__half> = DType::f16;
template <>
inline constexpr DType dtype_of<__nv_bfloat16> = DType::bf16;
}  // namespace keel
#endif

namespace keel::cuda {

using half = __half;
using bfloat = __nv_bfloat16;

template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<half> {
  using type = float;
};
template <>
struct ComputeOf<bfloat> {
  using type = float;
};
/// 16-bit floats compute in f32, everything else in itself.
template <class T>
using Compute = typename ComputeOf<T>::type;

template <class T>
__device__ __host__ inline Compute<T> widen(T v) {
  if constexpr (std::is_same_v<T, half>)
    return __half2float(v);
  else if constexpr (std::is_same_v<T, bfloat>)
    return __bfloat162float(v);
  else
    return v;
}
/// Rounds to nearest even where T is narrower.
template <class T>
__device__ __host__ inline T narrow(Compute<T> v) {
  if constexpr (std::is_same_v<T, half>)
    return __float2half_rn(v);
  else if constexpr (std::is_same_v<T, bfloat>)
    return __float2bfloat16_rn(v);
  else
    return v;
}

/// The value in another type, rounded once.
template <class To, class From>
__device__ __host__ inline To convert(From x) {
  if constexpr (std::is_same_v<To, bool>)
    return widen(x) != 0;
  else if constexpr (std::is_same_v<To, From>)
    return x;
  else if constexpr (std::is_same_v<To, half>) {
    if constexpr (std::is_same_v<Compute<From>, float>)
      return __float2half_rn(widen(x));
    else
      return __double2half(double(x));
  } else if constexpr (std::is_same_v<To, bfloat>) {
    if constexpr (std::is_same_v<Compute<From>, float>)
      return __float2bfloat16_rn(widen(x));
    else
      return __double2bfloat16(double(x));
  } else if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>) {
    const double v = double(widen(x));  // rounded towards 0; what does not fit i64 gives its lowest value, wrapped to the type
    return To(v >= -0x1p63 && v < 0x1p63 ? int64_t(v) : INT64_MIN);
  } else {
    return To(widen(x));
  }
}

/// What a thread takes at once.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T v[V];
};

/// Lifts a function on the compute type to one on the type in memory.
template <class T, class F>
struct Lifted {
  F f;
  template <class... A>
  __device__ __forceinline__ T operator()(A... x) const {
    return narrow<T>(f(widen(x)...));
  }
};

#ifndef __CUDACC_RTC__
/// `call(t, f)` calls f(T{}) with the type of dtype `t`; false where it is not in the list.
template <class... T>
struct TypeList {
  template <class F>
  static bool call(DType t, F&& f) {
    return ((t == dtype_of<T> && (f(T{}), true)) || ...);
  }
};
using Floats = TypeList<float, double, half, bfloat>;
using Integers = TypeList<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t>;
using Reals = TypeList<float, double, half, bfloat, int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t>;
using Ordered = TypeList<float, double, half, bfloat, int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, bool>;
#endif

}  // namespace keel::cuda
