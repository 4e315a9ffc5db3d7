// Up to 8 rows of A that stream a large B past partial sums, once a Highway target: a k-contiguous B (a Linear weight) goes through a
// transposition in registers. Each element is the same chain of FMAs as in the tiles (kernel-inl.h).
#if defined(KEEL_GEMM_STREAM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_GEMM_STREAM_INL
#undef KEEL_GEMM_STREAM_INL
#else
#define KEEL_GEMM_STREAM_INL
#endif

#include <algorithm>
#include <type_traits>
#include <utility>

#include "backend/cpu/gemm/epilogue-inl.h"
#include "backend/cpu/gemm/kernel-inl.h"
#include "backend/cpu/gemm/pack-inl.h"
#include "backend/cpu/gemm/task.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

// Up to 8 rows of A against columns of B that are contiguous along k. Per step a vector of columns x kSteps of B is transposed in
// registers.
template <class T, int M>
HWY_NOINLINE void stream_transposed(const GemmTask& t, const T* a, const T* b, T* c, int64_t kc) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  using Tr = LineTranspose<T>;
  constexpr int kN = Tr::kN, kSteps = Tr::kSteps;
  for (int64_t j = 0; j < t.n; j += kN) {
    const int64_t cols = std::min<int64_t>(kN, t.n - j);
    int64_t off[kN];
    for (int r = 0; r < kN; ++r) off[r] = (j + std::min<int64_t>(r, cols - 1)) * t.b_cs;
    for (int64_t p = 0; p < t.k; p += kc) {
      const int64_t len = std::min(kc, t.k - p);
      V acc[M];
      for (int i = 0; i < M; ++i) acc[i] = hn::Zero(d);
      int64_t k = 0;
      for (; k + kSteps <= len; k += kSteps) {
        const T* bk = b + p + k;
#pragma GCC unroll 16
        for (int r = 0; r < kN; ++r) __builtin_prefetch(bk + off[r] + 512 / sizeof(T));
        V out[kSteps];
        Tr::run(bk, ListedRows{off}, out);
        const T* ak = a + (p + k) * t.a_cs;
#pragma GCC unroll 16
        for (int s = 0; s < kSteps; ++s)
#pragma GCC unroll 8
          for (int i = 0; i < M; ++i) acc[i] = hn::MulAdd(hn::Set(d, ak[i * t.a_rs + s * t.a_cs]), out[s], acc[i]);
      }
      for (; k < len; ++k) {
        HWY_ALIGN T column[kN];
        for (int r = 0; r < kN; ++r) column[r] = b[off[r] + p + k];
        const V bv = hn::Load(d, column);
        for (int i = 0; i < M; ++i) acc[i] = hn::MulAdd(hn::Set(d, a[i * t.a_rs + (p + k) * t.a_cs]), bv, acc[i]);
      }
      const V alpha = hn::Set(d, T(t.alpha));
      const T beta = p ? T(1) : T(t.beta);
      const auto mask = hn::FirstN(d, size_t(cols));
      for (int i = 0; i < M; ++i) {
        V r = hn::Mul(alpha, acc[i]);
        T* ci = c + i * t.ldc + j;
        if (beta != T(0)) r = hn::MulAdd(hn::Set(d, beta), hn::MaskedLoad(mask, d, ci), r);
        hn::BlendedStore(r, mask, d, ci);
      }
    }
  }
}

// Up to 4 rows of A against rows of B that are contiguous along n: wide tiles, so that B is read in runs.
template <class T, int M, int NV>
void stream_rows(const GemmTask& t, const T* a, const T* b, T* c, int64_t kc) {
  constexpr int64_t kW = NV * int64_t(HWY_LANES(T));
  int64_t j = 0;
  for (; j < t.n; j += kW) {
    const int64_t cols = std::min(kW, t.n - j);
    for (int64_t p = 0; p < std::max<int64_t>(t.k, 1); p += kc) {
      TileArgs<T> g{std::min(kc, t.k - p),
                    a + p * t.a_cs,
                    t.a_rs,
                    t.a_cs,
                    b + p * t.b_rs + j,
                    t.b_rs,
                    c + j,
                    t.ldc,
                    T(t.alpha),
                    p ? T(1) : T(t.beta),
                    cols};
      if (cols == kW) {
        tile<T, M, NV, Rows::strided, false>(g);
        continue;
      }
      constexpr int64_t kN = HWY_LANES(T), kTwo = 2 * kN;
      for (int64_t x = 0; x < cols; x += kTwo) {
        g.cols = std::min(kTwo, cols - x);
        Tiles<T, Rows::strided, true>::get(M, g.cols > kN ? 2 : 1)(g);
        g.b += kTwo, g.c += kTwo;
      }
    }
  }
}

