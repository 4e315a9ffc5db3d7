// Kernels of softmax, log_softmax, their gradients, and logsumexp along one axis. One task walks whole rows; a row is read once from memory
// (its three passes run in cache), and the next row is fetched meanwhile where the tensor is larger than L2; large results leave past the
// caches. Traffic: every tensor once.
#include "keel/ops/softmax.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "backend/cpu/isa.h"
#include "backend/cpu/loops/rows.h"
#include "backend/cpu/row_driver.h"
#include "backend/cpu/watched_rows.h"
#include "keel/ops/reduce.h"

using namespace keel;
using namespace keel::cpu;

namespace {

size_t scratch_of(const KernelArgs& a, const Rows& r) {
  size_t n = RowView::scratch(a.out[0], r, streams(a.out[0], r));
  for (int i = 0; i < a.n_in; ++i) n += RowView::scratch(a.in[i], r);
  return n;
}
size_t softmax_workspace(const KernelArgs& a) {
  const Rows r = rows_along(a.out[0].shape(), a.get<SoftmaxParams>().axis);
  return size_t(row_tasks(r.count(), r.n)) * scratch_of(a, r);
}

/// one(x or (g, y), out, scratch, n, flow) on every row, or many(.., rows, n, flow) on all of a task's where they leave past the caches.
template <class One, class Many = std::nullptr_t>
KernelStatus run_rows(const KernelArgs& a, int64_t ahead, One one, [[maybe_unused]] Many many = nullptr) {
  const Rows r = rows_along(a.out[0].shape(), a.get<SoftmaxParams>().axis);
  if (a.out[0].size() == 0) return {};
  const RowView x(a.in[0], r), z(a.in[a.n_in - 1], r);
  const RowFlow flow = flow_of(a.out[0], r, x.in_place() && z.in_place(), a.stats[0], ahead);
  const bool stream = streams(a.out[0], r);
  const RowView y(a.out[0], r, stream && !flow.stream);
  const size_t scratch = scratch_of(a, r), in_scratch = RowView::scratch(a.in[0], r), out_scratch = RowView::scratch(a.out[0], r, stream);
  constexpr bool kMany = !std::is_null_pointer_v<Many>;
  const bool together = kMany && flow.stream && x.in_place() && z.in_place() && whole_lines(a.out[0], r);
  each_task(r.count(), row_tasks(r.count(), r.n), [&](int64_t lo, int64_t hi, int64_t task) {
    std::byte *in = static_cast<std::byte*>(a.workspace) + size_t(task) * scratch, *second = in + in_scratch,
              *out = in + scratch - out_scratch;
    const auto row = [&](int64_t i, auto f, auto... rows) {
      f(x.read(i, in), a.n_in > 1 ? z.read(i, second) : nullptr, y.target(i, out), out, rows..., r.n, flow);
    };
    if (together) {
      if constexpr (kMany)
        if (lo < hi) row(lo, many, hi - lo);
    } else {
      WatchedRows watched(a.out[0].dtype, r.n, y.in_place(), a.stats[0]);
      for (int64_t i = lo; i < hi; ++i) {
        row(i, one);
        watched.add(y.write(i, out));
      }
    }
    if (stream) stream_fence();
  });
  return {};
}

/// Zeros for a row that is -inf throughout, of which softmax makes NaN.
template <class T>
void clear_masked(const T* x, T* y, int64_t n) {
  if (y[0] == y[0]) return;
  for (int64_t i = 0; i < n; ++i)
    if (x[i] != -std::numeric_limits<T>::infinity()) return;
  std::fill_n(y, n, T(0));
}

void row_kernel(KernelDef& k) { k.inputs(Layout::contiguous).dtypes(kinds::floating).workspace(softmax_workspace).stats(); }
RowLoops loops_for(const KernelArgs& a) { return row_loops(compute_dtype(a.in[0].dtype)); }

Rows logsumexp_rows(const KernelArgs& a) {
  const Axes& axis = a.get<ReduceParams>().axis;
  return axis.empty() ? rows_trailing(a.in[0].shape(), a.in[0].rank()) : rows_along(a.in[0].shape(), axis[0]);
}

}  // namespace

