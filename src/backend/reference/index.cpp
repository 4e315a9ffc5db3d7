// Plain forms of the indexing primitives: every element by itself, through coordinates.
#include "keel/ops/index.h"

#include <vector>

#include "backend/reference/walk.h"
#include "op/index_shape.h"

using namespace keel;
using namespace keel::reference;

namespace keel::reference {
namespace {

/// Where the result's element `at` of x[arrays] lies in x; false with `bad` set where an index is out of range.
struct Picker {
  const TensorView* arrays;
  int n;
  Shape x;
  IndexShape s;
  Shape b;
  KernelStatus bad;

  Picker(const Dims& axis, const Shape& x, const TensorView* arrays, int n) : arrays(arrays), n(n), x(x), s(axis, n, x.rank()) {
    for (int i = 0; i < n; ++i)
      for (int k = arrays[i].rank(); k > b.rank();) b.insert(0, 1);
    for (int i = 0; i < n; ++i)
      for (int k = 0; k < arrays[i].rank(); ++k)
        if (arrays[i].dim(k) != 1) b[b.rank() - arrays[i].rank() + k] = arrays[i].dim(k);
  }
  Shape result() const { return s.result(x, b); }
  bool find(const int64_t* at, int64_t* to) {
    int plain = 0, seen = 0;
    for (int i = 0; i < x.rank(); ++i) {
      if (s.indexed[i]) continue;
      if (seen++ == s.at) plain += b.rank();
      to[i] = at[plain++];
    }
    for (int i = 0; i < n; ++i) {
      const int64_t v = get_int(arrays[i], at + s.at, b.rank()), extent = x[s.axis[i]];
      if (v < -extent || v >= extent) {
        bad = KernelStatus::index_on(s.axis[i], v, extent);
        return false;
      }
      to[s.axis[i]] = v < 0 ? v + extent : v;
    }
    return true;
  }
};

void copy_element(const TensorView& x, const int64_t* from, const TensorView& y, const int64_t* to) {
  std::memcpy(element(y, to, y.rank()), element(x, from, x.rank()), size_of(x.dtype));
}

/// y = x, then y[where] gets `v` or is increased by it; sums are kept in double or int64 until the end.
template <class Where>
KernelStatus put_into(const TensorView& x, const TensorView& v, const TensorView& y, const Shape& shape, bool accumulate, Where where) {
  const int64_t n = y.size();
  const Strides dense = contiguous_strides(y.shape());
  std::vector<double> d(size_t(n), 0.0);
  std::vector<int64_t> m(size_t(n), 0);
  const bool exact = !is_inexact(x.dtype);
  each_index(y.shape(), [&](const int64_t* at) {
    int64_t k = 0;
    for (int i = 0; i < y.rank(); ++i) k += at[i] * dense[i];
    if (exact)
      m[size_t(k)] = get_int(x, at, y.rank());
    else
      d[size_t(k)] = get(x, at, y.rank());
  });
  KernelStatus status;
  each_index(shape, [&](const int64_t* at) {
    int64_t to[kMaxRank] = {}, k = 0;
    if (status.code) return;
    status = where(at, to);
    if (status.code) return;
    for (int i = 0; i < y.rank(); ++i) k += to[i] * dense[i];
    if (exact)
      m[size_t(k)] = (accumulate ? (x.dtype == DType::boolean ? m[size_t(k)] | get_int(v, at, shape.rank())
                                                              : m[size_t(k)] + get_int(v, at, shape.rank()))
                                 : get_int(v, at, shape.rank()));
    else
      d[size_t(k)] = (accumulate ? d[size_t(k)] : 0) + get(v, at, shape.rank());
  });
  if (status.code) return status;
  size_t k = 0;
  each_index(y.shape(), [&](const int64_t* at) {
    if (exact)
      put(y, at, Scalar(m[k]));
    else
      put(y, at, Scalar(d[k]));
    ++k;
  });
  return {};
}

int normal_axis(int64_t axis, int rank) { return int(axis < 0 ? axis + (rank ? rank : 1) : axis); }

KernelStatus along(const TensorView& index, const int64_t* at, int64_t* to, int axis, int rank, int64_t extent) {
  for (int i = 0; i < rank; ++i) to[i] = at[i];
  const int64_t v = get_int(index, at, rank);
  if (v < -extent || v >= extent) return KernelStatus::index_on(axis, v, extent);
  if (rank) to[axis] = v < 0 ? v + extent : v;
  return {};
}

}  // namespace
}  // namespace keel::reference

