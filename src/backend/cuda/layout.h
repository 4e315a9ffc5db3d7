#pragma once
// Strided operands as kernels walk them: axes in the order of the result's memory, neighbours merged where all operands allow it.
#include <cstdint>

#include "backend/kernel.h"

namespace keel::cuda {

/// Division of n < 2^31 by a fixed number: q = (mulhi(n, m) + n) >> s (Granlund and Montgomery 1994).
struct FastDivisor {
  uint32_t d = 1, m = 1, s = 0;
  FastDivisor() = default;
  explicit FastDivisor(uint32_t divisor) : d(divisor ? divisor : 1) {
    while (s < 32 && (uint64_t(1) << s) < d) ++s;
    m = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << s) - d)) / d + 1);
  }
};

/// `N` operands, the result first. Axis 0 is the innermost.
template <int N>
struct Walk {
  int rank = 0;
  int64_t extent[kMaxRank];
  int64_t stride[N][kMaxRank];

  Walk() = default;
  explicit Walk(const TensorView* const (&v)[N]) {
    const TensorView& out = *v[0];
    int order[kMaxRank], axes = 0;
    for (int axis = out.rank() - 1; axis >= 0; --axis) {
      if (out.dim(axis) == 1) continue;
      int at = axes++;
      for (; at > 0 && out.stride(axis) < out.stride(order[at - 1]); --at) order[at] = order[at - 1];
      order[at] = axis;
    }
    for (int k = 0; k < axes; ++k) {
      const int axis = order[k];
      int64_t s[N];
      for (int j = 0; j < N; ++j) {
        const int at = axis - (out.rank() - v[j]->rank());  // missing leading axes are broadcast
        s[j] = v[j]->on_host || at < 0 || v[j]->dim(at) == 1 ? 0 : v[j]->stride(at);
      }
      push(out.dim(axis), s);
    }
  }
  /// One more axis outside of the others.
  void push(int64_t e, const int64_t (&s)[N]) {
    if (e == 1) return;
    bool merged = rank > 0;
    for (int j = 0; j < N; ++j) merged = merged && s[j] == stride[j][rank - 1] * extent[rank - 1];
    if (merged) {
      extent[rank - 1] *= e;
      return;
    }
    extent[rank] = e;
    for (int j = 0; j < N; ++j) stride[j][rank] = s[j];
    ++rank;
  }
  /// Whether operand `j` is the same element everywhere, or all elements in a row.
  bool constant(int j) const {
    for (int i = 0; i < rank; ++i)
      if (stride[j][i] != 0) return false;
    return true;
  }
  bool dense(int j) const { return rank == 0 || (rank == 1 && stride[j][0] == 1); }
};

/// A Walk as the device reads it.
template <int N>
struct DeviceWalk {
  int rank;
  bool wide;  // more elements than FastDivisor counts
  FastDivisor by[kMaxRank];
  int64_t stride[N][kMaxRank];
  int64_t extent[kMaxRank];

  DeviceWalk(const Walk<N>& w, int64_t n) : rank(w.rank), wide(n >= INT32_MAX) {
    for (int i = 0; i < rank; ++i) {
      extent[i] = w.extent[i];
      if (!wide) by[i] = FastDivisor(uint32_t(extent[i]));
      for (int j = 0; j < N; ++j) stride[j][i] = w.stride[j][i];
    }
  }
};

}  // namespace keel::cuda
