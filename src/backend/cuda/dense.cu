// Dense layers with gelu behind them and their gradients, in f16 and bf16, as products that end in what follows: the bias, gelu in its tanh
// form, its slope, the sums for a bias. Where cuBLASLt has no algorithm that ends so, the plain product and a pass.
#include "backend/cuda/gemm.h"
#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"
#include "keel/ops/matmul.h"

using namespace keel;
using namespace keel::cuda;

namespace {

using Halves = TypeList<half, bfloat>;

constexpr float kCubic = 0.044715f, kRoot2OverPi = 0.79788456080286535588f;
__device__ __forceinline__ float inner_of(float x) { return x * (x * x * kCubic + 1) * kRoot2OverPi; }
template <class T>
__global__ void __launch_bounds__(kThreads) gelu_pass(int64_t n, const T* h, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const float x = widen(h[i]);
  y[i] = narrow<T>(x * 0.5f * (tanhf(inner_of(x)) + 1));
}
/// d = d times the slope of gelu at h.
template <class T>
__global__ void __launch_bounds__(kThreads) slope_pass(int64_t n, const T* h, T* d) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const float x = widen(h[i]), t = tanhf(inner_of(x)), inner = (x * x * (3 * kCubic) + 1) * kRoot2OverPi;
  d[i] = narrow<T>(float(widen(d[i])) * ((t + 1) * 0.5f + x * 0.5f * ((1 - t) * (t + 1)) * inner));
}
/// Sums of the columns of g [rows, n], 32 columns and `share` rows a block; `last`: of the parts that the first launch made.
struct Columns {
  int64_t rows, n, share, parts;
  Columns(int64_t r, int64_t columns) : rows(r), n(columns), share(std::max<int64_t>(ceil_div(r, 64), 256)), parts(ceil_div(r, share)) {}
  size_t bytes() const { return size_t(parts * n) * sizeof(float); }
  Columns of_parts() const {
    Columns c(*this);
    return c.rows = c.share = parts, c.parts = 1, c;
  }
};
template <class From, class To>
__global__ void __launch_bounds__(kThreads) column_sums(Columns c, const From* g, To* sums) {
  const int column = int(threadIdx.x % 32), lane = int(threadIdx.x / 32);
  const int64_t i = int64_t(blockIdx.x) * 32 + column, from = int64_t(blockIdx.y) * c.share,
                to = from + c.share < c.rows ? from + c.share : c.rows;
  float sum = 0;
  if (i < c.n)
    for (int64_t r = from + lane; r < to; r += kThreads / 32) sum += widen(g[r * c.n + i]);
  __shared__ float all[kThreads];
  all[threadIdx.x] = sum;
  __syncthreads();
  if (lane || i >= c.n) return;
  for (int k = 1; k < kThreads / 32; ++k) sum += all[k * 32 + column];
  sums[blockIdx.y * c.n + i] = narrow<To>(sum);
}

template <class F>
KernelStatus in_halves(DType t, F f) {
  Halves::call(t, f);
  return launched();
}
unsigned blocks_for(int64_t n) { return unsigned(ceil_div(n, kThreads)); }

/// out[m, n] = x[m, k] w[n, k]^T + bias.
Product dense(const KernelArgs& a, const void* x, int64_t rows, int weight, int bias, void* out) {
  const TensorView& w = a.in[weight];
  Product p;
  p.dtype = w.dtype, p.k = w.dim(1), p.n = w.dim(0), p.m = rows;
  p.a = x, p.b = w.data, p.c = out, p.ldc = p.n;
  p.a_row = p.k, p.a_column = 1, p.b_row = 1, p.b_column = p.k;
  if (bias < a.n_in && a.in[bias].present()) p.bias = a.in[bias].data;
  return p;
}
/// gelu of a dense layer; its argument goes to `hidden` where that is there.
KernelStatus with_gelu(const KernelArgs& a, Product p, void* hidden) {
  p.after = After::gelu, p.inner = hidden;
  KernelStatus s;
  if (multiplied(p, a.device, stream(a), s)) return s;
  void* const y = p.c;
  p.after = After::nothing, p.inner = nullptr;
  if (hidden) p.c = hidden;
  if (s = multiply(p, a.device, stream(a)); s.code) return s;
  return in_halves(p.dtype, [&](auto t) {
    using T = decltype(t);
    gelu_pass<T><<<blocks_for(p.m * p.n), kThreads, 0, stream(a)>>>(p.m * p.n, static_cast<const T*>(p.c), static_cast<T*>(y));
  });
}
KernelStatus sum_columns(const KernelArgs& a, DType dtype, int64_t rows, int64_t n, const void* g, void* sums) {
  return in_halves(dtype, [&](auto t) {
    using T = decltype(t);
    const Columns c(rows, n);
    auto* parts = static_cast<float*>(a.workspace);
    const auto tiles = unsigned(ceil_div(n, 32));
    column_sums<T, float><<<dim3(tiles, unsigned(c.parts)), kThreads, 0, stream(a)>>>(c, static_cast<const T*>(g), parts);
    column_sums<float, T><<<tiles, kThreads, 0, stream(a)>>>(c.of_parts(), parts, static_cast<T*>(sums));
  });
}
int64_t rows_of(const TensorView& x) { return x.size() / x.dim(x.rank() - 1); }

