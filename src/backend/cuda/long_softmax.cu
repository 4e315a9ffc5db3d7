// softmax, softmax_safe and log_softmax of a few very long rows (long_rows.cuh).
#include "backend/cuda/long_rows.cuh"
#include "backend/cuda/long_rows.h"
#include "backend/cuda/math.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

template <class C>
struct PartSum {
  C top, sum;
};
/// A part that is -inf throughout counts from 0, and so has the sum 0.
template <class C>
__device__ __forceinline__ C part_base(C top) {
  return top == C(-INFINITY) ? C(0) : top;
}
/// What a part's sum and exponentials are to be multiplied by where those of the row count from `top`.
template <class C>
__device__ __forceinline__ C part_scale(const PartSum<C>& part, C top) {
  return part.sum == 0 ? C(0) : exp_of(part_base(part.top) - top);
}

template <class Of, bool logarithm, class T, int P>
__global__ void __launch_bounds__(kPartThreads, 1) softmax_in_parts(Parts p, Exchange* exchange, const T* x, T* y) {
  using C = Compute<T>;
  constexpr int G = kPartThreads;
  constexpr bool keeps = !logarithm && P > 0 && std::is_same_v<T, C>;  // the exponentials, in the place of elements
  const Meeting<PartSum<C>> meeting(exchange);
  RowOf<T, G, P> r(x + p.at(), 0, p.count(blockIdx.x));
  C top = -INFINITY, sum = 0;
  r.each([&](int64_t, C v) { top = MaxOf()(top, v); });
  top = row_combine<G>(top, C(-INFINITY), MaxOf());
  const C base = part_base(top);
  if constexpr (keeps) {
    r.replace([&](C v) {
      const C e = exp_of(v - base);
      sum += e;
      return e;
    });
  } else {
    r.each([&](int64_t, C v) { sum += exp_of(v - base); });
  }
  const PartSum<C> mine{top, row_combine<G>(sum, C(0), SumOf())};
  // What the threads are told: all about the row, or just what their exponentials are to be multiplied by.
  const auto whole = put_together(p, meeting, mine, [&](const Told<PartSum<C>>& told) {
    C most = -INFINITY, all = 0;
    told.each([&](const PartSum<C>& part, unsigned) { most = MaxOf()(most, part.top); });
    most = Of::base_of(row_combine<32>(most, C(-INFINITY), MaxOf()));
    const C scale = part_scale(mine, most);
    told.each([&](const PartSum<C>& part, unsigned) { all += part.sum * part_scale(part, most); });
    const auto row = Of::whole_of(most, row_combine<32>(all, C(0), SumOf()));
    if constexpr (keeps)
      return scale * row.rest;
    else
      return row;
  });
  r.write(y + p.at(), [&](int64_t, C v) {
    if constexpr (keeps)
      return v * whole;
    else
      return Of::value(whole, v);
  });
}

template <bool logarithm, bool safe>
bool run(const KernelArgs& a, int64_t rows, int64_t n, KernelStatus& s) {
  Parts p;
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    using Of = SoftmaxOf<logarithm, safe>;
    p = parts_of(rows, n, 16 / int(sizeof(T)), aligned16(a.in[0]) && aligned16(a.out[0]), processors(a.device));
    if (!p.parts) return;
    use(a.device);
    const auto kernel = p.packs == 4   ? softmax_in_parts<Of, logarithm, T, 4>
                        : p.packs == 8 ? softmax_in_parts<Of, logarithm, T, 8>
                                       : softmax_in_parts<Of, logarithm, T, 0>;
    s = start_together(kernel, p, a, a.in[0].ptr<T>(), a.out[0].ptr<T>());
  });
  return p.parts > 0;
}

}  // namespace

bool keel::cuda::long_softmax(const KernelArgs& a, int64_t rows, int64_t n, bool logarithm, bool safe, KernelStatus& s) {
  return logarithm ? run<true, false>(a, rows, n, s) : safe ? run<false, true>(a, rows, n, s) : run<false, false>(a, rows, n, s);
}
