// Kernels of activations and of their backward forms.
#include "backend/cpu/elementwise.h"
#include "keel/ops/elementwise.h"

using namespace keel;
using namespace keel::cpu;

KEEL_CPU_KERNEL(relu) { unary_kernel<UnaryOp::relu, kCheap>(k, kinds::real); }
KEEL_CPU_KERNEL(relu_backward) { binary_kernel<BinaryOp::relu_grad>(k, kinds::floating); }
KEEL_CPU_KERNEL(tanh_backward) { binary_kernel<BinaryOp::tanh_grad, kMath>(k, kinds::floating); }
KEEL_CPU_KERNEL(sigmoid_backward) { binary_kernel<BinaryOp::sigmoid_grad, kMath>(k, kinds::floating); }
KEEL_CPU_KERNEL(selu) { unary_kernel<UnaryOp::selu>(k, kinds::floating); }
KEEL_CPU_KERNEL(selu_backward) { binary_kernel<BinaryOp::selu_grad, kMath>(k, kinds::floating); }
KEEL_CPU_KERNEL(silu) { unary_kernel<UnaryOp::silu>(k, kinds::floating); }
KEEL_CPU_KERNEL(silu_backward) { binary_kernel<BinaryOp::silu_grad, kMath>(k, kinds::floating); }
KEEL_CPU_KERNEL(hardswish) { unary_kernel<UnaryOp::hardswish>(k, kinds::floating); }
KEEL_CPU_KERNEL(hardswish_backward) { binary_kernel<BinaryOp::hardswish_grad, kMath>(k, kinds::floating); }
KEEL_CPU_KERNEL(mish) { unary_kernel<UnaryOp::mish>(k, kinds::floating); }
KEEL_CPU_KERNEL(mish_backward) { binary_kernel<BinaryOp::mish_grad, kMath>(k, kinds::floating); }
KEEL_CPU_KERNEL(leaky_relu) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_unary(a, UnaryOp::leaky_relu, &a.get<LeakyReluParams>().slope, kCheap);
  });
}
KEEL_CPU_KERNEL(leaky_relu_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_binary(a, BinaryOp::leaky_relu_grad, &a.get<LeakyReluParams>().slope, kCheap);
  });
}
KEEL_CPU_KERNEL(elu) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_unary(a, UnaryOp::elu, &a.get<EluParams>().alpha, kMath);
  });
}
KEEL_CPU_KERNEL(elu_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_binary(a, BinaryOp::elu_grad, &a.get<EluParams>().alpha, kMath);
  });
}
KEEL_CPU_KERNEL(gelu) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_unary(a, a.get<GeluParams>().approximate == Gelu::tanh ? UnaryOp::gelu_tanh : UnaryOp::gelu, nullptr, kMath);
  });
}
KEEL_CPU_KERNEL(gelu_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_binary(a, a.get<GeluParams>().approximate == Gelu::tanh ? BinaryOp::gelu_tanh_grad : BinaryOp::gelu_grad, nullptr, kMath);
  });
}
KEEL_CPU_KERNEL(softplus) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    const double args[] = {a.get<SoftplusParams>().beta, a.get<SoftplusParams>().threshold};
    return run_unary(a, UnaryOp::softplus, args, kMath);
  });
}
KEEL_CPU_KERNEL(softplus_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    const double args[] = {a.get<SoftplusParams>().beta, a.get<SoftplusParams>().threshold};
    return run_binary(a, BinaryOp::softplus_grad, args, kMath);
  });
}
