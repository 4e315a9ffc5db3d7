// Depthwise convolution, one input channel and one output a group, once a Highway target: a vector of channels at a time, read and
// written where they lie; the packed weights are [tap][channels padded to whole vectors]. Four neighbouring pixels share what they read.
// Memory traffic: an image is read once a row of taps, mostly from L1; results are written once. A pixel is one chain over the taps inside
// the image, in rising order; a weight's gradient one chain over the fewest rows of outputs that make 64, and these sums in order.
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

/// Windows are unrolled for vectors only: without them there are too many registers to hold.
inline constexpr bool kUnrollsWindows = HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128;

/// `groups` of neighbouring pixels whose taps all lie inside: `rows` of taps of `columns` each.
template <class S, class T>
struct DepthwisePixels {
  const S* image;                    // the first pixel's first tap
  int64_t row_step, tap_step, step;  // from tap row to tap row, from tap to tap, from pixel to pixel
  const T* w;                        // of the first tap
  int64_t ld, w_row;                 // from tap to tap, from tap row to tap row
  int64_t rows, columns, groups;
  int64_t channels;
  const S* bias;
  S* out;
  int64_t out_step;
};
/// acc[p] += one row of W taps of P pixels, which lie Step taps apart: one reading serves all whose windows meet there.
template <int P, int W, int Step, class D, class S, class V>
HWY_INLINE void depthwise_taps(D d, const S* from, int64_t tap_step, const V (&weight)[W], V (&acc)[P]) {
#pragma GCC unroll 16
  for (int k = 0; k < (P - 1) * Step + W; ++k) {
    const V x = load_wide(d, from + k * tap_step);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
      if (k >= p * Step && k < p * Step + W) acc[p] = hn::MulAdd(x, weight[k - p * Step], acc[p]);
  }
}
// Groups of P pixels and whole vectors. R rows (0: t.rows) of W taps.
template <class S, class T, int P, int R, int W, int Step>
HWY_INLINE void depthwise_vector(const DepthwisePixels<S, T> t, int64_t c) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  V window[R ? R : 1][W];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < W; ++j) window[r][j] = hn::LoadU(d, t.w + r * t.w_row + j * t.ld + c);
  const V bias = t.bias ? load_wide(d, t.bias + c) : hn::Zero(d);
  const S* from = t.image + c;
  S* to = t.out + c;
  for (int64_t g = 0; g < t.groups; ++g, from += P * t.step, to += P * t.out_step) {
    V acc[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[p] = hn::Zero(d);
    if constexpr (R > 0) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) depthwise_taps<P, W, Step>(d, from + r * t.row_step, t.tap_step, window[r], acc);
    } else {
#pragma GCC unroll 1
      for (int64_t r = 0; r < t.rows; ++r) {
        const T* w = t.w + r * t.w_row + c;
#pragma GCC unroll 8
        for (int j = 0; j < W; ++j) window[0][j] = hn::LoadU(d, w + j * t.ld);
        depthwise_taps<P, W, Step>(d, from + r * t.row_step, t.tap_step, window[0], acc);
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) store_narrow(d, t.bias ? hn::Add(acc[p], bias) : acc[p], to + p * t.out_step);
  }
}
// Any window, and n channels.
template <class S, class T, int P>
HWY_INLINE void depthwise_any(const DepthwisePixels<S, T> t, int64_t c, int64_t n) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const S* from = t.image + c;
  S* to = t.out + c;
  for (int64_t g = 0; g < t.groups; ++g, from += P * t.step, to += P * t.out_step) {
    V acc[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[p] = hn::Zero(d);
    for (int64_t r = 0; r < t.rows; ++r)
      for (int64_t j = 0; j < t.columns; ++j) {
        const V weight = hn::LoadU(d, t.w + r * t.w_row + j * t.ld + c);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
          acc[p] = hn::MulAdd(load_channels(d, from + r * t.row_step + p * t.step + j * t.tap_step, n), weight, acc[p]);
      }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      if (t.bias) acc[p] = hn::Add(acc[p], load_channels(d, t.bias + c, n));
      store_channels(d, acc[p], to + p * t.out_step, n);
    }
  }
}
template <class S, class T, int P, int R, int W, int Step>
HWY_NOINLINE void depthwise_pixels(const DepthwisePixels<S, T>& t) {
  constexpr int64_t kN = HWY_LANES(T);
  int64_t c = 0;
  for (; c + kN <= t.channels; c += kN)
    if constexpr (W > 0)
      depthwise_vector<S, T, P, R, W, Step>(t, c);
    else
      depthwise_any<S, T, P>(t, c, kN);
  if (c < t.channels) depthwise_any<S, T, P>(t, c, t.channels - c);
}
/// For P pixels of `rows` of `columns` taps, `taps` taps apart (0: no whole number).
template <class S, class T, int P>
auto depthwise_for(int64_t rows, int64_t columns, int64_t taps) {
  if constexpr (kUnrollsWindows) {
    if (columns == 3 && rows == 3 && taps == 1) return &depthwise_pixels<S, T, P, 3, 3, 1>;
    if constexpr (std::is_same_v<S, T>) {
      if (columns == 3 && rows == 3 && taps == 2) return &depthwise_pixels<S, T, P, 3, 3, 2>;
      if (columns == 2 && taps == 1) return &depthwise_pixels<S, T, P, 0, 2, 1>;
      if (columns == 3 && taps == 1) return &depthwise_pixels<S, T, P, 0, 3, 1>;
      if (columns == 3 && taps == 2) return &depthwise_pixels<S, T, P, 0, 3, 2>;
      if (columns == 5 && taps == 1) return &depthwise_pixels<S, T, P, 0, 5, 1>;
      if (columns == 5 && taps == 2) return &depthwise_pixels<S, T, P, 0, 5, 2>;
      if (columns == 7 && taps == 1) return &depthwise_pixels<S, T, P, 0, 7, 1>;
    }
  }
  return &depthwise_pixels<S, T, P, 0, 0, 1>;
}
/// For one pixel.
template <class S, class T>
auto depthwise_single(int64_t columns) {
  if constexpr (kUnrollsWindows && std::is_same_v<S, T>) {
    if (columns == 2) return &depthwise_pixels<S, T, 1, 0, 2, 1>;
    if (columns == 3) return &depthwise_pixels<S, T, 1, 0, 3, 1>;
  }
  return &depthwise_pixels<S, T, 1, 0, 0, 1>;
}

