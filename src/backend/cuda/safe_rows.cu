// Norms of rows and rows of norm 1, with the gradient of the latter, in the formulas of src/ops/safe_math.cpp. Rows of up to 32 bits sum
// their squares in f64, where none overflows or vanishes; f64 rows are scaled by a power of two where their sum asks for it.
#include <cmath>

#include "backend/cuda/around.cuh"
#include "keel/ops/safe.h"

using namespace keel;
using namespace keel::cuda;

namespace {

/// The norm of a row: `sum(f)` and `top(f)` combine f(value) over its elements.
template <class C, class Sum, class Top>
__device__ double length_of(Sum sum, Top top) {
  const double plain = sum([](C v) { return double(v) * double(v); });
  // Between these bounds nothing overflowed, and what vanished is below the last digit.
  if (sizeof(C) == 4 || (plain > 0x1p-900 && plain <= 0x1.fffffffffffffp1023)) return sqrt(plain);
  const double most = top([](C v) { return fabs(double(v)); });
  if (most != most || most == 0 || isinf(most)) return most;
  const int e = ilogb(most);
  const double scale = ldexp(1.0, e < -1022 ? 1022 : -e);  // that of a subnormal number would overflow
  return sqrt(sum([scale](C v) { return double(v) * scale * (double(v) * scale); })) / scale;
}
template <int G, class Row>
__device__ double row_length(const Row& r) {
  using C = typename Row::C;
  const auto sum = [&](auto f) {
    double s = 0;
    r.each([&](int64_t, C v) { s += f(v); });
    return row_combine<G>(s, 0.0, SumOf());
  };
  const auto top = [&](auto f) {
    double m = 0;
    r.each([&](int64_t, C v) { m = MaxOf()(m, f(v)); });
    return row_combine<G>(m, 0.0, MaxOf());
  };
  return length_of<C>(sum, top);
}
template <class T>
__device__ double column_length(const T* x, int64_t n, int64_t inner) {
  const auto sum = [&](auto f) {
    double s = 0;
    for (int64_t k = 0; k < n; ++k) s += f(widen(x[k * inner]));
    return s;
  };
  const auto top = [&](auto f) {
    double m = 0;
    for (int64_t k = 0; k < n; ++k) m = MaxOf()(m, f(widen(x[k * inner])));
    return m;
  };
  return length_of<Compute<T>>(sum, top);
}

struct Norm {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    static __device__ void run(int64_t row, int64_t n, const T* x, T* y) {
      const double size = row_length<G>(RowOf<T, G, P>(x, row, n));
      if (threadIdx.x % G == 0) y[row] = narrow<T>(Compute<T>(size));
    }
  };
  template <class T>
  static __device__ void column(int64_t row, int64_t at, int64_t n, int64_t inner, const T* x, T* y) {
    y[row] = narrow<T>(Compute<T>(column_length(x + at, n, inner)));
  }
};

struct Normalize {
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    static __device__ void run(int64_t row, int64_t n, double eps, double, const T* x, T* y) {
      const RowOf<T, G, P> r(x, row, n);
      const double length = row_length<G>(r), size = length <= eps ? eps : length;
      r.write(y + row * n, [&](int64_t, Compute<T> v) { return Compute<T>(double(v) / size); });
    }
  };
  template <class T>
  static __device__ void column(int64_t, int64_t at, int64_t n, int64_t inner, double eps, double, const T* x, T* y) {
    const double length = column_length(x + at, n, inner), size = length <= eps ? eps : length;
    for (int64_t k = 0; k < n; ++k) y[at + k * inner] = narrow<T>(Compute<T>(double(widen(x[at + k * inner])) / size));
  }
};

