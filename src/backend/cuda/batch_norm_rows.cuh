#pragma once
// batch_norm where channels are innermost: memory is rows of channels without gaps. A thread owns as many neighbouring channels as 16 bytes
// hold and goes down the rows, so that what belongs to a channel stays in registers and every access is a whole vector. Sums run in f32 over
// at most kRun rows of a thread and in f64 beyond; moments are those of deviations from the first row. All orders are fixed.
// Traffic: statistics read x once; forward reads x and writes y; sums of the gradient read g and x; the gradient reads both and writes dx.
// With a relu behind a sum, the pass of the sums reads y as well and writes the gradient of the residual, which the next pass reads as g.
#include "backend/cuda/pointwise.cuh"

namespace keel::cuda::channel_rows {

inline constexpr int kBlock = 256, kRun = 16, kAhead = 4;
inline constexpr int kResident = 2;  // blocks a multiprocessor where sums are made: what fits, so that there are few parts

template <class T>
inline constexpr int kWide = 16 / int(sizeof(T));
template <class T>
using Pack = cuda::Pack<T, kWide<T>>;
template <class C>
struct Sums {
  C first, second;
};

/// How rows and channels are cut into blocks of kBlock threads.
struct Cut {
  int64_t rows, channels, share;  // share: rows of a block
  dim3 grid, block;
  int64_t parts() const { return grid.y; }
  /// `resident`: blocks that a multiprocessor is given.
  template <class T>
  static Cut of(int64_t rows, int64_t channels, int processors, int resident = 4) {
    int groups = 32;
    while (channels / kWide<T> % groups) groups /= 2;
    Cut c{rows, channels, 0, dim3(unsigned(channels / kWide<T> / groups)), dim3(unsigned(groups), unsigned(kBlock / groups))};
    const int64_t at_once = int64_t(c.block.y) * kAhead;
    const int64_t parts = std::max<int64_t>(1, std::min(ceil_div(resident * processors, int64_t(c.grid.x)), ceil_div(rows, at_once)));
    c.share = ceil_div(ceil_div(rows, parts), at_once) * at_once;
    c.grid.y = unsigned(ceil_div(rows, c.share));
    return c;
  }
};
/// Whether `v` [n, c, ...] is rows of channels that vectors of T divide.
template <class T>
bool fits(const TensorView& v) {
  const int64_t c = v.dim(1);
  if (c % kWide<T> || reinterpret_cast<uintptr_t>(v.data) % 16) return false;
  int64_t step = c;
  for (int i = v.rank() - 1; i >= 0; --i) {
    if (i == 1) continue;
    if (v.dim(i) != 1 && v.stride(i) != step) return false;
    step *= v.dim(i);
  }
  return v.stride(1) == 1;
}

/// Calls f(row) for the rows of this thread, `ahead` of which the caller may load together: load(k, row), then use(k).
template <int ahead = kAhead, class Load, class Use>
__device__ __forceinline__ void each_row(int64_t rows, int64_t share, Load load, Use use) {
  const int64_t from = int64_t(blockIdx.y) * share, to = from + share < rows ? from + share : rows;
  for (int64_t r = from + threadIdx.y; r < to; r += int64_t(blockDim.y) * ahead) {
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (const int64_t row = r + k * int64_t(blockDim.y); row < to) load(k, row);
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (const int64_t row = r + k * int64_t(blockDim.y); row < to) use(k, row);
  }
}

/// The same with rows kept in `Rows`, and the next `ahead` of them asked for before these are used.
template <int ahead, class Rows, class Load, class Use>
__device__ __forceinline__ void each_row_ahead(int64_t rows, int64_t share, Load load, Use use) {
  const int64_t from = int64_t(blockIdx.y) * share, to = from + share < rows ? from + share : rows;
  const int64_t between = blockDim.y, step = between * ahead;
  Rows next[ahead];
#pragma unroll
  for (int k = 0; k < ahead; ++k)
    if (const int64_t row = from + threadIdx.y + k * between; row < to) load(next[k], row);
  for (int64_t r = from + threadIdx.y; r < to; r += step) {
    Rows now[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k) now[k] = next[k];
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (const int64_t row = r + step + k * between; row < to) load(next[k], row);
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (const int64_t row = r + k * between; row < to) use(now[k], row);
  }
}

/// Adds pairs of f32 into f64, kRun at a time. The f64 numbers stay in the block's own memory: registers are for rows on their way.
template <int n>
struct Accumulator {
  float a[n] = {}, b[n] = {};
  int count = 0;
  const int me = int(threadIdx.y) * int(blockDim.x) + int(threadIdx.x);
  static __device__ __forceinline__ double (*room())[kBlock] {
    __shared__ double all[2 * n][kBlock];
    return all;
  }
  __device__ __forceinline__ Accumulator() {
#pragma unroll
    for (int i = 0; i < 2 * n; ++i) room()[i][me] = 0;
  }
  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int i = 0; i < n; ++i) room()[i][me] += double(a[i]), room()[n + i][me] += double(b[i]), a[i] = b[i] = 0;
    count = 0;
  }
  __device__ __forceinline__ void counted() {
    if (++count == kRun) flush();
  }
  /// Sums over the block's rows, in order; the block's channels' sums go to parts.
  __device__ __forceinline__ void write(int64_t channels, Sums<double>* parts) {
    flush();
    __syncthreads();
    const int groups = int(blockDim.x), lanes = int(blockDim.y);
    for (int s = me; s < 2 * n * groups; s += kBlock) {
      const int i = s / groups, group = s % groups;
      double sum = 0;
      for (int k = 0; k < lanes; ++k) sum += room()[i][k * groups + group];
      Sums<double>& to = parts[blockIdx.y * channels + (int64_t(blockIdx.x) * groups + group) * n + i % n];
      (i < n ? to.first : to.second) = sum;
    }
  }
};