KEEL_CPU_KERNEL(softmax) {
  row_kernel(k);
  k.run([](const KernelArgs& a) {
    const RowLoops f = loops_for(a);
    return run_rows(
        a, kAheadByRows, [run = f.softmax](auto* x, auto*, auto* y, auto* own, int64_t n, RowFlow flow) { run(x, y, own, n, flow); },
        [run = f.softmax_rows](auto* x, auto*, auto* y, auto* own, int64_t rows, int64_t n, RowFlow flow) {
          run(x, y, own, rows, n, flow);
        });
  });
}
KEEL_CPU_KERNEL(softmax_safe) {
  row_kernel(k);
  k.run([](const KernelArgs& a) {
    const RowLoops f = loops_for(a);
    const bool wide = compute_dtype(a.in[0].dtype) == f64;
    const auto one = [run = f.softmax, wide](const void* x, const void*, void* y, void* own, int64_t n, RowFlow flow) {
      flow.stream = false;
      run(x, y, own, n, flow);
      if (n)
        wide ? clear_masked(static_cast<const double*>(x), static_cast<double*>(y), n)
             : clear_masked(static_cast<const float*>(x), static_cast<float*>(y), n);
    };
    return run_rows(a, kAheadByRows, one);
  });
}
KEEL_CPU_KERNEL(log_softmax) {
  row_kernel(k);
  k.run([](const KernelArgs& a) {
    const RowLoops f = loops_for(a);
    return run_rows(
        a, kAheadByRows, [run = f.log_softmax](auto* x, auto*, auto* y, auto*, int64_t n, RowFlow flow) { run(x, y, n, flow); },
        [run = f.log_softmax_rows](auto* x, auto*, auto* y, auto*, int64_t rows, int64_t n, RowFlow flow) { run(x, y, rows, n, flow); });
  });
}
using GradLoop = void (*)(const void* g, const void* y, void* dx, int64_t n, RowFlow flow);
using GradRowsLoop = void (*)(const void* g, const void* y, void* dx, int64_t rows, int64_t n, RowFlow flow);
KernelStatus run_grad(const KernelArgs& a, GradLoop one, GradRowsLoop many) {
  return run_rows(
      a, kAheadByRows, [one](auto* g, auto* y, auto* dx, auto*, int64_t n, RowFlow flow) { one(g, y, dx, n, flow); },
      [many](auto* g, auto* y, auto* dx, auto*, int64_t rows, int64_t n, RowFlow flow) { many(g, y, dx, rows, n, flow); });
}
KEEL_CPU_KERNEL(softmax_backward) {
  row_kernel(k);
  k.run([](const KernelArgs& a) {
    const RowLoops f = loops_for(a);
    return run_grad(a, f.softmax_grad, f.softmax_grad_rows);
  });
}
KEEL_CPU_KERNEL(log_softmax_backward) {
  row_kernel(k);
  k.run([](const KernelArgs& a) {
    const RowLoops f = loops_for(a);
    return run_grad(a, f.log_softmax_grad, f.log_softmax_grad_rows);
  });
}

KEEL_CPU_KERNEL(logsumexp) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).stats();
  k.refuses([](const void* params, Specs in) -> const char* {
    const Axes& axis = static_cast<const ReduceParams*>(params)->axis;
    if (axis.size() > 1) return "more than one axis";
    return in[0].shape.numel() == 0 ? "no elements" : nullptr;
  });
  k.workspace([](const KernelArgs& a) {
    const Rows r = logsumexp_rows(a);
    return size_t(row_tasks(r.count(), r.n)) * RowView::scratch(a.in[0], r);
  });
  k.run([](const KernelArgs& a) -> KernelStatus {
    const Rows r = logsumexp_rows(a);
    const RowView x(a.in[0], r);
    const auto f = loops_for(a).log_sum_exp;
    const DType as = compute_dtype(a.in[0].dtype), t = a.out[0].dtype;
    const UnaryLoop convert = convert_loop(as, t);
    const size_t scratch = RowView::scratch(a.in[0], r);
    each_task(r.count(), row_tasks(r.count(), r.n), [&](int64_t lo, int64_t hi, int64_t task) {
      std::byte* in = static_cast<std::byte*>(a.workspace) + size_t(task) * scratch;
      std::byte* y = static_cast<std::byte*>(a.out[0].data);
      const int64_t bytes = int64_t(size_of(t));
      for (int64_t i = lo; i < hi; ++i) {
        double wide[3];
        float narrow[3];
        if (as == f64)
          f(x.read(i, in), r.n, false, wide), wide[0] += wide[1];
        else
          f(x.read(i, in), r.n, false, narrow), narrow[0] += narrow[1];
        convert(as == f64 ? static_cast<const void*>(wide) : narrow, y + i * bytes, 1, nullptr);
      }
      if (a.stats[0]) {
        StatSlot::Part part;
        stat_block(t, y + lo * bytes, hi - lo, part);
        a.stats[0]->merge(part);
      }
    });
    return {};
  });
}
