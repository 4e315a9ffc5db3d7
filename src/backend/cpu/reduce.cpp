// Kernels of reductions: sum, mean, norm, prod, max, min, any, all, argmax, argmin, cumsum.
#include "keel/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/reduction.h"
#include "keel/parallel.h"

using namespace keel;
using namespace keel::cpu;

namespace {

int64_t reduced_extent(const TensorView& x, const Dims& axes) {
  int64_t n = 1;
  if (axes.empty() || x.rank() == 0) return x.size();
  for (int64_t i : axes) n *= x.dim(int(i < 0 ? i + x.rank() : i));
  return n;
}

/// The dtype in which a sum of `x` with result dtype `out` takes its elements in.
DType sum_as(DType x, DType out) {
  if (is_floating(out)) return is_floating(x) && accumulate_dtype(x) == f64 ? f64 : accumulate_dtype(out);
  return is_floating(x) ? i64 : x;
}
const char* refuse_complex(const void*, Specs in) { return is_complex(in[0].dtype) ? "complex" : nullptr; }

template <class T, class F>
void each(void* x_, int64_t n, F f) {
  T* x = static_cast<T*>(x_);
  for (int64_t i = 0; i < n; ++i) x[i] = f(x[i]);
}
template <class T>
void divide(void* x, int64_t n, const double* args) {
  each<T>(x, n, [d = T(args[0])](T v) { return v / d; });
}
template <class T>
void root(void* x, int64_t n, const double*) {
  each<T>(x, n, [](T v) { return std::sqrt(v); });
}
/// A kernel that is one run of the driver; `op_of` and `as_of` get the call.
template <class P, ReduceOp op, DType (*as_of)(const KernelArgs&), void (*finish32)(void*, int64_t, const double*) = nullptr,
          void (*finish64)(void*, int64_t, const double*) = nullptr>
void reduce_kernel(KernelDef& k) {
  k.inputs(Layout::strided).stats();
  k.workspace([](const KernelArgs& a) { return reduction_workspace(a.in[0], a.get<P>().axis, as_of(a), op); });
  k.run([](const KernelArgs& a) -> KernelStatus {
    const double count = double(reduced_extent(a.in[0], a.get<P>().axis));
    const DType as = as_of(a);
    run_reduction({.op = op, .as = as, .finish = as == f64 ? finish64 : finish32, .args = &count}, a.in[0], a.get<P>().axis, a.out[0],
                  a.workspace, a.stats[0]);
    return {};
  });
}
DType as_sum(const KernelArgs& a) { return sum_as(a.in[0].dtype, a.out[0].dtype); }
DType as_compute(const KernelArgs& a) { return compute_dtype(a.in[0].dtype); }
DType as_is(const KernelArgs& a) { return a.in[0].dtype; }

// ---- along one axis of a contiguous tensor ----
struct Along {
  int64_t outer = 1, n = 1, inner = 1;
};
Along along(const TensorView& x, int64_t axis) {
  Along s;
  if (x.rank() == 0) return s;
  const int at = int(axis < 0 ? axis + x.rank() : axis);
  for (int i = 0; i < x.rank(); ++i) (i < at ? s.outer : i == at ? s.n : s.inner) *= x.dim(i);
  return s;
}

/// Index of the first extreme of x[0], x[stride], ...: blocks are gathered and converted, and the best of them wins.
int64_t arg_run(bool largest, DType t, const std::byte* x, int64_t n, int64_t stride) {
  constexpr int64_t kBlock = 2048;
  const DType as = compute_dtype(t);
  const int64_t bytes = int64_t(size_of(t));
  if (stride == 1 && as == t) return arg_extreme(largest, t, x, n);
  alignas(64) std::byte gathered[kBlock * 8], wide[kBlock * 8], pair[2 * 8];
  const UnaryLoop convert = as == t ? nullptr : convert_loop(t, as);
  const size_t width = size_of(as);
  int64_t best = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t m = std::min(kBlock, n - i);
    const std::byte* from = x + i * stride * bytes;
    if (stride != 1) {
      for (int64_t k = 0; k < m; ++k) std::copy_n(from + k * stride * bytes, bytes, gathered + k * bytes);
      from = gathered;
    }
    if (convert) convert(from, wide, m, nullptr), from = wide;
    const int64_t at = arg_extreme(largest, as, from, m);
    if (i > 0) {  // the block's best against the best so far: the first of two
      std::copy_n(from + size_t(at) * width, width, pair + width);
      if (arg_extreme(largest, as, pair, 2) == 0) continue;
    }
    std::copy_n(from + size_t(at) * width, width, pair);
    best = i + at;
  }
  return best;
}
/// The same for neighbouring columns, a strip of them at a time, some rows at a time.
void arg_columns(bool largest, const TensorView& x, const Along& s, int64_t* y) {
  constexpr int64_t kStrip = 1024, kRows = 4;
  const DType as = compute_dtype(x.dtype);
  const int64_t bytes = int64_t(size_of(x.dtype)), strips = (s.inner + kStrip - 1) / kStrip;
  const UnaryLoop convert = convert_loop(x.dtype, as);
  parallel_for(0, s.outer * strips, std::max<int64_t>(1, 16384 / (s.n * std::min(s.inner, kStrip))), [&](int64_t lo, int64_t hi) {
    alignas(64) std::byte wide[kRows * kStrip * 8], best[kStrip * 8];
    int32_t at[kStrip];
    for (int64_t t = lo; t < hi; ++t) {
      const int64_t column = t % strips * kStrip, w = std::min(kStrip, s.inner - column);
      const std::byte* from = static_cast<const std::byte*>(x.data) + (t / strips * s.n * s.inner + column) * bytes;
      convert(from, best, w, nullptr), std::fill(at, at + w, 0);
      for (int64_t i = 1; i < s.n; i += kRows) {
        const int64_t rows = std::min(kRows, s.n - i);
        const std::byte* row = from + i * s.inner * bytes;
        if (as == x.dtype) {
          arg_rows(largest, as, row, rows, s.inner, w, int32_t(i), best, at);
          continue;
        }
        for (int64_t k = 0; k < rows; ++k) convert(row + k * s.inner * bytes, wide + k * w * int64_t(size_of(as)), w, nullptr);
        arg_rows(largest, as, wide, rows, w, w, int32_t(i), best, at);
      }
      for (int64_t k = 0; k < w; ++k) y[t / strips * s.inner + column + k] = at[k];
    }
  });
}

