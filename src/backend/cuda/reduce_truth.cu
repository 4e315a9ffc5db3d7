// any and all: a search for a number that is not 0, or for one that is. Either is a matter of its bits but the sign of a float.
#include "backend/cuda/reduce.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// `every`: all. U: an unsigned type of the number's size; `mask`: the bits that count.
template <class U>
struct Truth {
  using In = U;
  using Out = bool;
  using A = uint32_t;  // whether what decides was found
  U mask;
  bool every;
  __device__ A empty() const { return 0; }
  using Lane = A;
  __device__ A lane() const { return 0; }
  __device__ void take(A& a, U x, int64_t) const { a |= A(((x & mask) != 0) != every); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return a | b; }
  __device__ bool finish(A a, int64_t) const { return (a != 0) != every; }
};
template <bool every>
void define_truth(KernelDef& k) {
  reduction<AllParams>(k, kinds::ordered).run([](const KernelArgs& a) {
    const Dims& axes = a.get<AllParams>().axis;
    const auto run = [&](auto all) {
      using U = decltype(all);
      const U sign = contains(kinds::floating, a.in[0].dtype) ? U(U(1) << (8 * sizeof(U) - 1)) : U(0);
      return reduce(a, axes, Truth<U>{U(~sign), every});
    };
    switch (size_of(a.in[0].dtype)) {
      case 1: return run(uint8_t());
      case 2: return run(uint16_t());
      case 4: return run(uint32_t());
      default: return run(uint64_t());
    }
  });
}

}  // namespace

KEEL_CUDA_KERNEL(any) { define_truth<false>(k); }
KEEL_CUDA_KERNEL(all) { define_truth<true>(k); }