const char* refuse_small(Specs in, std::initializer_list<int> weights) {
  if (in[0].dtype != DType::f16 && in[0].dtype != DType::bf16) return "products of this dtype end in nothing";
  if (in[0].shape.numel() == 0) return "no elements";
  for (int i : weights)
    for (int axis = 0; axis < 2; ++axis)
      if (in[i].shape[axis] == 0 || in[i].shape[axis] % 8) return "features that vectors of 8 do not divide";
  return nullptr;
}
void* present(const KernelArgs& a, int i) { return i < a.n_out && a.out[i].present() ? a.out[i].data : nullptr; }

}  // namespace

KEEL_CUDA_KERNEL(linear_gelu) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) { return refuse_small(in, {1}); })
      .run([](const KernelArgs& a) {
        use(a.device);
        return with_gelu(a, dense(a, a.in[0].data, rows_of(a.in[0]), 1, 2, a.out[0].data), present(a, 1));
      });
}
KEEL_CUDA_KERNEL(feed_forward) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) { return refuse_small(in, {1, 3}); })
      .workspace([](const KernelArgs& a) {
        return present(a, 2) ? size_t(0) : size_t(rows_of(a.in[0]) * a.in[1].dim(0)) * size_of(a.in[0].dtype);
      })
      .run([](const KernelArgs& a) {
        use(a.device);
        const int64_t rows = rows_of(a.in[0]);
        void* const activated = present(a, 2) ? present(a, 2) : a.workspace;
        const KernelStatus s = with_gelu(a, dense(a, a.in[0].data, rows, 1, 2, activated), present(a, 1));
        return s.code ? s : multiply(dense(a, activated, rows, 3, 4, a.out[0].data), a.device, stream(a));
      });
}
KEEL_CUDA_KERNEL(linear_gelu_backward) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) { return refuse_small(in, {1}); })
      .workspace([](const KernelArgs& a) {
        return a.get<LinearGradientParams>().need_bias ? Columns(rows_of(a.in[2]), a.in[1].dim(1)).bytes() : 0;
      })
      .run([](const KernelArgs& a) {
        use(a.device);
        const TensorView &w = a.in[1], &hidden = a.in[2];
        const bool sums = a.get<LinearGradientParams>().need_bias;
        Product p;
        p.dtype = w.dtype, p.k = w.dim(0), p.n = w.dim(1), p.m = rows_of(hidden);
        p.a = a.in[0].data, p.b = w.data, p.c = a.out[0].data, p.ldc = p.n;
        p.a_row = p.k, p.a_column = 1, p.b_row = p.n, p.b_column = 1;
        p.after = After::gelu_gradient, p.inner = hidden.data;
        if (sums) p.sums = a.out[1].data;
        KernelStatus s;
        if (multiplied(p, a.device, stream(a), s)) return s;
        p.sums = nullptr;
        if (!sums || !multiplied(p, a.device, stream(a), s)) {
          p.after = After::nothing, p.inner = nullptr;
          if (s = multiply(p, a.device, stream(a)); s.code) return s;
          s = in_halves(p.dtype, [&](auto t) {
            using T = decltype(t);
            slope_pass<T><<<blocks_for(p.m * p.n), kThreads, 0, stream(a)>>>(p.m * p.n, hidden.ptr<T>(), static_cast<T*>(p.c));
          });
        }
        return s.code || !sums ? s : sum_columns(a, p.dtype, p.m, p.n, p.c, a.out[1].data);
      });
}
KEEL_CUDA_KERNEL(linear_weight_backward) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) {
        const char* const why = refuse_small(in, {});
        return why || in[1].shape[1] ? why : "no features";
      })
      .workspace([](const KernelArgs& a) { return Columns(a.in[0].dim(0), a.in[0].dim(1)).bytes(); })
      .run([](const KernelArgs& a) {
        use(a.device);
        const TensorView &g = a.in[0], &x = a.in[1];
        Product p;
        p.dtype = g.dtype, p.k = g.dim(0), p.m = g.dim(1), p.n = x.dim(1);
        p.a = g.data, p.b = x.data, p.c = a.out[0].data, p.ldc = p.n;
        p.a_row = 1, p.a_column = p.m, p.b_row = p.n, p.b_column = 1;
        p.after = After::left_sums, p.sums = a.out[1].data;
        KernelStatus s;
        if (multiplied(p, a.device, stream(a), s)) return s;
        p.after = After::nothing, p.sums = nullptr;
        if (s = multiply(p, a.device, stream(a)); s.code) return s;
        return sum_columns(a, p.dtype, p.k, p.m, g.data, a.out[1].data);
      });
}
