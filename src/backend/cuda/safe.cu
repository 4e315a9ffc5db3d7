// Safe arithmetic, soft clamp, comparison with tolerances and units in the last place, in the formulas of the rows (src/ops/safe.cpp,
// safe_math.cpp, soft.cpp, near.cpp) and with their facts: limits and tolerances of a dtype come from backend/float_limits.h. 16-bit floats
// compute in f32 and are rounded once; the ulp functions work on the codes of the operands' own dtype. Elementwise: each operand is read
// once; gradients of two operands are two launches.
#include <cmath>

#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"
#include "backend/float_limits.h"
#include "keel/ops/near.h"
#include "keel/ops/safe.h"
#include "keel/ops/soft.h"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class T>
__device__ bool finite(T x) {
  return isfinite(x);
}
template <class T>
__device__ T absolute(T x) {
  return x < 0 ? -x : x;
}
/// |x| <= tol; false for NaN.
template <class T>
__device__ bool within(T x, double tol) {
  return absolute(x) <= T(tol);
}

// ---- division ----
struct Quotient {
  double otherwise, tol, top;
  template <class T>
  __device__ bool dead(T a, T b, T q) const {
    return within(b, tol) || (absolute(q) > T(top) && finite(a));
  }
  template <class T>
  __device__ T by(T b) const {
    return within(b, tol) ? T(1) : b;
  }
  template <class T>
  __device__ T value(T a, T b, T fill) const {
    if (within(b, tol)) return fill;
    const T q = a / b;
    return absolute(q) > T(top) && finite(a) ? (q < 0 ? -T(top) : T(top)) : q;
  }
};
struct Div : Quotient {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return value(a, b, T(otherwise));
  }
};
struct DivFilled : Quotient {
  template <class T>
  __device__ T operator()(T a, T b, T fill) const {
    return value(a, b, fill);
  }
};
struct DivGradA : Quotient {
  template <class T>
  __device__ T operator()(T g, T a, T b) const {
    const T d = by(b);
    return dead(a, b, a / d) ? T(0) : g / d;
  }
};
struct DivGradB : Quotient {
  template <class T>
  __device__ T operator()(T g, T a, T b) const {
    const T d = by(b), ga = g / d, q = a / d, p = ga * q;
    const bool clash = p != p && ga == ga && q == q;  // 0 times what overflowed
    return dead(a, b, q) || clash ? T(0) : -p;
  }
};
Quotient division_of(const KernelArgs& a) {
  const auto& p = a.get<DivSafeParams>();
  const DType t = a.in[0].dtype;
  return {p.otherwise, zero_tolerance(p.zero_tol, p.skip_subnormal, t == DType::f64 ? DType::f64 : DType::f32),
          p.saturate ? largest_of(t) : HUGE_VAL};
}

// ---- replacing and clamping ----
struct Sanitize {
  double nan, inf, neginf;
  template <class T>
  __device__ T operator()(T x) const {
    return finite(x) ? x : x != x ? T(nan) : x < 0 ? T(neginf) : T(inf);
  }
};
struct FiniteGrad {
  template <class T>
  __device__ T operator()(T g, T x) const {
    return finite(x) ? g : T(0);
  }
};
struct ClampToZero {
  double tol;
  template <class T>
  __device__ T operator()(T x) const {
    return within(x, tol) && finite(x) ? T(0) : x;
  }
};
struct OutsideGrad {
  double tol;
  template <class T>
  __device__ T operator()(T g, T x) const {
    return within(x, tol) && finite(x) ? T(0) : g;
  }
};
struct Clamp {
  template <class T>
  __device__ T operator()(T x, T lo, T hi) const {
    const T low = x != x || lo != lo ? x + lo : x > lo ? x : lo;
    return low != low || hi != hi ? low + hi : low < hi ? low : hi;
  }
};
struct ClampGrad {
  double share;
  template <class T>
  __device__ T operator()(T g, T x, T lo, T hi) const {
    if (!(x >= lo && x <= hi)) return T(0);
    return x == lo || x == hi ? (share == 0 ? T(0) : g * T(share)) : g;
  }
};

