// Indexing by integer arrays: first every index is checked and turned into an offset, then elements are moved. Where indices may name an
// element twice, the last one writes, and additions are made in the order of the indices: entries are sorted by the element that they name,
// and one thread adds those of one element. So results do not depend on timing.
#include "keel/ops/index.h"
#include "keel/ops/pool.h"

#include "backend/cuda/copy.h"
#include "backend/cuda/fault.cuh"
#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/sort.h"
#include "keel/ops/embedding.h"
#include "op/index_shape.h"

using namespace keel;
using namespace keel::cuda;

namespace {

constexpr int64_t kNowhere = INT64_MIN;

unsigned blocks_for(int64_t n) { return unsigned(ceil_div(n, kThreads)); }

/// offsets[k] += index k times `step`; bad ones are reported and lead nowhere. `cells` the same with `cell_step`, or null.
__global__ void __launch_bounds__(kThreads) add_offsets(int64_t n, DeviceWalk<1> w, const void* index, DType t, Reporter reporter,
                                                        bool first, int64_t step, int64_t cell_step, int64_t* offsets, int64_t* cells) {
  const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k >= n) return;
  int64_t at[1];
  offsets_of(w, k, at);
  const int64_t i = reporter.index(load_index(index, t, at[0]), k), before = first ? 0 : offsets[k];
  const bool lost = i < 0 || before == kNowhere;
  offsets[k] = lost ? kNowhere : before + i * step;
  if (cells) cells[k] = lost ? kNowhere : (first ? 0 : cells[k]) + i * cell_step;
}

Shape broadcast_of(const TensorView* v, int n) {
  int rank = 0;
  for (int i = 0; i < n; ++i) rank = std::max(rank, v[i].rank());
  Shape b;
  b.resize(rank, 1);
  for (int i = 0; i < n; ++i) {
    for (int k = 1; k <= v[i].rank(); ++k)
      if (v[i].dim(v[i].rank() - k) != 1) b[-k] = v[i].dim(v[i].rank() - k);
  }
  return b;
}

/// The indexed operand p (axes of x that arrays replace), the plain one q, and the position among the arrays, over `shape`.
struct Plan {
  IndexShape s;
  Shape b, x_shape;
  int64_t count, cells = 1, rest = 1;  // of the arrays; of elements that they can name; of elements under one index
  Walk<3> inside;                      // p, q, position: the axes that are not indexed
  Walk<2> places;                      // q, position: the axes of the arrays

  /// `x`: shape and strides of the indexed operand; `q`: the plain one, which may broadcast.
  Plan(const Dims& axis, const TensorView& x, const TensorView& q, const TensorView* arrays, int n)
      : s(axis, n, x.rank()), b(broadcast_of(arrays, n)), x_shape(x.shape()), count(b.numel()) {
    const Shape full = s.result(x.shape(), b);
    const auto q_stride = [&](int i) {
      const int at = i - (full.rank() - q.rank());
      return at < 0 || q.dim(at) == 1 ? int64_t(0) : q.stride(at);
    };
    int plain[kMaxRank], plain_at[kMaxRank], n_plain = 0, at = 0, first = 0;
    for (int i = 0, seen = 0; i <= x.rank(); ++i) {
      if (seen == s.at) first = at, at += b.rank(), seen = -1;
      if (i == x.rank() || s.indexed[i]) continue;
      plain[n_plain] = i, plain_at[n_plain++] = at++;
      if (seen >= 0) ++seen;
    }
    for (int k = n_plain - 1; k >= 0; --k) {
      inside.push(x.dim(plain[k]), {x.stride(plain[k]), q_stride(plain_at[k]), 0});
      rest *= x.dim(plain[k]);
    }
    int64_t step = 1;
    for (int k = b.rank() - 1; k >= 0; --k) {
      places.push(b[k], {q_stride(first + k), step});
      step *= b[k];
    }
    for (int i = 0; i < s.n; ++i) cells *= x.dim(s.axis[i]);
  }
  bool empty() const { return count == 0 || rest == 0; }

