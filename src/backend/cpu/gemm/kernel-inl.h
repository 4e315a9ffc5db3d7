// Register-tile product of the packed GEMM, included once a Highway target. A tile of M <= kMr rows by NV vectors of columns stays in registers for a whole
// block of k: each step loads NV vectors of B and broadcasts M scalars of A. Every element of C is therefore one chain acc = fma(a, b, acc) over the k of its
// block in rising order, whatever the tile, the packing or the masks, which is what makes results independent of m, n, batch and threads.
// A is read as a[i * ars + k * acs] (packed: ars 1, acs kMr; the first tile of a stripe may pack it on the way),
// B as b[k * ldb + j] (packed: ldb kNv vectors).
#if defined(KEEL_GEMM_KERNEL_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_GEMM_KERNEL_INL
#undef KEEL_GEMM_KERNEL_INL
#else
#define KEEL_GEMM_KERNEL_INL
#endif

#include <cstdint>
#include <utility>

#include "backend/cpu/gemm/pack-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Tile sizes by register count: accumulators + kNv vectors of B + one broadcast must fit.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kMr = 14, kNv = 2;
#elif HWY_TARGET == HWY_AVX2
inline constexpr int kMr = 6, kNv = 2;
#elif HWY_TARGET == HWY_NEON
inline constexpr int kMr = 12, kNv = 2;
#else
inline constexpr int kMr = 6, kNv = 2;
#endif

enum class Rows { strided, packed, packing };  // of A

template <class T>
struct TileArgs {
  int64_t k;
  const T* a;
  int64_t ars, acs;
  const T* b;
  int64_t ldb;
  T* c;
  int64_t ldc;
  T alpha, beta;            // c = alpha * sum + beta * c; c is not read where beta is 0
  int64_t cols;             // columns to write, at most NV vectors
  const T* bias = nullptr;  // added to each row of the finished c
  int64_t ahead = 0;        // elements of b between what is read and what is prefetched
  // What is prefetched besides C: a line a step, `step` further each, beginning anew `run` further after as many steps as a line has
  // elements.
  const T* line = nullptr;
  int64_t step = 0, run = 0;
  T* pack = nullptr;  // where a packing tile puts its rows; it reads and writes whole vectors of them
};

// Rows of A that are contiguous along k are streams of their own: a line a step, half a KiB ahead.
template <class T>
HWY_INLINE void prefetch_rows(TileArgs<T>& t) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  t.line = t.a + 8 * kLine, t.step = t.ars, t.run = kLine;
}
template <class T>
HWY_INLINE void prefetch_nothing(TileArgs<T>& t) {
  t.line = nullptr, t.step = t.run = 0;
}

// A finished tile of whole vectors to memory. Constants say what there is to do besides: the branches of 28 vectors would cost as much as
// five steps.
template <bool kRead, bool kShifts, class T, int M, int NV, class V>
HWY_INLINE void store_tile(const V (&acc)[M][NV], T* c, int64_t ldc, T beta, const T* shift) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  const V by = hn::Set(d, beta);
  V bias[NV];
#pragma GCC unroll 16
  for (int v = 0; v < NV; ++v) bias[v] = kShifts ? hn::LoadU(d, shift + v * kN) : hn::Zero(d);
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i, c += ldc) {
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) {
      V r = acc[i][v];
      if constexpr (kRead) r = hn::MulAdd(by, hn::LoadU(d, c + v * kN), r);
      if constexpr (kShifts) r = hn::Add(r, bias[v]);
      hn::StoreU(r, d, c + v * kN);
    }
  }
}

// The same for sums that wait in memory, `lds` apart: tiles at the right edge.
template <class T>
HWY_NOINLINE void store_edge(const TileArgs<T>& t, int64_t rows, const T* sums, int64_t lds) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  const auto beta = hn::Set(d, t.beta);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < t.cols; j += kN) {
      const int64_t n = t.cols - j < kN ? t.cols - j : kN;
      T* c = t.c + i * t.ldc + j;
      auto r = hn::Load(d, sums + i * lds + j);
      if (t.beta != T(0)) r = hn::MulAdd(beta, load_some(d, c, n), r);
      if (t.bias) r = hn::Add(r, load_some(d, t.bias + j, n));
      if (n == kN) {
        hn::StoreU(r, d, c);
      } else if constexpr (kMaskedMemory) {
        hn::BlendedStore(r, hn::FirstN(d, size_t(n)), d, c);
      } else {
        HWY_ALIGN T buffer[HWY_LANES(T)];
        hn::Store(r, d, buffer);
        for (int64_t k = 0; k < n; ++k) c[k] = buffer[k];
      }
    }
}

