// Depthwise convolution, one input channel and one output a group, once a Highway target: a vector of channels at a time, read and
// written where they lie; the packed weights are [tap][channels padded to whole vectors]. A few neighbouring pixels go through all their
// channels, so that memory is met in runs. Memory traffic: an image is read once a tap, mostly from L1; results are written once. A pixel
// is one chain over the taps inside the image, in rising order; a weight's gradient one chain over each row of outputs, rows added in
// order.
#if defined(KEEL_CONV_DEPTHWISE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CONV_DEPTHWISE_INL
#undef KEEL_CONV_DEPTHWISE_INL
#else
#define KEEL_CONV_DEPTHWISE_INL
#endif

#include <algorithm>
#include <type_traits>

#include "backend/cpu/conv/task.h"
#include "backend/cpu/conv/tile-inl.h"
#include "backend/cpu/gemm/epilogue-inl.h"
#include "backend/cpu/gemm/pack-inl.h"
#include "backend/cpu/gemm/task.h"
#include "backend/cpu/loops/loops.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// n values from p on, widened.
template <class D, class S>
HWY_INLINE hn::Vec<D> load_channels(D d, const S* p, int64_t n) {
  if (n == int64_t(hn::MaxLanes(d))) return load_wide(d, p);
  if constexpr (std::is_same_v<S, hn::TFromD<D>>) {
    return load_lanes(d, p, n);
  } else {
    HWY_ALIGN hn::TFromD<D> wide[hn::MaxLanes(D())] = {};
    for (int64_t i = 0; i < n; ++i) wide[i] = hn::TFromD<D>(p[i]);
    return hn::Load(d, wide);
  }
}
template <class D, class S>
HWY_INLINE void store_channels(D d, hn::Vec<D> v, S* p, int64_t n) {
  if (n == int64_t(hn::MaxLanes(d))) return store_narrow(d, v, p);
  if constexpr (std::is_same_v<S, hn::TFromD<D>>)
    store_lanes(v, d, p, n);
  else
    store_some(d, v, p, n);
}

