// Kernels of var and stddev. Contiguous tensors whose leading or trailing axes are reduced are read once, as a matrix; all else takes two
// passes of the driver, the second over deviations from the mean.
#include <cmath>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/moments.h"
#include "backend/cpu/reduction.h"
#include "keel/ops/reduce.h"

using namespace keel;
using namespace keel::cpu;

namespace {

constexpr size_t round_up(size_t n) { return (n + 63) & ~size_t(63); }

struct Reduced {
  bool axis[kMaxRank] = {};
  int64_t extent = 1;  // elements that make one result
  Reduced(const TensorView& x, const Dims& axes) {
    for (int i = 0; i < x.rank(); ++i) axis[i] = axes.empty();
    if (x.rank() > 0)
      for (int64_t i : axes) axis[i < 0 ? i + x.rank() : i] = true;
    for (int i = 0; i < x.rank(); ++i) extent *= axis[i] ? x.dim(i) : 1;
  }
};

/// A contiguous tensor as a matrix whose rows, or columns, are reduced. Rows are converted to the computing type in passing; columns have
/// it.
struct Matrix {
  int64_t rows = 1, width = 1;
  bool columns = false, fits = false;
  Matrix(const TensorView& x, const Reduced& reduced) {
    if (!x.contiguous() || x.rank() == 0 || x.size() == 0) return;
    int i = 0;
    columns = reduced.axis[0] && reduced.extent < x.size();
    for (; i < x.rank() && reduced.axis[i] == columns; ++i) rows *= x.dim(i);
    for (; i < x.rank() && reduced.axis[i] != columns; ++i) width *= x.dim(i);
    fits = i == x.rank() && (!columns || x.dtype == compute_dtype(x.dtype));
  }
  /// Parts that a row is cut into.
  int64_t parts() const { return (width + kReduceBlock - 1) / kReduceBlock; }
  int64_t results() const { return columns ? width : rows; }
  size_t partial_bytes(DType t) const {
    return round_up(size_t(kMomentValues * (columns ? row_chunks(rows) * width : parts() * rows)) * size_of(t));
  }
  size_t workspace(DType t) const { return fits ? partial_bytes(t) + 2 * round_up(size_t(results()) * sizeof(double)) : 0; }
};

/// Sums of squared deviations from the mean of each row.
template <class T>
void of_rows(const Matrix& m, const TensorView& x, T* part, T* square) {
  const auto row = moment_loops(dtype_of<T>).row;
  const UnaryLoop convert = x.dtype == dtype_of<T> ? nullptr : convert_loop(x.dtype, dtype_of<T>);
  const int64_t bytes = int64_t(size_of(x.dtype)), parts = m.parts();
  const bool far = !convert && x.size() * bytes > l2_bytes();
  parallel_for(0, m.rows * parts, std::max<int64_t>(1, (1 << 15) / std::min(m.width, kReduceBlock)), [&](int64_t lo, int64_t hi) {
    alignas(64) T wide[kReduceBlock];
    for (int64_t i = lo; i < hi; ++i) {
      const int64_t at = i % parts * kReduceBlock, n = std::min(kReduceBlock, m.width - at);
      const void* from = static_cast<const std::byte*>(x.data) + (i / parts * m.width + at) * bytes;
      if (convert) convert(from, wide, n, nullptr), from = wide;
      row(from, n, far, part + kMomentValues * i);
    }
  });
  for (int64_t i = 0; i < m.rows; ++i) {
    Moments all;
    for (int64_t k = 0; k < parts; ++k, part += kMomentValues) all.join(double(std::min(kReduceBlock, m.width - k * kReduceBlock)), part);
    square[i] = T(all.square);
  }
}
/// The same; gives where they lie, in `work`.
template <class T>
T* square_deviations(const Matrix& m, const TensorView& x, std::byte* work) {
  T* part = reinterpret_cast<T*>(work);
  double* result = reinterpret_cast<double*>(work + m.partial_bytes(dtype_of<T>));
  T* square = reinterpret_cast<T*>(result);
  if (!m.columns) return of_rows(m, x, part, square), square;
  double* wide = result + round_up(size_t(m.width) * sizeof(double)) / sizeof(double);
  column_moments(x.ptr<T>(), m.rows, m.width, part, result, wide);
  for (int64_t i = 0; i < m.width; ++i) square[i] = T(wide[i]);
  return square;
}

template <class T, bool take_root>
void finish(void* y_, int64_t n, const double* freedom) {
  T* y = static_cast<T*>(y_);
  for (int64_t i = 0; i < n; ++i) y[i] = y[i] / T(*freedom);
  if constexpr (take_root)
    for (int64_t i = 0; i < n; ++i) y[i] = std::sqrt(y[i]);
}

template <bool take_root>
void variance_kernel(KernelDef& k) {
  k.inputs(Layout::strided).stats().dtypes(kinds::floating);
  k.workspace([](const KernelArgs& a) {
    const Dims& axes = a.get<VarParams>().axis;
    const DType as = compute_dtype(a.in[0].dtype);
    const size_t once = Matrix(a.in[0], {a.in[0], axes}).workspace(as);
    return std::max(once, round_up(size_t(a.out[0].size()) * size_of(as)) + reduction_workspace(a.in[0], axes, as, ReduceOp::sum));
  });
  k.run([](const KernelArgs& a) -> KernelStatus {
    const auto& p = a.get<VarParams>();
    const TensorView &x = a.in[0], &y = a.out[0];
    const DType as = compute_dtype(x.dtype);
    const bool wide = as == f64;
    std::byte* work = static_cast<std::byte*>(a.workspace);
    const Reduced reduced(x, p.axis);
    const double count = double(reduced.extent), freedom = std::max(0.0, count - p.correction);
    const auto last = wide ? finish<double, take_root> : finish<float, take_root>;
    const Matrix m(x, reduced);
    if (m.fits) {
      void* square = wide ? static_cast<void*>(square_deviations<double>(m, x, work)) : square_deviations<float>(m, x, work);
      last(square, y.size(), &freedom);
      convert_loop(as, y.dtype)(square, y.data, y.size(), nullptr);
      if (a.stats[0]) {
        StatSlot::Part part;
        stat_block(y.dtype, y.data, y.size(), part);
        a.stats[0]->merge(part);
      }
      return {};
    }
    TensorView mean = y;
    mean.data = work, mean.dtype = as, work += round_up(size_t(y.size()) * size_of(as));
    run_reduction({.op = ReduceOp::sum, .as = as, .finish = wide ? finish<double, false> : finish<float, false>, .args = &count}, x, p.axis,
                  mean, work, nullptr);
    run_reduction({.op = ReduceOp::sum_deviation, .as = as, .shift = mean.data, .finish = last, .args = &freedom}, x, p.axis, y, work,
                  a.stats[0]);
    return {};
  });
}

}  // namespace

KEEL_CPU_KERNEL(var) { variance_kernel<false>(k); }
KEEL_CPU_KERNEL(stddev) { variance_kernel<true>(k); }
