// Register tiles of convolution, once a Highway target.
// Forward (also backward to the input): NG groups of G neighbouring pixels by NV vectors of outputs. For each run of taps the groups' pixels are read where they lie, by broadcast, and the
// packed weights stream by; sums stay in registers over all taps, but for chains of about 512 products, which are added in a tile of memory.
// Weight gradient: M neighbouring (column, channel) values of a tap row by NV vectors of outputs, over the pixels of many grid rows.
#if defined(KEEL_CONV_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CONV_TILE_INL
#undef KEEL_CONV_TILE_INL
#else
#define KEEL_CONV_TILE_INL
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "backend/cpu/loops/vec-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr int kGroup = 4, kWideGroup = 7, kConvRows = 14;
#else
inline constexpr int kGroup = 2, kWideGroup = 0, kConvRows = 6;  // too few registers for wide groups
#endif
inline constexpr int kGroups = 3, kConvNv = 2;

// The first n of at most all lanes, touching no others.
template <class D>
HWY_INLINE hn::Vec<D> load_lanes(D d, const hn::TFromD<D>* p, int64_t n) {
  if (!KEEL_MASKED_MEMORY && n == int64_t(hn::MaxLanes(d))) return hn::LoadU(d, p);
  return load_n(d, p, size_t(n));
}
template <class D>
HWY_INLINE void store_lanes(hn::Vec<D> v, D d, hn::TFromD<D>* p, int64_t n) {
  if (!KEEL_MASKED_MEMORY && n == int64_t(hn::MaxLanes(d))) return hn::StoreU(v, d, p);
  store_n(v, d, p, size_t(n));
}

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
  T* held;             // room for the sums of finished chains, aligned
  const T* bias;       // for this panel, or null; at least `cols`
};

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128  // one lane, or lanes that are no quicker in pairs: never called
inline constexpr bool kHasPairs = false;
template <class D, class T>
HWY_INLINE hn::Vec<D> load_pair(D d, const T* p) {
  return hn::Set(d, *p);
}
template <class D, class V>
HWY_INLINE V evens(D, V v) {
  return v;
}
template <class D, class V>
HWY_INLINE V odds(D, V v) {
  return v;
}
#else
inline constexpr bool kHasPairs = true;
// Two neighbouring values, over and over.
template <class D, class T>
HWY_INLINE hn::Vec<D> load_pair(D d, const T* p) {
  const hn::Repartition<double, D> wide;
  struct __attribute__((packed, may_alias)) Both {
    double v;
  };
  return hn::BitCast(d, hn::Set(wide, reinterpret_cast<const Both*>(p)->v));
}
// The even or odd lanes in the lower half.
template <class D, class V>
HWY_INLINE V evens(D d, V v) {
  return hn::ConcatEven(d, v, v);
}
template <class D, class V>
HWY_INLINE V odds(D d, V v) {
  return hn::ConcatOdd(d, v, v);
}
#endif

