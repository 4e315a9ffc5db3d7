// Functions of one tensor.
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

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

template <class Types, class F>
KernelStatus test(const KernelArgs& a) {
  KernelStatus s;
  Types::call(a.in[0].dtype, [&](auto t) { s = pointwise<bool, decltype(t)>(a, Test<F>{}); });
  return s;
}
template <class Types, class F>
void define(KernelDef& k, DTypeSet dtypes) {
  pointwise_def(k, dtypes).run([](const KernelArgs& a) { return unary<Types>(a, F{}); });
}
template <class Types, class F>
void define_test(KernelDef& k, DTypeSet dtypes) {
  pointwise_def(k, dtypes).run([](const KernelArgs& a) { return test<Types, F>(a); });
}

}  // namespace

KEEL_CUDA_KERNEL(abs) { define<Reals, Abs>(k, kinds::real); }
KEEL_CUDA_KERNEL(sign) { define<Reals, Sign>(k, kinds::real); }
KEEL_CUDA_KERNEL(neg) { define<Reals, Neg>(k, kinds::real); }
KEEL_CUDA_KERNEL(square) { define<Reals, Square>(k, kinds::real); }
KEEL_CUDA_KERNEL(floor) { define<Floats, Floor>(k, kinds::floating); }
KEEL_CUDA_KERNEL(ceil) { define<Floats, Ceil>(k, kinds::floating); }
KEEL_CUDA_KERNEL(round) { define<Floats, Round>(k, kinds::floating); }
KEEL_CUDA_KERNEL(trunc) { define<Floats, Trunc>(k, kinds::floating); }
KEEL_CUDA_KERNEL(sqrt) { define<Floats, Sqrt>(k, kinds::floating); }
KEEL_CUDA_KERNEL(rsqrt) { define<Floats, Rsqrt>(k, kinds::floating); }
KEEL_CUDA_KERNEL(reciprocal) { define<Floats, Reciprocal>(k, kinds::floating); }
KEEL_CUDA_KERNEL(exp) { define<Floats, Exp>(k, kinds::floating); }
KEEL_CUDA_KERNEL(expm1) { define<Floats, Expm1>(k, kinds::floating); }
KEEL_CUDA_KERNEL(log) { define<Floats, Log>(k, kinds::floating); }
KEEL_CUDA_KERNEL(log1p) { define<Floats, Log1p>(k, kinds::floating); }
KEEL_CUDA_KERNEL(log2) { define<Floats, Log2>(k, kinds::floating); }
KEEL_CUDA_KERNEL(sin) { define<Floats, Sin>(k, kinds::floating); }
KEEL_CUDA_KERNEL(cos) { define<Floats, Cos>(k, kinds::floating); }
KEEL_CUDA_KERNEL(tan) { define<Floats, Tan>(k, kinds::floating); }
KEEL_CUDA_KERNEL(sinh) { define<Floats, Sinh>(k, kinds::floating); }
KEEL_CUDA_KERNEL(cosh) { define<Floats, Cosh>(k, kinds::floating); }
KEEL_CUDA_KERNEL(tanh) { define<Floats, Tanh>(k, kinds::floating); }
KEEL_CUDA_KERNEL(erf) { define<Floats, Erf>(k, kinds::floating); }
KEEL_CUDA_KERNEL(isnan) { define_test<Floats, IsNan>(k, kinds::floating); }
KEEL_CUDA_KERNEL(isinf) { define_test<Floats, IsInf>(k, kinds::floating); }
KEEL_CUDA_KERNEL(isfinite) { define_test<Floats, IsFinite>(k, kinds::floating); }
KEEL_CUDA_KERNEL(logical_not) { define_test<Ordered, IsZero>(k, kinds::ordered); }
KEEL_CUDA_KERNEL(bitwise_not) {
  define<TypeList<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, bool>, BitNot>(k,
                                                                                                           kinds::integer | kinds::boolean);
}
