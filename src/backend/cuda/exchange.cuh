#pragma once
// Blocks that run at once tell each other a value each: the cheapest meeting that a grid has, one write and one read. What is told is read
// whole or not at all together with the turn it belongs to, so it needs no flag and no fence, and a launch, or its replay, clears nothing:
// words of earlier turns are just not waited for. Kernels of a device run one after another, so that one Exchange serves them all.
#include "backend/cuda/row.cuh"
#include "backend/cuda/runtime.h"

namespace keel::cuda {

namespace detail {
__device__ __forceinline__ void put(Exchange::Word* to, Exchange::Word w) {
  asm volatile("{ .reg .b128 w; mov.b128 w, {%1, %2}; st.relaxed.gpu.global.b128 [%0], w; }" ::"l"(to), "l"(w.value), "l"(w.turn)
               : "memory");
}
__device__ __forceinline__ Exchange::Word get(const Exchange::Word* from) {
  Exchange::Word w;
  asm volatile("{ .reg .b128 w; ld.relaxed.gpu.global.b128 w, [%2]; mov.b128 {%0, %1}, w; }"
               : "=l"(w.value), "=l"(w.turn)
               : "l"(from)
               : "memory");
  return w;
}
}  // namespace detail

/// What blocks told, in the hands of a warp: each lane has every 32nd.
template <class V>
struct Told {
  static constexpr int kEach = Exchange::kMost / 32;
  V all[kEach];
  unsigned n;
  /// f(value, which) for what this lane has.
  template <class F>
  __device__ __forceinline__ void each(F f) const {
#pragma unroll
    for (int k = 0; k < kEach; ++k)
      if (const unsigned i = threadIdx.x % 32 + 32u * k; i < n) f(all[k], i);
  }
};

/// One turn of a grid. V is 8 or 16 bytes.
template <class V>
class Meeting {
  static constexpr int kWords = sizeof(V) / 8;
  static_assert(sizeof(V) == 8 * kWords && kWords <= Exchange::kWords);
  Exchange* at_;
  uint64_t turn_;

 public:
  /// Reads the number of the turn: to be made early.
  __device__ explicit Meeting(Exchange* at) : at_(at), turn_(*static_cast<volatile uint64_t*>(&at->turn) + 1) {}
  /// One thread of block `me`, once.
  __device__ __forceinline__ void tell(unsigned me, const V& v) const {
    uint64_t words[kWords];
    memcpy(words, &v, sizeof v);
#pragma unroll
    for (int k = 0; k < kWords; ++k) detail::put(&at_->words[k][me], {words[k], turn_});
  }
  /// A whole warp waits for blocks `first` to before `first + n`.
  __device__ __forceinline__ Told<V> hear(unsigned first, unsigned n) const {
    Told<V> told;
    told.n = n;
    bool here;
    do {
      here = true;
#pragma unroll
      for (int k = 0; k < Told<V>::kEach; ++k)
        if (const unsigned i = threadIdx.x % 32 + 32u * k; i < n) {
          uint64_t words[kWords];
#pragma unroll
          for (int w = 0; w < kWords; ++w) {
            const Exchange::Word word = detail::get(&at_->words[w][first + i]);
            words[w] = word.value, here &= word.turn == turn_;
          }
          memcpy(&told.all[k], words, sizeof(V));
        }
    } while (!__all_sync(~0u, here));
    return told;
  }
  /// A whole warp of one block waits for all `blocks` of the grid, none of which needs the old turn then, and ends it.
  __device__ __forceinline__ void end(unsigned blocks) const {
    hear(0, blocks);
    if (threadIdx.x % 32 == 0) at_->turn = turn_;
  }
};

}  // namespace keel::cuda
