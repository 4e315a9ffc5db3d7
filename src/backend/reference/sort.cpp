#include "keel/ops/sort.h"

#include <cmath>

#include "backend/reference/walk.h"

using namespace keel;
using namespace keel::reference;

namespace keel::reference {
namespace {
/// Whether x comes strictly before y.
bool before(const TensorView& x, const int64_t* i, const int64_t* j, bool descending) {
  if (is_inexact(x.dtype)) {
    const double a = get(x, i, x.rank()), b = get(x, j, x.rank());
    if (std::isnan(a) || std::isnan(b)) return descending ? std::isnan(a) && !std::isnan(b) : !std::isnan(a) && std::isnan(b);
    return descending ? a > b : a < b;
  }
  const int64_t a = get_int(x, i, x.rank()), b = get_int(x, j, x.rank());
  if (x.dtype == u64) return descending ? uint64_t(a) > uint64_t(b) : uint64_t(a) < uint64_t(b);
  return descending ? a > b : a < b;
}
}  // namespace
}  // namespace keel::reference

KEEL_REFERENCE_KERNEL(sort) {
  // The rank of an element: how many come before it, or are equal and stand earlier.
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView& x = a.in[0];
    const auto& p = a.get<SortParams>();
    const int axis = int(p.axis < 0 ? p.axis + x.rank() : p.axis);
    each_index(x.shape(), [&](const int64_t* at) {
      int64_t other[kMaxRank] = {}, to[kMaxRank] = {}, rank = 0;
      for (int i = 0; i < x.rank(); ++i) other[i] = to[i] = at[i];
      for (int64_t j = 0; x.rank() && j < x.dim(axis); ++j) {
        other[axis] = j;
        if (before(x, other, at, p.descending) || (j < at[axis] && !before(x, at, other, p.descending))) ++rank;
      }
      if (x.rank()) to[axis] = rank;
      std::memcpy(element(a.out[0], to, x.rank()), element(x, at, x.rank()), size_of(x.dtype));
      put(a.out[1], to, Scalar(x.rank() ? at[axis] : int64_t(0)));
    });
    return {};
  });
}
