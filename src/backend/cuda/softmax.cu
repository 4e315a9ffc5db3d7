// softmax, softmax_safe and log_softmax along an axis. Along the last axis a row is read once; along another, a thread takes a column. Few
// and very long rows are work for the whole device (long_softmax.cu), where it does not matter that they are few.
#include "backend/cuda/long_rows.h"
#include "backend/cuda/math.cuh"
#include "backend/cuda/softmax_axis.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <bool logarithm, bool safe = false>
struct Forward : SoftmaxOf<logarithm, safe> {
  using Of = SoftmaxOf<logarithm, safe>;
  using Of::base_of, Of::value, Of::whole_of;
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* x, Y y) {
      using C = Compute<T>;
      RowOf<T, G, P> r(x, row, n);
      if constexpr (!logarithm && P > 0 && std::is_same_v<T, C>) {
        const auto whole = Of::gather_exponentials(r);
        r.write(y + row * n, [&](int64_t, C e) { return Of::share(whole, e); });
      } else {
        const auto whole = Of::gather(r);
        r.write(y + row * n, [&](int64_t, C v) { return Of::value(whole, v); });
      }
    }
  };
  template <class T>
  static __device__ void column(int64_t, int64_t at, int64_t n, int64_t inner, const T* x, T* y) {
    using C = Compute<T>;
    C top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < n; ++k) top = MaxOf()(top, widen(x[at + k * inner]));
    top = base_of(top);
    for (int64_t k = 0; k < n; ++k) sum += exp_of(widen(x[at + k * inner]) - top);
    const auto whole = Of::whole_of(top, sum);
    for (int64_t k = 0; k < n; ++k) y[at + k * inner] = narrow<T>(Of::value(whole, C(widen(x[at + k * inner]))));
  }
};

template <bool logarithm, bool safe = false>
void define(KernelDef& k) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).stats().run([](const KernelArgs& a) {
    KernelStatus s;
    const Around v = softmax_axis(a);
    return v.inner == 1 && !a.invariant && long_softmax(a, v.outer, v.n, logarithm, safe, s) ? s
                                                                                             : run_softmax<Forward<logarithm, safe>, 1>(a);
  });
}

}  // namespace

KEEL_CUDA_KERNEL(softmax) { define<false>(k); }
KEEL_CUDA_KERNEL(softmax_safe) { define<false, true>(k); }
KEEL_CUDA_KERNEL(log_softmax) { define<true>(k); }
