// Random numbers by position, in the formulas of keel/ops/random.h: a thread makes the words of one counter. Words, dropout, bernoulli,
// uniform and randint are bit for bit those of the CPU; normal numbers differ in the last bits of log, sine and cosine.
#include "keel/ops/random.h"

#include <cmath>

#include "backend/cuda/fault.cuh"
#include "backend/cuda/math.cuh"
#include "backend/cuda/philox.cuh"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

__device__ inline float unit(uint32_t w) { return float(int32_t(w >> 8)) * 0x1p-24f; }
__device__ inline double unit(uint64_t w) { return double(int64_t(w >> 11)) * 0x1p-53; }

/// Values of a thread's counter, written at once where they all are of the result; y is aligned to them.
template <class T, int V>
__device__ __forceinline__ void put_values(T* y, int64_t first, int64_t n, const T (&v)[V]) {
  if (first + V <= n) {
    Pack<T, V> out;
#pragma unroll
    for (int k = 0; k < V; ++k) out.v[k] = v[k];
    *reinterpret_cast<Pack<T, V>*>(y + first) = out;
  } else {
#pragma unroll
    for (int k = 0; k < V; ++k)
      if (first + k < n) y[first + k] = v[k];
  }
}
/// y[i] = f(i, word) for the elements of a thread's counter: four with 32-bit words, two with 64-bit ones.
template <bool wide, class T, class F>
__global__ void __launch_bounds__(kThreads) draw_kernel(int64_t n, Philox random, F f, T* y) {
  constexpr int per = wide ? 2 : 4;
  const int64_t b = int64_t(blockIdx.x) * kThreads + threadIdx.x, first = b * per;
  if (first >= n) return;
  const uint4 w = random.block(b);
  T v[per];
#pragma unroll
  for (int k = 0; k < per; ++k) {
    const int64_t i = first + k < n ? first + k : n - 1;
    if constexpr (wide)
      v[k] = f(i, k ? w.z | uint64_t(w.w) << 32 : w.x | uint64_t(w.y) << 32);
    else
      v[k] = f(i, k == 0 ? w.x : k == 1 ? w.y : k == 2 ? w.z : w.w);
  }
  put_values(y, first, n, v);
}
template <bool wide, class T, class F>
KernelStatus draw(const KernelArgs& a, const Philox& random, F f) {
  const int64_t n = a.out[0].size();
  if (n == 0) return {};
  use(a.device);
  draw_kernel<wide, T>
      <<<unsigned(ceil_div(ceil_div(n, wide ? 2 : 4), kThreads)), kThreads, 0, stream(a)>>>(n, random, f, a.out[0].ptr<T>());
  return launched();
}

/// Rounds towards minus infinity to a 16-bit float.
template <class T>
__device__ T round_down(float x) {
  const uint32_t b = __float_as_uint(x);
  if constexpr (std::is_same_v<T, bfloat>) {
    const auto bits = static_cast<unsigned short>((b + (b >> 31) * 0xffffu) >> 16);
    return __ushort_as_bfloat16(bits);
  } else if constexpr (std::is_same_v<T, half>) {
    return __float2half_rn(__uint_as_float((b + (b >> 31) * 0x1fffu) & ~0x1fffu));
  } else {
    return x;
  }
}
/// The largest value of dtype t below `high`.
double below(double high, DType t) {
  if (t == f64) return std::nextafter(high, -INFINITY);
  if (t == f32) return double(float(high)) < high ? float(high) : std::nextafter(float(high), -INFINITY);
  const bool brain = t == bf16;
  const auto value = [&](uint16_t bits) {
    return brain ? double(__bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}))) : double(__half2float(__half(__half_raw{bits})));
  };
  uint16_t bits = brain ? __nv_bfloat16_raw(__double2bfloat16(high)).x : __half_raw(__double2half(high)).x;
  if (value(bits) >= high) bits = (bits & 0x7fff) == 0 ? 0x8001 : bits & 0x8000 ? uint16_t(bits + 1) : uint16_t(bits - 1);
  return value(bits);
}

template <class T>
struct Uniform {
  using C = Compute<T>;
  C low, by, top;
  template <class W>
  __device__ T operator()(int64_t, W w) const {
    const C v = low + C(unit(w)) * by, cut = v < top ? v : top;
    if constexpr (sizeof(T) == 2)
      return round_down<T>(cut);
    else
      return cut;
  }
};
template <class T>
struct Bernoulli {
  const T* p;
  Reporter reporter;
  template <class W>
  __device__ T operator()(int64_t i, W w) const {
    const auto chance = widen(p[i]);
    if (!(chance >= 0 && chance <= 1)) reporter.report(i, i);
    return narrow<T>(unit(w) < chance ? 1 : 0);
  }
};
template <class T>
struct Dropout {
  const T* x;
  uint64_t bound;
  Compute<T> scale;
  __device__ T operator()(int64_t i, uint32_t w) const { return narrow<T>(w < bound ? Compute<T>(0) : widen(x[i]) * scale); }
};
template <class T>
struct Between {
  uint64_t low, range;
  __device__ T operator()(int64_t, uint64_t w) const { return T(low + __umul64hi(w, range)); }
};

