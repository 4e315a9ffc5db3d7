// Driver of reductions. The axes are put in the order of memory and merged; then each stage removes the innermost reduced axis: as rows
// where it has stride 1, else as columns, whose strips of 256 to 1024 columns stay in L1. A stage's results are contiguous in the dtype of
// partial results, and are the next stage's input. Rows are cut into blocks of 4096 elements and columns into blocks of 256 rows, joined
// pairwise; long ones are cut among threads at nodes of that tree, so neither threads nor batch change a bit. Traffic: the input once. An
// input whose innermost stride is not 1 is copied first.
#include "backend/cpu/reduction.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backend/cpu/copy.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/loops/loops.h"
#include "backend/cpu/workspace.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

constexpr int64_t kStrip = 256;       // columns at a time of an input that is converted
constexpr int64_t kWideStrip = 1024;  // and at most of one that is not: rows are then read in pieces of a page
constexpr int64_t kNodeBytes = 96 << 10;
constexpr int64_t kRowChunk = 64;     // blocks of a row that one task joins: a power of two
constexpr int64_t kColumnChunk = 16;  // the same of columns
constexpr int kLevels = 40;
constexpr int64_t kGrain = 1 << 15;  // elements below which one thread does it

struct Dim {
  int64_t extent, stride;
  bool reduced;
  int64_t shift_stride;  // of ReduceJob::shift
};
struct Axes {
  int rank = 0;
  Dim d[kMaxRank];
  bool copy = false;  // the input must be made contiguous first
  int64_t kept() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= d[i].reduced ? 1 : d[i].extent;
    return n;
  }
  int last_reduced() const {
    for (int i = rank - 1; i >= 0; --i)
      if (d[i].reduced) return i;
    return -1;
  }
};

void merge(Axes& a) {
  int n = 0;
  for (int i = 0; i < a.rank; ++i) {
    const Dim& x = a.d[i];
    if (x.extent == 1) continue;
    if (n && a.d[n - 1].reduced == x.reduced && a.d[n - 1].stride == x.stride * x.extent &&
        a.d[n - 1].shift_stride == x.shift_stride * x.extent) {
      a.d[n - 1].extent *= x.extent, a.d[n - 1].stride = x.stride, a.d[n - 1].shift_stride = x.shift_stride;
    } else {
      a.d[n++] = x;
    }
  }
  a.rank = n;
}

/// Which of `rank` axes go: those named, or all where none is.
struct ReducedAxes {
  bool gone[kMaxRank] = {};
  ReducedAxes(int rank, const Dims& axes) {
    for (int i = 0; i < rank; ++i) gone[i] = axes.empty();
    if (rank > 0)  // a number allows the axes 0 and -1, and has none
      for (int64_t i : axes) gone[i < 0 ? i + rank : i] = true;
  }
  bool operator[](int i) const { return gone[i]; }
};

/// Axes in the order of memory. `permuted` tells that the kept axes come out in another order than the tensor's.
Axes analyse(const TensorView& x, const Dims& axes, bool dense, bool& permuted) {
  Axes a;
  const ReducedAxes reduced(x.rank(), axes);
  int64_t shift[kMaxRank], contiguous[kMaxRank], step = 1, all = 1;
  for (int i = x.rank() - 1; i >= 0; --i)
    shift[i] = reduced[i] ? 0 : step, contiguous[i] = all, step *= reduced[i] ? 1 : x.dim(i), all *= x.dim(i);
  int order[kMaxRank];
  const auto stride = [&](int i) { return dense ? contiguous[i] : x.stride(i); };
  for (int i = 0; i < x.rank(); ++i) {
    if (x.dim(i) == 1) continue;
    int at = a.rank++;
    while (at > 0 && stride(order[at - 1]) < stride(i)) order[at] = order[at - 1], --at;
    order[at] = i;
  }
  permuted = false;
  int before = -1;
  for (int k = 0; k < a.rank; ++k) {
    const int i = order[k];
    a.d[k] = {x.dim(i), stride(i), reduced[i], shift[i]};
    a.copy = a.copy || stride(i) <= 0;
    if (!reduced[i]) permuted = permuted || i < before, before = i;
  }
  merge(a);
  if (a.last_reduced() < 0) {  // only axes of extent 1 go: one row of the columns where those are dense, else rows of one element
    if (a.rank > 0 && a.rank < kMaxRank && a.d[a.rank - 1].stride == 1) {
      for (int i = a.rank++; i > 0; --i) a.d[i] = a.d[i - 1];
      a.d[0] = {1, 1, true, 0};
    } else if (a.rank < kMaxRank) {
      a.d[a.rank++] = {1, 1, true, 0};
    }
  }
  a.copy = a.copy || a.d[a.rank - 1].stride != 1;
  return a;
}

