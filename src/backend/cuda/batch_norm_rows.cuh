#pragma once
// batch_norm where channels are innermost: memory is rows of channels without gaps. A thread owns as many neighbouring channels as 16 bytes
// hold and goes down the rows, so that what belongs to a channel stays in registers and every access is a whole vector. Sums run in f32
// over at most kRun rows of a thread and in f64 beyond; moments are those of deviations from the first row. All orders are fixed.
// Traffic: statistics read x once; forward reads x and writes y; sums of the gradient read g and x; the gradient reads both and writes dx.
// With a relu behind a sum, the pass of the sums reads y as well and writes the gradient of the residual, which the next pass reads as g.
// A pass that reads what another has just read goes the other way: what came last is still in the cache.
#include <atomic>

#include "backend/cuda/ahead.cuh"
#include "backend/cuda/pointwise.cuh"

namespace keel::cuda::channel_rows {

inline constexpr int kBlock = 256, kRun = 16;
inline constexpr int kResident = 2;  // blocks a multiprocessor is given, and has room for

template <class T>
inline constexpr int kWide = 16 / int(sizeof(T));
template <class T>
using Pack = cuda::Pack<T, kWide<T>>;
template <class C>
struct alignas(2 * sizeof(C)) Sums {
  C first, second;
};

/// How rows and channels are cut into blocks of kBlock threads.
struct Cut {
  int64_t rows, channels, share;  // share: rows of a block
  dim3 grid, block;
  int64_t parts() const { return grid.y; }
  template <class T>
  static Cut of(int64_t rows, int64_t channels, int processors) {
    constexpr int kLeast = 4;  // rows a thread, where there are as many
    int groups = 32;
    while (channels / kWide<T> % groups) groups /= 2;
    Cut c{rows, channels, 0, dim3(unsigned(channels / kWide<T> / groups)), dim3(unsigned(groups), unsigned(kBlock / groups))};
    const int64_t lanes = c.block.y, room = std::max<int64_t>(1, kResident * processors / int64_t(c.grid.x));
    const int64_t parts = std::min(room, ceil_div(rows, lanes * kLeast));
    c.share = ceil_div(ceil_div(rows, parts), lanes) * lanes;
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

/// Rows that a thread asks for ahead of the one it uses, where it reads `n` tensors; and the bytes of the block's memory that they take.
template <int n>
inline constexpr int kAhead = n == 1 ? 8 : 4;
template <int n>
inline constexpr int kRoom = kAhead<n>* n* kBlock * 16;

/// The rows of this thread of `n` tensors, the last one first if `back`. The first ones are asked for at once: what a kernel must know of
/// its channels it reads meanwhile.
template <class T, int n, bool back = false>
class Rows {
 public:
  __device__ __forceinline__ Rows(const Cut& c, const Pack<T>* const (&tensors)[n]) {
    extern __shared__ __align__(16) unsigned char channel_rows_room[];
    mine_ = reinterpret_cast<Pack<T>*>(channel_rows_room) + threadIdx.y * blockDim.x + threadIdx.x;
    const int64_t width = c.channels / kWide<T>, begin = int64_t(blockIdx.y) * c.share + threadIdx.y;
    const int64_t end = min(int64_t(blockIdx.y + 1) * c.share, c.rows);
    count_ = begin < end ? int((end - begin - 1) / blockDim.y) + 1 : 0;
    step_ = (back ? -1 : 1) * int64_t(blockDim.y) * width;
    first_ = begin * width + int64_t(blockIdx.x) * blockDim.x + threadIdx.x - (back ? (count_ - 1) * step_ : 0);
#pragma unroll
    for (int i = 0; i < n; ++i) from_[i] = tensors[i];
#pragma unroll
    for (int row = 0; row < kAhead<n>; ++row) ask_for(row);
  }
  /// Calls use(place, vectors there) for each row.
  template <class Use>
  __device__ __forceinline__ void each(Use use) {
#pragma unroll 1
    for (int row = 0; row < count_; ++row) {
      Pack<T> now[n];
      arrived<kAhead<n> - 1>();
#pragma unroll
      for (int i = 0; i < n; ++i) now[i] = mine_[(row % kAhead<n> * n + i) * kBlock];
      ask_for(row + kAhead<n>);
      use(first_ + row * step_, now);
    }
  }

 private:
  __device__ __forceinline__ void ask_for(int row) {
    if (row < count_) {
#pragma unroll
      for (int i = 0; i < n; ++i) ask(mine_ + (row % kAhead<n> * n + i) * kBlock, from_[i] + first_ + row * step_);
    }
    asked();
  }
  Pack<T>* mine_;
  const Pack<T>* from_[n];
  int64_t first_, step_;
  int count_;
};
/// Starts a kernel that reads `n` tensors. It is allowed its memory once a device.
template <auto kernel, int n, class... A>
void start(const Cut& c, int device, cudaStream_t s, A... args) {
  static std::atomic<uint64_t> allowed{0};
  static_assert(kMaxDevices <= 64);
  if (const uint64_t bit = uint64_t(1) << device; !(allowed.load(std::memory_order_relaxed) & bit)) {
    if (!cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kRoom<n>)) allowed |= bit;
  }
  kernel<<<c.grid, c.block, kRoom<n>, s>>>(c, args...);
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
__device__ __forceinline__ bool sum_parts(int64_t channels, int64_t parts, const Sums<double>* part, int64_t& channel, double& first,
                                          double& second) {
  __shared__ double all[2][32][33];
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  const int64_t begin = int64_t(blockIdx.x) * 32;
  first = second = 0;
  constexpr int kAtOnce = 8;
  for (int64_t k = warp; begin + lane < channels && k < parts; k += 32 * kAtOnce) {
    Sums<double> some[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int64_t p = k + j * 32;
      some[j] = p < parts ? part[p * channels + begin + lane] : Sums<double>{0, 0};
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) first += some[j].first, second += some[j].second;
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
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  Rows<T, 1> rows(c, {x});
  float from[n];
  const Pack<T> head = x[at];
#pragma unroll
  for (int i = 0; i < n; ++i) from[i] = origin(head.v[i]);
  Accumulator<n> sum;
  rows.each([&](int64_t, const auto& now) {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float d = float(widen(now[0].v[i])) - from[i];
      sum.a[i] += d, sum.b[i] += d * d;
    }
    sum.counted();
  });
  sum.write(c.channels, parts);
}
template <class T>
__global__ void __launch_bounds__(kFinish, 1)
    finish_moments(Cut c, double eps, const T* x, const Sums<double>* parts, float* mean, float* var, float* rstd) {
  int64_t at;
  double first, second;
  if (!sum_parts(c.channels, c.grid.y, parts, at, first, second)) return;
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
__global__ void __launch_bounds__(kBlock, kResident) apply(Cut c, const Pack<T>* x, const float* mean, const float* rstd, const T* weight,
                                                           const T* bias, const Pack<T>* residual, Pack<T>* y) {
  constexpr int n = kWide<T>;
  constexpr bool added = then == Then::add_relu;
  const Pack<T>* tensors[1 + added] = {x};
  if constexpr (added) tensors[1] = residual;
  Rows<T, 1 + added, true> rows(c, tensors);
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  float m[n], r[n], w[n], b[n];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int64_t channel = at * n + i;
    m[i] = mean[channel], r[i] = rstd[channel];
    w[i] = weight ? float(widen(weight[channel])) : 1.0f, b[i] = bias ? float(widen(bias[channel])) : 0.0f;
  }
  rows.each([&](int64_t place, auto& now) {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      float v = (float(widen(now[0].v[i])) - m[i]) * r[i] * w[i] + b[i];
      if constexpr (added) v = v + float(widen(now[added].v[i]));
      if constexpr (then != Then::nothing) v = above_zero(v);
      now[0].v[i] = narrow<T>(v);
    }
    y[place] = now[0];
  });
}

/// Sums of g and of g (x - mean) rstd.
template <class T>
__global__ void __launch_bounds__(kBlock, kResident)
    gradient_sums(Cut c, const Pack<T>* g, const Pack<T>* x, const float* mean, const float* rstd, Sums<double>* parts) {
  constexpr int n = kWide<T>;
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  Rows<T, 2> rows(c, {g, x});
  float m[n], r[n];
#pragma unroll
  for (int i = 0; i < n; ++i) m[i] = mean[at * n + i], r[i] = rstd[at * n + i];
  Accumulator<n> sum;
  rows.each([&](int64_t, const auto& now) {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float v = widen(now[0].v[i]);
      sum.a[i] += v, sum.b[i] += v * ((float(widen(now[1].v[i])) - m[i]) * r[i]);
    }
    sum.counted();
  });
  sum.write(c.channels, parts);
}
/// dx = scale ((g - mean_g) - (x - mean) rstd mean_product).
template <class T>
__global__ void __launch_bounds__(kBlock, kResident)
    gradient(Cut c, const Pack<T>* g, const Pack<T>* x, const float* mean, const float* rstd, const float* scale, const float* mean_g,
             const float* mean_product, Pack<T>* dx) {
  constexpr int n = kWide<T>;
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  Rows<T, 2, true> rows(c, {g, x});
  float m[n], r[n], s[n], a[n], b[n];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int64_t channel = at * n + i;
    m[i] = mean[channel], r[i] = rstd[channel], s[i] = scale[channel], a[i] = mean_g[channel], b[i] = mean_product[channel];
  }
  rows.each([&](int64_t place, auto& now) {
#pragma unroll
    for (int i = 0; i < n; ++i)
      now[0].v[i] = narrow<T>(s[i] * ((float(widen(now[0].v[i])) - a[i]) - (float(widen(now[1].v[i])) - m[i]) * r[i] * b[i]));
    dx[place] = now[0];
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
      if constexpr (!from_y) w[i] = weight ? float(widen(weight[channel])) : 1.0f, b[i] = bias ? float(widen(bias[channel])) : 0.0f;
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
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const Pack<T>* tensors[2 + from_y + two] = {g, x};
  if constexpr (from_y) tensors[2] = y;
  if constexpr (two) tensors[3] = more;
  Rows<T, 2 + from_y + two> rows(c, tensors);
  const Mask<T, from_y> mask(at, mean, var, eps, weight, bias);
  Accumulator<n> sum;
  rows.each([&](int64_t place, auto& now) {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float normal = mask.normal(i, now[1].v[i]), other = two ? float(widen(now[two ? 3 : 0].v[i])) : 0.0f;
      float v = mask.through(i, now[0].v[i], normal, now[from_y ? 2 : 0].v[i], other);
      if (two) v = widen(narrow<T>(v));  // as the next pass reads it
      sum.a[i] += v, sum.b[i] += v * normal;
      now[0].v[i] = narrow<T>(v);
    }
    if (masked) masked[place] = now[0];
    sum.counted();
  });
  sum.write(c.channels, parts);
}
/// dx = rstd weight ((g - mean_g) - (x - mean) rstd mean_product) with the g that the relu lets through.
template <class T, bool from_y>
__global__ void __launch_bounds__(kBlock, kResident)
    relu_gradient(Cut c, const Pack<T>* g, const Pack<T>* x, const Pack<T>* y, const float* mean, const float* var, double eps,
                  const T* weight, const T* bias, const float* scale, const float* mean_g, const float* mean_product, Pack<T>* dx) {
  constexpr int n = kWide<T>;
  const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const Pack<T>* tensors[2 + from_y] = {g, x};
  if constexpr (from_y) tensors[2] = y;
  Rows<T, 2 + from_y, true> rows(c, tensors);
  const Mask<T, from_y> mask(at, mean, var, eps, weight, bias);
  float s[n], a[n], b[n];
#pragma unroll
  for (int i = 0; i < n; ++i) s[i] = scale[at * n + i], a[i] = mean_g[at * n + i], b[i] = mean_product[at * n + i];
  rows.each([&](int64_t place, auto& now) {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float normal = mask.normal(i, now[1].v[i]), v = mask.through(i, now[0].v[i], normal, now[from_y ? 2 : 0].v[i]);
      now[0].v[i] = narrow<T>(s[i] * ((v - a[i]) - normal * b[i]));
    }
    dx[place] = now[0];
  });
}

}  // namespace keel::cuda::channel_rows
