// Pools over windows of images in either order of channels. A thread makes one result, in the order of the result's memory; gradients are
// gathered by the elements that get them. Maxima whose windows are not known come through sorted additions (index.cu).
#include "keel/ops/pool.h"

#include "backend/cuda/fault.cuh"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

struct Window {
  int64_t kernel[2], step[2], pad[2];
  template <class P>
  explicit Window(const P& p) {
    for (int i = 0; i < 2; ++i) kernel[i] = p.kernel[i], step[i] = p.stride[i] ? p.stride[i] : p.kernel[i], pad[i] = p.padding[i];
  }
};

/// Coordinates of a 4-d tensor's elements, in the order of its memory.
struct Images {
  int64_t extent[4], stride[4];
  bool inner, wide;  // channels innermost; more elements than 32 bits count
  explicit Images(const TensorView& v) : inner(v.dim(1) > 1 && v.stride(1) == 1), wide(v.size() > UINT32_MAX) {
    for (int i = 0; i < 4; ++i) extent[i] = v.dim(i), stride[i] = v.stride(i);
  }
  __device__ void at(int64_t i, int64_t (&to)[4]) const { wide ? split(uint64_t(i), to) : split(uint32_t(i), to); }
  template <class U>
  __device__ void split(U i, int64_t (&to)[4]) const {
    const auto rest = [&](int axis) {
      const U n = U(extent[axis]), r = i % n;
      i /= n;
      return int64_t(r);
    };
    if (inner) to[1] = rest(1);
    to[3] = rest(3), to[2] = rest(2);
    if (!inner) to[1] = rest(1);
    to[0] = int64_t(i);
  }
  __device__ int64_t offset(int64_t a, int64_t b, int64_t c, int64_t d) const {
    return a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3];
  }
};

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

/// With `index` an element gets g of the windows that point at it, else its share of all that cover it.
template <class T>
__global__ void __launch_bounds__(kThreads)
    pool_gradient(int64_t n, Window w, Images from, Images to, const T* g, const int32_t* index, Images places, T* dx) {
  using C = Compute<T>;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t at[4];
  to.at(i, at);
  // Windows r with r step - pad <= row < r step - pad + kernel.
  int64_t low[2], high[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int64_t p = at[2 + k] + w.pad[k];
    low[k] = p < w.kernel[k] ? 0 : (p - w.kernel[k]) / w.step[k] + 1;
    high[k] = p / w.step[k] + 1 < from.extent[2 + k] ? p / w.step[k] + 1 : from.extent[2 + k];
  }
  C sum = 0;
  const int64_t here = at[2] * to.extent[3] + at[3];
  for (int64_t r = low[0]; r < high[0]; ++r)
    for (int64_t c = low[1]; c < high[1]; ++c)
      if (!index || index[places.offset(at[0], at[1], r, c)] == here) sum += widen(g[from.offset(at[0], at[1], r, c)]);
  dx[to.offset(at[0], at[1], at[2], at[3])] = narrow<T>(index ? sum : sum / C(w.kernel[0] * w.kernel[1]));
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

unsigned blocks_for(int64_t n) { return unsigned(ceil_div(n, kThreads)); }

template <class Types, bool maximum>
KernelStatus pool(const KernelArgs& a) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const int64_t n = y.size();
  if (n == 0) return {};
  use(a.device);
  const bool indexed = maximum && a.n_out > 1 && a.out[1].present();
  Types::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    pool_kernel<T, maximum><<<blocks_for(n), kThreads, 0, stream(a)>>>(n, Window(a.get<Pool2dParams>()), Images(x), Images(y), x.ptr<T>(),
                                                                       y.ptr<T>(), indexed ? a.out[1].ptr<int32_t>() : nullptr,
                                                                       Images(indexed ? a.out[1] : y));
  });
  return launched();
}

KernelStatus gradient(const KernelArgs& a, const Window& w, const TensorView* index) {
  const TensorView &g = a.in[0], &dx = a.out[0];
  const int64_t n = dx.size();
  if (n == 0) return {};
  use(a.device);
  Floats::call(g.dtype, [&](auto t) {
    using T = decltype(t);
    pool_gradient<T><<<blocks_for(n), kThreads, 0, stream(a)>>>(n, w, Images(g), Images(dx), g.ptr<T>(),
                                                                index ? index->ptr<int32_t>() : nullptr, Images(index ? *index : g), dx.ptr<T>());
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
KEEL_CUDA_KERNEL(avg_pool2d_backward) {
  k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) {
    return gradient(a, Window(a.get<Pool2dBackwardParams>()), nullptr);
  });
}
KEEL_CUDA_KERNEL(max_pool2d_backward__windows) {
  k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) {
    return gradient(a, Window(a.get<MaxPool2dBackwardParams>()), &a.in[1]);
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