/// What a stage leaves: the reduced axis gone, the rest contiguous.
Axes after(const Axes& a, int gone) {
  Axes b;
  for (int i = 0; i < a.rank; ++i)
    if (i != gone) b.d[b.rank++] = a.d[i];
  int64_t step = 1;
  for (int i = b.rank - 1; i >= 0; --i) b.d[i].stride = step, step *= b.d[i].extent;
  merge(b);
  return b;
}

int64_t count_without(const Axes& a, int gone) {
  int64_t n = 1;
  for (int i = 0; i < a.rank; ++i) n *= i == gone ? 1 : a.d[i].extent;
  return n;
}

/// The number of parts that one long row or column is cut into for threads; 0 where it is not cut.
int64_t parts_of(const Axes& a, int gone) {
  const bool row = gone == a.rank - 1;
  const int64_t chunk = row ? kRowChunk * kReduceBlock : kColumnChunk * kReduceRows, extent = a.d[gone].extent,
                results = count_without(a, gone);
  const int64_t width = row ? 1 : a.d[a.rank - 1].extent, tasks = results / std::max<int64_t>(width, 1) * ((width + kStrip - 1) / kStrip);
  return extent < 2 * chunk || tasks > 32 ? 0 : (extent + chunk - 1) / chunk;
}

struct Stage {
  ReduceLoops loops;
  UnaryLoop convert;  // null where elements are taken as they are
  const std::byte* x;
  int64_t bytes, as_bytes, acc_bytes;  // of an element of x, of one taken in, of a partial result
  const std::byte* shift;
  bool far;  // x is read from memory as it is
};

/// Elements [0, n) of a row whose first block is block 0 of a node.
void reduce_run(const Stage& s, const std::byte* x, int64_t n, const void* shift, void* out) {
  alignas(64) std::byte wide[kReduceBlock * 8];
  std::byte node[kLevels][16], value[16];
  int64_t count = 0;
  for (int64_t i = 0; i == 0 || i < n; i += kReduceBlock) {
    const int64_t m = std::min(kReduceBlock, n - i);
    const void* from = x + i * s.bytes;
    if (s.convert) s.convert(from, wide, m, nullptr), from = wide;
    if (n <= kReduceBlock) return s.loops.block(from, m, shift, out, s.far);
    s.loops.block(from, m, shift, value, s.far);
    int k = 0;
    for (; (count >> k) & 1; ++k) s.loops.join(node[k], value, 1), std::memcpy(value, node[k], 16);
    std::memcpy(node[k], value, 16), ++count;
  }
  int k = std::countr_zero(uint64_t(count));
  std::memcpy(value, node[k], 16);
  for (++k; (count >> k) != 0; ++k)
    if ((count >> k) & 1) s.loops.join(node[k], value, 1), std::memcpy(value, node[k], 16);
  std::memcpy(out, value, size_t(s.acc_bytes));
}

/// Columns at a time such that the nodes of the tree over `rows` rows have room.
int64_t strip_of(const Stage& s, int64_t rows, int64_t width, int64_t outer) {
  if (s.convert) return kStrip;
  const int64_t levels = std::bit_width(uint64_t(rows / kReduceRows + 1)) + 1;
  int64_t strip = std::min(kWideStrip, kNodeBytes / (levels * s.acc_bytes) / 64 * 64);
  if (num_threads() > 1) strip = std::min(strip, (width * outer / (4 * num_threads()) + 63) / 64 * 64);
  return std::max(strip, kStrip);
}

