// layer_norm and rms_norm over trailing axes. A row is read once; a few very long ones are work for the whole device (long_norm.cu).
#include "keel/ops/norm.h"

#include "backend/cuda/long_rows.h"
#include "backend/cuda/math.cuh"
#include "backend/cuda/norm_row.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <bool centered>
struct Forward {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* x, NormOperands<centered, T> o, double eps, Y y) {
      const RowOf<T, G, P> r(x, row, n);
      const auto whole = NormOf<centered>::gather(r, eps);
      write_norm<centered>(r, whole, o.weight, o.bias, y + row * n);
      if (r.lane == 0) o.keep(row, whole);
    }
  };
};

template <bool centered>
void define(KernelDef& k) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).stats().run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<LayerNormParams>();
    const TensorView& x = a.in[0];
    int64_t rows = 1, n = 1;
    for (int i = 0; i < x.rank(); ++i) (i < x.rank() - p.axes ? rows : n) *= x.dim(i);
    use(a.device);
    if (a.invariant || !long_norm(a, rows, n, centered, p.eps, s))
      Floats::call(x.dtype, [&](auto t) {
        using T = decltype(t);
        const NormOperands<centered, T> o(a);
        s = over_rows_watched<Forward<centered>::template Kernel, T>(a, rows, n, o.aligned(a), static_cast<const T*>(x.ptr<T>()), o, p.eps,
                                                                     Marked<T>{a.out[0].ptr<T>()});
      });
    return s.code ? s : watch(a, 1);
  });
}

}  // namespace

KEEL_CUDA_KERNEL(layer_norm) { define<true>(k); }
KEEL_CUDA_KERNEL(rms_norm) { define<false>(k); }
