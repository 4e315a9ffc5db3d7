// Exponentials, logarithms, trigonometric functions and their kin.
#include "backend/cuda/element.cuh"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::element;

namespace {

template <class F>
void define(KernelDef& k) {
  pointwise_def(k, kinds::floating).run([](const KernelArgs& a) { return unary<Floats>(a, F{}); });
}

}  // namespace

KEEL_CUDA_KERNEL(exp) { define<Exp>(k); }
KEEL_CUDA_KERNEL(expm1) { define<Expm1>(k); }
KEEL_CUDA_KERNEL(log) { define<Log>(k); }
KEEL_CUDA_KERNEL(log1p) { define<Log1p>(k); }
KEEL_CUDA_KERNEL(log2) { define<Log2>(k); }
KEEL_CUDA_KERNEL(sin) { define<Sin>(k); }
KEEL_CUDA_KERNEL(cos) { define<Cos>(k); }
KEEL_CUDA_KERNEL(tan) { define<Tan>(k); }
KEEL_CUDA_KERNEL(sinh) { define<Sinh>(k); }
KEEL_CUDA_KERNEL(cosh) { define<Cosh>(k); }
KEEL_CUDA_KERNEL(tanh) { define<Tanh>(k); }
KEEL_CUDA_KERNEL(erf) { define<Erf>(k); }