// ---- roots, logarithms, powers ----
struct Sqrt {
  double otherwise;
  template <class T>
  __device__ T operator()(T x) const {
    return x < 0 ? T(otherwise) : root_of(x);
  }
};
struct SqrtGrad {
  template <class T>
  __device__ T operator()(T g, T x) const {
    return x <= 0 ? T(0) : g * T(0.5) / root_of(x);
  }
};
struct Rsqrt {
  double otherwise;
  template <class T>
  __device__ T operator()(T x) const {
    return x <= 0 ? T(otherwise) : 1 / root_of(x);
  }
};
struct RsqrtGrad {
  template <class T>
  __device__ T operator()(T g, T x) const {
    return x <= 0 ? T(0) : g * T(-0.5) / root_of(x) / x;
  }
};
__device__ inline float log2_of(float x) { return log2f(x); }
__device__ inline double log2_of(double x) { return log2(x); }
__device__ inline float log10_of(float x) { return log10f(x); }
__device__ inline double log10_of(double x) { return log10(x); }
struct Log {
  double otherwise, base, by;  // by: ln(base)
  template <class T>
  __device__ T operator()(T x) const {
    if (x <= 0) return T(otherwise);
    return base == 2 ? log2_of(x) : base == 10 ? log10_of(x) : by == 1 ? log_of(x) : log_of(x) / T(by);
  }
};
struct LogGrad {
  double by;  // 1 / ln(base)
  template <class T>
  __device__ T operator()(T g, T x) const {
    return x <= 0 ? T(0) : g / x * T(by);
  }
};
/// f32 is raised in f64 and rounded, as on the CPU.
struct Power {
  double otherwise, top;
  template <class T>
  __device__ bool none(T x, T y, T v) const {
    return finite(x) && finite(y) && !(double(absolute(v)) < top);
  }
  template <class T>
  __device__ T raise(T x, T y) const {
    return T(pow(double(x), double(y)));
  }
};
struct Pow : Power {
  template <class T>
  __device__ T operator()(T x, T y) const {
    const T v = raise(x, y);
    return none(x, y, v) ? T(otherwise) : v;
  }
};
struct PowGradBase : Power {
  template <class T>
  __device__ T operator()(T g, T x, T y) const {
    return none(x, y, raise(x, y)) || y == 0 ? T(0) : T(double(g) * (double(y) * pow(double(x), double(y) - 1)));
  }
};
struct PowGradExponent : Power {
  template <class T>
  __device__ T operator()(T g, T x, T y) const {
    const double v = pow(double(x), double(y));
    return none(x, y, T(v)) || x <= 0 || x == 1 ? T(0) : T(double(g) * (v * log(double(x))));
  }
};
Power power(const KernelArgs& a) { return {a.get<OtherwiseParams>().otherwise, overflow_of(a.in[0].dtype)}; }
struct NormGrad {
  template <class T>
  __device__ T operator()(T g, T x, T y) const {
    return y == 0 ? T(0) : g * (x / y);
  }
};

// ---- soft clamp ----
/// The side of the middle decides which of two equal forms is taken: that in which nothing cancels.
struct SoftClamp {
  double beta, leak;
  template <class T>
  __device__ T rest(T z) const {
    return log1p_of(exp_of(-absolute(T(beta) * z))) / T(beta);
  }
  template <class T>
  __device__ T operator()(T x, T lo, T hi) const {
    if (x != x || lo != lo || hi != hi) return x + lo + hi;
    const bool upper = x >= lo * T(0.5) + hi * T(0.5);
    const T p = x - lo, q = x - hi, u = upper ? -p : p, v = upper ? -q : q, ru = rest(u), rv = rest(v);
    const T su = (u > 0 ? u : T(0)) + ru, sv = (v > 0 ? v : T(0)) + rv, diff = su - sv;
    T f = (upper ? hi : lo) + (upper ? (diff < 0 ? diff : T(0)) : (diff > 0 ? diff : T(0)));
    f = f < lo ? lo : f;
    f = f > hi ? hi : f;
    if (leak == 0) return f;
    const T nu = (u < 0 ? -u : T(0)) + ru, nv = (v < 0 ? -v : T(0)) + rv;
    return f + T(leak) * ((upper ? nv : sv) - (upper ? su : nu));
  }
};
struct SoftClampGrad {
  double beta, leak;
  template <class T>
  __device__ T logistic(T z) const {
    const T e = exp_of(z < 0 ? z : -z);
    return z < 0 ? e / (1 + e) : 1 / (1 + e);
  }
  template <class T>
  __device__ T operator()(T g, T x, T lo, T hi) const {
    const bool upper = x >= lo * T(0.5) + hi * T(0.5);
    const T p = x - lo, q = x - hi, su = logistic(T(beta) * (upper ? -p : p)), sv = logistic(T(beta) * (upper ? -q : q));
    const T slope = upper ? sv - su : su - sv;
    return g * (slope + T(leak) * (1 - slope));
  }
};

