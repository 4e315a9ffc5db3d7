// Gradients of layer norm and RMS norm, row by row: two sums in one pass over a row, then one pass that writes. Where results leave past the
// caches, that pass goes along with the sums of the next rows.
#include <type_traits>

#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_norm_grad.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"
#include "backend/cpu/loops/rows-inl.h"
#include "backend/cpu/loops/rows.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

/// What the last pass makes of row r: v, the row about its mean and scaled, and dx of it and g w.
template <class T, bool centred>
struct GradOf {
  Vec<Tag<T>> mean, s, total, share;
  HWY_INLINE GradOf(const PendingGrad& p, int64_t r)
      : mean(hn::Set(Tag<T>(), centred ? static_cast<const T*>(p.mean)[r] : T(0))),
        s(hn::Set(Tag<T>(), static_cast<const T*>(p.rstd)[r])),
        total(hn::Set(Tag<T>(), T(p.total[r]))),
        share(hn::Set(Tag<T>(), T(p.share[r]))) {}
  HWY_INLINE Vec<Tag<T>> normal(Vec<Tag<T>> x) const { return hn::Mul(centred ? hn::Sub(x, mean) : x, s); }
  HWY_INLINE Vec<Tag<T>> dx(Vec<Tag<T>> gw, Vec<Tag<T>> v) const {
    return hn::Mul(s, hn::Sub(centred ? hn::Sub(gw, total) : gw, hn::Mul(v, share)));
  }
};
/// The last pass over columns [from, to) of row r: dw and db += the row's share, and dx.
template <class T, bool centred>
HWY_INLINE void grad_span(const PendingGrad& p, int64_t r, const T* w, int64_t n, int64_t from, int64_t to, bool stream) {
  using D = Tag<T>;
  const T *g = static_cast<const T*>(p.g) + r * n, *x = static_cast<const T*>(p.x) + r * n;
  T *dx = p.dx ? static_cast<T*>(p.dx) + r * n : nullptr, *dw = static_cast<T*>(p.dweight), *db = static_cast<T*>(p.dbias);
  const GradOf<T, centred> form(p, r);
  const auto one = [&](int64_t i, auto load, auto store) HWY_ATTR {
    const auto gv = load(g + i), v = form.normal(load(x + i));
    if (dw) store(hn::Add(load(dw + i), hn::Mul(gv, v)), dw + i);
    if (db) store(hn::Add(load(db + i), gv), db + i);
    if (!dx) return;
    const auto out = form.dx(w ? hn::Mul(gv, load(w + i)) : gv, v);
    if (stream)
      hn::Stream(out, D(), dx + i);
    else
      store(out, dx + i);
  };
  constexpr int64_t N = hn::MaxLanes(D());
  int64_t i = from;
  for (; i + N <= to; i += N)
    one(
        i, [](const T* at) HWY_ATTR { return hn::LoadU(D(), at); }, [](auto v, T* at) HWY_ATTR { hn::StoreU(v, D(), at); });
  if (const size_t count = size_t(to - i))
    one(
        i, [count](const T* at) HWY_ATTR { return load_n(D(), at, count); },
        [count](auto v, T* at) HWY_ATTR { store_n(v, D(), at, count); });
}
template <class T, bool centred>
HWY_NOINLINE void grad_rest(const PendingGrad& p, const T* w, int64_t n, BlockWalk at, bool stream) {
  for (; at.more(); at.step()) grad_span<T, centred>(p, at.row, w, n, at.column, n - at.column < at.unit ? n : at.column + at.unit, stream);
}

