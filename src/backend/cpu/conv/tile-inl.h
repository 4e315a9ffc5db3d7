// Register tiles of convolution, once a Highway target.
// Forward (also backward to the input): NG groups of kGroup neighbouring pixels by NV vectors of outputs. For each run of taps the groups' pixels are read where they lie, by broadcast, and the
// packed weights stream by; sums stay in registers over all taps, but for chains of about 512 products, which are added in a tile of memory.
// Weight gradient: M neighbouring (column, channel) values of a tap row by NV vectors of outputs, over the pixels of many grid rows.
#if defined(KEEL_CONV_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CONV_TILE_INL
#undef KEEL_CONV_TILE_INL
#else
#define KEEL_CONV_TILE_INL
#endif

#include <cstdint>
#include <utility>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr int kGroup = 4, kConvRows = 14;
#else
inline constexpr int kGroup = 2, kConvRows = 6;
#endif
inline constexpr int kGroups = 3, kConvNv = 2;

struct Segment {
  int64_t offset, length;
  bool ends_chain;
};

template <class T>
struct PixelTile {
  const T* a[kGroups];
  int64_t ars;  // from pixel to pixel
  const Segment* segments;
  int64_t n_segments;
  const T* b;          // packed weights of one panel, kConvNv vectors wide
  T* c[kGroups];       // first pixel of each group
  int64_t ldc;         // from pixel to pixel
  int64_t rows, cols;  // pixels of a group and outputs that are written
  const T* bias;       // for this panel, or null; at least `cols`
};

template <class T, int NG, int NV>
HWY_NOINLINE void pixel_tile(const PixelTile<T>& t) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T), kLdb = kConvNv * kN;
  constexpr int M = NG * kGroup;
  HWY_ALIGN T held[M * NV * kN];
  for (int i = 0; i < M * NV; ++i) hn::Store(hn::Zero(d), d, held + i * kN);
  bool holds = false;
  V acc[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v] = hn::Zero(d);
  const T* b = t.b;
  const int64_t ars = t.ars;
#pragma GCC unroll 1
  for (int64_t s = 0; s < t.n_segments; ++s) {
    const T* a[NG];
#pragma GCC unroll 4
    for (int g = 0; g < NG; ++g) a[g] = t.a[g] + t.segments[s].offset;
#pragma GCC unroll 1
    for (int64_t k = t.segments[s].length; k > 0; --k) {
      V bv[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) bv[v] = hn::LoadU(d, b + v * kN);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        const V av = hn::Set(d, a[i / kGroup][i % kGroup * ars]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
      }
#pragma GCC unroll 4
      for (int g = 0; g < NG; ++g) ++a[g];
      b += kLdb;
    }
    if (t.segments[s].ends_chain) {
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
          T* h = held + (i * NV + v) * kN;
          hn::Store(hn::Add(hn::Load(d, h), acc[i][v]), d, h);
          acc[i][v] = hn::Zero(d);
        }
      holds = true;
    }
  }
  const auto tail = hn::FirstN(d, size_t(t.cols - (NV - 1) * kN));
  const bool full = t.cols == NV * kN;
  V bias[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v)
    bias[v] = !t.bias ? hn::Zero(d) : full || v < NV - 1 ? hn::LoadU(d, t.bias + v * kN) : hn::MaskedLoad(tail, d, t.bias + v * kN);
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
    if (i % kGroup >= t.rows) continue;
    T* c = t.c[i / kGroup] + i % kGroup * t.ldc;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      V r = acc[i][v];
      if (holds) r = hn::Add(hn::Load(d, held + (i * NV + v) * kN), r);
      if (t.bias) r = hn::Add(r, bias[v]);
      if (full || v < NV - 1)
        hn::StoreU(r, d, c + v * kN);
      else
        hn::BlendedStore(r, tail, d, c + v * kN);
    }
  }
}

template <class T>
using PixelTileFn = void (*)(const PixelTile<T>&);
template <class T>
PixelTileFn<T> get_pixel_tile(int64_t groups, int64_t nv) {
  static constexpr PixelTileFn<T> kTable[2][kGroups] = {{&pixel_tile<T, 1, 1>, &pixel_tile<T, 2, 1>, &pixel_tile<T, 3, 1>},
                                                        {&pixel_tile<T, 1, 2>, &pixel_tile<T, 2, 2>, &pixel_tile<T, 3, 2>}};
  return kTable[nv - 1][groups - 1];
}

template <class T>
struct WeightTile {
  const T *a, *b;
  const int64_t *a_row, *b_row;  // where each grid row begins
  int64_t rows, columns;
  int64_t a_step, b_step;  // from pixel to pixel
  T* c;                    // sums, M x cols
  int64_t ldc;
  int64_t cols;
  bool add;  // onto what is there
};

template <class T, int M, int NV>
HWY_NOINLINE void weight_tile(const WeightTile<T>& t) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T);
  V acc[M][NV];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[i][v] = hn::Zero(d);
  const auto tail = hn::FirstN(d, size_t(t.cols - (NV - 1) * kN));
  const int64_t a_step = t.a_step, b_step = t.b_step;
#pragma GCC unroll 1
  for (int64_t r = 0; r < t.rows; ++r) {
    const T *a = t.a + t.a_row[r], *b = t.b + t.b_row[r];
#pragma GCC unroll 1
    for (int64_t x = t.columns; x > 0; --x) {
      V bv[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) bv[v] = v == NV - 1 ? hn::MaskedLoad(tail, d, b + v * kN) : hn::LoadU(d, b + v * kN);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        const V av = hn::Set(d, a[i]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
      }
      a += a_step, b += b_step;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      T* c = t.c + i * t.ldc + v * kN;  // rows of sums are padded to whole vectors
      hn::StoreU(t.add ? hn::Add(hn::LoadU(d, c), acc[i][v]) : acc[i][v], d, c);
    }
}

template <class T>
using WeightTileFn = void (*)(const WeightTile<T>&);
template <class T, int NV, int... I>
WeightTileFn<T> pick_weight_tile(int64_t m, std::integer_sequence<int, I...>) {
  static constexpr WeightTileFn<T> kTable[] = {&weight_tile<T, I + 1, NV>...};
  return kTable[m - 1];
}
template <class T>
WeightTileFn<T> get_weight_tile(int64_t m, int64_t nv) {
  using Seq = std::make_integer_sequence<int, kConvRows>;
  return nv == 1 ? pick_weight_tile<T, 1>(m, Seq()) : pick_weight_tile<T, 2>(m, Seq());
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