/// (g - y sum(g y)) / size with y = x / size, g / eps below eps; `cap` limits 1 / size.
struct NormalizeGrad {
  static __device__ double factor(double size, double cap) {
    const double f = 1 / size;
    return f > cap ? cap : f;
  }
  template <class T, int G, int P>
  struct Kernel : RowForm<G> {
    static __device__ void run(int64_t row, int64_t n, double eps, double cap, const T* g, const T* x, T* dx) {
      using C = Compute<T>;
      const RowOf<T, G, P> rg(g, row, n), rx(x, row, n);
      const double length = row_length<G>(rx), size = length <= eps ? eps : length, f = factor(size, cap);
      const bool tiny = length <= eps;
      double dot = 0;
      rg.each([&](int64_t, C a, C v) { dot += double(a) * (double(v) / size); }, rx);
      dot = row_combine<G>(dot, 0.0, SumOf());
      rg.write(
          dx + row * n, [&](int64_t, C a, C v) { return C((tiny ? double(a) : double(a) - double(v) / size * dot) * f); }, rx);
    }
  };
  template <class T>
  static __device__ void column(int64_t, int64_t at, int64_t n, int64_t inner, double eps, double cap, const T* g, const T* x, T* dx) {
    const double length = column_length(x + at, n, inner), size = length <= eps ? eps : length, f = factor(size, cap);
    const bool tiny = length <= eps;
    double dot = 0;
    for (int64_t k = 0; k < n; ++k) dot += double(widen(g[at + k * inner])) * (double(widen(x[at + k * inner])) / size);
    for (int64_t k = 0; k < n; ++k) {
      const double a = double(widen(g[at + k * inner])), v = double(widen(x[at + k * inner]));
      dx[at + k * inner] = narrow<T>(Compute<T>((tiny ? a : a - v / size * dot) * f));
    }
  }
};

/// Whether the axes (none: all) are one axis, or the last ones.
bool last_axes(const Axes& axes, int rank) {
  bool used[kMaxRank] = {};
  for (int64_t a : axes) used[a < 0 ? a + (rank ? rank : 1) : a] = true;
  for (int i = 1; i < rank; ++i)
    if (used[i - 1] && !used[i]) return false;
  return true;
}
Around norm_rows(const Shape& s, const Axes& axes) {
  if (axes.size() == 1) return Around(s, axes[0]);
  Around v(s, 0);
  const int last = axes.empty() ? s.rank() : int(axes.size());
  v.outer = v.n = v.inner = 1;
  for (int i = 0; i < s.rank(); ++i) (i < s.rank() - last ? v.outer : v.n) *= s[i];
  return v;
}

}  // namespace

KEEL_CUDA_KERNEL(norm_safe) {
  k.dtypes(kinds::floating)
      .inputs(Layout::contiguous)
      .refuses([](const void* params, Specs in) -> const char* {
        const Axes& axes = static_cast<const NormSafeParams*>(params)->axis;
        if (in[0].shape.numel() == 0) return "no elements";
        return axes.size() <= 1 || last_axes(axes, in[0].shape.rank()) ? nullptr : "axes that are not the last ones";
      })
      .run([](const KernelArgs& a) {
        KernelStatus s;
        const Around v = norm_rows(a.in[0].shape(), a.get<NormSafeParams>().axis);
        use(a.device);
        Floats::call(a.in[0].dtype, [&](auto t) {
          using T = decltype(t);
          s = around<Norm, T>(a, v, aligned16(a.in[0]), static_cast<const T*>(a.in[0].ptr<T>()), a.out[0].ptr<T>());
        });
        return s;
      });
}
KEEL_CUDA_KERNEL(normalize_safe) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<NormalizeSafeParams>();
    const Around v(a.in[0].shape(), p.axis);
    use(a.device);
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      s = around<Normalize, T>(a, v, aligned16(a.in[0]) && aligned16(a.out[0]), p.eps, 0.0, static_cast<const T*>(a.in[0].ptr<T>()),
                               a.out[0].ptr<T>());
    });
    return s;
  });
}
KEEL_CUDA_KERNEL(normalize_safe_backward) {
  k.dtypes(kinds::floating).inputs(Layout::contiguous).run([](const KernelArgs& a) {
    KernelStatus s;
    const auto& p = a.get<NormalizeSafeParams>();
    const Around v(a.in[0].shape(), p.axis);
    use(a.device);
    Floats::call(a.in[0].dtype, [&](auto t) {
      using T = decltype(t);
      const bool aligned = aligned16(a.in[0]) && aligned16(a.in[1]) && aligned16(a.out[0]);
      s = around<NormalizeGrad, T>(a, v, aligned, p.eps, p.grad_cap, static_cast<const T*>(a.in[0].ptr<T>()),
                                   static_cast<const T*>(a.in[1].ptr<T>()), a.out[0].ptr<T>());
    });
    return s;
  });
}