// With `Pair` a vector holds two neighbouring pixels of one input channel for half the outputs: lane 2 j + p is output j of pixel p. A group then has twice the pixels.
template <class T, int G, int NG, int NV, bool Pair>
HWY_NOINLINE void pixel_tile(const PixelTile<T>& t) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T), kLdb = kConvNv * kN;
  constexpr int M = NG * G;
  T* HWY_RESTRICT held = t.held;
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
#pragma GCC unroll 4
    for (int64_t k = t.segments[s].length; k > 0; --k) {
      V bv[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) bv[v] = hn::LoadU(d, b + v * kN);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        V av;
        if constexpr (Pair)
          av = load_pair(d, a[i / G] + i % G * 2);
        else
          av = hn::Set(d, a[i / G][i % G * ars]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
      }
#pragma GCC unroll 4
      for (int g = 0; g < NG; ++g) ++a[g];
      b += kLdb;
      if constexpr (Pair) { HWY_FENCE; }  // or the compiler carries values over to the next step, and shuffles where it could load
    }
    if (t.segments[s].ends_chain) {
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
          T* h = held + (i * NV + v) * kN;
          hn::Store(holds ? hn::Add(hn::Load(d, h), acc[i][v]) : acc[i][v], d, h);
          acc[i][v] = hn::Zero(d);
        }
      holds = true;
    }
  }
  const int64_t tail = t.cols - (NV - 1) * kN;
  const bool full = t.cols == NV * kN;
  V bias[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v)
    bias[v] = !t.bias ? hn::Zero(d) : full || v < NV - 1 ? hn::LoadU(d, t.bias + v * kN) : load_lanes(d, t.bias + v * kN, tail);
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
    if constexpr (Pair) {
      V r = acc[i][0];
      if (holds) r = hn::Add(hn::Load(d, held + i * kN), r);
      const V each[2] = {evens(d, r), odds(d, r)};
      for (int p = 0; p < 2; ++p) {
        const int64_t q = i % G * 2 + p;
        if (q < t.rows) store_lanes(t.bias ? hn::Add(each[p], bias[0]) : each[p], d, t.c[i / G] + q * t.ldc, tail);
      }
      continue;
    }
    if (i % G >= t.rows) continue;
    T* c = t.c[i / G] + i % G * t.ldc;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      V r = acc[i][v];
      if (holds) r = hn::Add(hn::Load(d, held + (i * NV + v) * kN), r);
      if (t.bias) r = hn::Add(r, bias[v]);
      if (full || v < NV - 1)
        hn::StoreU(r, d, c + v * kN);
      else
        store_lanes(r, d, c + v * kN, tail);
    }
  }
}

