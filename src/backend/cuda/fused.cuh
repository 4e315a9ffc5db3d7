#pragma once
// What kernels of chains are made of beside the ops' own functions: operands in memory. Compiled at run time only (fuse_source.cpp).
#include "backend/cuda/element.cuh"

namespace keel::cuda::fused {

constexpr int kThreads = 256;

template <class T>
__device__ __forceinline__ T* pointer(uint64_t bits) {
  return reinterpret_cast<T*>(bits);
}
/// A number that the program gave.
template <class T>
__device__ __forceinline__ T number(uint64_t bits) {
  union Both {
    uint64_t bits;
    T value;
  } both;
  both.bits = bits;
  return both.value;
}
__device__ __forceinline__ double parameter(uint64_t bits) { return __longlong_as_double((long long)(bits)); }

/// V elements from `p` on.
template <int V, class T>
__device__ __forceinline__ Pack<T, V> load(const T* p) {
  return *reinterpret_cast<const Pack<T, V>*>(p);
}
/// One element for all.
template <int V, class T>
__device__ __forceinline__ Pack<T, V> spread(T value) {
  Pack<T, V> all;
#pragma unroll
  for (int k = 0; k < V; ++k) all.v[k] = value;
  return all;
}
template <int V, class T>
__device__ __forceinline__ void store(T* p, const Pack<T, V>& all) {
  *reinterpret_cast<Pack<T, V>*>(p) = all;
}

/// V elements from number `i` on of a row, `step` apart; `whole`: at once where they lie side by side.
template <bool whole, int V, class T>
__device__ __forceinline__ Pack<T, V> fetch(const T* row, int64_t i, int64_t step) {
  if (step == 0) return spread<V>(*row);
  if (whole && step == 1) return load<V>(row + i);
  Pack<T, V> all;
#pragma unroll
  for (int k = 0; k < V; ++k) all.v[k] = row[(i + k) * step];
  return all;
}
template <bool whole, int V, class T>
__device__ __forceinline__ void put(T* row, int64_t i, int64_t step, const Pack<T, V>& all) {
  if (whole && step == 1) return store<V>(row + i, all);
#pragma unroll
  for (int k = 0; k < V; ++k) row[(i + k) * step] = all.v[k];
}

/// An axis as FastDivisor counts; extents from 2^31 on divide by the hardware.
struct Axis {
  uint64_t extent;
  uint32_t m, s;
};
template <bool wide>
__device__ __forceinline__ int64_t take(int64_t& i, const Axis& a) {
  int64_t r;
  if constexpr (wide) {
    r = i % int64_t(a.extent), i /= int64_t(a.extent);
  } else {
    const uint32_t n = uint32_t(i), q = (__umulhi(n, a.m) + n) >> a.s;
    r = n - q * uint32_t(a.extent), i = q;
  }
  return r;
}

}  // namespace keel::cuda::fused
