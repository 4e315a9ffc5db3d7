// Reductions: sum, mean, prod, max, min, any, all, var, stddev, argmax, argmin.
#include "keel/ops/reduce.h"

#include <cmath>

#include "backend/cuda/math.cuh"
#include "backend/cuda/reduction.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class T>
using Total = std::conditional_t<std::is_integral_v<T>, int64_t, Compute<T>>;
template <class Out, class A>
__device__ Out out_of(A a) {
  if constexpr (std::is_same_v<Out, half>)
    return __float2half_rn(float(a));
  else if constexpr (std::is_same_v<Out, bfloat>)
    return __float2bfloat16_rn(float(a));
  else
    return Out(a);
}

template <class T, class O>
struct Sum {
  using In = T;
  using Out = O;
  using A = Total<T>;
  __device__ A empty() const { return 0; }
  using Lane = A;
  __device__ A lane() const { return 0; }
  __device__ void take(A& a, T x, int64_t) const { a += A(widen(x)); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return a + b; }
  __device__ O finish(A a, int64_t) const { return out_of<O>(a); }
};
template <class T>
struct Mean : Sum<T, T> {
  __device__ T finish(Total<T> a, int64_t n) const { return out_of<T>(a / Total<T>(n)); }
};
template <class T, class O>
struct Prod : Sum<T, O> {
  using A = Total<T>;
  __device__ A empty() const { return 1; }
  __device__ A lane() const { return 1; }
  __device__ void take(A& a, T x, int64_t) const { a *= A(widen(x)); }
  __device__ A combine(A a, A b) const { return a * b; }
};
/// NaN wins.
template <class T, bool largest>
struct Extreme {
  using In = T;
  using Out = T;
  using A = std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_floating_point_v<T>, double, T>,
                               std::conditional_t<std::is_integral_v<T>, int64_t, float>>;
  __device__ A empty() const {
    if constexpr (std::is_floating_point_v<A>)
      return largest ? A(-INFINITY) : A(INFINITY);
    else if constexpr (std::is_same_v<A, uint64_t>)
      return largest ? 0 : ~uint64_t(0);
    else
      return largest ? INT64_MIN : INT64_MAX;
  }
  using Lane = A;
  __device__ A lane() const { return empty(); }
  __device__ void take(A& a, T x, int64_t) const { a = combine(a, A(widen(x))); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return a != a ? a : b != b ? b : (a > b) == largest ? a : b; }
  __device__ T finish(A a, int64_t) const { return out_of<T>(a); }
};
template <class T, bool every>
struct Truth {
  using In = T;
  using Out = bool;
  using A = uint32_t;
  __device__ A empty() const { return every; }
  using Lane = A;
  __device__ A lane() const { return every; }
  __device__ void take(A& a, T x, int64_t) const { a = combine(a, widen(x) != 0); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const { return every ? a & b : a | b; }
  __device__ bool finish(A a, int64_t) const { return a != 0; }
};
template <class T, bool root>
struct Variance : Spread<T> {
  using Out = T;
  double correction;
  explicit Variance(double c) : correction(c) {}
  __device__ T finish(typename Spread<T>::A a, int64_t n) const {
    const double v = n == 0 ? NAN : a.squares / (double(n) - correction);
    return out_of<T>(root ? sqrt(v) : v);
  }
};
/// The first of the largest (smallest); the first NaN where there is one.
template <class T, bool largest>
struct Where {
  using In = T;
  using Out = int64_t;
  struct A {
    Compute<T> value;
    int64_t index;
  };
  __device__ A empty() const { return {0, -1}; }
  using Lane = A;
  __device__ A lane() const { return empty(); }
  __device__ void take(A& a, T x, int64_t i) const {
    const Compute<T> v = widen(x);
    if (a.index < 0 || (largest ? v > a.value : v < a.value) || (v != v && a.value == a.value)) a = {v, i};
  }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const {
    if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
    const bool na = a.value != a.value, nb = b.value != b.value;
    const bool first = na || nb             ? (na && nb ? a.index < b.index : na)
                       : a.value == b.value ? a.index < b.index
                                            : (a.value > b.value) == largest;
    return first ? a : b;
  }
  __device__ int64_t finish(A a, int64_t) const { return a.index; }
};

/// The maximum and the sum of exponentials below it.
template <class T>
struct LogSumExp {
  using In = T;
  using Out = T;
  using C = Compute<T>;
  struct A {
    C top, sum;
  };
  using Lane = A;
  __device__ A empty() const { return {C(-INFINITY), C(0)}; }
  __device__ A lane() const { return empty(); }
  __device__ void take(A& a, T x, int64_t) const { a = combine(a, {C(widen(x)), C(1)}); }
  __device__ A done(A a) const { return a; }
  __device__ A combine(A a, A b) const {
    if (b.top > a.top || b.top != b.top) {
      const A c = a;
      a = b, b = c;
    }
    if (b.sum == 0 || a.top != a.top) return a;
    // Equal tops may be infinite, where their difference is none.
    return {a.top, a.sum + (a.top == b.top ? b.sum : b.sum * exp_of(b.top - a.top))};
  }
  __device__ T finish(A a, int64_t) const { return out_of<T>(a.top == C(-INFINITY) ? a.top : a.top + log_of(a.sum)); }
};
/// Powers of magnitudes, summed; order 0 stands for infinity.
template <class T>
struct Norm : Sum<T, T> {
  using A = Compute<T>;
  double order;
  explicit Norm(double p) : order(std::isinf(p) ? 0 : p) {}
  __device__ A combine(A a, A b) const { return order == 0 ? (a != a ? a : b != b ? b : a > b ? a : b) : a + b; }
  __device__ void take(A& a, T x, int64_t) const {
    const A v = widen(x) < 0 ? -widen(x) : widen(x);
    a = combine(a, order == 2 ? v * v : order == 1 || order == 0 ? v : pow_of(v, A(order)));
  }
  __device__ T finish(A a, int64_t) const {
    return out_of<T>(order == 2 ? root_of(a) : order == 1 || order == 0 ? a : pow_of(a, A(1 / order)));
  }
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
/// A tensor that is summed over its leading axes, as [rows, n]; rows is 0 where it is another sum.
struct SummedRows {
  int64_t rows = 0, n = 1, parts = 0;
  SummedRows(const TensorView& x, const Dims& axes) {
    if (axes.size() == 0 || axes.size() >= x.rank() || x.size() == 0 || !row_major(x)) return;
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

constexpr size_t kLargestPart = 32;

template <class P>
KernelDef& reduction(KernelDef& k, DTypeSet dtypes) {
  return k.dtypes(dtypes).inputs(Layout::strided).workspace([](const KernelArgs& a) {
    return reduction_workspace(a, a.get<P>().axis, kLargestPart);
  });
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
template <bool largest>
void define_extreme(KernelDef& k) {
  reduction<ReduceParams>(k, kinds::real).run([](const KernelArgs& a) {
    KernelStatus s;
    Reals::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<ReduceParams>().axis, Extreme<decltype(t), largest>{}); });
    return s;
  });
}
template <bool every>
void define_truth(KernelDef& k) {
  reduction<AllParams>(k, kinds::ordered).run([](const KernelArgs& a) {
    KernelStatus s;
    Ordered::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<AllParams>().axis, Truth<decltype(t), every>{}); });
    return s;
  });
}
template <bool root>
void define_variance(KernelDef& k) {
  reduction<VarParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<VarParams>();
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, p.axis, Variance<decltype(t), root>(p.correction)); });
    return s;
  });
}
template <bool largest>
void define_where(KernelDef& k) {
  reduction<ArgParams>(k, kinds::real).run([](const KernelArgs& a) {
    KernelStatus s;
    Reals::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<ArgParams>().axis, Where<decltype(t), largest>{}); });
    return s;
  });
}

}  // namespace