KEEL_REFERENCE_KERNEL(index_get) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    Picker pick(a.get<IndexParams>().axis, a.in[0].shape(), a.in + 1, a.n_in - 1);
    each_index(a.out[0].shape(), [&](const int64_t* at) {
      int64_t from[kMaxRank] = {};
      if (pick.find(at, from)) copy_element(a.in[0], from, a.out[0], at);
    });
    return pick.bad;
  });
}
KEEL_REFERENCE_KERNEL(index_put) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<IndexPutParams>();
    Picker pick(p.axis, a.in[0].shape(), a.in + 2, a.n_in - 2);
    return put_into(a.in[0], a.in[1], a.out[0], pick.result(), p.accumulate,
                    [&](const int64_t* at, int64_t* to) { return pick.find(at, to), pick.bad; });
  });
}
KEEL_REFERENCE_KERNEL(index_winners) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<IndexBackwardParams>();
    const IndexShape s(p.axis, a.n_in, p.shape.rank());
    const Shape b = a.out[0].shape();
    auto cell = [&](const int64_t* at, int64_t* c) {
      for (int i = 0; i < a.n_in; ++i) {
        const int64_t v = get_int(a.in[i], at, b.rank());
        c[i] = v < 0 ? v + p.shape[s.axis[i]] : v;
      }
    };
    int64_t m = 0;
    each_index(b, [&](const int64_t* at) {
      int64_t mine[kMaxRank] = {}, other[kMaxRank] = {}, n = 0;
      bool won = true;
      cell(at, mine);
      each_index(b, [&](const int64_t* later) {
        if (n++ <= m) return;
        cell(later, other);
        if (std::memcmp(mine, other, sizeof(int64_t) * size_t(a.n_in)) == 0) won = false;
      });
      put(a.out[0], at, Scalar(won));
      ++m;
    });
    return {};
  });
}
KEEL_REFERENCE_KERNEL(gather) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &index = a.in[1], &y = a.out[0];
    const int axis = normal_axis(a.get<GatherParams>().axis, x.rank());
    KernelStatus status;
    each_index(y.shape(), [&](const int64_t* at) {
      int64_t from[kMaxRank] = {};
      if (status.code) return;
      status = along(index, at, from, axis, x.rank(), x.rank() ? x.dim(axis) : 1);
      if (!status.code) copy_element(x, from, y, at);
    });
    return status;
  });
}
KEEL_REFERENCE_KERNEL(scatter_add) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &index = a.in[1];
    const int axis = normal_axis(a.get<GatherParams>().axis, x.rank());
    return put_into(x, a.in[2], a.out[0], index.shape(), true,
                    [&](const int64_t* at, int64_t* to) { return along(index, at, to, axis, x.rank(), x.rank() ? x.dim(axis) : 1); });
  });
}
KEEL_REFERENCE_KERNEL(nonzero) {
  k.count([](const KernelArgs& a, Shape* outs) -> KernelStatus {
     int64_t n = 0;
     each_index(a.in[0].shape(), [&](const int64_t* at) { n += get(a.in[0], at, a.in[0].rank()) != 0; });
     outs[0] = Shape({n, a.in[0].rank()});
     return {};
   }).run([](const KernelArgs& a) -> KernelStatus {
    int64_t* to = a.out[0].ptr<int64_t>();
    each_index(a.in[0].shape(), [&](const int64_t* at) {
      if (get(a.in[0], at, a.in[0].rank()) == 0) return;
      for (int i = 0; i < a.in[0].rank(); ++i) *to++ = at[i];
    });
    return {};
  });
}
