// Integer-array indexing. First every index is checked and turned into an offset (16 bytes an index of workspace), then runs are copied:
// the axes after the indexed ones are merged into runs, so that picking rows is memcpy. Writing and adding go through the indices in order
// within any element; threads own disjoint parts of the result (outer axes, columns, or ranges of offsets), so the bits do not depend on
// their number. Traffic: the indices twice, each moved element once read and once written.
#include "keel/ops/index.h"
#include "backend/cpu/copy.h"
#include "backend/cpu/index_walk.h"
#include "backend/cpu/scatter.h"

namespace keel::cpu {
namespace {

struct Wide {
  uint64_t a, b;
};
template <class F>
void with_size(size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    case 8: return f(uint64_t{});
    default: return f(Wide{});
  }
}

size_t walk_bytes(const TensorView* arrays, int n) { return (IndexWalk::workspace(broadcast_views(arrays, n).numel()) + 63) & ~size_t(63); }

/// Strides of the plain operand `v`, broadcast to the shape that reading `x` would have.
KernelStatus prepare(IndexWalk& w, const Dims& axis, const TensorView& x, const TensorView& v, const TensorView* arrays, int n,
                     void* space) {
  const Shape b = broadcast_views(arrays, n);
  const IndexShape s(axis, n, x.rank());
  return w.prepare(s, x, arrays, b, broadcast_strides(v, s.result(x.shape(), b)), space);
}

template <class T>
void write_rows(const IndexWalk& w, T* x, const T* v) {
  w.run_in_order([=](int64_t p, int64_t q, int64_t n, int64_t sp, int64_t sq) {
    if (n > 1 && sp == 1 && sq == 1)
      std::memcpy(x + p, v + q, size_t(n) * sizeof(T));
    else
      for (int64_t i = 0; i < n; ++i) x[p + i * sp] = v[q + i * sq];
  });
}

/// sums[indexed] += v.
template <class S, class T>
void add_rows(const IndexWalk& w, S* sums, const T* v) {
  w.run_in_order([=](int64_t p, int64_t q, int64_t n, int64_t sp, int64_t sq) {
    if (sp == 1 && sq == 1) {
      for (int64_t i = 0; i < n; ++i) sums[p + i] += v[q + i];
    } else {
      for (int64_t i = 0; i < n; ++i) sums[p + i * sp] += v[q + i * sq];
    }
  });
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(index_get) {
  k.workspace([](const KernelArgs& a) { return walk_bytes(a.in + 1, a.n_in - 1); }).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &y = a.out[0];
    IndexWalk w;
    if (KernelStatus s = prepare(w, a.get<IndexParams>().axis, x, y, a.in + 1, a.n_in - 1, a.workspace); s.code) return s;
    with_size(size_of(x.dtype), [&](auto tag) {
      using T = decltype(tag);
      const T* from = x.ptr<T>();
      T* to = y.ptr<T>();
      w.run_any_order([=](int64_t p, int64_t q, int64_t n, int64_t sp, int64_t sq) {
        if (n > 1 && sp == 1 && sq == 1)
          std::memcpy(to + q, from + p, size_t(n) * sizeof(T));
        else
          for (int64_t i = 0; i < n; ++i) to[q + i * sq] = from[p + i * sp];
      });
    });
    return {};
  });
}

KEEL_CPU_KERNEL(index_put) {
  k.workspace([](const KernelArgs& a) {
     const auto& p = a.get<IndexPutParams>();
     return walk_bytes(a.in + 2, a.n_in - 2) + (p.accumulate ? sums_bytes(a.in[0].dtype, a.in[0].size()) : 0);
   }).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<IndexPutParams>();
    const TensorView &x = a.in[0], &v = a.in[1], &y = a.out[0];
    IndexWalk w;
    if (KernelStatus s = prepare(w, p.axis, y, v, a.in + 2, a.n_in - 2, a.workspace); s.code) return s;
    copy_view(x, y);
    if (!p.accumulate) {
      with_size(size_of(x.dtype), [&](auto tag) { write_rows(w, y.ptr<decltype(tag)>(), v.ptr<const decltype(tag)>()); });
    } else {
      add_into(y, false, static_cast<char*>(a.workspace) + walk_bytes(a.in + 2, a.n_in - 2),
               [&](auto* sums, auto tag) { add_rows(w, sums, v.ptr<const decltype(tag)>()); });
    }
    return {};
  });
}

KEEL_CPU_KERNEL(index_get_backward) {
  k.workspace([](const KernelArgs& a) {
     return walk_bytes(a.in + 1, a.n_in - 1) + sums_bytes(a.in[0].dtype, a.out[0].size());
   }).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &g = a.in[0], &y = a.out[0];
    IndexWalk w;
    if (KernelStatus s = prepare(w, a.get<IndexBackwardParams>().axis, y, g, a.in + 1, a.n_in - 1, a.workspace); s.code) return s;
    add_into(y, true, static_cast<char*>(a.workspace) + walk_bytes(a.in + 1, a.n_in - 1),
             [&](auto* sums, auto tag) { add_rows(w, sums, g.ptr<const decltype(tag)>()); });
    return {};
  });
}

KEEL_CPU_KERNEL(index_write) {
  k.workspace([](const KernelArgs& a) { return walk_bytes(a.in + 2, a.n_in - 2); }).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &v = a.in[1];
    IndexWalk w;
    if (KernelStatus s = prepare(w, a.get<IndexPutParams>().axis, x, v, a.in + 2, a.n_in - 2, a.workspace); s.code) return s;
    with_size(size_of(x.dtype), [&](auto tag) { write_rows(w, x.ptr<decltype(tag)>(), v.ptr<const decltype(tag)>()); });
    return {};
  });
}

KEEL_CPU_KERNEL(index_winners) {
  // last[cell] is the last index that names the cell; cells nobody names stay unset and are never read.
  k.workspace([](const KernelArgs& a) {
     const auto& p = a.get<IndexBackwardParams>();
     const IndexShape s(p.axis, a.n_in, p.shape.rank());
     int64_t cells = 1;
     for (int i = 0; i < s.n; ++i) cells *= p.shape[s.axis[i]];
     return walk_bytes(a.in, a.n_in) + size_t(cells) * 8;
   }).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<IndexBackwardParams>();
    const IndexShape s(p.axis, a.n_in, p.shape.rank());
    int64_t extent[kMaxRank], step[kMaxRank], cells = 1;
    for (int i = s.n - 1; i >= 0; --i) extent[i] = p.shape[s.axis[i]], step[i] = cells, cells *= extent[i];
    auto* cell = static_cast<int64_t*>(a.workspace);
    const Shape b = broadcast_views(a.in, a.n_in);
    if (KernelStatus st = index_offsets(a.in, a.n_in, extent, step, s.axis, b, cell); st.code) return st;
    auto* last = reinterpret_cast<int64_t*>(static_cast<char*>(a.workspace) + walk_bytes(a.in, a.n_in));
    const int64_t n = b.numel();
    for (int64_t i = 0; i < n; ++i) last[cell[i]] = i;
    bool* won = a.out[0].ptr<bool>();
    parallel_for(0, n, 1 << 14, [&](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; ++i) won[i] = last[cell[i]] == i;
    });
    return {};
  });
}
