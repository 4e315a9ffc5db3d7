// Gradients of layer_norm and rms_norm over trailing axes. A row is read once; sums over rows for weight and bias are made in parts of
// fixed size.
#include "backend/cuda/math.cuh"
#include "backend/cuda/norm_gradient.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <bool centered>
struct ToInput {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    using C = Compute<T>;
    template <class Y>
    static __device__ void run(int64_t row, int64_t n, const T* g, const T* x, const C* mean, const C* rstd, const T* weight, Y dx) {
      const RowOf<T, G, P> rg(g, row, n), rx(x, row, n);
      const C m = centered ? mean[row] : C(0), scale = rstd[row];
      C sum = 0, product = 0;
      rg.each(
          [&](int64_t i, C a, C v) {
            const C gw = weight ? a * widen(weight[i]) : a;
            sum += gw, product += gw * ((v - m) * scale);
          },
          rx);
      sum = centered ? row_combine<G>(sum, C(0), SumOf()) / C(n) : C(0);
      product = row_combine<G>(product, C(0), SumOf()) / C(n);
      rg.write(
          dx + row * n,
          [&](int64_t i, C a, C v) {
            const C gw = weight ? a * widen(weight[i]) : a;
            return scale * ((gw - sum) - ((v - m) * scale) * product);
          },
          rx);
    }
  };
};

/// Sums of g normal and of g over the rows of one part, for 32 columns a block.
template <class T, class C>
__global__ void __launch_bounds__(kThreads)
    column_sums(int64_t rows, int64_t n, int64_t share, const T* g, const T* x, const C* mean, const C* rstd, C* dw, C* db) {
  const int64_t i = int64_t(blockIdx.x) * 32 + threadIdx.x % 32, from = int64_t(blockIdx.y) * share,
                to = from + share < rows ? from + share : rows;
  C sum[2] = {};
  if (i < n)
    for (int64_t r = from + threadIdx.x / 32; r < to; r += kThreads / 32) {
      const C a = widen(g[r * n + i]), m = mean ? mean[r] : C(0);
      sum[0] += a * ((widen(x[r * n + i]) - m) * rstd[r]), sum[1] += a;
    }
  if (!add_warps(sum) || i >= n) return;
  if (dw) dw[blockIdx.y * n + i] = sum[0];
  if (db) db[blockIdx.y * n + i] = sum[1];
}
template <bool centered>
void define(KernelDef& k) {
  constexpr int kRstd = centered ? 3 : 2;
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* {
        const DType t = in[0].dtype, c = t == f64 ? f64 : f32;
        return in[kRstd].dtype == c && in[2].dtype == c ? nullptr : "statistics of another dtype";
      })
      .workspace([](const KernelArgs& a) -> size_t { return RowsAndColumns(a.in[1], a.get<NormBackwardParams>().axes).room(); })
      .stats()
      .run([](const KernelArgs& a) {
        KernelStatus s;
        const auto& p = a.get<NormBackwardParams>();
        const RowsAndColumns v(a.in[1], p.axes);
        use(a.device);
        if (norm_gradients_together(a, centered, s)) return s.code ? s : watch(a);  // watched or not, the same sums
        Floats::call(a.in[0].dtype, [&](auto t) {
          using T = decltype(t);
          using C = Compute<T>;
          const T *g = a.in[0].ptr<T>(), *x = a.in[1].ptr<T>(), *weight = pointer<T>(a.in, a.n_in, kRstd + 1);
          const C *mean = centered ? a.in[2].ptr<C>() : nullptr, *rstd = a.in[kRstd].ptr<C>();
          const bool aligned = aligned16(a.in[0]) && aligned16(a.in[1]) && aligned16(a.out[0]);
          if (p.need_x)
            s = over_rows_watched<ToInput<centered>::template Kernel, T>(a, v.rows, v.n, aligned, g, x, mean, rstd, weight,
                                                                         Marked<T>{a.out[0].ptr<T>()});
          T *dweight = p.need_weight ? a.out[1].ptr<T>() : nullptr, *dbias = centered && p.need_bias ? a.out[2].ptr<T>() : nullptr;
          if (s.code || v.n == 0 || !(dweight || dbias)) return;
          C *dw = static_cast<C*>(a.workspace), *db = dw + v.parts() * v.n;
          if (v.parts())
            column_sums<T, C><<<dim3(unsigned(ceil_div(v.n, 32)), unsigned(v.parts())), kThreads, 0, stream(a)>>>(
                v.rows, v.n, v.share(), g, x, mean, rstd, dweight ? dw : nullptr, dbias ? db : nullptr);
          add_parts(v.n, v.parts(), PartSums<2, C, T>{{dw, db}, {dweight, dbias}}, stream(a));
          s = launched();
        });
        return s.code ? s : watch(a, 1);
      });
}

}  // namespace

KEEL_CUDA_KERNEL(layer_norm_backward) { define<true>(k); }
KEEL_CUDA_KERNEL(rms_norm_backward) { define<false>(k); }
