// Layer norm and RMS norm of one row, forward and backward: mean and squared deviations in two passes over a row that stays in cache, then
// one pass that writes.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_norm.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/reduce-inl.h"
#include "backend/cpu/loops/rows.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class M, class T, class F>
HWY_INLINE T reduce_map(int64_t n, F f) {
  // f(i, load) with load(p) a whole vector or the masked rest
  const auto whole = [&](int64_t i) HWY_ATTR { return f(i, [](const T* p) HWY_ATTR { return hn::LoadU(Tag<T>(), p); }); };
  const auto tail = [&](int64_t i, size_t count)
                        HWY_ATTR { return f(i, [count](const T* p) HWY_ATTR { return load_n(Tag<T>(), p, count); }); };
  return reduce_long<M, T>(n, whole, tail);
}

/// Calls f(i, load, store) for whole vectors and then for the masked rest.
template <class T, class F>
HWY_INLINE void each(int64_t n, F f) {
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0;
  for (; i + N <= n; i += N)
    f(
        i, [](const T* p) HWY_ATTR { return hn::LoadU(Tag<T>(), p); }, [](auto v, T* p) HWY_ATTR { hn::StoreU(v, Tag<T>(), p); });
  if (const size_t count = size_t(n - i))
    f(
        i, [count](const T* p) HWY_ATTR { return load_n(Tag<T>(), p, count); },
        [count](auto v, T* p) HWY_ATTR { store_n(v, Tag<T>(), p, count); });
}

template <class T>
void layer_norm(const void* x_, const void* w_, const void* b_, void* y_, int64_t n, double eps, void* mean_out, void* rstd_out) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_), *b = static_cast<const T*>(b_);
  T* y = static_cast<T*>(y_);
  const Tag<T> d;
  const T m = reduce_row<SumOf, T>(x, n) / T(n);
  const auto mean = hn::Set(d, m);
  const T square = reduce_map<SumSquareOf, T>(n, [&](int64_t i, auto load) HWY_ATTR { return hn::Sub(load(x + i), mean); });
  const T r = T(1) / std::sqrt(square / T(n) + T(eps));
  const auto rstd = hn::Set(d, r);
  if (w && b) {
    each<T>(n, [&](int64_t i, auto load, auto store)
                   HWY_ATTR { store(hn::Add(hn::Mul(hn::Mul(hn::Sub(load(x + i), mean), rstd), load(w + i)), load(b + i)), y + i); });
  } else {
    each<T>(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
      auto v = hn::Mul(hn::Sub(load(x + i), mean), rstd);
      if (w) v = hn::Mul(v, load(w + i));
      if (b) v = hn::Add(v, load(b + i));
      store(v, y + i);
    });
  }
  if (mean_out) *static_cast<T*>(mean_out) = m;
  if (rstd_out) *static_cast<T*>(rstd_out) = r;
}

template <class T>
void rms_norm(const void* x_, const void* w_, void* y_, int64_t n, double eps, void* rstd_out) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_);
  T* y = static_cast<T*>(y_);
  const T r = T(1) / std::sqrt(reduce_row<SumSquareOf, T>(x, n) / T(n) + T(eps));
  const auto rstd = hn::Set(Tag<T>(), r);
  each<T>(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
    auto v = hn::Mul(load(x + i), rstd);
    if (w) v = hn::Mul(v, load(w + i));
    store(v, y + i);
  });
  if (rstd_out) *static_cast<T*>(rstd_out) = r;
}

template <class T>
void norm_grad(const void* g_, const void* x_, const void* w_, const void* mean_, const void* rstd_, void* dx_, void* dw_, void* db_,
               int64_t n) {
  const T *g = static_cast<const T*>(g_), *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_);
  T *dx = static_cast<T*>(dx_), *dw = static_cast<T*>(dw_), *db = static_cast<T*>(db_);
  const Tag<T> d;
  const bool centred = mean_ != nullptr;
  const auto mean = hn::Set(d, centred ? *static_cast<const T*>(mean_) : T(0)), rstd = hn::Set(d, *static_cast<const T*>(rstd_));
  const auto normal = [&](auto v) HWY_ATTR { return hn::Mul(centred ? hn::Sub(v, mean) : v, rstd); };
  if (dx) {
    const auto weighted = [&](int64_t i, auto load) HWY_ATTR { return w ? hn::Mul(load(g + i), load(w + i)) : load(g + i); };
    const auto total = hn::Set(d, centred ? reduce_map<SumOf, T>(n, weighted) / T(n) : T(0));
    const auto share = hn::Set(
        d, reduce_map<SumOf, T>(n, [&](int64_t i, auto load) HWY_ATTR { return hn::Mul(weighted(i, load), normal(load(x + i))); }) / T(n));
    each<T>(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
      const auto gv = load(g + i), v = normal(load(x + i)), gw = w ? hn::Mul(gv, load(w + i)) : gv;
      // dweight and dbias first: dx may be g.
      if (dw) store(hn::Add(load(dw + i), hn::Mul(gv, v)), dw + i);
      if (db) store(hn::Add(load(db + i), gv), db + i);
      store(hn::Mul(rstd, hn::Sub(centred ? hn::Sub(gw, total) : gw, hn::Mul(v, share))), dx + i);
    });
    return;
  }
  each<T>(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
    const auto gv = load(g + i);
    if (dw) store(hn::Add(load(dw + i), hn::Mul(gv, normal(load(x + i)))), dw + i);
    if (db) store(hn::Add(load(db + i), gv), db + i);
  });
}
}  // namespace

void norm_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.layer_norm = f ? layer_norm<float> : layer_norm<double>;
  r.rms_norm = f ? rms_norm<float> : rms_norm<double>;
  r.norm_grad = f ? norm_grad<float> : norm_grad<double>;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(norm_loops);
void add_norm_loops(DType t, RowLoops& r);
void add_norm_loops(DType t, RowLoops& r) { KEEL_SIMD(norm_loops)(t, r); }
}  // namespace keel::cpu
#endif
