// Softmax, log-softmax, log-sum-exp and cross entropy of one row. Three passes over a row that stays in L1 or L2: maximum; exp, stored and
// summed; scale. Bound by the exp pass in cache and by memory above, where all three go along at once: the first over the next row, the
// second over this one, the last over the one before.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_softmax.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"
#include "backend/cpu/loops/rows.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

/// sum(exp(x - top)); `y`, where not null, receives the terms. beside(i) is called for whole vectors.
template <class T, class F>
HWY_NOINLINE T exp_sum_beside(const T* x, T* y, int64_t n, T top_, RowFlow flow, F beside) {
  using D = Tag<T>;
  const Vec<D> top = hn::Set(D(), top_);
  return reduce_long<SumOf, T>(
      n,
      [&](int64_t i) HWY_ATTR {
        const D d;
        fetch(x + i, flow);
        const Vec<D> e = math::exp_bounded(d, hn::Sub(hn::LoadU(d, x + i), top));
        beside(i);  // which may read what lies at y + i
        if (y) hn::StoreU(e, d, y + i);
        return e;
      },
      [&](int64_t i, size_t count) HWY_ATTR {
        const D d;
        const Vec<D> e = math::exp_bounded(d, hn::Sub(load_n(d, x + i, count), top));
        if (y) store_n(e, d, y + i, count);
        return e;
      });
}
template <class T>
HWY_INLINE T exp_sum(const T* x, T* y, int64_t n, T top, RowFlow flow) {
  return exp_sum_beside(x, y, n, top, flow, [](int64_t) HWY_ATTR {});
}

template <class T>
HWY_INLINE T log_of(T v) {
  const Tag<T> d;
  return hn::GetLane(math::log(d, hn::Set(d, v)));
}

/// The largest element that is a number: a NaN reaches the result through the sum.
struct LargestOf : MaxOf {
  template <class D>
  static HWY_INLINE Vec<D> step(D, Vec<D> acc, Vec<D> x) {
    return hn::Max(x, acc);
  }
  template <class D>
  static HWY_INLINE Vec<D> join(D d, Vec<D> a, Vec<D> b) {
    return step(d, a, b);
  }
  using MaxOf::join;
};

/// All at once: sum(exp(x - top)), the terms into `y` where not null, the next row's largest element into `next`, and beside(i).
template <class T, class F>
HWY_NOINLINE T exp_sum_and_next(const T* x, T* y, int64_t n, T top_, double& next, F beside) {
  using D = Tag<T>;
  const auto top = hn::Set(D(), top_);
  T sum, largest;
  reduce_two<SumOf, LargestOf, T>(
      n,
      [&](int64_t i, auto load, auto& e, auto& v) HWY_ATTR {
        fetch_soon(x + n + i);
        v = load(x + n + i), e = math::exp_bounded(D(), hn::Sub(load(x + i), top));
        beside(i);  // which may read what lies at y + i
        if (y) hn::StoreU(e, D(), y + i);
      },
      [](int64_t) HWY_ATTR {}, sum, largest);
  next = double(largest);
  return sum;
}

/// For rows of whole W that do not stay in L1 two at a time: the largest element into `top` and sum(exp(x - top)), the terms into `y` where
/// not null. beside(i) is called for all vectors of the row before, about half of them with either pass, as is what is fetched; it may read
/// what lies at y + i.
template <class T, class F>
HWY_NOINLINE T exp_sum_spread(const T* x, T* y, int64_t n, T& top, RowFlow flow, F beside) {
  using D = Tag<T>;
  constexpr int64_t N = hn::MaxLanes(D()), kUnit = kReduceLanes<T> / 2, kLine = 64 / int64_t(sizeof(T));
  const T* later = x;
  int64_t column = 0;
  const auto some = [&]() HWY_ATTR {
    if (column >= n) return;
    KEEL_UNROLL for (int64_t k = 0; k < kUnit; k += N) beside(column + k);
    column += kUnit;
  };
  const auto along = [&](int64_t) HWY_ATTR {
    for (int64_t k = 0; k < kUnit; k += kLine) fetch(later + k, flow);
    later += kUnit, some();
  };
  T sum = 0, none = 0;
  reduce_two<LargestOf, NoneOf, T>(n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = load(x + i); }, along, top, none);
  for (int k = 0; k < 4; ++k) some();  // so that terms never overtake what is still to be read there
  const auto shift = hn::Set(D(), top);
  reduce_two<SumOf, NoneOf, T>(
      n,
      [&](int64_t i, auto load, auto& e, auto& v) HWY_ATTR {
        e = v = math::exp_bounded(D(), hn::Sub(load(x + i), shift));
        if (y) hn::StoreU(e, D(), y + i);
      },
      along, sum, none);
  return sum;
}
template <class T>
bool spreads(const PendingRow* pending, int64_t n, RowFlow flow) {
  return pending && pending->y && flow.wide && n % kReduceLanes<T> == 0;
}

