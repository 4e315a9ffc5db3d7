// softmax, softmax_safe and log_softmax along an axis, and gradients. Along the last axis a row is read once; along another, a thread
// takes a column.
#include "keel/ops/softmax.h"

#include "backend/cuda/around.cuh"
#include "backend/cuda/math.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// `safe`: zeros for a row of -inf.
template <bool logarithm, bool safe = false>
struct Forward {
  template <class C>
  static __device__ C base_of(C top) {
    return safe && top == C(-INFINITY) ? C(0) : top;
  }
  template <class C>
  static __device__ C divisor_of(C sum) {
    return safe && sum == 0 ? C(1) : sum;
  }
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* x, Y y) {
      using C = Compute<T>;
      const RowOf<T, G, P> r(x, row, n);
      C top = -INFINITY, sum = 0;
      r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
      top = base_of(row_combine<G>(top, C(-INFINITY), MaxOf()));
      r.each([&](int64_t, C v) { sum += exp_of(v - top); });
      sum = divisor_of(row_combine<G>(sum, C(0), SumOf()));
      const C log_sum = logarithm ? log_of(sum) : C(0);
      r.write(y + row * n, [&](int64_t, C v) { return logarithm ? (v - top) - log_sum : exp_of(v - top) / sum; });
    }
  };
  template <class T>
  static __device__ void column(int64_t, int64_t at, int64_t n, int64_t inner, const T* x, T* y) {
    using C = Compute<T>;
    C top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < n; ++k) top = MaxOf()(top, widen(x[at + k * inner]));
    top = base_of(top);
    for (int64_t k = 0; k < n; ++k) sum += exp_of(widen(x[at + k * inner]) - top);
    sum = divisor_of(sum);
    const C log_sum = logarithm ? log_of(sum) : C(0);
    for (int64_t k = 0; k < n; ++k) {
      const C v = widen(x[at + k * inner]) - top;
      y[at + k * inner] = narrow<T>(logarithm ? v - log_sum : exp_of(v) / sum);
    }
  }
};

template <bool logarithm>
struct Backward {
  template <class C>
  static __device__ C term(C g, C y) {
    return logarithm ? g : g * y;
  }
  template <class C>
  static __device__ C gradient(C g, C y, C sum) {
    return logarithm ? g - exp_of(y) * sum : y * (g - sum);
  }
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* g, const T* y, Y dx) {
      using C = Compute<T>;
      const RowOf<T, G, P> rg(g, row, n), ry(y, row, n);
      C sum = 0;
      rg.each([&](int64_t, C a, C b) { sum += term(a, b); }, ry);
      sum = row_combine<G>(sum, C(0), SumOf());
      rg.write(
          dx + row * n, [&](int64_t, C a, C b) { return gradient(a, b, sum); }, ry);
    }
  };
  template <class T>
  static __device__ void column(int64_t, int64_t at, int64_t n, int64_t inner, const T* g, const T* y, T* dx) {
    using C = Compute<T>;
    C sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += term(widen(g[at + k * inner]), widen(y[at + k * inner]));
    for (int64_t k = 0; k < n; ++k) dx[at + k * inner] = narrow<T>(gradient(widen(g[at + k * inner]), widen(y[at + k * inner]), sum));
  }
};

template <class Family, size_t... i>
void define(KernelDef& k, std::index_sequence<i...>) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).stats().run([](const KernelArgs& a) {
    KernelStatus s;
    const Around v(a.in[0].shape(), a.get<SoftmaxParams>().axis);
    use(a.device);
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      const bool aligned = aligned16(a.out[0]) && (true && ... && aligned16(a.in[i]));
      s = around_watched<Family, T>(a, v, aligned, static_cast<const T*>(a.in[i].ptr<T>())...);
    });
    return s;
  });
}
template <class Family>
void define_forward(KernelDef& k) {
  define<Family>(k, std::index_sequence<0>());
}
template <class Family>
void define_backward(KernelDef& k) {
  define<Family>(k, std::index_sequence<0, 1>());
}

}  // namespace

KEEL_CUDA_KERNEL(softmax) { define_forward<Forward<false>>(k); }
KEEL_CUDA_KERNEL(softmax_safe) { define_forward<Forward<false, true>>(k); }
KEEL_CUDA_KERNEL(log_softmax) { define_forward<Forward<true>>(k); }
KEEL_CUDA_KERNEL(softmax_backward) { define_backward<Backward<false>>(k); }
KEEL_CUDA_KERNEL(log_softmax_backward) { define_backward<Backward<true>>(k); }