KEEL_CUDA_KERNEL(sum) {
  reduction<SumParams>(k, kinds::ordered)
      .refuses(refuse_mixed)
      .workspace([](const KernelArgs& a) {
        const Dims& axes = a.get<SumParams>().axis;
        const SummedRows v(a.in[0], axes);
        return std::max(reduction_workspace(a, axes, kLargestPart), size_t(v.parts * v.n) * sizeof(float));
      })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        const SummedRows v(a.in[0], a.get<SumParams>().axis);
        if (v.rows && TypeList<float, half, bfloat>::call(a.in[0].dtype, [&](auto t) { s = sum_rows<decltype(t)>(a, v); })) return s;
        return sum_of<Sum>(a);
      });
}
KEEL_CUDA_KERNEL(prod) { reduction<SumParams>(k, kinds::ordered).refuses(refuse_mixed).run(sum_of<Prod>); }
KEEL_CUDA_KERNEL(mean) {
  reduction<MeanParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<MeanParams>().axis, Mean<decltype(t)>{}); });
    return s;
  });
}
KEEL_CUDA_KERNEL(max) { define_extreme<true>(k); }
KEEL_CUDA_KERNEL(min) { define_extreme<false>(k); }
KEEL_CUDA_KERNEL(any) { define_truth<false>(k); }
KEEL_CUDA_KERNEL(all) { define_truth<true>(k); }
KEEL_CUDA_KERNEL(var) { define_variance<false>(k); }
KEEL_CUDA_KERNEL(stddev) { define_variance<true>(k); }
KEEL_CUDA_KERNEL(argmax) { define_where<true>(k); }
KEEL_CUDA_KERNEL(argmin) { define_where<false>(k); }
KEEL_CUDA_KERNEL(logsumexp) {
  reduction<ReduceParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, a.get<ReduceParams>().axis, LogSumExp<decltype(t)>{}); });
    return s;
  });
}
KEEL_CUDA_KERNEL(norm) {
  reduction<NormParams>(k, kinds::floating).run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<NormParams>();
    Floats::call(a.in[0].dtype, [&](auto t) { s = reduce(a, p.axis, Norm<decltype(t)>(p.p)); });
    return s;
  });
}
