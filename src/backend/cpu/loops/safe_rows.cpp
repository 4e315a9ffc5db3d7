// Norms of rows and rows of norm 1, with the gradient of the latter. f32 rows sum their squares in f64, where none overflows or vanishes; f64
// rows are scaled by a power of two where their largest element asks for it. One to three passes over a row in cache.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/safe_rows.cpp"
#include "hwy/foreach_target.h"

#include <limits>

#include "backend/cpu/loops/safe.h"
#include "backend/cpu/loops/wide-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

using Wide = Vec<WideTag>;

HWY_INLINE Wide load(const float* p) { return hn::PromoteTo(WideTag(), hn::LoadU(NarrowTag(), p)); }
HWY_INLINE Wide load(const double* p) { return hn::LoadU(WideTag(), p); }
HWY_INLINE Wide load(const float* p, size_t n) { return hn::PromoteTo(WideTag(), load_n(NarrowTag(), p, n)); }
HWY_INLINE Wide load(const double* p, size_t n) { return load_n(WideTag(), p, n); }
HWY_INLINE void store(Wide v, float* p) { hn::StoreU(to_f32(NarrowTag(), v), NarrowTag(), p); }
HWY_INLINE void store(Wide v, double* p) { hn::StoreU(v, WideTag(), p); }
HWY_INLINE void store(Wide v, float* p, size_t n) { store_n(to_f32(NarrowTag(), v), NarrowTag(), p, n); }
HWY_INLINE void store(Wide v, double* p, size_t n) { store_n(v, WideTag(), p, n); }
HWY_INLINE double lane_sum(Wide v) {
  HWY_ALIGN double lane[hn::MaxLanes(WideTag())];
  hn::Store(v, WideTag(), lane);
  double s = 0;
  for (double x : lane) s += x;
  return s;
}

/// The sum of f(i, count) over vectors of elements from i on; count is 0 for whole ones.
template <class F>
HWY_INLINE double sum_of(int64_t n, F f) {
  constexpr int64_t N = hn::MaxLanes(WideTag());
  Wide a = hn::Zero(WideTag()), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N)
    a = hn::Add(a, f(i, 0)), b = hn::Add(b, f(i + N, 0)), c = hn::Add(c, f(i + 2 * N, 0)), d = hn::Add(d, f(i + 3 * N, 0));
  for (; i + N <= n; i += N) a = hn::Add(a, f(i, 0));
  if (i < n) b = hn::Add(b, f(i, size_t(n - i)));
  return lane_sum(hn::Add(hn::Add(a, b), hn::Add(c, d)));
}
template <class T>
HWY_INLINE Wide at(const T* x, int64_t i, size_t count) {
  return count ? load(x + i, count) : load(x + i);
}

template <class T>
double norm_of(const T* x, int64_t n) {
  const WideTag d;
  double scale = 1;
  if constexpr (sizeof(T) == 8) {
    double top = 0;
    for (int64_t i = 0; i < n; ++i) top = std::fabs(x[i]) > top ? std::fabs(x[i]) : top;
    if (top > std::numeric_limits<double>::max())
      return sum_of(n, [&](int64_t i, size_t count) HWY_ATTR { return hn::Abs(at(x, i, count)); });
    if (top > 0 && (top < 0x1p-400 || top > 0x1p400)) scale = std::ldexp(1.0, -std::ilogb(top));
  }
  const Wide by = hn::Set(d, scale);
  const double squares = sum_of(n, [&](int64_t i, size_t count) HWY_ATTR {
    const Wide v = hn::Mul(at(x, i, count), by);
    return hn::Mul(v, v);
  });
  return std::sqrt(squares) / scale;
}
template <class T>
void norm(const void* x, void* y, int64_t n) {
  *static_cast<T*>(y) = T(norm_of(static_cast<const T*>(x), n));
}
/// f(i, count) for all elements, written to y.
template <class T, class F>
HWY_INLINE void fill(T* y, int64_t n, F f) {
  constexpr int64_t N = hn::MaxLanes(WideTag());
  int64_t i = 0;
  for (; i + N <= n; i += N) store(f(i, 0), y + i);
  if (i < n) store(f(i, size_t(n - i)), y + i, size_t(n - i));
}
template <class T>
void normalize(const void* x_, void* y, int64_t n, double eps) {
  const T* x = static_cast<const T*>(x_);
  const double size = norm_of(x, n);
  const Wide by = hn::Set(WideTag(), size <= eps ? eps : size);
  fill(static_cast<T*>(y), n, [&](int64_t i, size_t count) HWY_ATTR { return hn::Div(at(x, i, count), by); });
}
/// (g - y sum(g y)) / size with y = x / size, g / eps below eps; `cap` limits 1 / size.
template <class T>
void normalize_grad(const void* g_, const void* x_, void* dx, int64_t n, double eps, double cap) {
  const WideTag d;
  const T *g = static_cast<const T*>(g_), *x = static_cast<const T*>(x_);
  const double length = norm_of(x, n), size = length <= eps ? eps : length, factor = 1 / size;
  const Wide by = hn::Set(d, size), f = hn::Set(d, factor > cap ? cap : factor);
  if (length <= eps) return fill(static_cast<T*>(dx), n, [&](int64_t i, size_t count) HWY_ATTR { return hn::Mul(at(g, i, count), f); });
  const Wide dot =
      hn::Set(d, sum_of(n, [&](int64_t i, size_t count) HWY_ATTR { return hn::Mul(at(g, i, count), hn::Div(at(x, i, count), by)); }));
  fill(static_cast<T*>(dx), n,
       [&](int64_t i, size_t count) HWY_ATTR { return hn::Mul(hn::Sub(at(g, i, count), hn::Mul(hn::Div(at(x, i, count), by), dot)), f); });
}
}  // namespace

SafeRowLoops safe_rows(DType t) {
  if (t == DType::f64) return {norm<double>, normalize<double>, normalize_grad<double>};
  return {norm<float>, normalize<float>, normalize_grad<float>};
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(safe_rows);
SafeRowLoops safe_row_loops(DType t) { return KEEL_SIMD(safe_rows)(t); }
}  // namespace keel::cpu
#endif