/// `rows` rows of a strip of `width` columns.
void reduce_strip(const Stage& s, const std::byte* x, int64_t rows, int64_t stride, int64_t width, const std::byte* shift, void* out) {
  alignas(64) std::byte wide[kReduceGroup * kStrip * 8], nodes[kNodeBytes];
  const size_t bytes = size_t(width * s.acc_bytes);
  const auto node = [&](int k) { return nodes + size_t(k + 1) * bytes; };
  const auto one_block = [&](int64_t r0, int64_t r1, void* to) {
    for (int64_t r = r0; r == r0 || r < r1; r += kReduceGroup) {
      const int64_t m = std::max<int64_t>(0, std::min(kReduceGroup, r1 - r));
      const std::byte* from = x + r * stride * s.bytes;
      int64_t step = stride;
      if (s.convert) {
        for (int64_t k = 0; k < m; ++k) s.convert(from + k * stride * s.bytes, wide + k * width * s.as_bytes, width, nullptr);
        from = wide, step = width;
      }
      s.loops.columns(from, m, step, width, r != r0, shift, to, s.far);
    }
  };
  if (rows <= kReduceRows) return one_block(0, rows, out);
  int64_t count = 0;
  for (int64_t r = 0; r < rows; r += kReduceRows) {
    one_block(r, std::min(rows, r + kReduceRows), nodes);
    const std::byte* value = nodes;
    int k = 0;
    for (; (count >> k) & 1; ++k) s.loops.join(node(k), value, width), value = node(k);
    std::memcpy(node(k), value, bytes), ++count;
  }
  int k = std::countr_zero(uint64_t(count));
  const std::byte* value = node(k);
  for (++k; (count >> k) != 0; ++k)
    if ((count >> k) & 1) s.loops.join(node(k), value, width), value = node(k);
  std::memcpy(out, value, bytes);
}

/// Joins `parts` results of `width` values each, in place, as a binary counter would: parts are nodes of one level, the last may be
/// smaller.
void join_parts(const Stage& s, std::byte* part, int64_t parts, int64_t width, void* out) {
  const int64_t bytes = width * s.acc_bytes;
  int64_t top[kLevels], count = 0;
  for (int64_t i = 0; i < parts; ++i) {
    int64_t at = i;
    int k = 0;
    for (; (count >> k) & 1; ++k) s.loops.join(part + top[k] * bytes, part + at * bytes, width), at = top[k];
    top[k] = at, ++count;
  }
  int k = std::countr_zero(uint64_t(count));
  int64_t at = top[k];
  for (++k; (count >> k) != 0; ++k)
    if ((count >> k) & 1) s.loops.join(part + top[k] * bytes, part + at * bytes, width), at = top[k];
  std::memcpy(out, part + at * bytes, size_t(bytes));
}

/// Element offset and shift offset of result `index`, over all axes but `gone`, whose innermost `skip` axes are left out.
void locate(const Axes& a, int gone, int skip, int64_t index, int64_t& x, int64_t& shift) {
  x = shift = 0;
  for (int i = a.rank - 1 - skip; i >= 0; --i) {
    if (i == gone) continue;
    const int64_t k = index % a.d[i].extent;
    index /= a.d[i].extent, x += k * a.d[i].stride, shift += k * a.d[i].shift_stride;
  }
}

void run_rows(const Stage& s, const Axes& a, std::byte* out, std::byte* part) {
  const int gone = a.rank - 1;
  const int64_t n = a.d[gone].extent, results = count_without(a, gone), parts = parts_of(a, gone);
  if (parts == 0) {
    parallel_for(0, results, std::max<int64_t>(1, kGrain / std::max<int64_t>(n, 1)), [&](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; ++i) {
        int64_t at, shift;
        locate(a, gone, 1, i, at, shift);
        reduce_run(s, s.x + at * s.bytes, n, s.shift + shift * s.as_bytes, out + i * s.acc_bytes);
      }
    });
    return;
  }
  constexpr int64_t kChunk = kRowChunk * kReduceBlock;
  parallel_for(0, results * parts, 1, [&](int64_t lo, int64_t hi) {
    for (int64_t t = lo; t < hi; ++t) {
      int64_t at, shift;
      const int64_t i = t / parts, from = t % parts * kChunk;
      locate(a, gone, 1, i, at, shift);
      reduce_run(s, s.x + (at + from) * s.bytes, std::min(kChunk, n - from), s.shift + shift * s.as_bytes, part + t * s.acc_bytes);
    }
  });
  for (int64_t i = 0; i < results; ++i) join_parts(s, part + i * parts * s.acc_bytes, parts, 1, out + i * s.acc_bytes);
}

