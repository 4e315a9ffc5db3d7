// Layer norm and RMS norm of one row, forward and backward: mean and squared deviations in two passes over a row that stays in cache, then
// one pass that writes, for RMS norm along with the next row's first where results leave past the caches.
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

/// The sum of (x - mean)^2.
template <class T>
HWY_NOINLINE T square_deviation(const T* x, int64_t n, T mean_, RowFlow flow) {
  const auto mean = hn::Set(Tag<T>(), mean_);
  return reduce_map<SumSquareOf, T>(n, [&](int64_t i, auto load) HWY_ATTR {
    fetch(x + i, flow);
    return hn::Sub(load(x + i), mean);
  });
}
template <class T>
void moments(const void* x_, int64_t n, RowFlow flow, void* out_) {
  const T* x = static_cast<const T*>(x_);
  T* out = static_cast<T*>(out_);
  out[0] = reduce_row<SumOf, T>(x, n) / T(n);
  out[1] = square_deviation(x, n, out[0], flow);
}

template <class T>
void layer_norm(const void* x_, const void* w_, const void* b_, void* y_, int64_t n, double eps, void* mean_out, void* rstd_out,
                RowFlow flow) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_), *b = static_cast<const T*>(b_);
  T* y = static_cast<T*>(y_);
  const Tag<T> d;
  const T m = reduce_row<SumOf, T>(x, n) / T(n), square = square_deviation(x, n, m, flow);
  const T r = T(1) / std::sqrt(square / T(n) + T(eps));
  const auto mean = hn::Set(d, m), rstd = hn::Set(d, r);
  if (w && b) {
    each_out(y, n, flow.stream, [&](int64_t i, auto load) HWY_ATTR {
      return hn::Add(hn::Mul(hn::Mul(hn::Sub(load(x + i), mean), rstd), load(w + i)), load(b + i));
    });
  } else {
    each_out(y, n, flow.stream, [&](int64_t i, auto load) HWY_ATTR {
      auto v = hn::Mul(hn::Sub(load(x + i), mean), rstd);
      if (w) v = hn::Mul(v, load(w + i));
      if (b) v = hn::Add(v, load(b + i));
      return v;
    });
  }
  if (mean_out) *static_cast<T*>(mean_out) = m;
  if (rstd_out) *static_cast<T*>(rstd_out) = r;
}

template <class T>
void scale_row(const T* x, const T* w, T* y, int64_t n, T rstd_, bool stream) {
  const Tag<T> d;
  const auto rstd = hn::Set(d, rstd_);
  each_out(y, n, stream, [&](int64_t i, auto load) HWY_ATTR {
    auto v = hn::Mul(load(x + i), rstd);
    if (w) v = hn::Mul(v, load(w + i));
    return v;
  });
}
/// The sum of squares. beside(i) is called for whole vectors.
template <class T, class F>
HWY_NOINLINE T square_sum(const T* x, int64_t n, RowFlow flow, F beside) {
  return reduce_map<SumSquareOf, T>(n, [&](int64_t i, auto load) HWY_ATTR {
    fetch(x + i, flow);
    beside(i);
    return load(x + i);
  });
}
template <class T>
void rms_norm(const void* x_, const void* w_, void* y, int64_t n, double eps, void* rstd_out, RowFlow flow, PendingRow* pending) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_);
  const Tag<T> d;
  T square;
  if (pending && pending->y) {
    const T* from = static_cast<const T*>(pending->from);
    T* to = static_cast<T*>(pending->y);
    const auto rstd = hn::Set(d, T(pending->scale));
    square = square_sum(x, n, flow, [&](int64_t i) HWY_ATTR {
      const Tag<T> tag;
      auto v = hn::Mul(hn::LoadU(tag, from + i), rstd);
      if (w) v = hn::Mul(v, hn::LoadU(tag, w + i));
      hn::Stream(v, tag, to + i);
    });
  } else {
    square = square_sum(x, n, flow, [](int64_t) HWY_ATTR {});
  }
  const T rstd = T(1) / std::sqrt(square / T(n) + T(eps));
  if (rstd_out) *static_cast<T*>(rstd_out) = rstd;
  if (pending)
    *pending = {x, y, 0, rstd};
  else
    scale_row(x, w, static_cast<T*>(y), n, rstd, flow.stream);
}
template <class T>
void rms_norm_flush(const PendingRow& p, const void* w, int64_t n) {
  scale_row(static_cast<const T*>(p.from), static_cast<const T*>(w), static_cast<T*>(p.y), n, T(p.scale), true);
}