/// Pairs of normal numbers: two of one counter's words in f32, all four in f64.
template <class T>
__global__ void __launch_bounds__(kThreads) normal_kernel(int64_t n, Philox random, Compute<T> mean, Compute<T> by, T* y) {
  using C = Compute<T>;
  constexpr int pairs = std::is_same_v<C, double> ? 1 : 2;
  const int64_t b = int64_t(blockIdx.x) * kThreads + threadIdx.x, first = 2 * pairs * b;
  if (first >= n) return;
  const uint4 w = random.block(b);
  const uint32_t all[4] = {w.x, w.y, w.z, w.w};
  T made[2 * pairs];
#pragma unroll
  for (int k = 0; k < pairs; ++k) {
    C r, sine, cosine;
    if constexpr (pairs == 1) {
      const uint64_t u = w.x | uint64_t(w.y) << 32, v = w.z | uint64_t(w.w) << 32;
      r = sqrt(log((double(int64_t(u >> 12)) + 0.5) * 0x1p-52) * -2.0);
      sincospi(double(int64_t(v >> 12)) * 0x1p-51, &sine, &cosine);
    } else {
      const uint32_t u = all[2 * k], v = all[2 * k + 1];
      r = __fsqrt_rn(logf((float(int32_t(u >> 16)) * 65536.0f + float(int32_t(u & 0xffffu)) + 0.5f) * 0x1p-32f) * -2.0f);
      sincospif(float(int32_t(v >> 8)) * 0x1p-23f, &sine, &cosine);
    }
    made[2 * k] = narrow<T>(mean + by * (r * cosine)), made[2 * k + 1] = narrow<T>(mean + by * (r * sine));
  }
  put_values(y, first, n, made);
}

}  // namespace

KEEL_CUDA_KERNEL(uniform) {
  k.run([](const KernelArgs& a) {
    const auto& p = a.get<UniformParams>();
    const Philox random(a.in[0], p.offset);
    const TensorView& y = a.out[0];
    KernelStatus s;
    Floats::call(y.dtype, [&](auto t) {
      using T = decltype(t);
      using C = Compute<T>;
      const double top = below(p.high, y.dtype);
      s = draw<std::is_same_v<T, double>, T>(a, random, Uniform<T>{C(p.low), C(p.high - p.low), C(top)});
    });
    return s;
  });
}
KEEL_CUDA_KERNEL(normal) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<NormalParams>();
    const Philox random(a.in[0], p.offset);
    const int64_t n = a.out[0].size();
    if (n == 0) return {};
    use(a.device);
    Floats::call(a.out[0].dtype, [&](auto t) {
      using T = decltype(t);
      const int64_t counters = ceil_div(n, std::is_same_v<T, double> ? 2 : 4);
      normal_kernel<T><<<unsigned(ceil_div(counters, kThreads)), kThreads, 0, stream(a)>>>(n, random, Compute<T>(p.mean),
                                                                                           Compute<T>(p.stddev), a.out[0].ptr<T>());
    });
    return launched();
  });
}
KEEL_CUDA_KERNEL(randint) {
  k.run([](const KernelArgs& a) {
    const auto& p = a.get<RandintParams>();
    const Philox random(a.in[0], p.offset);
    const TensorView& y = a.out[0];
    const uint64_t low = uint64_t(p.low), range = uint64_t(p.high) - low;
    switch (size_of(y.dtype)) {
      case 1: return draw<true, uint8_t>(a, random, Between<uint8_t>{low, range});
      case 2: return draw<true, uint16_t>(a, random, Between<uint16_t>{low, range});
      case 4: return draw<true, uint32_t>(a, random, Between<uint32_t>{low, range});
      default: return draw<true, uint64_t>(a, random, Between<uint64_t>{low, range});
    }
  });
}
KEEL_CUDA_KERNEL(bernoulli) {
  k.late().dtypes(kinds::floating).input(0, Layout::contiguous).run([](const KernelArgs& a) {
    const Philox random(a.in[1], a.get<BernoulliParams>().offset);
    const Reporter reporter(a, KernelStatus::element("p must be between 0 and 1", 0));
    KernelStatus s;
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      s = draw<std::is_same_v<T, double>, T>(a, random, Bernoulli<T>{a.in[0].ptr<T>(), reporter});
    });
    return s;
  });
}
KEEL_CUDA_KERNEL(dropout) {
  k.dtypes(kinds::floating).input(0, Layout::contiguous).run([](const KernelArgs& a) {
    const auto& p = a.get<DropoutParams>();
    const Philox random(a.in[1], p.offset);
    KernelStatus s;
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      const auto bound = uint64_t(p.p * 0x1p32 + 0.5);
      const auto scale = bound > 0xffffffff ? Compute<T>(0) : Compute<T>(1 / (1 - p.p));
      s = draw<false, T>(a, random, Dropout<T>{a.in[0].ptr<T>(), bound, scale});
    });
    return s;
  });
}
