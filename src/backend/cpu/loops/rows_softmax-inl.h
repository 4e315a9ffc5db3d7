// What softmax and log-softmax of rows share.
#if defined(KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_
#undef KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_
#else
#define KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_
#endif

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"
#include "backend/cpu/loops/rows.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

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

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