/// Sums of the two vectors that f(i, load, a, b) makes, each in the order of reduce_lanes.
template <class T, class F>
HWY_INLINE void sum_two(int64_t n, F f, T& sum_a, T& sum_b) {
  using D = Tag<T>;
  using L = Lanes<SumOf, T>;
  constexpr int64_t W = kReduceLanes<T>;
  const D d;
  const auto whole = [](const T* p) HWY_ATTR { return hn::LoadU(D(), p); };
  L a, b, high_a, high_b;
  a.clear(), b.clear(), high_a.clear(), high_b.clear();
  const bool deep = n > 16 * W;
  const int64_t full = n / W * W;
  int64_t i = 0;
  while (i < full) {
    const int64_t end = full - i < 16 * W ? full : i + 16 * W;
    const bool filled = end - i == 16 * W;
    for (; i < end; i += W) {
      KEEL_UNROLL for (int k = 0; k < L::K; ++k) {
        Vec<D> u, v;
        f(i + k * L::N, whole, u, v);
        a.v[k] = hn::Add(a.v[k], u), b.v[k] = hn::Add(b.v[k], v);
      }
    }
    if (deep && filled) high_a.join(a), high_b.join(b), a.clear(), b.clear();
  }
  for (int k = 0; k < L::K && i < n; ++k, i += L::N) {
    Vec<D> u, v;
    if (i + L::N <= n) {
      f(i, whole, u, v);
      a.v[k] = hn::Add(a.v[k], u), b.v[k] = hn::Add(b.v[k], v);
    } else {
      const size_t count = size_t(n - i);
      f(i, [count](const T* p) HWY_ATTR { return load_n(D(), p, count); }, u, v);
      const auto in = hn::FirstN(d, count);
      a.v[k] = hn::IfThenElse(in, hn::Add(a.v[k], u), a.v[k]), b.v[k] = hn::IfThenElse(in, hn::Add(b.v[k], v), b.v[k]);
    }
  }
  if (deep) a.join(high_a), b.join(high_b);
  sum_a = a.fold(), sum_b = b.fold();
}
/// The same for any length, in blocks joined pairwise.
template <class T, class F>
HWY_INLINE void sum_two_long(int64_t n, F f, T& sum_a, T& sum_b) {
  PairwiseTree<SumOf, T> tree_a, tree_b;
  for (int64_t b = 0;; b += kReduceBlock) {
    const int64_t m = n - b < kReduceBlock ? n - b : kReduceBlock;
    sum_two<T>(m, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { f(b + i, load, u, v); }, sum_a, sum_b);
    if (n <= kReduceBlock) return;
    tree_a.add(sum_a), tree_b.add(sum_b);
    if (b + m >= n) break;
  }
  sum_a = tree_a.result(), sum_b = tree_b.result();
}