/// Neighbouring pixels whose taps all lie inside: `rows` of taps of `columns` each.
template <class S, class T>
struct DepthwisePixels {
  const S* image;                           // the first pixel's first tap
  int64_t row_step, tap_step, step;         // from tap row to tap row, from tap to tap, from pixel to pixel
  const T* w;                               // of the first tap
  int64_t ld, w_row;                        // from tap to tap, from tap row to tap row
  int64_t rows, columns;
  int64_t channels;
  const S* bias;
  S* out;
  int64_t out_step;
};
// P pixels, W taps a row (0: t.columns).
template <class S, class T, int P, int W, bool Full>
HWY_INLINE void depthwise_vector(const DepthwisePixels<S, T>& t, int64_t c, int64_t n) {
  const hn::ScalableTag<T> d;
  if constexpr (Full) n = int64_t(hn::MaxLanes(d));
  hn::Vec<decltype(d)> acc[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) acc[p] = hn::Zero(d);
#pragma GCC unroll 1
  for (int64_t i = 0; i < t.rows; ++i) {
    const S* from = t.image + i * t.row_step + c;
    const T* w = t.w + i * t.w_row + c;
    const int64_t columns = W ? W : t.columns;
#pragma GCC unroll 8
    for (int64_t j = 0; j < columns; ++j) {
      const auto weight = hn::LoadU(d, w + j * t.ld);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[p] = hn::MulAdd(load_channels(d, from + p * t.step + j * t.tap_step, n), weight, acc[p]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    if (t.bias) acc[p] = hn::Add(acc[p], load_channels(d, t.bias + c, n));
    store_channels(d, acc[p], t.out + p * t.out_step + c, n);
  }
}
template <class S, class T, int P, int W>
HWY_NOINLINE void depthwise_pixels(const DepthwisePixels<S, T>& t) {
  constexpr int64_t kN = HWY_LANES(T);
  int64_t c = 0;
  for (; c + kN <= t.channels; c += kN) depthwise_vector<S, T, P, W, true>(t, c, kN);
  if (c < t.channels) depthwise_vector<S, T, P, W, false>(t, c, t.channels - c);
}

template <class S, class T>
void run_depthwise(const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  constexpr int64_t kN = HWY_LANES(T), kPixels = 4;
  const DType type = std::is_same_v<S, double> ? f64 : std::is_same_v<S, float> ? f32 : std::is_same_v<S, bfloat16> ? bf16 : f16;
  int64_t columns = 1;
  while (columns < g.n_taps && g.taps[columns].dy == g.taps[0].dy) ++columns;
  const int64_t tap_rows = g.n_taps / columns, between = columns > 1 ? g.taps[1].dx - g.taps[0].dx : 0;
  const auto dy = [&](int64_t i) { return g.taps[i * columns].dy; };
  DepthwisePixels<S, T> t{};
  t.row_step = tap_rows > 1 ? (dy(1) - dy(0)) * g.w * g.c : 0, t.tap_step = between * g.c, t.step = g.isx * g.c;
  t.ld = round_up(g.c, kN), t.w_row = columns * t.ld, t.channels = g.c, t.bias = static_cast<const S*>(g.bias), t.out_step = g.osx * g.o;
  auto four = &depthwise_pixels<S, T, kPixels, 0>, one = &depthwise_pixels<S, T, 1, 0>, one2 = one, one3 = one;
  if constexpr (std::is_same_v<S, T>) {  // conversion costs more than the loop over taps
    four = columns == 3   ? &depthwise_pixels<S, T, kPixels, 3>
           : columns == 2 ? &depthwise_pixels<S, T, kPixels, 2>
           : columns == 5 ? &depthwise_pixels<S, T, kPixels, 5>
           : columns == 7 ? &depthwise_pixels<S, T, kPixels, 7>
                          : four;
    one2 = &depthwise_pixels<S, T, 1, 2>, one3 = &depthwise_pixels<S, T, 1, 3>;
  }
  StatSlot::Part part;
  for (int64_t r = row0; r < row1; ++r) {
    const int64_t image = r / g.rows, y = r % g.rows;
    const S* from = static_cast<const S*>(g.src) + image * g.h * g.w * g.c;
    S* to = static_cast<S*>(g.dst) + ((image * g.oh + y * g.osy + g.oy0) * g.ow + g.ox0) * g.o;
    int64_t i0 = 0, i1 = tap_rows;
    while (i0 < i1 && y * g.isy + dy(i0) < 0) ++i0;
    while (i0 < i1 && y * g.isy + dy(i1 - 1) >= g.h) --i1;
    t.rows = i1 - i0;
    const int64_t row = i0 < i1 ? (y * g.isy + dy(i0)) * g.w : 0;
    for (int64_t x = 0; x < g.columns;) {
      const int64_t sx = x * g.isx + g.dx0;
      t.out = to + x * t.out_step;
      if (x + kPixels <= g.columns && sx >= 0 && sx + (kPixels - 1) * g.isx + g.dx1 - g.dx0 < g.w) {
        t.image = from + (row + sx) * g.c, t.w = static_cast<const T*>(weights) + i0 * t.w_row, t.columns = columns;
        four(t);
        x += kPixels;
        continue;
      }
      int64_t j0 = 0, j1 = columns;  // of the taps that lie inside
      while (j0 < j1 && sx + j0 * between < 0) ++j0;
      while (j0 < j1 && sx + (j1 - 1) * between >= g.w) --j1;
      t.image = from + (j0 < j1 ? (row + sx + j0 * between) * g.c : 0);
      t.w = static_cast<const T*>(weights) + i0 * t.w_row + j0 * t.ld, t.columns = j1 - j0;
      (t.columns == 2 ? one2 : t.columns == 3 ? one3 : one)(t);
      ++x;
    }
    if (!g.slot) continue;
    if (g.osx == 1)
      stat_block(type, to, g.columns * g.o, part);
    else
      for (int64_t x = 0; x < g.columns; ++x) stat_block(type, to + x * g.osx * g.o, g.o, part);
  }
  if (g.slot) g.slot->merge(part);
}

/// The weight gradient of neighbouring pixels whose taps all lie inside, onto sums of one row of outputs.
template <class S, class T>
struct DepthwiseSums {
  const S* x;                        // the first pixel's first tap
  int64_t row_step, tap_step, step;  // from tap row to tap row, from tap to tap, from pixel to pixel
  const S* g;
  int64_t g_step;
  T* sums;            // of the first tap
  int64_t ld, w_row;  // from tap to tap, from tap row to tap row
  int64_t rows, columns, c0, c1;
};
// P pixels, W taps a row (0: one after the other).
template <class S, class T, int P, int W, bool Full>
HWY_INLINE void depthwise_sums_vector(const DepthwiseSums<S, T>& t, int64_t c, int64_t n) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  if constexpr (Full) n = int64_t(hn::MaxLanes(d));
  constexpr int kAtOnce = W ? W : 1;
  V g[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) g[p] = load_channels(d, t.g + p * t.g_step + c, n);
#pragma GCC unroll 1
  for (int64_t i = 0; i < t.rows; ++i)
#pragma GCC unroll 1
    for (int64_t j0 = 0; j0 < (W ? 1 : t.columns); ++j0) {
      const S* from = t.x + i * t.row_step + j0 * t.tap_step + c;
      T* to = t.sums + i * t.w_row + j0 * t.ld + c;
      V acc[kAtOnce];
#pragma GCC unroll 8
      for (int j = 0; j < kAtOnce; ++j) acc[j] = hn::LoadU(d, to + j * t.ld);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (int j = 0; j < kAtOnce; ++j) acc[j] = hn::MulAdd(load_channels(d, from + p * t.step + j * t.tap_step, n), g[p], acc[j]);
#pragma GCC unroll 8
      for (int j = 0; j < kAtOnce; ++j) hn::StoreU(acc[j], d, to + j * t.ld);
    }
}
template <class S, class T, int P, int W>
HWY_NOINLINE void depthwise_sums(const DepthwiseSums<S, T>& t) {
  constexpr int64_t kN = HWY_LANES(T);
  int64_t c = t.c0;
  for (; c + kN <= t.c1; c += kN) depthwise_sums_vector<S, T, P, W, true>(t, c, kN);
  if (c < t.c1) depthwise_sums_vector<S, T, P, W, false>(t, c, t.c1 - c);
}

// Channels [c0, c1), whole vectors but for the last. `sums` is [2][tap][channels padded to whole vectors]: all, and those of one row of
// outputs.
template <class S, class T>
void run_depthwise_weight(const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  constexpr int64_t kN = HWY_LANES(T), kPixels = 4;
  const hn::ScalableTag<T> d;
  const int64_t ld = round_up(s.c, kN), taps = s.kh * s.kw;
  T *all = static_cast<T*>(sums), *row_sums = all + taps * ld;
  DepthwiseSums<S, T> t{};
  t.row_step = s.dh * s.w * s.c, t.tap_step = s.dw * s.c, t.step = s.sw * s.c, t.g_step = s.o, t.ld = ld, t.w_row = s.kw * ld;
  t.c0 = c0, t.c1 = c1;
  auto four = &depthwise_sums<S, T, kPixels, 0>, one = &depthwise_sums<S, T, 1, 0>, one2 = one, one3 = one;
  if constexpr (std::is_same_v<S, T>) {
    four = s.kw == 3   ? &depthwise_sums<S, T, kPixels, 3>
           : s.kw == 5 ? &depthwise_sums<S, T, kPixels, 5>
           : s.kw == 7 ? &depthwise_sums<S, T, kPixels, 7>
                       : four;
    one2 = &depthwise_sums<S, T, 1, 2>, one3 = &depthwise_sums<S, T, 1, 3>;
  }
  const auto each_vector = [&](auto f) HWY_ATTR {
    for (int64_t i = 0; i < taps; ++i)
      for (int64_t c = c0; c < c1; c += kN) f(all + i * ld + c, row_sums + i * ld + c);
  };
  each_vector([&](T* to, T* row) HWY_ATTR { hn::StoreU(hn::Zero(d), d, to), hn::StoreU(hn::Zero(d), d, row); });
  for (int64_t row = 0; row < s.n * s.oh; ++row) {
    const int64_t y0 = row % s.oh * s.sh - s.ph;
    int64_t i0 = 0, i1 = s.kh;
    while (i0 < i1 && y0 + i0 * s.dh < 0) ++i0;
    while (i0 < i1 && y0 + (i1 - 1) * s.dh >= s.h) --i1;
    if (i0 == i1) continue;
    t.rows = i1 - i0;
    const S* from = static_cast<const S*>(x) + (row / s.oh * s.h + y0 + i0 * s.dh) * s.w * s.c;
    for (int64_t ox = 0; ox < s.ow;) {
      const int64_t sx = ox * s.sw - s.pw;
      t.g = static_cast<const S*>(g) + (row * s.ow + ox) * s.o;
      if (ox + kPixels <= s.ow && sx >= 0 && sx + (kPixels - 1) * s.sw + (s.kw - 1) * s.dw < s.w) {
        t.x = from + sx * s.c, t.sums = row_sums + i0 * t.w_row, t.columns = s.kw;
        four(t);
        ox += kPixels;
        continue;
      }
      int64_t j0 = 0, j1 = s.kw;  // of the taps that lie inside
      while (j0 < j1 && sx + j0 * s.dw < 0) ++j0;
      while (j0 < j1 && sx + (j1 - 1) * s.dw >= s.w) --j1;
      if (j0 < j1) {
        t.x = from + (sx + j0 * s.dw) * s.c, t.sums = row_sums + i0 * t.w_row + j0 * ld, t.columns = j1 - j0;
        (t.columns == 2 ? one2 : t.columns == 3 ? one3 : one)(t);
      }
      ++ox;
    }
    each_vector([&](T* to, T* from_row) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, to), hn::LoadU(d, from_row)), d, to), hn::StoreU(hn::Zero(d), d, from_row);
    });
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
