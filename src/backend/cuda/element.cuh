#pragma once
// What elementwise ops compute of one element each, under a name: kernels of single ops are made of these, and so are kernels of chains
// (fuse_source.cpp), which therefore give the same bits. Standard headers stay out.
#include "backend/cuda/math.cuh"

namespace keel::cuda::element {

// ---- one operand ----

/// One overload a precision; f32 functions are CUDA's own, with the errors of its mathematical functions table.
#define KEEL_REAL_FUNCTION(NAME, F32, F64)                       \
  struct NAME {                                                  \
    __device__ float operator()(float x) const { return F32; }   \
    __device__ double operator()(double x) const { return F64; } \
  };
KEEL_REAL_FUNCTION(Exp, expf(x), exp(x))
KEEL_REAL_FUNCTION(Expm1, expm1f(x), expm1(x))
KEEL_REAL_FUNCTION(Log, logf(x), log(x))
KEEL_REAL_FUNCTION(Log1p, log1pf(x), log1p(x))
KEEL_REAL_FUNCTION(Log2, log2f(x), log2(x))
KEEL_REAL_FUNCTION(Sqrt, __fsqrt_rn(x), sqrt(x))
KEEL_REAL_FUNCTION(Rsqrt, __fdiv_rn(1.0f, __fsqrt_rn(x)), 1.0 / sqrt(x))
KEEL_REAL_FUNCTION(Reciprocal, __fdiv_rn(1.0f, x), 1.0 / x)
KEEL_REAL_FUNCTION(Sin, sinf(x), sin(x))
KEEL_REAL_FUNCTION(Cos, cosf(x), cos(x))
KEEL_REAL_FUNCTION(Tan, tanf(x), tan(x))
KEEL_REAL_FUNCTION(Sinh, sinhf(x), sinh(x))
KEEL_REAL_FUNCTION(Cosh, coshf(x), cosh(x))
KEEL_REAL_FUNCTION(Tanh, tanhf(x), tanh(x))
KEEL_REAL_FUNCTION(Erf, erff(x), erf(x))
KEEL_REAL_FUNCTION(Floor, floorf(x), floor(x))
KEEL_REAL_FUNCTION(Ceil, ceilf(x), ceil(x))
KEEL_REAL_FUNCTION(Round, rintf(x), rint(x))
KEEL_REAL_FUNCTION(Trunc, truncf(x), trunc(x))
#undef KEEL_REAL_FUNCTION

struct Abs {
  __device__ float operator()(float x) const { return fabsf(x); }
  __device__ double operator()(double x) const { return fabs(x); }
  template <class T>
  __device__ T operator()(T x) const {
    if constexpr (std::is_signed_v<T>)
      return x < 0 ? T(0 - std::make_unsigned_t<T>(x)) : x;
    else
      return x;
  }
};
struct Sign {
  template <class T>
  __device__ T operator()(T x) const {
    if constexpr (std::is_unsigned_v<T>)
      return x ? T(1) : T(0);
    else
      return x > 0 ? T(1) : x < 0 ? T(-1) : x;
  }
};
struct Neg {
  template <class T>
  __device__ T operator()(T x) const {
    if constexpr (std::is_integral_v<T>)
      return T(0 - std::make_unsigned_t<T>(x));
    else
      return -x;
  }
};
struct Square {
  template <class T>
  __device__ T operator()(T x) const {
    if constexpr (std::is_integral_v<T>)
      return T(uint64_t(x) * uint64_t(x));
    else
      return x * x;
  }
};

/// Predicates of floats.
template <class F>
struct Test {
  F f;
  template <class T>
  __device__ bool operator()(T x) const {
    return f(widen(x));
  }
};
struct IsNan {
  template <class T>
  __device__ bool operator()(T x) const {
    return x != x;
  }
};
struct IsInf {
  template <class T>
  __device__ bool operator()(T x) const {
    return isinf(x);
  }
};
struct IsFinite {
  template <class T>
  __device__ bool operator()(T x) const {
    return isfinite(x);
  }
};
struct IsZero {
  template <class T>
  __device__ bool operator()(T x) const {
    return x == T(0);
  }
};
struct BitNot {
  template <class T>
  __device__ T operator()(T x) const {
    if constexpr (std::is_same_v<T, bool>)
      return !x;
    else
      return T(~x);
  }
};

// ---- two operands ----

enum class Op : uint8_t {
  add,
  sub,
  mul,
  maximum,
  minimum,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  logical_and,
  logical_or,
  logical_xor
};

template <Op op>
struct Real {
  template <class T>
  __device__ T operator()(T a, T b) const {
    if constexpr (op == Op::add)
      return a + b;
    else if constexpr (op == Op::sub)
      return a - b;
    else if constexpr (op == Op::mul)
      return a * b;
    else {  // NaN wins; +0 is above -0
      if (a != a || b != b) return a != a ? a : b;
      const bool first = a == b ? signbit(b) : a > b;
      return first == (op == Op::maximum) ? a : b;
    }
  }
};
struct Div {
  __device__ float operator()(float a, float b) const { return __fdiv_rn(a, b); }
  __device__ double operator()(double a, double b) const { return a / b; }
};
struct Pow {
  __device__ float operator()(float a, float b) const { return powf(a, b); }
  __device__ double operator()(double a, double b) const { return pow(a, b); }
};

/// Python's: the remainder has the sign of b, the quotient is rounded down.
struct Remainder {
  static __device__ float rest(float a, float b) { return fmodf(a, b); }
  static __device__ double rest(double a, double b) { return fmod(a, b); }
  template <class T>
  __device__ T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      const T m = rest(a, b);
      if (m != 0 && (m < 0) != (b < 0)) return m + b;
      return m == 0 && b != 0 ? T(copysign(T(0), b)) : m;
    } else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return 0;
        const T m = T(a % b);
        return m != 0 && (m < 0) != (b < 0) ? T(m + b) : m;
      } else {
        return T(a % b);
      }
    }
  }
};
struct FloorDivide {
  template <class T>
  __device__ T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (b == 0) return Div()(a, b);
      const T m = Remainder::rest(a, b);
      T q = Div()(a - m, b);
      if (m != 0 && (m < 0) != (b < 0)) q -= 1;
      return q == 0 ? T(copysign(T(0), Div()(a, b))) : T(rint(q));
    } else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return T(0 - std::make_unsigned_t<T>(a));
        return T(a / b - (a % b != 0 && (a < 0) != (b < 0)));
      } else {
        return T(a / b);
      }
    }
  }
};
template <Op op>
struct Bits {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return op == Op::logical_and ? T(a & b) : op == Op::logical_or ? T(a | b) : T(a ^ b);
  }
};

