// argmax and argmin.
#include "backend/cuda/reduce.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// The first of the largest (smallest); the first NaN where there is one.
template <class T, class Largest>
struct Where {
  Largest largest;
  using In = T;
  using Out = int64_t;
  struct A {
    Compute<T> value;
    int64_t index;
  };
  __device__ A empty() const { return {0, -1}; }
  using Lane = A;
  __device__ A lane() const { return empty(); }
  __device__ void take(A& a, T x, int64_t i) const {
    const Compute<T> v = widen(x);
    if (a.index < 0 || (largest ? v > a.value : v < a.value) || (v != v && a.value == a.value)) a = {v, i};
  }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const {
    if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
    const bool na = a.value != a.value, nb = b.value != b.value;
    const bool first = na || nb             ? (na && nb ? a.index < b.index : na)
                       : a.value == b.value ? a.index < b.index
                                            : (a.value > b.value) == largest;
    return first ? a : b;
  }
  __device__ int64_t finish(A a, int64_t) const { return a.index; }
};

template <bool largest>
void define_where(KernelDef& k) {
  reduction<ArgParams>(k, kinds::real).run([](const KernelArgs& a) {
    KernelStatus s;
    Reals::call(a.in[0].dtype,
                [&]<class T>(T) { s = reduce(a, a.get<ArgParams>().axis, Where<T, Wanted<T, largest>>{wanted<T, largest>()}); });
    return s;
  });
}

}  // namespace

KEEL_CUDA_KERNEL(argmax) { define_where<true>(k); }
KEEL_CUDA_KERNEL(argmin) { define_where<false>(k); }
