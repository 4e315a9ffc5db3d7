// gather, and its gradient scatter_add: along one axis by an index of the result's shape. Reading goes row by row along the last axis.
// Adding goes through the index in order for every element of the result; threads own disjoint outer positions, inner columns or targets,
// so the bits do not depend on their number.
#include "backend/cpu/copy.h"
#include "backend/cpu/index_walk.h"
#include "backend/cpu/scatter.h"
#include "keel/ops/index.h"

namespace keel::cpu {
namespace {

struct Wide {
  uint64_t a, b;
};

template <class T, class I>
KernelStatus gather_rows(const TensorView& x, const TensorView& index, const TensorView& y, int axis) {
  const int r = y.rank();
  const int64_t extent = r ? x.dim(axis) : 1, by = r ? x.stride(axis) : 0, step_i = r ? index.stride(r - 1) : 0,
                step_x = r && axis != r - 1 ? x.stride(r - 1) : 0;
  Strides sx = x.strides();
  if (r) sx[axis] = 0;
  const Strides* const all[2] = {&sx, index.strides_};
  FirstBad bad;
  parallel_for(0, y.size(), 1 << 14, [&](int64_t lo, int64_t hi) {
    walk_runs(y.shape(), all, lo, hi, [&](int64_t k, int64_t n, const int64_t* off) {
      const T* from = x.ptr<T>() + off[0];
      const I* at = index.ptr<I>() + off[1];
      T* to = y.ptr<T>() + k;
      for (int64_t i = 0; i < n; ++i) {
        int64_t v = at[i * step_i];
        v += v < 0 ? extent : 0;
        if (uint64_t(v) >= uint64_t(extent)) return bad.note(k + i);
        to[i] = from[v * by + i * step_x];
      }
    });
  });
  if (bad.found()) return KernelStatus::index_on(axis, index_at(index, y.shape(), bad.at), extent);
  return {};
}

template <class I>
KernelStatus check(const TensorView& index, int64_t extent, int axis) {
  FirstBad bad;
  const I* at = index.ptr<I>();
  parallel_for(0, index.size(), 1 << 14, [&](int64_t lo, int64_t hi) {
    bool wrong = false;
    for (int64_t i = lo; i < hi; ++i) wrong |= at[i] < -extent || at[i] >= extent;
    if (!wrong) return;
    for (int64_t i = lo; i < hi; ++i)
      if (at[i] < -extent || at[i] >= extent) return bad.note(i);
  });
  return bad.found() ? KernelStatus::index_on(axis, at[bad.at], extent) : KernelStatus{};
}

/// sums[index] += source along `axis`, for a dense result of shape `y`; index and source dense, of one shape, indices checked.
template <class S, class T, class I>
void add_along(const Shape& y, int axis, const TensorView& index, const T* source, S* sums) {
  const Shape& shape = index.shape();
  if (shape.numel() == 0) return;
  const int r = shape.rank();
  const Strides to = contiguous_strides(y);
  const int64_t extent = r ? y[axis] : 1, by = r ? to[axis] : 1, n = r ? shape[axis] : 1;
  Shape outer, inner;
  Strides outer_to, inner_to;
  bool even = true;  // inner axes of both lie alike, so that they are one run
  for (int i = 0; i < r; ++i) {
    if (i < axis) outer.push_back(shape[i]), outer_to.push_back(to[i]);
    if (i > axis) inner.push_back(shape[i]), inner_to.push_back(to[i]), even &= shape[i] == y[i];
  }
  const int64_t rows = outer.numel(), columns = inner.numel();
  if (even) inner = Shape({columns}), inner_to = Strides({1});
  const Strides* const outer_all[1] = {&outer_to};
  const Strides* const inner_all[1] = {&inner_to};
  const I* at = index.ptr<I>();
  // Rows [r0, r1), columns [c0, c1), targets [t0, t1).
  auto part = [&](int64_t r0, int64_t r1, int64_t c0, int64_t c1, int64_t t0, int64_t t1) {
    for (int64_t row = r0; row < r1; ++row) {
      int64_t base = 0;
      walk_runs(outer, outer_all, row, row + 1, [&](int64_t, int64_t, const int64_t* off) { base = off[0]; });
      for (int64_t j = 0; j < n; ++j) {
        const int64_t first = (row * n + j) * columns;
        walk_runs(inner, inner_all, c0, c1, [&](int64_t c, int64_t m, const int64_t* off) {
          const int64_t step = inner_to.rank() ? inner_to[-1] : 0;
          for (int64_t i = 0; i < m; ++i) {
            int64_t v = at[first + c + i];
            v += v < 0 ? extent : 0;
            if (v >= t0 && v < t1) sums[base + v * by + off[0] + i * step] += source[first + c + i];
          }
        });
      }
    }
  };
  const int64_t work = shape.numel(), threads = num_threads();
  if (columns == 1 && even) {  // the axis is the last one: rows are one loop
    auto line = [&](int64_t row, int64_t t0, int64_t t1) {
      int64_t base = 0;
      walk_runs(outer, outer_all, row, row + 1, [&](int64_t, int64_t, const int64_t* off) { base = off[0]; });
      const I* p = at + row * n;
      const T* s = source + row * n;
      for (int64_t j = 0; j < n; ++j) {
        int64_t v = p[j];
        v += v < 0 ? extent : 0;
        if (v >= t0 && v < t1) sums[base + v * by] += s[j];
      }
    };
    if (threads == 1 || work < (1 << 14) || rows >= 2 * threads) {
      parallel_for(0, rows, 1 + (1 << 14) / n, [&](int64_t lo, int64_t hi) {
        for (int64_t row = lo; row < hi; ++row) line(row, 0, extent);
      });
    } else {
      parallel_for(0, threads, 1, [&](int64_t lo, int64_t hi) {
        for (int64_t t = lo; t < hi; ++t)
          for (int64_t row = 0; row < rows; ++row) line(row, extent * t / threads, extent * (t + 1) / threads);
      });
    }
  } else if (threads == 1 || work < (1 << 14)) {
    part(0, rows, 0, columns, 0, extent);
  } else if (rows >= 2 * threads) {
    parallel_for(0, rows, 1 + (1 << 14) / (n * columns), [&](int64_t lo, int64_t hi) { part(lo, hi, 0, columns, 0, extent); });
  } else if (columns >= 16 * threads) {
    parallel_for(0, columns, 16, [&](int64_t lo, int64_t hi) { part(0, rows, lo, hi, 0, extent); });
  } else {
    parallel_for(0, threads, 1, [&](int64_t lo, int64_t hi) {
      for (int64_t t = lo; t < hi; ++t) part(0, rows, 0, columns, extent * t / threads, extent * (t + 1) / threads);
    });
  }
}

KernelStatus scatter(const TensorView* x, const TensorView& index, const TensorView& source, const TensorView& y, int64_t axis,
                     void* space) {
  const int a = int(axis < 0 ? axis + (y.rank() ? y.rank() : 1) : axis);
  KernelStatus s;
  with_index_type(index, [&](auto tag) { s = check<decltype(tag)>(index, y.rank() ? y.dim(a) : 1, a); });
  if (s.code) return s;
  if (x) copy_view(*x, y);
  add_into(y, !x, space, [&](auto* sums, auto value) {
    with_index_type(index, [&](auto tag) {
      add_along<std::remove_pointer_t<decltype(sums)>, decltype(value), decltype(tag)>(y.shape(), a, index,
                                                                                       source.ptr<const decltype(value)>(), sums);
    });
  });
  return {};
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(gather) {
  k.run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &index = a.in[1], &y = a.out[0];
    const int64_t axis = a.get<GatherParams>().axis;
    const int at = int(axis < 0 ? axis + (x.rank() ? x.rank() : 1) : axis);
    KernelStatus s;
    with_index_type(index, [&](auto tag) {
      using I = decltype(tag);
      switch (size_of(x.dtype)) {
        case 1: s = gather_rows<uint8_t, I>(x, index, y, at); break;
        case 2: s = gather_rows<uint16_t, I>(x, index, y, at); break;
        case 4: s = gather_rows<uint32_t, I>(x, index, y, at); break;
        case 8: s = gather_rows<uint64_t, I>(x, index, y, at); break;
        default: s = gather_rows<Wide, I>(x, index, y, at);
      }
    });
    return s;
  });
}
KEEL_CPU_KERNEL(scatter_add) {
  k.input(1, Layout::contiguous)
      .input(2, Layout::contiguous)
      .workspace([](const KernelArgs& a) { return sums_bytes(a.in[0].dtype, a.in[0].size()); })
      .run([](const KernelArgs& a) -> KernelStatus {
        return scatter(&a.in[0], a.in[1], a.in[2], a.out[0], a.get<GatherParams>().axis, a.workspace);
      });
}
KEEL_CPU_KERNEL(gather_backward) {
  k.inputs(Layout::contiguous)
      .workspace([](const KernelArgs& a) { return sums_bytes(a.in[0].dtype, a.out[0].size()); })
      .run([](const KernelArgs& a) -> KernelStatus {
        return scatter(nullptr, a.in[1], a.in[0], a.out[0], a.get<IndexBackwardParams>().axis[0], a.workspace);
      });
}
