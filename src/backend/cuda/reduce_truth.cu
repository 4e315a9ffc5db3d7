// any and all.
#include "backend/cuda/reduce.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class T, bool every>
struct Truth {
  using In = T;
  using Out = bool;
  using A = uint32_t;
  __device__ A empty() const { return every; }
  using Lane = A;
  __device__ A lane() const { return every; }
  __device__ void take(A& a, T x, int64_t) const { a = combine(a, widen(x) != 0); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return every ? a & b : a | b; }
  __device__ bool finish(A a, int64_t) const { return a != 0; }
};
template <bool every>
void define_truth(KernelDef& k) {
  reduction<AllParams>(k, kinds::ordered).run([](const KernelArgs& a) {
    KernelStatus s;
    Ordered::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<AllParams>().axis, Truth<decltype(t), every>{}); });
    return s;
  });
}

}  // namespace

KEEL_CUDA_KERNEL(any) { define_truth<false>(k); }
KEEL_CUDA_KERNEL(all) { define_truth<true>(k); }
