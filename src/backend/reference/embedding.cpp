#include "keel/ops/embedding.h"

#include "backend/reference/walk.h"

using namespace keel;
using namespace keel::reference;

KEEL_REFERENCE_KERNEL(embedding) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &ids = a.in[0], &w = a.in[1], &y = a.out[0];
    KernelStatus status;
    each_index(y.shape(), [&](const int64_t* to) {
      const int64_t row = get_int(ids, to, ids.rank());
      if (row < 0 || row >= w.dim(0)) {
        status = KernelStatus::place(row, w.dim(0), "id");
        return;
      }
      const int64_t at[] = {row, to[y.rank() - 1]};
      put(y, to, Scalar(get(w, at, 2)));
    });
    return status;
  });
}
KEEL_REFERENCE_KERNEL(embedding_backward) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &g = a.in[0], &ids = a.in[1], &y = a.out[0];
    const auto& p = a.get<EmbeddingBackwardParams>();
    KernelStatus status;
    each_index(y.shape(), [&](const int64_t* to) {
      double total = 0;
      each_index(ids.shape(), [&](const int64_t* at) {
        const int64_t row = get_int(ids, at, ids.rank());
        if (row < 0 || row >= p.rows) status = KernelStatus::place(row, p.rows, "id");
        if (row != to[0] || row == p.padding_index) return;
        int64_t from[kMaxRank] = {};
        for (int i = 0; i < ids.rank(); ++i) from[i] = at[i];
        from[ids.rank()] = to[1];
        total += get(g, from, g.rank());
      });
      put(y, to, Scalar(total));
    });
    return status;
  });
}
