#pragma once
// Rows that a warp or a block keeps in registers: read once, written once. Longer rows are read again for each pass.
#include <utility>

#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/row.cuh"

namespace keel::cuda {

/// A result that is watched while it is written: as the host names it, and as a thread sees it.
template <class T>
struct Marked {
  T* p;
};
template <class T>
struct Watched {
  T* p;
  Tally<T>* seen;
  __device__ Watched operator+(int64_t i) const { return {p + i, seen}; }
};
template <class T, class A>
__device__ __forceinline__ A seen_by(Tally<T>*, A a) {
  return a;
}
template <class T>
__device__ __forceinline__ Watched<T> seen_by(Tally<T>* seen, Marked<T> y) {
  return {y.p, seen};
}
template <class T>
__device__ __forceinline__ void put_row(const Watched<T>& y, int64_t i, T v) {
  y.p[i] = v;
  y.seen->take(v);
}
template <class T, int V>
__device__ __forceinline__ void put_row(const Watched<T>& y, int64_t i, const Pack<T, V>& v) {
  *reinterpret_cast<Pack<T, V>*>(y.p + i) = v;
  y.seen->take(v.v);
}

template <class K, class... A>
__global__ void __launch_bounds__(K::kBlock) row_kernel(int64_t rows, int64_t n, A... args) {
  constexpr int G = K::kGroup;
  const int64_t row = int64_t(blockIdx.x) * (K::kBlock / G) + threadIdx.x / G;
  if (G == 32 && row >= rows) return;
  K::run(row, n, args...);
}

/// The same with statistics of the result that is Marked. Few blocks, each of which goes over many rows, so that few meet at the slot.
template <class K, class T, class... A>
__global__ void __launch_bounds__(K::kBlock) row_watched(int64_t rows, int64_t n, BoardSlot* slot, A... args) {
  constexpr int G = K::kGroup, together = K::kBlock / G;
  Tally<T> seen;
  for (int64_t row = int64_t(blockIdx.x) * together + threadIdx.x / G; row < rows; row += int64_t(gridDim.x) * together)
    K::run(row, n, seen_by(&seen, args)...);
  seen.post(slot);
}

/// What `go` gives, called with the form that suits rows of `n` elements: how many threads a row, how many packs a thread.
template <class T, class Go>
KernelStatus rows_by(int64_t rows, int64_t n, bool aligned, Go go) {
  constexpr int V = 16 / int(sizeof(T));
  if (rows == 0 || n == 0) return {};
  const bool packs = aligned && n % V == 0;
  if (packs && n <= 32 * V * 2) return go(std::integer_sequence<int, 32, 2>());
  if (packs && n <= 32 * V * 8) return go(std::integer_sequence<int, 32, 8>());
  if (packs && n <= 128 * V * 8) return go(std::integer_sequence<int, 128, 8>());
  if (packs && n <= 512 * V * 8) return go(std::integer_sequence<int, 512, 8>());
  if (packs && n <= 1024 * V * 8) return go(std::integer_sequence<int, 1024, 8>());
  if (n <= 1024) return go(std::integer_sequence<int, 32, 0>());
  return go(std::integer_sequence<int, 1024, 0>());
}

/// Launches Kernel<T, G, P>::run(row, columns, args...) for all rows in the form that suits: a warp a row, a block a row, or one that
/// reads again.
template <template <class, int, int> class Kernel, class T, class... A>
KernelStatus over_rows(const KernelArgs& a, int64_t rows, int64_t n, bool aligned, A... args) {
  return rows_by<T>(rows, n, aligned, [&]<int G, int P>(std::integer_sequence<int, G, P>) {
    using K = Kernel<T, G, P>;
    return start<row_kernel<K, A...>>(a, unsigned(ceil_div(rows, K::kBlock / G)), K::kBlock, rows, n, args...);
  });
}
template <class A>
A unmarked(A a) {
  return a;
}
template <class T>
T* unmarked(Marked<T> y) {
  return y.p;
}
/// The same where output 0, Marked among `args`, may be watched: while it is written where packs fit, else by a pass.
template <template <class, int, int> class Kernel, class T, class... A>
KernelStatus over_rows_watched(const KernelArgs& a, int64_t rows, int64_t n, bool aligned, A... args) {
  constexpr int V = 16 / int(sizeof(T));
  if constexpr (kTalliedRows<T>)
    if (BoardSlot* const slot = board_slot(a, 0); slot && aligned && n % V == 0 && n <= 1024 * V * 8)
      return rows_by<T>(rows, n, aligned, [&]<int G, int P>(std::integer_sequence<int, G, P>) {
        if constexpr (P > 0) {
          using K = Kernel<T, G, P>;
          const auto blocks = unsigned(std::min<int64_t>(ceil_div(rows, K::kBlock / G), 32 * processors(a.device)));
          return start<row_watched<K, T, A...>>(a, blocks, K::kBlock, rows, n, slot, args...);
        } else {
          return KernelStatus();  // packs fit
        }
      });
  const KernelStatus s = over_rows<Kernel, T>(a, rows, n, aligned, unmarked(args)...);
  return s.code ? s : watch(a, 0, 1);
}

/// What every row kernel begins with.
template <int G>
struct RowForm {
  static constexpr int kGroup = G, kBlock = G == 32 ? 128 : G;
};

inline bool aligned16(const TensorView& v) { return !v.present() || reinterpret_cast<uintptr_t>(v.data) % 16 == 0; }

}  // namespace keel::cuda
