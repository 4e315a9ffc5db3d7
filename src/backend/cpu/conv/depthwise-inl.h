// Depthwise convolution, one input channel and one output a group, once a Highway target: a vector of channels at a time, read and written where they lie; the packed weights are [tap][channels padded to
// whole vectors]. Memory traffic: an image is read once a tap, mostly from L1; results are written once. A pixel is one chain over the taps inside the image, in rising order.
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

// P neighbouring pixels (y, x...) of one vector of channels. `Inner`: no column of theirs lies outside.
template <class S, class T, int P, bool Inner>
HWY_INLINE void depthwise_pixels(const ConvGrid& g, const S* image, const T* w, int64_t ld, int64_t y, int64_t x, int64_t c, int64_t n,
                                 S* out) {
  const hn::ScalableTag<T> d;
  hn::Vec<decltype(d)> acc[P];
  for (int p = 0; p < P; ++p) acc[p] = hn::Zero(d);
  for (int64_t t = 0; t < g.n_taps; ++t) {
    const int64_t sy = y * g.isy + g.taps[t].dy, sx = x * g.isx + g.taps[t].dx;
    if (sy < 0 || sy >= g.h) continue;
    const auto weight = hn::LoadU(d, w + t * ld + c);
    for (int p = 0; p < P; ++p)
      if (Inner || (sx + p * g.isx >= 0 && sx + p * g.isx < g.w))
        acc[p] = hn::MulAdd(load_channels(d, image + (sy * g.w + sx + p * g.isx) * g.c + c, n), weight, acc[p]);
  }
  for (int p = 0; p < P; ++p) {
    if (g.bias) acc[p] = hn::Add(acc[p], load_channels(d, static_cast<const S*>(g.bias) + c, n));
    store_channels(d, acc[p], out + p * g.osx * g.o, n);
  }
}

template <class S, class T>
void run_depthwise(const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  constexpr int64_t kN = HWY_LANES(T);
  constexpr int kPixels = 4;
  const DType type = std::is_same_v<S, double> ? f64 : std::is_same_v<S, float> ? f32 : std::is_same_v<S, bfloat16> ? bf16 : f16;
  const T* w = static_cast<const T*>(weights);
  const int64_t ld = round_up(g.c, kN);
  StatSlot::Part part;
  for (int64_t r = row0; r < row1; ++r) {
    const int64_t image = r / g.rows, y = r % g.rows;
    const S* from = static_cast<const S*>(g.src) + image * g.h * g.w * g.c;
    S* to = static_cast<S*>(g.dst) + ((image * g.oh + y * g.osy + g.oy0) * g.ow + g.ox0) * g.o;
    for (int64_t c = 0; c < g.c; c += kN) {
      const int64_t n = std::min(kN, g.c - c);
      for (int64_t x = 0; x < g.columns;) {
        S* out = to + x * g.osx * g.o + c;
        if (x + kPixels <= g.columns && x * g.isx + g.dx0 >= 0 && (x + kPixels - 1) * g.isx + g.dx1 < g.w) {
          depthwise_pixels<S, T, kPixels, true>(g, from, w, ld, y, x, c, n, out);
          x += kPixels;
        } else {
          depthwise_pixels<S, T, 1, false>(g, from, w, ld, y, x, c, n, out);
          ++x;
        }
      }
    }
    if (!g.slot) continue;
    if (g.osx == 1)
      stat_block(type, to, g.columns * g.o, part);
    else
      for (int64_t x = 0; x < g.columns; ++x) stat_block(type, to + x * g.osx * g.o, g.o, part);
  }
  if (g.slot) g.slot->merge(part);
}

// Sums of W taps (i, j0...) over the output columns [x0, x1) of one row, onto acc.
template <class S, class T, int W, bool Inner, class V>
HWY_INLINE void depthwise_row(const ConvShape& s, const S* x_row, const S* g_row, int64_t j0, int64_t x0, int64_t x1, int64_t n, V* acc) {
  const hn::ScalableTag<T> d;
  for (int64_t ox = x0; ox < x1; ++ox) {
    const V g = load_channels(d, g_row + ox * s.o, n);
    const int64_t at = ox * s.sw - s.pw + j0 * s.dw;
    for (int j = 0; j < W; ++j)
      if (Inner || (at + j * s.dw >= 0 && at + j * s.dw < s.w))
        acc[j] = hn::MulAdd(load_channels(d, x_row + (at + j * s.dw) * s.c, n), g, acc[j]);
  }
}

template <class S, class T, int W>
void depthwise_weight_vector(const ConvShape& s, const S* x, const S* g, int64_t c, int64_t n, T* sums, int64_t ld) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  for (int64_t row = 0; row < s.n * s.oh; ++row)
    for (int64_t i = 0; i < s.kh; ++i) {
      const int64_t sy = row % s.oh * s.sh - s.ph + i * s.dh;
      if (sy < 0 || sy >= s.h) continue;
      const S *x_row = x + (row / s.oh * s.h + sy) * s.w * s.c + c, *g_row = g + row * s.ow * s.o + c;
      for (int64_t j0 = 0; j0 < s.kw; j0 += W) {
        V acc[W];
        for (int j = 0; j < W; ++j) acc[j] = hn::Zero(d);
        // Columns whose taps all lie inside.
        const int64_t first = s.pw - j0 * s.dw, last = s.w - 1 + s.pw - (j0 + W - 1) * s.dw;
        const int64_t lo = std::clamp<int64_t>(first > 0 ? (first + s.sw - 1) / s.sw : 0, 0, s.ow);
        const int64_t hi = std::clamp<int64_t>(last >= 0 ? last / s.sw + 1 : 0, lo, s.ow);
        depthwise_row<S, T, W, false>(s, x_row, g_row, j0, 0, lo, n, acc);
        depthwise_row<S, T, W, true>(s, x_row, g_row, j0, lo, hi, n, acc);
        depthwise_row<S, T, W, false>(s, x_row, g_row, j0, hi, s.ow, n, acc);
        for (int j = 0; j < W; ++j) {
          T* to = sums + (i * s.kw + j0 + j) * ld + c;
          hn::StoreU(hn::Add(hn::LoadU(d, to), acc[j]), d, to);
        }
      }
    }
}

// Channels [c0, c1), whole vectors but for the last. `sums` is [tap][channels padded to whole vectors].
template <class S, class T>
void run_depthwise_weight(const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  constexpr int64_t kN = HWY_LANES(T);
  const hn::ScalableTag<T> d;
  const int64_t ld = round_up(s.c, kN);
  T* to = static_cast<T*>(sums);
  for (int64_t c = c0; c < c1; c += kN) {
    for (int64_t t = 0; t < s.kh * s.kw; ++t) hn::StoreU(hn::Zero(d), d, to + t * ld + c);
    const auto run = s.kw == 3   ? &depthwise_weight_vector<S, T, 3>
                     : s.kw == 5 ? &depthwise_weight_vector<S, T, 5>
                                 : &depthwise_weight_vector<S, T, 1>;
    run(s, static_cast<const S*>(x), static_cast<const S*>(g), c, std::min(kN, s.c - c), to, ld);
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
