// Kernels of functions of one tensor.
#include "backend/cpu/elementwise.h"

using namespace keel;
using namespace keel::cpu;

KEEL_CPU_KERNEL(abs) { unary_kernel<UnaryOp::abs, kCheap>(k, kinds::real); }
KEEL_CPU_KERNEL(sign) { unary_kernel<UnaryOp::sign, kCheap>(k, kinds::real); }
KEEL_CPU_KERNEL(square) { unary_kernel<UnaryOp::square, kCheap>(k, kinds::real); }
KEEL_CPU_KERNEL(floor) { unary_kernel<UnaryOp::floor, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(ceil) { unary_kernel<UnaryOp::ceil, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(round) { unary_kernel<UnaryOp::round, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(trunc) { unary_kernel<UnaryOp::trunc, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(sqrt) { unary_kernel<UnaryOp::sqrt, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(rsqrt) { unary_kernel<UnaryOp::rsqrt, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(reciprocal) { unary_kernel<UnaryOp::reciprocal, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(exp) { unary_kernel<UnaryOp::exp>(k, kinds::floating); }
KEEL_CPU_KERNEL(expm1) { unary_kernel<UnaryOp::expm1>(k, kinds::floating); }
KEEL_CPU_KERNEL(log) { unary_kernel<UnaryOp::log>(k, kinds::floating); }
KEEL_CPU_KERNEL(log1p) { unary_kernel<UnaryOp::log1p>(k, kinds::floating); }
KEEL_CPU_KERNEL(log2) { unary_kernel<UnaryOp::log2>(k, kinds::floating); }
KEEL_CPU_KERNEL(sin) { unary_kernel<UnaryOp::sin>(k, kinds::floating); }
KEEL_CPU_KERNEL(cos) { unary_kernel<UnaryOp::cos>(k, kinds::floating); }
KEEL_CPU_KERNEL(tan) { unary_kernel<UnaryOp::tan>(k, kinds::floating); }
KEEL_CPU_KERNEL(sinh) { unary_kernel<UnaryOp::sinh>(k, kinds::floating); }
KEEL_CPU_KERNEL(cosh) { unary_kernel<UnaryOp::cosh>(k, kinds::floating); }
KEEL_CPU_KERNEL(erf) { unary_kernel<UnaryOp::erf>(k, kinds::floating); }
KEEL_CPU_KERNEL(tanh) { unary_kernel<UnaryOp::tanh>(k, kinds::floating); }
KEEL_CPU_KERNEL(sigmoid) { unary_kernel<UnaryOp::sigmoid>(k, kinds::floating); }
KEEL_CPU_KERNEL(isnan) { unary_kernel<UnaryOp::isnan, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(isinf) { unary_kernel<UnaryOp::isinf, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(isfinite) { unary_kernel<UnaryOp::isfinite, kCheap>(k, kinds::floating); }
KEEL_CPU_KERNEL(logical_not) { unary_kernel<UnaryOp::logical_not, kCheap>(k, kinds::ordered); }
KEEL_CPU_KERNEL(bitwise_not) { unary_kernel<UnaryOp::bitwise_not, kCheap>(k, kinds::integer | kinds::boolean); }
