// Safe arithmetic in the formulas of the rows (src/ops/safe.cpp, safe_math.cpp) and with their facts: limits and tolerances of a dtype come
// from backend/float_limits.h. 16-bit floats compute in f32 and are rounded once. Elementwise: each operand is read once; gradients of two
// operands are two launches.
#include <cmath>

#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/tolerance.cuh"
#include "keel/ops/safe.h"

using namespace keel;
using namespace keel::cuda;

namespace {

// ---- division ----
struct Quotient {
  double otherwise, tol, top;
  template <class T>
  __device__ bool dead(T a, T b, T q) const {
    return within(b, tol) || (absolute(q) > T(top) && is_finite(a));
  }
  template <class T>
  __device__ T by(T b) const {
    return within(b, tol) ? T(1) : b;
  }
  template <class T>
  __device__ T value(T a, T b, T fill) const {
    if (within(b, tol)) return fill;
    const T q = a / b;
    return absolute(q) > T(top) && is_finite(a) ? (q < 0 ? -T(top) : T(top)) : q;
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
    return is_finite(x) ? x : x != x ? T(nan) : x < 0 ? T(neginf) : T(inf);
  }
};
struct FiniteGrad {
  template <class T>
  __device__ T operator()(T g, T x) const {
    return is_finite(x) ? g : T(0);
  }
};
struct ClampToZero {
  double tol;
  template <class T>
  __device__ T operator()(T x) const {
    return within(x, tol) && is_finite(x) ? T(0) : x;
  }
};
struct OutsideGrad {
  double tol;
  template <class T>
  __device__ T operator()(T g, T x) const {
    return within(x, tol) && is_finite(x) ? T(0) : g;
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
    return is_finite(x) && is_finite(y) && !(double(absolute(v)) < top);
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

KernelDef& define(KernelDef& k) { return pointwise_def(k, kinds::floating); }
double zone(const KernelArgs& a, int i) { return or_own(a.get<ClampToZeroParams>().abs_tol, tolerance_of(a.in[i].dtype).abs); }

}  // namespace

KEEL_CUDA_KERNEL(div_safe) {
  define(k).run([](const KernelArgs& a) {
    return a.n_in == 3 && a.in[2].present() ? lifted<Floats, 3>(a, DivFilled{division_of(a)}) : lifted<Floats, 2>(a, Div{division_of(a)});
  });
}
KEEL_CUDA_KERNEL(div_safe_backward) {
  apart_def(k).run([](const KernelArgs& a) {
    const KernelStatus s = lifted_for<3>(a, 0, DivGradA{division_of(a)});
    return s.code ? s : lifted_for<3>(a, 1, DivGradB{division_of(a)});
  });
}
KEEL_CUDA_KERNEL(sanitize) {
  define(k).run([](const KernelArgs& a) {
    const auto& p = a.get<SanitizeParams>();
    const double inf = p.keep ? HUGE_VAL : or_own(p.inf_value, largest_of(a.in[0].dtype));
    return lifted<Floats, 1>(a, Sanitize{p.nan_value, inf, p.keep || std::isnan(p.neginf_value) ? -inf : p.neginf_value});
  });
}
KEEL_CUDA_KERNEL(sanitize_backward) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 2>(a, FiniteGrad{}); });
}
KEEL_CUDA_KERNEL(clamp_to_zero) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 1>(a, ClampToZero{zone(a, 0)}); });
}
KEEL_CUDA_KERNEL(clamp_to_zero_backward) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 2>(a, OutsideGrad{zone(a, 1)}); });
}
KEEL_CUDA_KERNEL(clamp_safe) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 3>(a, Clamp{}); });
}
KEEL_CUDA_KERNEL(clamp_safe_backward) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 4>(a, ClampGrad{a.get<ClampSafeParams>().boundary_grad}); });
}
KEEL_CUDA_KERNEL(sqrt_safe) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 1>(a, Sqrt{a.get<OtherwiseParams>().otherwise}); });
}
KEEL_CUDA_KERNEL(sqrt_safe_backward) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 2>(a, SqrtGrad{}); });
}
KEEL_CUDA_KERNEL(rsqrt_safe) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 1>(a, Rsqrt{a.get<OtherwiseParams>().otherwise}); });
}
KEEL_CUDA_KERNEL(rsqrt_safe_backward) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 2>(a, RsqrtGrad{}); });
}
KEEL_CUDA_KERNEL(log_safe) {
  define(k).run([](const KernelArgs& a) {
    const auto& p = a.get<LogSafeParams>();
    return lifted<Floats, 1>(a, Log{p.otherwise, p.base, p.base == std::numbers::e ? 1 : std::log(p.base)});
  });
}
KEEL_CUDA_KERNEL(log_safe_backward) {
  define(k).run([](const KernelArgs& a) {
    const double base = a.get<LogSafeParams>().base;
    return lifted<Floats, 2>(a, LogGrad{base == std::numbers::e ? 1 : 1 / std::log(base)});
  });
}
KEEL_CUDA_KERNEL(pow_safe) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 2>(a, Pow{power(a)}); });
}
KEEL_CUDA_KERNEL(pow_safe_backward) {
  apart_def(k).run([](const KernelArgs& a) {
    const KernelStatus s = lifted_for<3>(a, 0, PowGradBase{power(a)});
    return s.code ? s : lifted_for<3>(a, 1, PowGradExponent{power(a)});
  });
}
KEEL_CUDA_KERNEL(norm_safe_backward) {
  define(k).run([](const KernelArgs& a) { return lifted<Floats, 3>(a, NormGrad{}); });
}