/// Sums over the parts of 32 channels, by a block of kFinish threads: afterwards the first thread of a warp has those of a channel, and
/// true where there is such a channel.
inline constexpr int kFinish = 1024;
template <class Part>
__device__ __forceinline__ bool sum_parts(int64_t channels, int64_t parts, Part part, int64_t& channel, double& first, double& second) {
  __shared__ double all[2][32][33];
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  const int64_t begin = int64_t(blockIdx.x) * 32;
  first = second = 0;
  if (begin + lane < channels) {
#pragma unroll 4
    for (int64_t k = warp; k < parts; k += 32) {
      const Sums<double> one = part(k * channels + begin + lane);
      first += one.first, second += one.second;
    }
  }
  all[0][warp][lane] = first, all[1][warp][lane] = second;
  __syncthreads();
  first = all[0][lane][warp], second = all[1][lane][warp];
#pragma unroll
  for (int d = 16; d; d >>= 1) first += __shfl_down_sync(~0u, first, d), second += __shfl_down_sync(~0u, second, d);
  channel = begin + warp;
  return lane == 0 && channel < channels;
}

/// Where deviations are counted from: the channel's first value, unless that is not finite.
template <class T>
__device__ __forceinline__ float origin(T v) {
  const float x = widen(v);
  return isfinite(x) ? x : 0.0f;
}

template <class T>
__global__ void __launch_bounds__(kBlock, kResident) moments(Cut c, const Pack<T>* x, Sums<double>* parts) {
  constexpr int n = kWide<T>;
  const int64_t width = c.channels / n, at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  float from[n];
  const Pack<T> head = x[at];
#pragma unroll
  for (int i = 0; i < n; ++i) from[i] = origin(head.v[i]);
  Accumulator<n> sum;
  Pack<T> p[kAhead];
  each_row(
      c.rows, c.share, [&](int k, int64_t row) { p[k] = x[row * width + at]; },
      [&](int k, int64_t) {
#pragma unroll
        for (int i = 0; i < n; ++i) {
          const float d = float(widen(p[k].v[i])) - from[i];
          sum.a[i] += d, sum.b[i] += d * d;
        }
        sum.counted();
      });
  sum.write(c.channels, parts);
}
template <class T>
__global__ void __launch_bounds__(kFinish)
    finish_moments(Cut c, double eps, const T* x, const Sums<double>* parts, float* mean, float* var, float* rstd) {
  int64_t at;
  double first, second;
  if (!sum_parts(c.channels, (c.rows + c.share - 1) / c.share, [&](int64_t i) { return parts[i]; }, at, first, second)) return;
  const double off = first / double(c.rows), v = second / double(c.rows) - off * off;
  mean[at] = float(double(origin(x[at])) + off), var[at] = float(v < 0 ? 0 : v);
  rstd[at] = 1.0f / __fsqrt_rn(var[at] + float(eps));
}

