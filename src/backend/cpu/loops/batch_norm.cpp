// Batch-norm loops. Bound by memory.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/batch_norm.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/batch_norm.h"
#include "backend/cpu/loops/columns-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class T>
const T* as(const void* p) {
  return static_cast<const T*>(p);
}

/// Fetches what comes after p, which need not exist, where `ahead` asks for it: to L2, and from there to L1.
template <class T>
HWY_INLINE void fetch_after(const T* p, bool ahead) {
  if (ahead) fetch_far(p, 8192), fetch_near(p);
}

/// Where the values of element i lie, of values that come again after `period` elements: i rises by at most that from call to call.
struct Place {
  int64_t period, begin = 0;
  HWY_INLINE int64_t operator()(int64_t i) {
    if (i - begin >= period) begin += period;
    return i - begin;
  }
};

template <class T>
void apply_rows(const void* x_, void* y_, int64_t n, int64_t period, const void* m_, const void* r_, const void* w_, const void* b_,
                bool stream) {
  const bool ahead = stream && !follows_streams();
  const T *x = as<T>(x_), *m = as<T>(m_), *r = as<T>(r_), *w = as<T>(w_), *b = as<T>(b_);
  const Tag<T> d;
  Place place{period};
  each_out(static_cast<T*>(y_), n, stream, [&](int64_t i, auto load) HWY_ATTR {
    fetch_after(x + i, ahead);
    const int64_t c = place(i);
    auto v = hn::Mul(hn::Sub(load(x + i), hn::LoadU(d, m + c)), hn::LoadU(d, r + c));
    if (w) v = hn::Mul(v, hn::LoadU(d, w + c));
    if (b) v = hn::Add(v, hn::LoadU(d, b + c));
    return v;
  });
}
template <class T>
void apply_plane(const void* x_, void* y_, int64_t n, const void* m_, const void* r_, const void* w_, const void* b_, bool stream) {
  const bool ahead = stream && !follows_streams();
  const T* x = as<T>(x_);
  T* y = static_cast<T*>(y_);
  const Tag<T> d;
  const auto m = hn::Set(d, *as<T>(m_)), r = hn::Set(d, *as<T>(r_)), w = hn::Set(d, w_ ? *as<T>(w_) : T(1)),
             b = hn::Set(d, b_ ? *as<T>(b_) : T(0));
  each_out(y, n, stream, [&](int64_t i, auto load) HWY_ATTR {
    fetch_after(x + i, ahead);
    auto v = hn::Mul(hn::Sub(load(x + i), m), r);
    if (w_) v = hn::Mul(v, w);
    if (b_) v = hn::Add(v, b);
    return v;
  });
}

template <class T>
void grad_sums_rows(const void* g_, const void* x_, int64_t rows, int64_t stride, int64_t width, const void* m_, const void* r_, bool far,
                    void* sum_g_, void* sum_gn_) {
  const bool ahead = far && !follows_streams();
  const T *g = as<T>(g_), *x = as<T>(x_), *m = as<T>(m_), *r = as<T>(r_);
  for (int64_t first = 0; first < rows; first += kReduceGroup, g += kReduceGroup * stride, x += kReduceGroup * stride)
    sum_columns<2, T>(rows - first < kReduceGroup ? rows - first : kReduceGroup, width, first > 0, far ? 1 : kRowsAtOnce,
                      {static_cast<T*>(sum_g_), static_cast<T*>(sum_gn_)}, [&](int64_t k, int64_t c, auto load, auto& v) HWY_ATTR {
                        const T *gk = g + k * stride + c, *xk = x + k * stride + c;
                        fetch_after(gk, ahead), fetch_after(xk, ahead);
                        const auto gv = load(gk);
                        v[0] = hn::Add(v[0], gv);
                        v[1] = hn::Add(v[1], hn::Mul(gv, hn::Mul(hn::Sub(load(xk), load(m + c)), load(r + c))));
                      });
}
template <class T>
void grad_sums_plane(const void* g_, const void* x_, int64_t n, const void* m_, const void* r_, void* out_) {
  const T *g = as<T>(g_), *x = as<T>(x_);
  T* out = static_cast<T*>(out_);
  using D = Tag<T>;
  const auto m = hn::Set(D(), *as<T>(m_)), r = hn::Set(D(), *as<T>(r_));
  out[0] = reduce_block<SumOf, T>(g, n);
  out[1] = reduce_lanes<SumOf, T>(
      n, [&](int64_t i) HWY_ATTR { return hn::Mul(hn::LoadU(D(), g + i), hn::Mul(hn::Sub(hn::LoadU(D(), x + i), m), r)); },
      [&](int64_t i, size_t count)
          HWY_ATTR { return hn::Mul(load_n(D(), g + i, count), hn::Mul(hn::Sub(load_n(D(), x + i, count), m), r)); });
}

template <class T>
void grad_rows(const void* g_, const void* x_, void* dx, int64_t n, int64_t period, const void* m_, const void* r_, const void* s_,
               const void* mg_, const void* mgn_, bool stream) {
  const bool ahead = stream && !follows_streams();
  const T *g = as<T>(g_), *x = as<T>(x_), *m = as<T>(m_), *r = as<T>(r_), *s = as<T>(s_), *mg = as<T>(mg_), *mgn = as<T>(mgn_);
  const Tag<T> d;
  Place place{period};
  each_out(static_cast<T*>(dx), n, stream, [&](int64_t i, auto load) HWY_ATTR {
    fetch_after(x + i, ahead), fetch_after(g + i, ahead);
    const int64_t c = place(i);
    const auto normal = hn::Mul(hn::Sub(load(x + i), hn::LoadU(d, m + c)), hn::LoadU(d, r + c));
    return hn::Mul(hn::LoadU(d, s + c), hn::Sub(hn::Sub(load(g + i), hn::LoadU(d, mg + c)), hn::Mul(normal, hn::LoadU(d, mgn + c))));
  });
}
template <class T>
void grad_plane(const void* g_, const void* x_, void* dx_, int64_t n, const void* m_, const void* r_, const void* s_, const void* mg_,
                const void* mgn_, bool stream) {
  const bool ahead = stream && !follows_streams();
  const T *g = as<T>(g_), *x = as<T>(x_);
  T* dx = static_cast<T*>(dx_);
  const Tag<T> d;
  const auto m = hn::Set(d, *as<T>(m_)), r = hn::Set(d, *as<T>(r_)), s = hn::Set(d, *as<T>(s_)), mg = hn::Set(d, *as<T>(mg_)),
             mgn = hn::Set(d, *as<T>(mgn_));
  each_out(dx, n, stream, [&](int64_t i, auto load) HWY_ATTR {
    fetch_after(x + i, ahead), fetch_after(g + i, ahead);
    const auto normal = hn::Mul(hn::Sub(load(x + i), m), r);
    return hn::Mul(s, hn::Sub(hn::Sub(load(g + i), mg), hn::Mul(normal, mgn)));
  });
}
template <class T>
BatchNormLoops find() {
  return {apply_rows<T>, apply_plane<T>, grad_sums_rows<T>, grad_sums_plane<T>, grad_rows<T>, grad_plane<T>};
}
}  // namespace
BatchNormLoops batch_norm_find(DType t) { return t == DType::f32 ? find<float>() : find<double>(); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(batch_norm_find);
BatchNormLoops batch_norm_loops(DType t) { return KEEL_SIMD(batch_norm_find)(t); }
}  // namespace keel::cpu
#endif