// Up to 8 rows of A against rows of B that are contiguous along n and too many for a cache: a few whole rows of B at a time, the sums of
// their columns waiting in L1. The chain of each sum is the same as in registers.
template <class T, int M>
HWY_NOINLINE void stream_wide(const GemmTask& t, const T* a, const T* b, T* c, T* sums, int64_t kc) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T), kRows = 8;
  constexpr int NV = M <= 2 ? 4 : HWY_TARGET == HWY_AVX3 && M <= 6 ? 4 : M <= 4 || HWY_TARGET == HWY_AVX3 ? 2 : 1;
  constexpr int64_t kW = NV * kN, kWidth = round_up(std::max<int64_t>(24576 / int64_t(sizeof(T)) / M, kW), kW);
  const V alpha = hn::Set(d, T(t.alpha));
  for (int64_t jc = 0; jc < t.n; jc += kWidth) {
    const int64_t nc = std::min(kWidth, t.n - jc);
    for (int64_t p = 0; p < t.k; p += kc) {
      const int64_t len = std::min(kc, t.k - p);
      const V beta = hn::Set(d, p ? T(1) : T(t.beta));
      const bool read = p || t.beta != 0;
      for (int64_t k = 0; k < len; k += kRows) {
        const int64_t rows = std::min(kRows, len - k);
        const bool first = k == 0, last = k + kRows >= len;
        const T *bk = b + (p + k) * t.b_rs + jc, *ak = a + (p + k) * t.a_cs;
        const int64_t ahead = p + k + 2 * kRows <= t.k ? kRows * t.b_rs : 0;
        for (int64_t j = 0; j < nc; j += kN * NV) {
          const int64_t left = nc - j;
          V acc[M][NV];
#pragma GCC unroll 8
          for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[i][v] = first ? hn::Zero(d) : hn::LoadU(d, sums + i * kWidth + j + v * kN);
          if (HWY_LIKELY(left >= kW)) {
#pragma GCC unroll 1
            for (int64_t r = 0; r < rows; ++r) {
              V bv[NV];
#pragma GCC unroll 4
              for (int v = 0; v < NV; ++v) {
                bv[v] = hn::LoadU(d, bk + r * t.b_rs + j + v * kN);
                __builtin_prefetch(bk + r * t.b_rs + j + v * kN + ahead);
              }
#pragma GCC unroll 8
              for (int i = 0; i < M; ++i) {
                const V av = hn::Set(d, ak[i * t.a_rs + r * t.a_cs]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
              }
            }
          } else {
            for (int64_t r = 0; r < rows; ++r) {
              V bv[NV];
              for (int v = 0; v < NV; ++v)
                bv[v] = load_some(d, bk + r * t.b_rs + std::min(j + v * kN, nc), std::clamp<int64_t>(left - v * kN, 0, kN));
              for (int i = 0; i < M; ++i) {
                const V av = hn::Set(d, ak[i * t.a_rs + r * t.a_cs]);
                for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
              }
            }
          }
#pragma GCC unroll 8
          for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
              if (!last) {
                hn::StoreU(acc[i][v], d, sums + i * kWidth + j + v * kN);
                continue;
              }
              const int64_t n = std::clamp<int64_t>(left - v * kN, 0, kN);
              if (n == 0) continue;
              T* ci = c + i * t.ldc + jc + j + v * kN;
              V y = hn::Mul(alpha, acc[i][v]);
              if (read) y = hn::MulAdd(beta, load_some(d, ci, n), y);
              store_some(d, y, ci, n);
            }
        }
      }
    }
  }
}
template <class T, int... M>
void stream_wide_rows(const GemmTask& t, const T* a, const T* b, T* c, T* sums, int64_t kc, std::integer_sequence<int, M...>) {
  ((t.m == M + 1 ? stream_wide<T, M + 1>(t, a, b, c, sums, kc) : void()), ...);
}
template <class T, int... M>
void stream_transposed_rows(const GemmTask& t, const T* a, const T* b, T* c, int64_t kc, std::integer_sequence<int, M...>) {
  ((t.m == M + 1 ? stream_transposed<T, M + 1>(t, a, b, c, kc) : void()), ...);
}

template <class T>
void stream(GemmStream form, const GemmTask& t, const T* a, const T* b, T* c, T* sums, int64_t kc) {
  if (form == GemmStream::transposed) return stream_transposed_rows<T>(t, a, b, c, kc, std::make_integer_sequence<int, 8>());
  if (form == GemmStream::wide) return stream_wide_rows<T>(t, a, b, c, sums, kc, std::make_integer_sequence<int, 8>());
  t.m == 1   ? stream_rows<T, 1, 8 * kNv>(t, a, b, c, kc)
  : t.m == 2 ? stream_rows<T, 2, 4 * kNv>(t, a, b, c, kc)
  : t.m == 3 ? stream_rows<T, 3, 2 * kNv>(t, a, b, c, kc)
             : stream_rows<T, 4, 2 * kNv>(t, a, b, c, kc);
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
