// sort and topk along any axis. Rows go to threads; each is turned into items of (key, position), sorted (radix from 768 items on, least
// digit first, digits that do not vary skipped; below by comparison) and read back. One long row is sorted in parts and merged. topk keeps
// the k best seen so far and a bound, so a row costs one pass and little more; where k is a large part of the row it is sorted whole.
#include "backend/cpu/sort_keys.h"

#include "backend/kernel.h"
#include "keel/ops/sort.h"

namespace keel::cpu {
namespace {

struct Rows {
  int64_t n = 1, step = 1, count = 1;  // along the axis; how many rows
  int axis = 0;

  Rows(const TensorView& x, int64_t given) : axis(int(given < 0 ? given + x.rank() : given)) {
    if (x.rank() == 0) {
      axis = 0;
      return;
    }
    n = x.dim(axis), step = x.stride(axis);
    for (int i = 0; i < x.rank(); ++i)
      if (i != axis) count *= x.dim(i);
  }
  /// Where row r begins in `v`.
  int64_t begin(const TensorView& v, int64_t r) const {
    int64_t at = 0;
    for (int i = v.rank() - 1; i >= 0; --i) {
      if (i == axis) continue;
      at += r % v.dim(i) * v.stride(i), r /= v.dim(i);
    }
    return at;
  }
};

bool wide(DType t, int64_t n) { return size_of(t) == 8 || n > int64_t(0xffffffff); }
size_t item_bytes(DType t, int64_t n) { return wide(t, n) ? sizeof(WideItem) : sizeof(uint64_t); }
/// Row groups that run side by side, each with buffers of its own.
int64_t lanes(const Rows& r) { return std::max<int64_t>(1, std::min(r.count, num_threads())); }

template <class T>
void put_rows(const TensorView& x, const TensorView& values, const TensorView& indices, const Rows& r, int64_t row, const auto* items,
              int64_t k) {
  const T* from = x.ptr<T>() + r.begin(x, row);
  const int64_t to = r.begin(values, row), step = values.rank() ? values.stride(r.axis) : 1;
  T* v = values.ptr<T>() + to;
  int64_t* at = indices.ptr<int64_t>() + to;
  for (int64_t i = 0; i < k; ++i) {
    const int64_t p = int64_t(position(items[i]));
    v[i * step] = from[p * r.step], at[i * step] = p;
  }
}
void put_row(const TensorView& x, const TensorView& values, const TensorView& indices, const Rows& r, int64_t row, const auto* items,
             int64_t k) {
  switch (size_of(x.dtype)) {
    case 1: return put_rows<uint8_t>(x, values, indices, r, row, items, k);
    case 2: return put_rows<uint16_t>(x, values, indices, r, row, items, k);
    case 4: return put_rows<uint32_t>(x, values, indices, r, row, items, k);
    default: return put_rows<uint64_t>(x, values, indices, r, row, items, k);
  }
}

template <class Item, DType t>
void sort_rows(const KernelArgs& a, const Rows& r, int64_t k, bool flip) {
  const TensorView& x = a.in[0];
  const int64_t size = int64_t(size_of(t)), n = r.n;
  auto* space = static_cast<Item*>(a.workspace);
  auto fill = [&](int64_t row, Item* items, int64_t lo, int64_t hi) {
    const auto* from = static_cast<const std::byte*>(x.data) + r.begin(x, row) * size;
    for (int64_t i = lo; i < hi; ++i) items[i] = item_of<Item, t>(from + i * r.step * size, uint64_t(i), flip);
  };
  if (r.count == 1) {
    parallel_for(0, n, 1 << 15, [&](int64_t lo, int64_t hi) { fill(0, space, lo, hi); });
    sort_items_parallel(space, space + n, n, key_bits(t));
    return put_row(x, a.out[0], a.out[1], r, 0, space, k);
  }
  const int64_t groups = lanes(r);
  parallel_for(0, groups, 1 + groups * (1 << 12) / (r.count * n + 1), [&](int64_t lo, int64_t hi) {
    for (int64_t g = lo; g < hi; ++g) {
      Item* items = space + g * 2 * n;
      for (int64_t row = r.count * g / groups; row < r.count * (g + 1) / groups; ++row) {
        fill(row, items, 0, n);
        sort_items(items, items + n, n, key_bits(t));
        put_row(x, a.out[0], a.out[1], r, row, items, k);
      }
    }
  });
}

/// Whether choosing k of n goes through the whole sort.
bool mostly(int64_t k, int64_t n) { return select_room(k) >= n; }
/// Parts of one long row that are searched side by side.
int64_t search_parts(const Rows& r) { return r.count == 1 ? std::max<int64_t>(1, std::min(num_threads(), r.n >> 16)) : lanes(r); }

template <class Item, DType t>
void choose_rows(const KernelArgs& a, const Rows& r, int64_t k, bool flip) {
  const TensorView& x = a.in[0];
  const int64_t size = int64_t(size_of(t)), room = select_room(k), groups = search_parts(r);
  auto* space = static_cast<Item*>(a.workspace);
  auto maker = [&](int64_t row) {
    const auto* from = static_cast<const std::byte*>(x.data) + r.begin(x, row) * size;
    return [=, step = r.step * size](int64_t i) { return item_of<Item, t>(from + i * step, uint64_t(i), flip); };
  };
  if (r.count == 1) {
    auto* found = reinterpret_cast<int64_t*>(space + groups * room);
    parallel_for(0, groups, [&](int64_t lo, int64_t hi) {
      for (int64_t g = lo; g < hi; ++g)
        found[g] = select_items(r.n * g / groups, r.n * (g + 1) / groups, k, space + g * room, room, maker(0));
    });
    int64_t total = found[0];
    for (int64_t g = 1; g < groups; ++g)
      std::memmove(static_cast<void*>(space + total), space + g * room, size_t(found[g]) * sizeof(Item)), total += found[g];
    std::partial_sort(space, space + k, space + total);
    return put_row(x, a.out[0], a.out[1], r, 0, space, k);
  }
  parallel_for(0, groups, 1 + groups * (1 << 12) / (r.count * r.n + 1), [&](int64_t lo, int64_t hi) {
    for (int64_t g = lo; g < hi; ++g) {
      Item* items = space + g * room;
      for (int64_t row = r.count * g / groups; row < r.count * (g + 1) / groups; ++row) {
        select_items(0, r.n, k, items, room, maker(row));
        std::sort(items, items + k);
        put_row(x, a.out[0], a.out[1], r, row, items, k);
      }
    }
  });
}

using Runner = void (*)(const KernelArgs& a, const Rows& r, int64_t k, bool flip);
template <DType t>
Runner runner(bool choose, bool is_wide) {
  if constexpr (size_of(t) == 8)
    return choose ? choose_rows<WideItem, t> : sort_rows<WideItem, t>;
  else if (is_wide)
    return choose ? choose_rows<WideItem, t> : sort_rows<WideItem, t>;
  else
    return choose ? choose_rows<uint64_t, t> : sort_rows<uint64_t, t>;
}
Runner runner_for(DType t, bool choose, bool w) {
  switch (t) {
    case f64: return runner<f64>(choose, w);
    case f32: return runner<f32>(choose, w);
    case f16: return runner<f16>(choose, w);
    case bf16: return runner<bf16>(choose, w);
    case i64: return runner<i64>(choose, w);
    case i32: return runner<i32>(choose, w);
    case i16: return runner<i16>(choose, w);
    case i8: return runner<i8>(choose, w);
    case u64: return runner<u64>(choose, w);
    case u32: return runner<u32>(choose, w);
    case u16: return runner<u16>(choose, w);
    default: return runner<u8>(choose, w);
  }
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(sort) {
  k.dtypes(kinds::ordered)
      .workspace([](const KernelArgs& a) {
        const Rows r(a.in[0], a.get<SortParams>().axis);
        return size_t(lanes(r)) * 2 * size_t(r.n) * item_bytes(a.in[0].dtype, r.n);
      })
      .run([](const KernelArgs& a) -> KernelStatus {
        const auto& p = a.get<SortParams>();
        const Rows r(a.in[0], p.axis);
        if (r.n * r.count == 0) return {};
        runner_for(a.in[0].dtype, false, wide(a.in[0].dtype, r.n))(a, r, r.n, p.descending);
        return {};
      });
}

KEEL_CPU_KERNEL(topk) {
  k.dtypes(kinds::ordered)
      .workspace([](const KernelArgs& a) {
        const auto& p = a.get<TopkParams>();
        const Rows r(a.in[0], p.axis);
        const size_t bytes = item_bytes(a.in[0].dtype, r.n);
        if (mostly(p.k, r.n)) return size_t(lanes(r)) * 2 * size_t(r.n) * bytes;
        const int64_t groups = search_parts(r);
        return size_t(groups * select_room(p.k)) * bytes + size_t(groups) * 8;
      })
      .run([](const KernelArgs& a) -> KernelStatus {
        const auto& p = a.get<TopkParams>();
        const Rows r(a.in[0], p.axis);
        if (p.k * r.n * r.count == 0) return {};
        runner_for(a.in[0].dtype, !mostly(p.k, r.n), wide(a.in[0].dtype, r.n))(a, r, p.k, p.largest);
        return {};
      });
}
