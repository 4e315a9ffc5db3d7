// Layer norm and RMS norm of rows, forward and backward: mean and squared deviations in two passes over a row that stays in cache, then one
// pass that writes. Where results leave past the caches, the last pass over one row goes along with the others over the next, so that reads
// and writes of memory do not take turns.
#include <type_traits>

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

/// y = (x - mean) rstd w + b of one vector.
template <class T, class Load>
HWY_INLINE auto normal_of(const T* x, const T* w, const T* b, int64_t i, Vec<Tag<T>> mean, Vec<Tag<T>> rstd, Load load) {
  auto v = hn::Mul(hn::Sub(load(x + i), mean), rstd);
  if (w) v = hn::Mul(v, load(w + i));
  if (b) v = hn::Add(v, load(b + i));
  return v;
}
template <class T>
void normal_row(const T* x, const T* w, const T* b, T* y, int64_t n, T mean_, T rstd_, bool stream) {
  const auto mean = hn::Set(Tag<T>(), mean_), rstd = hn::Set(Tag<T>(), rstd_);
  each_out(y, n, stream, [&](int64_t i, auto load) HWY_ATTR { return normal_of(x, w, b, i, mean, rstd, load); });
}
/// All at once: the sum of (x - mean)^2, the sum of the next row into `next`, and the pending row's last pass.
template <class T>
HWY_NOINLINE T square_deviation_beside(const T* x, int64_t n, T mean_, RowFlow flow, const PendingRow& p, const T* w, const T* b, T& next) {
  using D = Tag<T>;
  const bool wide = flow.wide;
  const T* from = static_cast<const T*>(p.from);
  T *to = static_cast<T*>(p.y), square;
  const auto mean = hn::Set(D(), mean_), shift = hn::Set(D(), T(p.shift)), scale = hn::Set(D(), T(p.scale));
  reduce_two<SumSquareOf, SumOf, T>(
      n,
      [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR {
        if (wide)
          fetch(x + n + i, flow);
        else
          fetch_soon(x + n + i);
        u = hn::Sub(load(x + i), mean), v = load(x + n + i);
        hn::Stream(normal_of(from, w, b, i, shift, scale, [](const T* at) HWY_ATTR { return hn::LoadU(D(), at); }), D(), to + i);
      },
      [](int64_t) HWY_ATTR {}, square, next);
  return square;
}
template <class T>
void layer_norm(const void* x_, const void* w_, const void* b_, void* y_, int64_t n, double eps, void* mean_out, void* rstd_out,
                RowFlow flow, PendingRow* pending) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_), *b = static_cast<const T*>(b_);
  T* y = static_cast<T*>(y_);
  const T m = (pending && pending->known ? T(pending->first) : reduce_row<SumOf, T>(x, n)) / T(n);
  T next = 0;
  const bool known = pending && pending->y && flow.ahead;
  if (pending && pending->y && !known)
    normal_row(static_cast<const T*>(pending->from), w, b, static_cast<T*>(pending->y), n, T(pending->shift), T(pending->scale), true);
  const T square = known ? square_deviation_beside(x, n, m, flow, *pending, w, b, next) : square_deviation(x, n, m, flow);
  const T r = T(1) / std::sqrt(square / T(n) + T(eps));
  if (pending)
    *pending = {x, y, m, r, nullptr, known, next};
  else
    normal_row(x, w, b, y, n, m, r, flow.stream);
  if (mean_out) *static_cast<T*>(mean_out) = m;
  if (rstd_out) *static_cast<T*>(rstd_out) = r;
}
template <class T>
void layer_norm_flush(const PendingRow& p, const void* w, const void* b, int64_t n) {
  normal_row(static_cast<const T*>(p.from), static_cast<const T*>(w), static_cast<const T*>(b), static_cast<T*>(p.y), n, T(p.shift),
             T(p.scale), true);
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

/// What the last pass over R rows takes, where no store can change it.
template <class T, int R>
struct GradRows {
  const T *g, *x, *w;
  T *dx, *dw, *db, mean[R], rstd[R], total[R], share[R];
  HWY_INLINE GradRows(const PendingGrad& p, const T* weight)
      : g(static_cast<const T*>(p.g)),
        x(static_cast<const T*>(p.x)),
        w(weight),
        dx(static_cast<T*>(p.dx)),
        dw(static_cast<T*>(p.dweight)),
        db(static_cast<T*>(p.dbias)) {
    for (int r = 0; r < R; ++r) {
      mean[r] = p.mean ? static_cast<const T*>(p.mean)[r] : T(0), rstd[r] = static_cast<const T*>(p.rstd)[r];
      total[r] = T(p.total[r]), share[r] = T(p.share[r]);
    }
  }
};
/// The last pass over R rows at column i: dw and db += the rows' shares, row by row, and dx.
template <class T, int R, bool centred, class Load, class Store>
HWY_INLINE void grad_column(const GradRows<T, R>& p, int64_t n, int64_t i, bool stream, Load load, Store store) {
  using D = Tag<T>;
  const T *g = p.g, *x = p.x, *w = p.w;
  T *dx = p.dx, *dw = p.dw, *db = p.db;
  auto weight = hn::Zero(D()), dweight = weight, dbias = weight;
  if (w) weight = load(w + i);
  if (dw) dweight = load(dw + i);
  if (db) dbias = load(db + i);
  // All rows are read before any is written: loads wait for stores a multiple of 4 KiB away.
  Vec<D> gs[R], xs[R];
  KEEL_UNROLL for (int r = 0; r < R; ++r) gs[r] = load(g + r * n + i), xs[r] = load(x + r * n + i);
  KEEL_UNROLL for (int r = 0; r < R; ++r) {
    const auto gv = gs[r], s = hn::Set(D(), p.rstd[r]);
    const auto v = hn::Mul(centred ? hn::Sub(xs[r], hn::Set(D(), p.mean[r])) : xs[r], s), gw = w ? hn::Mul(gv, weight) : gv;
    dweight = hn::Add(dweight, hn::Mul(gv, v)), dbias = hn::Add(dbias, gv);
    if (!dx) continue;
    const auto out =
        hn::Mul(s, hn::Sub(centred ? hn::Sub(gw, hn::Set(D(), p.total[r])) : gw, hn::Mul(v, hn::Set(D(), p.share[r]))));
    if (stream)
      hn::Stream(out, D(), dx + r * n + i);
    else
      store(out, dx + r * n + i);
  }
  if (dw) store(dweight, dw + i);
  if (db) store(dbias, db + i);
}
template <class T, int R, bool centred>
HWY_NOINLINE void grad_columns(const PendingGrad& pending, const T* w, int64_t n, int64_t from, bool stream) {
  const GradRows<T, R> p(pending, w);
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = from;
  for (; i + N <= n; i += N)
    grad_column<T, R, centred>(
        p, n, i, stream, [](const T* at) HWY_ATTR { return hn::LoadU(Tag<T>(), at); },
        [](auto v, T* at) HWY_ATTR { hn::StoreU(v, Tag<T>(), at); });
  if (const size_t count = size_t(n - i))
    grad_column<T, R, centred>(
        p, n, i, false, [count](const T* at) HWY_ATTR { return load_n(Tag<T>(), at, count); },
        [count](auto v, T* at) HWY_ATTR { store_n(v, Tag<T>(), at, count); });
}

/// The two sums of row r of `own`; beside(i) as in reduce_two.
template <class T, bool centred, class F>
HWY_INLINE void grad_sums(PendingGrad& own, int r, const T* w, int64_t n, RowFlow flow, F beside) {
  using D = Tag<T>;
  const T *g = static_cast<const T*>(own.g) + r * n, *x = static_cast<const T*>(own.x) + r * n;
  const auto m = hn::Set(D(), centred ? static_cast<const T*>(own.mean)[r] : T(0)), s = hn::Set(D(), static_cast<const T*>(own.rstd)[r]);
  T total = 0, share = 0;
  reduce_two<SumOf, std::conditional_t<centred, SumOf, NoneOf>, T>(
      n,
      [&](int64_t i, auto load, auto& shared, auto& gw) HWY_ATTR {
        fetch(g + i, flow), fetch(x + i, flow);
        const auto v = load(x + i);
        gw = w ? hn::Mul(load(g + i), load(w + i)) : load(g + i);
        shared = hn::Mul(gw, hn::Mul(centred ? hn::Sub(v, m) : v, s));
      },
      beside, share, total);
  own.total[r] = total / T(n), own.share[r] = share / T(n);
}
template <class T, int R, bool centred>
HWY_NOINLINE void grad_sums_beside(PendingGrad& own, const T* w, int64_t n, RowFlow flow, const PendingGrad& p) {
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  const GradRows<T, R> rows(p, w);
  int64_t column = 0;
  for (int r = 0; r < R; ++r)
    grad_sums<T, centred>(own, r, w, n, flow, [&](int64_t) HWY_ATTR {
      KEEL_UNROLL for (int k = 0; k < Lanes<SumOf, T>::K / R; ++k, column += N)
        grad_column<T, R, centred>(
            rows, n, column, true, [](const T* at) HWY_ATTR { return hn::LoadU(Tag<T>(), at); },
            [](auto v, T* at) HWY_ATTR { hn::StoreU(v, Tag<T>(), at); });
    });
  grad_columns<T, R, centred>(p, w, n, column, true);
}
template <class T, bool centred>
void flush_grad(PendingGrad& p, const T* w, int64_t n) {
  if (p.rows == kGradRows)
    grad_columns<T, kGradRows, centred>(p, w, n, 0, true);
  else if (p.rows)
    grad_columns<T, 1, centred>(p, w, n, 0, true);
  p.rows = 0;
}
template <class T, int R, bool centred>
void grad_rows(PendingGrad own, const T* w, int64_t n, RowFlow flow, PendingGrad* pending) {
  if (pending && pending->rows == R) {
    grad_sums_beside<T, R, centred>(own, w, n, flow, *pending), *pending = own;
    return;
  }
  if (pending) flush_grad<T, centred>(*pending, w, n);
  for (int r = 0; own.dx && r < R; ++r) grad_sums<T, centred>(own, r, w, n, flow, [](int64_t) HWY_ATTR {});
  if (pending) {
    *pending = own;
    return;
  }
  // Past the caches where all rows are aligned.
  const bool stream =
      own.dx && flow.stream && n % int64_t(hn::MaxLanes(Tag<T>())) == 0 && until_aligned(static_cast<const T*>(own.dx)) == 0;
  grad_columns<T, R, centred>(own, w, n, 0, stream);
}

template <class T>
void norm_grad(const void* g_, const void* x_, int64_t rows, const void* w_, const void* mean_, const void* rstd_, void* dx_, void* dw,
               void* db, int64_t n, RowFlow flow, PendingGrad* pending) {
  const T *g = static_cast<const T*>(g_), *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_),
          *mean = static_cast<const T*>(mean_), *rstd = static_cast<const T*>(rstd_);
  T* dx = static_cast<T*>(dx_);
  if (rows == kGradRows && n >= 2048) {  // short rows stay in L1 one by one
    const PendingGrad own{rows, g, x, mean, rstd, dx, dw, db, {}, {}};
    return mean ? grad_rows<T, kGradRows, true>(own, w, n, flow, pending) : grad_rows<T, kGradRows, false>(own, w, n, flow, pending);
  }
  if (flow.ahead) flow.ahead = n;
  for (int64_t r = 0; r < rows; ++r) {
    const PendingGrad own{1, g + r * n, x + r * n, mean ? mean + r : mean, rstd + r, dx ? dx + r * n : dx, dw, db, {}, {}};
    mean ? grad_rows<T, 1, true>(own, w, n, flow, pending) : grad_rows<T, 1, false>(own, w, n, flow, pending);
  }
}
template <class T>
void norm_grad_flush(PendingGrad& p, const void* w, int64_t n) {
  p.mean ? flush_grad<T, true>(p, static_cast<const T*>(w), n) : flush_grad<T, false>(p, static_cast<const T*>(w), n);
}
}  // namespace

void norm_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.moments = f ? moments<float> : moments<double>;
  r.layer_norm = f ? layer_norm<float> : layer_norm<double>;
  r.rms_norm = f ? rms_norm<float> : rms_norm<double>;
  r.rms_norm_flush = f ? rms_norm_flush<float> : rms_norm_flush<double>;
  r.layer_norm_flush = f ? layer_norm_flush<float> : layer_norm_flush<double>;
  r.norm_grad = f ? norm_grad<float> : norm_grad<double>;
  r.norm_grad_flush = f ? norm_grad_flush<float> : norm_grad_flush<double>;
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
