// Layer norm and RMS norm of one row, forward and backward: mean and squared deviations in two passes over a row that stays in cache, then
// one pass that writes.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_norm.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/each-inl.h"
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

/// Sums of f and of g over a row, both block by block: operands that they share are read once from memory.
template <class T, class F, class G>
HWY_INLINE void reduce_two(int64_t n, F f, G g, T& sum_f, T& sum_g) {
  PairwiseTree<SumOf, T> tf, tg;
  for (int64_t b = 0;; b += kReduceBlock) {
    const int64_t m = n - b < kReduceBlock ? n - b : kReduceBlock;
    sum_f = reduce_map<SumOf, T>(m, [&](int64_t i, auto load) HWY_ATTR { return f(b + i, load); });
    sum_g = reduce_map<SumOf, T>(m, [&](int64_t i, auto load) HWY_ATTR { return g(b + i, load); });
    if (n <= kReduceBlock) return;
    tf.add(sum_f), tg.add(sum_g);
    if (b + m >= n) break;
  }
  sum_f = tf.result(), sum_g = tg.result();
}

template <class T, int R, bool centred>
void grad_rows(const T* g, const T* x, const T* w, const T* mean, const T* rstd, T* dx, T* dw, T* db, int64_t n) {
  using D = Tag<T>;
  T total[R] = {}, share[R] = {};
  for (int r = 0; dx && r < R; ++r) {
    const T *gr = g + r * n, *xr = x + r * n;
    const auto m = hn::Set(D(), centred ? mean[r] : T(0)), s = hn::Set(D(), rstd[r]);
    const auto weighted = [&](int64_t i, auto load) HWY_ATTR { return w ? hn::Mul(load(gr + i), load(w + i)) : load(gr + i); };
    const auto shared = [&](int64_t i, auto load) HWY_ATTR {
      const auto v = load(xr + i);
      return hn::Mul(weighted(i, load), hn::Mul(centred ? hn::Sub(v, m) : v, s));
    };
    if constexpr (centred)
      reduce_two<T>(n, weighted, shared, total[r], share[r]);
    else
      share[r] = reduce_map<SumOf, T>(n, shared);
    total[r] /= T(n), share[r] /= T(n);
  }
  each<T>(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
    auto weight = hn::Zero(D()), dweight = weight, dbias = weight;
    if (w) weight = load(w + i);
    if (dw) dweight = load(dw + i);
    if (db) dbias = load(db + i);
    KEEL_UNROLL for (int r = 0; r < R; ++r) {
      const auto gv = load(g + r * n + i), xv = load(x + r * n + i), s = hn::Set(D(), rstd[r]);
      const auto v = hn::Mul(centred ? hn::Sub(xv, hn::Set(D(), mean[r])) : xv, s), gw = w ? hn::Mul(gv, weight) : gv;
      dweight = hn::Add(dweight, hn::Mul(gv, v)), dbias = hn::Add(dbias, gv);
      if (dx)
        store(hn::Mul(s, hn::Sub(centred ? hn::Sub(gw, hn::Set(D(), total[r])) : gw, hn::Mul(v, hn::Set(D(), share[r])))), dx + r * n + i);
    }
    if (dw) store(dweight, dw + i);
    if (db) store(dbias, db + i);
  });
}

template <class T>
void norm_grad(const void* g_, const void* x_, int64_t rows, const void* w_, const void* mean_, const void* rstd_, void* dx_, void* dw_,
               void* db_, int64_t n) {
  const T *g = static_cast<const T*>(g_), *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_),
          *mean = static_cast<const T*>(mean_), *rstd = static_cast<const T*>(rstd_);
  T *dx = static_cast<T*>(dx_), *dw = static_cast<T*>(dw_), *db = static_cast<T*>(db_);
  if (rows == kGradRows && n >= 2048)  // short rows stay in L1 one by one
    return mean ? grad_rows<T, kGradRows, true>(g, x, w, mean, rstd, dx, dw, db, n)
                : grad_rows<T, kGradRows, false>(g, x, w, mean, rstd, dx, dw, db, n);
  for (int64_t r = 0; r < rows; ++r)
    mean ? grad_rows<T, 1, true>(g + r * n, x + r * n, w, mean + r, rstd + r, dx ? dx + r * n : dx, dw, db, n)
         : grad_rows<T, 1, false>(g + r * n, x + r * n, w, mean, rstd + r, dx ? dx + r * n : dx, dw, db, n);
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
