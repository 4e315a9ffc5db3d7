// Sums: sum, mean, prod.
#include "backend/cuda/reduce.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class T, class O>
struct Prod : Sum<T, O> {
  using A = Total<T>;
  __device__ A empty() const { return 1; }
  __device__ A lane() const { return 1; }
  __device__ void take(A& a, T x, int64_t) const { a *= A(widen(x)); }
  __device__ A combine(A a, A b) const { return a * b; }
};

// ---- sums over the rows of dense matrices: gradients of biases ----
bool row_major(const TensorView& x) {
  int64_t step = 1;
  for (int i = x.rank() - 1; i >= 0; --i) {
    if (x.dim(i) != 1 && x.stride(i) != step) return false;
    step *= x.dim(i);
  }
  return true;
}
/// A tensor that is summed over its leading axes, as [rows, n]; rows is 0 where it is another sum, and where it might be one over axes of
/// the only example.
struct SummedRows {
  int64_t rows = 0, n = 1, parts = 0;
  SummedRows(const KernelArgs& a, const Dims& axes) {
    const TensorView& x = a.in[0];
    if (a.invariant || axes.size() == 0 || axes.size() >= x.rank() || x.size() == 0 || !row_major(x)) return;
    bool leading[kMaxRank] = {};
    for (int64_t i : axes) leading[i < 0 ? i + x.rank() : i] = true;
    int64_t r = 1;
    for (int i = 0; i < x.rank(); ++i) {
      if (leading[i] != (i < axes.size())) return;
      (leading[i] ? r : n) *= x.dim(i);
    }
    const int64_t vector = 16 / int64_t(size_of(x.dtype));
    if (r < 512 || n < 32 || n % vector || reinterpret_cast<uintptr_t>(x.data) % 16) return;
    const int64_t tiles = ceil_div(n, 32 * vector);
    rows = r, parts = std::max<int64_t>(1, std::min(ceil_div(512, tiles), r / 64));
  }
};
/// A warp reads 32 vectors of a row, a block eight rows at a time of its part; the warps' sums are added in order.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_of_rows(int64_t rows, int64_t n, int64_t share, const T* x, float* partial) {
  constexpr int V = 16 / int(sizeof(T));
  using Vector = Pack<T, V>;
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  const int64_t first = int64_t(blockIdx.x) * 32 * V, i = first + lane * V, from = int64_t(blockIdx.y) * share,
                to = from + share < rows ? from + share : rows;
  float sum[V] = {};
  if (i < n) {
    const T* at = x + i;
    int64_t r = from + warp;
    for (; r + 24 < to; r += 32) {
      Vector k[4];
#pragma unroll
      for (int u = 0; u < 4; ++u) k[u] = *reinterpret_cast<const Vector*>(at + (r + 8 * u) * n);
#pragma unroll
      for (int u = 0; u < 4; ++u)
#pragma unroll
        for (int j = 0; j < V; ++j) sum[j] += widen(k[u].v[j]);
    }
    for (; r < to; r += 8) {
      const Vector k = *reinterpret_cast<const Vector*>(at + r * n);
#pragma unroll
      for (int j = 0; j < V; ++j) sum[j] += widen(k.v[j]);
    }
  }
  __shared__ float all[8][V][32];
#pragma unroll
  for (int j = 0; j < V; ++j) all[warp][j][lane] = sum[j];
  __syncthreads();
  const int c = int(threadIdx.x);
  if (c >= 32 * V || first + c >= n) return;
  float total = 0;
  for (int w = 0; w < 8; ++w) total += all[w][c % V][c / V];
  partial[int64_t(blockIdx.y) * n + first + c] = total;
}
template <class T>
KernelStatus sum_rows(const KernelArgs& a, const SummedRows& v) {
  constexpr int64_t V = 16 / int64_t(sizeof(T));
  static_assert(32 * V <= kThreads);
  use(a.device);
  auto* partial = static_cast<float*>(a.workspace);
  sum_of_rows<T><<<dim3(unsigned(ceil_div(v.n, 32 * V)), unsigned(v.parts)), kThreads, 0, stream(a)>>>(
      v.rows, v.n, ceil_div(v.rows, v.parts), a.in[0].ptr<T>(), partial);
  reduce_parts<Sum<T, T>>
      <<<unsigned(ceil_div(v.n, 8)), kThreads, 0, stream(a)>>>(Sum<T, T>{}, partial, v.n, v.rows, v.parts, a.out[0].ptr<T>());
  return launched();
}

/// Floats sum to a float, integers and bools to 64 bits; other results are left to the CPU.
const char* refuse_mixed(const void* params, Specs in) {
  const DType to = static_cast<const SumParams*>(params)->dtype, from = in[0].dtype;
  if (to == DType::none) return nullptr;
  return contains(kinds::floating, from) ? (to == from ? nullptr : "another dtype of the result")
                                         : (to == i64 ? nullptr : "another dtype of the result");
}
template <template <class, class> class Op>
KernelStatus sum_of(const KernelArgs& a) {
  KernelStatus s;
  const Dims& axes = a.get<SumParams>().axis;
  if (Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, axes, Op<decltype(t), decltype(t)>{}); })) return s;
  TypeList<int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, bool>::call(
      a.in[0].dtype, [&](auto t) { s = reduce(a, axes, Op<decltype(t), int64_t>{}); });
  return s;
}

}  // namespace

KEEL_CUDA_KERNEL(sum) {
  reduction<SumParams>(k, kinds::ordered)
      .refuses(refuse_mixed)
      .workspace([](const KernelArgs& a) {
        const Dims& axes = a.get<SumParams>().axis;
        const SummedRows v(a, axes);
        return std::max(reduction_workspace(a, axes, kLargestPart), size_t(v.parts * v.n) * sizeof(float));
      })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        const SummedRows v(a, a.get<SumParams>().axis);
        if (v.rows && TypeList<float, half, bfloat>::call(a.in[0].dtype, [&](auto t) { s = sum_rows<decltype(t)>(a, v); })) return s;
        return sum_of<Sum>(a);
      });
}
KEEL_CUDA_KERNEL(prod) { reduction<SumParams>(k, kinds::ordered).refuses(refuse_mixed).run(sum_of<Prod>); }
KEEL_CUDA_KERNEL(mean) {
  reduction<MeanParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<MeanParams>().axis, Sum<decltype(t), decltype(t)>{true}); });
    return s;
  });
}