template <class T>
void softmax(const void* x_, void* y, void* scratch_, int64_t n, RowFlow flow, PendingRow* pending) {
  const T* x = static_cast<const T*>(x_);
  T* scratch = static_cast<T*>(scratch_);
  const bool spread = spreads<T>(pending, n, flow);
  T top = spread ? T(0) : pending && pending->known ? T(pending->first) : reduce_row<LargestOf, T>(x, n);
  if (pending) {
    const Tag<T> d;
    const T* from = static_cast<const T*>(pending->from);
    T* to = static_cast<T*>(pending->y);
    const auto scale = hn::Set(d, T(pending->scale));
    const auto beside = [&](int64_t i) HWY_ATTR { hn::Stream(hn::Mul(hn::LoadU(d, from + i), scale), d, to + i); };
    const bool known = from && flow.ahead && !flow.wide;
    double next = 0;
    const T sum = spread  ? exp_sum_spread(x, scratch, n, top, flow, beside)
                  : known ? exp_sum_and_next(x, scratch, n, top, next, beside)
                  : from  ? exp_sum_beside(x, scratch, n, top, flow, beside)
                          : exp_sum(x, scratch, n, top, flow);
    *pending = {scratch, y, 0, T(1) / sum, nullptr, known, next};
    return;
  }
  T* e = flow.stream ? scratch : static_cast<T*>(y);
  const T sum = exp_sum(x, e, n, top, flow);
  const auto scale = hn::Set(Tag<T>(), T(1) / sum);
  each_out(static_cast<T*>(y), n, flow.stream, [&](int64_t i, auto load) HWY_ATTR { return hn::Mul(load(e + i), scale); });
}
template <class T>
void softmax_flush(const PendingRow& p, int64_t n) {
  const T* e = static_cast<const T*>(p.from);
  const auto scale = hn::Set(Tag<T>(), T(p.scale));
  each_out(static_cast<T*>(p.y), n, true, [&](int64_t i, auto load) HWY_ATTR { return hn::Mul(load(e + i), scale); });
}

template <class T>
void log_softmax(const void* x_, void* y, int64_t n, RowFlow flow, PendingRow* pending) {
  const T* x = static_cast<const T*>(x_);
  const Tag<T> d;
  const bool spread = spreads<T>(pending, n, flow);
  T top = spread ? T(0) : pending && pending->known ? T(pending->first) : reduce_row<LargestOf, T>(x, n);
  T* nowhere = nullptr;
  if (pending) {
    const T* from = static_cast<const T*>(pending->from);
    T* to = static_cast<T*>(pending->y);
    const auto shift = hn::Set(d, T(pending->shift)), log_sum = hn::Set(d, T(pending->scale));
    const auto beside = [&](int64_t i) HWY_ATTR {
      hn::Stream(hn::Sub(hn::Sub(hn::LoadU(d, from + i), shift), log_sum), d, to + i);
    };
    const bool known = from && flow.ahead && !flow.wide;
    double next = 0;
    const T sum = spread  ? exp_sum_spread(x, nowhere, n, top, flow, beside)
                  : known ? exp_sum_and_next(x, nowhere, n, top, next, beside)
                  : from  ? exp_sum_beside(x, nowhere, n, top, flow, beside)
                          : exp_sum(x, nowhere, n, top, flow);
    *pending = {x, y, top, log_of(sum), nullptr, known, next};
    return;
  }
  const T sum = exp_sum(x, nowhere, n, top, flow);
  const auto shift = hn::Set(d, top), log_sum = hn::Set(d, log_of(sum));
  each_out(static_cast<T*>(y), n, flow.stream,
           [&](int64_t i, auto load) HWY_ATTR { return hn::Sub(hn::Sub(load(x + i), shift), log_sum); });
}
template <class T>
void log_softmax_flush(const PendingRow& p, int64_t n) {
  const T* x = static_cast<const T*>(p.from);
  const auto shift = hn::Set(Tag<T>(), T(p.shift)), log_sum = hn::Set(Tag<T>(), T(p.scale));
  each_out(static_cast<T*>(p.y), n, true, [&](int64_t i, auto load) HWY_ATTR { return hn::Sub(hn::Sub(load(x + i), shift), log_sum); });
}

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
template <class Form, class T, class F>
HWY_NOINLINE T grad_sum(const T* g, const T* y, int64_t n, RowFlow flow, F beside) {
  using D = Tag<T>;
  return reduce_long<SumOf, T>(
      n,
      [&](int64_t i) HWY_ATTR {
        fetch(g + i, flow), fetch(y + i, flow);
        beside(i);
        return Form::term(D(), hn::LoadU(D(), g + i), hn::LoadU(D(), y + i));
      },
      [&](int64_t i, size_t count) HWY_ATTR { return Form::term(D(), load_n(D(), g + i, count), load_n(D(), y + i, count)); });
}
template <class Form, class T>
HWY_INLINE void grad_out(const T* g, const T* y, T* dx, int64_t n, T total_, bool stream) {
  using D = Tag<T>;
  const auto total = hn::Set(D(), total_);
  each_out(dx, n, stream, [&](int64_t i, auto load) HWY_ATTR { return Form::dx(D(), load(g + i), load(y + i), total); });
}
template <class Form, class T>
void row_grad(const void* g_, const void* y_, void* dx, int64_t n, RowFlow flow, PendingRow* pending) {
  using D = Tag<T>;
  const T *g = static_cast<const T*>(g_), *y = static_cast<const T*>(y_);
  const auto alone = [](int64_t) HWY_ATTR {};
  if (!pending) return grad_out<Form>(g, y, static_cast<T*>(dx), n, grad_sum<Form>(g, y, n, flow, alone), flow.stream);
  const T *from = static_cast<const T*>(pending->from), *other = static_cast<const T*>(pending->other);
  T* to = static_cast<T*>(pending->y);
  const auto total = hn::Set(D(), T(pending->scale));
  const auto beside = [&](int64_t i) HWY_ATTR {
    hn::Stream(Form::dx(D(), hn::LoadU(D(), from + i), hn::LoadU(D(), other + i), total), D(), to + i);
  };
  *pending = {g, dx, 0, from ? grad_sum<Form>(g, y, n, flow, beside) : grad_sum<Form>(g, y, n, flow, alone), y, false, 0};
}
template <class Form, class T>
void grad_flush(const PendingRow& p, int64_t n) {
  grad_out<Form>(static_cast<const T*>(p.from), static_cast<const T*>(p.other), static_cast<T*>(p.y), n, T(p.scale), true);
}

