// Matrix products in double, or int64 for integers, one element at a time.
#include "backend/reference/walk.h"

using namespace keel;
using namespace keel::reference;

KEEL_REFERENCE_KERNEL(matmul) {
  k.run([](const KernelArgs& args) -> KernelStatus {
    const TensorView &a = args.in[0], &b = args.in[1], &y = args.out[0];
    const bool row = a.rank() == 1, column = b.rank() == 1;
    const int batch = y.rank() - (row ? 0 : 1) - (column ? 0 : 1);
    const int64_t k = a.dim(a.rank() - 1);
    each_index(y.shape(), [&](const int64_t* at) {
      // Index of a: its batch axes, row, k; of b: its batch axes, k, column.
      int64_t ia[kMaxRank] = {}, ib[kMaxRank] = {};
      for (int i = 0; i + 2 < a.rank(); ++i) ia[i] = a.dim(i) == 1 ? 0 : at[batch - (a.rank() - 2) + i];
      for (int i = 0; i + 2 < b.rank(); ++i) ib[i] = b.dim(i) == 1 ? 0 : at[batch - (b.rank() - 2) + i];
      if (!row) ia[a.rank() - 2] = at[batch];
      if (!column) ib[b.rank() - 1] = at[y.rank() - 1];
      double d = 0;
      uint64_t n = 0;
      for (int64_t p = 0; p < k; ++p) {
        ia[a.rank() - 1] = p, ib[column ? 0 : b.rank() - 2] = p;
        if (is_inexact(a.dtype))
          d += get(a, ia, a.rank()) * get(b, ib, b.rank());
        else
          n += uint64_t(get_int(a, ia, a.rank())) * uint64_t(get_int(b, ib, b.rank()));
      }
      put(y, at, is_inexact(a.dtype) ? Scalar(d) : Scalar(int64_t(n)));
    });
    return {};
  });
}
