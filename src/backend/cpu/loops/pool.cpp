// Pooling loops. With channels innermost the innermost loop runs over channels, in plain C++ that the compiler vectorises; a plane is
// reduced over the window's rows first, which vectorises, and then over its columns.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/pool.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/pool.h"
#include "backend/cpu/loops/vec-inl.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

struct Span {
  int64_t lo, hi;
};
HWY_INLINE Span window(const PoolRow& r, int64_t j) {
  const int64_t at = j * r.step - r.pad;
  return {at < 0 ? 0 : at, at + r.kernel < r.width ? at + r.kernel : r.width};
}
/// Whether v beats the best so far: larger, or the first NaN.
template <class T>
HWY_INLINE bool beats(T v, T best) {
  return (v > best) | ((v != v) & (best == best));
}

// A vector of channels at a time: the largest so far and its place stay in registers over the window.
template <class T>
void max_inner(const PoolRow& r, const void* x_, int64_t channels, void* y_, int32_t* indices) {
  const hn::ScalableTag<T> d;
  const hn::RebindToSigned<decltype(d)> di;
  using TI = hn::TFromD<decltype(di)>;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const T* x = static_cast<const T*>(x_);
  for (int64_t j = 0; j < r.columns; ++j) {
    const Span s = window(r, j);
    for (int64_t c = 0; c < channels; c += lanes) {
      const int64_t n = std::min(lanes, channels - c);
      const auto load = [&](const T* p) { return n == lanes ? hn::LoadU(d, p) : load_n(d, p, size_t(n)); };
      const T* from = x + c;
      auto best = load(from + (r.top * r.width + s.lo) * channels);
      auto place = hn::Set(di, TI(r.top * r.width + s.lo));
      for (int64_t i = r.top; i < r.bottom; ++i)
        for (int64_t k = s.lo; k < s.hi; ++k) {
          const auto v = load(from + (i * r.width + k) * channels);
          auto take = hn::Gt(v, best);
          if constexpr (std::is_floating_point_v<T>) take = hn::Or(take, hn::AndNot(hn::Ne(best, best), hn::Ne(v, v)));
          best = hn::IfThenElse(take, v, best);
          place = hn::IfThenElse(hn::RebindMask(di, take), hn::Set(di, TI(i * r.width + k)), place);
        }
      T* y = static_cast<T*>(y_) + j * channels + c;
      if (n == lanes)
        hn::StoreU(best, d, y);
      else
        store_n(best, d, y, size_t(n));
      if (!indices) continue;
      int32_t* to = indices + j * channels + c;
      if constexpr (sizeof(T) == 4) {
        if (n == lanes)
          hn::StoreU(place, di, to);
        else
          store_n(place, di, to, size_t(n));
      } else {
        HWY_ALIGN TI wide[HWY_LANES(T)];
        hn::Store(place, di, wide);
        for (int64_t l = 0; l < n; ++l) to[l] = int32_t(wide[l]);
      }
    }
  }
}
template <class T>
void sum_inner(const PoolRow& r, const void* x_, int64_t channels, double scale, void* y_) {
  const T *x = static_cast<const T*>(x_), by = T(scale);
  for (int64_t j = 0; j < r.columns; ++j) {
    const Span s = window(r, j);
    T* y = static_cast<T*>(y_) + j * channels;
    for (int64_t c = 0; c < channels; ++c) y[c] = 0;
    for (int64_t i = r.top; i < r.bottom; ++i)
      for (int64_t k = s.lo; k < s.hi; ++k) {
        const T* v = x + (i * r.width + k) * channels;
        for (int64_t c = 0; c < channels; ++c) y[c] += v[c];
      }
    for (int64_t c = 0; c < channels; ++c) y[c] /= by;
  }
}
template <class T>
void spread_inner(const PoolRow& r, const void* g_, int64_t channels, double scale, void* dx_) {
  T *dx = static_cast<T*>(dx_), by = T(scale);
  for (int64_t j = 0; j < r.columns; ++j) {
    const Span s = window(r, j);
    const T* g = static_cast<const T*>(g_) + j * channels;
    for (int64_t i = r.top; i < r.bottom; ++i)
      for (int64_t k = s.lo; k < s.hi; ++k) {
        T* v = dx + (i * r.width + k) * channels;
        for (int64_t c = 0; c < channels; ++c) v[c] += g[c] / by;
      }
  }
}

constexpr int64_t kColumns = 512;  // of the input at a time