/// Integers wrap; bools add as or, multiply as and.
struct Whole {
  Op op;
  template <class T>
  __device__ T operator()(T a, T b) const {
    switch (op) {
      case Op::add: return T(uint64_t(a) + uint64_t(b));
      case Op::sub: return T(uint64_t(a) - uint64_t(b));
      case Op::mul: return T(uint64_t(a) * uint64_t(b));
      case Op::maximum: return a > b ? a : b;
      default: return a < b ? a : b;
    }
  }
};
struct Compare {
  Op op;
  template <class T>
  __device__ bool operator()(T x, T y) const {
    const auto a = widen(x), b = widen(y);
    switch (op) {
      case Op::equal: return a == b;
      case Op::not_equal: return a != b;
      case Op::less: return a < b;
      case Op::less_equal: return a <= b;
      case Op::greater: return a > b;
      case Op::greater_equal: return a >= b;
      case Op::logical_and: return a != 0 && b != 0;
      case Op::logical_or: return a != 0 || b != 0;
      default: return (a != 0) != (b != 0);
    }
  }
};

// ---- choosing, mixing, casting ----

struct Choose {
  template <class T>
  __device__ T operator()(bool c, T yes, T no) const {
    return c ? yes : no;
  }
};
/// NaN in any operand gives NaN.
struct Clamp {
  template <class T>
  __device__ T operator()(T x, T low, T high) const {
    if (x != x) return x;
    if (low != low) return low;
    if (high != high) return high;
    const T y = x < low ? low : x;
    return y > high ? high : y;
  }
};
struct Lerp {
  template <class T>
  __device__ T operator()(T a, T b, T w) const {
    return a + w * (b - a);
  }
};

template <class To>
struct Convert {
  template <class From>
  __device__ To operator()(From x) const {
    return convert<To>(x);
  }
};

// ---- activations and their gradients, in the formulas of the rows (src/ops/activation.cpp) ----

/// 1 / (1 + exp(-x)) without overflow on either side.
template <class T>
__device__ T logistic(T x) {
  const T e = exp_of(x < 0 ? x : -x);
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}
/// log(1 + exp(x)).
template <class T>
__device__ T log1pexp(T x) {
  return (x > 0 ? x : T(0)) + log1p_of(exp_of(x > 0 ? -x : x));
}