template <class T, int M, int NV, Rows kRows, bool kMaskB>
HWY_NOINLINE void tile(const TileArgs<T>& t) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T), kLine = 64 / int64_t(sizeof(T));
  V acc[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) acc[i][v] = hn::Zero(d);
  const T* b = t.b;
  const int64_t ahead = t.ahead;
  constexpr bool kSide = kRows != Rows::strided;  // rows lie side by side
  const int64_t ars = kSide ? 1 : t.ars, acs = kRows == Rows::packed ? kMr : t.acs, ldb = t.ldb;
  constexpr int kG =
      kSide
          ? 1
          : (M + 3) / 4;  // strided rows go by fours, each a pointer with the offsets 0 to 3 ars, so that all addresses stay in registers
  const T* a[kG];
#pragma GCC unroll 4
  for (int g = 0; g < kG; ++g) a[g] = t.a + 4 * g * ars;
  const auto tail = hn::FirstN(d, size_t(t.cols - (NV - 1) * kN));
  // A line is prefetched each step: those of C (two a row) in the first two runs of steps, then what the caller asks for.
  T* pack = t.pack;
  const T *line = t.c, *const then = t.line ? t.line : t.a;
  int64_t step = t.ldc;
  for (int64_t left = t.k, run = 0; left > 0; left -= kLine) {
#pragma GCC unroll 1
    for (int64_t k = left < kLine ? left : kLine; k > 0; --k) {
      V bv[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        bv[v] = kMaskB && v == NV - 1 ? hn::MaskedLoad(tail, d, b + v * kN) : hn::LoadU(d, b + v * kN);
        __builtin_prefetch(b + v * kN + ahead);
      }
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        const V av = hn::Set(d, kSide ? a[0][i] : a[i / 4 % kG][i % 4 * ars]);
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
      }
      if constexpr (kRows == Rows::packing) {
        for (int i = 0; i < M; i += int(kN)) hn::StoreU(hn::LoadU(d, a[0] + i), d, pack + i);
        pack += kMr;
        __builtin_prefetch(a[0] + 16 * acs + (M - 1));
      }
      __builtin_prefetch(line);
      line += step;
#pragma GCC unroll 4
      for (int g = 0; g < kG; ++g) a[g] += acs;
      b += ldb;
    }
    if (++run == 1)
      line = t.c + t.cols - 1;
    else
      line = then + (run - 2) * t.run, step = t.step;
  }
  if (t.alpha != T(1)) {
    const V alpha = hn::Set(d, t.alpha);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) acc[i][v] = hn::Mul(alpha, acc[i][v]);
  }
  if (HWY_LIKELY(t.cols == NV * kN)) {
    if (t.beta == T(0)) {
      if (t.bias) return store_tile<false, true, T, M, NV>(acc, t.c, t.ldc, T(0), t.bias);
      return store_tile<false, false, T, M, NV>(acc, t.c, t.ldc, T(0), nullptr);
    }
    if (!t.bias) return store_tile<true, false, T, M, NV>(acc, t.c, t.ldc, t.beta, nullptr);
  }
  HWY_ALIGN T sums[M * NV * kN];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) hn::Store(acc[i][v], d, sums + (i * NV + v) * kN);
  store_edge(t, M, sums, NV * kN);
}

template <class T>
using TileFn = void (*)(const TileArgs<T>&);

template <class T, Rows kRows, bool kMaskB>
struct Tiles {
  template <int NV, int... I>
  struct Row {
    static constexpr TileFn<T> f[] = {&tile<T, I + 1, NV, kRows, kMaskB>...};
  };
  template <int NV, int... I>
  static TileFn<T> pick(int64_t m, std::integer_sequence<int, I...>) {
    return Row<NV, I...>::f[m - 1];
  }
  // The tile for m rows (1 to kMr) and nv vectors of columns (1 or 2).
  static TileFn<T> get(int64_t m, int64_t nv) {
    using Seq = std::make_integer_sequence<int, kMr>;
    return nv == 1 ? pick<1>(m, Seq()) : pick<2>(m, Seq());
  }
  static TileFn<T> whole(int64_t m) { return pick<2>(m, std::make_integer_sequence<int, kMr>()); }
};

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