template <class T, int R, bool centred>
void grad_rows(const T* g, const T* x, const T* w, const T* mean, const T* rstd, T* dx, T* dw, T* db, int64_t n, RowFlow flow) {
  using D = Tag<T>;
  T total[R] = {}, share[R] = {};
  for (int r = 0; dx && r < R; ++r) {
    const T *gr = g + r * n, *xr = x + r * n;
    const auto m = hn::Set(D(), centred ? mean[r] : T(0)), s = hn::Set(D(), rstd[r]);
    const auto both = [&](int64_t i, auto load, auto& gw, auto& shared) HWY_ATTR {
      fetch(gr + i, flow), fetch(xr + i, flow);
      const auto v = load(xr + i);
      gw = w ? hn::Mul(load(gr + i), load(w + i)) : load(gr + i);
      shared = hn::Mul(gw, hn::Mul(centred ? hn::Sub(v, m) : v, s));
    };
    if constexpr (centred) {
      sum_two_long<T>(n, both, total[r], share[r]);
    } else {
      share[r] = reduce_map<SumOf, T>(n, [&](int64_t i, auto load) HWY_ATTR {
        auto gw = hn::Zero(D()), shared = gw;
        both(i, load, gw, shared);
        return shared;
      });
    }
    total[r] /= T(n), share[r] /= T(n);
  }
  // Past the caches where all rows are aligned.
  const bool stream = dx && flow.stream && n % int64_t(hn::MaxLanes(D())) == 0 && until_aligned(dx) == 0;
  each<T>(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
    auto weight = hn::Zero(D()), dweight = weight, dbias = weight;
    if (w) weight = load(w + i);
    if (dw) dweight = load(dw + i);
    if (db) dbias = load(db + i);
    KEEL_UNROLL for (int r = 0; r < R; ++r) {
      const auto gv = load(g + r * n + i), xv = load(x + r * n + i), s = hn::Set(D(), rstd[r]);
      const auto v = hn::Mul(centred ? hn::Sub(xv, hn::Set(D(), mean[r])) : xv, s), gw = w ? hn::Mul(gv, weight) : gv;
      dweight = hn::Add(dweight, hn::Mul(gv, v)), dbias = hn::Add(dbias, gv);
      if (!dx) continue;
      const auto out = hn::Mul(s, hn::Sub(centred ? hn::Sub(gw, hn::Set(D(), total[r])) : gw, hn::Mul(v, hn::Set(D(), share[r]))));
      if (stream)
        hn::Stream(out, D(), dx + r * n + i);
      else
        store(out, dx + r * n + i);
    }
    if (dw) store(dweight, dw + i);
    if (db) store(dbias, db + i);
  });
}

template <class T>
void norm_grad(const void* g_, const void* x_, int64_t rows, const void* w_, const void* mean_, const void* rstd_, void* dx_, void* dw_,
               void* db_, int64_t n, RowFlow flow) {
  const T *g = static_cast<const T*>(g_), *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_),
          *mean = static_cast<const T*>(mean_), *rstd = static_cast<const T*>(rstd_);
  T *dx = static_cast<T*>(dx_), *dw = static_cast<T*>(dw_), *db = static_cast<T*>(db_);
  if (rows == kGradRows && n >= 2048)  // short rows stay in L1 one by one
    return mean ? grad_rows<T, kGradRows, true>(g, x, w, mean, rstd, dx, dw, db, n, flow)
                : grad_rows<T, kGradRows, false>(g, x, w, mean, rstd, dx, dw, db, n, flow);
  if (flow.ahead) flow.ahead = n;
  for (int64_t r = 0; r < rows; ++r)
    mean ? grad_rows<T, 1, true>(g + r * n, x + r * n, w, mean + r, rstd + r, dx ? dx + r * n : dx, dw, db, n, flow)
         : grad_rows<T, 1, false>(g + r * n, x + r * n, w, mean, rstd + r, dx ? dx + r * n : dx, dw, db, n, flow);
}
}  // namespace

void norm_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.moments = f ? moments<float> : moments<double>;
  r.layer_norm = f ? layer_norm<float> : layer_norm<double>;
  r.rms_norm = f ? rms_norm<float> : rms_norm<double>;
  r.rms_norm_flush = f ? rms_norm_flush<float> : rms_norm_flush<double>;
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
