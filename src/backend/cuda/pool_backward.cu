// Gradients of pools, gathered by the elements that get them: with channels innermost, in planes, or in any order. An element of a maximum
// gets g of the windows that point at it; one of an average its share of all that cover it. Maxima whose windows are not known come through
// sorted additions (index.cu).
#include "backend/cuda/pool.cuh"
#include "keel/ops/pool.h"

using namespace keel;
using namespace keel::cuda;

namespace {

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
  const auto steps = [&](int64_t a, int64_t step) {
    return to.wide || step > INT32_MAX ? a / step : int64_t(uint32_t(a) / uint32_t(step));
  };
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

/// One axis of windows: those that cover place p are r with r step - pad <= p < r step - pad + kernel.
struct Windows {
  int kernel, pad, count;
  FastDivisor step;
  Windows(const Window& w, int axis, int64_t windows)
      : kernel(int(w.kernel[axis])),
        pad(int(w.pad[axis])),
        count(int(windows)),
        step(uint32_t(std::min<int64_t>(w.step[axis], INT32_MAX))) {}
  __device__ int first(int p) const { return p + pad < kernel ? 0 : int(quotient_of(uint32_t(p + pad - kernel), step)) + 1; }
  /// Whether the first one reaches over all places.
  __device__ bool covers(uint32_t places) const { return kernel - pad >= int(places); }
  __device__ int end(int p) const { return min(int(quotient_of(uint32_t(p + pad), step)) + 1, count); }
};

/// Channels innermost: a thread makes four neighbours, which share most of their windows.
template <class T, bool maximum>
__global__ void __launch_bounds__(kThreads)
    rows_gradient(uint32_t n, FastDivisor across, FastDivisor down, Windows rows, Windows columns, Rows from, Rows to, float share,
                  const Channels<T>* g, const Marks<T>* index, Channels<T>* dx) {
  constexpr int W = kWide<T>;
  uint32_t image = blockIdx.x * kThreads + threadIdx.x;
  if (image >= n) return;
  const uint32_t pack = rest_of(image, to.packs);
  const int column = 2 * int(rest_of(image, across)), row = 2 * int(rest_of(image, down));
  const int width = int(to.w.d), height = int(to.h.d), here = row * width + column;
  const int last_row = min(row + 1, height - 1), last_column = min(column + 1, width - 1);
  float sum[2][2][W] = {};
  for (int r = rows.first(row); r < rows.end(last_row); ++r)
    for (int c = columns.first(column); c < columns.end(last_column); ++c) {
      const int64_t at = from.at(image, uint32_t(r), uint32_t(c), pack);
      const Channels<T> v = g[at];
      if constexpr (maximum) {
        const Marks<T> marks = index[at];
#pragma unroll
        for (int k = 0; k < W; ++k) {
          const float value = widen(v.v[k]);
          const int off = marks.v[k] - here;
          if (off == 0) sum[0][0][k] += value;
          if (off == 1) sum[0][1][k] += value;
          if (off == width) sum[1][0][k] += value;
          if (off == width + 1) sum[1][1][k] += value;
        }
      } else {
#pragma unroll
        for (int a = 0; a < 2; ++a)
#pragma unroll
          for (int b = 0; b < 2; ++b) {
            if (r < rows.first(row + a) || r >= rows.end(row + a) || c < columns.first(column + b) || c >= columns.end(column + b))
              continue;
#pragma unroll
            for (int k = 0; k < W; ++k) sum[a][b][k] += float(widen(v.v[k]));
          }
      }
    }
#pragma unroll
  for (int a = 0; a < 2; ++a)
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      if (row + a >= height || column + b >= width) continue;
      Channels<T> out;
#pragma unroll
      for (int k = 0; k < W; ++k) out.v[k] = narrow<T>(maximum ? sum[a][b][k] : sum[a][b][k] / share);
      dx[to.at(image, uint32_t(row + a), uint32_t(column + b), pack)] = out;
    }
}

