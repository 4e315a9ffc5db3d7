// Convolution and its two gradients. Without groups the windows are laid out as rows and multiplied by cuBLASLt, images in slices that keep
// the rows within a budget; with groups, where products are small, a thread or a warp makes each result. Results have their channels
// innermost.
// Where cuDNN is found and has an engine that keeps our promises, it is given channels-last operands and a weight that was turned to match.
// Batches of small images with few channels are a matter of conv_small.cuh. Where what an image gives may not depend on how many are beside
// it, cuDNN, which chooses by that, has no part.
#include "keel/ops/conv.h"

#include "backend/cuda/conv_small.cuh"
#include "backend/cuda/cudnn.h"
#include "backend/cuda/gemm.h"

using namespace keel;
using namespace keel::cuda;

namespace {

unsigned blocks_for(int64_t n) { return unsigned(ceil_div(n, kThreads)); }

/// Rows [image, spot][tap, channel] of some images from `first` on, V channels a thread, which with V > 1 are neighbours in memory.
/// `across`: packs of channels.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    to_rows(int64_t total, FastDivisor across, FastDivisor columns, FastDivisor rows_of_taps, FastDivisor width, FastDivisor height, Conv v,
            int64_t first, const T* x, Pack<T, V>* rows) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t taps = int64_t(across.d) * columns.d * rows_of_taps.d, spot64 = i / taps;
  auto k = uint32_t(i - spot64 * taps), spot = uint32_t(spot64);
  const int64_t c = int64_t(rest_of(k, across)) * V, column = rest_of(k, columns), r = k;
  const int64_t ox = rest_of(spot, width), oy = rest_of(spot, height), image = first + spot;
  const int64_t y = oy * v.sh - v.ph + r * v.dh, z = ox * v.sw - v.pw + column * v.dw;
  Pack<T, V> out;
  if (y >= 0 && y < v.h && z >= 0 && z < v.w) {
    const T* const from = x + image * v.xs[0] + c * v.xs[1] + y * v.xs[2] + z * v.xs[3];
    if constexpr (V > 1)
      out = *reinterpret_cast<const Pack<T, V>*>(from);
    else
      out.v[0] = *from;
  } else {
#pragma unroll
    for (int j = 0; j < V; ++j) out.v[j] = narrow<T>(Compute<T>(0));
  }
  rows[i] = out;
}
/// dx of `images` images: every element gathers its taps.
template <class T>
__global__ void __launch_bounds__(kThreads) from_rows(int64_t total, Conv v, int64_t first, const Compute<T>* rows, T* dx) {
  using C = Compute<T>;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t c = i % v.c, column = i / v.c % v.w, row = i / v.c / v.w % v.h, image = i / v.c / v.w / v.h, depth = v.depth();
  C sum = 0;
  for (int64_t r = 0; r < v.kh; ++r) {
    const int64_t y = row + v.ph - r * v.dh;
    if (y < 0 || y % v.sh || y / v.sh >= v.oh) continue;
    for (int64_t k = 0; k < v.kw; ++k) {
      const int64_t z = column + v.pw - k * v.dw;
      if (z < 0 || z % v.sw || z / v.sw >= v.ow) continue;
      sum += rows[((image * v.oh + y / v.sh) * v.ow + z / v.sw) * depth + (r * v.kw + k) * v.c + c];
    }
  }
  dx[(first + image) * v.xs[0] + c * v.xs[1] + row * v.xs[2] + column * v.xs[3]] = narrow<T>(sum);
}

