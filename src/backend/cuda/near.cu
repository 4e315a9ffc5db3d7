// Comparison with tolerances and units in the last place, in the formulas of src/ops/near.cpp: tolerances of a dtype come from
// backend/float_limits.h, the ulp functions work on the codes of the operands' own dtype.
#include "keel/ops/near.h"

#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/tolerance.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

struct Near {
  double rel, abs;
  bool equal_nan;
  template <class S>
  __device__ bool operator()(S a, S b) const {
    const auto x = widen(a), y = widen(b);
    using T = decltype(x + y);
    const T p = absolute(x), q = absolute(y), distance = absolute(x - y), scaled = T(rel) * (p > q ? p : q);
    const T tol = scaled > T(abs) ? scaled : T(abs);
    return x == y || (distance <= tol && is_finite(distance)) || (equal_nan && x != x && y != y);
  }
};
struct NearZero {
  double tol;
  template <class S>
  __device__ bool operator()(S a) const {
    const auto x = widen(a);
    return within(x, tol) && is_finite(x);
  }
};
/// The code of a number and where the codes of infinities and of the smallest normal stand.
template <class T>
struct Code;
template <>
struct Code<float> {
  using Bits = uint32_t;
  static constexpr Bits inf = 0x7f800000u;
  static constexpr int digits = 23;
};
template <>
struct Code<double> {
  using Bits = unsigned long long;
  static constexpr Bits inf = 0x7ff0000000000000ull;
  static constexpr int digits = 52;
};
template <>
struct Code<half> {
  using Bits = uint16_t;
  static constexpr Bits inf = 0x7c00;
  static constexpr int digits = 10;
};
template <>
struct Code<bfloat> {
  using Bits = uint16_t;
  static constexpr Bits inf = 0x7f80;
  static constexpr int digits = 7;
};
template <class T>
__device__ typename Code<T>::Bits code_of(T x) {
  typename Code<T>::Bits u;
  memcpy(&u, &x, sizeof u);
  return u;
}
template <class T>
__device__ T number_of(typename Code<T>::Bits u) {
  T x;
  memcpy(&x, &u, sizeof u);
  return x;
}
template <class T>
constexpr typename Code<T>::Bits kSign = typename Code<T>::Bits(typename Code<T>::Bits(1) << (8 * sizeof(T) - 1));
template <class T>
__device__ typename Code<T>::Bits magnitude(T x) {
  return typename Code<T>::Bits(code_of(x) & typename Code<T>::Bits(~kSign<T>));
}
struct UlpOf {
  template <class T>
  __device__ T operator()(T x) const {
    using U = typename Code<T>::Bits;
    const U size = magnitude(x);
    if (size > Code<T>::inf) return x;
    const bool below = code_of(x) & kSign<T> && size;  // the next larger one lies towards 0
    const U code = U(size - below);
    if (size == Code<T>::inf || (!below && U(code + 1) == Code<T>::inf)) return number_of<T>(Code<T>::inf);
    const int field = int(code >> Code<T>::digits), shift = field > 0 ? field - 1 : 0;
    return number_of<T>(shift < Code<T>::digits ? U(U(1) << shift) : U(U(shift - Code<T>::digits + 1) << Code<T>::digits));
  }
};
template <bool down>
struct UlpStep {
  template <class T>
  __device__ T operator()(T x) const {
    using U = typename Code<T>::Bits;
    const U flip = down ? kSign<T> : U(0), u = U(code_of(x) ^ flip), size = U(u & U(~kSign<T>));
    if (size > Code<T>::inf || u == Code<T>::inf) return x;
    return number_of<T>(U((size == 0 ? U(1) : u == size ? U(u + 1) : U(u - 1)) ^ flip));
  }
};
/// Steps between two numbers; the most an i64 holds where one is NaN or they are further apart.
template <class T>
__device__ int64_t steps(T a, T b) {
  if (magnitude(a) > Code<T>::inf || magnitude(b) > Code<T>::inf) return INT64_MAX;
  const auto ordered = [](T x) { return code_of(x) & kSign<T> ? -int64_t(magnitude(x)) : int64_t(magnitude(x)); };
  const int64_t p = ordered(a), q = ordered(b);
  const uint64_t n = p < q ? uint64_t(q) - uint64_t(p) : uint64_t(p) - uint64_t(q);
  return n > uint64_t(INT64_MAX) ? INT64_MAX : int64_t(n);
}
struct UlpDiff {
  template <class T>
  __device__ int64_t operator()(T a, T b) const {
    return steps(a, b);
  }
};
struct UlpWithin {
  double limit;
  template <class T>
  __device__ bool operator()(T a, T b) const {
    const int64_t d = steps(a, b);
    return d == 0 || (magnitude(a) < Code<T>::inf && magnitude(b) < Code<T>::inf && double(d) <= limit);
  }
};

/// f takes operands as they lie in memory and gives `Out`.
template <int n, class Out, class F>
KernelStatus run(const KernelArgs& a, F f) {
  KernelStatus s;
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    using R = std::conditional_t<std::is_void_v<Out>, T, Out>;
    if constexpr (n == 1) s = pointwise<R, T>(a, f);
    if constexpr (n == 2) s = pointwise<R, T, T>(a, f);
  });
  return s;
}

}  // namespace

KEEL_CUDA_KERNEL(near) {
  apart_def(k).run([](const KernelArgs& a) {
    const auto& p = a.get<NearParams>();
    const numerics::Tolerance own = tolerance_of(a.in[0].dtype);
    return run<2, bool>(a, Near{or_own(p.rel_tol, own.rel), or_own(p.abs_tol, own.abs), p.equal_nan});
  });
}
KEEL_CUDA_KERNEL(near_zero) {
  apart_def(k).run([](const KernelArgs& a) {
    return run<1, bool>(a, NearZero{or_own(a.get<NearZeroParams>().abs_tol, tolerance_of(a.in[0].dtype).abs)});
  });
}
KEEL_CUDA_KERNEL(ulp_of) {
  apart_def(k).run([](const KernelArgs& a) { return run<1, void>(a, UlpOf{}); });
}
KEEL_CUDA_KERNEL(ulp_next) {
  apart_def(k).run([](const KernelArgs& a) { return run<1, void>(a, UlpStep<false>{}); });
}
KEEL_CUDA_KERNEL(ulp_prev) {
  apart_def(k).run([](const KernelArgs& a) { return run<1, void>(a, UlpStep<true>{}); });
}
KEEL_CUDA_KERNEL(ulp_diff) {
  apart_def(k).run([](const KernelArgs& a) { return run<2, int64_t>(a, UlpDiff{}); });
}
KEEL_CUDA_KERNEL(ulp_within) {
  apart_def(k).run([](const KernelArgs& a) { return run<2, bool>(a, UlpWithin{double(a.get<UlpWithinParams>().max_ulps)}); });
}
