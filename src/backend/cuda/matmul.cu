// matmul and linear, over gemm.h. Operands whose strides BLAS cannot take are copied into the workspace.
#include "backend/cuda/gemm.h"
#include "backend/cuda/pointwise.cuh"

using namespace keel;
using namespace keel::cuda;

namespace {

/// An operand of matmul as [batch..., rows, columns]; 1-d ones stand as a row (left) or a column (right).
struct Matrix {
  TensorView view;
  Shape shape;
  Strides strides;
  int64_t rows, columns, row, column;
  Matrix(const TensorView& v, bool left) : view(v), shape(v.shape()), strides(v.strides()) {
    if (v.rank() == 1) {
      const int64_t n = v.dim(0), s = v.stride(0);
      shape = left ? Shape({1, n}) : Shape({n, 1});
      strides = left ? Strides({n, s}) : Strides({s, 1});
    }
    refresh();
  }
  Matrix(const Matrix&) = delete;
  void refresh() {
    const int r = shape.rank();
    rows = shape[r - 2], columns = shape[r - 1], row = strides[r - 2], column = strides[r - 1];
    if (rows == 1 && column == 1) row = columns;  // the only one
    view.shape_ = &shape, view.strides_ = &strides;
  }
  bool fits() const { return blas_strides(rows, columns, row, column); }
  bool row_major() const {
    int64_t step = 1;
    for (int i = shape.rank() - 1; i >= 0; step *= shape[i--])
      if (shape[i] != 1 && strides[i] != step) return false;
    return true;
  }
  /// Whether all rows begin at multiples of what those of a dense matrix would begin at: then it is as good as dense. `tall`: all matrices
  /// of a batch are one.
  bool as_dense(bool left, bool tall) const {
    if (left && tall && column == 1) return row_major();
    const int64_t size = int64_t(size_of(view.dtype)), unit = grain((left ? columns : std::max(row, column)) * size);
    if (left && column == 1 && rows > 1 && row * size % unit) return false;
    for (int i = 0; i + 2 < shape.rank(); ++i)
      if (shape[i] > 1 && strides[i] * size % unit) return false;
    return true;
  }
  size_t bytes() const { return (size_t(shape.numel()) * size_of(view.dtype) + 255) / 256 * 256; }
};

struct Same {
  template <class T>
  __device__ T operator()(T x) const {
    return x;
  }
};
/// Copies `m` into `to`, row-major.
KernelStatus pack(const KernelArgs& a, Matrix& m, void* to) {
  Strides dense;
  dense.resize(m.shape.rank());
  int64_t step = 1;
  for (int i = m.shape.rank() - 1; i >= 0; --i) dense[i] = step, step *= m.shape[i];
  const TensorView in = m.view, out{to, m.view.dtype, &m.shape, &dense};
  KernelArgs b = a;
  b.in = &in, b.out = &out;
  KernelStatus s;
  Floats::call(in.dtype, [&](auto t) { s = pointwise<decltype(t), decltype(t)>(b, Same{}); });
  m.view.data = to, m.strides = dense;
  m.refresh();
  return s;
}

bool packs(const KernelArgs& a, const Matrix& m, bool left) { return !m.fits() || (a.invariant && !m.as_dense(left, a.in[1].rank() <= 2)); }
size_t packing_space(const KernelArgs& a) {
  size_t n = 0;
  for (const int i : {0, 1})
    if (const Matrix m(a.in[i], i == 0); packs(a, m, i == 0)) n += m.bytes();
  return n;
}

}  // namespace

KEEL_CUDA_KERNEL(matmul) {
  k.dtypes(kinds::floating).inputs(Layout::strided).workspace(packing_space).run([](const KernelArgs& a) -> KernelStatus {
    Matrix x(a.in[0], true), y(a.in[1], false);
    const TensorView& out = a.out[0];
    if (out.size() == 0) return {};
    if (x.columns == 0)
      return text_of(cudaMemsetAsync(out.data, 0, size_t(out.size()) * size_of(out.dtype), stream(a)), "clearing") ? launched()
                                                                                                                   : KernelStatus{};
    char* room = static_cast<char*>(a.workspace);
    for (Matrix* m : {&x, &y}) {
      if (!packs(a, *m, m == &x)) continue;
      const size_t bytes = m->bytes();
      if (const KernelStatus s = pack(a, *m, room); s.code) return s;
      room += bytes;
    }
    Product p;
    p.dtype = out.dtype, p.invariant = a.invariant, p.tf32 = a.tf32, p.parts = y.shape.rank() > 2, p.m = x.rows, p.n = y.columns, p.k = x.columns;
    p.a_row = x.row, p.a_column = x.column, p.b_row = y.row, p.b_column = y.column, p.ldc = p.n;
    // The batch axes, innermost first; missing and single ones are broadcast.
    Walk<3> batch;
    const int nx = x.shape.rank() - 2, ny = y.shape.rank() - 2, n = std::max(nx, ny);
    int64_t step = p.m * p.n;
    for (int i = 1; i <= n; ++i) {
      const int64_t ex = i <= nx ? x.shape[nx - i] : 1, ey = i <= ny ? y.shape[ny - i] : 1, e = ex == 1 ? ey : ex;
      batch.push(e, {ex == 1 ? 0 : x.strides[nx - i], ey == 1 ? 0 : y.strides[ny - i], step});
      step *= e;
    }
    // One left matrix for a whole batch of rows: they are one taller matrix.
    int first = 0;
    if (batch.rank && batch.stride[1][0] == 0 && batch.stride[0][0] == p.m * p.a_row && p.a_column == 1) p.m *= batch.extent[0], first = 1;
    if (batch.rank > first)
      p.batch = batch.extent[first], p.a_step = batch.stride[0][first], p.b_step = batch.stride[1][first],
      p.c_step = batch.stride[2][first], ++first;
    int64_t outer = 1;
    for (int i = first; i < batch.rank; ++i) outer *= batch.extent[i];
    const int64_t element = int64_t(size_of(out.dtype));
    for (int64_t o = 0; o < outer; ++o) {
      int64_t at[3] = {};
      for (int64_t i = first, left = o; i < batch.rank; left /= batch.extent[i], ++i)
        for (int j = 0; j < 3; ++j) at[j] += left % batch.extent[i] * batch.stride[j][i];
      p.a = x.view.ptr<char>() + at[0] * element, p.b = y.view.ptr<char>() + at[1] * element, p.c = out.ptr<char>() + at[2] * element;
      if (const KernelStatus s = multiply(p, a.device, stream(a)); s.code) return s;
    }
    return {};
  });
}

KEEL_CUDA_KERNEL(linear) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void*, Specs in) -> const char* { return in[1].shape[1] == 0 ? "no input features" : nullptr; })
      .run([](const KernelArgs& a) -> KernelStatus {
        const TensorView &x = a.in[0], &w = a.in[1], &out = a.out[0];
        if (out.size() == 0) return {};
        Product p;
        p.dtype = out.dtype, p.invariant = a.invariant, p.tf32 = a.tf32, p.k = w.dim(1), p.n = w.dim(0), p.m = out.size() / p.n;
        p.a = x.data, p.b = w.data, p.c = out.data, p.ldc = p.n;
        p.a_row = p.k, p.a_column = 1, p.b_row = 1, p.b_column = p.k;
        if (a.n_in > 2 && a.in[2].present()) p.bias = a.in[2].data;
        return multiply(p, a.device, stream(a));
      });
}
