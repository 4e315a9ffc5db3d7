// Reading and writing of convolution weights, once a Highway target: windows of W lanes (outputs of a product) are transposed in registers
// into rows of lanes, one a tap, that stay in L1, and back.
#if defined(KEEL_CONV_WINDOW_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CONV_WINDOW_INL
#undef KEEL_CONV_WINDOW_INL
#else
#define KEEL_CONV_WINDOW_INL
#endif

#include <algorithm>

#include "backend/cpu/conv/task.h"
#include "backend/cpu/gemm/epilogue-inl.h"
#include "backend/cpu/gemm/pack-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// Channels whose windows are taken together.
inline int64_t windows_together(int64_t window) { return std::clamp<int64_t>(144 / window, 1, 16); }

// Calls f(group, channel, rows), rows[tap * W + lane], for groups [group0, group1) of W lanes and all channels. The weight of (lane,
// channel, tap) is w[lane * lane_stride + channel * k_stride + tap]; a window has min(lane_stride, k_stride) taps. Lanes beyond the last
// are zero or repeat it. Weights are read once, in the order of memory as far as L1 allows.
template <class T, int W, class S, class F>
HWY_INLINE void each_window(const S* w, int64_t lanes, int64_t lane_stride, int64_t channels, int64_t k_stride, int64_t group0,
                            int64_t group1, F f) {
  const int64_t window = std::min(lane_stride, k_stride);
  HWY_ALIGN T rows[kConvTaps * W];
  const auto take = [&](int64_t group, int64_t c0, int64_t c1) {
    const int64_t first = group * W;
    pack_panel<T, W>(w + first * lane_stride + c0 * k_stride, lane_stride, 1, std::min<int64_t>(W, lanes - first), (c1 - c0) * window,
                     rows);
    for (int64_t c = c0; c < c1; ++c) f(group, c, rows + (c - c0) * window * W);
  };
  if (k_stride == window) {  // a lane's channels are neighbours
    const int64_t step = windows_together(window);
    for (int64_t group = group0; group < group1; ++group)
      for (int64_t c = 0; c < channels; c += step) take(group, c, std::min(c + step, channels));
    return;
  }
  constexpr int64_t kTogether = 16;
  for (int64_t c0 = 0; c0 < channels; c0 += kTogether)  // a channel's lanes are
    for (int64_t group = group0; group < group1; ++group)
      for (int64_t c = c0; c < std::min(c0 + kTogether, channels); ++c) take(group, c, c + 1);
}

// to[lane * lane_stride + i] = rows[i * lanes of a vector + lane] for i < run, lane < lanes.
template <class T, class O>
HWY_INLINE void put_windows(const T* rows, int64_t run, int64_t lanes, O* to, int64_t lane_stride) {
  const hn::ScalableTag<T> d;
  constexpr int kN = HWY_LANES(T);
  HWY_ALIGN T square[kN * kN];
  for (int64_t i = 0; i < run; i += kN, to += kN) {
    const int64_t n = std::min<int64_t>(kN, run - i);
    pack_panel<T, kN>(rows + i * kN, kN, 1, n, kN, square);
    for (int64_t l = 0; l < lanes; ++l) {
      if constexpr (std::is_same_v<T, O>)
        store_some(d, hn::Load(d, square + l * kN), to + l * lane_stride, n);
      else
        for (int64_t j = 0; j < n; ++j) to[l * lane_stride + j] = O(square[l * kN + j], Overflow::nan_or_inf);
    }
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
