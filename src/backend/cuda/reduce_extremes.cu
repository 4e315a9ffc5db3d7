// max and min.
#include "backend/cuda/reduce.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// NaN wins.
template <class T, class Largest>
struct Extreme {
  Largest largest;
  using In = T;
  using Out = T;
  using A = std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_floating_point_v<T>, double, T>,
                               std::conditional_t<std::is_integral_v<T>, int64_t, float>>;
  __device__ A empty() const {
    if constexpr (std::is_floating_point_v<A>)
      return largest ? A(-INFINITY) : A(INFINITY);
    else if constexpr (std::is_same_v<A, uint64_t>)
      return largest ? 0 : ~uint64_t(0);
    else
      return largest ? INT64_MIN : INT64_MAX;
  }
  using Lane = A;
  __device__ A lane() const { return empty(); }
  __device__ void take(A& a, T x, int64_t) const { a = combine(a, A(widen(x))); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return a != a ? a : b != b ? b : (a > b) == largest ? a : b; }
  __device__ T finish(A a, int64_t) const { return out_of<T>(a); }
};
template <bool largest>
void define_extreme(KernelDef& k) {
  reduction<ReduceParams>(k, kinds::real).run([](const KernelArgs& a) {
    KernelStatus s;
    Reals::call(a.in[0].dtype,
                [&]<class T>(T) { s = reduce(a, a.get<ReduceParams>().axis, Extreme<T, Wanted<T, largest>>{wanted<T, largest>()}); });
    return s;
  });
}

}  // namespace

KEEL_CUDA_KERNEL(max) { define_extreme<true>(k); }
KEEL_CUDA_KERNEL(min) { define_extreme<false>(k); }