template <class T>
void max_plane(const PoolRow& r, const void* x_, void* y_, int32_t* indices) {
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  if (r.kernel > kColumns) {
    for (int64_t j = 0; j < r.columns; ++j) {
      const Span s = window(r, j);
      int64_t at = r.top * r.width + s.lo;
      for (int64_t i = r.top; i < r.bottom; ++i)
        for (int64_t k = s.lo; k < s.hi; ++k)
          if (beats(x[i * r.width + k], x[at])) at = i * r.width + k;
      y[j] = x[at];
      if (indices) indices[j] = int32_t(at);
    }
    return;
  }
  T best[kColumns];
  int32_t row[kColumns];
  for (int64_t j = 0; j < r.columns;) {
    // As many results as the columns of one buffer serve.
    const int64_t from = window(r, j).lo;
    int64_t last = j + 1;
    while (last < r.columns && window(r, last).hi - from <= kColumns) ++last;
    const int64_t n = std::min(window(r, last - 1).hi - from, kColumns);
    for (int64_t k = 0; k < n; ++k) best[k] = x[r.top * r.width + from + k], row[k] = int32_t(r.top);
    for (int64_t i = r.top + 1; i < r.bottom; ++i)
      for (int64_t k = 0; k < n; ++k) {
        const T v = x[i * r.width + from + k];
        const bool take = beats(v, best[k]);
        best[k] = take ? v : best[k], row[k] = take ? int32_t(i) : row[k];
      }
    for (; j < last; ++j) {
      const Span s = window(r, j);
      int64_t at = s.lo - from;
      T b = best[at];
      for (int64_t k = at + 1; k < s.hi - from; ++k) {
        // The first in row-major order wins a tie: an equal value in an upper row comes first.
        const bool take = beats(best[k], b) || ((best[k] == b || (b != b && best[k] != best[k])) && row[k] < row[at]);
        if (take) b = best[k], at = k;
      }
      y[j] = b;
      if (indices) indices[j] = int32_t(row[at] * r.width + from + at);
    }
  }
}
template <class T>
void sum_plane(const PoolRow& r, const void* x_, double scale, void* y_) {
  const T *x = static_cast<const T*>(x_), by = T(scale);
  T* y = static_cast<T*>(y_);
  for (int64_t j = 0; j < r.columns; ++j) {
    const Span s = window(r, j);
    T total = 0;
    for (int64_t i = r.top; i < r.bottom; ++i) {
      T row = 0;
      for (int64_t k = s.lo; k < s.hi; ++k) row += x[i * r.width + k];
      total += row;
    }
    y[j] = total / by;
  }
}
template <class T>
void spread_plane(const PoolRow& r, const void* g_, double scale, void* dx_) {
  const T *g = static_cast<const T*>(g_), by = T(scale);
  T* dx = static_cast<T*>(dx_);
  for (int64_t j = 0; j < r.columns; ++j) {
    const Span s = window(r, j);
    const T v = g[j] / by;
    for (int64_t i = r.top; i < r.bottom; ++i)
      for (int64_t k = s.lo; k < s.hi; ++k) dx[i * r.width + k] += v;
  }
}
template <class T>
void scatter(const void* g_, const int32_t* indices, int64_t n, int64_t step, void* dx_) {
  const T* g = static_cast<const T*>(g_);
  T* dx = static_cast<T*>(dx_);
  for (int64_t i = 0; i < n; i += step)
    for (int64_t c = 0; c < step; ++c) dx[int64_t(indices[i + c]) * step + c] += g[i + c];
}
template <class T>
void pick(const void* x_, const int32_t* indices, int64_t n, int64_t step, void* y_) {
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  for (int64_t i = 0; i < n; i += step)
    for (int64_t c = 0; c < step; ++c) y[i + c] = x[int64_t(indices[i + c]) * step + c];
}
template <class T>
PoolLoops find() {
  return {max_inner<T>, sum_inner<T>, spread_inner<T>, max_plane<T>, sum_plane<T>, spread_plane<T>, scatter<T>, pick<T>};
}
}  // namespace
PoolLoops pool_find(DType t) {
  if (t == DType::i64) return {.max_inner = max_inner<int64_t>, .max_plane = max_plane<int64_t>};
  return t == DType::f32 ? find<float>() : find<double>();
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(pool_find);
PoolLoops pool_loops(DType t) { return KEEL_SIMD(pool_find)(t); }
}  // namespace keel::cpu
#endif