void run_columns(const Stage& s, const Axes& a, int gone, std::byte* out, std::byte* part) {
  const int64_t rows = a.d[gone].extent, stride = a.d[gone].stride, width = a.d[a.rank - 1].extent,
                outer = count_without(a, gone) / std::max<int64_t>(width, 1);
  const int64_t inner_shift = a.d[a.rank - 1].shift_stride, parts = parts_of(a, gone);
  const int64_t strip = strip_of(s, parts ? kColumnChunk * kReduceRows : rows, width, outer * std::max<int64_t>(parts, 1));
  const int64_t strips = (width + strip - 1) / strip, tasks = outer * strips * std::max<int64_t>(parts, 1);
  constexpr int64_t kChunk = kColumnChunk * kReduceRows;
  const int64_t work = (parts ? kChunk : rows) * std::min(strip, width);
  parallel_for(0, tasks, std::max<int64_t>(1, kGrain / std::max<int64_t>(work, 1)), [&](int64_t lo, int64_t hi) {
    for (int64_t t = lo; t < hi; ++t) {
      const int64_t i = t / strips / std::max<int64_t>(parts, 1), p = t / strips % std::max<int64_t>(parts, 1),
                    column = t % strips * strip;
      int64_t at, shift;
      locate(a, gone, 1, i, at, shift);
      const int64_t w = std::min(strip, width - column), from = p * kChunk;
      alignas(64) std::byte gathered[kWideStrip * 8];
      const std::byte* by = s.shift;
      if (by) {
        by += (shift + column * inner_shift) * s.as_bytes;
        if (inner_shift != 1) {  // results in another order than memory
          for (int64_t k = 0; k < w; ++k) std::memcpy(gathered + k * s.as_bytes, by + k * inner_shift * s.as_bytes, size_t(s.as_bytes));
          by = gathered;
        }
      }
      std::byte* to = parts ? part + (i * parts + p) * width * s.acc_bytes : out + i * width * s.acc_bytes;
      reduce_strip(s, s.x + (at + from * stride + column) * s.bytes, parts ? std::min(kChunk, rows - from) : rows, stride, w, by,
                   to + column * s.acc_bytes);
    }
  });
  if (parts)
    for (int64_t i = 0; i < outer; ++i) join_parts(s, part + i * parts * width * s.acc_bytes, parts, width, out + i * width * s.acc_bytes);
}

/// Copies results that lie in the order of memory of the kept axes, as the input's strides give it, to `to` in the order of the axes.
void put_in_order(const TensorView& x, const Dims& axes, DType t, std::byte* from, void* to) {
  const ReducedAxes reduced(x.rank(), axes);
  Shape kept;
  Strides in_stride, st;
  for (int i = 0; i < x.rank(); ++i)
    if (!reduced[i]) kept.push_back(x.dim(i)), in_stride.push_back(x.stride(i));
  st.resize(kept.rank());
  for (int i = 0; i < kept.rank(); ++i) {
    int64_t step = 1;
    for (int j = 0; j < kept.rank(); ++j)
      if (kept[j] > 1 && (in_stride[j] < in_stride[i] || (in_stride[j] == in_stride[i] && j > i))) step *= kept[j];
    st[i] = step;
  }
  const Strides dense = contiguous_strides(kept);
  copy_view({from, t, &kept, &st}, {to, t, &kept, &dense});
}