  /// Fills offsets (and cells) of all positions.
  void locate(const KernelArgs& a, const TensorView& x, const TensorView* arrays, int64_t* offsets, int64_t* cell) const {
    int64_t cell_step = cells;
    for (int i = 0; i < s.n; ++i) {
      const int64_t extent = x.dim(s.axis[i]);
      cell_step = extent ? cell_step / extent : 0;
      Walk<1> w;
      for (int k = b.rank() - 1; k >= 0; --k) {
        const int at = k - (b.rank() - arrays[i].rank());
        w.push(b[k], {at < 0 || arrays[i].dim(at) == 1 ? int64_t(0) : arrays[i].stride(at)});
      }
      add_offsets<<<blocks_for(count), kThreads, 0, stream(a)>>>(count, DeviceWalk<1>(w, count), arrays[i].data, arrays[i].dtype,
                                                                 Reporter(a, KernelStatus::index_on(s.axis[i], 0, extent)), i == 0,
                                                                 x.stride(s.axis[i]), cell_step, offsets, cell);
    }
  }
};

/// Moves T between x (at offsets) and the plain operand. `winner`: where given, only the position that it names for a cell writes.
template <class T, bool into>
__global__ void __launch_bounds__(kThreads) move_kernel(int64_t total, int64_t rest, DeviceWalk<3> inside, DeviceWalk<2> places,
                                                        const int64_t* offsets, const int64_t* cells, const int64_t* winner, T* x, T* q) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= total) return;
  const int64_t k = i / rest;
  const int64_t offset = offsets[k];
  if (offset == kNowhere || (winner && winner[cells[k]] != k)) return;
  int64_t in[3], at[2];
  offsets_of(inside, i - k * rest, in), offsets_of(places, k, at);
  if constexpr (into)
    x[offset + in[0]] = q[at[0] + in[1]];
  else
    q[at[0] + in[1]] = x[offset + in[0]];
}
__global__ void __launch_bounds__(kThreads) find_winners(int64_t n, const int64_t* cells, long long* winner) {
  const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k < n && cells[k] != kNowhere) atomicMax(&winner[cells[k]], (long long)(k));
}
__global__ void __launch_bounds__(kThreads) tell_winners(int64_t n, const int64_t* cells, const int64_t* winner, bool* won) {
  const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k < n) won[k] = cells[k] != kNowhere && winner[cells[k]] == k;
}

template <bool into>
KernelStatus move(const KernelArgs& a, const Plan& plan, const TensorView& x, const TensorView& q, const int64_t* offsets,
                  const int64_t* cells, const int64_t* winner) {
  const int64_t total = plan.count * plan.rest;
  const auto go = [&](auto t) {
    using T = decltype(t);
    move_kernel<T, into><<<blocks_for(total), kThreads, 0, stream(a)>>>(total, plan.rest, DeviceWalk<3>(plan.inside, plan.rest),
                                                                        DeviceWalk<2>(plan.places, plan.count), offsets, cells, winner,
                                                                        x.ptr<T>(), q.ptr<T>());
  };
  switch (size_of(x.dtype)) {
    case 1: go(uint8_t()); break;
    case 2: go(uint16_t()); break;
    case 4: go(uint32_t()); break;
    case 8: go(uint64_t()); break;
    default: go(ulonglong2());
  }
  return launched();
}

/// Sums in the type that adds: 16-bit floats in f32, integers in 64 bits, bools by or.
template <class T>
struct Adder {
  using A = std::conditional_t<std::is_integral_v<T>, uint64_t, Compute<T>>;
  static __device__ A wide(T v) { return A(widen(v)); }
  static __device__ A add(A a, A b) {
    if constexpr (std::is_same_v<T, bool>)
      return a | b;
    else
      return a + b;
  }
  static __device__ T back(A a) {
    if constexpr (std::is_integral_v<T>)
      return T(a);
    else
      return narrow<T>(a);
  }
};

__global__ void __launch_bounds__(kThreads) cell_keys(int64_t n, const int64_t* cells, int64_t nowhere, uint64_t* keys, int64_t* order) {
  const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k < n) keys[k] = uint64_t(cells[k] == kNowhere ? nowhere : cells[k]), order[k] = k;
}
/// For the first entry of every cell and each of its elements: y += all entries of the cell, in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_entries(int64_t n, int64_t rest, int64_t nowhere, DeviceWalk<3> inside, DeviceWalk<2> places, const uint64_t* keys,
                const int64_t* order, const int64_t* offsets, T* y, const T* q) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, k = i / rest;
  if (k >= n) return;
  const uint64_t key = keys[k];
  if (int64_t(key) == nowhere || (k > 0 && keys[k - 1] == key)) return;
  int64_t in[3], at[2];
  offsets_of(inside, i - k * rest, in);
  T* const to = y + offsets[order[k]] + in[0];
  auto sum = Adder<T>::wide(*to);
  for (int64_t m = k; m < n && keys[m] == key; ++m) {
    offsets_of(places, order[m], at);
    sum = Adder<T>::add(sum, Adder<T>::wide(q[at[0] + in[1]]));
  }
  *to = Adder<T>::back(sum);
}

