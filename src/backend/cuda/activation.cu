// Activations and their backward forms.
#include "backend/cuda/element.cuh"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/elementwise.h"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::element;

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