template <bool largest>
void arg_kernel(KernelDef& k) {
  k.inputs(Layout::contiguous).dtypes(kinds::ordered).run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<ArgParams>();
    const TensorView& x = a.in[0];
    Along s;
    if (p.axis.empty())
      s.n = x.size();
    else
      s = along(x, p.axis[0]);
    int64_t* y = a.out[0].ptr<int64_t>();
    const std::byte* from = static_cast<const std::byte*>(x.data);
    const int64_t bytes = int64_t(size_of(x.dtype));
    if (s.inner >= 8 && s.n <= INT32_MAX) return arg_columns(largest, x, s, y), KernelStatus{};
    parallel_for(0, s.outer * s.inner, std::max<int64_t>(1, 16384 / s.n), [&](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; ++i)
        y[i] = arg_run(largest, x.dtype, from + (i / s.inner * s.n * s.inner + i % s.inner) * bytes, s.n, s.inner);
    });
    return {};
  });
}

/// Running sums of `count` neighbouring columns, in f64 for floats and modulo 2^64 for integers.
template <class A>
void running_sum(const TensorView& x, const TensorView& y, const Along& s, DType as, StatSlot* slot) {
  constexpr int64_t kBlock = 512;
  const UnaryLoop in = convert_loop(x.dtype, as), out = convert_loop(as, y.dtype);
  const int64_t from_bytes = int64_t(size_of(x.dtype)), to_bytes = int64_t(size_of(y.dtype));
  const std::byte* from = static_cast<const std::byte*>(x.data);
  std::byte* to = static_cast<std::byte*>(y.data);
  const int64_t strips = (s.inner + kBlock - 1) / kBlock;
  parallel_for(0, s.outer * strips, std::max<int64_t>(1, 8192 / (s.n * std::min(s.inner, kBlock) + 1)), [&](int64_t lo, int64_t hi) {
    StatSlot::Part part;
    A wide[kBlock], acc[kBlock];
    for (int64_t t = lo; t < hi; ++t) {
      const int64_t column = t % strips * kBlock, w = std::min(kBlock, s.inner - column), base = t / strips * s.n * s.inner + column;
      if (s.inner == 1) {
        A total = 0;
        for (int64_t i = 0; i < s.n; i += kBlock) {
          const int64_t m = std::min(kBlock, s.n - i);
          in(from + (base + i) * from_bytes, wide, m, nullptr);
          for (int64_t k = 0; k < m; ++k) total += wide[k], wide[k] = total;
          out(wide, to + (base + i) * to_bytes, m, nullptr);
          if (slot) stat_block(y.dtype, to + (base + i) * to_bytes, m, part);
        }
        continue;
      }
      std::fill(acc, acc + w, A(0));
      for (int64_t i = 0; i < s.n; ++i) {
        in(from + (base + i * s.inner) * from_bytes, wide, w, nullptr);
        for (int64_t k = 0; k < w; ++k) acc[k] += wide[k];
        out(acc, to + (base + i * s.inner) * to_bytes, w, nullptr);
        if (slot) stat_block(y.dtype, to + (base + i * s.inner) * to_bytes, w, part);
      }
    }
    if (slot) slot->merge(part);
  });
}

}  // namespace