// ---- groups ----
template <class T>
__global__ void __launch_bounds__(kThreads) grouped_forward(int64_t total, Conv v, const T* x, const T* weight, const T* bias, T* y) {
  using C = Compute<T>;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t o = i % v.o, ox = i / v.o % v.ow, oy = i / v.o / v.ow % v.oh, n = i / v.o / v.ow / v.oh, cg = v.c / v.groups,
                c0 = o / (v.o / v.groups) * cg;
  C sum = bias ? widen(bias[o]) : C(0);
  for (int64_t c = 0; c < cg; ++c)
    for (int64_t r = 0; r < v.kh; ++r)
      for (int64_t k = 0; k < v.kw; ++k) {
        const int64_t row = oy * v.sh - v.ph + r * v.dh, column = ox * v.sw - v.pw + k * v.dw;
        if (row < 0 || row >= v.h || column < 0 || column >= v.w) continue;
        sum += widen(x[n * v.xs[0] + (c0 + c) * v.xs[1] + row * v.xs[2] + column * v.xs[3]]) *
               widen(weight[((o * cg + c) * v.kh + r) * v.kw + k]);
      }
  y[n * v.ys[0] + o * v.ys[1] + oy * v.ys[2] + ox * v.ys[3]] = narrow<T>(sum);
}
template <class T>
__global__ void __launch_bounds__(kThreads) grouped_input(int64_t total, Conv v, const T* g, const T* weight, T* dx) {
  using C = Compute<T>;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t c = i % v.c, column = i / v.c % v.w, row = i / v.c / v.w % v.h, n = i / v.c / v.w / v.h, cg = v.c / v.groups,
                og = v.o / v.groups, o0 = c / cg * og;
  C sum = 0;
  for (int64_t o = o0; o < o0 + og; ++o)
    for (int64_t r = 0; r < v.kh; ++r) {
      const int64_t y = row + v.ph - r * v.dh;
      if (y < 0 || y % v.sh || y / v.sh >= v.oh) continue;
      for (int64_t k = 0; k < v.kw; ++k) {
        const int64_t z = column + v.pw - k * v.dw;
        if (z < 0 || z % v.sw || z / v.sw >= v.ow) continue;
        sum += widen(g[n * v.ys[0] + o * v.ys[1] + y / v.sh * v.ys[2] + z / v.sw * v.ys[3]]) *
               widen(weight[((o * cg + c % cg) * v.kh + r) * v.kw + k]);
      }
    }
  dx[n * v.xs[0] + c * v.xs[1] + row * v.xs[2] + column * v.xs[3]] = narrow<T>(sum);
}
/// A block a weight.
template <class T>
__global__ void __launch_bounds__(kThreads) grouped_weight(Conv v, const T* g, const T* x, T* dw) {
  using C = Compute<T>;
  const int64_t i = blockIdx.x, cg = v.c / v.groups, k = i % v.kw, r = i / v.kw % v.kh, c = i / v.kw / v.kh % cg, o = i / v.kw / v.kh / cg,
                channel = o / (v.o / v.groups) * cg + c;
  C sum = 0;
  for (int64_t p = threadIdx.x; p < v.n * v.spots(); p += kThreads) {
    const int64_t ox = p % v.ow, oy = p / v.ow % v.oh, n = p / v.spots(), row = oy * v.sh - v.ph + r * v.dh,
                  column = ox * v.sw - v.pw + k * v.dw;
    if (row < 0 || row >= v.h || column < 0 || column >= v.w) continue;
    sum += widen(g[n * v.ys[0] + o * v.ys[1] + oy * v.ys[2] + ox * v.ys[3]]) *
           widen(x[n * v.xs[0] + channel * v.xs[1] + row * v.xs[2] + column * v.xs[3]]);
  }
  __shared__ C all[kThreads];
  all[threadIdx.x] = sum;
  for (int half = kThreads / 2; half; half /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < half) all[threadIdx.x] += all[threadIdx.x + half];
  }
  if (threadIdx.x == 0) dw[i] = narrow<T>(all[0]);
}

// ---- windows laid out as rows, their channels innermost ----
bool aligned(const TensorView& v) { return reinterpret_cast<uintptr_t>(v.data) % 16 == 0; }
bool channels_innermost(const TensorView& v) {
  const int64_t want[4] = {v.dim(1) * v.dim(2) * v.dim(3), 1, v.dim(1) * v.dim(3), v.dim(1)};
  for (int i = 0; i < 4; ++i)
    if (v.dim(i) != 1 && v.stride(i) != want[i]) return false;
  return aligned(v);
}
/// Whether a contiguous weight is not as windows are laid out: channels innermost is another order, or it begins inside a vector.
bool turns(const TensorView& w) { return (w.dim(1) > 1 && w.dim(2) * w.dim(3) > 1) || !aligned(w); }
size_t weight_bytes(const TensorView& w) { return turns(w) ? size_t(ceil_div(w.size() * int64_t(size_of(w.dtype)), 256)) * 256 : 0; }
/// weight[o][c][tap] to [o][tap][c], or back.
template <class T>
__global__ void __launch_bounds__(kThreads) turn(int64_t total, int64_t channels, int64_t taps, bool back, const T* from, T* to) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t c = i % channels, tap = i / channels % taps, o = i / channels / taps, plain = (o * channels + c) * taps + tap;
  if (back)
    to[plain] = from[i];
  else
    to[i] = from[plain];
}
void turn_weight(const KernelArgs& a, const TensorView& w, bool back, const void* from, void* to) {
  const int64_t taps = w.dim(2) * w.dim(3), n = w.size();
  const auto as = [&](auto bits) {
    using T = decltype(bits);
    turn<<<blocks_for(n), kThreads, 0, stream(a)>>>(n, w.dim(1), taps, back, static_cast<const T*>(from), static_cast<T*>(to));
  };
  size_of(w.dtype) == 2 ? as(uint16_t()) : size_of(w.dtype) == 4 ? as(uint32_t()) : as(uint64_t());
}
/// The weight as [result][tap][channel], in `space` where it has to be turned for that.
const void* turned(const KernelArgs& a, const TensorView& w, void* space) {
  if (!turns(w)) return w.data;
  turn_weight(a, w, false, w.data, space);
  return space;
}
/// Whether windows are the elements as they lie.
bool direct(const Conv& v, const TensorView& x) { return v.plain() && channels_innermost(x); }

