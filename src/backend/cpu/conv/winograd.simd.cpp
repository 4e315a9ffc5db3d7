// The transformations of F(2 x 2, 3 x 3), channels in the lanes (of weights: outputs of the product). With
//   B^T = |1  0 -1  0|   G = | 1   0   0 |   A^T = |1 1  1  0|
//         |0  1  1  0|       |1/2 1/2 1/2|         |0 1 -1 -1|
//         |0 -1  1  0|       |1/2-1/2 1/2|
//         |0  1  0 -1|       | 0   0   1 |
// a 2 x 2 tile of results is A^T ((G w G^T) * (B^T d B)) A, summed over channels between the transformations.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv/winograd.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include <algorithm>

#include "backend/cpu/conv/window-inl.h"
#include "backend/cpu/conv/winograd.h"
#include "backend/cpu/loops/each-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {
using D = Tag<float>;
using V = Vec<D>;
constexpr int64_t kN = HWY_LANES(float);
alignas(64) constexpr float kZeros[kWinogradMost] = {};

// out[stride i] = row i of A^T, of B^T and so on, applied to a column of values.
HWY_INLINE void to_source(V d0, V d1, V d2, V d3, V* out, int stride) {
  out[0] = hn::Sub(d0, d2), out[stride] = hn::Add(d1, d2), out[2 * stride] = hn::Sub(d2, d1), out[3 * stride] = hn::Sub(d1, d3);
}
HWY_INLINE void to_weight(V w0, V w1, V w2, V* out, int stride) {
  const V half = hn::Set(D(), 0.5f), outer = hn::Mul(half, hn::Add(w0, w2)), inner = hn::Mul(half, w1);
  out[0] = w0, out[stride] = hn::Add(outer, inner), out[2 * stride] = hn::Sub(outer, inner), out[3 * stride] = w2;
}
HWY_INLINE void to_cotangent(V g0, V g1, V* out, int stride) {
  out[0] = g0, out[stride] = hn::Add(g0, g1), out[2 * stride] = hn::Sub(g0, g1), out[3 * stride] = hn::Neg(g1);
}
HWY_INLINE void to_result(V m0, V m1, V m2, V m3, V* out, int stride) {
  out[0] = hn::Add(m0, hn::Add(m1, m2)), out[stride] = hn::Sub(hn::Sub(m1, m2), m3);
}
HWY_INLINE void to_gradient(V s0, V s1, V s2, V s3, V* out, int stride) {
  const V half = hn::Set(D(), 0.5f), sum = hn::Mul(half, hn::Add(s1, s2));
  out[0] = hn::Add(s0, sum), out[stride] = hn::Mul(half, hn::Sub(s1, s2)), out[2 * stride] = hn::Add(sum, s3);
}

void weights(const float* w, int64_t lanes, int64_t lane_stride, int64_t k, int64_t k_stride, bool turned, int64_t panel, int64_t panel0,
             int64_t panel1, float* planes, int64_t plane) {
  const D d;
  const int64_t groups = panel / kN, end = std::min(panel1 * groups, (lanes + kN - 1) / kN);
  const auto transform = [&](int64_t group, int64_t c, const float* rows) HWY_ATTR {
    V t[12], u[16];
    const float* from = rows + (turned ? 8 * kN : 0);
    const int64_t column = turned ? -kN : kN, row = 3 * column;
    KEEL_UNROLL
    for (int j = 0; j < 3; ++j, from += column)
      to_weight(hn::Load(d, from), hn::Load(d, from + row), hn::Load(d, from + 2 * row), t + j, 3);
    KEEL_UNROLL
    for (int r = 0; r < 4; ++r) to_weight(t[3 * r], t[3 * r + 1], t[3 * r + 2], u + 4 * r, 1);
    float* to = planes + group / groups * panel * k + c * panel + group % groups * kN;
    KEEL_UNROLL
    for (int x = 0; x < 16; ++x) hn::StoreU(u[x], d, to + x * plane);
  };
  each_window<float, kN>(w, lanes, lane_stride, k, k_stride, panel0 * groups, end, transform);
}

// Calls f(index among these, image, row, column) for each tile.
template <class F>
HWY_INLINE void each_tile(const WinogradTiles& t, F f) {
  for (int64_t i = t.tile0; i < t.tile1; ++i) f(i - t.tile0, i / (t.rows * t.columns), i / t.columns % t.rows, i % t.columns);
}