/// What follows the scaling.
enum class Then { nothing, relu, add_relu };
/// NaN stays.
__device__ __forceinline__ float above_zero(float v) { return v <= 0 ? 0.0f : v; }

/// y = (x - mean) rstd weight + bias, and what follows.
template <class T, Then then>
__global__ void __launch_bounds__(kBlock)
    apply(Cut c, const Pack<T>* x, const float* mean, const float* rstd, const T* weight, const T* bias, const Pack<T>* residual,
          Pack<T>* y) {
  constexpr int n = kWide<T>;
  const int64_t width = c.channels / n, at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  float m[n], r[n], w[n], b[n];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int64_t channel = at * n + i;
    m[i] = mean[channel], r[i] = rstd[channel];
    w[i] = weight ? float(widen(weight[channel])) : 1.0f, b[i] = bias ? float(widen(bias[channel])) : 0.0f;
  }
  Pack<T> p[kAhead], q[kAhead];
  each_row(
      c.rows, c.share,
      [&](int k, int64_t row) {
        p[k] = x[row * width + at];
        if constexpr (then == Then::add_relu) q[k] = residual[row * width + at];
      },
      [&](int k, int64_t row) {
#pragma unroll
        for (int i = 0; i < n; ++i) {
          float v = (float(widen(p[k].v[i])) - m[i]) * r[i] * w[i] + b[i];
          if constexpr (then == Then::add_relu) v = v + float(widen(q[k].v[i]));
          if constexpr (then != Then::nothing) v = above_zero(v);
          p[k].v[i] = narrow<T>(v);
        }
        y[row * width + at] = p[k];
      });
}

/// Sums of g and of g (x - mean) rstd.
template <class T>
__global__ void __launch_bounds__(kBlock, kResident)
    gradient_sums(Cut c, const Pack<T>* g, const Pack<T>* x, const float* mean, const float* rstd, Sums<double>* parts) {
  constexpr int n = kWide<T>, ahead = 2;
  const int64_t width = c.channels / n, at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  float m[n], r[n];
#pragma unroll
  for (int i = 0; i < n; ++i) m[i] = mean[at * n + i], r[i] = rstd[at * n + i];
  Accumulator<n> sum;
  Pack<T> p[ahead], q[ahead];
  each_row<ahead>(
      c.rows, c.share, [&](int k, int64_t row) { p[k] = g[row * width + at], q[k] = x[row * width + at]; },
      [&](int k, int64_t) {
#pragma unroll
        for (int i = 0; i < n; ++i) {
          const float v = widen(p[k].v[i]);
          sum.a[i] += v, sum.b[i] += v * ((float(widen(q[k].v[i])) - m[i]) * r[i]);
        }
        sum.counted();
      });
  sum.write(c.channels, parts);
}
/// dx = scale ((g - mean_g) - (x - mean) rstd mean_product).
template <class T>
__global__ void __launch_bounds__(kBlock) gradient(Cut c, const Pack<T>* g, const Pack<T>* x, const float* mean, const float* rstd,
                                                   const float* scale, const float* mean_g, const float* mean_product, Pack<T>* dx) {
  constexpr int n = kWide<T>;
  const int64_t width = c.channels / n, at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  float m[n], r[n], s[n], a[n], b[n];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int64_t channel = at * n + i;
    m[i] = mean[channel], r[i] = rstd[channel], s[i] = scale[channel], a[i] = mean_g[channel], b[i] = mean_product[channel];
  }
  Pack<T> p[kAhead], q[kAhead];
  each_row(
      c.rows, c.share, [&](int k, int64_t row) { p[k] = g[row * width + at], q[k] = x[row * width + at]; },
      [&](int k, int64_t row) {
#pragma unroll
        for (int i = 0; i < n; ++i)
          p[k].v[i] = narrow<T>(s[i] * ((float(widen(p[k].v[i])) - a[i]) - (float(widen(q[k].v[i])) - m[i]) * r[i] * b[i]));
        dx[row * width + at] = p[k];
      });
}

