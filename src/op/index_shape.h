#pragma once
// How integer arrays in place of axes shape the result; shared by the rows, which infer, and the kernels, which walk.
#include "keel/shape.h"

namespace keel {

/// The axes that index arrays replace, counted from the front. The arrays' own axes stand in the result at `at`: where the replaced axes
/// stood if those are neighbours, else first, as NumPy has it.
struct IndexShape {
  int axis[kMaxRank] = {};
  int n = 0, at = 0;
  bool indexed[kMaxRank] = {};

  /// `axes` as in IndexParams (already checked); none given: the first `arrays` axes.
  IndexShape(const Dims& axes, int arrays, int rank) : n(arrays) {
    for (int i = 0; i < n; ++i) axis[i] = axes.empty() ? i : int(axes[i] < 0 ? axes[i] + rank : axes[i]), indexed[axis[i]] = true;
    at = n ? axis[0] : 0;
    for (int i = 1; i < n; ++i)
      if (axis[i] != axis[i - 1] + 1) at = 0;
  }
  /// Shape of x[arrays], whose broadcast shape is `b`.
  Shape result(const Shape& x, const Shape& b) const {
    Shape s;
    int seen = 0;
    for (int i = 0; i <= x.rank(); ++i) {
      if (seen == at) {
        for (int64_t e : b) s.push_back(e);
        seen = -1;
      }
      if (i == x.rank() || indexed[i]) continue;
      s.push_back(x[i]);
      if (seen >= 0) ++seen;
    }
    return s;
  }
};

}  // namespace keel
