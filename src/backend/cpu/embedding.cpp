// Rows of a table by id, and the gradient back into it: each row of the table is summed by one thread in the order of the ids, so repeated ids give the same bits at any thread count.
#include <cstring>

#include "backend/kernel.h"
#include "core/impl.h"
#include "keel/ops/embedding.h"
#include "keel/parallel.h"

namespace keel::cpu {
namespace {

int64_t id_at(const TensorView& ids, int64_t i) { return read_int(ids.ptr<std::byte>() + i * int64_t(size_of(ids.dtype)), ids.dtype); }

template <class T>
void add_rows(const KernelArgs& a, int64_t padding) {
  const TensorView &g = a.in[0], &ids = a.in[1], &y = a.out[0];
  const int64_t width = y.dim(1), n = ids.size();
  if (y.size() == 0) return;
  std::memset(y.data, 0, size_t(y.size()) * sizeof(T));
  const int64_t strips = num_threads();  // each strip of columns belongs to one thread: no row is shared
  parallel_for(0, strips, n * width < 16384 ? strips : 1, [&](int64_t lo, int64_t hi) {
    const int64_t from = lo * width / strips, to = hi * width / strips;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t id = id_at(ids, i);
      if (id == padding) continue;
      T* out = y.ptr<T>() + id * width;
      const T* in = g.ptr<T>() + i * width;
      for (int64_t k = from; k < to; ++k) out[k] += in[k];
    }
  });
}

KernelStatus check_ids(const TensorView& ids, int64_t rows) {
  for (int64_t i = 0; i < ids.size(); ++i)
    if (const int64_t id = id_at(ids, i); id < 0 || id >= rows) return KernelStatus::place(id, rows, "id");
  return {};
}

}  // namespace
}  // namespace keel::cpu

using namespace keel;

KEEL_CPU_KERNEL(embedding) {
  k.inputs(Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const TensorView &ids = a.in[0], &w = a.in[1];
    if (const KernelStatus bad = cpu::check_ids(ids, w.dim(0)); bad.code) return bad;
    const auto row = int64_t(size_of(w.dtype)) * w.dim(1);
    if (row == 0) return {};
    parallel_for(0, ids.size(), 1 + 32768 / (row + 1), [&](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; ++i) std::memcpy(a.out[0].ptr<char>() + i * row, w.ptr<char>() + cpu::id_at(ids, i) * row, size_t(row));
    });
    return {};
  });
}
KEEL_CPU_KERNEL(embedding_backward) {
  k.dtypes(set_of(f32, f64)).inputs(Layout::contiguous).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<EmbeddingBackwardParams>();
    if (const KernelStatus bad = cpu::check_ids(a.in[1], p.rows); bad.code) return bad;
    if (a.in[0].dtype == f32) cpu::add_rows<float>(a, p.padding_index);
    else cpu::add_rows<double>(a, p.padding_index);
    return {};
  });
}