template <class T>
void lay_out(const KernelArgs& a, const Conv& v, int64_t first, int64_t images, const TensorView& x, T* rows) {
  constexpr int V = 16 / int(sizeof(T));
  const auto go = [&]<int W>(std::integral_constant<int, W>) {
    const int64_t total = images * v.spots() * v.depth() / W;
    const auto by = [](int64_t d) { return FastDivisor(uint32_t(d)); };
    to_rows<T, W><<<blocks_for(total), kThreads, 0, stream(a)>>>(total, by(v.c / W), by(v.kw), by(v.kh), by(v.ow), by(v.oh), v, first,
                                                                 x.ptr<T>(), reinterpret_cast<Pack<T, W>*>(rows));
  };
  channels_innermost(x) && v.c % V == 0 ? go(std::integral_constant<int, V>()) : go(std::integral_constant<int, 1>());
}

template <class T>
KernelStatus forward(const KernelArgs& a) {
  const TensorView &x = a.in[0], &weight = a.in[1], &y = a.out[0];
  const Conv v(a.get<Conv2dParams>(), x, weight, y);
  const T* bias = a.n_in > 2 && a.in[2].present() ? a.in[2].ptr<T>() : nullptr;
  if (v.groups != 1 || v.depth() == 0) {
    grouped_forward<T><<<blocks_for(y.size()), kThreads, 0, stream(a)>>>(y.size(), v, x.ptr<T>(), weight.ptr<T>(), bias, y.ptr<T>());
    return launched();
  }
  const bool as_they_lie = direct(v, x);
  auto* const rows = reinterpret_cast<T*>(static_cast<std::byte*>(a.workspace) + weight_bytes(weight));
  const int64_t slice = as_they_lie ? v.n : v.slice(sizeof(T));
  Product p;
  p.dtype = y.dtype, p.invariant = a.invariant, p.tf32 = a.tf32, p.parts = v.slices_begin_anywhere(sizeof(T)), p.n = v.o, p.k = v.depth();
  p.a_row = p.k, p.a_column = 1, p.b = turned(a, weight, a.workspace), p.b_row = 1, p.b_column = p.k, p.bias = bias, p.ldc = v.o;
  for (int64_t i = 0; i < v.n; i += slice) {
    const int64_t images = std::min(slice, v.n - i);
    if (!as_they_lie) lay_out<T>(a, v, i, images, x, rows);
    p.m = images * v.spots(), p.a = as_they_lie ? x.ptr<T>() : rows, p.c = y.ptr<T>() + i * v.spots() * v.o;
    if (KernelStatus s = multiply(p, a.device, stream(a)); s.code) return s;
  }
  return launched();
}
template <class T>
KernelStatus to_input(const KernelArgs& a) {
  using C = Compute<T>;
  const TensorView &g = a.in[0], &weight = a.in[1], &dx = a.out[0];
  const Conv v(a.get<Conv2dBackwardParams>(), dx, weight, g);
  if (v.groups != 1 || v.o == 0) {
    grouped_input<T><<<blocks_for(dx.size()), kThreads, 0, stream(a)>>>(dx.size(), v, g.ptr<T>(), weight.ptr<T>(), dx.ptr<T>());
    return launched();
  }
  const bool as_they_lie = direct(v, dx);
  auto* const rows = reinterpret_cast<C*>(static_cast<std::byte*>(a.workspace) + weight_bytes(weight));  // not rounded before their sum is
  const int64_t slice = as_they_lie ? v.n : v.slice(sizeof *rows);
  Product p;
  p.dtype = g.dtype, p.invariant = a.invariant, p.tf32 = a.tf32, p.parts = v.slices_begin_anywhere(sizeof *rows), p.n = v.depth(), p.k = v.o;
  p.a_row = v.o, p.a_column = 1, p.b = turned(a, weight, a.workspace), p.b_row = p.n, p.b_column = 1, p.ldc = p.n;
  p.result = as_they_lie ? g.dtype : dtype_of<C>;
  for (int64_t i = 0; i < v.n; i += slice) {
    const int64_t images = std::min(slice, v.n - i), total = images * v.h * v.w * v.c;
    p.m = images * v.spots(), p.a = g.ptr<T>() + i * v.spots() * v.o, p.c = as_they_lie ? dx.data : rows;
    if (KernelStatus s = multiply(p, a.device, stream(a)); s.code) return s;
    if (!as_they_lie) from_rows<T><<<blocks_for(total), kThreads, 0, stream(a)>>>(total, v, i, rows, dx.ptr<T>());
  }
  return launched();
}
template <class T>
KernelStatus to_weight(const KernelArgs& a) {
  const TensorView &g = a.in[0], &x = a.in[1], &dw = a.out[0];
  const Conv v(a.get<Conv2dBackwardParams>(), x, dw, g);
  if (v.groups != 1 || v.slice(sizeof(T)) < v.n) {
    grouped_weight<T><<<unsigned(dw.size()), kThreads, 0, stream(a)>>>(v, g.ptr<T>(), x.ptr<T>(), dw.ptr<T>());
    return launched();
  }
  const bool as_they_lie = direct(v, x), turn = turns(dw);
  auto* const rows = reinterpret_cast<T*>(static_cast<std::byte*>(a.workspace) + weight_bytes(dw));
  if (!as_they_lie) lay_out<T>(a, v, 0, v.n, x, rows);
  Product p;
  p.dtype = g.dtype, p.tf32 = a.tf32, p.m = v.o, p.n = v.depth(), p.k = v.n * v.spots();
  p.a = g.data, p.a_row = 1, p.a_column = v.o, p.b = as_they_lie ? x.ptr<T>() : rows, p.b_row = p.n, p.b_column = 1;
  p.c = turn ? a.workspace : dw.data, p.ldc = p.n;
  const KernelStatus s = multiply(p, a.device, stream(a));
  if (!s.code && turn) turn_weight(a, dw, true, a.workspace, dw.data);
  return s.code ? s : launched();
}