/// What a thread must know of its channels to say where a relu was open. Without y the value before it is made again, rounded as it was.
template <class T, bool from_y>
struct Mask {
  static constexpr int n = kWide<T>;
  float m[n], r[n], w[from_y ? 1 : n], b[from_y ? 1 : n];
  __device__ __forceinline__ Mask(int64_t at, const float* mean, const float* var, double eps, const T* weight, const T* bias) {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const int64_t channel = at * n + i;
      m[i] = mean[channel], r[i] = 1.0f / __fsqrt_rn(var[channel] + float(eps));
      if constexpr (!from_y)
        w[i] = weight ? float(widen(weight[channel])) : 1.0f, b[i] = bias ? float(widen(bias[channel])) : 0.0f;
    }
  }
  __device__ __forceinline__ float normal(int i, T x) const { return (float(widen(x)) - m[i]) * r[i]; }
  /// g + more where y was above 0, else 0; NaN counts as above.
  __device__ __forceinline__ float through(int i, T g, float normal, T y, float more = 0) const {
    if constexpr (!from_y) y = narrow<T>(normal * w[i] + b[i]);
    return float(widen(y)) <= 0 ? 0.0f : float(widen(g)) + more;
  }
};

/// The sums of the gradient behind a relu; what the relu lets through goes to `masked` where it is there. With `two` the gradient is
/// g + more.
template <class T, bool from_y, bool two>
__global__ void __launch_bounds__(kBlock, kResident)
    relu_gradient_sums(Cut c, const Pack<T>* g, const Pack<T>* x, const Pack<T>* y, const float* mean, const float* var, double eps,
                       const T* weight, const T* bias, Sums<double>* parts, Pack<T>* masked, const Pack<T>* more) {
  constexpr int n = kWide<T>;
  struct Rows {
    Pack<T> g, x, y, more;
  };
  const int64_t width = c.channels / n, at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const Mask<T, from_y> mask(at, mean, var, eps, weight, bias);
  Accumulator<n> sum;
  each_row_ahead<two ? 1 : 2, Rows>(
      c.rows, c.share,
      [&](Rows& to, int64_t row) {
        to.g = g[row * width + at], to.x = x[row * width + at];
        if constexpr (from_y) to.y = y[row * width + at];
        if constexpr (two) to.more = more[row * width + at];
      },
      [&](Rows& now, int64_t row) {
#pragma unroll
        for (int i = 0; i < n; ++i) {
          const float normal = mask.normal(i, now.x.v[i]), other = two ? float(widen(now.more.v[i])) : 0.0f;
          float v = mask.through(i, now.g.v[i], normal, now.y.v[i], other);
          if (two) v = widen(narrow<T>(v));  // as the next pass reads it
          sum.a[i] += v, sum.b[i] += v * normal;
          now.g.v[i] = narrow<T>(v);
        }
        if (masked) masked[row * width + at] = now.g;
        sum.counted();
      });
  sum.write(c.channels, parts);
}
/// dx = rstd weight ((g - mean_g) - (x - mean) rstd mean_product) with the g that the relu lets through.
template <class T, bool from_y>
__global__ void __launch_bounds__(kBlock, 2)
    relu_gradient(Cut c, const Pack<T>* g, const Pack<T>* x, const Pack<T>* y, const float* mean, const float* var, double eps,
                  const T* weight, const T* bias, const float* scale, const float* mean_g, const float* mean_product, Pack<T>* dx) {
  constexpr int n = kWide<T>, ahead = 2;
  const int64_t width = c.channels / n, at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const Mask<T, from_y> mask(at, mean, var, eps, weight, bias);
  float s[n], a[n], b[n];
#pragma unroll
  for (int i = 0; i < n; ++i) s[i] = scale[at * n + i], a[i] = mean_g[at * n + i], b[i] = mean_product[at * n + i];
  Pack<T> p[ahead], q[ahead], z[from_y ? ahead : 1];
  each_row<ahead>(
      c.rows, c.share,
      [&](int k, int64_t row) {
        p[k] = g[row * width + at], q[k] = x[row * width + at];
        if constexpr (from_y) z[k] = y[row * width + at];
      },
      [&](int k, int64_t row) {
#pragma unroll
        for (int i = 0; i < n; ++i) {
          const float normal = mask.normal(i, q[k].v[i]), v = mask.through(i, p[k].v[i], normal, z[from_y ? k : 0].v[i]);
          p[k].v[i] = narrow<T>(s[i] * ((v - a[i]) - normal * b[i]));
        }
        dx[row * width + at] = p[k];
      });
}

}  // namespace keel::cuda::channel_rows