using Addable = TypeList<float, double, half, bfloat, int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, bool>;
const char* refuse_rare(DType t) { return contains(kinds::ordered, t) ? nullptr : "complex numbers and fp8"; }

/// Workspace: offsets, cells, then the room to sort `n` entries, or the winners of `cells`.
size_t entries_bytes(int64_t n) { return size_t(ceil_div(2 * n * 8, 256)) * 256; }
size_t sum_bytes(const KernelArgs& a, int64_t n) {
  use(a.device);
  return entries_bytes(n) + SortRoom::bytes(n);
}

/// y += q where the plan's entries lie, given in offsets and cells.
KernelStatus add_sorted(const KernelArgs& a, int64_t n, int64_t rest, int64_t cells, const Walk<3>& inside, const Walk<2>& places,
                        const int64_t* offset, const int64_t* cell, const TensorView& y, const TensorView& q) {
  if (n == 0 || rest == 0) return {};
  const cudaStream_t s = stream(a);
  SortRoom room(static_cast<char*>(a.workspace) + entries_bytes(n), n);
  cell_keys<<<blocks_for(n), kThreads, 0, s>>>(n, cell, cells, room.keys, room.order);
  if (KernelStatus status = room.sort(n, 0, bits_for(uint64_t(cells) + 1), s); status.code) return status;
  Addable::call(y.dtype, [&](auto t) {
    using T = decltype(t);
    add_entries<T><<<blocks_for(n * rest), kThreads, 0, s>>>(n, rest, cells, DeviceWalk<3>(inside, rest), DeviceWalk<2>(places, n),
                                                             room.keys, room.order, offset, y.ptr<T>(), q.ptr<T>());
  });
  return launched();
}
KernelStatus accumulate(const KernelArgs& a, const Dims& axis, const TensorView& y, const TensorView& q, const TensorView* arrays, int n) {
  const Plan plan(axis, y, q, arrays, n);
  if (plan.empty()) return {};
  auto* offset = static_cast<int64_t*>(a.workspace);
  auto* cell = offset + plan.count;
  plan.locate(a, y, arrays, offset, cell);
  return add_sorted(a, plan.count, plan.rest, plan.cells, plan.inside, plan.places, offset, cell, y, q);
}
/// y = q at the arrays, the last of several.
KernelStatus write(const KernelArgs& a, const Dims& axis, const TensorView& y, const TensorView& q, const TensorView* arrays, int n) {
  const Plan plan(axis, y, q, arrays, n);
  if (plan.empty()) return {};
  auto* offset = static_cast<int64_t*>(a.workspace);
  auto *cell = offset + plan.count, *winner = cell + plan.count;
  plan.locate(a, y, arrays, offset, cell);
  if (plan.count > 1) {
    cudaMemsetAsync(winner, 0xff, size_t(plan.cells) * 8, stream(a));
    find_winners<<<blocks_for(plan.count), kThreads, 0, stream(a)>>>(plan.count, cell, reinterpret_cast<long long*>(winner));
  }
  return move<true>(a, plan, y, q, offset, cell, plan.count > 1 ? winner : nullptr);
}
size_t write_bytes(const Dims& axis, const TensorView& x, const TensorView* arrays, int n) {
  const Plan plan(axis, x, x, arrays, n);
  return size_t(2 * plan.count + plan.cells) * 8;
}

// ---- along one axis, by an index of the result's shape ----
int axis_of(int64_t axis, int rank) { return int(axis < 0 ? axis + (rank ? rank : 1) : axis); }

