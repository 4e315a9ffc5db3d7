// Arithmetic and comparison of two tensors. Floats have a kernel an op; integers and comparisons, which wait for memory anyway, choose
// the op inside one kernel a dtype.
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

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

}  // namespace

template <Op op>
inline constexpr bool keel::cuda::kWatched<Real<op>> = op == Op::add || op == Op::sub || op == Op::mul;

namespace {

using Wholes = TypeList<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, bool>;

template <Op op>
void define(KernelDef& k, DTypeSet dtypes) {
  pointwise_def(k, dtypes).stats().run([](const KernelArgs& a) {
    if (contains(kinds::floating, a.out[0].dtype)) return binary<Floats>(a, Real<op>{});
    KernelStatus s;
    Wholes::call(a.out[0].dtype, [&](auto t) { s = pointwise<decltype(t), decltype(t), decltype(t)>(a, Whole{op}); });
    return s;
  });
}
template <class F>
void define_float(KernelDef& k) {
  pointwise_def(k, kinds::floating).run([](const KernelArgs& a) { return binary<Floats>(a, F{}); });
}
template <class F>
void define_real(KernelDef& k) {
  pointwise_def(k, kinds::real).run([](const KernelArgs& a) {
    if (contains(kinds::floating, a.out[0].dtype)) return binary<Floats>(a, F{});
    KernelStatus s;
    Integers::call(a.out[0].dtype, [&](auto t) { s = pointwise<decltype(t), decltype(t), decltype(t)>(a, F{}); });
    return s;
  });
}
template <Op op>
void define_bits(KernelDef& k) {
  pointwise_def(k, kinds::integer | kinds::boolean).run([](const KernelArgs& a) {
    switch (size_of(a.out[0].dtype)) {
      case 1: return pointwise<uint8_t, uint8_t, uint8_t>(a, Bits<op>());
      case 2: return pointwise<uint16_t, uint16_t, uint16_t>(a, Bits<op>());
      case 4: return pointwise<uint32_t, uint32_t, uint32_t>(a, Bits<op>());
      default: return pointwise<uint64_t, uint64_t, uint64_t>(a, Bits<op>());
    }
  });
}
KernelStatus compare(const KernelArgs& a, Op op) {
  KernelStatus s;
  Ordered::call(a.in[0].dtype, [&](auto t) { s = pointwise<bool, decltype(t), decltype(t)>(a, Compare{op}); });
  return s;
}
template <Op op>
void define_test(KernelDef& k) {
  pointwise_def(k, kinds::ordered).run([](const KernelArgs& a) { return compare(a, op); });
}

}  // namespace

KEEL_CUDA_KERNEL(add) { define<Op::add>(k, kinds::ordered); }
KEEL_CUDA_KERNEL(sub) { define<Op::sub>(k, kinds::real); }
KEEL_CUDA_KERNEL(mul) { define<Op::mul>(k, kinds::ordered); }
KEEL_CUDA_KERNEL(div) { define_float<Div>(k); }
KEEL_CUDA_KERNEL(maximum) { define<Op::maximum>(k, kinds::ordered); }
KEEL_CUDA_KERNEL(minimum) { define<Op::minimum>(k, kinds::ordered); }
KEEL_CUDA_KERNEL(pow) { define_float<Pow>(k); }
KEEL_CUDA_KERNEL(equal) { define_test<Op::equal>(k); }
KEEL_CUDA_KERNEL(not_equal) { define_test<Op::not_equal>(k); }
KEEL_CUDA_KERNEL(less) { define_test<Op::less>(k); }
KEEL_CUDA_KERNEL(less_equal) { define_test<Op::less_equal>(k); }
KEEL_CUDA_KERNEL(greater) { define_test<Op::greater>(k); }
KEEL_CUDA_KERNEL(greater_equal) { define_test<Op::greater_equal>(k); }
KEEL_CUDA_KERNEL(logical_and) { define_test<Op::logical_and>(k); }
KEEL_CUDA_KERNEL(logical_or) { define_test<Op::logical_or>(k); }
KEEL_CUDA_KERNEL(logical_xor) { define_test<Op::logical_xor>(k); }
KEEL_CUDA_KERNEL(floor_divide) { define_real<FloorDivide>(k); }
KEEL_CUDA_KERNEL(remainder) { define_real<Remainder>(k); }
KEEL_CUDA_KERNEL(bitwise_and) { define_bits<Op::logical_and>(k); }
KEEL_CUDA_KERNEL(bitwise_or) { define_bits<Op::logical_or>(k); }
KEEL_CUDA_KERNEL(bitwise_xor) { define_bits<Op::logical_xor>(k); }
