// Register-tile product of the packed GEMM, included once a Highway target. A tile of M <= kMr rows by NV vectors of columns stays in registers for a whole
// block of k: each step loads NV vectors of B and broadcasts M scalars of A. Every element of C is therefore one chain acc = fma(a, b, acc) over the k of its
// block in rising order, whatever the tile, the packing or the masks, which is what makes results independent of m, n, batch and threads.
// A is read as a[i * ars + k * acs] (packed: ars 1, acs kMr), B as b[k * ldb + j] (packed: ldb kNv vectors).
#if defined(KEEL_GEMM_KERNEL_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_GEMM_KERNEL_INL
#undef KEEL_GEMM_KERNEL_INL
#else
#define KEEL_GEMM_KERNEL_INL
#endif

#include <cstdint>
#include <utility>

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
  // What is prefetched besides, if not null: `step` further each step of k, `jump` further after as many steps as a line has elements.
  const T* line = nullptr;
  int64_t step = 0, jump = 0;
};

// Rows of A that are contiguous along k are streams of their own: a line a step, half a KiB ahead.
template <class T>
HWY_INLINE void prefetch_rows(TileArgs<T>& t) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  t.line = t.a + 8 * kLine, t.step = t.ars, t.jump = kLine - kLine * t.ars;
}
template <class T>
HWY_INLINE void prefetch_nothing(TileArgs<T>& t) {
  t.line = nullptr, t.step = t.jump = 0;
}

template <class T, int M, int NV, bool kPackedA, bool kMaskB>
HWY_NOINLINE void tile(const TileArgs<T>& t) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T);
  V acc[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v] = hn::Zero(d);
  const T* b = t.b;
  const int64_t ahead = t.ahead;
  const int64_t ars = kPackedA ? 1 : t.ars, acs = kPackedA ? kMr : t.acs, ldb = t.ldb;
  constexpr int kG =
      kPackedA
          ? 1
          : (M + 3) / 4;  // strided rows go by fours, each a pointer with the offsets 0 to 3 ars, so that all addresses stay in registers
  const T* a[kG];
#pragma GCC unroll 4
  for (int g = 0; g < kG; ++g) a[g] = t.a + 4 * g * ars;
  const auto tail = hn::FirstN(d, size_t(t.cols - (NV - 1) * kN));
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  const T* line = t.line ? t.line : t.a;
  const int64_t step = t.step, jump = t.jump;
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
    __builtin_prefetch(t.c + i * t.ldc, 1);
    if (NV > 1) __builtin_prefetch(t.c + i * t.ldc + t.cols - 1, 1);
  }
#pragma GCC unroll 1
  for (int64_t k = t.k; k > 0; --k) {
    V bv[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      bv[v] = kMaskB && v == NV - 1 ? hn::MaskedLoad(tail, d, b + v * kN) : hn::LoadU(d, b + v * kN);
      __builtin_prefetch(b + v * kN + ahead);
    }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const V av = hn::Set(d, kPackedA ? a[0][i] : a[i / 4 % kG][i % 4 * ars]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
    }
    __builtin_prefetch(line);
    line += step;
    if ((k & (kLine - 1)) == 0) line += jump;
#pragma GCC unroll 4
    for (int g = 0; g < kG; ++g) a[g] += acs;
    b += ldb;
  }
  if (t.alpha != T(1)) {
    const V alpha = hn::Set(d, t.alpha);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[i][v] = hn::Mul(alpha, acc[i][v]);
  }
  const V beta = hn::Set(d, t.beta);
  const bool full = t.cols == NV * kN, read = t.beta != T(0), shifts = t.bias != nullptr;
  V bias[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) {
    bias[v] = !shifts ? hn::Zero(d) : full || v < NV - 1 ? hn::LoadU(d, t.bias + v * kN) : hn::MaskedLoad(tail, d, t.bias + v * kN);
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
    T* c = t.c + i * t.ldc;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      V r = acc[i][v];
      if (full || v < NV - 1) {
        if (read) r = hn::MulAdd(beta, hn::LoadU(d, c + v * kN), r);
        if (shifts) r = hn::Add(r, bias[v]);
        hn::StoreU(r, d, c + v * kN);
      } else {
        if (read) r = hn::MulAdd(beta, hn::MaskedLoad(tail, d, c + v * kN), r);
        if (shifts) r = hn::Add(r, bias[v]);
        hn::BlendedStore(r, tail, d, c + v * kN);
      }
    }
  }
}

template <class T>
using TileFn = void (*)(const TileArgs<T>&);

template <class T, bool kPackedA, bool kMaskB>
struct Tiles {
  template <int NV, int... I>
  struct Row {
    static constexpr TileFn<T> f[] = {&tile<T, I + 1, NV, kPackedA, kMaskB>...};
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
};

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