template <class T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(int64_t n, DeviceWalk<3> w, int64_t step, Reporter reporter, const T* x, const void* index, DType t, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t at[3];
  offsets_of(w, i, at);
  const int64_t k = reporter.index(load_index(index, t, at[2]), i);
  if (k >= 0) y[at[0]] = x[at[1] + k * step];
}
/// Offsets of the elements of y that the entries of a dense index name along an axis.
__global__ void __launch_bounds__(kThreads)
    locate_along(int64_t n, DeviceWalk<1> w, int64_t step, Reporter reporter, const void* index, DType t, int64_t* offset, int64_t* cell) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  int64_t at[1];
  offsets_of(w, i, at);
  const int64_t k = reporter.index(load_index(index, t, i), i);
  offset[i] = cell[i] = k < 0 ? kNowhere : at[0] + k * step;
}
KernelStatus scatter(const KernelArgs& a, int64_t given, const TensorView& index, const TensorView& source, const TensorView& y) {
  const int axis = axis_of(given, y.rank());
  const int64_t n = index.size();
  if (n == 0) return {};
  Walk<1> w;
  for (int i = y.rank() - 1; i >= 0; --i) w.push(index.dim(i), {i == axis ? int64_t(0) : y.stride(i)});
  auto* offset = static_cast<int64_t*>(a.workspace);
  const Reporter reporter(a, KernelStatus::index_on(axis, 0, y.rank() ? y.dim(axis) : 1));
  locate_along<<<blocks_for(n), kThreads, 0, stream(a)>>>(n, DeviceWalk<1>(w, n), y.rank() ? y.stride(axis) : 0, reporter, index.data,
                                                          index.dtype, offset, offset + n);
  Walk<2> line;
  line.push(n, {1, 1});
  return add_sorted(a, n, 1, y.size(), Walk<3>(), line, offset, offset + n, y, source);
}

// ---- rows by id ----
template <class T>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(int64_t n, int64_t width, int64_t step, Reporter reporter, const void* ids, DType t, const T* weight, T* y) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, k = i / width;
  if (k >= n) return;
  const int64_t id = reporter.place(load_index(ids, t, k), k);
  if (id >= 0) y[i] = weight[id * step + (i - k * width)];
}
__global__ void __launch_bounds__(kThreads)
    locate_rows(int64_t n, int64_t step, int64_t padding, Reporter reporter, const void* ids, DType t, int64_t* offset, int64_t* cell) {
  const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k >= n) return;
  int64_t id = reporter.place(load_index(ids, t, k), k);
  if (id == padding) id = -1;
  offset[k] = id < 0 ? kNowhere : id * step, cell[k] = id < 0 ? kNowhere : id;
}
// ---- places in planes ----
__global__ void __launch_bounds__(kThreads)
    locate_places(int64_t n, int64_t per_plane, int64_t spots, Reporter reporter, const int32_t* index, int64_t* offset, int64_t* cell) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  const int64_t p = reporter.place(index[i], i);
  offset[i] = cell[i] = p < 0 ? kNowhere : i / per_plane * spots + p;
}
void clear(const KernelArgs& a, const TensorView& y) { cudaMemsetAsync(y.data, 0, size_t(y.size()) * size_of(y.dtype), stream(a)); }

}  // namespace