KEEL_CPU_KERNEL(sum) {
  reduce_kernel<SumParams, ReduceOp::sum, as_sum>(k);
  k.refuses(refuse_complex);
}
KEEL_CPU_KERNEL(prod) {
  reduce_kernel<SumParams, ReduceOp::prod, as_sum>(k);
  k.refuses(refuse_complex);
}
KEEL_CPU_KERNEL(mean) {
  reduce_kernel<MeanParams, ReduceOp::sum, as_compute, divide<float>, divide<double>>(k);
  k.dtypes(kinds::floating);
}
KEEL_CPU_KERNEL(max) {
  reduce_kernel<ReduceParams, ReduceOp::max, as_compute>(k);
  k.dtypes(kinds::ordered);
}
KEEL_CPU_KERNEL(min) {
  reduce_kernel<ReduceParams, ReduceOp::min, as_compute>(k);
  k.dtypes(kinds::ordered);
}
KEEL_CPU_KERNEL(any) {
  reduce_kernel<AllParams, ReduceOp::any, as_is>(k);
  k.dtypes(kinds::ordered | kinds::fp8);
}
KEEL_CPU_KERNEL(all) {
  reduce_kernel<AllParams, ReduceOp::all, as_is>(k);
  k.dtypes(kinds::ordered | kinds::fp8);
}
KEEL_CPU_KERNEL(norm) {
  k.inputs(Layout::strided).stats().dtypes(kinds::floating);
  k.refuses([](const void* params, Specs) -> const char* {
    const double p = static_cast<const NormParams*>(params)->p;
    return p == 1 || p == 2 || std::isinf(p) ? nullptr : "order other than 1, 2 and infinity";
  });
  k.workspace([](const KernelArgs& a) { return reduction_workspace(a.in[0], a.get<NormParams>().axis, as_compute(a), ReduceOp::sum_abs); });
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& q = a.get<NormParams>();
    const DType as = as_compute(a);
    ReduceJob r{.op = q.p == 1 ? ReduceOp::sum_abs : q.p == 2 ? ReduceOp::sum_square : ReduceOp::max_abs, .as = as};
    if (q.p == 2) r.finish = as == f64 ? root<double> : root<float>;
    run_reduction(r, a.in[0], q.axis, a.out[0], a.workspace, a.stats[0]);
    return {};
  });
}
KEEL_CPU_KERNEL(argmax) { arg_kernel<true>(k); }
KEEL_CPU_KERNEL(argmin) { arg_kernel<false>(k); }
KEEL_CPU_KERNEL(cumsum) {
  k.inputs(Layout::contiguous).stats().dtypes(kinds::ordered).run([](const KernelArgs& a) -> KernelStatus {
    const Along s = along(a.in[0], a.get<CumsumParams>().axis);
    if (a.out[0].size() == 0) return {};
    if (is_floating(a.in[0].dtype))
      running_sum<double>(a.in[0], a.out[0], s, f64, a.stats[0]);
    else
      running_sum<uint64_t>(a.in[0], a.out[0], s, a.in[0].dtype == u64 ? u64 : i64, a.stats[0]);
    return {};
  });
}
