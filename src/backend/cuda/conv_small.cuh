#pragma once
// Convolutions of batches of small images with few channels, such as those of handwritten digits: a block an image, which keeps the image
// and the weight in shared memory and makes four results a thread. A library's plans for these sizes lay operands out anew, transform them,
// or start several kernels, and take ten times as long. Every sum runs in one fixed order.
#include "backend/cuda/cudnn.h"
#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/sum_parts.cuh"

namespace keel::cuda {

/// The sizes of one convolution and the strides of its images.
struct Conv {
  int64_t n, c, h, w;  // input
  int64_t o, oh, ow;   // output
  int64_t kh, kw;      // window
  int64_t sh, sw, ph, pw, dh, dw, groups;
  int64_t xs[4], ys[4];
  template <class P>
  Conv(const P& p, const TensorView& x, const TensorView& weight, const TensorView& y)
      : n(x.dim(0)),
        c(x.dim(1)),
        h(x.dim(2)),
        w(x.dim(3)),
        o(y.dim(1)),
        oh(y.dim(2)),
        ow(y.dim(3)),
        kh(weight.dim(2)),
        kw(weight.dim(3)),
        sh(p.stride[0]),
        sw(p.stride[1]),
        ph(p.padding[0]),
        pw(p.padding[1]),
        dh(p.dilation[0]),
        dw(p.dilation[1]),
        groups(p.groups) {
    for (int i = 0; i < 4; ++i) xs[i] = x.stride(i), ys[i] = y.stride(i);
  }
  __host__ __device__ int64_t spots() const { return oh * ow; }
  __host__ __device__ int64_t depth() const { return c / groups * kh * kw; }
  /// Images whose rows fit the budget: eight or a multiple of that, so that all slices begin at a vector, or else less than eight.
  int64_t slice(size_t bytes) const {
    const int64_t most = most_images(bytes);
    return std::min(n, most < 8 ? most : most / 8 * 8);
  }
  bool slices_begin_anywhere(size_t bytes) const { return most_images(bytes) < 8; }
  bool plain() const { return kh == 1 && kw == 1 && sh == 1 && sw == 1 && ph == 0 && pw == 0; }

