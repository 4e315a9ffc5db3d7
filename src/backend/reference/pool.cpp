#include "keel/ops/pool.h"
#include "backend/reference/walk.h"

using namespace keel;
using namespace keel::reference;

namespace {
int64_t plane_place(const TensorView& v, const int64_t* at) { return get_int(v, at, 4); }
}  // namespace

KEEL_REFERENCE_KERNEL(max_pool2d) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &y = a.out[0];
    const auto& p = a.get<Pool2dParams>();
    each_index(y.shape(), [&](const int64_t* to) {
      int64_t first[2], best_at = -1;
      for (int i = 0; i < 2; ++i) first[i] = to[2 + i] * (p.stride[i] ? p.stride[i] : p.kernel[i]) - p.padding[i];
      double best = 0;
      int64_t best_int = 0;
      for (int64_t i = first[0]; i < first[0] + p.kernel[0]; ++i)
        for (int64_t j = first[1]; j < first[1] + p.kernel[1]; ++j) {
          if (i < 0 || i >= x.dim(2) || j < 0 || j >= x.dim(3)) continue;
          const int64_t at[] = {to[0], to[1], i, j};
          const double v = is_inexact(x.dtype) ? get(x, at, 4) : 0;
          const int64_t n = is_inexact(x.dtype) ? 0 : get_int(x, at, 4);
          const bool larger = x.dtype == u64 ? uint64_t(n) > uint64_t(best_int) : n > best_int || v > best;
          if (best_at < 0 || (best == best && (v != v || larger))) best = v, best_int = n, best_at = i * x.dim(3) + j;
        }
      put(y, to, is_inexact(x.dtype) ? Scalar(best) : Scalar(best_int));
      if (a.n_out > 1 && a.out[1].present()) put(a.out[1], to, Scalar(best_at));
    });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(max_pool2d_backward) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &g = a.in[0], &where = a.in[1], &y = a.out[0];
    const int64_t limit = y.dim(2) * y.dim(3);
    KernelStatus status;
    each_index(y.shape(), [&](const int64_t* to) {
      // Every result gathers what points at it: slow, but no order of additions to think about.
      double total = 0;
      each_index(Shape({g.dim(2), g.dim(3)}), [&](const int64_t* from) {
        const int64_t at[] = {to[0], to[1], from[0], from[1]};
        const int64_t place = plane_place(where, at);
        if (place < 0 || place >= limit) status = KernelStatus::place(place, limit, "index");
        if (place == to[2] * y.dim(3) + to[3]) total += get(g, at, 4);
      });
      put(y, to, Scalar(total));
    });
    return status;
  });
}
KEEL_REFERENCE_KERNEL(max_pool2d_pick) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &where = a.in[1], &y = a.out[0];
    const int64_t limit = x.dim(2) * x.dim(3);
    KernelStatus status;
    each_index(y.shape(), [&](const int64_t* to) {
      const int64_t place = plane_place(where, to);
      if (place < 0 || place >= limit) {
        status = KernelStatus::place(place, limit, "index");
        return;
      }
      const int64_t at[] = {to[0], to[1], place / x.dim(3), place % x.dim(3)};
      put(y, to, Scalar(get(x, at, 4)));
    });
    return status;
  });
}