/// Bytes of the rows under a window that are to stay in L1 until the next rows of outputs want them: pixels are taken in strips.
inline constexpr int64_t kDepthwiseStrip = 16 << 10;

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
  const int64_t apart = between > 0 && g.isx % between == 0 ? g.isx / between : 0;
  const int64_t left = std::clamp<int64_t>((g.isx - 1 - g.dx0) / g.isx, 0, g.columns);  // pixels with taps before the image
  const int64_t inside = std::max(left, std::min(g.columns, g.w - 1 - g.dx1 < 0 ? 0 : (g.w - 1 - g.dx1) / g.isx + 1));
  const int64_t strip = std::max<int64_t>(1, kDepthwiseStrip / (tap_rows * g.isx * g.c * int64_t(sizeof(S))) / kPixels) * kPixels;
  const bool far = g.n * (g.h * g.w * g.c + g.oh * g.ow * g.o) * int64_t(sizeof(S)) > 8 * l2_bytes();
  const auto fetch = [](const void* p, int64_t elements, auto write) HWY_ATTR {
    for (int64_t i = 0; i < elements * int64_t(sizeof(S)); i += 64)
      __builtin_prefetch(static_cast<const char*>(p) + i, decltype(write)::value, 3);
  };
  StatSlot::Part part;
  // Pixels [x, x1) of one row. What the next row wants is fetched in the order of memory, which vectors of channels do not keep.
  const auto run = [&](int64_t r, int64_t x, int64_t x1) HWY_ATTR {
    const int64_t image = r / g.rows, y = r % g.rows, begin = x;
    const S* from = static_cast<const S*>(g.src) + image * g.h * g.w * g.c;
    S* to = static_cast<S*>(g.dst) + ((image * g.oh + y * g.osy + g.oy0) * g.ow + g.ox0) * g.o;
    int64_t i0 = 0, i1 = tap_rows;
    while (i0 < i1 && y * g.isy + dy(i0) < 0) ++i0;
    while (i0 < i1 && y * g.isy + dy(i1 - 1) >= g.h) --i1;
    t.rows = i1 - i0;
    const int64_t row = i0 < i1 ? (y * g.isy + dy(i0)) * g.w : 0;
    if (far && y + 1 < g.rows) {
      const int64_t first = std::max<int64_t>(0, x * g.isx + g.dx0), last = std::min(g.w, (x1 - 1) * g.isx + g.dx1 + 1),
                    below = y * g.isy + dy(tap_rows - 1) + 1;
      for (int64_t next = std::max<int64_t>(0, below); next < std::min(g.h, below + g.isy); ++next)
        fetch(from + (next * g.w + first) * g.c, (last - first) * g.c, std::false_type());
      if (g.osx == 1) fetch(to + (g.osy * g.ow + x) * g.o, (x1 - x) * g.o, std::true_type());
    }
    while (x < x1) {
      const int64_t sx = x * g.isx + g.dx0, whole = x < left ? 0 : (std::min(x1, inside) - x) / kPixels;
      t.out = to + x * t.out_step, t.groups = std::max<int64_t>(whole, 1);
      int64_t j0 = 0, j1 = columns;  // of the taps that lie inside
      while (j0 < j1 && sx + j0 * between < 0) ++j0;
      while (j0 < j1 && sx + (j1 - 1) * between >= g.w) --j1;
      t.image = from + (j0 < j1 ? (row + sx + j0 * between) * g.c : 0);
      t.w = static_cast<const T*>(weights) + i0 * t.w_row + j0 * t.ld, t.columns = j1 - j0;
      if (whole > 0)
        depthwise_for<S, T, kPixels>(t.rows, columns, apart)(t), x += whole * kPixels;
      else
        depthwise_single<S, T>(t.columns)(t), ++x;
    }
    if (!g.slot) return;
    if (g.osx == 1)
      stat_block(type, to + begin * g.o, (x1 - begin) * g.o, part);
    else
      for (x = begin; x < x1; ++x) stat_block(type, to + x * g.osx * g.o, g.o, part);
  };
  for (int64_t first = row0; first < row1;) {  // the rows of one image
    const int64_t last = std::min(row1, (first / g.rows + 1) * g.rows);
    for (int64_t x = 0, end; x < g.columns; x = end) {
      end = std::min(g.columns, x + strip + (x == 0 ? left : 0));
      for (int64_t r = first; r < last; ++r) run(r, x, end);
    }
    first = last;
  }
  if (g.slot) g.slot->merge(part);
}