template <class T>
using PixelTileFn = void (*)(const PixelTile<T>&);
/// For groups of kGroup pixels, of kWideGroup, or of kGroup pairs.
template <class T>
PixelTileFn<T> get_pixel_tile(bool wide, bool pair, int64_t groups, int64_t nv) {
  if constexpr (std::is_same_v<T, float>) {
    static constexpr PixelTileFn<T> kPairs[kGroups] = {&pixel_tile<T, kGroup, 1, 1, true>, &pixel_tile<T, kGroup, 2, 1, true>,
                                                       &pixel_tile<T, kGroup, 3, 1, true>};
    if (pair) return kPairs[groups - 1];
  }
  if constexpr (kWideGroup != 0) {
    static constexpr PixelTileFn<T> kWide[2][2] = {{&pixel_tile<T, kWideGroup, 1, 1, false>, &pixel_tile<T, kWideGroup, 2, 1, false>},
                                                   {&pixel_tile<T, kWideGroup, 1, 2, false>, &pixel_tile<T, kWideGroup, 2, 2, false>}};
    if (wide) return kWide[nv - 1][groups - 1];
  }
  static constexpr PixelTileFn<T> kTable[2][kGroups] = {
      {&pixel_tile<T, kGroup, 1, 1, false>, &pixel_tile<T, kGroup, 2, 1, false>, &pixel_tile<T, kGroup, 3, 1, false>},
      {&pixel_tile<T, kGroup, 1, 2, false>, &pixel_tile<T, kGroup, 2, 2, false>, &pixel_tile<T, kGroup, 3, 2, false>}};
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
  const int64_t tail = t.cols - (NV - 1) * kN;
  const int64_t a_step = t.a_step, b_step = t.b_step;
  [[maybe_unused]] constexpr int64_t kAhead = 6;  // pixels; their strides are too long for the processor's own prefetching
#pragma GCC unroll 1
  for (int64_t r = 0; r < t.rows; ++r) {
    const T *a = t.a + t.a_row[r], *b = t.b + t.b_row[r];
#pragma GCC unroll 1
    for (int64_t x = t.columns; x > 0; --x) {
      V bv[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) bv[v] = v == NV - 1 ? load_lanes(d, b + v * kN, tail) : hn::LoadU(d, b + v * kN);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        const V av = hn::Set(d, a[i]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[i][v] = hn::MulAdd(av, bv[v], acc[i][v]);
      }
      a += a_step, b += b_step;
      if constexpr (NV == 2)
        hwy::Prefetch(b + kAhead * b_step), hwy::Prefetch(b + kAhead * b_step + kN), hwy::Prefetch(a + kAhead * a_step);
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

// The weight gradient of one input channel to at most half a vector of outputs: R rows of W taps, two neighbouring pixels at a time in the lanes 2 j and 2 j + 1.
template <class T>
struct PairWeightTile {
  const T *a, *b;
  const int64_t *a_row, *b_row;  // where each grid row begins
  const int64_t* tap_row;        // where each of the R tap rows begins
  int64_t rows, columns, outputs;
  T* c;  // sums, R W rows of ldc
  int64_t ldc;
  bool add;
};
template <int R, int W>
HWY_NOINLINE void pair_weight_tile(const PairWeightTile<float>& t) {
  using T = float;
  const hn::ScalableTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T);
  HWY_ALIGN int32_t lanes[kN];
  for (int64_t l = 0; l < kN; ++l)
    lanes[l] = int32_t(l / 2 < t.outputs ? l / 2 + l % 2 * t.outputs : kN - 1);  // the last lane is 0 where it is free
  const auto order = hn::IndicesFromVec(d, hn::Load(di, lanes));
  V acc[R * W];
#pragma GCC unroll 32
  for (int i = 0; i < R * W; ++i) acc[i] = hn::Zero(d);
#pragma GCC unroll 1
  for (int64_t r = 0; r < t.rows; ++r) {
    const T *a[R], *b = t.b + t.b_row[r];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) a[i] = t.a + t.a_row[r] + t.tap_row[i];
#pragma GCC unroll 1
    for (int64_t x = t.columns; x > 1; x -= 2) {
      const V g = hn::TableLookupLanes(load_lanes(d, b, 2 * t.outputs), order);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < W; ++j) acc[i * W + j] = hn::MulAdd(load_pair(d, a[i] + j), g, acc[i * W + j]);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) a[i] += 2;
      b += 2 * t.outputs;
    }
    if (t.columns % 2) {  // zeros stand for the second pixel, on both sides
      const V g = hn::TableLookupLanes(load_lanes(d, b, t.outputs), order);
      for (int i = 0; i < R; ++i)
        for (int j = 0; j < W; ++j) {
          const T pair[2] = {a[i][j], 0};
          acc[i * W + j] = hn::MulAdd(load_pair(d, pair), g, acc[i * W + j]);
        }
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < R * W; ++i) {
    const V sum = hn::Add(evens(d, acc[i]), odds(d, acc[i]));
    T* c = t.c + i * t.ldc;
    hn::StoreU(t.add ? hn::Add(hn::LoadU(d, c), sum) : sum, d, c);
  }
}
// For windows of 3, 5 or 7 columns; null otherwise. `rows` are the rows left, on return those that the tile takes.
using PairWeightTileFn = void (*)(const PairWeightTile<float>&);
inline PairWeightTileFn get_pair_weight_tile(int64_t& rows, int64_t columns) {
  constexpr int64_t kMost = kGroup == 4 ? 25 : 10;  // sums in registers
  static constexpr PairWeightTileFn kThree[] = {&pair_weight_tile<1, 3>, &pair_weight_tile<2, 3>, &pair_weight_tile<3, 3>},
                                    kFive[] = {&pair_weight_tile<1, 5>, &pair_weight_tile<2, 5>, &pair_weight_tile<3, 5>,
                                               &pair_weight_tile<4, 5>, &pair_weight_tile<5, 5>},
                                    kSeven[] = {&pair_weight_tile<1, 7>, &pair_weight_tile<2, 7>, &pair_weight_tile<3, 7>};
  if (columns != 3 && columns != 5 && columns != 7) return nullptr;
  rows = rows < kMost / columns ? rows : kMost / columns;
  if (columns == 3) rows = rows < 3 ? rows : 3;
  return (columns == 3 ? kThree : columns == 5 ? kFive : kSeven)[rows - 1];
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
