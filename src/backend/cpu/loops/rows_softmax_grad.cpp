// Gradients of softmax, log-softmax and cross entropy of one row: a sum, where there is one, and a pass that writes, which goes along
// with the next row's sum where results leave past the caches.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_softmax_grad.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

// The two gradients: what is summed, and dx of the sum.
struct OfSoftmax {
  template <class D>
  static HWY_INLINE Vec<D> term(D, Vec<D> g, Vec<D> y) {
    return hn::Mul(g, y);
  }
  template <class D>
  static HWY_INLINE Vec<D> dx(D, Vec<D> g, Vec<D> y, Vec<D> total) {
    return hn::Mul(y, hn::Sub(g, total));
  }
};
struct OfLogSoftmax {
  template <class D>
  static HWY_INLINE Vec<D> term(D, Vec<D> g, Vec<D>) {
    return g;
  }
  template <class D>
  static HWY_INLINE Vec<D> dx(D d, Vec<D> g, Vec<D> y, Vec<D> total) {
    return hn::Sub(g, hn::Mul(math::exp(d, y), total));
  }
};
/// The sum of a row, of which beside(i) is called for every half of whole kReduceLanes elements.
template <class Form, class T, class F>
HWY_INLINE T grad_sum(const T* g, const T* y, int64_t n, F beside) {
  T sum, none;
  reduce_two<SumOf, NoneOf, T>(
      n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = Form::term(Tag<T>(), load(g + i), load(y + i)); }, beside, sum,
      none);
  return sum;
}
template <class Form, class T>
HWY_INLINE void grad_out(const T* g, const T* y, T* dx, int64_t n, T total_, bool stream) {
  using D = Tag<T>;
  const auto total = hn::Set(D(), total_);
  each_out(dx, n, stream, [&](int64_t i, auto load) HWY_ATTR { return Form::dx(D(), load(g + i), load(y + i), total); });
}
template <class Form, class T>
void row_grad(const void* g_, const void* y_, void* dx, int64_t n, RowFlow flow) {
  const T *g = static_cast<const T*>(g_), *y = static_cast<const T*>(y_);
  const T total = grad_sum<Form>(g, y, n, [&](int64_t i) HWY_ATTR { fetch_half(g + i, flow), fetch_half(y + i, flow); });
  grad_out<Form>(g, y, static_cast<T*>(dx), n, total, flow.stream);
}
/// One row after the other: the pass that writes fetches what comes, and the sum finds it in L1.
template <class Form, class T>
HWY_INLINE void rows_grad_in_turn(const T* g, const T* y, T* dx, int64_t rows, int64_t n, RowFlow flow) {
  using D = Tag<T>;
  for (; rows > 0; --rows, g += n, y += n, dx += n) {
    const auto total = hn::Set(D(), grad_sum<Form>(g, y, n, [](int64_t) HWY_ATTR {}));
    stream_row<false>(
        dx, n, flow, [&](int64_t i) HWY_ATTR { return Form::dx(D(), hn::LoadU(D(), g + i), hn::LoadU(D(), y + i), total); }, g, y);
  }
}
template <class Form, class T>
void rows_grad(const void* g_, const void* y_, void* dx_, int64_t rows, int64_t n, RowFlow flow) {
  using D = Tag<T>;
  constexpr int64_t N = hn::MaxLanes(D()), kHalf = kReduceLanes<T> / 2;
  const T *g = static_cast<const T*>(g_), *y = static_cast<const T*>(y_);
  T* dx = static_cast<T*>(dx_);
  if (flow.near) return rows_grad_in_turn<Form>(g, y, dx, rows, n, flow);
  T sum = grad_sum<Form>(g, y, n, [](int64_t) HWY_ATTR {});
  for (; --rows > 0; g += n, y += n, dx += n) {
    const auto total = hn::Set(D(), sum);
    const auto one = [&](int64_t i)
                         HWY_ATTR { hn::Stream(Form::dx(D(), hn::LoadU(D(), g + i), hn::LoadU(D(), y + i), total), D(), dx + i); };
    sum = grad_sum<Form>(g + n, y + n, n, [&](int64_t i) HWY_ATTR {
      fetch_half(g + n + i, flow), fetch_half(y + n + i, flow);
      KEEL_UNROLL for (int64_t k = 0; k < kHalf; k += N) one(i + k);
    });
    for (int64_t i = n / kReduceLanes<T> * kReduceLanes<T>; i < n; i += N) one(i);
  }
  grad_out<Form>(g, y, dx, n, sum, true);
}

template <class T>
void cross_entropy_grad(const void* x_, void* dx_, int64_t n, double lse_, double g_, int64_t target, double peak, double rest_) {
  const T* x = static_cast<const T*>(x_);
  T* dx = static_cast<T*>(dx_);
  const Tag<T> d;
  const auto lse = hn::Set(d, T(lse_)), g = hn::Set(d, T(g_)), rest = hn::Set(d, T(rest_));
  const T at = target >= 0 ? hn::GetLane(math::exp(d, hn::Set(d, x[target] - T(lse_)))) : T(0);
  each_out(dx, n, false,
           [&](int64_t i, auto load) HWY_ATTR { return hn::Mul(g, hn::Sub(math::exp(Tag<T>(), hn::Sub(load(x + i), lse)), rest)); });
  if (target >= 0) dx[target] = T(g_) * (at - T(peak + rest_));
}
}  // namespace

template <class T>
void set_softmax_grad(RowLoops& r) {
  r.softmax_grad = row_grad<OfSoftmax, T>, r.softmax_grad_rows = rows_grad<OfSoftmax, T>;
  r.log_softmax_grad = row_grad<OfLogSoftmax, T>, r.log_softmax_grad_rows = rows_grad<OfLogSoftmax, T>;
  r.cross_entropy_grad = cross_entropy_grad<T>;
}
void softmax_grad_loops(DType t, RowLoops& r) { t == DType::f32 ? set_softmax_grad<float>(r) : set_softmax_grad<double>(r); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(softmax_grad_loops);
void add_softmax_grad_loops(DType t, RowLoops& r) { KEEL_SIMD(softmax_grad_loops)(t, r); }
}  // namespace keel::cpu
#endif
