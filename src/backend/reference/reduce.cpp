// Reductions one result at a time, in double, int64 or (for u64) uint64.
#include <algorithm>
#include <cmath>

#include "backend/reference/walk.h"
#include "keel/ops/reduce.h"

using namespace keel;
using namespace keel::reference;

namespace {

/// For each result calls begin(to), then each(position in x), then end(to).
template <class B, class E, class F>
void each_reduced(const TensorView& x, const TensorView& y, const Axes& axes, bool keepdim, B begin, E each, F end) {
  const int r = x.rank();
  bool reduced[kMaxRank + 1] = {};
  for (int64_t i : axes) reduced[r == 0 ? 0 : i < 0 ? i + r : i] = true;
  if (axes.empty()) std::fill(reduced, reduced + kMaxRank, true);
  each_index(y.shape(), [&](const int64_t* to) {
    Shape inner;
    int64_t first[kMaxRank] = {};
    int k = 0;
    for (int i = 0; i < r; ++i) {
      inner.push_back(reduced[i] ? x.dim(i) : 1);
      if (!reduced[i]) first[i] = to[keepdim ? i : k++];
    }
    begin();
    each_index(inner, [&](const int64_t* in) {
      int64_t at[kMaxRank] = {};
      for (int i = 0; i < r; ++i) at[i] = first[i] + in[i];
      each(static_cast<const int64_t*>(at));
    });
    end(to);
  });
}

/// The values of one reduction, ordered: NaN is whatever `better` wants it to be.
struct Number {
  double d = 0;
  int64_t i = 0;
  bool nan() const { return d != d; }
};
struct Reader {
  const TensorView& x;
  Number operator()(const int64_t* at) const {
    if (is_inexact(x.dtype)) return {get(x, at, x.rank()), 0};
    return {0, get_int(x, at, x.rank())};
  }
  bool less(const Number& a, const Number& b) const {
    if (is_inexact(x.dtype)) return a.d < b.d;
    return x.dtype == u64 ? uint64_t(a.i) < uint64_t(b.i) : a.i < b.i;
  }
  Scalar scalar(const Number& n) const { return is_inexact(x.dtype) ? Scalar(n.d) : Scalar(n.i); }
};

/// The first best element and its place among those reduced; the first NaN beats all.
template <class Put>
KernelStatus extreme(const KernelArgs& a, const Axes& axes, bool keepdim, bool largest, Put put_result) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const Reader read{x};
  Number best;
  int64_t n = 0, where = 0;
  each_reduced(
      x, y, axes, keepdim, [&] { n = where = 0; },
      [&](const int64_t* at) {
        const Number v = read(at);
        if (n == 0 || (!best.nan() && (v.nan() || (largest ? read.less(best, v) : read.less(v, best))))) best = v, where = n;
        ++n;
      },
      [&](const int64_t* to) { put_result(y, to, read.scalar(best), where); });
  return {};
}
template <class P>
KernelStatus extreme_value(const KernelArgs& a, bool largest) {
  const auto& p = a.get<P>();
  return extreme(a, p.axis, p.keepdim, largest, [](const TensorView& y, const int64_t* to, Scalar v, int64_t) { put(y, to, v); });
}
template <class P>
KernelStatus extreme_place(const KernelArgs& a, bool largest) {
  const auto& p = a.get<P>();
  return extreme(a, p.axis, p.keepdim, largest,
                 [](const TensorView& y, const int64_t* to, Scalar, int64_t where) { put(y, to, Scalar(where)); });
}

KernelStatus truth(const KernelArgs& a, bool all) {
  const TensorView &x = a.in[0], &y = a.out[0];
  const auto& p = a.get<AllParams>();
  bool seen = all;
  each_reduced(
      x, y, p.axis, p.keepdim, [&] { seen = all; },
      [&](const int64_t* at) {
        const bool v = is_inexact(x.dtype) ? get(x, at, x.rank()) != 0 : get_int(x, at, x.rank()) != 0;
        seen = all ? seen && v : seen || v;
      },
      [&](const int64_t* to) { put(y, to, Scalar(seen)); });
  return {};
}

}  // namespace

KEEL_REFERENCE_KERNEL(max) {
  k.run([](const KernelArgs& a) -> KernelStatus { return extreme_value<ReduceParams>(a, true); });
}
KEEL_REFERENCE_KERNEL(min) {
  k.run([](const KernelArgs& a) -> KernelStatus { return extreme_value<ReduceParams>(a, false); });
}
KEEL_REFERENCE_KERNEL(argmax) {
  k.run([](const KernelArgs& a) -> KernelStatus { return extreme_place<ArgParams>(a, true); });
}
KEEL_REFERENCE_KERNEL(argmin) {
  k.run([](const KernelArgs& a) -> KernelStatus { return extreme_place<ArgParams>(a, false); });
}
KEEL_REFERENCE_KERNEL(any) {
  k.run([](const KernelArgs& a) -> KernelStatus { return truth(a, false); });
}
KEEL_REFERENCE_KERNEL(all) {
  k.run([](const KernelArgs& a) -> KernelStatus { return truth(a, true); });
}
KEEL_REFERENCE_KERNEL(prod) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &y = a.out[0];
    const auto& p = a.get<SumParams>();
    const bool inexact = is_inexact(x.dtype) || is_inexact(y.dtype);
    double d = 1;
    uint64_t n = 1;
    each_reduced(
        x, y, p.axis, p.keepdim, [&] { d = 1, n = 1; },
        [&](const int64_t* at) {
          if (inexact)
            d *= get(x, at, x.rank());
          else
            n *= uint64_t(get_int(x, at, x.rank()));
        },
        [&](const int64_t* to) { put(y, to, inexact ? Scalar(d) : Scalar(int64_t(n))); });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(cumsum) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &y = a.out[0];
    const int r = x.rank(), axis = int(a.get<CumsumParams>().axis < 0 ? a.get<CumsumParams>().axis + r : a.get<CumsumParams>().axis);
    Shape outer = x.shape();
    if (r) outer[axis] = outer[axis] > 0;
    each_index(outer, [&](const int64_t* first) {
      int64_t at[kMaxRank] = {};
      std::copy(first, first + r, at);
      double d = 0;
      uint64_t n = 0;
      for (int64_t i = 0; i < (r ? x.dim(axis) : 1); ++i) {
        if (r) at[axis] = i;
        if (is_inexact(x.dtype))
          d += get(x, at, r);
        else
          n += uint64_t(get_int(x, at, r));
        put(y, at, is_inexact(x.dtype) ? Scalar(d) : Scalar(int64_t(n)));
      }
    });
    return {};
  });
}