 private:
  int64_t most_images(size_t bytes) const {
    const int64_t one = spots() * depth() * int64_t(bytes), budget = int64_t(1) << 30;
    return one ? std::max<int64_t>(1, budget / one) : 8;
  }
};

namespace small_images {

using Kind = Convolution::Kind;
constexpr int kQuad = 4, kMostBlocks = 128, kMostSlices = 8, kRoom = 48 << 10, kEnough = 1024;

inline int64_t quads(int64_t n) { return ceil_div(n, kQuad); }
/// Distances in shared memory are odd where neighbouring threads are that far apart, so that they meet different banks: quads between a
/// tap's weights and the next tap's, elements between a spot's results and the next spot's.
__host__ __device__ constexpr int64_t odd(int64_t n) { return n | 1; }
/// Bytes of shared memory.
inline int64_t room(const Conv& v, Kind kind, size_t size) {
  const int64_t c = int64_t(std::max<size_t>(size, sizeof(float))), image = v.c * v.h * v.w;
  if (kind == Kind::forward) return c * (image + kQuad * odd(quads(v.o)) * v.depth());
  if (kind == Kind::to_input) return c * (v.spots() * odd(v.o) + kQuad * odd(quads(v.c) * v.o) * v.kh * v.kw);
  return c * (image + v.spots() * v.o);
}
/// Whether an image must give the same however many there are. A gradient of the weight mixes them anyway.
inline bool for_any_batch(const KernelArgs& a, Kind kind) { return a.invariant && kind != Kind::to_weight; }
/// Fewer than 16 images would leave the device idle; windows of one element are plain products.
inline bool suits(const KernelArgs& a, const Conv& v, Kind kind, size_t size) {
  return v.groups == 1 && (v.n >= 16 || for_any_batch(a, kind)) && v.kh * v.kw > 1 && v.depth() > 0 && v.o > 0 && v.spots() > 0 &&
         v.h * v.w > 0 && v.spots() * v.o * v.depth() <= (int64_t(1) << 19) && room(v, kind, size) <= kRoom;
}
/// In how many bands of rows an image of results is cut, where there are too few weights for all threads.
inline int bands(const Conv& v) { return int(std::min(v.oh, ceil_div(kEnough, v.o * v.depth()))); }
/// Sums of `to_weight`, of a block's images and a band each.
inline size_t workspace(const Conv& v, Kind kind, size_t size) {
  if (kind != Kind::to_weight) return 0;
  return size_t(std::min<int64_t>(v.n, kMostBlocks) * bands(v) * v.o * v.depth()) * std::max(size, sizeof(float));
}

/// The sizes in 32 bits.
struct Sizes {
  int n, c, h, w, o, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw;
  int64_t xs[4], ys[4];
  bool x_dense, x_innermost, y_innermost;  // an image lies without gaps as [channel][row][column], or with its channels innermost
  explicit Sizes(const Conv& v)
      : n(int(v.n)), c(int(v.c)), h(int(v.h)), w(int(v.w)), o(int(v.o)), oh(int(v.oh)), ow(int(v.ow)), kh(int(v.kh)), kw(int(v.kw)),
        sh(int(v.sh)), sw(int(v.sw)), ph(int(v.ph)), pw(int(v.pw)), dh(int(v.dh)), dw(int(v.dw)) {
    for (int i = 0; i < 4; ++i) xs[i] = v.xs[i], ys[i] = v.ys[i];
    x_dense = xs[3] == 1 && xs[2] == w && xs[1] == h * w;
    x_innermost = xs[1] == 1 && xs[3] == c && xs[2] == w * c, y_innermost = ys[1] == 1 && ys[3] == o && ys[2] == ow * o;
  }
};
/// Quotients of numbers from 0 to 2^19 by the inverse of the divisor: i + 1 / 2 over d lies 1 / (2 d) at least from the next whole number.
struct Divisor {
  float inverse;
  __device__ explicit Divisor(int by) { inverse = __fdividef(1.0f, float(by)); }
  __device__ __forceinline__ int of(int i) const { return int((float(i) + 0.5f) * inverse); }
};
/// put(i, load(i)) for the numbers below `n`, shared out among the block's threads, each of which asks for eight before it puts the first.
template <class Load, class Put>
__device__ __forceinline__ void each(int n, Load load, Put put) {
  constexpr int kAtOnce = 8;
  for (int first = int(threadIdx.x); first < n; first += kAtOnce * kThreads) {
    decltype(load(0)) v[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (const int i = first + j * kThreads; i < n) v[j] = load(i);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (const int i = first + j * kThreads; i < n) put(i, v[j]);
  }
}
template <class C>
struct alignas(kQuad * sizeof(C)) Quad {
  C v[kQuad];
};
__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
template <class C>
__device__ __forceinline__ void fuse_quad(Quad<C>& sum, C a, const Quad<C>& b) {
#pragma unroll
  for (int j = 0; j < kQuad; ++j) sum.v[j] = fused(a, b.v[j], sum.v[j]);
}
template <class C>
__device__ __forceinline__ C* shared_room() {
  extern __shared__ __align__(32) unsigned char small_images_room[];
  return reinterpret_cast<C*>(small_images_room);
}
/// An image as [channel][row][column], and one of results as [row][column][channel] with `step` elements from a spot to the next.
template <class T>
__device__ __forceinline__ void load_image(const Sizes& v, int n, const T* __restrict__ x, Compute<T>* __restrict__ to) {
  const T* const from = x + n * v.xs[0];
  const int plane = v.h * v.w;
  const auto as_it_lies = [&](int i) { return from[i]; };
  const auto in_order = [&](int i, T x) { to[i] = widen(x); };
  if (v.x_dense) {
    each(v.c * plane, as_it_lies, in_order);
  } else if (v.x_innermost) {
    const Divisor channels(v.c);
    each(v.c * plane, as_it_lies, [&](int i, T x) {
      const int spot = channels.of(i);
      to[(i - spot * v.c) * plane + spot] = widen(x);
    });
  } else {
    const Divisor columns(v.w), rows(v.h);
    const auto place = [&](int i) {
      const int line = columns.of(i), c = rows.of(line);
      return from[c * v.xs[1] + (line - c * v.h) * v.xs[2] + (i - line * v.w) * v.xs[3]];
    };
    each(v.c * plane, place, in_order);
  }
}
template <class T>
__device__ __forceinline__ void load_result(const Sizes& v, int n, int step, const T* __restrict__ g, Compute<T>* __restrict__ to) {
  const T* const from = g + n * v.ys[0];
  const Divisor channels(v.o), columns(v.ow);
  const auto as_it_lies = [&](int i) { return from[i]; };
  const auto place = [&](int i) {
    const int spot = channels.of(i), row = columns.of(spot);
    return from[(i - spot * v.o) * v.ys[1] + row * v.ys[2] + (spot - row * v.ow) * v.ys[3]];
  };
  const auto spread = [&](int i, T g) { to[i + channels.of(i) * (step - v.o)] = widen(g); };
  v.y_innermost ? each(v.oh * v.ow * v.o, as_it_lies, spread) : each(v.oh * v.ow * v.o, place, spread);
}

/// `W`: rows and columns of the window, where they are known to the compiler; else 0. `inside`: no tap leaves the image.
template <class T, int W, bool inside>
__global__ void __launch_bounds__(kThreads, 3)
    forward_kernel(Sizes v, const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias, T* __restrict__ y) {
  using C = Compute<T>;
  const int kh = W ? W : v.kh, kw = W ? W : v.kw, depth = v.c * kh * kw, across = (v.o + kQuad - 1) / kQuad, step = int(odd(across));
  auto* const w = shared_room<Quad<C>>();  // [channel, tap][quad of results]
  C* const image = &w[depth * step].v[0];
  const Divisor depths(depth), quads_of(across), columns(v.ow);
  each(
      depth * across * kQuad, [&](int i) { return i < depth * v.o ? widen(weight[i]) : C(0); },
      [&](int i, C x) {
        const int out = depths.of(i), d = i - out * depth;
        w[d * step + out / kQuad].v[out % kQuad] = x;
      });
  for (int n = int(blockIdx.x); n < v.n; n += int(gridDim.x)) {
    if (n != int(blockIdx.x)) __syncthreads();
    load_image(v, n, x, image);
    __syncthreads();
    for (int i = int(blockIdx.y) * kThreads + int(threadIdx.x); i < v.oh * v.ow * across; i += int(gridDim.y) * kThreads) {
      const int spot = quads_of.of(i), q = i - spot * across, oy = columns.of(spot), ox = spot - oy * v.ow;
      Quad<C> sum;
#pragma unroll
      for (int j = 0; j < kQuad; ++j) sum.v[j] = bias && q * kQuad + j < v.o ? widen(bias[q * kQuad + j]) : C(0);
      const int left = ox * v.sw - v.pw, top = oy * v.sh - v.ph;
      for (int c = 0; c < v.c; ++c) {
        const C* const from = image + (c * v.h + top) * v.w + left;
        const Quad<C>* const by = w + c * kh * kw * step + q;
#pragma unroll
        for (int r = 0; r < kh; ++r) {
          if (!inside && unsigned(top + r * v.dh) >= unsigned(v.h)) continue;
#pragma unroll
          for (int k = 0; k < kw; ++k)
            if (inside || unsigned(left + k * v.dw) < unsigned(v.w))
              fuse_quad(sum, from[r * v.dh * v.w + k * v.dw], by[(r * kw + k) * step]);
        }
      }
      T* const to = y + n * v.ys[0] + q * kQuad * v.ys[1] + oy * v.ys[2] + ox * v.ys[3];
#pragma unroll
      for (int j = 0; j < kQuad; ++j)
        if (q * kQuad + j < v.o) to[j * v.ys[1]] = narrow<T>(sum.v[j]);
    }
  }
}
template <class T, int W>
__global__ void __launch_bounds__(kThreads, 2)
    input_kernel(Sizes v, const T* __restrict__ g, const T* __restrict__ weight, T* __restrict__ dx) {
  using C = Compute<T>;
  const int kh = W ? W : v.kh, kw = W ? W : v.kw, taps = kh * kw, across = (v.c + kQuad - 1) / kQuad, spread = int(odd(v.o)),
            step = int(odd(v.o * across));
  auto* const w = shared_room<Quad<C>>();  // [tap][result][quad of channels]
  C* const image = &w[taps * step].v[0];
  const Divisor taps_of(taps), channels(across * kQuad), quads_of(across), columns(v.w);
  const auto place = [&](int i, int& tap, int& out, int& c) {
    const int plane = taps_of.of(i);
    tap = i - plane * taps, out = channels.of(plane), c = plane - out * across * kQuad;
  };
  each(
      v.o * across * kQuad * taps,
      [&](int i) {
        int tap, out, c;
        place(i, tap, out, c);
        return c < v.c ? widen(weight[(out * v.c + c) * taps + tap]) : C(0);
      },
      [&](int i, C x) {
        int tap, out, c;
        place(i, tap, out, c);
        w[tap * step + out * across + c / kQuad].v[c % kQuad] = x;
      });
  const bool unit = v.sh == 1 && v.sw == 1;
  for (int n = int(blockIdx.x); n < v.n; n += int(gridDim.x)) {
    if (n != int(blockIdx.x)) __syncthreads();
    load_result(v, n, spread, g, image);
    __syncthreads();
    for (int i = int(blockIdx.y) * kThreads + int(threadIdx.x); i < v.h * v.w * across; i += int(gridDim.y) * kThreads) {
      const int spot = quads_of.of(i), q = i - spot * across, row = columns.of(spot), column = spot - row * v.w;
      Quad<C> sum{};
      for (int r = 0; r < kh; ++r) {
        const int high = row + v.ph - r * v.dh, y = unit ? high : high / v.sh;
        if (high < 0 || y >= v.oh || (!unit && high % v.sh)) continue;
        for (int k = 0; k < kw; ++k) {
          const int wide = column + v.pw - k * v.dw, z = unit ? wide : wide / v.sw;
          if (wide < 0 || z >= v.ow || (!unit && wide % v.sw)) continue;
          const C* const from = image + (y * v.ow + z) * spread;
          const Quad<C>* const by = w + (r * kw + k) * step + q;
#pragma unroll 8
          for (int out = 0; out < v.o; ++out) fuse_quad(sum, from[out], by[out * across]);
        }
      }
      T* const to = dx + n * v.xs[0] + q * kQuad * v.xs[1] + row * v.xs[2] + column * v.xs[3];
#pragma unroll
      for (int j = 0; j < kQuad; ++j)
        if (q * kQuad + j < v.c) to[j * v.xs[1]] = narrow<T>(sum.v[j]);
    }
  }
}
/// sums[block of images][band][weight].
template <class T, int W>
__global__ void __launch_bounds__(kThreads, 4)
    weight_kernel(Sizes v, int bands, const T* __restrict__ g, const T* __restrict__ x, Compute<T>* __restrict__ sums) {
  using C = Compute<T>;
  const int kh = W ? W : v.kh, kw = W ? W : v.kw, taps = kh * kw, depth = v.c * taps, weights = v.o * depth;
  const int rows = (v.oh + bands - 1) / bands;
  C* const image = shared_room<C>();
  C* const result = image + v.c * v.h * v.w;
  C* const to = sums + int64_t(blockIdx.x) * bands * weights;
  const Divisor weights_of(weights), depths(depth), taps_of(taps), columns(kw);
  for (int n = int(blockIdx.x); n < v.n; n += int(gridDim.x)) {
    if (n != int(blockIdx.x)) __syncthreads();
    load_image(v, n, x, image);
    load_result(v, n, v.o, g, result);
    __syncthreads();
    for (int i = int(blockIdx.y) * kThreads + int(threadIdx.x); i < bands * weights; i += int(gridDim.y) * kThreads) {
      const int band = weights_of.of(i), at = i - band * weights, out = depths.of(at), d = at - out * depth, c = taps_of.of(d),
                tap = d - c * taps, r = columns.of(tap), k = tap - r * kw;
      // Columns of results whose window has this tap inside the image.
      const int off = k * v.dw - v.pw, last = v.w - 1 - off;
      const int begin = off < 0 ? (-off + v.sw - 1) / v.sw : 0, end = last < 0 ? 0 : min(v.ow, last / v.sw + 1);
      C sum = n == int(blockIdx.x) ? C(0) : to[i];
      for (int oy = band * rows; oy < min(v.oh, (band + 1) * rows); ++oy) {
        const int row = oy * v.sh - v.ph + r * v.dh;
        if (unsigned(row) >= unsigned(v.h)) continue;
        const C* const from = image + (c * v.h + row) * v.w + off;
        const C* const by = result + oy * v.ow * v.o + out;
#pragma unroll 8
        for (int ox = begin; ox < end; ++ox) sum = fused(from[ox * v.sw], by[ox * v.o], sum);
      }
      to[i] = sum;
    }
  }
}

template <class T, int W>
void start(const KernelArgs& a, Kind kind, const Conv& v, const TensorView& x, const TensorView& w, const TensorView& y) {
  const auto bytes = size_t(room(v, kind, sizeof(T)));
  const Sizes s(v);
  const auto grid = [&](int64_t items, int64_t most) {
    return dim3(unsigned(std::min(v.n, most)), unsigned(std::min<int64_t>(kMostSlices, ceil_div(items, kThreads))));
  };
  if (kind == Kind::forward) {
    const T* bias = a.n_in > 2 && a.in[2].present() ? a.in[2].ptr<T>() : nullptr;
    const dim3 blocks = grid(v.spots() * quads(v.o), 8 * kMostBlocks);
    const auto go = [&]<bool inside>(std::bool_constant<inside>) {
      forward_kernel<T, W, inside><<<blocks, kThreads, bytes, stream(a)>>>(s, x.ptr<T>(), w.ptr<T>(), bias, y.ptr<T>());
    };
    W > 0 && s.ph == 0 && s.pw == 0 ? go(std::bool_constant<(W > 0)>()) : go(std::false_type());
  } else if (kind == Kind::to_input) {
    const dim3 blocks = grid(v.h * v.w * quads(v.c), 8 * kMostBlocks);
    input_kernel<T, W><<<blocks, kThreads, bytes, stream(a)>>>(s, y.ptr<T>(), w.ptr<T>(), x.ptr<T>());
  } else {
    auto* const sums = static_cast<Compute<T>*>(a.workspace);
    const int weights = s.o * s.c * s.kh * s.kw, cut = bands(v);
    const dim3 blocks = grid(int64_t(cut) * weights, kMostBlocks);
    weight_kernel<T, W><<<blocks, kThreads, bytes, stream(a)>>>(s, cut, y.ptr<T>(), x.ptr<T>(), sums);
    add_parts(weights, int64_t(blocks.x) * cut, sums, w.ptr<T>(), stream(a));
  }
}
/// False where this is no convolution of small images. Gradients take y for that of the result, and make x or w.
template <class P>
bool run(const KernelArgs& a, Kind kind, const TensorView& x, const TensorView& w, const TensorView& y) {
  const Conv v(a.get<P>(), x, w, y);
  if (!suits(a, v, kind, size_of(a.out[0].dtype))) return false;
  use(a.device);
  Floats::call(a.out[0].dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t side = v.kh == v.kw ? v.kw : 0;
    side == 3 ? start<T, 3>(a, kind, v, x, w, y) : side == 5 ? start<T, 5>(a, kind, v, x, w, y) : start<T, 0>(a, kind, v, x, w, y);
  });
  return true;
}

}  // namespace small_images
}  // namespace keel::cuda
