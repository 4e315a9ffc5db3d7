// Reading of convolution weights, once a Highway target: windows of W lanes (outputs of a product) are transposed in registers into rows of lanes, one a tap, that stay in L1.
#if defined(KEEL_CONV_WINDOW_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CONV_WINDOW_INL
#undef KEEL_CONV_WINDOW_INL
#else
#define KEEL_CONV_WINDOW_INL
#endif

#include <algorithm>

#include "backend/cpu/conv/task.h"
#include "backend/cpu/gemm/pack-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

// Calls f(group, channel, rows), rows[tap * W + lane], for groups [group0, group1) of W lanes and all channels. The weight of (lane, channel, tap) is w[lane * lane_stride + channel * k_stride + tap];
// a window has min(lane_stride, k_stride) taps. Lanes beyond the last are zero or repeat it. Weights are read once, in the order of memory as far as lines of 64 bytes and of L1 allow.
template <class T, int W, class S, class F>
HWY_INLINE void each_window(const S* w, int64_t lanes, int64_t lane_stride, int64_t channels, int64_t k_stride, int64_t group0, int64_t group1,
                            F f) {
  constexpr int64_t kTogether = 16, kRows = 144;  // channels; rows that stay in L1
  const int64_t window = std::min(lane_stride, k_stride);
  HWY_ALIGN T rows[kConvTaps * W];
  const auto take = [&](int64_t group, int64_t c0, int64_t c1) {
    const int64_t first = group * W;
    pack_panel<T, W>(w + first * lane_stride + c0 * k_stride, lane_stride, 1, std::min<int64_t>(W, lanes - first), (c1 - c0) * window, rows);
    for (int64_t c = c0; c < c1; ++c) f(group, c, rows + (c - c0) * window * W);
  };
  if (k_stride == window) {  // a lane's channels are neighbours
    const int64_t step = std::clamp<int64_t>(kRows / window, 1, kTogether);
    for (int64_t group = group0; group < group1; ++group)
      for (int64_t c = 0; c < channels; c += step) take(group, c, std::min(c + step, channels));
    return;
  }
  for (int64_t c0 = 0; c0 < channels; c0 += kTogether)  // a channel's lanes are
    for (int64_t group = group0; group < group1; ++group)
      for (int64_t c = c0; c < std::min(c0 + kTogether, channels); ++c) take(group, c, c + 1);
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