/// Dense planes: a thread makes the elements of 16 bytes.
struct Planes {
  FastDivisor h, w;
  uint32_t size;
  explicit Planes(const TensorView& v) : h(uint32_t(v.dim(2))), w(uint32_t(v.dim(3))), size(uint32_t(v.dim(2) * v.dim(3))) {}
};
template <class T, bool maximum>
__global__ void __launch_bounds__(kThreads) planes_gradient(uint32_t n, Windows rows, Windows columns, Planes from, Planes to,
                                                            Compute<T> share, const T* g, const int32_t* index, T* dx) {
  using C = Compute<T>;
  constexpr int V = kWide<T>;
  const uint32_t begin = (blockIdx.x * kThreads + threadIdx.x) * V;
  if (begin >= n) return;
  uint32_t plane = begin;
  int column = int(rest_of(plane, to.w)), row = int(rest_of(plane, to.h));
  Pack<T, V> out;
  if (!maximum && from.size == 1 && rows.covers(to.h.d) && columns.covers(to.w.d)) {  // one number a plane
    uint32_t left = to.size - row * to.w.d - column;
    T value = narrow<T>(widen(g[plane]) / share);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      out.v[k] = value;
      if (--left == 0 && begin + k + 1 < n) left = to.size, value = narrow<T>(widen(g[++plane]) / share);
    }
  } else {
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const int64_t at = int64_t(plane) * from.size;
      const int end = begin + k < n ? rows.end(row) : 0, stop = columns.end(column), here = row * int(to.w.d) + column;
      C sum = 0;
      for (int r = rows.first(row); r < end; ++r)
        for (int c = columns.first(column); c < stop; ++c) {
          const int64_t i = at + r * int(from.w.d) + c;
          if (!maximum || index[i] == here) sum += widen(g[i]);
        }
      out.v[k] = narrow<T>(maximum ? sum : sum / share);
      if (++column == int(to.w.d)) {
        column = 0;
        if (++row == int(to.h.d)) row = 0, ++plane;
      }
    }
  }
  if (begin + V <= n) {
    *reinterpret_cast<Pack<T, V>*>(dx + begin) = out;
  } else {
#pragma unroll
    for (int k = 0; k < V; ++k)
      if (begin + k < n) dx[begin + k] = out.v[k];
  }
}
bool in_planes(const TensorView& v) {
  return v.size() <= INT32_MAX - 64 && lies_in(v, {v.dim(1) * v.dim(2) * v.dim(3), v.dim(2) * v.dim(3), v.dim(3), 1});
}

/// Whether 32 bits count the places of padded images.
bool counts_in_32_bits(const Window& w, const TensorView& dx) {
  return std::max(w.kernel[0], w.kernel[1]) + std::max(w.pad[0], w.pad[1]) + std::max(dx.dim(2), dx.dim(3)) < INT32_MAX;
}

template <bool maximum>
KernelStatus gradient(const KernelArgs& a, const Window& w, const TensorView* index) {
  const TensorView &g = a.in[0], &dx = a.out[0];
  const int64_t n = dx.size();
  if (n == 0) return {};
  use(a.device);
  const Windows rows(w, 0, g.dim(2)), columns(w, 1, g.dim(3));
  const int64_t share = w.kernel[0] * w.kernel[1];
  const TensorView& marks = maximum ? *index : g;
  const bool small = counts_in_32_bits(w, dx);
  if (small && by_rows({&g, &dx, &marks}, g.dtype, [&](auto t) {
        using T = decltype(t);
        const Rows from(g, kWide<T>), to(dx, kWide<T>);
        const FastDivisor across(uint32_t(ceil_div(dx.dim(3), 2))), down(uint32_t(ceil_div(dx.dim(2), 2)));
        const int64_t tiles = int64_t(to.n) * down.d * across.d * to.packs.d;
        rows_gradient<T, maximum><<<blocks_for(tiles), kThreads, 0, stream(a)>>>(
            uint32_t(tiles), across, down, rows, columns, from, to, float(share), g.ptr<Channels<T>>(),
            maximum ? index->ptr<Marks<T>>() : nullptr, dx.ptr<Channels<T>>());
      }))
    return launched();
  const int32_t* const places = maximum ? index->ptr<int32_t>() : nullptr;
  Floats::call(g.dtype, [&](auto t) {
    using T = decltype(t);
    if (small && in_planes(g) && in_planes(dx) && in_planes(marks) && reinterpret_cast<uintptr_t>(dx.data) % 16 == 0)
      planes_gradient<T, maximum><<<blocks_for(ceil_div(n, kWide<T>)), kThreads, 0, stream(a)>>>(
          uint32_t(n), rows, columns, Planes(g), Planes(dx), Compute<T>(share), g.ptr<T>(), places, dx.ptr<T>());
    else
      pool_gradient<T>
          <<<blocks_for(n), kThreads, 0, stream(a)>>>(n, w, Images(g), Images(dx), g.ptr<T>(), places, Images(marks), dx.ptr<T>());
  });
  return launched();
}

}  // namespace

KEEL_CUDA_KERNEL(avg_pool2d_backward) {
  k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) {
    return gradient<false>(a, Window(a.get<Pool2dBackwardParams>()), nullptr);
  });
}
KEEL_CUDA_KERNEL(max_pool2d_backward__windows) {
  k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs).run([](const KernelArgs& a) {
    return gradient<true>(a, Window(a.get<MaxPool2dBackwardParams>()), &a.in[1]);
  });
}