/// The weight gradient of one image: sums over outputs [y0, y1) of R rows of taps from `i0` on and W columns from `j0` on.
template <class S, class T>
struct DepthwiseSums {
  const ConvShape* s;
  const S *x, *g;
  int64_t y0, y1, i0, j0;
  T* sums;     // of the first tap
  int64_t ld;  // from tap to tap
};
// Outputs [x0, x1) of one row of them, whose taps all lie inside where Inside, and are looked at one by one where not. Outputs lie Step
// taps apart, or, where Step is 0, as the shape says.
template <class S, class T, int R, int W, int Step, int P, bool Inside, bool Full, class V>
HWY_INLINE void depthwise_sums_row(const DepthwiseSums<S, T>& t, int64_t y, int64_t x0, int64_t x1, int64_t c, int64_t n, V (&acc)[R][W]) {
  const hn::ScalableTag<T> d;
  const ConvShape& s = *t.s;
  if constexpr (Full) n = int64_t(hn::MaxLanes(d));
  const int64_t tap = s.dw * s.c;
  for (int64_t ox = x0; ox + P <= x1; ox += P) {
    const S* gp = t.g + (y * s.ow + ox) * s.c + c;
    V g[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) g[p] = load_channels(d, gp + p * s.c, n);
    const int64_t sx = ox * s.sw - s.pw + t.j0 * s.dw;
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int64_t sy = y * s.sh - s.ph + (t.i0 + r) * s.dh;
      if (sy < 0 || sy >= s.h) continue;
      const S* from = t.x + (sy * s.w + sx) * s.c + c;
      if constexpr (Inside && Step > 0) {
#pragma GCC unroll 16
        for (int k = 0; k < (P - 1) * Step + W; ++k) {
          const V x = load_channels(d, from + k * tap, n);
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p)
            if (k >= p * Step && k < p * Step + W) acc[r][k - p * Step] = hn::MulAdd(x, g[p], acc[r][k - p * Step]);
        }
      } else {
#pragma GCC unroll 8
        for (int j = 0; j < W; ++j)
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p)
            if (Inside || (sx + j * s.dw >= 0 && sx + j * s.dw < s.w))
              acc[r][j] = hn::MulAdd(load_channels(d, from + p * s.sw * s.c + j * tap, n), g[p], acc[r][j]);
      }
    }
  }
}
template <class S, class T, int R, int W, int Step, bool Full>
HWY_INLINE void depthwise_sums_vector(const DepthwiseSums<S, T>& t, int64_t c, int64_t n) {
  constexpr int P = 4;
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const ConvShape& s = *t.s;
  // outputs whose taps all lie inside
  const int64_t left = s.pw - t.j0 * s.dw, right = s.w - 1 + s.pw - (t.j0 + W - 1) * s.dw,
                a0 = std::clamp<int64_t>((left + s.sw - 1) / s.sw, 0, s.ow),
                a1 = right < 0 ? a0 : std::clamp<int64_t>(right / s.sw + 1, a0, s.ow), a2 = a0 + (a1 - a0) / P * P;
  V acc[R][W];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < W; ++j) acc[r][j] = hn::Zero(d);
  for (int64_t y = t.y0; y < t.y1; ++y) {
    depthwise_sums_row<S, T, R, W, Step, 1, false, Full>(t, y, 0, a0, c, n, acc);
    depthwise_sums_row<S, T, R, W, Step, P, true, Full>(t, y, a0, a2, c, n, acc);
    depthwise_sums_row<S, T, R, W, Step, 1, false, Full>(t, y, a2, s.ow, c, n, acc);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < W; ++j) {
      T* to = t.sums + (r * s.kw + j) * t.ld + c;
      hn::StoreU(hn::Add(hn::LoadU(d, to), acc[r][j]), d, to);
    }
}
template <class S, class T, int R, int W, int Step>
HWY_NOINLINE void depthwise_sums(const DepthwiseSums<S, T>& t, int64_t c0, int64_t c1) {
  constexpr int64_t kN = HWY_LANES(T);
  int64_t c = c0;
  for (; c + kN <= c1; c += kN) depthwise_sums_vector<S, T, R, W, Step, true>(t, c, kN);
  if (c < c1) depthwise_sums_vector<S, T, R, W, Step, false>(t, c, c1 - c);
}

