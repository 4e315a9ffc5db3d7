// Kernels of losses. Rows against classes (cross_entropy, nll_loss): one pass over the logits gives the row's maximum, log-sum and loss;
// the gradient reads them once more. Element against element: the loss is summed block by block as it is made. Row losses and blocks are
// summed in a fixed order. Traffic: inputs once, row losses in scratch.
#include "keel/ops/loss.h"

#include <bit>
#include <cmath>
#include <limits>

#include "backend/cpu/loops/pair_loss.h"
#include "backend/cpu/loops/reduce.h"
#include "backend/cpu/loops/rows.h"
#include "backend/cpu/row_driver.h"
#include "backend/cpu/watched_rows.h"

using namespace keel;
using namespace keel::cpu;

namespace {

/// Blocks joined pairwise, as everywhere.
template <class T>
struct Tree {
  T node[48];
  int64_t count = 0;
  void add(T v) {
    int k = 0;
    for (; (count >> k) & 1; ++k) v = node[k] + v;
    node[k] = v, ++count;
  }
  T result() const {
    T v = 0;
    bool any = false;
    for (int k = 0; (count >> k) != 0; ++k)
      if ((count >> k) & 1) v = any ? node[k] + v : node[k], any = true;
    return v;
  }
};
template <class T>
T sum_of(const T* x, int64_t n) {
  Tree<T> tree;
  const ReduceLoops f = reduce_loops(ReduceOp::sum, dtype_of<T>);
  for (int64_t i = 0; i < n; i += kReduceBlock) {
    T v;
    f.block(x + i, std::min(kReduceBlock, n - i), nullptr, &v, false);
    tree.add(v);
  }
  return tree.result();
}

/// One number of type T into a view's first element.
template <class T>
void put(const TensorView& y, T v, StatSlot* slot) {
  convert_loop(dtype_of<T>, y.dtype)(&v, y.data, 1, nullptr);
  if (!slot) return;
  StatSlot::Part part;
  stat_block(y.dtype, y.data, 1, part);
  slot->merge(part);
}
/// n numbers of type T.
template <class T>
void put_all(const TensorView& y, const T* v, StatSlot* slot) {
  convert_loop(dtype_of<T>, y.dtype)(v, y.data, y.size(), nullptr);
  if (!slot) return;
  StatSlot::Part part;
  stat_block(y.dtype, y.data, y.size(), part);
  slot->merge(part);
}
double number(const TensorView& x, int64_t i) {
  double v;
  convert_loop(x.dtype, f64)(static_cast<const std::byte*>(x.data) + i * int64_t(size_of(x.dtype)), &v, 1, nullptr);
  return v;
}

/// Targets as i64 into `out`; the number that counts, or -1 with `status` where one is out of range.
int64_t read_targets(const TensorView& target, int64_t ignore, int64_t classes, int64_t* out, KernelStatus& status) {
  const int64_t n = target.size();
  convert_loop(target.dtype, i64)(target.data, out, n, nullptr);
  int64_t counted = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (out[i] == ignore) {
      out[i] = -1;
      continue;
    }
    if (out[i] < 0 || out[i] >= classes) return status = KernelStatus::place(out[i], classes, "target"), -1;
    ++counted;
  }
  return counted;
}

// ---- cross entropy ----
size_t ce_workspace(const TensorView& logits, const TensorView& target, int64_t axis, size_t row_scratch) {
  const Rows r = rows_along(logits.shape(), axis);
  return round_up(size_t(r.count()) * 8) * 2 +
         size_t(row_tasks(r.count(), r.n)) * (row_scratch + (is_floating(target.dtype) ? RowView::scratch(target, r) : 0));
}