struct Relu {
  template <class T>
  __device__ T operator()(T x) const {
    return x > 0 || x != x ? x : T(0);
  }
};
struct ReluBackward {
  template <class T>
  __device__ T operator()(T g, T y) const {
    return y <= 0 ? T(0) : g;
  }
};
struct TanhBackward {
  template <class T>
  __device__ T operator()(T g, T y) const {
    return g * ((1 - y) * (1 + y));
  }
};
struct Sigmoid {
  template <class T>
  __device__ T operator()(T x) const {
    return logistic(x);
  }
};
struct SigmoidBackward {
  template <class T>
  __device__ T operator()(T g, T y) const {
    return g * (y * (1 - y));
  }
};
struct Silu {
  template <class T>
  __device__ T operator()(T x) const {
    return x * logistic(x);
  }
};
struct SiluBackward {
  template <class T>
  __device__ T operator()(T g, T x) const {
    const T s = logistic(x);
    return g * (s * (x * (1 - s) + 1));
  }
};
constexpr double kInverseRoot2 = 0.70710678118654752440, kInverseRootTau = 0.39894228040143267794, kRoot2OverPi = 0.79788456080286535588,
                 kCubic = 0.044715;
struct Gelu0 {
  template <class T>
  __device__ T operator()(T x) const {
    return T(0.5) * x * (1 + erf_of(x * T(kInverseRoot2)));
  }
};
struct Gelu0Backward {
  template <class T>
  __device__ T operator()(T g, T x) const {
    const T cdf = T(0.5) * (1 + erf_of(x * T(kInverseRoot2))), pdf = T(kInverseRootTau) * exp_of(T(-0.5) * x * x);
    return g * (cdf + x * pdf);
  }
};
struct GeluTanh {
  template <class T>
  __device__ T operator()(T x) const {
    return T(0.5) * x * (1 + tanh_of(T(kRoot2OverPi) * (x + T(kCubic) * x * x * x)));
  }
};
struct GeluTanhBackward {
  template <class T>
  __device__ T operator()(T g, T x) const {
    const T t = tanh_of(T(kRoot2OverPi) * (x + T(kCubic) * x * x * x)), inner = T(kRoot2OverPi) * (1 + 3 * T(kCubic) * x * x);
    return g * (T(0.5) * (1 + t) + T(0.5) * x * ((1 - t) * (1 + t)) * inner);
  }
};
struct LeakyRelu {
  double slope;
  template <class T>
  __device__ T operator()(T x) const {
    return x > 0 ? x : x * T(slope);
  }
};
struct LeakyReluBackward {
  double slope;
  template <class T>
  __device__ T operator()(T g, T x) const {
    return x > 0 ? g : g * T(slope);
  }
};

struct Elu {
  double alpha, scale;
  template <class T>
  __device__ T operator()(T x) const {
    return (x > 0 ? x : T(alpha) * expm1_of(x)) * T(scale);
  }
};
struct EluBackward {
  double alpha, scale;
  template <class T>
  __device__ T operator()(T g, T x) const {
    return (x > 0 ? g : g * (exp_of(x) * T(alpha))) * T(scale);
  }
};
constexpr double kSeluAlpha = 1.6732632423543772848170429916717, kSeluScale = 1.0507009873554804934193349852946;
struct Softplus {
  double beta, threshold;
  template <class T>
  __device__ T operator()(T x) const {
    const T b = x * T(beta);
    return b > T(threshold) ? x : log1pexp(b) / T(beta);
  }
};
struct SoftplusBackward {
  double beta, threshold;
  template <class T>
  __device__ T operator()(T g, T x) const {
    const T b = x * T(beta);
    return b > T(threshold) ? g : g * logistic(b);
  }
};
struct Hardswish {
  template <class T>
  __device__ T operator()(T x) const {
    const T v = x + 3;
    return x * (v != v ? v : (v < 0 ? T(0) : v > 6 ? T(6) : v) / T(6));
  }
};
struct HardswishBackward {
  template <class T>
  __device__ T operator()(T g, T x) const {
    return x <= -3 ? T(0) : x < 3 ? g * (x / T(3) + T(0.5)) : g;
  }
};
struct Mish {
  template <class T>
  __device__ T operator()(T x) const {
    return x * tanh_of(log1pexp(x));
  }
};
struct MishBackward {
  template <class T>
  __device__ T operator()(T g, T x) const {
    const T t = tanh_of(log1pexp(x));
    return g * (t + x * logistic(x) * ((1 - t) * (1 + t)));
  }
};

}  // namespace keel::cuda::element
