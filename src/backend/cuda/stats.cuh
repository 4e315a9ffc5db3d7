#pragma once
// Statistics of what a kernel writes, on their way into a slot of a board (device_kernels.h). Only maxima and sums of integers: the result
// does not depend on the order of threads.
#include "backend/cuda/kernel.h"
#include "backend/cuda/scalar.cuh"

namespace keel::cuda {

/// Bits of a float without its sign; what is infinite, and what is the least normal number.
template <class T>
struct Bits;
template <>
struct Bits<float> {
  using Raw = uint32_t;
  static constexpr uint32_t magnitude = 0x7fffffff, inf = 0x7f800000, normal = 0x00800000;
};
template <>
struct Bits<double> {
  using Raw = unsigned long long;
  static constexpr unsigned long long magnitude = 0x7fffffffffffffff, inf = 0x7ff0000000000000, normal = 0x0010000000000000;
};
template <>
struct Bits<half> {
  using Raw = uint16_t;
  static constexpr uint32_t magnitude = 0x7fff, inf = 0x7c00, normal = 0x0400;
};
template <>
struct Bits<bfloat> {
  using Raw = uint16_t;
  static constexpr uint32_t magnitude = 0x7fff, inf = 0x7f80, normal = 0x0080;
};

template <class U>
__device__ __forceinline__ U warp_max(U v) {
  if constexpr (sizeof(U) == 4) {
    return __reduce_max_sync(~0u, v);
  } else {
#pragma unroll
    for (int d = 16; d; d >>= 1) v = max(v, __shfl_xor_sync(~0u, v, d));
    return v;
  }
}

/// What one thread saw. With u the magnitude's bits: `high` is the maximum of u, `low` of -u, where zeros drop out.
template <class T>
struct Tally {
  using B = Bits<T>;
  using U = decltype(B::inf + 0);
  U high = 0, low = 0;
  uint32_t nan = 0, inf = 0, subnormal = 0;

  static __device__ __forceinline__ U bits_of(T v) {
    typename B::Raw raw;
    memcpy(&raw, &v, sizeof raw);
    return U(raw) & B::magnitude;
  }
  /// Counting is for the few values that are worth it.
  template <int V>
  __device__ __forceinline__ void take(const T (&v)[V]) {
    U h = 0, l = 0;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const U u = bits_of(v[k]);
      h = max(h, u), l = max(l, U(0) - u);
    }
    high = max(high, h), low = max(low, l);
    if (h >= B::inf || l > U(0) - B::normal) {
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const U u = bits_of(v[k]);
        nan += u > B::inf, inf += u == B::inf, subnormal += u - 1 < B::normal - 1;
      }
    }
  }
  __device__ __forceinline__ void take(T v) {
    const T one[1] = {v};
    take(one);
  }

  /// All threads of a block of whole warps, at most 1,024, add what they saw.
  __device__ void post(BoardSlot* slot) const {
    __shared__ U highs[32], lows[32];
    const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), warps = int(blockDim.x / 32);
    const U h = warp_max(high), l = warp_max(low);
    __syncthreads();  // whoever used this room before has read it
    if (lane == 0) highs[warp] = h, lows[warp] = l;
    if (__any_sync(~0u, nan | inf | subnormal)) {
      const uint32_t counts[3] = {__reduce_add_sync(~0u, nan), __reduce_add_sync(~0u, inf), __reduce_add_sync(~0u, subnormal)};
      if (lane < 3 && counts[lane]) atomicAdd(reinterpret_cast<unsigned long long*>(&slot->nan) + lane, counts[lane]);
    }
    __syncthreads();
    if (warp) return;
    const U all_high = warp_max(lane < warps ? highs[lane] : U(0)), all_low = warp_max(lane < warps ? lows[lane] : U(0));
    if (lane) return;
    raise_to(slot->max_bits, all_high);
    raise_to(slot->low_bits, all_low ? ~0ull << (8 * sizeof(U) - 1) << 1 | all_low : 0);
  }

 private:
  /// Most blocks come too late to change anything: a look is cheaper than an atomic operation on an address that all share.
  static __device__ __forceinline__ void raise_to(uint64_t& at, unsigned long long v) {
    if (v > *reinterpret_cast<volatile unsigned long long*>(&at)) atomicMax(reinterpret_cast<unsigned long long*>(&at), v);
  }
};

/// A pass over output `i` of a kernel that took no statistics of it while it wrote, if somebody watches.
KernelStatus watch(const KernelArgs& a, int i);

}  // namespace keel::cuda
