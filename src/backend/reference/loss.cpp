#include "backend/reference/walk.h"
#include "keel/ops/loss.h"

using namespace keel;
using namespace keel::reference;

KEEL_REFERENCE_KERNEL(nll_loss) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &target = a.in[1], &y = a.out[0];
    const auto& p = a.get<NllParams>();
    const int axis = int(p.axis < 0 ? p.axis + x.rank() : p.axis);
    KernelStatus status;
    double total = 0;
    int64_t count = 0;
    each_index(target.shape(), [&](const int64_t* row) {
      const int64_t c = get_int(target, row, target.rank());
      double loss = 0;
      if (c != p.ignore_index) {
        if (c < 0 || c >= x.dim(axis)) {
          status = KernelStatus::place(c, x.dim(axis), "target");
          return;
        }
        int64_t at[kMaxRank] = {};
        for (int i = 0, k = 0; i < x.rank(); ++i) at[i] = i == axis ? c : row[k++];
        loss = -get(x, at, x.rank());
        ++count;
      }
      total += loss;
      if (p.reduction == Reduction::none) put(y, row, Scalar(loss));
    });
    if (p.reduction == Reduction::sum) put(y, nullptr, Scalar(total));
    if (p.reduction == Reduction::mean) put(y, nullptr, Scalar(total / double(count)));
    return status;
  });
}
