// Norms of rows and rows of norm 1, with the gradient of the latter. f32 rows sum their squares in f64, where none overflows or vanishes;
// f64 rows are scaled by a power of two where their sum asks for it. One to three passes over a row in cache.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/safe_rows.cpp"
#include "hwy/foreach_target.h"

#include <algorithm>
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
  const double plain = sum_of(n, [&](int64_t i, size_t count) HWY_ATTR {
    const Wide v = at(x, i, count);
    return hn::Mul(v, v);
  });
  // Between these bounds nothing overflowed, and what vanished is below the last digit. f32 never leaves them but for 0, infinity and NaN.
  if (sizeof(T) == 4 || (plain > 0x1p-900 && plain <= std::numeric_limits<double>::max())) return std::sqrt(plain);
  double top = 0;
  bool nan = false;
  for (int64_t i = 0; i < n; ++i) nan = nan || x[i] != x[i], top = std::fabs(double(x[i])) > top ? std::fabs(double(x[i])) : top;
  if (nan) return std::numeric_limits<double>::quiet_NaN();
  if (top == 0 || top > std::numeric_limits<double>::max()) return top;
  const double scale = std::ldexp(1.0, -std::max(std::ilogb(top), -1022));  // a power of two; that of a subnormal number would overflow
  const Wide by = hn::Set(WideTag(), scale);
  const double squares = sum_of(n, [&](int64_t i, size_t count) HWY_ATTR {
    const Wide v = hn::Mul(at(x, i, count), by);
    return hn::Mul(v, v);
  });
  return std::sqrt(squares) / scale;
}
/// v / size, for a size that is a norm or eps: by its inverse where that is a normal number.
struct Inverse {
  Wide by;
  bool divide;
  explicit HWY_INLINE Inverse(double size) : by(hn::Set(WideTag(), size)), divide(!(size > 0x1p-1000 && size < 0x1p1000)) {
    if (!divide) by = hn::Set(WideTag(), 1 / size);
  }
  HWY_INLINE Wide operator()(Wide v) const { return divide ? hn::Div(v, by) : hn::Mul(v, by); }
};
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
  const Inverse by(size <= eps ? eps : size);
  fill(static_cast<T*>(y), n, [&](int64_t i, size_t count) HWY_ATTR { return by(at(x, i, count)); });
}
/// (g - y sum(g y)) / size with y = x / size, g / eps below eps; `cap` limits 1 / size.
template <class T>
void normalize_grad(const void* g_, const void* x_, void* dx, int64_t n, double eps, double cap) {
  const WideTag d;
  const T *g = static_cast<const T*>(g_), *x = static_cast<const T*>(x_);
  const double length = norm_of(x, n), size = length <= eps ? eps : length, factor = 1 / size;
  const Wide f = hn::Set(d, factor > cap ? cap : factor);
  const Inverse by(size);
  if (length <= eps) return fill(static_cast<T*>(dx), n, [&](int64_t i, size_t count) HWY_ATTR { return hn::Mul(at(g, i, count), f); });
  const Wide dot = hn::Set(d, sum_of(n, [&](int64_t i, size_t count) HWY_ATTR { return hn::Mul(at(g, i, count), by(at(x, i, count))); }));
  fill(static_cast<T*>(dx), n,
       [&](int64_t i, size_t count) HWY_ATTR { return hn::Mul(hn::Sub(at(g, i, count), hn::Mul(by(at(x, i, count)), dot)), f); });
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