// ---- near and ulp ----
struct Near {
  double rel, abs;
  bool equal_nan;
  template <class S>
  __device__ bool operator()(S a, S b) const {
    const auto x = widen(a), y = widen(b);
    using T = decltype(x + y);
    const T p = absolute(x), q = absolute(y), distance = absolute(x - y), scaled = T(rel) * (p > q ? p : q);
    const T tol = scaled > T(abs) ? scaled : T(abs);
    return x == y || (distance <= tol && finite(distance)) || (equal_nan && x != x && y != y);
  }
};
struct NearZero {
  double tol;
  template <class S>
  __device__ bool operator()(S a) const {
    const auto x = widen(a);
    return within(x, tol) && finite(x);
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

template <int n, class F>
KernelStatus run(const KernelArgs& a, F f) {
  KernelStatus s;
  Floats::call(a.out[0].dtype, [&](auto t) {
    using T = decltype(t);
    if constexpr (n == 1) s = pointwise<T, T>(a, Lifted<T, F>{f});
    if constexpr (n == 2) s = pointwise<T, T, T>(a, Lifted<T, F>{f});
    if constexpr (n == 3) s = pointwise<T, T, T, T>(a, Lifted<T, F>{f});
    if constexpr (n == 4) s = pointwise<T, T, T, T, T>(a, Lifted<T, F>{f});
  });
  return s;
}
/// Output `i` alone.
template <int n, class F>
KernelStatus run_for(const KernelArgs& a, int i, F f) {
  KernelArgs one = a;
  one.out = a.out + i, one.n_out = 1;
  return run<n>(one, f);
}
/// f takes operands as they lie in memory and gives `Out`.
template <int n, class Out, class F>
KernelStatus run_codes(const KernelArgs& a, F f) {
  KernelStatus s;
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    using R = std::conditional_t<std::is_void_v<Out>, T, Out>;
    if constexpr (n == 1) s = pointwise<R, T>(a, f);
    if constexpr (n == 2) s = pointwise<R, T, T>(a, f);
  });
  return s;
}
KernelDef& define(KernelDef& k) { return pointwise_def(k, kinds::floating); }
/// Outputs are written one after the other, so none may lie where an input does.
KernelDef& define_two(KernelDef& k) { return k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs); }
KernelDef& define_codes(KernelDef& k) { return k.dtypes(kinds::floating).inputs(Layout::strided).outputs(Layout::like_inputs); }

double or_own(double given, double own) { return std::isnan(given) ? own : given; }
double zone(const KernelArgs& a, int i) { return or_own(a.get<ClampToZeroParams>().abs_tol, tolerance_of(a.in[i].dtype).abs); }

}  // namespace