// ---- cuDNN ----
/// The plan for a call, or null where our own kernels run it.
template <class P>
const ConvolutionPlan* plan_of(const KernelArgs& a, Convolution::Kind kind, const TensorView& x, const TensorView& w, const TensorView& y,
                               bool bias = false) {
  if (small_images::for_any_batch(a, kind)) return nullptr;
  if (x.dtype == DType::f64 || x.size() == 0 || y.size() == 0 || w.size() == 0 || (bias && !aligned(a.in[2]))) return nullptr;
  if ((kind != Convolution::to_input && !channels_innermost(x)) || (kind != Convolution::forward && !channels_innermost(y))) return nullptr;
  const auto& p = a.get<P>();
  Convolution c;
  c.kind = kind, c.dtype = x.dtype, c.groups = p.groups, c.bias = bias, c.any_order = a.any_order, c.tf32 = a.tf32;
  for (int i = 0; i < 4; ++i) c.x[i] = x.dim(i), c.w[i] = w.dim(i), c.y[i] = y.dim(i);
  for (int i = 0; i < 2; ++i) c.stride[i] = p.stride[i], c.padding[i] = p.padding[i], c.dilation[i] = p.dilation[i];
  return convolution_plan(c, a.device);
}
/// Runs a plan with the turned weight, where it has to be turned, at the begin of the workspace.
KernelStatus run_plan(const KernelArgs& a, const ConvolutionPlan& plan, Convolution::Kind kind, const TensorView& x, const TensorView& w,
                      const TensorView& y, const void* bias = nullptr) {
  use(a.device);
  auto* const space = static_cast<std::byte*>(a.workspace);
  const bool turned = turns(w), written = kind == Convolution::to_weight;
  if (turned && !written) turn_weight(a, w, false, w.data, space);
  const KernelStatus s = run(plan, x.data, turned ? space : w.data, bias, y.data, space + weight_bytes(w), a.device, stream(a));
  if (s.code) return s;
  if (turned && written) turn_weight(a, w, true, space, w.data);
  return launched();
}

