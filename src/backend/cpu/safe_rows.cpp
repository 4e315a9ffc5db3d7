// Kernels of norm_safe and normalize_safe: rows along one axis, or of the last axes together, in f32 or f64, one task a run of rows.
// Traffic: every tensor once, but for what does not stay in cache of a long row.
#include "backend/cpu/loops/safe.h"
#include "backend/cpu/row_driver.h"
#include "keel/ops/safe.h"

using namespace keel;
using namespace keel::cpu;

namespace {

/// Whether the axes (none: all) are one axis, or the last ones.
bool last_axes(const Axes& axes, int rank) {
  bool used[kMaxRank] = {};
  for (int64_t a : axes) used[a < 0 ? a + (rank ? rank : 1) : a] = true;
  for (int i = 1; i < rank; ++i)
    if (used[i - 1] && !used[i]) return false;
  return true;
}
Rows norm_rows(const Shape& s, const Axes& axes) {
  if (axes.size() == 1) return rows_along(s, axes[0]);
  return rows_trailing(s, axes.empty() ? s.rank() : int64_t(axes.size()));
}
size_t norm_workspace(const KernelArgs& a) {
  const Rows r = norm_rows(a.in[0].shape(), a.get<NormSafeParams>().axis);
  return size_t(row_tasks(r.count(), r.n)) * RowView::scratch(a.in[0], r);
}

Rows unit_rows(const KernelArgs& a) { return rows_along(a.out[0].shape(), a.get<NormalizeSafeParams>().axis); }
size_t unit_scratch(const KernelArgs& a, const Rows& r) {
  size_t n = RowView::scratch(a.out[0], r);
  for (int i = 0; i < a.n_in; ++i) n += RowView::scratch(a.in[i], r);
  return n;
}
size_t unit_workspace(const KernelArgs& a) {
  const Rows r = unit_rows(a);
  return size_t(row_tasks(r.count(), r.n)) * unit_scratch(a, r);
}
/// f(first input, last input, out) on every row.
template <class F>
KernelStatus each_unit_row(const KernelArgs& a, F f) {
  const Rows r = unit_rows(a);
  if (a.out[0].size() == 0) return {};
  const RowView x(a.in[0], r), z(a.in[a.n_in - 1], r), y(a.out[0], r);
  const size_t scratch = unit_scratch(a, r), first = RowView::scratch(a.in[0], r), last = RowView::scratch(a.out[0], r);
  each_task(r.count(), row_tasks(r.count(), r.n), [&](int64_t lo, int64_t hi, int64_t task) {
    StatSlot::Part part;
    std::byte *in = static_cast<std::byte*>(a.workspace) + size_t(task) * scratch, *out = in + scratch - last;
    for (int64_t i = lo; i < hi; ++i) {
      const void* from = x.read(i, in);
      f(from, a.n_in > 1 ? z.read(i, in + first) : from, y.target(i, out), r.n);
      const void* made = y.write(i, out);
      if (a.stats[0]) stat_block(a.out[0].dtype, made, r.n, part);
    }
    if (a.stats[0]) a.stats[0]->merge(part);
  });
  return {};
}

}  // namespace

KEEL_CPU_KERNEL(norm_safe) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).workspace(norm_workspace);
  k.refuses([](const void* params, Specs in) -> const char* {
    const Axes& axes = static_cast<const NormSafeParams*>(params)->axis;
    if (in[0].shape.numel() == 0) return "no elements";
    return axes.size() <= 1 || last_axes(axes, in[0].shape.rank()) ? nullptr : "axes that are not the last ones";
  });
  k.run([](const KernelArgs& a) -> KernelStatus {
    const Rows r = norm_rows(a.in[0].shape(), a.get<NormSafeParams>().axis);
    const RowView x(a.in[0], r);
    const DType as = compute_dtype(a.in[0].dtype), t = a.out[0].dtype;
    const auto f = safe_row_loops(as).norm;
    const UnaryLoop convert = convert_loop(as, t);
    const size_t scratch = RowView::scratch(a.in[0], r);
    const int64_t bytes = int64_t(size_of(t));
    each_task(r.count(), row_tasks(r.count(), r.n), [&](int64_t lo, int64_t hi, int64_t task) {
      std::byte* in = static_cast<std::byte*>(a.workspace) + size_t(task) * scratch;
      std::byte* y = static_cast<std::byte*>(a.out[0].data);
      for (int64_t i = lo; i < hi; ++i) {
        alignas(8) std::byte one[8];
        f(x.read(i, in), one, r.n);
        convert(one, y + i * bytes, 1, nullptr);
      }
    });
    return {};
  });
}
KEEL_CPU_KERNEL(normalize_safe) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).workspace(unit_workspace).stats();
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto f = safe_row_loops(compute_dtype(a.in[0].dtype)).normalize;
    const double eps = a.get<NormalizeSafeParams>().eps;
    return each_unit_row(a, [=](const void* x, const void*, void* y, int64_t n) { f(x, y, n, eps); });
  });
}
KEEL_CPU_KERNEL(normalize_safe_backward) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).workspace(unit_workspace).stats();
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto f = safe_row_loops(compute_dtype(a.in[0].dtype)).normalize_grad;
    const double eps = a.get<NormalizeSafeParams>().eps, cap = a.get<NormalizeSafeParams>().grad_cap;
    return each_unit_row(a, [=](const void* g, const void* x, void* dx, int64_t n) { f(g, x, dx, n, eps, cap); });
  });
}