template <class T>
void log_sum_exp(const void* x_, int64_t n, bool want_sum, void* out_) {
  const T* x = static_cast<const T*>(x_);
  T* out = static_cast<T*>(out_);
  const T top = reduce_row<MaxOf, T>(x, n);
  const bool endless = top - top != 0;  // an infinite maximum must not be subtracted from itself
  out[0] = top, out[1] = endless ? T(0) : log_of(exp_sum(x, static_cast<T*>(nullptr), n, top, {}));
  if (!want_sum) return;
  using D = Tag<T>;
  const auto shift = hn::Set(D(), top);
  out[2] = reduce_long<SumOf, T>(
      n, [&](int64_t i) HWY_ATTR { return hn::Sub(hn::LoadU(D(), x + i), shift); },
      [&](int64_t i, size_t count) HWY_ATTR { return hn::Sub(load_n(D(), x + i, count), shift); });
}
template <class T>
void weighted(const void* x_, const void* t_, int64_t n, double top_, double log_sum_, void* out) {
  const T *x = static_cast<const T*>(x_), *t = static_cast<const T*>(t_);
  using D = Tag<T>;
  const auto top = hn::Set(D(), T(top_)), log_sum = hn::Set(D(), T(log_sum_));
  const auto term = [&](auto tv, auto xv) HWY_ATTR { return hn::Mul(tv, hn::Sub(hn::Sub(xv, top), log_sum)); };
  *static_cast<T*>(out) = reduce_long<SumOf, T>(
      n, [&](int64_t i) HWY_ATTR { return term(hn::LoadU(D(), t + i), hn::LoadU(D(), x + i)); },
      [&](int64_t i, size_t count) HWY_ATTR { return term(load_n(D(), t + i, count), load_n(D(), x + i, count)); });
}
template <class T>
void cross_entropy_grad(const void* x_, void* dx_, int64_t n, double lse_, double g_, int64_t target, double peak, double rest_) {
  const T* x = static_cast<const T*>(x_);
  T* dx = static_cast<T*>(dx_);
  const Tag<T> d;
  const auto lse = hn::Set(d, T(lse_)), g = hn::Set(d, T(g_)), rest = hn::Set(d, T(rest_));
  const T at = target >= 0 ? hn::GetLane(math::exp(d, hn::Set(d, x[target] - T(lse_)))) : T(0);
  each_out(dx, n, false, [&](int64_t i, auto load)
                             HWY_ATTR { return hn::Mul(g, hn::Sub(math::exp(Tag<T>(), hn::Sub(load(x + i), lse)), rest)); });
  if (target >= 0) dx[target] = T(g_) * (at - T(peak + rest_));
}
}  // namespace

template <class T>
RowLoops softmax_loops_of() {
  RowLoops r{};
  r.softmax = softmax<T>, r.softmax_flush = softmax_flush<T>;
  r.log_softmax = log_softmax<T>, r.log_softmax_flush = log_softmax_flush<T>;
  r.softmax_grad = row_grad<OfSoftmax, T>, r.softmax_grad_flush = grad_flush<OfSoftmax, T>;
  r.log_softmax_grad = row_grad<OfLogSoftmax, T>, r.log_softmax_grad_flush = grad_flush<OfLogSoftmax, T>;
  r.log_sum_exp = log_sum_exp<T>, r.weighted = weighted<T>, r.cross_entropy_grad = cross_entropy_grad<T>;
  return r;
}
RowLoops softmax_loops(DType t) { return t == DType::f32 ? softmax_loops_of<float>() : softmax_loops_of<double>(); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(softmax_loops);
void add_norm_loops(DType t, RowLoops& r);
RowLoops row_loops(DType t) {
  RowLoops r = KEEL_SIMD(softmax_loops)(t);
  add_norm_loops(t, r);
  return r;
}
}  // namespace keel::cpu
#endif
