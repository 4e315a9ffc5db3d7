// Arithmetic and comparison of two tensors. Floats have a kernel an op; integers and comparisons, which wait for memory anyway, choose
// the op inside one kernel a dtype.
#include "backend/cuda/element.cuh"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;
using namespace keel::cuda::element;

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
