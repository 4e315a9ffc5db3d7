#include "keel/ops/combine.h"

#include "backend/reference/walk.h"

using namespace keel;
using namespace keel::reference;

KEEL_REFERENCE_KERNEL(concat) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& y = a.out[0];
    const int64_t axis = a.get<ConcatParams>().axis;
    const int along = int(axis < 0 ? axis + y.rank() : axis);
    each_index(y.shape(), [&](const int64_t* at) {
      int64_t from[kMaxRank];
      std::memcpy(from, at, sizeof(int64_t) * size_t(y.rank()));
      int i = 0;
      while (from[along] >= a.in[i].dim(along)) from[along] -= a.in[i++].dim(along);
      std::memcpy(element(y, at, y.rank()), element(a.in[i], from, y.rank()), size_of(y.dtype));
    });
    return {};
  });
}
