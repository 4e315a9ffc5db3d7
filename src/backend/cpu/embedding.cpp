// embedding copies rows. Its gradient groups the ids by a counting sort (8 bytes an id and a row of workspace) and sums each group in the
// order of the ids into its row, so every row of the result is written by one thread, once for each id or, where nobody names it, once as
// zeros; 16-bit rows are summed in f32 and rounded once. Threads get groups of equal work, whatever the ids.
#include "keel/ops/embedding.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/index_walk.h"
#include "backend/cpu/watched_rows.h"

namespace keel::cpu {
namespace {

constexpr int64_t kBlock = 512;  // ids that are widened at a time

size_t groups_bytes(int64_t ids, int64_t rows) { return size_t(2 * ids + rows + 2) * 8; }

/// Sums rows of the gradient into rows of the result, in f32 at least.
struct RowSum {
  DType dtype;
  int64_t width;
  UnaryLoop widen, narrow;
  BinaryLoop add;
  RowSum(DType t, int64_t w)
      : dtype(t),
        width(w),
        widen(convert_loop(t, compute_dtype(t))),
        narrow(convert_loop(compute_dtype(t), t)),
        add(binary_loop(BinaryOp::add, compute_dtype(t))) {}
  /// to = the sum of g's rows order[first .. last), in this order; `sums` is room for one row of f32.
  void operator()(const std::byte* g, const int64_t* order, int64_t first, int64_t last, std::byte* to, float* sums) const {
    const int64_t bytes = width * int64_t(size_of(dtype));
    if (dtype == compute_dtype(dtype)) {
      std::memcpy(to, g + order[first] * bytes, size_t(bytes));
      for (int64_t k = first + 1; k < last; ++k) add(to, g + order[k] * bytes, to, width, nullptr);
      return;
    }
    float wide[kBlock];
    widen(g + order[first] * bytes, sums, width, nullptr);
    for (int64_t k = first + 1; k < last; ++k)
      for (int64_t c = 0; c < width; c += kBlock) {
        const int64_t n = std::min(kBlock, width - c);
        widen(g + order[k] * bytes + c * int64_t(size_of(dtype)), wide, n, nullptr);
        add(sums + c, wide, sums + c, n, nullptr);
      }
    narrow(sums, to, width, nullptr);
  }
};

}  // namespace
}  // namespace keel::cpu

using namespace keel;
using namespace keel::cpu;

KEEL_CPU_KERNEL(embedding) {
  k.input(0, Layout::contiguous).input(1, Layout::rows).stats().run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &ids = a.in[0], &w = a.in[1], &y = a.out[0];
    const int64_t n = ids.size(), rows = w.dim(0), size = int64_t(size_of(w.dtype)), bytes = w.dim(1) * size, step = w.stride(0) * size;
    const UnaryLoop widen = convert_loop(ids.dtype, i64);
    const auto* from = static_cast<const std::byte*>(w.data);
    auto* to = static_cast<std::byte*>(y.data);
    FirstBad bad;
    parallel_for(0, n, 1 + (1 << 16) / (bytes + 1), [&](int64_t lo, int64_t hi) {
      int64_t at[kBlock];
      WatchedRows watched(y.dtype, w.dim(1), true, a.stats[0]);
      for (int64_t i = lo; i < hi; i += kBlock) {
        const int64_t m = std::min(kBlock, hi - i);
        widen(static_cast<const std::byte*>(ids.data) + i * int64_t(size_of(ids.dtype)), at, m, nullptr);
        for (int64_t j = 0; j < m; ++j) {
          if (uint64_t(at[j]) >= uint64_t(rows)) return bad.note(i + j);
          std::memcpy(to + (i + j) * bytes, from + at[j] * step, size_t(bytes));
          watched.add(to + (i + j) * bytes);
        }
      }
    });
    if (!bad.found()) return {};
    int64_t id;
    widen(static_cast<const std::byte*>(ids.data) + bad.at * int64_t(size_of(ids.dtype)), &id, 1, nullptr);
    return KernelStatus::place(id, rows, "id");
  });
}

KEEL_CPU_KERNEL(embedding_backward) {
  k.inputs(Layout::contiguous)
      .dtypes(kinds::floating)
      .stats()
      .workspace([](const KernelArgs& a) {
        const auto& p = a.get<EmbeddingBackwardParams>();
        return groups_bytes(a.in[1].size(), p.rows) + size_t(num_threads()) * size_t(a.out[0].dim(1)) * sizeof(float);
      })
      .run([](const KernelArgs& a) -> KernelStatus {
        const auto& p = a.get<EmbeddingBackwardParams>();
        const TensorView &g = a.in[0], &ids = a.in[1], &y = a.out[0];
        const int64_t n = ids.size(), rows = p.rows, width = y.dim(1), bytes = width * int64_t(size_of(y.dtype));
        auto* id = static_cast<int64_t*>(a.workspace);
        int64_t *order = id + n, *begin = order + n;  // begin[r]: where group r begins in `order`
        auto* sums = reinterpret_cast<float*>(static_cast<std::byte*>(a.workspace) + groups_bytes(n, rows));
        convert_loop(ids.dtype, i64)(ids.data, id, n, nullptr);
        std::memset(begin, 0, size_t(rows + 1) * 8);
        for (int64_t i = 0; i < n; ++i) {
          if (uint64_t(id[i]) >= uint64_t(rows)) return KernelStatus::place(id[i], rows, "id");
          if (id[i] != p.padding_index) ++begin[id[i] + 1];
        }
        for (int64_t r = 0; r < rows; ++r) begin[r + 1] += begin[r];
        for (int64_t i = 0; i < n; ++i)
          if (id[i] != p.padding_index) order[begin[id[i]]++] = i;
        // Every begin has moved to its group's end, which is the next one's begin.
        auto first_of = [&](int64_t r) { return r ? begin[r - 1] : 0; };
        auto work_before = [&](int64_t r) { return first_of(r) + r; };
        const int64_t threads = num_threads(), total = work_before(rows);
        auto bound = [&](int64_t t) {  // the first row of part t
          int64_t lo = 0, hi = rows;
          while (lo < hi) {
            const int64_t middle = (lo + hi) / 2;
            if (work_before(middle) < total * t / threads)
              lo = middle + 1;
            else
              hi = middle;
          }
          return t == threads ? rows : lo;
        };
        const RowSum sum(y.dtype, width);
        parallel_for(0, threads, total * width < (1 << 15) ? threads : 1, [&](int64_t lo, int64_t hi) {
          for (int64_t t = lo; t < hi; ++t) {
            const int64_t last = bound(t + 1);
            WatchedRows watched(y.dtype, width, true, a.stats[0]);
            for (int64_t r = bound(t); r < last; ++r) {
              auto* to = static_cast<std::byte*>(y.data) + r * bytes;
              if (first_of(r) == begin[r])
                std::memset(to, 0, size_t(bytes));
              else
                sum(static_cast<const std::byte*>(g.data), order, first_of(r), begin[r], to, sums + t * width);
              watched.add(to);
            }
          }
        });
        return {};
      });
}
