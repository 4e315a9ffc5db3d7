// layer_norm and rms_norm of a few very long rows (long_rows.cuh).
#include "backend/cuda/long_rows.cuh"
#include "backend/cuda/long_rows.h"
#include "backend/cuda/norm_row.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// Mean and sum of squared deviations of some elements.
template <class C>
struct Moments {
  C mean, squares;
};

template <bool centered, class T, int P>
__global__ void __launch_bounds__(kPartThreads, 1)
    norm_in_parts(Parts p, Exchange* exchange, const T* x, NormOperands<centered, T> o, double eps, T* y) {
  using C = Compute<T>;
  constexpr int G = kPartThreads;
  const Meeting<Moments<C>> meeting(exchange);
  const RowOf<T, G, P> r(x + p.at(), 0, p.count(blockIdx.x));
  // Quotients that nobody should wait for later on.
  const C here = C(1) / C(r.n), everywhere = C(1) / C(p.n), each = C(p.share), last = C(p.count(p.parts - 1));
  C m = 0, squares = 0;
  if constexpr (centered) {
    r.each([&](int64_t, C v) { m += v; });
    m = row_combine<G>(m, C(0), SumOf()) * here;
  }
  r.each([&](int64_t, C v) { squares += (v - m) * (v - m); });
  const Moments<C> mine{m, row_combine<G>(squares, C(0), SumOf())};
  const auto whole = put_together(p, meeting, mine, [&](const Told<Moments<C>>& told) {
    const auto count = [&](unsigned part) { return part + 1 < p.parts ? each : last; };
    C mean = 0, all = 0;
    if constexpr (centered) {
      told.each([&](const Moments<C>& part, unsigned k) { mean += count(k) * part.mean; });
      mean = row_combine<32>(mean, C(0), SumOf()) * everywhere;
    }
    told.each([&](const Moments<C>& part, unsigned k) {
      const C off = part.mean - mean;
      all += part.squares + count(k) * off * off;
    });
    const C variance = row_combine<32>(all, C(0), SumOf()) * everywhere;
    return typename NormOf<centered>::template Whole<C>{mean, C(1) / root_of(variance + C(eps))};
  });
  write_norm<centered>(r, whole, o.weight ? o.weight + p.from() : nullptr, o.bias ? o.bias + p.from() : nullptr, y + p.at());
  if (blockIdx.x == 0 && threadIdx.x == 0) o.keep(blockIdx.y, whole);
}

template <bool centered>
bool run(const KernelArgs& a, int64_t rows, int64_t n, double eps, KernelStatus& s) {
  Parts p;
  Floats::call(a.in[0].dtype, [&](auto t) {
    using T = decltype(t);
    const NormOperands<centered, T> o(a);
    p = parts_of(rows, n, 16 / int(sizeof(T)), o.aligned(a), processors(a.device));
    if (!p.parts) return;
    use(a.device);
    const auto kernel = p.packs == 4   ? norm_in_parts<centered, T, 4>
                        : p.packs == 8 ? norm_in_parts<centered, T, 8>
                                       : norm_in_parts<centered, T, 0>;
    s = start_together(kernel, p, a, static_cast<const T*>(a.in[0].ptr<T>()), o, eps, a.out[0].ptr<T>());
  });
  return p.parts > 0;
}

}  // namespace

bool keel::cuda::long_norm(const KernelArgs& a, int64_t rows, int64_t n, bool centered, double eps, KernelStatus& s) {
  return centered ? run<true>(a, rows, n, eps, s) : run<false>(a, rows, n, eps, s);
}
