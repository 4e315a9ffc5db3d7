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
template <class T>
struct RowMoments {
  T mean, rstd;
  HWY_INLINE void put(T* mean_out, T* rstd_out, int64_t row) const {
    if (mean_out) mean_out[row] = mean;
    if (rstd_out) rstd_out[row] = rstd;
  }
};
template <class T>
HWY_INLINE T rstd_of(T square, int64_t n, double eps) {
  return T(1) / std::sqrt(square / T(n) + T(eps));
}
template <class T>
HWY_INLINE RowMoments<T> moments_of(const T* x, int64_t n, double eps, RowFlow flow) {
  const T mean = reduce_row<SumOf, T>(x, n) / T(n);
  return {mean, rstd_of(square_deviation(x, n, mean, flow), n, eps)};
}
/// y = (x - mean) rstd w + b, vector by vector. `affine`: there are w and b.
template <class T, bool affine>
struct Normal {
  const T *w, *b;
  Vec<Tag<T>> mean, rstd;
  HWY_INLINE Normal(const T* w_, const T* b_, RowMoments<T> m)
      : w(w_), b(b_), mean(hn::Set(Tag<T>(), m.mean)), rstd(hn::Set(Tag<T>(), m.rstd)) {}
  template <class Load>
  HWY_INLINE Vec<Tag<T>> out(const T* x, int64_t i, Load load) const {
    auto v = hn::Mul(hn::Sub(load(x + i), mean), rstd);
    if (affine || w) v = hn::Mul(v, load(w + i));
    if (affine || b) v = hn::Add(v, load(b + i));
    return v;
  }
};
template <bool affine, class T>
HWY_INLINE void normal_row(const T* x, const T* w, const T* b, T* y, int64_t n, RowMoments<T> m, bool stream) {
  const Normal<T, affine> form(w, b, m);
  each_out(y, n, stream, [&](int64_t i, auto load) HWY_ATTR { return form.out(x, i, load); });
}
template <class T>
void layer_norm(const void* x_, const void* w_, const void* b_, void* y, int64_t n, double eps, void* mean, void* rstd, RowFlow flow) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_), *b = static_cast<const T*>(b_);
  const RowMoments<T> m = moments_of(x, n, eps, flow);
  normal_row<false>(x, w, b, static_cast<T*>(y), n, m, flow.stream);
  m.put(static_cast<T*>(mean), static_cast<T*>(rstd), 0);
}
/// The last pass over a row goes along with both over the next.
template <bool affine, class T>
HWY_INLINE void normal_rows(const T* x, const T* w, const T* b, T* y, int64_t rows, int64_t n, double eps, T* mean_out, T* rstd_out,
                            RowFlow flow) {
  using D = Tag<T>;
  RowMoments<T> m = moments_of(x, n, eps, {});
  m.put(mean_out, rstd_out, 0);
  for (int64_t r = 1; r < rows; ++r, x += n, y += n) {
    const Normal<T, affine> form(w, b, m);
    const auto last = [&](int64_t i)
                          HWY_ATTR { hn::Stream(form.out(x, i, [](const T* p) HWY_ATTR { return hn::LoadU(D(), p); }), D(), y + i); };
    Along<T, decltype(last)> along(x + n, n, flow, last);
    const auto beside = [&](int64_t) HWY_ATTR { along.next(); };
    T sum, square, none;
    reduce_two<SumOf, NoneOf, T>(
        n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = load(x + n + i); }, beside, sum, none);
    const auto mean = hn::Set(D(), sum / T(n));
    reduce_two<SumSquareOf, NoneOf, T>(
        n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = hn::Sub(load(x + n + i), mean); }, beside, square, none);
    along.rest();
    m = {sum / T(n), rstd_of(square, n, eps)};
    m.put(mean_out, rstd_out, r);
  }
  normal_row<affine>(x, w, b, y, n, m, true);
}
/// One pass after the other. Where the row, what is fetched, w and b stay in L1 together, the last pass fetches. Elsewhere the second does,
/// since what L2 gives while memory is read takes its time from that, and while results leave it does not: the last pass then brings back
/// what w and b have pushed out.
template <class T>
HWY_INLINE void normal_rows_in_turn(const T* x, const T* w, const T* b, T* y, int64_t rows, int64_t n, double eps, T* mean_out, T* rstd_out,
                                    RowFlow flow) {
  const auto whole = [](const T* p) HWY_ATTR { return hn::LoadU(Tag<T>(), p); };
  const bool fits = n * int64_t(sizeof(T)) <= kShortRow;
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const RowMoments<T> m = moments_of(x, n, eps, fits ? RowFlow() : flow);
    m.put(mean_out, rstd_out, r);
    const Normal<T, true> form(w, b, m);
    const auto out = [&](int64_t i) HWY_ATTR { return form.out(x, i, whole); };
    if (fits)
      stream_row<false>(y, n, flow, out, x);
    else
      stream_row<true>(y, n, flow, out, x);
  }
}
template <class T>
void layer_norm_rows(const void* x_, const void* w_, const void* b_, void* y_, int64_t rows, int64_t n, double eps, void* mean_,
                     void* rstd_, RowFlow flow) {
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_), *b = static_cast<const T*>(b_);
  T *y = static_cast<T*>(y_), *mean = static_cast<T*>(mean_), *rstd = static_cast<T*>(rstd_);
  if (!w || !b) return normal_rows<false>(x, w, b, y, rows, n, eps, mean, rstd, flow);
  if (flow.near) return normal_rows_in_turn(x, w, b, y, rows, n, eps, mean, rstd, flow);
  normal_rows<true>(x, w, b, y, rows, n, eps, mean, rstd, flow);
}

