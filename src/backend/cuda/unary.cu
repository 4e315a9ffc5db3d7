// Functions of one tensor but the transcendental ones (transcendental.cu).
#include "backend/cuda/element.cuh"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::element;

namespace {

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
KEEL_CUDA_KERNEL(isnan) { define_test<Floats, IsNan>(k, kinds::floating); }
KEEL_CUDA_KERNEL(isinf) { define_test<Floats, IsInf>(k, kinds::floating); }
KEEL_CUDA_KERNEL(isfinite) { define_test<Floats, IsFinite>(k, kinds::floating); }
KEEL_CUDA_KERNEL(logical_not) { define_test<Ordered, IsZero>(k, kinds::ordered); }
KEEL_CUDA_KERNEL(bitwise_not) {
  define<TypeList<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, bool>, BitNot>(k,
                                                                                                           kinds::integer | kinds::boolean);
}
