#pragma once
// Plain loops for the reference backend: every element by its index, values through double or int64. Slow on purpose and written apart from the real kernels, which it judges.
#include <cstring>

#include "backend/kernel.h"
#include "core/impl.h"

namespace keel::reference {

/// Calls f(index) for every position of `s`, row-major.
template <class F>
void each_index(const Shape& s, F&& f) {
  int64_t at[kMaxRank] = {};
  const int64_t n = s.numel();
  for (int64_t k = 0; k < n; ++k) {
    f(static_cast<const int64_t*>(at));
    for (int i = s.rank() - 1; i >= 0; --i) {
      if (++at[i] < s[i]) break;
      at[i] = 0;
    }
  }
}

/// The element of `v` that a broadcast to rank `rank` puts at `at`.
inline std::byte* element(const TensorView& v, const int64_t* at, int rank) {
  int64_t offset = 0;
  const int extra = rank - v.rank();
  for (int i = 0; i < v.rank(); ++i) offset += (v.dim(i) == 1 ? 0 : at[i + extra]) * v.stride(i);
  return static_cast<std::byte*>(v.data) + offset * int64_t(size_of(v.dtype));
}
inline double get(const TensorView& v, const int64_t* at, int rank) { return read_double(element(v, at, rank), v.dtype); }
inline int64_t get_int(const TensorView& v, const int64_t* at, int rank) { return read_int(element(v, at, rank), v.dtype); }
inline void put(const TensorView& v, const int64_t* at, Scalar x) { write_scalar(element(v, at, v.rank()), v.dtype, x); }

/// y = f(a, b, ...) element by element: `fd` on doubles, `fi` on int64 where the inputs are integers or bools.
template <class FD, class FI>
KernelStatus unary(const KernelArgs& a, FD fd, FI fi) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const int r = y.rank();
  each_index(y.shape(), [&](const int64_t* at) {
    if (is_inexact(x.dtype)) put(y, at, Scalar(fd(get(x, at, r))));
    else put(y, at, Scalar(fi(get_int(x, at, r))));
  });
  return {};
}
template <class FD, class FI>
KernelStatus binary(const KernelArgs& a, FD fd, FI fi) {
  const TensorView &p = a.in[0], &q = a.in[1], &y = a.out[0];
  const int r = y.rank();
  each_index(y.shape(), [&](const int64_t* at) {
    if (is_inexact(p.dtype)) put(y, at, Scalar(fd(get(p, at, r), get(q, at, r))));
    else put(y, at, Scalar(fi(get_int(p, at, r), get_int(q, at, r))));
  });
  return {};
}

}  // namespace keel::reference