/// The two sums of row r of `own`; beside(i) as in reduce_two.
template <class T, bool centred, class F>
HWY_INLINE void grad_sums(PendingGrad& own, int64_t r, const T* w, int64_t n, RowFlow flow, F beside) {
  using D = Tag<T>;
  const T *g = static_cast<const T*>(own.g) + r * n, *x = static_cast<const T*>(own.x) + r * n;
  const auto m = hn::Set(D(), centred ? static_cast<const T*>(own.mean)[r] : T(0)), s = hn::Set(D(), static_cast<const T*>(own.rstd)[r]);
  T total = 0, share = 0;
  reduce_two<SumOf, std::conditional_t<centred, SumOf, NoneOf>, T>(
      n,
      [&](int64_t i, auto load, auto& shared, auto& gw) HWY_ATTR {
        if (flow.ahead) fetch(g + i, flow), fetch(x + i, flow);
        const auto v = load(x + i);
        gw = w ? hn::Mul(load(g + i), load(w + i)) : load(g + i);
        shared = hn::Mul(gw, hn::Mul(centred ? hn::Sub(v, m) : v, s));
      },
      beside, share, total);
  own.total[r] = total / T(n), own.share[r] = share / T(n);
}
template <class T, bool centred>
HWY_NOINLINE void grad_sums_alone(PendingGrad& own, const T* w, int64_t n, RowFlow flow) {
  for (int64_t r = 0; r < own.rows; ++r) grad_sums<T, centred>(own, r, w, n, flow, [](int64_t) HWY_ATTR {});
}
template <class T, bool centred>
HWY_NOINLINE void grad_sums_beside(PendingGrad& own, const T* w, int64_t n, RowFlow flow, const PendingGrad& p, BlockWalk& at) {
  for (int64_t r = 0; r < own.rows; ++r)
    grad_sums<T, centred>(own, r, w, n, flow, [&](int64_t i) HWY_ATTR {
      if (i % kReduceLanes<T> == 0) return;
      grad_span<T, centred>(p, at.row, w, n, at.column, at.column + kReduceLanes<T>, true);
      at.step();
    });
}
template <class T>
HWY_INLINE BlockWalk grad_walk(int64_t n, int64_t rows) {
  return BlockWalk(n, rows, kReduceLanes<T>);
}
template <class T, bool centred>
void grad_rows(PendingGrad own, const T* w, int64_t n, RowFlow flow, PendingGrad* pending) {
  if (pending) {
    const PendingGrad before = *pending;
    BlockWalk at = grad_walk<T>(n, before.rows);
    if (before.rows == own.rows && (own.rows == 1 || n % kReduceLanes<T> == 0)) {
      grad_sums_beside<T, centred>(own, w, n, flow, before, at);
    } else {
      grad_sums_alone<T, centred>(own, w, n, flow);
    }
    if (before.rows) grad_rest<T, centred>(before, w, n, at, true);
    *pending = own;
    return;
  }
  if (own.dx) grad_sums_alone<T, centred>(own, w, n, flow);
  // Past the caches where all rows are aligned.
  const bool stream =
      own.dx && flow.stream && n % int64_t(hn::MaxLanes(Tag<T>())) == 0 && until_aligned(static_cast<const T*>(own.dx)) == 0;
  grad_rest<T, centred>(own, w, n, grad_walk<T>(n, own.rows), stream);
}

/// Rows of layer norm of which all that is read and written stays in L1, one after the other: the pass that writes fetches what comes.
template <class T>
void grad_in_turn(const T* g, const T* x, int64_t rows, const T* w, const T* mean, const T* rstd, T* dx, T* dw, T* db, int64_t n,
                  RowFlow flow) {
  using D = Tag<T>;
  for (int64_t r = 0; r < rows; ++r, g += n, x += n, dx += n) {
    PendingGrad sums{1, g, x, mean + r, rstd + r, dx, dw, db, {}, {}};
    grad_sums<T, true>(sums, 0, w, n, {}, [](int64_t) HWY_ATTR {});
    const GradOf<T, true> form(sums, 0);
    const auto out = [&](int64_t i) HWY_ATTR {
      const auto gv = hn::LoadU(D(), g + i), v = form.normal(hn::LoadU(D(), x + i));
      if (dw) hn::StoreU(hn::Add(hn::LoadU(D(), dw + i), hn::Mul(gv, v)), D(), dw + i);
      if (db) hn::StoreU(hn::Add(hn::LoadU(D(), db + i), gv), D(), db + i);
      return form.dx(w ? hn::Mul(gv, hn::LoadU(D(), w + i)) : gv, v);
    };
    stream_row<false>(dx, n, flow, out, g, x);
  }
}

template <class T>
void norm_grad(const void* g_, const void* x_, int64_t rows, const void* w_, const void* mean_, const void* rstd_, void* dx_, void* dw,
               void* db, int64_t n, RowFlow flow, PendingGrad* pending) {
  const T *g = static_cast<const T*>(g_), *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_),
          *mean = static_cast<const T*>(mean_), *rstd = static_cast<const T*>(rstd_);
  T *dx = static_cast<T*>(dx_), *dweight = static_cast<T*>(dw), *dbias = static_cast<T*>(db);
  if (pending && mean && flow.near && n * int64_t(sizeof(T)) <= kShortRow)
    return grad_in_turn(g, x, rows, w, mean, rstd, dx, dweight, dbias, n, flow);
  if (rows == kGradRows && n >= 2048) {  // short rows stay in L1 one by one
    const PendingGrad own{rows, g, x, mean, rstd, dx, dw, db, {}, {}};
    return mean ? grad_rows<T, true>(own, w, n, flow, pending) : grad_rows<T, false>(own, w, n, flow, pending);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const PendingGrad own{1, g + r * n, x + r * n, mean ? mean + r : mean, rstd + r, dx ? dx + r * n : dx, dw, db, {}, {}};
    mean ? grad_rows<T, true>(own, w, n, flow, pending) : grad_rows<T, false>(own, w, n, flow, pending);
  }
}
template <class T>
void norm_grad_flush(PendingGrad& p, const void* w_, int64_t n) {
  const T* w = static_cast<const T*>(w_);
  p.mean ? grad_rest<T, true>(p, w, n, grad_walk<T>(n, p.rows), true) : grad_rest<T, false>(p, w, n, grad_walk<T>(n, p.rows), true);
  p.rows = 0;
}
}  // namespace

void norm_grad_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.norm_grad = f ? norm_grad<float> : norm_grad<double>;
  r.norm_grad_flush = f ? norm_grad_flush<float> : norm_grad_flush<double>;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(norm_grad_loops);
void add_norm_grad_loops(DType t, RowLoops& r) { KEEL_SIMD(norm_grad_loops)(t, r); }
}  // namespace keel::cpu
#endif
