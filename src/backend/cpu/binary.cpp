// Kernels of arithmetic, comparison and logic of two tensors.
#include "backend/cpu/elementwise.h"

using namespace keel;
using namespace keel::cpu;

KEEL_CPU_KERNEL(add) { binary_kernel<BinaryOp::add>(k, kinds::any); }
KEEL_CPU_KERNEL(sub) { binary_kernel<BinaryOp::sub>(k, kinds::numeric); }
KEEL_CPU_KERNEL(mul) { binary_kernel<BinaryOp::mul>(k, kinds::numeric | kinds::boolean); }
KEEL_CPU_KERNEL(div) { binary_kernel<BinaryOp::div>(k, kinds::inexact); }
KEEL_CPU_KERNEL(neg) { unary_kernel<UnaryOp::neg, kCheap>(k, kinds::numeric); }
KEEL_CPU_KERNEL(maximum) { binary_kernel<BinaryOp::maximum>(k, kinds::ordered); }
KEEL_CPU_KERNEL(minimum) { binary_kernel<BinaryOp::minimum>(k, kinds::ordered); }
KEEL_CPU_KERNEL(pow) { binary_kernel<BinaryOp::pow, kMath>(k, kinds::real); }
KEEL_CPU_KERNEL(floor_divide) { binary_kernel<BinaryOp::floor_divide, kLibm>(k, kinds::real); }
KEEL_CPU_KERNEL(remainder) { binary_kernel<BinaryOp::remainder, kLibm>(k, kinds::real); }
KEEL_CPU_KERNEL(equal) { binary_kernel<BinaryOp::eq>(k, kinds::ordered); }
KEEL_CPU_KERNEL(not_equal) { binary_kernel<BinaryOp::ne>(k, kinds::ordered); }
KEEL_CPU_KERNEL(less) { binary_kernel<BinaryOp::lt>(k, kinds::ordered); }
KEEL_CPU_KERNEL(less_equal) { binary_kernel<BinaryOp::le>(k, kinds::ordered); }
KEEL_CPU_KERNEL(greater) { binary_kernel<BinaryOp::gt>(k, kinds::ordered); }
KEEL_CPU_KERNEL(greater_equal) { binary_kernel<BinaryOp::ge>(k, kinds::ordered); }
KEEL_CPU_KERNEL(logical_and) { binary_kernel<BinaryOp::logical_and>(k, kinds::ordered); }
KEEL_CPU_KERNEL(logical_or) { binary_kernel<BinaryOp::logical_or>(k, kinds::ordered); }
KEEL_CPU_KERNEL(logical_xor) { binary_kernel<BinaryOp::logical_xor>(k, kinds::ordered); }
KEEL_CPU_KERNEL(bitwise_and) { binary_kernel<BinaryOp::bitwise_and>(k, kinds::integer | kinds::boolean); }
KEEL_CPU_KERNEL(bitwise_or) { binary_kernel<BinaryOp::bitwise_or>(k, kinds::integer | kinds::boolean); }
KEEL_CPU_KERNEL(bitwise_xor) { binary_kernel<BinaryOp::bitwise_xor>(k, kinds::integer | kinds::boolean); }