template <class T>
KernelStatus cross_entropy_run(const KernelArgs& a) {
  const auto& p = a.get<CrossEntropyParams>();
  const TensorView &x = a.in[0], &target = a.in[1];
  const Rows r = rows_along(x.shape(), p.axis);
  const bool soft = is_floating(target.dtype);
  int64_t* targets = static_cast<int64_t*>(a.workspace);
  T* losses = reinterpret_cast<T*>(static_cast<std::byte*>(a.workspace) + round_up(size_t(r.count()) * 8));
  std::byte* scratch = reinterpret_cast<std::byte*>(losses) + round_up(size_t(r.count()) * 8);
  KernelStatus status;
  const int64_t counted = soft ? r.count() : read_targets(target, p.ignore_index, r.n, targets, status);
  if (counted < 0) return status;
  const RowLoops f = row_loops(dtype_of<T>);
  const RowView rows(x, r), probabilities(soft ? target : x, r);
  const size_t one = RowView::scratch(x, r), all = one + (soft ? RowView::scratch(target, r) : 0);
  const T smooth = T(p.label_smoothing), even = T(p.label_smoothing / double(r.n));
  T* lse = a.n_out > 1 && a.out[1].present() ? a.out[1].ptr<T>() : nullptr;
  each_task(r.count(), row_tasks(r.count(), r.n), [&](int64_t lo, int64_t hi, int64_t task) {
    std::byte* own = scratch + size_t(task) * all;
    for (int64_t i = lo; i < hi; ++i) {
      if (!soft && targets[i] < 0 && !lse) {
        losses[i] = 0;
        continue;
      }
      const T* v = static_cast<const T*>(rows.read(i, own));
      T s[3];
      f.log_sum_exp(v, r.n, smooth != 0, s);
      if (s[0] == std::numeric_limits<T>::infinity()) s[1] = std::numeric_limits<T>::quiet_NaN();  // as log_softmax: inf - inf
      if (lse) lse[i] = s[0] + s[1];
      const T spread = smooth != 0 ? -(s[2] - T(r.n) * s[1]) : T(0);  // minus the sum of log-probabilities
      if (soft) {
        T dot;
        f.weighted(v, probabilities.read(i, own + one), r.n, s[0], s[1], &dot);
        losses[i] = smooth != 0 ? (1 - smooth) * -dot + even * spread : -dot;
      } else if (targets[i] < 0) {
        losses[i] = 0;
      } else {
        const T nll = -((v[targets[i]] - s[0]) - s[1]);
        losses[i] = smooth != 0 ? nll * (1 - smooth) + spread * even : nll;
      }
    }
  });
  if (p.reduction == Reduction::none)
    put_all(a.out[0], losses, a.stats[0]);
  else {
    const T total = sum_of(losses, r.count());
    put(a.out[0], p.reduction == Reduction::mean ? total / T(counted) : total, a.stats[0]);
  }
  if (lse && a.stats[1]) {
    StatSlot::Part part;
    stat_block(dtype_of<T>, lse, r.count(), part);
    a.stats[1]->merge(part);
  }
  return {};
}

template <class T>
KernelStatus cross_entropy_backward_run(const KernelArgs& a) {
  const auto& p = a.get<CrossEntropyParams>();
  const TensorView &g = a.in[0], &x = a.in[1], &lse_view = a.in[3], &dx = a.out[0];
  const Rows r = rows_along(x.shape(), p.axis);
  int64_t* targets = static_cast<int64_t*>(a.workspace);
  T* lse = reinterpret_cast<T*>(static_cast<std::byte*>(a.workspace) + round_up(size_t(r.count()) * 8));
  std::byte* scratch = reinterpret_cast<std::byte*>(lse) + round_up(size_t(r.count()) * 8);
  KernelStatus status;
  const int64_t counted = read_targets(a.in[2], p.ignore_index, r.n, targets, status);
  if (counted < 0) return status;
  convert_loop(lse_view.dtype, dtype_of<T>)(lse_view.data, lse, r.count(), nullptr);
  const RowLoops f = row_loops(dtype_of<T>);
  const RowView from(x, r), to(dx, r);
  const size_t one = RowView::scratch(x, r), all = one + RowView::scratch(dx, r);
  const double rest = p.label_smoothing / double(r.n);
  const T shared = p.reduction == Reduction::none || r.count() == 0 ? T(0)
                   : p.reduction == Reduction::mean                 ? T(number(g, 0)) / T(counted)
                                                                    : T(number(g, 0));
  each_task(r.count(), row_tasks(r.count(), r.n), [&](int64_t lo, int64_t hi, int64_t task) {
    std::byte* own = scratch + size_t(task) * all;
    WatchedRows watched(dx.dtype, r.n, to.in_place(), a.stats[0]);
    for (int64_t i = lo; i < hi; ++i) {
      T* out = static_cast<T*>(to.target(i, own + one));
      if (targets[i] < 0)
        std::fill(out, out + r.n, T(0));
      else
        f.cross_entropy_grad(from.read(i, own), out, r.n, lse[i], p.reduction == Reduction::none ? number(g, i) : double(shared),
                             targets[i], 1 - p.label_smoothing, rest);
      watched.add(to.write(i, own + one));
    }
  });
  return {};
}

