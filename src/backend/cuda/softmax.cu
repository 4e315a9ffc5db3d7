// softmax, softmax_safe and log_softmax along an axis, and gradients. Along the last axis a row is read once; along another, a thread
// takes a column. A few very long rows are cut into parts (long_rows.cuh).
#include "keel/ops/softmax.h"

#include "backend/cuda/around.cuh"
#include "backend/cuda/long_rows.cuh"
#include "backend/cuda/math.cuh"

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

// ---- a few rows, each longer than a block should take alone ----
Parts parts_of(const Around& v, int device) { return v.inner == 1 ? keel::cuda::parts_of(v.outer, v.n, device) : Parts(); }
template <class C>
struct PartSum {
  C top, sum;
};
/// A part that is -inf throughout counts from 0, and so has the sum 0.
template <class C>
__device__ __forceinline__ C part_base(C top) {
  return top == C(-INFINITY) ? C(0) : top;
}
template <class T>
__device__ __forceinline__ void sum_part(const Parts& p, const T* x, PartSum<Compute<T>>* sums) {
  using C = Compute<T>;
  const int64_t from = int64_t(blockIdx.x) * p.share, to = from + p.share < p.n ? from + p.share : p.n;
  const T* row = x + int64_t(blockIdx.y) * p.n;
  C top = -INFINITY, sum = 0;
#pragma unroll 4
  for (int64_t i = from + threadIdx.x; i < to; i += kThreads) top = MaxOf()(top, C(widen(row[i])));
  top = row_combine<kThreads>(top, C(-INFINITY), MaxOf());
  const C base = part_base(top);
#pragma unroll 4
  for (int64_t i = from + threadIdx.x; i < to; i += kThreads) sum += exp_of(C(widen(row[i])) - base);
  sum = row_combine<kThreads>(sum, C(0), SumOf());
  if (threadIdx.x == 0) sums[blockIdx.y * p.parts + blockIdx.x] = {top, sum};
}
template <class Family, class T>
__global__ void __launch_bounds__(kThreads, 4) in_parts(Parts p, const T* x, PartSum<Compute<T>>* sums, T* y) {
  using C = Compute<T>;
  sum_part(p, x, sums);
  meet();
  const PartSum<C>* mine = sums + blockIdx.y * p.parts;
  C top = -INFINITY, sum = 0;
  for (unsigned i = threadIdx.x; i < p.parts; i += kThreads) top = MaxOf()(top, mine[i].top);
  top = Family::base_of(row_combine<kThreads>(top, C(-INFINITY), MaxOf()));
  for (unsigned i = threadIdx.x; i < p.parts; i += kThreads)
    sum += mine[i].sum == 0 ? C(0) : mine[i].sum * exp_of(part_base(mine[i].top) - top);
  const auto whole = Family::whole_of(top, row_combine<kThreads>(sum, C(0), SumOf()));
  const int64_t from = int64_t(blockIdx.x) * p.share, to = from + p.share < p.n ? from + p.share : p.n, at = int64_t(blockIdx.y) * p.n;
#pragma unroll 4
  for (int64_t i = from + threadIdx.x; i < to; i += kThreads) y[at + i] = narrow<T>(Family::value(whole, C(widen(x[at + i]))));
}
/// Whether these rows are cut; then they have been served.
template <bool logarithm, bool safe>
bool long_rows(const KernelArgs& a, const Around& v, KernelStatus& s) {
  const Parts p = parts_of(v, a.device);
  if (!p.parts) return false;
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    auto* sums = static_cast<PartSum<Compute<T>>*>(a.workspace);
    start_together(in_parts<Forward<logarithm, safe>, T>, p, stream(a), a.in[0].ptr<T>(), sums, a.out[0].ptr<T>());
  });
  s = launched();
  if (!s.code) s = watch(a, 0, 1);
  return true;
}

Around around_axis(const KernelArgs& a) { return {a.in[0].shape(), a.get<SoftmaxParams>().axis}; }
template <class Family, size_t... i>
KernelStatus whole_rows(const KernelArgs& a, std::index_sequence<i...>) {
  KernelStatus s;
  use(a.device);
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    const bool aligned = aligned16(a.out[0]) && (true && ... && aligned16(a.in[i]));
    s = around_watched<Family, T>(a, around_axis(a), aligned, static_cast<const T*>(a.in[i].ptr<T>())...);
  });
  return s;
}
template <bool logarithm, bool safe = false>
void define_forward(KernelDef& k) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .stats()
      .workspace([](const KernelArgs& a) {
        const Parts p = parts_of(around_axis(a), a.device);
        return size_t(p.parts) * p.rows * sizeof(PartSum<double>);
      })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        use(a.device);
        return long_rows<logarithm, safe>(a, around_axis(a), s) ? s : whole_rows<Forward<logarithm, safe>>(a, std::index_sequence<0>());
      });
}
template <class Family>
void define_backward(KernelDef& k) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).stats().run([](const KernelArgs& a) {
    return whole_rows<Family>(a, std::index_sequence<0, 1>());
  });
}

}  // namespace

KEEL_CUDA_KERNEL(softmax) { define_forward<false>(k); }
KEEL_CUDA_KERNEL(softmax_safe) { define_forward<false, true>(k); }
KEEL_CUDA_KERNEL(log_softmax) { define_forward<true>(k); }
KEEL_CUDA_KERNEL(softmax_backward) { define_backward<Backward<false>>(k); }
KEEL_CUDA_KERNEL(log_softmax_backward) { define_backward<Backward<true>>(k); }
