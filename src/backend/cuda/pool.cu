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
  bool inner, wide;  // channels innermost; more elements than 31 bits count
  explicit Images(const TensorView& v) : inner(v.dim(1) > 1 && v.stride(1) == 1), wide(v.size() > INT32_MAX) {
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
  const auto steps = [&](int64_t a, int64_t step) { return to.wide || step > INT32_MAX ? a / step : int64_t(uint32_t(a) / uint32_t(step)); };
  int64_t low[2], high[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int64_t p = at[2 + k] + w.pad[k], end = steps(p, w.step[k]) + 1;
    low[k] = p < w.kernel[k] ? 0 : steps(p - w.kernel[k], w.step[k]) + 1;
    high[k] = end < from.extent[2 + k] ? end : from.extent[2 + k];
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

// ---- channels innermost: a thread makes as many channels of a place as 16 bytes hold ----
template <class T>
inline constexpr int kWide = 16 / int(sizeof(T));
template <class T>
using Channels = Pack<T, kWide<T>>;
template <class T>
struct alignas(16) Marks {
  int32_t v[kWide<T>];
};
/// Extents of images in rows of channels; a step counts vectors.
struct Rows {
  uint32_t n, h, w, packs;
  explicit Rows(const TensorView& v, int wide) : n(uint32_t(v.dim(0))), h(uint32_t(v.dim(2))), w(uint32_t(v.dim(3))), packs(uint32_t(v.dim(1) / wide)) {}
  __device__ int64_t at(uint32_t image, uint32_t r, uint32_t c, uint32_t pack) const { return ((int64_t(image) * h + r) * w + c) * packs + pack; }
  __device__ void split(uint32_t i, uint32_t& image, uint32_t& r, uint32_t& c, uint32_t& pack) const {
    pack = i % packs, i /= packs;
    c = i % w, i /= w;
    r = i % h, image = i / h;
  }
  int64_t size() const { return int64_t(n) * h * w * packs; }
};
struct SmallWindow {
  int kernel[2], step[2], pad[2];
  explicit SmallWindow(const Window& w) {
    for (int i = 0; i < 2; ++i) kernel[i] = int(w.kernel[i]), step[i] = int(w.step[i]), pad[i] = int(w.pad[i]);
  }
};
bool in_rows(const TensorView& v, int wide) {
  const int64_t c = v.dim(1), stride[4] = {c * v.dim(2) * v.dim(3), 1, c * v.dim(3), c};
  if (c % wide || v.size() / wide > INT32_MAX || reinterpret_cast<uintptr_t>(v.data) % 16) return false;
  for (int i = 0; i < 4; ++i)
    if (v.dim(i) != 1 && v.stride(i) != stride[i]) return false;
  return true;
}

template <class T, bool maximum>
__global__ void __launch_bounds__(kThreads)
    pool_rows(uint32_t n, SmallWindow w, Rows in, Rows out, const Channels<T>* x, Channels<T>* y, Marks<T>* index) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= n) return;
  uint32_t image, row, column, pack;
  out.split(i, image, row, column, pack);
  const int top = int(row) * w.step[0] - w.pad[0], left = int(column) * w.step[1] - w.pad[1];
  float best[kWide<T>] = {};
  int32_t place[kWide<T>];
#pragma unroll
  for (int k = 0; k < kWide<T>; ++k) place[k] = -1;
  for (int r = top < 0 ? 0 : top; r < top + w.kernel[0] && r < int(in.h); ++r)
    for (int c = left < 0 ? 0 : left; c < left + w.kernel[1] && c < int(in.w); ++c) {
      const Channels<T> from = x[in.at(image, uint32_t(r), uint32_t(c), pack)];
      const int32_t here = r * int(in.w) + c;
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
  for (int k = 0; k < kWide<T>; ++k) to.v[k] = narrow<T>(maximum ? best[k] : best[k] / float(w.kernel[0] * w.kernel[1])), marks.v[k] = place[k];
  y[i] = to;
  if (index) index[i] = marks;
}
/// As pool_gradient.
template <class T>
__global__ void __launch_bounds__(kThreads)
    pool_rows_gradient(uint32_t n, SmallWindow w, Rows from, Rows to, const Channels<T>* g, const Marks<T>* index, Channels<T>* dx) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= n) return;
  uint32_t image, row, column, pack;
  to.split(i, image, row, column, pack);
  const int32_t here = int32_t(row * to.w + column);
  const int extent[2] = {int(from.h), int(from.w)}, place[2] = {int(row), int(column)};
  int low[2], high[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int p = place[k] + w.pad[k];
    low[k] = p < w.kernel[k] ? 0 : (p - w.kernel[k]) / w.step[k] + 1;
    high[k] = p / w.step[k] + 1 < extent[k] ? p / w.step[k] + 1 : extent[k];
  }
  float sum[kWide<T>] = {};
  for (int r = low[0]; r < high[0]; ++r)
    for (int c = low[1]; c < high[1]; ++c) {
      const int64_t at = from.at(image, uint32_t(r), uint32_t(c), pack);
      const Channels<T> v = g[at];
      if (index) {
        const Marks<T> m = index[at];
#pragma unroll
        for (int k = 0; k < kWide<T>; ++k)
          if (m.v[k] == here) sum[k] += float(widen(v.v[k]));
      } else {
#pragma unroll
        for (int k = 0; k < kWide<T>; ++k) sum[k] += float(widen(v.v[k]));
      }
    }
  Channels<T> out;
#pragma unroll
  for (int k = 0; k < kWide<T>; ++k) out.v[k] = narrow<T>(index ? sum[k] : sum[k] / float(w.kernel[0] * w.kernel[1]));
  dx[i] = out;
}
/// Calls f(T()) where all of `v` are rows of channels of a type that these kernels take; false elsewhere.
template <class F>
bool by_rows(std::initializer_list<const TensorView*> v, DType t, F&& f) {
  bool fits = true;
  return TypeList<float, half, bfloat>::call(t, [&](auto type) {
    for (const TensorView* x : v) fits &= in_rows(*x, kWide<decltype(type)>);
    if (fits) f(type);
  }) && fits;
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
    pool_rows<T, maximum><<<blocks_for(out.size()), kThreads, 0, stream(a)>>>(
        uint32_t(out.size()), SmallWindow(window), in, out, x.ptr<Channels<T>>(), y.ptr<Channels<T>>(), indexed ? a.out[1].ptr<Marks<T>>() : nullptr);
  });
  if (done) return launched();
  Types::call(x.dtype, [&](auto t) {
    using T = decltype(t);
    pool_kernel<T, maximum><<<blocks_for(n), kThreads, 0, stream(a)>>>(n, window, Images(x), Images(y), x.ptr<T>(),
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
  const bool done = by_rows({&g, &dx, index ? index : &g}, g.dtype, [&](auto t) {
    using T = decltype(t);
    const Rows from(g, kWide<T>), to(dx, kWide<T>);
    pool_rows_gradient<T><<<blocks_for(to.size()), kThreads, 0, stream(a)>>>(
        uint32_t(to.size()), SmallWindow(w), from, to, g.ptr<Channels<T>>(), index ? index->ptr<Marks<T>>() : nullptr, dx.ptr<Channels<T>>());
  });
  if (done) return launched();
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