/// y = x rstd w.
template <class T>
HWY_INLINE void scale_row(const T* x, const T* w, T* y, int64_t n, T rstd_, bool stream) {
  const auto rstd = hn::Set(Tag<T>(), rstd_);
  each_out(y, n, stream, [&](int64_t i, auto load) HWY_ATTR {
    const auto v = hn::Mul(load(x + i), rstd);
    return w ? hn::Mul(v, load(w + i)) : v;
  });
}
/// The sum of squares, of which beside(i) is called for every half of whole kReduceLanes elements.
template <class T, class F>
HWY_INLINE T square_sum(const T* x, int64_t n, const F& beside) {
  T square, none;
  reduce_two<SumSquareOf, NoneOf, T>(
      n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = load(x + i); }, beside, square, none);
  return square;
}
template <class T>
void rms_norm(const void* x_, const void* w, void* y, int64_t n, double eps, void* rstd_out, RowFlow flow) {
  const T* x = static_cast<const T*>(x_);
  const T rstd = rstd_of(square_sum(x, n, [&](int64_t i) HWY_ATTR { fetch_half(x + i, flow); }), n, eps);
  scale_row(x, static_cast<const T*>(w), static_cast<T*>(y), n, rstd, flow.stream);
  if (rstd_out) *static_cast<T*>(rstd_out) = rstd;
}
template <class T>
void rms_norm_rows(const void* x_, const void* w_, void* y_, int64_t rows, int64_t n, double eps, void* rstd_out_, RowFlow flow) {
  using D = Tag<T>;
  constexpr int64_t N = hn::MaxLanes(D()), W = kReduceLanes<T>;
  const T *x = static_cast<const T*>(x_), *w = static_cast<const T*>(w_);
  T *y = static_cast<T*>(y_), *rstd_out = static_cast<T*>(rstd_out_);
  T scale = rstd_of(square_sum(x, n, [](int64_t) HWY_ATTR {}), n, eps);
  if (rstd_out) rstd_out[0] = scale;
  for (int64_t r = 1; r < rows; ++r, x += n, y += n) {
    const auto rstd = hn::Set(D(), scale);
    const auto one = [&](int64_t i) HWY_ATTR {
      const auto v = hn::Mul(hn::LoadU(D(), x + i), rstd);
      hn::Stream(w ? hn::Mul(v, hn::LoadU(D(), w + i)) : v, D(), y + i);
    };
    const T square = square_sum(x + n, n, [&](int64_t i) HWY_ATTR {
      fetch_half(x + n + i, flow);
      KEEL_UNROLL for (int64_t k = 0; k < W / 2; k += N) one(i + k);
    });
    for (int64_t i = n / W * W; i < n; i += N) one(i);
    scale = rstd_of(square, n, eps);
    if (rstd_out) rstd_out[r] = scale;
  }
  scale_row(x, w, y, n, scale, true);
}
}  // namespace

void norm_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.layer_norm = f ? layer_norm<float> : layer_norm<double>;
  r.rms_norm = f ? rms_norm<float> : rms_norm<double>;
  r.layer_norm_rows = f ? layer_norm_rows<float> : layer_norm_rows<double>;
  r.rms_norm_rows = f ? rms_norm_rows<float> : rms_norm_rows<double>;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(norm_loops);
void add_norm_loops(DType t, RowLoops& r) { KEEL_SIMD(norm_loops)(t, r); }
}  // namespace keel::cpu
#endif
