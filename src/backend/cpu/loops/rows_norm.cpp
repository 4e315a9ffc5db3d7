// Layer norm and RMS norm of rows, forward: mean and squared deviations in two passes over a row that stays in cache, then one
// pass that writes. Where results leave past the caches, the last pass over one row goes along with the others over the next, so that reads
// and writes of memory do not take turns.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_norm.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"
#include "backend/cpu/loops/rows-inl.h"
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
HWY_NOINLINE T square_deviation_beside(const T* x, int64_t n, T mean_, const PendingRow& p, const T* w, const T* b, T& next) {
  using D = Tag<T>;
  const T* from = static_cast<const T*>(p.from);
  T *to = static_cast<T*>(p.y), square;
  const auto mean = hn::Set(D(), mean_), shift = hn::Set(D(), T(p.shift)), scale = hn::Set(D(), T(p.scale));
  reduce_two<SumSquareOf, SumOf, T>(
      n,
      [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR {
        fetch_soon(x + n + i);
        u = hn::Sub(load(x + i), mean), v = load(x + n + i);
        hn::Stream(normal_of(from, w, b, i, shift, scale, [](const T* at) HWY_ATTR { return hn::LoadU(D(), at); }), D(), to + i);
      },
      [](int64_t) HWY_ATTR {}, square, next);
  return square;
}
/// kGradRows rows, along with the last pass over as many before: half of it, and half of what is fetched, with either pass. Whole vectors.
template <class T>
HWY_NOINLINE void normal_rows(const T* x, const T* w, const T* b, T* y, int64_t n, double eps, T* mean_out, T* rstd_out, RowFlow flow,
                              PendingNorm& pending) {
  using D = Tag<T>;
  constexpr int64_t N = hn::MaxLanes(D()), kUnit = kReduceLanes<T> / 2, kLine = 64 / int64_t(sizeof(T));
  const auto load = [](const T* p) HWY_ATTR { return hn::LoadU(D(), p); };
  const PendingNorm before = pending;
  BlockWalk at(n, kGradRows, kUnit);
  const auto some = [&]() HWY_ATTR {
    const auto mean = hn::Set(D(), T(before.mean[at.row])), rstd = hn::Set(D(), T(before.rstd[at.row]));
    const T* from = static_cast<const T*>(before.x) + at.row * n;
    T* to = static_cast<T*>(before.y) + at.row * n;
    KEEL_UNROLL for (int64_t k = 0; k < kUnit; k += N)
      hn::Stream(normal_of(from, w, b, at.column + k, mean, rstd, load), D(), to + at.column + k);
    at.step();
  };
  pending = {x, y, {}, {}};
  for (int64_t r = 0; x && r < kGradRows; ++r) {
    const T *row = x + r * n, *later = row;
    const auto along = [&](int64_t) HWY_ATTR {
      for (int64_t k = 0; k < kUnit; k += kLine) fetch(later + k, flow);
      later += kUnit;
      if (before.x) some();
    };
    T sum = 0, square = 0, none = 0;
    reduce_two<SumOf, NoneOf, T>(n, [&](int64_t i, auto load_, auto& u, auto& v) HWY_ATTR { u = v = load_(row + i); }, along, sum, none);
    const T m = sum / T(n);
    const auto mean = hn::Set(D(), m);
    reduce_two<SumSquareOf, NoneOf, T>(
        n, [&](int64_t i, auto load_, auto& u, auto& v) HWY_ATTR { u = v = hn::Sub(load_(row + i), mean); }, along, square, none);
    const T s = T(1) / std::sqrt(square / T(n) + T(eps));
    pending.mean[r] = m, pending.rstd[r] = s;
    if (mean_out) mean_out[r] = m;
    if (rstd_out) rstd_out[r] = s;
  }
  if (before.x)
    while (at.more()) some();
}
template <class T>
void layer_norm_rows(const void* x, const void* w, const void* b, void* y, int64_t n, double eps, void* mean_out, void* rstd_out,
                     RowFlow flow, PendingNorm& pending) {
  normal_rows(static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(b), static_cast<T*>(y), n, eps,
              static_cast<T*>(mean_out), static_cast<T*>(rstd_out), flow, pending);
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
  const T square = known ? square_deviation_beside(x, n, m, *pending, w, b, next) : square_deviation(x, n, m, flow);
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
}  // namespace

void norm_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.moments = f ? moments<float> : moments<double>;
  r.layer_norm = f ? layer_norm<float> : layer_norm<double>;
  r.rms_norm = f ? rms_norm<float> : rms_norm<double>;
  r.rms_norm_flush = f ? rms_norm_flush<float> : rms_norm_flush<double>;
  r.layer_norm_rows = f ? layer_norm_rows<float> : layer_norm_rows<double>;
  r.layer_norm_flush = f ? layer_norm_flush<float> : layer_norm_flush<double>;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(norm_loops);
void add_norm_loops(DType t, RowLoops& r) { KEEL_SIMD(norm_loops)(t, r); }
}  // namespace keel::cpu
#endif