KEEL_CUDA_KERNEL(index_get) {
  k.late()
      .workspace([](const KernelArgs& a) { return size_t(broadcast_of(a.in + 1, a.n_in - 1).numel()) * 8; })
      .run([](const KernelArgs& a) -> KernelStatus {
        use(a.device);
        const Plan plan(a.get<IndexParams>().axis, a.in[0], a.out[0], a.in + 1, a.n_in - 1);
        if (plan.empty()) return {};
        auto* offset = static_cast<int64_t*>(a.workspace);
        plan.locate(a, a.in[0], a.in + 1, offset, nullptr);
        return move<false>(a, plan, a.in[0], a.out[0], offset, nullptr, nullptr);
      });
}
KEEL_CUDA_KERNEL(index_write) {
  k.late()
      .outputs(Layout::strided)
      .workspace([](const KernelArgs& a) { return write_bytes(a.get<IndexPutParams>().axis, a.in[0], a.in + 2, a.n_in - 2); })
      .run([](const KernelArgs& a) {
        use(a.device);
        return write(a, a.get<IndexPutParams>().axis, a.in[0], a.in[1], a.in + 2, a.n_in - 2);
      });
}
KEEL_CUDA_KERNEL(index_put) {
  k.late()
      .refuses([](const void* p, Specs in) -> const char* {
        return static_cast<const IndexPutParams*>(p)->accumulate ? refuse_rare(in[0].dtype) : nullptr;
      })
      .workspace([](const KernelArgs& a) {
        const auto& p = a.get<IndexPutParams>();
        return p.accumulate ? sum_bytes(a, broadcast_of(a.in + 2, a.n_in - 2).numel()) : write_bytes(p.axis, a.in[0], a.in + 2, a.n_in - 2);
      })
      .run([](const KernelArgs& a) {
        use(a.device);
        const auto& p = a.get<IndexPutParams>();
        if (KernelStatus s = copy_view(a.in[0], a.out[0], a.device, stream(a)); s.code) return s;
        return p.accumulate ? accumulate(a, p.axis, a.out[0], a.in[1], a.in + 2, a.n_in - 2)
                            : write(a, p.axis, a.out[0], a.in[1], a.in + 2, a.n_in - 2);
      });
}
KEEL_CUDA_KERNEL(index_get_backward) {
  k.late()
      .dtypes(kinds::ordered)
      .workspace([](const KernelArgs& a) { return sum_bytes(a, broadcast_of(a.in + 1, a.n_in - 1).numel()); })
      .run([](const KernelArgs& a) {
        use(a.device);
        clear(a, a.out[0]);
        return accumulate(a, a.get<IndexBackwardParams>().axis, a.out[0], a.in[0], a.in + 1, a.n_in - 1);
      });
}
KEEL_CUDA_KERNEL(index_winners) {
  k.late()
      .workspace([](const KernelArgs& a) {
        const auto& p = a.get<IndexBackwardParams>();
        const IndexShape s(p.axis, a.n_in, p.shape.rank());
        int64_t cells = 1;
        for (int i = 0; i < s.n; ++i) cells *= p.shape[s.axis[i]];
        return size_t(2 * a.out[0].size() + cells) * 8;
      })
      .run([](const KernelArgs& a) -> KernelStatus {
        const auto& p = a.get<IndexBackwardParams>();
        use(a.device);
        Strides dense;
        dense.resize(p.shape.rank());
        for (int64_t i = p.shape.rank() - 1, step = 1; i >= 0; --i) dense[int(i)] = step, step *= p.shape[int(i)];
        const TensorView x{nullptr, f32, &p.shape, &dense};
        const Plan plan(p.axis, x, x, a.in, a.n_in);
        if (plan.count == 0) return {};
        auto* offset = static_cast<int64_t*>(a.workspace);
        auto *cell = offset + plan.count, *winner = cell + plan.count;
        plan.locate(a, x, a.in, offset, cell);
        cudaMemsetAsync(winner, 0xff, size_t(plan.cells) * 8, stream(a));
        find_winners<<<blocks_for(plan.count), kThreads, 0, stream(a)>>>(plan.count, cell, reinterpret_cast<long long*>(winner));
        tell_winners<<<blocks_for(plan.count), kThreads, 0, stream(a)>>>(plan.count, cell, winner, a.out[0].ptr<bool>());
        return launched();
      });
}
KEEL_CUDA_KERNEL(gather) {
  k.late().run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &x = a.in[0], &index = a.in[1], &y = a.out[0];
    const int64_t n = y.size();
    if (n == 0) return {};
    use(a.device);
    const int axis = axis_of(a.get<GatherParams>().axis, x.rank());
    Walk<3> w;
    for (int i = y.rank() - 1; i >= 0; --i) w.push(y.dim(i), {y.stride(i), i == axis ? int64_t(0) : x.stride(i), index.stride(i)});
    const Reporter reporter(a, KernelStatus::index_on(axis, 0, x.rank() ? x.dim(axis) : 1));
    const auto go = [&](auto t) {
      using T = decltype(t);
      gather_kernel<T><<<blocks_for(n), kThreads, 0, stream(a)>>>(n, DeviceWalk<3>(w, n), x.rank() ? x.stride(axis) : 0, reporter,
                                                                  x.ptr<T>(), index.data, index.dtype, y.ptr<T>());
    };
    switch (size_of(x.dtype)) {
      case 1: go(uint8_t()); break;
      case 2: go(uint16_t()); break;
      case 4: go(uint32_t()); break;
      case 8: go(uint64_t()); break;
      default: go(ulonglong2());
    }
    return launched();
  });
}
KEEL_CUDA_KERNEL(scatter_add) {
  k.late()
      .dtypes(kinds::real)
      .input(1, Layout::contiguous)
      .input(2, Layout::contiguous)
      .workspace([](const KernelArgs& a) { return sum_bytes(a, a.in[1].size()); })
      .run([](const KernelArgs& a) {
        use(a.device);
        if (KernelStatus s = copy_view(a.in[0], a.out[0], a.device, stream(a)); s.code) return s;
        return scatter(a, a.get<GatherParams>().axis, a.in[1], a.in[2], a.out[0]);
      });
}
KEEL_CUDA_KERNEL(gather_backward) {
  k.late()
      .dtypes(kinds::ordered)
      .inputs(Layout::contiguous)
      .workspace([](const KernelArgs& a) { return sum_bytes(a, a.in[1].size()); })
      .run([](const KernelArgs& a) {
        use(a.device);
        clear(a, a.out[0]);
        return scatter(a, a.get<IndexBackwardParams>().axis[0], a.in[1], a.in[0], a.out[0]);
      });
}
KEEL_CUDA_KERNEL(embedding) {
  k.late()
      .input(0, Layout::contiguous)
      .input(1, Layout::rows)
      .refuses([](const void*, Specs in) -> const char* { return size_of(in[1].dtype) > 8 ? "complex numbers" : nullptr; })
      .run([](const KernelArgs& a) -> KernelStatus {
        const TensorView &ids = a.in[0], &w = a.in[1], &y = a.out[0];
        const int64_t n = ids.size(), width = w.dim(1);
        if (y.size() == 0) return {};
        use(a.device);
        const Reporter reporter(a, KernelStatus::place(0, w.dim(0), "id"));
        const auto go = [&](auto t, int64_t per) {  // `per` elements of the weight in one T
          using T = decltype(t);
          embedding_kernel<T><<<blocks_for(y.size() / per), kThreads, 0, stream(a)>>>(n, width / per, w.stride(0) / per, reporter, ids.data,
                                                                                      ids.dtype, w.ptr<T>(), y.ptr<T>());
        };
        const auto size = int64_t(size_of(w.dtype)), per = 16 / size;
        const bool packs = width % per == 0 && w.stride(0) % per == 0 && reinterpret_cast<uintptr_t>(w.data) % 16 == 0;
        if (packs)
          go(ulonglong2(), per);
        else if (size == 2)
          go(uint16_t(), 1);
        else if (size == 4)
          go(uint32_t(), 1);
        else
          go(uint64_t(), 1);
        return launched();
      });
}
KEEL_CUDA_KERNEL(embedding_backward) {
  k.late()
      .dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .workspace([](const KernelArgs& a) { return sum_bytes(a, a.in[1].size()); })
      .run([](const KernelArgs& a) -> KernelStatus {
        const auto& p = a.get<EmbeddingBackwardParams>();
        const TensorView &g = a.in[0], &ids = a.in[1], &y = a.out[0];
        const int64_t n = ids.size(), width = y.dim(1);
        use(a.device);
        clear(a, y);
        if (n == 0) return {};
        auto* offset = static_cast<int64_t*>(a.workspace);
        locate_rows<<<blocks_for(n), kThreads, 0, stream(a)>>>(n, width, p.padding_index, Reporter(a, KernelStatus::place(0, p.rows, "id")),
                                                               ids.data, ids.dtype, offset, offset + n);
        Walk<3> inside;
        inside.push(width, {1, 1, 0});
        Walk<2> places;
        places.push(n, {width, 1});
        return add_sorted(a, n, width, p.rows, inside, places, offset, offset + n, y, g);
      });
}
KEEL_CUDA_KERNEL(max_pool2d_backward) {
  k.late()
      .dtypes(kinds::floating)
      .refuses([](const void* p, Specs) { return static_cast<const MaxPool2dBackwardParams*>(p)->kernel[0] ? "the windows are known" : nullptr; })
      .inputs(Layout::contiguous)
      .workspace([](const KernelArgs& a) { return sum_bytes(a, a.in[1].size()); })
      .run([](const KernelArgs& a) -> KernelStatus {
        const TensorView &g = a.in[0], &y = a.out[0];
        const int64_t n = g.size(), spots = y.dim(2) * y.dim(3);
        use(a.device);
        clear(a, y);
        if (n == 0) return {};
        auto* offset = static_cast<int64_t*>(a.workspace);
        locate_places<<<blocks_for(n), kThreads, 0, stream(a)>>>(
            n, g.dim(2) * g.dim(3), spots, Reporter(a, KernelStatus::place(0, spots, "index")), a.in[1].ptr<int32_t>(), offset, offset + n);
        Walk<2> line;
        line.push(n, {1, 1});
        return add_sorted(a, n, 1, y.size(), Walk<3>(), line, offset, offset + n, y, g);
      });
}
