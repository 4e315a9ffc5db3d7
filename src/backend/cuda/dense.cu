// Dense layers with gelu behind them, in f16 and bf16, as products that end in the bias and in gelu's tanh form. Where cuBLASLt has no
// algorithm that ends so, the plain product and a pass. (Products that end in the slope of gelu, or in the sums for a bias, it makes in two
// kernels, of which the second is slower than ours.)
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
