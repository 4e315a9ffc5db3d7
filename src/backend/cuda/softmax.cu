// softmax and log_softmax along an axis, and their gradients. Along the last axis a row is read once; along another, a thread takes a
// column.
#include "keel/ops/softmax.h"

#include "backend/cuda/rows.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

__device__ inline float exp_of(float x) { return expf(x); }
__device__ inline double exp_of(double x) { return exp(x); }
__device__ inline float log_of(float x) { return logf(x); }
__device__ inline double log_of(double x) { return log(x); }

template <bool logarithm>
struct Forward {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    static __device__ void run(int64_t row, int64_t n, const T* x, T* y) {
      using C = Compute<T>;
      const RowOf<T, G, P> r(x, row, n);
      C top = -INFINITY, sum = 0;
      r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
      top = row_combine<G>(top, C(-INFINITY), MaxOf());
      r.each([&](int64_t, C v) { sum += exp_of(v - top); });
      sum = row_combine<G>(sum, C(0), SumOf());
      const C log_sum = logarithm ? log_of(sum) : C(0);
      r.write(y + row * n, [&](int64_t, C v) { return logarithm ? (v - top) - log_sum : exp_of(v - top) / sum; });
    }
  };
  template <class T>
  static __device__ void column(int64_t at, int64_t n, int64_t inner, const T* x, T* y) {
    using C = Compute<T>;
    C top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < n; ++k) top = MaxOf()(top, widen(x[at + k * inner]));
    for (int64_t k = 0; k < n; ++k) sum += exp_of(widen(x[at + k * inner]) - top);
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
    static __device__ void run(int64_t row, int64_t n, const T* g, const T* y, T* dx) {
      using C = Compute<T>;
      const RowOf<T, G, P> rg(g, row, n), ry(y, row, n);
      C sum = 0;
      rg.each_with(ry, [&](int64_t, C a, C b) { sum += term(a, b); });
      sum = row_combine<G>(sum, C(0), SumOf());
      rg.write_with(ry, dx + row * n, [&](int64_t, C a, C b) { return gradient(a, b, sum); });
    }
  };
  template <class T>
  static __device__ void column(int64_t at, int64_t n, int64_t inner, const T* g, const T* y, T* dx) {
    using C = Compute<T>;
    C sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += term(widen(g[at + k * inner]), widen(y[at + k * inner]));
    for (int64_t k = 0; k < n; ++k) dx[at + k * inner] = narrow<T>(gradient(widen(g[at + k * inner]), widen(y[at + k * inner]), sum));
  }
};

/// A thread a column: where it begins, its length, and the distance between its elements.
template <class K, class... A>
__global__ void __launch_bounds__(kThreads) column_kernel(int64_t outer, int64_t n, int64_t inner, A... args) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < outer * inner) K::column(i / inner * n * inner + i % inner, n, inner, args...);
}

/// A tensor as [outer, n, inner] around an axis.
struct Around {
  int64_t outer = 1, n = 1, inner = 1;
  Around(const TensorView& x, int64_t axis) {
    if (x.rank() == 0) return;
    const int a = int(axis < 0 ? axis + x.rank() : axis);
    for (int i = 0; i < a; ++i) outer *= x.dim(i);
    n = x.dim(a);
    for (int i = a + 1; i < x.rank(); ++i) inner *= x.dim(i);
  }
  unsigned blocks() const { return unsigned(ceil_div(outer * inner, kThreads)); }
};

template <bool logarithm>
void define(KernelDef& k) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).run([](const KernelArgs& a) {
    KernelStatus s;
    const Around v(a.in[0], a.get<SoftmaxParams>().axis);
    if (a.in[0].size() == 0) return s;
    use(a.device);
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      const T* x = a.in[0].ptr<T>();
      T* y = a.out[0].ptr<T>();
      if (v.inner == 1)
        return void(s = over_rows<Forward<logarithm>::template Kernel, T>(stream(a), v.outer, v.n,
                                                                          aligned16(a.in[0]) && aligned16(a.out[0]), x, y));
      column_kernel<Forward<logarithm>><<<v.blocks(), kThreads, 0, stream(a)>>>(v.outer, v.n, v.inner, x, y);
      s = launched();
    });
    return s;
  });
}
template <bool logarithm>
void define_backward(KernelDef& k) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).run([](const KernelArgs& a) {
    KernelStatus s;
    const Around v(a.in[0], a.get<SoftmaxParams>().axis);
    if (a.in[0].size() == 0) return s;
    use(a.device);
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      const T *g = a.in[0].ptr<T>(), *y = a.in[1].ptr<T>();
      T* dx = a.out[0].ptr<T>();
      const bool aligned = aligned16(a.in[0]) && aligned16(a.in[1]) && aligned16(a.out[0]);
      if (v.inner == 1) return void(s = over_rows<Backward<logarithm>::template Kernel, T>(stream(a), v.outer, v.n, aligned, g, y, dx));
      column_kernel<Backward<logarithm>><<<v.blocks(), kThreads, 0, stream(a)>>>(v.outer, v.n, v.inner, g, y, dx);
      s = launched();
    });
    return s;
  });
}

}  // namespace

KEEL_CUDA_KERNEL(softmax) { define<false>(k); }
KEEL_CUDA_KERNEL(log_softmax) { define<true>(k); }
KEEL_CUDA_KERNEL(softmax_backward) { define_backward<false>(k); }
KEEL_CUDA_KERNEL(log_softmax_backward) { define_backward<true>(k); }
