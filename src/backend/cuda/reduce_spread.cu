// var, stddev, logsumexp, norm.
#include "backend/cuda/reduce.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class T>
struct Variance : Spread<T> {
  using Out = T;
  double correction;
  bool root;
  Variance(double c, bool r) : correction(c), root(r) {}
  __device__ T finish(typename Spread<T>::A a, int64_t n) const {
    const double v = n == 0 ? NAN : a.squares / (double(n) - correction);
    return out_of<T>(root ? sqrt(v) : v);
  }
};
/// The maximum and the sum of exponentials below it.
template <class T>
struct LogSumExp {
  using In = T;
  using Out = T;
  using C = Compute<T>;
  struct A {
    C top, sum;
  };
  using Lane = A;
  __device__ A empty() const { return {C(-INFINITY), C(0)}; }
  __device__ A lane() const { return empty(); }
  __device__ void take(A& a, T x, int64_t) const { a = combine(a, {C(widen(x)), C(1)}); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const {
    if (b.top > a.top || b.top != b.top) {
      const A c = a;
      a = b, b = c;
    }
    if (b.sum == 0 || a.top != a.top) return a;
    // Equal tops may be infinite, where their difference is none.
    return {a.top, a.sum + (a.top == b.top ? b.sum : b.sum * exp_of(b.top - a.top))};
  }
  __device__ T finish(A a, int64_t) const { return out_of<T>(a.top == C(-INFINITY) ? a.top : a.top + log_of(a.sum)); }
};
/// Powers of magnitudes, summed; order 0 stands for infinity.
template <class T>
struct Norm : Sum<T, T> {
  using A = Compute<T>;
  double order;
  explicit Norm(double p) : order(std::isinf(p) ? 0 : p) {}
  __device__ A combine(A a, A b) const { return order == 0 ? (a != a ? a : b != b ? b : a > b ? a : b) : a + b; }
  __device__ void take(A& a, T x, int64_t) const {
    const A v = widen(x) < 0 ? -widen(x) : widen(x);
    a = combine(a, order == 2 ? v * v : order == 1 || order == 0 ? v : pow_of(v, A(order)));
  }
  __device__ T finish(A a, int64_t) const {
    return out_of<T>(order == 2 ? root_of(a) : order == 1 || order == 0 ? a : pow_of(a, A(1 / order)));
  }
};

template <bool root>
void define_variance(KernelDef& k) {
  reduction<VarParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<VarParams>();
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, p.axis, Variance<decltype(t)>(p.correction, root)); });
    return s;
  });
}

}  // namespace

KEEL_CUDA_KERNEL(var) { define_variance<false>(k); }
KEEL_CUDA_KERNEL(stddev) { define_variance<true>(k); }
KEEL_CUDA_KERNEL(logsumexp) {
  reduction<ReduceParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<ReduceParams>().axis, LogSumExp<decltype(t)>{}); });
    return s;
  });
}
KEEL_CUDA_KERNEL(norm) {
  reduction<NormParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<NormParams>();
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, p.axis, Norm<decltype(t)>(p.p)); });
    return s;
  });
}
