// Gradients of softmax and log_softmax along an axis, as softmax.cu.
#include "backend/cuda/math.cuh"
#include "backend/cuda/softmax_axis.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <bool logarithm>
struct Backward : SoftmaxBackwardOf<logarithm> {
  using Of = SoftmaxBackwardOf<logarithm>;
  using Of::term, Of::gradient;
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* g, const T* y, Y dx) {
      using C = Compute<T>;
      const RowOf<T, G, P> rg(g, row, n), ry(y, row, n);
      const C sum = Of::gather(rg, ry);
      rg.write(
          dx + row * n, [&](int64_t, C a, C b) { return Of::value(sum, a, b); }, ry);
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

template <bool logarithm>
void define(KernelDef& k) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).stats().run(run_softmax<Backward<logarithm>, 2>);
}

}  // namespace

KEEL_CUDA_KERNEL(softmax_backward) { define<false>(k); }
KEEL_CUDA_KERNEL(log_softmax_backward) { define<true>(k); }
