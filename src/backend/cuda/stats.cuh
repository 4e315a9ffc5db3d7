#pragma once
// Statistics of what a kernel writes, on their way into a slot of a board (device_kernels.h). Only maxima and sums of integers: the result
// does not depend on the order of threads.
#include "backend/cuda/kernel.h"
#include "backend/cuda/scalar.cuh"

namespace keel::cuda {

/// Bits of a float without its sign; what is infinite, and what is the least normal number.
template <class T>
struct Pattern;
template <>
struct Pattern<float> {
  using Raw = uint32_t;
  static constexpr uint32_t inf = 0x7f800000, normal = 0x00800000;
};
template <>
struct Pattern<double> {
  using Raw = unsigned long long;
  static constexpr unsigned long long inf = 0x7ff0000000000000, normal = 0x0010000000000000;
};
template <>
struct Pattern<half> {
  using Raw = uint16_t;
  static constexpr uint32_t inf = 0x7c00, normal = 0x0400;
};
template <>
struct Pattern<bfloat> {
  using Raw = uint16_t;
  static constexpr uint32_t inf = 0x7f80, normal = 0x0080;
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

/// What one thread saw. With u the magnitude's bits, `high` is the maximum of u, and `low` the minimum of u - 1 with the sign bit set, as a
/// signed number, so that zeros drop out. 16-bit floats go in pairs, two to a word.
template <class T>
struct Tally {
  using B = Pattern<T>;
  using U = decltype(B::inf + 0);
  using S = std::make_signed_t<U>;
  static constexpr bool pairs = sizeof(T) == 2;
  static constexpr U sign = pairs ? U(0x80008000) : U(1) << (8 * sizeof(U) - 1), ones = pairs ? U(0x00010001) : U(1);
  U high = 0;
  S low = S(~sign);
  uint32_t nan = 0, inf = 0, subnormal = 0;

  static __device__ __forceinline__ U more(U a, U b) {
    if constexpr (pairs)
      return __vmaxs2(a, b);
    else
      return max(a, b);
  }
  static __device__ __forceinline__ S less(S a, S b) {
    if constexpr (pairs)
      return S(__vmins2(U(a), U(b)));
    else
      return min(a, b);
  }
  /// The larger and the smaller half.
  static __device__ __forceinline__ U top_of(U h) {
    if constexpr (pairs)
      return max(h & 0xffff, h >> 16);
    else
      return h;
  }
  static __device__ __forceinline__ S least_of(S l) {
    if constexpr (pairs)
      return min(S(int16_t(l)), l >> 16);
    else
      return l;
  }
  static constexpr S end = pairs ? S(0x7fff) : S(~sign), begin = -end - 1;  // of the zeros, and of u = 1

  template <int W>
  __device__ __forceinline__ void take_words(const U (&w)[W]) {
    U h = 0;
    S l = S(~sign);
#pragma unroll
    for (int k = 0; k < W; ++k) h = more(h, w[k] & ~sign), l = less(l, S((w[k] | sign) - ones));
    high = more(high, h), low = less(low, l);
    // Counting is for the few values that are worth it.
    if (top_of(h) >= B::inf || least_of(l) < begin + S(B::normal) - 1) {
#pragma unroll
      for (int k = 0; k < W; ++k) {
        count(pairs ? w[k] & 0x7fff : w[k] & ~sign);
        if (pairs) count(w[k] >> 16 & 0x7fff);
      }
    }
  }
  __device__ __forceinline__ void count(U u) { nan += u > B::inf, inf += u == B::inf, subnormal += u - 1 < B::normal - 1; }
  template <int V>
  __device__ __forceinline__ void take(const T (&v)[V]) {
    constexpr int W = int(V * sizeof(T) / sizeof(U));
    static_assert(W * sizeof(U) == V * sizeof(T), "whole words");
    U w[W];
    memcpy(w, v, sizeof w);
    take_words(w);
  }
  __device__ __forceinline__ void take(T v) {
    typename B::Raw raw;
    memcpy(&raw, &v, sizeof raw);
    const U w[1] = {raw};  // beside a zero, which counts for nothing
    take_words(w);
  }

  /// All threads of a block of whole warps, at most 1,024, add what they saw.
  __device__ void post(BoardSlot* slot) const {
    __shared__ U highs[32], lows[32];
    const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32), warps = int(blockDim.x / 32);
    const S least = least_of(low);
    const U h = warp_max(top_of(high)), l = warp_max(least == end ? U(0) : ~U(least - begin));
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

/// Types that kernels take statistics of while they write; of others a pass does.
template <class T>
inline constexpr bool kTallied = std::is_same_v<T, float> || std::is_same_v<T, half> || std::is_same_v<T, bfloat>;
/// Kernels of rows have many forms: fewer types keep the library small.
template <class T>
inline constexpr bool kTalliedRows = std::is_same_v<T, float> || std::is_same_v<T, bfloat>;

}  // namespace keel::cuda
