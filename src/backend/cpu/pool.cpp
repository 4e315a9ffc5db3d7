// Pools of channels-last images: channels are innermost, so every loop over them vectorises. One output row a task forwards; backwards one image a task, in the order of the outputs, so sums do not depend
// on threads. Traffic: each input element is read once a window that covers it, mostly from cache.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "backend/kernel.h"
#include "keel/ops/pool.h"
#include "keel/ops/view.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

template <class T>
bool beats(T v, T best) {
  if constexpr (std::is_floating_point_v<T>) return v > best || (v != v && best == best);
  else return v > best;
}

template <class T>
void max_pool(const KernelArgs& a) {
  const auto& p = a.get<Pool2dParams>();
  const TensorView &x = a.in[0], &y = a.out[0];
  const int64_t c = x.dim(1), h = x.dim(2), w = x.dim(3), oh = y.dim(2), ow = y.dim(3);
  const int64_t sh = p.stride[0] ? p.stride[0] : p.kernel[0], sw = p.stride[1] ? p.stride[1] : p.kernel[1];
  int32_t* indices = a.n_out > 1 && a.out[1].present() ? a.out[1].ptr<int32_t>() : nullptr;
  parallel_for(0, y.dim(0) * oh, 1 + 4096 / (ow * c + 1), [&](int64_t lo, int64_t hi) {
    for (int64_t r = lo; r < hi; ++r) {
      const T* image = x.ptr<T>() + r / oh * h * w * c;
      for (int64_t ox = 0; ox < ow; ++ox) {
        T* out = y.ptr<T>() + (r * ow + ox) * c;
        int32_t* at = indices ? indices + (r * ow + ox) * c : nullptr;
        bool first = true;
        for (int64_t ky = 0; ky < p.kernel[0]; ++ky) {
          const int64_t yy = r % oh * sh - p.padding[0] + ky;
          if (yy < 0 || yy >= h) continue;
          for (int64_t kx = 0; kx < p.kernel[1]; ++kx) {
            const int64_t xx = ox * sw - p.padding[1] + kx;
            if (xx < 0 || xx >= w) continue;
            const T* in = image + (yy * w + xx) * c;
            const auto place = int32_t(yy * w + xx);
            if (first) {
              for (int64_t i = 0; i < c; ++i) out[i] = in[i];
              if (at)
                for (int64_t i = 0; i < c; ++i) at[i] = place;
            } else if (at) {
              for (int64_t i = 0; i < c; ++i) {
                const bool better = beats(in[i], out[i]);
                out[i] = better ? in[i] : out[i];
                at[i] = better ? place : at[i];
              }
            } else {
              for (int64_t i = 0; i < c; ++i) out[i] = beats(in[i], out[i]) ? in[i] : out[i];
            }
            first = false;
          }
        }
      }
    }
  });
}

template <class T>
KernelStatus max_pool_backward(const KernelArgs& a) {
  const TensorView &g = a.in[0], &dx = a.out[0];
  const int64_t c = dx.dim(1), plane = dx.dim(2) * dx.dim(3), outputs = g.dim(2) * g.dim(3);
  if (dx.size() == 0) return {};
  const int32_t* at = a.in[1].ptr<int32_t>();
  for (int64_t i = 0; i < a.in[1].size(); ++i)
    if (at[i] < 0 || at[i] >= plane) return KernelStatus::place(at[i], plane, "index");
  parallel_for(0, g.dim(0), 1, [&](int64_t lo, int64_t hi) {
    for (int64_t n = lo; n < hi; ++n) {
      T* image = dx.ptr<T>() + n * plane * c;
      std::memset(image, 0, size_t(plane * c) * sizeof(T));
      const T* from = g.ptr<T>() + n * outputs * c;
      const int32_t* place = at + n * outputs * c;
      for (int64_t o = 0; o < outputs; ++o, from += c, place += c)
        for (int64_t i = 0; i < c; ++i) image[int64_t(place[i]) * c + i] += from[i];
    }
  });
  return {};
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(max_pool2d) {
  k.dtypes(set_of(f32, f64)).inputs(Layout::channels_last).outputs(Layout::channels_last).run([](const KernelArgs& a) -> KernelStatus {
    return a.in[0].dtype == f32 ? cpu::max_pool<float>(a) : cpu::max_pool<double>(a), KernelStatus{};
  });
}
KEEL_CPU_KERNEL(max_pool2d_backward) {
  k.dtypes(set_of(f32, f64)).inputs(Layout::channels_last).outputs(Layout::channels_last).run([](const KernelArgs& a) -> KernelStatus {
    return a.in[0].dtype == f32 ? cpu::max_pool_backward<float>(a) : cpu::max_pool_backward<double>(a);
  });
}
