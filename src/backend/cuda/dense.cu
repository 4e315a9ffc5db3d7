// Dense layers with gelu behind them, in f16 and bf16, as products that end in the bias and in gelu's tanh form; where cuBLASLt has no
// algorithm that ends so, the plain product and a pass. Products that end in the slope of gelu, or in the sums for a bias, it makes in two
// kernels, of which the second is slower than ours: the gradient is a product and one pass for the slope and the sums.
#include "backend/cuda/gemm.h"
#include "backend/cuda/math.cuh"
#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/sum_parts.cuh"
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
/// gelu's slope at x in its tanh form: with u = sqrt(2 / pi) (x + 0.044715 x^3) and s = 1 / (1 + exp(-2 u)), s + 2 x s (1 - s) du/dx, to
/// some 1e-6. Beyond x^2 = 1e10 all is decided, and larger squares would be infinite.
__device__ __forceinline__ float slope_at(float x) {
  constexpr float k = kRoot2OverPi, two_log2e = 2.88539008177792681472f;
  const float square = fminf(x * x, 1e10f), down = -fabsf(x) * fmaf(square, kCubic * k * two_log2e, k * two_log2e);  // log2 of exp(-2 |u|)
  float e, r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(down));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1 + e));
  const float other = e * r;
  return fmaf(x * (other * r), fmaf(square, 6 * kCubic * k, 2 * k), x < 0 ? other : r);
}
/// How [rows, n] is cut: a block takes 32 packs of V columns and `share` rows, eight at a time.
struct Cut {
  int64_t rows, n, share, across, parts;
  Cut(int64_t r, int64_t columns, int vector, int processors) : rows(r), n(columns), across(ceil_div(columns, 32 * vector)) {
    parts = std::max<int64_t>(1, std::min(ceil_div(int64_t(8) * processors, across), ceil_div(rows, 32)));
    share = ceil_div(ceil_div(rows, parts), 32) * 32, parts = ceil_div(rows, share);
  }
};
/// d = d times the slope of gelu at h, and where `sums` is there, the sums of the columns of what is written, one row a part.
template <class T, int V>
__global__ void __launch_bounds__(kThreads) slope_pass(Cut c, const Pack<T, V>* h, Pack<T, V>* d, float* sums) {
  constexpr int ahead = 4;
  const int64_t width = c.n / V, at = int64_t(blockIdx.x) * 32 + threadIdx.x, from = int64_t(blockIdx.y) * c.share,
                to = from + c.share < c.rows ? from + c.share : c.rows;
  float sum[V] = {};
  if (at < width)
    for (int64_t r = from + threadIdx.y; r < to; r += 8 * ahead) {
      Pack<T, V> p[ahead], q[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k)
        if (const int64_t row = r + k * 8; row < to) p[k] = d[row * width + at], q[k] = h[row * width + at];
#pragma unroll
      for (int k = 0; k < ahead; ++k) {
        const int64_t row = r + k * 8;
        if (row >= to) break;
#pragma unroll
        for (int i = 0; i < V; ++i) {
          p[k].v[i] = narrow<T>(float(widen(p[k].v[i])) * slope_at(widen(q[k].v[i])));
          sum[i] += float(widen(p[k].v[i]));
        }
        d[row * width + at] = p[k];
      }
    }
  if (!sums) return;
  __shared__ float all[V][kThreads];
  const int me = int(threadIdx.y) * 32 + int(threadIdx.x);
#pragma unroll
  for (int i = 0; i < V; ++i) all[i][me] = sum[i];
  __syncthreads();
  for (int k = me; k < 32 * V; k += kThreads) {  // column k of the block
    float total = 0;
    for (int lane = 0; lane < 8; ++lane) total += all[k % V][lane * 32 + k / V];
    if (const int64_t column = int64_t(blockIdx.x) * 32 * V + k; column < c.n) sums[blockIdx.y * c.n + column] = total;
  }
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
  p.dtype = w.dtype, p.invariant = a.invariant, p.tf32 = a.tf32, p.k = w.dim(1), p.n = w.dim(0), p.m = rows;
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
KEEL_CUDA_KERNEL(linear_gelu_backward) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) { return refuse_small(in, {1}); })
      .workspace([](const KernelArgs& a) {
        const Cut c(rows_of(a.in[2]), a.in[1].dim(1), 8, processors(a.device));  // narrower vectors need fewer parts
        return a.get<LinearGradientParams>().need_bias ? size_t(c.parts * c.n) * sizeof(float) : size_t(0);
      })
      .run([](const KernelArgs& a) {
        use(a.device);
        const TensorView &w = a.in[1], &hidden = a.in[2];
        Product p;
        p.dtype = w.dtype, p.invariant = a.invariant, p.tf32 = a.tf32, p.k = w.dim(0), p.n = w.dim(1), p.m = rows_of(hidden);
        p.a = a.in[0].data, p.b = w.data, p.c = a.out[0].data, p.ldc = p.n;
        p.a_row = p.k, p.a_column = 1, p.b_row = p.n, p.b_column = 1;
        if (const KernelStatus s = multiply(p, a.device, stream(a)); s.code) return s;
        const bool vectors = (reinterpret_cast<uintptr_t>(hidden.data) | reinterpret_cast<uintptr_t>(p.c)) % 16 == 0;
        auto* parts = a.get<LinearGradientParams>().need_bias ? static_cast<float*>(a.workspace) : nullptr;
        return in_halves(p.dtype, [&](auto t) {
          using T = decltype(t);
          const auto go = [&]<int V>(std::integral_constant<int, V>) {
            const Cut c(p.m, p.n, V, processors(a.device));
            slope_pass<T, V><<<dim3(unsigned(c.across), unsigned(c.parts)), dim3(32, 8), 0, stream(a)>>>(
                c, static_cast<const Pack<T, V>*>(hidden.data), static_cast<Pack<T, V>*>(p.c), parts);
            if (parts) add_parts(p.n, c.parts, parts, a.out[1].ptr<T>(), stream(a));
          };
          vectors ? go(std::integral_constant<int, 8>()) : go(std::integral_constant<int, 1>());
        });
      });
}
