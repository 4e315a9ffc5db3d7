// Pools over windows of images in either order of channels. A thread makes one result, in the order of the result's memory.
#include "backend/cuda/pool.cuh"

#include "backend/cuda/fault.cuh"
#include "keel/ops/pool.h"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class T, bool maximum>
__global__ void __launch_bounds__(kThreads)
    pool_kernel(int64_t n, Window w, Images in, Images out, const T* x, T* y, int32_t* index, Images places) {
  using C = std::conditional_t<std::is_integral_v<T>, T, Compute<T>>;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t at[4];
  out.at(i, at);
  const int64_t top = at[2] * w.step[0] - w.pad[0], left = at[3] * w.step[1] - w.pad[1];
  C best = 0;
  int64_t best_at = -1;
  for (int64_t r = top < 0 ? 0 : top; r < top + w.kernel[0] && r < in.extent[2]; ++r)
    for (int64_t c = left < 0 ? 0 : left; c < left + w.kernel[1] && c < in.extent[3]; ++c) {
      const C v = widen(x[in.offset(at[0], at[1], r, c)]);
      if (!maximum)
        best += v;
      else if (best_at < 0 || (best == best && (v != v || v > best)))
        best = v, best_at = r * in.extent[3] + c;
    }
  if (!maximum) best = best / C(w.kernel[0] * w.kernel[1]);
  if constexpr (std::is_integral_v<T>)
    y[out.offset(at[0], at[1], at[2], at[3])] = best;
  else
    y[out.offset(at[0], at[1], at[2], at[3])] = narrow<T>(best);
  if (index) index[places.offset(at[0], at[1], at[2], at[3])] = int32_t(best_at);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    pick_kernel(int64_t n, Images in, Images out, Images places, Reporter reporter, const T* x, const int32_t* index, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t at[4];
  out.at(i, at);
  const int64_t p = reporter.place(index[places.offset(at[0], at[1], at[2], at[3])], i);
  if (p >= 0) y[out.offset(at[0], at[1], at[2], at[3])] = x[in.offset(at[0], at[1], p / in.extent[3], p % in.extent[3])];
}

/// Channels innermost.
template <class T, bool maximum>
__global__ void __launch_bounds__(kThreads)
    pool_rows(uint32_t n, SmallWindow w, Rows in, Rows out, const Channels<T>* x, Channels<T>* y, Marks<T>* index) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= n) return;
  uint32_t image = i;
  const uint32_t pack = rest_of(image, out.packs), column = rest_of(image, out.w), row = rest_of(image, out.h);
  const int top = int(row) * w.step[0] - w.pad[0], left = int(column) * w.step[1] - w.pad[1];
  float best[kWide<T>] = {};
  int32_t place[kWide<T>];
#pragma unroll
  for (int k = 0; k < kWide<T>; ++k) place[k] = -1;
  for (int r = top < 0 ? 0 : top; r < top + w.kernel[0] && r < int(in.h.d); ++r)
    for (int c = left < 0 ? 0 : left; c < left + w.kernel[1] && c < int(in.w.d); ++c) {
      const Channels<T> from = x[in.at(image, uint32_t(r), uint32_t(c), pack)];
      const int32_t here = r * int(in.w.d) + c;
#pragma unroll
      for (int k = 0; k < kWide<T>; ++k) {
        const float v = widen(from.v[k]);
        if (!maximum)
          best[k] += v;
        else if (place[k] < 0 || (best[k] == best[k] && (v != v || v > best[k])))
          best[k] = v, place[k] = here;
      }
    }
  Channels<T> to;
  Marks<T> marks;
#pragma unroll
  for (int k = 0; k < kWide<T>; ++k)
    to.v[k] = narrow<T>(maximum ? best[k] : best[k] / float(w.kernel[0] * w.kernel[1])), marks.v[k] = place[k];
  y[i] = to;
  if (index) index[i] = marks;
}
template <class Types, bool maximum>
KernelStatus pool(const KernelArgs& a) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const int64_t n = y.size();
  if (n == 0) return {};
  use(a.device);
  const bool indexed = maximum && a.n_out > 1 && a.out[1].present();
  const Window window(a.get<Pool2dParams>());
  const bool done = by_rows({&x, &y, indexed ? &a.out[1] : &y}, x.dtype, [&](auto t) {
    using T = decltype(t);
    const Rows in(x, kWide<T>), out(y, kWide<T>);
    pool_rows<T, maximum><<<blocks_for(out.size()), kThreads, 0, stream(a)>>>(uint32_t(out.size()), SmallWindow(window), in, out,
                                                                              x.ptr<Channels<T>>(), y.ptr<Channels<T>>(),
                                                                              indexed ? a.out[1].ptr<Marks<T>>() : nullptr);
  });
  if (done) return launched();
  Types::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    pool_kernel<T, maximum><<<blocks_for(n), kThreads, 0, stream(a)>>>(n, window, Images(x), Images(y), x.ptr<T>(), y.ptr<T>(),
                                                                       indexed ? a.out[1].ptr<int32_t>() : nullptr,
                                                                       Images(indexed ? a.out[1] : y));
  });
  return launched();
}

}  // namespace

KEEL_CUDA_KERNEL(max_pool2d) {
  k.dtypes(kinds::real).inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) { return pool<Reals, true>(a); });
}
KEEL_CUDA_KERNEL(avg_pool2d) {
  k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) {
    return pool<Floats, false>(a);
  });
}
KEEL_CUDA_KERNEL(max_pool2d_pick) {
  k.late().dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &y = a.out[0];
    const int64_t n = y.size();
    if (n == 0) return {};
    use(a.device);
    const Reporter reporter(a, KernelStatus::place(0, x.dim(2) * x.dim(3), "index"));
    Floats::call(x.dtype, [&](auto t) {
      using T = decltype(t);
      pick_kernel<T><<<blocks_for(n), kThreads, 0, stream(a)>>>(n, Images(x), Images(y), Images(a.in[1]), reporter, x.ptr<T>(),
                                                                a.in[1].ptr<int32_t>(), y.ptr<T>());
    });
    return launched();
  });
}