// ---- nll ----
template <class T>
KernelStatus nll_run(const KernelArgs& a) {
  const auto& p = a.get<NllParams>();
  const TensorView& x = a.in[0];
  const Rows r = rows_along(x.shape(), p.axis);
  int64_t* targets = static_cast<int64_t*>(a.workspace);
  T* losses = reinterpret_cast<T*>(static_cast<std::byte*>(a.workspace) + round_up(size_t(r.count()) * 8));
  KernelStatus status;
  const int64_t counted = read_targets(a.in[1], p.ignore_index, r.n, targets, status);
  if (counted < 0) return status;
  const UnaryLoop convert = convert_loop(x.dtype, dtype_of<T>);
  const int64_t bytes = int64_t(size_of(x.dtype));
  for (int64_t i = 0; i < r.count(); ++i) {
    losses[i] = 0;
    if (targets[i] < 0) continue;
    convert(static_cast<const std::byte*>(x.data) + ((i / r.inner * r.n + targets[i]) * r.inner + i % r.inner) * bytes, &losses[i], 1,
            nullptr);
    losses[i] = -losses[i];
  }
  if (p.reduction == Reduction::none)
    put_all(a.out[0], losses, a.stats[0]);
  else {
    const T total = sum_of(losses, r.count());
    put(a.out[0], p.reduction == Reduction::mean ? total / T(counted) : total, a.stats[0]);
  }
  return {};
}

// ---- element against element ----
constexpr int64_t kPart = 64 * kReduceBlock;  // elements that one task sums: a node of the tree

size_t pair_workspace(const KernelArgs& a) { return size_t((a.in[0].size() + kPart - 1) / kPart) * 8; }

template <class T>
void pair_sum(const KernelArgs& a, PairLoss loss, bool mean) {
  const TensorView &x = a.in[0], &t = a.in[1];
  const int64_t n = x.size(), parts = (n + kPart - 1) / kPart, bytes = int64_t(size_of(x.dtype));
  const PairLossLoops f = pair_loss_loops(loss, dtype_of<T>);
  const UnaryLoop convert = x.dtype == dtype_of<T> ? nullptr : convert_loop(x.dtype, dtype_of<T>);
  T* part = static_cast<T*>(a.workspace);
  parallel_for(0, parts, 1, [&](int64_t lo, int64_t hi) {
    T wide[2][kReduceBlock];
    for (int64_t k = lo; k < hi; ++k) {
      Tree<T> tree;
      for (int64_t i = k * kPart; i < std::min(n, (k + 1) * kPart); i += kReduceBlock) {
        const int64_t m = std::min(kReduceBlock, n - i);
        const void *u = static_cast<const std::byte*>(x.data) + i * bytes, *v = static_cast<const std::byte*>(t.data) + i * bytes;
        if (convert) convert(u, wide[0], m, nullptr), convert(v, wide[1], m, nullptr), u = wide[0], v = wide[1];
        T s;
        f.block(u, v, m, &s);
        tree.add(s);
      }
      part[k] = tree.result();
    }
  });
  Tree<T> tree;
  for (int64_t k = 0; k < parts; ++k) tree.add(part[k]);
  put(a.out[0], mean ? tree.result() / T(n) : tree.result(), a.stats[0]);
}
template <PairLoss loss>
void pair_kernel(KernelDef& k) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).workspace(pair_workspace).stats();
  k.run([](const KernelArgs& a) -> KernelStatus {
    const Reduction r = a.get<LossParams>().reduction;
    const DType t = compute_dtype(a.in[0].dtype);
    if (r == Reduction::none) {
      Elementwise e;
      e.form = Elementwise::Form::binary, e.n_in = 2, e.in_as[0] = e.in_as[1] = e.out_as = t;
      e.binary[0] = pair_loss_loops(loss, t).each;
      return run_elementwise(a, e);
    }
    if (t == f64)
      pair_sum<double>(a, loss, r == Reduction::mean);
    else
      pair_sum<float>(a, loss, r == Reduction::mean);
    return {};
  });
}

}  // namespace