// Channels [c0, c1), whole vectors but for the last. `sums` is [tap][channels padded to whole vectors].
template <class S, class T>
void run_depthwise_weight(const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  constexpr int64_t kN = HWY_LANES(T), kOutputs = 64;  // of a chain at least
  const hn::ScalableTag<T> d;
  auto run = &depthwise_sums<S, T, 1, 1, 0>;
  int64_t r = 1, w = 1;
  if constexpr (kUnrollsWindows) {
    const int64_t apart = s.sw % s.dw == 0 ? s.sw / s.dw : 0;
    if (s.kw == 3 && s.kh == 3 && apart == 1) run = &depthwise_sums<S, T, 3, 3, 1>, r = w = 3;
    if constexpr (std::is_same_v<S, T>) {
      if (s.kw == 3 && s.kh == 3 && apart == 2) run = &depthwise_sums<S, T, 3, 3, 2>, r = w = 3;
      if (s.kw == 5 && apart == 1) run = &depthwise_sums<S, T, 1, 5, 1>, w = 5;
      if (s.kw == 5 && apart == 2) run = &depthwise_sums<S, T, 1, 5, 2>, w = 5;
      if (s.kw == 7 && apart == 1) run = &depthwise_sums<S, T, 1, 7, 1>, w = 7;
    }
  }
  const int64_t ld = round_up(s.c, kN), rows = (kOutputs + s.ow - 1) / std::max<int64_t>(s.ow, 1);
  for (int64_t i = 0; i < s.kh * s.kw; ++i)
    for (int64_t c = c0; c < c1; c += kN) hn::StoreU(hn::Zero(d), d, static_cast<T*>(sums) + i * ld + c);
  DepthwiseSums<S, T> t{.s = &s, .x = nullptr, .g = nullptr, .y0 = 0, .y1 = 0, .i0 = 0, .j0 = 0, .sums = nullptr, .ld = ld};
  for (int64_t image = 0; image < s.n; ++image) {
    t.x = static_cast<const S*>(x) + image * s.h * s.w * s.c, t.g = static_cast<const S*>(g) + image * s.oh * s.ow * s.c;
    for (t.y0 = 0; t.y0 < s.oh; t.y0 = t.y1) {
      t.y1 = std::min(s.oh, t.y0 + rows);
      for (t.i0 = 0; t.i0 < s.kh; t.i0 += r)
        for (t.j0 = 0; t.j0 < s.kw; t.j0 += w) t.sums = static_cast<T*>(sums) + (t.i0 * s.kw + t.j0) * ld, run(t, c0, c1);
    }
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