/// What comes after the sums: the job's last function, the result's dtype, its statistics.
void finish(const ReduceJob& r, std::byte* made, DType acc, const TensorView& y, StatSlot* slot) {
  const UnaryLoop convert = acc == y.dtype || (acc == DType::boolean && y.dtype == DType::u8) ? nullptr : convert_loop(acc, y.dtype);
  if (!r.finish && !convert && !slot) return;
  parallel_for(0, y.size(), kGrain, [&](int64_t lo, int64_t hi) {
    StatSlot::Part stats;
    for (int64_t i = lo; i < hi; i += 1024) {
      const int64_t n = std::min<int64_t>(1024, hi - i);
      std::byte* at = made + i * int64_t(size_of(acc));
      std::byte* to = static_cast<std::byte*>(y.data) + i * int64_t(size_of(y.dtype));
      if (r.finish) r.finish(at, n, r.args);
      if (convert) convert(at, to, n, nullptr);
      if (slot) stat_block(y.dtype, to, n, stats);
    }
    if (slot) slot->merge(stats);
  });
}

}  // namespace

size_t reduction_workspace(const TensorView& x, const Dims& axes, DType as, ReduceOp op) {
  bool permuted;
  Axes a = analyse(x, axes, false, permuted);
  size_t total = 0;
  if (a.copy) total += round_up(size_t(x.size()) * size_of(x.dtype)), a = analyse(x, axes, true, permuted);
  const size_t acc = size_of(reduce_acc(op, as));
  for (int gone; (gone = a.last_reduced()) >= 0; a = after(a, gone))
    total += round_up(size_t(count_without(a, gone)) * acc) + round_up(size_t(count_without(a, gone) * parts_of(a, gone)) * acc);
  return total + (permuted ? round_up(size_t(a.kept()) * acc) : 0);
}

void run_reduction(const ReduceJob& r, const TensorView& x, const Dims& axes, const TensorView& y, void* workspace, StatSlot* slot) {
  bool permuted;
  Axes a = analyse(x, axes, false, permuted);
  Buffers work{static_cast<std::byte*>(workspace)};
  const auto take = [&](int64_t n, DType t) { return work.take<std::byte>(n * int64_t(size_of(t))); };
  const std::byte* from = static_cast<const std::byte*>(x.data);
  if (a.copy) {
    std::byte* dense = take(x.size(), x.dtype);
    const Strides st = contiguous_strides(x.shape());
    copy_view(x, {dense, x.dtype, x.shape_, &st});
    from = dense, a = analyse(x, axes, true, permuted);
  }
  const DType acc = reduce_acc(r.op, r.as);
  ReduceOp op = r.op;
  DType t = x.dtype, as = r.as;
  if (y.size() == 0) return;
  for (int gone; (gone = a.last_reduced()) >= 0;) {
    const Axes next = after(a, gone);
    Stage s;
    s.loops = reduce_loops(op, as);
    s.convert = t == as ? nullptr : convert_loop(t, as);
    s.x = from, s.bytes = int64_t(size_of(t)), s.as_bytes = int64_t(size_of(as)), s.acc_bytes = int64_t(size_of(acc));
    s.shift = op == ReduceOp::sum_deviation ? static_cast<const std::byte*>(r.shift) : nullptr;
    s.far = !s.convert && from == x.data && x.size() * s.bytes > l2_bytes();
    const bool last = next.last_reduced() < 0, straight = last && !permuted && acc == y.dtype;
    std::byte* out = straight ? static_cast<std::byte*>(y.data) : take(count_without(a, gone), acc);
    std::byte* part = take(count_without(a, gone) * parts_of(a, gone), acc);
    if (gone == a.rank - 1)
      run_rows(s, a, out, part);
    else
      run_columns(s, a, gone, out, part);
    from = out, t = as = acc, op = second_stage(op), a = next;
  }
  std::byte* made = const_cast<std::byte*>(from);
  if (permuted) {
    auto* const sorted = acc == y.dtype ? static_cast<std::byte*>(y.data) : take(y.size(), acc);
    put_in_order(x, axes, acc, made, sorted);
    made = sorted;
  }
  finish(r, made, acc, y, slot);
}

}  // namespace keel::cpu