void source(const WinogradTiles& t, const float* images, float* planes, int64_t plane) {
  each_tile(t, [&](int64_t at, int64_t image, int64_t row, int64_t column) HWY_ATTR {
    const float* p[16];
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 4; ++j) {
        const int64_t y = 2 * row - t.py + i, x = 2 * column - t.px + j;
        p[4 * i + j] = y >= 0 && y < t.h && x >= 0 && x < t.w ? images + ((image * t.h + y) * t.w + x) * t.c : kZeros;
      }
    float* to = planes + at * t.c;
    each<float>(t.c, [&](int64_t i, auto load, auto store) HWY_ATTR {
      V m[16], v[16];
      KEEL_UNROLL
      for (int j = 0; j < 4; ++j) to_source(load(p[j] + i), load(p[4 + j] + i), load(p[8 + j] + i), load(p[12 + j] + i), m + j, 4);
      KEEL_UNROLL
      for (int r = 0; r < 4; ++r) to_source(m[4 * r], m[4 * r + 1], m[4 * r + 2], m[4 * r + 3], v + 4 * r, 1);
      KEEL_UNROLL
      for (int x = 0; x < 16; ++x) store(v[x], to + x * plane + i);
    });
  });
}

void cotangent(const WinogradTiles& t, const float* images, float* planes, int64_t plane) {
  each_tile(t, [&](int64_t at, int64_t image, int64_t row, int64_t column) HWY_ATTR {
    const float* p[4];
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t j = 0; j < 2; ++j) {
        const int64_t y = 2 * row + i, x = 2 * column + j;
        p[2 * i + j] = y < t.h && x < t.w ? images + ((image * t.h + y) * t.w + x) * t.c : kZeros;
      }
    float* to = planes + at * t.c;
    each<float>(t.c, [&](int64_t i, auto load, auto store) HWY_ATTR {
      V m[8], v[16];
      KEEL_UNROLL
      for (int j = 0; j < 2; ++j) to_cotangent(load(p[j] + i), load(p[2 + j] + i), m + j, 2);
      KEEL_UNROLL
      for (int r = 0; r < 4; ++r) to_cotangent(m[2 * r], m[2 * r + 1], v + 4 * r, 1);
      KEEL_UNROLL
      for (int x = 0; x < 16; ++x) store(v[x], to + x * plane + i);
    });
  });
}

void result(const WinogradTiles& t, const float* planes, int64_t plane, const float* bias, float* images) {
  each_tile(t, [&](int64_t at, int64_t image, int64_t row, int64_t column) HWY_ATTR {
    const float* from = planes + at * t.c;
    const bool below = 2 * row + 1 < t.h, beside = 2 * column + 1 < t.w;
    float* to = images + ((image * t.h + 2 * row) * t.w + 2 * column) * t.c;
    each<float>(t.c, [&](int64_t i, auto load, auto store) HWY_ATTR {
      V m[8], y[4];
      KEEL_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float* q = from + j * plane + i;
        to_result(load(q), load(q + 4 * plane), load(q + 8 * plane), load(q + 12 * plane), m + j, 4);
      }
      KEEL_UNROLL
      for (int r = 0; r < 2; ++r) to_result(m[4 * r], m[4 * r + 1], m[4 * r + 2], m[4 * r + 3], y + 2 * r, 1);
      if (bias) {
        const V b = load(bias + i);
        KEEL_UNROLL
        for (int x = 0; x < 4; ++x) y[x] = hn::Add(y[x], b);
      }
      store(y[0], to + i);
      if (beside) store(y[1], to + t.c + i);
      if (below) store(y[2], to + t.w * t.c + i);
      if (below && beside) store(y[3], to + (t.w + 1) * t.c + i);
    });
  });
}

void weight_gradient(const float* planes, int64_t plane, int64_t c, int64_t o, int64_t o0, int64_t o1, float* dw) {
  const D d;
  for (int64_t ob = o0; ob < o1; ob += kN) {
    const int64_t n = std::min(kN, o1 - ob);
    for (int64_t k = 0; k < c; ++k) {
      const float* from = planes + k * o + ob;
      V m[12], w[9];
      HWY_ALIGN float taps[9 * kN];
      KEEL_UNROLL
      for (int j = 0; j < 4; ++j) {
        V s[4];
        KEEL_UNROLL
        for (int r = 0; r < 4; ++r) {
          const float* q = from + (4 * r + j) * plane;
          s[r] = n == kN ? hn::LoadU(d, q) : load_n(d, q, size_t(n));
        }
        to_gradient(s[0], s[1], s[2], s[3], m + j, 4);
      }
      KEEL_UNROLL
      for (int r = 0; r < 3; ++r) to_gradient(m[4 * r], m[4 * r + 1], m[4 * r + 2], m[4 * r + 3], w + 3 * r, 1);
      KEEL_UNROLL
      for (int x = 0; x < 9; ++x) hn::Store(w[x], d, taps + x * kN);
      for (int64_t l = 0; l < n; ++l)
        for (int64_t x = 0; x < 9; ++x) dw[((ob + l) * c + k) * 9 + x] = taps[x * kN + l];
    }
  }
}

constexpr WinogradKernels kTable{weights, source, cotangent, result, weight_gradient};
}  // namespace
const WinogradKernels& winograd_table() { return kTable; }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(winograd_table);
const WinogradKernels& winograd_kernels() { return KEEL_SIMD(winograd_table)(); }
}  // namespace keel::cpu
#endif
