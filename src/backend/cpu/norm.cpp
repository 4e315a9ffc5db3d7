// Kernels of layer_norm and rms_norm over trailing axes, forward and backward. A task walks rows; a row's passes run in cache. dweight and
// dbias are summed row by row within groups of rows whose number depends on the number of rows alone, and the groups are summed in order,
// so threads do not change a bit. Traffic: every tensor once, and the groups' partial sums.
#include "keel/ops/norm.h"

#include "backend/cpu/loops/reduce.h"
#include "backend/cpu/loops/rows.h"
#include "backend/cpu/row_driver.h"
#include "backend/cpu/watched_rows.h"

using namespace keel;
using namespace keel::cpu;

namespace {

int64_t groups_of(int64_t rows) { return std::clamp<int64_t>((rows + 15) / 16, 1, 64); }

/// A vector of n in the compute dtype: the tensor itself, or converted into `scratch`; null where it is absent.
const void* vector(const KernelArgs& a, int i, DType as, std::byte*& scratch) {
  if (i >= a.n_in || !a.in[i].present()) return nullptr;
  if (a.in[i].dtype == as) return a.in[i].data;
  std::byte* at = scratch;
  scratch += round_up(size_t(a.in[i].size()) * size_of(as));
  convert_loop(a.in[i].dtype, as)(a.in[i].data, at, a.in[i].size(), nullptr);
  return at;
}
size_t vector_scratch(const KernelArgs& a, int i, DType as) {
  return i < a.n_in && a.in[i].present() && a.in[i].dtype != as ? round_up(size_t(a.in[i].size()) * size_of(as)) : 0;
}
std::byte* element(const TensorView& v, int64_t i) {
  return v.present() && v.size() ? static_cast<std::byte*>(v.data) + i * int64_t(size_of(v.dtype)) : nullptr;
}
void stats_of(const TensorView& v, StatSlot* slot) {
  if (!slot || !v.present() || v.size() == 0) return;
  StatSlot::Part part;
  stat_block(v.dtype, v.data, v.size(), part);
  slot->merge(part);
}

/// x and the result have one dtype and shape.
size_t row_scratch(const TensorView& x, const Rows& r) { return RowView::scratch(x, r, streams(x, r)); }

// ---- forward ----
size_t forward_workspace(const KernelArgs& a) {
  const Rows r = rows_trailing(a.in[0].shape(), a.get<LayerNormParams>().axes);
  const DType as = compute_dtype(a.in[0].dtype);
  size_t n = 0;
  for (int i = 1; i < a.n_in; ++i) n += vector_scratch(a, i, as);
  return n + size_t(row_tasks(r.count(), r.n)) * 2 * row_scratch(a.in[0], r);
}
template <bool rms>
KernelStatus forward(const KernelArgs& a) {
  const auto& p = a.get<LayerNormParams>();
  const Rows r = rows_trailing(a.in[0].shape(), p.axes);
  const DType as = compute_dtype(a.in[0].dtype);
  std::byte* scratch = static_cast<std::byte*>(a.workspace);
  const void* w = vector(a, 1, as, scratch);
  const void* b = rms ? nullptr : vector(a, 2, as, scratch);
  const RowView x(a.in[0], r);
  const RowFlow flow = flow_of(a.out[0], r, x.in_place(), a.stats[0], rms ? kAheadOfOne : kAheadByRows);
  const bool stream = streams(a.out[0], r);
  const RowView y(a.out[0], r, stream && !flow.stream);
  const size_t one = row_scratch(a.in[0], r);
  const RowLoops f = row_loops(as);
  const TensorView none;
  const bool together = flow.stream && x.in_place() && whole_lines(a.out[0], r);
  const TensorView &mean = rms || a.n_out < 2 ? none : a.out[1], &rstd = a.n_out < (rms ? 2 : 3) ? none : a.out[rms ? 1 : 2];
  each_task(r.count(), row_tasks(r.count(), r.n), [&](int64_t lo, int64_t hi, int64_t task) {
    std::byte* own = scratch + size_t(task) * 2 * one;
    if (together && lo < hi) {
      if (rms)
        f.rms_norm_rows(x.read(lo, own), w, y.target(lo, own), hi - lo, r.n, p.eps, element(rstd, lo), flow);
      else
        f.layer_norm_rows(x.read(lo, own), w, b, y.target(lo, own), hi - lo, r.n, p.eps, element(mean, lo), element(rstd, lo), flow);
    } else {
      WatchedRows watched(a.out[0].dtype, r.n, y.in_place(), a.stats[0]);
      for (int64_t i = lo; i < hi; ++i) {
        const void* from = x.read(i, own);
        void* to = y.target(i, own + one);
        if (rms)
          f.rms_norm(from, w, to, r.n, p.eps, element(rstd, i), flow);
        else
          f.layer_norm(from, w, b, to, r.n, p.eps, element(mean, i), element(rstd, i), flow);
        watched.add(y.write(i, own + one));
      }
    }
    if (stream) stream_fence();
  });
  for (int i = 1; i < a.n_out; ++i) stats_of(a.out[i], a.stats[i]);
  return {};
}

// ---- backward ----
struct Places {  // of inputs and outputs
  int mean, rstd, weight, dbias;
};
constexpr Places kLayer{2, 3, 4, 2}, kRms{-1, 2, 3, -1};

size_t backward_workspace(const KernelArgs& a, const Places& at) {
  const Rows r = rows_trailing(a.in[1].shape(), a.get<NormBackwardParams>().axes);
  const DType as = compute_dtype(a.in[1].dtype);
  const size_t row = round_up(size_t(r.n) * size_of(as));
  return vector_scratch(a, at.weight, as) + size_t(groups_of(r.count())) * 2 * row + row +
         size_t(row_tasks(r.count(), r.n)) * size_t(2 + kGradRows) * row_scratch(a.in[1], r);
}
KernelStatus backward(const KernelArgs& a, const Places& at) {
  const auto& p = a.get<NormBackwardParams>();
  const Rows r = rows_trailing(a.in[1].shape(), p.axes);
  const DType as = compute_dtype(a.in[1].dtype);
  std::byte* scratch = static_cast<std::byte*>(a.workspace);
  const void* w = vector(a, at.weight, as, scratch);
  const size_t row = round_up(size_t(r.n) * size_of(as)), one = row_scratch(a.in[1], r);
  const int64_t groups = groups_of(r.count());
  std::byte *sums = scratch, *total = sums + size_t(groups) * 2 * row, *own_all = total + row;
  const bool need_bias = at.dbias > 0 && p.need_bias;
  const RowView g(a.in[0], r), x(a.in[1], r);
  const RowFlow flow = flow_of(a.in[1], r, g.in_place() && x.in_place(), a.stats[0], kAheadByRows);
  // Near: every line is read once from memory. Rows that the loop takes one by one leave room in L1 to fetch farther ahead.
  const int64_t x_bytes = int64_t(size_of(a.in[1].dtype));
  const int64_t ahead = flow.ahead ? (flow.near && r.n * x_bytes <= kShortRow ? 8192 : 4096) / x_bytes : 0;
  const bool stream = p.need_x && streams(a.out[0], r);
  const RowView dx(p.need_x ? a.out[0] : a.in[1], r, stream && !flow.stream);
  const RowLoops f = row_loops(as);
  const bool defers = p.need_x && flow.stream && whole_lines(a.out[0], r) && g.in_place() && x.in_place();
  each_task(groups, row_tasks(r.count(), r.n), [&](int64_t first, int64_t last, int64_t task) {
    WatchedRows watched(a.out[0].dtype, r.n, dx.in_place(), p.need_x ? a.stats[0] : nullptr);
    std::byte* own = own_all + size_t(task) * size_t(2 + kGradRows) * one;
    PendingGrad pending;
    for (int64_t group = first; group < last; ++group) {
      std::byte *dw = sums + size_t(group) * 2 * row, *db = dw + row;
      if (p.need_weight) std::memset(dw, 0, row);
      if (need_bias) std::memset(db, 0, row);
      const int64_t end = r.count() * (group + 1) / groups;
      for (int64_t i = r.count() * group / groups, many; i < end; i += many) {
        // Rows that lie as the loop takes them go several at a time.
        many = g.in_place() && x.in_place() ? std::min(kGradRows, end - i) : 1;
        const void *gv = g.read(i, own), *xv = x.read(i, own + one);
        RowFlow row_flow = flow;
        row_flow.ahead = (r.count() - i - many) * r.n >= ahead ? ahead : 0;
        f.norm_grad(gv, xv, many, w, at.mean < 0 ? nullptr : element(a.in[at.mean], i), element(a.in[at.rstd], i),
                    p.need_x ? dx.target(i, own + 2 * one) : nullptr, p.need_weight ? dw : nullptr, need_bias ? db : nullptr, r.n, row_flow,
                    defers ? &pending : nullptr);
        if (!p.need_x) continue;
        const size_t bytes = size_t(r.n) * size_of(as);
        for (int64_t k = i; k < i + many; ++k) { watched.add(dx.write(k, own + 2 * one + size_t(k - i) * bytes)); }
      }
    }
    if (pending.rows) f.norm_grad_flush(pending, w, r.n);
    if (stream) stream_fence();
  });
  const ReduceLoops sum = reduce_loops(ReduceOp::sum, as);
  const auto finish = [&](const std::byte* from, int out) {
    for (int64_t i = 0; i < groups; i += kReduceGroup)
      sum.columns(from + size_t(i) * 2 * row, std::min(kReduceGroup, groups - i), int64_t(2 * row / size_of(as)), r.n, i > 0, nullptr,
                  total, false);
    convert_loop(as, a.out[out].dtype)(total, a.out[out].data, r.n, nullptr);
    stats_of(a.out[out], a.stats[out]);
  };
  if (p.need_weight && r.n) finish(sums, 1);
  if (need_bias && r.n) finish(sums + row, 2);
  return {};
}
const char* refuse_empty(const void*, Specs in) { return in[0].shape.numel() == 0 ? "no elements" : nullptr; }
/// Statistics are read in the dtype that sums are kept in.
const char* refuse_other_statistics(const void*, Specs in) {
  if (in[1].shape.numel() == 0) return "no elements";
  return in[2].dtype == accumulate_dtype(in[1].dtype) && in[3].dtype == in[2].dtype ? nullptr : "statistics in another dtype";
}
const char* refuse_other_rstd(const void*, Specs in) {
  if (in[1].shape.numel() == 0) return "no elements";
  return in[2].dtype == accumulate_dtype(in[1].dtype) ? nullptr : "statistics in another dtype";
}

}  // namespace

KEEL_CPU_KERNEL(layer_norm) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).refuses(refuse_empty).workspace(forward_workspace).stats().run(forward<false>);
}
KEEL_CPU_KERNEL(rms_norm) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).refuses(refuse_empty).workspace(forward_workspace).stats().run(forward<true>);
}
KEEL_CPU_KERNEL(layer_norm_backward) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).refuses(refuse_other_statistics).stats();
  k.workspace([](const KernelArgs& a) { return backward_workspace(a, kLayer); }).run([](const KernelArgs& a) {
    return backward(a, kLayer);
  });
}
KEEL_CPU_KERNEL(rms_norm_backward) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).refuses(refuse_other_rstd).stats();
  k.workspace([](const KernelArgs& a) { return backward_workspace(a, kRms); }).run([](const KernelArgs& a) { return backward(a, kRms); });
}
