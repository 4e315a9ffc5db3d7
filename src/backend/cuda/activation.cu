// Activations and their backward forms, in the formulas of the rows (src/ops/activation.cpp).
#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/elementwise.h"

using namespace keel;
using namespace keel::cuda;

namespace {

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

}  // namespace

template <>
inline constexpr bool keel::cuda::kWatched<Relu> = true;
template <>
inline constexpr bool keel::cuda::kWatched<ReluBackward> = true;
template <>
inline constexpr bool keel::cuda::kWatched<Gelu0> = true;
template <>
inline constexpr bool keel::cuda::kWatched<GeluTanh> = true;
template <>
inline constexpr bool keel::cuda::kWatched<Gelu0Backward> = true;
template <>
inline constexpr bool keel::cuda::kWatched<GeluTanhBackward> = true;
template <>
inline constexpr bool keel::cuda::kWatched<Silu> = true;
template <>
inline constexpr bool keel::cuda::kWatched<SiluBackward> = true;

namespace {

template <class F>
void define_unary(KernelDef& k) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) { return unary<Floats>(a, F{}); });
}
template <class F>
void define_backward(KernelDef& k) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) { return binary<Floats>(a, F{}); });
}

}  // namespace

KEEL_CUDA_KERNEL(relu) {
  pointwise_def(k, kinds::real).stats().run([](const KernelArgs& a) { return unary<Reals>(a, Relu{}); });
}
KEEL_CUDA_KERNEL(relu_backward) { define_backward<ReluBackward>(k); }
KEEL_CUDA_KERNEL(tanh_backward) { define_backward<TanhBackward>(k); }
KEEL_CUDA_KERNEL(sigmoid) { define_unary<Sigmoid>(k); }
KEEL_CUDA_KERNEL(sigmoid_backward) { define_backward<SigmoidBackward>(k); }
KEEL_CUDA_KERNEL(silu) { define_unary<Silu>(k); }
KEEL_CUDA_KERNEL(silu_backward) { define_backward<SiluBackward>(k); }
KEEL_CUDA_KERNEL(gelu) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) {
    return a.get<GeluParams>().approximate == Gelu::tanh ? unary<Floats>(a, GeluTanh{}) : unary<Floats>(a, Gelu0{});
  });
}
KEEL_CUDA_KERNEL(gelu_backward) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) {
    return a.get<GeluParams>().approximate == Gelu::tanh ? binary<Floats>(a, GeluTanhBackward{}) : binary<Floats>(a, Gelu0Backward{});
  });
}
KEEL_CUDA_KERNEL(leaky_relu) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) { return unary<Floats>(a, LeakyRelu{a.get<LeakyReluParams>().slope}); });
}
KEEL_CUDA_KERNEL(leaky_relu_backward) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) {
    return binary<Floats>(a, LeakyReluBackward{a.get<LeakyReluParams>().slope});
  });
}
KEEL_CUDA_KERNEL(elu) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) { return unary<Floats>(a, Elu{a.get<EluParams>().alpha, 1}); });
}
KEEL_CUDA_KERNEL(elu_backward) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) { return binary<Floats>(a, EluBackward{a.get<EluParams>().alpha, 1}); });
}
KEEL_CUDA_KERNEL(selu) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) { return unary<Floats>(a, Elu{kSeluAlpha, kSeluScale}); });
}
KEEL_CUDA_KERNEL(selu_backward) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) { return binary<Floats>(a, EluBackward{kSeluAlpha, kSeluScale}); });
}
KEEL_CUDA_KERNEL(softplus) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) {
    const auto& p = a.get<SoftplusParams>();
    return unary<Floats>(a, Softplus{p.beta, p.threshold});
  });
}
KEEL_CUDA_KERNEL(softplus_backward) {
  pointwise_def(k, kinds::floating).stats().run([](const KernelArgs& a) {
    const auto& p = a.get<SoftplusParams>();
    return binary<Floats>(a, SoftplusBackward{p.beta, p.threshold});
  });
}
KEEL_CUDA_KERNEL(hardswish) { define_unary<Hardswish>(k); }
KEEL_CUDA_KERNEL(hardswish_backward) { define_backward<HardswishBackward>(k); }
KEEL_CUDA_KERNEL(mish) { define_unary<Mish>(k); }
KEEL_CUDA_KERNEL(mish_backward) { define_backward<MishBackward>(k); }