KEEL_CPU_KERNEL(cross_entropy) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).stats();
  k.workspace([](const KernelArgs& a) {
    const int64_t axis = a.get<CrossEntropyParams>().axis;
    return ce_workspace(a.in[0], a.in[1], axis, RowView::scratch(a.in[0], rows_along(a.in[0].shape(), axis)));
  });
  k.run(
      [](const KernelArgs& a) { return compute_dtype(a.in[0].dtype) == f64 ? cross_entropy_run<double>(a) : cross_entropy_run<float>(a); });
}
KEEL_CPU_KERNEL(cross_entropy_backward) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).stats();
  k.workspace([](const KernelArgs& a) {
    const int64_t axis = a.get<CrossEntropyParams>().axis;
    return ce_workspace(a.in[1], a.in[2], axis, 2 * RowView::scratch(a.in[1], rows_along(a.in[1].shape(), axis)));
  });
  k.run([](const KernelArgs& a) {
    return compute_dtype(a.in[1].dtype) == f64 ? cross_entropy_backward_run<double>(a) : cross_entropy_backward_run<float>(a);
  });
}
KEEL_CPU_KERNEL(nll_loss) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).stats();
  k.workspace([](const KernelArgs& a) { return round_up(size_t(a.in[1].size()) * 8) * 2; });
  k.run([](const KernelArgs& a) { return compute_dtype(a.in[0].dtype) == f64 ? nll_run<double>(a) : nll_run<float>(a); });
}
KEEL_CPU_KERNEL(nll_loss_backward) {
  k.inputs(Layout::contiguous).dtypes(kinds::floating).workspace([](const KernelArgs& a) { return round_up(size_t(a.in[1].size()) * 8); });
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<NllBackwardParams>();
    const TensorView& dx = a.out[0];
    const Rows r = rows_along(dx.shape(), p.axis);
    int64_t* targets = static_cast<int64_t*>(a.workspace);
    KernelStatus status;
    const int64_t counted = read_targets(a.in[1], p.ignore_index, r.n, targets, status);
    if (counted < 0) return status;
    const int64_t bytes = int64_t(size_of(dx.dtype));
    std::byte* to = static_cast<std::byte*>(dx.data);
    std::memset(to, 0, size_t(dx.size() * bytes));
    const DType as = compute_dtype(dx.dtype);
    for (int64_t i = 0; i < r.count(); ++i) {
      if (targets[i] < 0) continue;
      double g = number(a.in[0], p.reduction == Reduction::none ? i : 0);
      if (p.reduction == Reduction::mean) g = as == f64 ? g / double(counted) : double(float(g) / float(counted));
      const double v = -g;
      convert_loop(f64, dx.dtype)(&v, to + ((i / r.inner * r.n + targets[i]) * r.inner + i % r.inner) * bytes, 1, nullptr);
    }
    return {};
  });
}
KEEL_CPU_KERNEL(mse_loss) { pair_kernel<PairLoss::square>(k); }
KEEL_CPU_KERNEL(l1_loss) { pair_kernel<PairLoss::absolute>(k); }
KEEL_CPU_KERNEL(bce_with_logits) { pair_kernel<PairLoss::logits>(k); }
