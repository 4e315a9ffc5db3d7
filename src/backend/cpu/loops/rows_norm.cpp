// Layer norm and RMS norm of rows, forward: mean and squared deviations in two passes over a row that stays in cache, then one
// pass that writes. Where results leave past the caches, the last pass over one row goes along with the others over the next, or
// fetches it, so that reads and writes of memory do not take turns.
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
/// y = (x - mean) rstd w + b of one vector.
template <class T, class Load>
HWY_INLINE auto normal_of(const T* x, const T* w, const T* b, int64_t i, Vec<Tag<T>> mean, Vec<Tag<T>> rstd, Load load) {
  auto v = hn::Mul(hn::Sub(load(x + i), mean), rstd);
  if (w) v = hn::Mul(v, load(w + i));
  if (b) v = hn::Add(v, load(b + i));
  return v;
}
template <class T>
void normal_row(const T* x, const T* w, const T* b, T* y, int64_t n, T mean_, T rstd_, RowFlow flow) {
  const auto mean = hn::Set(Tag<T>(), mean_), rstd = hn::Set(Tag<T>(), rstd_);
  if (flow.late && w && b)  // a loop without branches sees further
    return each_out(y, n, flow.stream, [&](int64_t i, auto load) HWY_ATTR {
      fetch_row(x + i, flow);
      return hn::Add(hn::Mul(hn::Mul(hn::Sub(load(x + i), mean), rstd), load(w + i)), load(b + i));
    });
  each_out(y, n, flow.stream, [&](int64_t i, auto load) HWY_ATTR { return normal_of(x, w, b, i, mean, rstd, load); });
}
template <class T>
void layer_norm(const void* x_, const void* w_, const void* b_, void* y_, int64_t n, double eps, void* mean_out, void* rstd_out,
                RowFlow flow, PendingRow* pending) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_), *b = static_cast<const T*>(b_);
  T* y = static_cast<T*>(y_);
  T sum, square;
  if (pending && pending->y) {
    using D = Tag<T>;
    const T* from = static_cast<const T*>(pending->from);
    T *to = static_cast<T*>(pending->y), none;
    const auto shift = hn::Set(D(), T(pending->shift)), scale = hn::Set(D(), T(pending->scale));
    const auto last = [&](int64_t i) HWY_ATTR {
      hn::Stream(normal_of(from, w, b, i, shift, scale, [](const T* p) HWY_ATTR { return hn::LoadU(D(), p); }), D(), to + i);
    };
    Along<T, decltype(last)> along(x, n, flow, last);
    const auto next = [&](int64_t) HWY_ATTR { along.next(); };
    reduce_two<SumOf, NoneOf, T>(n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = load(x + i); }, next, sum, none);
    const auto mean = hn::Set(D(), sum / T(n));
    reduce_two<SumSquareOf, NoneOf, T>(
        n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = hn::Sub(load(x + i), mean); }, next, square, none);
    along.rest();
  } else {
    sum = reduce_row<SumOf, T>(x, n), square = square_deviation(x, n, sum / T(n), flow);
  }
  const T m = sum / T(n), r = T(1) / std::sqrt(square / T(n) + T(eps));
  if (pending)
    *pending = {x, y, m, r};
  else
    normal_row(x, w, b, y, n, m, r, flow);
  if (mean_out) *static_cast<T*>(mean_out) = m;
  if (rstd_out) *static_cast<T*>(rstd_out) = r;
}
template <class T>
void layer_norm_flush(const PendingRow& p, const void* w, const void* b, int64_t n) {
  normal_row(static_cast<const T*>(p.from), static_cast<const T*>(w), static_cast<const T*>(b), static_cast<T*>(p.y), n, T(p.shift),
             T(p.scale), {.stream = true});
}

template <class T>
void scale_row(const T* x, const T* w, T* y, int64_t n, T rstd_, RowFlow flow) {
  const Tag<T> d;
  const auto rstd = hn::Set(d, rstd_);
  if (flow.late && w)
    return each_out(y, n, flow.stream, [&](int64_t i, auto load) HWY_ATTR {
      fetch_row(x + i, flow);
      return hn::Mul(hn::Mul(load(x + i), rstd), load(w + i));
    });
  each_out(y, n, flow.stream, [&](int64_t i, auto load) HWY_ATTR {
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
    scale_row(x, w, static_cast<T*>(y), n, rstd, flow);
}
template <class T>
void rms_norm_flush(const PendingRow& p, const void* w, int64_t n) {
  scale_row(static_cast<const T*>(p.from), static_cast<const T*>(w), static_cast<T*>(p.y), n, T(p.scale), {.stream = true});
}
}  // namespace

void norm_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.layer_norm = f ? layer_norm<float> : layer_norm<double>;
  r.rms_norm = f ? rms_norm<float> : rms_norm<double>;
  r.rms_norm_flush = f ? rms_norm_flush<float> : rms_norm_flush<double>;
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