KEEL_CUDA_KERNEL(div_safe) {
  define(k).run([](const KernelArgs& a) {
    return a.n_in == 3 && a.in[2].present() ? run<3>(a, DivFilled{division_of(a)}) : run<2>(a, Div{division_of(a)});
  });
}
KEEL_CUDA_KERNEL(div_safe_backward) {
  define_two(k).run([](const KernelArgs& a) {
    const KernelStatus s = run_for<3>(a, 0, DivGradA{division_of(a)});
    return s.code ? s : run_for<3>(a, 1, DivGradB{division_of(a)});
  });
}
KEEL_CUDA_KERNEL(sanitize) {
  define(k).run([](const KernelArgs& a) {
    const auto& p = a.get<SanitizeParams>();
    const double inf = p.keep ? HUGE_VAL : or_own(p.inf_value, largest_of(a.in[0].dtype));
    return run<1>(a, Sanitize{p.nan_value, inf, p.keep || std::isnan(p.neginf_value) ? -inf : p.neginf_value});
  });
}
KEEL_CUDA_KERNEL(sanitize_backward) {
  define(k).run([](const KernelArgs& a) { return run<2>(a, FiniteGrad{}); });
}
KEEL_CUDA_KERNEL(clamp_to_zero) {
  define(k).run([](const KernelArgs& a) { return run<1>(a, ClampToZero{zone(a, 0)}); });
}
KEEL_CUDA_KERNEL(clamp_to_zero_backward) {
  define(k).run([](const KernelArgs& a) { return run<2>(a, OutsideGrad{zone(a, 1)}); });
}
KEEL_CUDA_KERNEL(clamp_safe) {
  define(k).run([](const KernelArgs& a) { return run<3>(a, Clamp{}); });
}
KEEL_CUDA_KERNEL(clamp_safe_backward) {
  define(k).run([](const KernelArgs& a) { return run<4>(a, ClampGrad{a.get<ClampSafeParams>().boundary_grad}); });
}
KEEL_CUDA_KERNEL(sqrt_safe) {
  define(k).run([](const KernelArgs& a) { return run<1>(a, Sqrt{a.get<OtherwiseParams>().otherwise}); });
}
KEEL_CUDA_KERNEL(sqrt_safe_backward) {
  define(k).run([](const KernelArgs& a) { return run<2>(a, SqrtGrad{}); });
}
KEEL_CUDA_KERNEL(rsqrt_safe) {
  define(k).run([](const KernelArgs& a) { return run<1>(a, Rsqrt{a.get<OtherwiseParams>().otherwise}); });
}
KEEL_CUDA_KERNEL(rsqrt_safe_backward) {
  define(k).run([](const KernelArgs& a) { return run<2>(a, RsqrtGrad{}); });
}
KEEL_CUDA_KERNEL(log_safe) {
  define(k).run([](const KernelArgs& a) {
    const auto& p = a.get<LogSafeParams>();
    return run<1>(a, Log{p.otherwise, p.base, p.base == std::numbers::e ? 1 : std::log(p.base)});
  });
}
KEEL_CUDA_KERNEL(log_safe_backward) {
  define(k).run([](const KernelArgs& a) {
    const double base = a.get<LogSafeParams>().base;
    return run<2>(a, LogGrad{base == std::numbers::e ? 1 : 1 / std::log(base)});
  });
}
KEEL_CUDA_KERNEL(pow_safe) {
  define(k).run([](const KernelArgs& a) { return run<2>(a, Pow{power(a)}); });
}
KEEL_CUDA_KERNEL(pow_safe_backward) {
  define_two(k).run([](const KernelArgs& a) {
    const KernelStatus s = run_for<3>(a, 0, PowGradBase{power(a)});
    return s.code ? s : run_for<3>(a, 1, PowGradExponent{power(a)});
  });
}
KEEL_CUDA_KERNEL(norm_safe_backward) {
  define(k).run([](const KernelArgs& a) { return run<3>(a, NormGrad{}); });
}
KEEL_CUDA_KERNEL(soft_clamp) {
  define(k)
      .refuses([](const void*, Specs in) -> const char* { return in.has(3) ? "a sharpness of every element" : nullptr; })
      .run([](const KernelArgs& a) {
        return run<3>(a, SoftClamp{a.get<SoftClampParams>().beta, a.get<SoftClampParams>().leak});
      });
}
KEEL_CUDA_KERNEL(soft_clamp_backward) {
  define(k)
      .refuses([](const void*, Specs in) -> const char* { return in.has(4) ? "a sharpness of every element" : nullptr; })
      .run([](const KernelArgs& a) {
        return run<4>(a, SoftClampGrad{a.get<SoftClampParams>().beta, a.get<SoftClampParams>().leak});
      });
}
KEEL_CUDA_KERNEL(near) {
  define_codes(k).run([](const KernelArgs& a) {
    const auto& p = a.get<NearParams>();
    const numerics::Tolerance own = tolerance_of(a.in[0].dtype);
    return run_codes<2, bool>(a, Near{or_own(p.rel_tol, own.rel), or_own(p.abs_tol, own.abs), p.equal_nan});
  });
}
KEEL_CUDA_KERNEL(near_zero) {
  define_codes(k).run([](const KernelArgs& a) {
    return run_codes<1, bool>(a, NearZero{or_own(a.get<NearZeroParams>().abs_tol, tolerance_of(a.in[0].dtype).abs)});
  });
}
KEEL_CUDA_KERNEL(ulp_of) {
  define_codes(k).run([](const KernelArgs& a) { return run_codes<1, void>(a, UlpOf{}); });
}
KEEL_CUDA_KERNEL(ulp_next) {
  define_codes(k).run([](const KernelArgs& a) { return run_codes<1, void>(a, UlpStep<false>{}); });
}
KEEL_CUDA_KERNEL(ulp_prev) {
  define_codes(k).run([](const KernelArgs& a) { return run_codes<1, void>(a, UlpStep<true>{}); });
}
KEEL_CUDA_KERNEL(ulp_diff) {
  define_codes(k).run([](const KernelArgs& a) { return run_codes<2, int64_t>(a, UlpDiff{}); });
}
KEEL_CUDA_KERNEL(ulp_within) {
  define_codes(k).run([](const KernelArgs& a) { return run_codes<2, bool>(a, UlpWithin{double(a.get<UlpWithinParams>().max_ulps)}); });
}