template <class P, int x, int weight, int y, bool wide = false>
size_t rows_bytes(const KernelArgs& a) {
  const auto& view = [&](int i) -> const TensorView& { return i < 0 ? a.out[0] : a.in[i]; };
  const Conv v(a.get<P>(), view(x), view(weight), view(y));
  const size_t size = size_of(a.in[0].dtype), one = wide ? std::max<size_t>(size, 4) : size;
  constexpr auto kind = x < 0 ? Convolution::to_input : weight < 0 ? Convolution::to_weight : Convolution::forward;
  const bool bias = kind == Convolution::forward && a.n_in > 2 && a.in[2].present();
  if (small_images::suits(a, v, kind, size)) return small_images::workspace(v, kind, size);
  if (const auto* plan = plan_of<P>(a, kind, view(x), view(weight), view(y), bias)) return weight_bytes(view(weight)) + workspace_of(*plan);
  if (v.groups != 1) return 0;
  const size_t rows = direct(v, view(x)) ? 0 : size_t(v.slice(one) * v.spots() * v.depth()) * one;
  return weight_bytes(view(weight)) + rows;
}

}  // namespace

KEEL_CUDA_KERNEL(conv2d) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .input(0, Layout::strided)
      .output(0, Layout::channels_last)
      .workspace(rows_bytes<Conv2dParams, 0, 1, -1>)
      .run([](const KernelArgs& a) -> KernelStatus {
        KernelStatus s;
        if (a.out[0].size() == 0) return s;
        const bool bias = a.n_in > 2 && a.in[2].present();
        if (small_images::run<Conv2dParams>(a, Convolution::forward, a.in[0], a.in[1], a.out[0])) return launched();
        if (const auto* plan = plan_of<Conv2dParams>(a, Convolution::forward, a.in[0], a.in[1], a.out[0], bias))
          return run_plan(a, *plan, Convolution::forward, a.in[0], a.in[1], a.out[0], bias ? a.in[2].data : nullptr);
        use(a.device);
        Floats::call(a.in[0].dtype, [&](auto t) { s = forward<decltype(t)>(a); });
        return s;
      });
}
KEEL_CUDA_KERNEL(conv2d_backward_input) {
  k.dtypes(kinds::floating)
      .input(0, Layout::channels_last)
      .input(1, Layout::contiguous)
      .output(0, Layout::channels_last)
      .workspace(rows_bytes<Conv2dBackwardParams, -1, 1, 0, true>)
      .run([](const KernelArgs& a) -> KernelStatus {
        KernelStatus s;
        if (a.out[0].size() == 0) return s;
        if (small_images::run<Conv2dBackwardParams>(a, Convolution::to_input, a.out[0], a.in[1], a.in[0])) return launched();
        if (const auto* plan = plan_of<Conv2dBackwardParams>(a, Convolution::to_input, a.out[0], a.in[1], a.in[0]))
          return run_plan(a, *plan, Convolution::to_input, a.out[0], a.in[1], a.in[0]);
        use(a.device);
        Floats::call(a.in[0].dtype, [&](auto t) { s = to_input<decltype(t)>(a); });
        return s;
      });
}
KEEL_CUDA_KERNEL(conv2d_backward_weight) {
  k.dtypes(kinds::floating)
      .input(0, Layout::channels_last)
      .input(1, Layout::strided)
      .workspace(rows_bytes<Conv2dBackwardParams, 1, -1, 0>)
      .run([](const KernelArgs& a) -> KernelStatus {
        KernelStatus s;
        if (a.out[0].size() == 0) return s;
        use(a.device);
        if (a.in[0].size() == 0 || a.in[1].size() == 0) {
          cudaMemsetAsync(a.out[0].data, 0, size_t(a.out[0].size()) * size_of(a.out[0].dtype), stream(a));
          return launched();
        }
        if (small_images::run<Conv2dBackwardParams>(a, Convolution::to_weight, a.in[1], a.out[0], a.in[0])) return launched();
        if (const auto* plan = plan_of<Conv2dBackwardParams>(a, Convolution::to_weight, a.in[1], a.out[0], a.in[0]))
          return run_plan(a, *plan, Convolution::to_weight, a.in[1], a.out[0], a.in[0]);
        Floats::call(a.in[0].dtype, [&](auto t) { s = to_weight<decltype(t)>(a); });
        return s;
      });
}
