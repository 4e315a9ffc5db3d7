// What softmax and log-softmax of rows share.
#if defined(KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_
#undef KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_
#else
#define KEEL_CPU_LOOPS_ROWS_SOFTMAX_INL_H_
#endif

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"
#include "backend/cpu/loops/rows-inl.h"
#include "backend/cpu/loops/rows.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// sum(exp(x - top)); `y`, where not null, receives the terms.
template <class T>
HWY_NOINLINE T exp_sum(const T* x, T* y, int64_t n, T top_, RowFlow flow) {
  using D = Tag<T>;
  const Vec<D> top = hn::Set(D(), top_);
  return reduce_long<SumOf, T>(
      n,
      [&](int64_t i) HWY_ATTR {
        const D d;
        fetch(x + i, flow);
        const Vec<D> e = math::exp_bounded(d, hn::Sub(hn::LoadU(d, x + i), top));
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

/// The largest element into `top` and sum(exp(x - top)), the terms into `y` where not null. beside(i) is called for all vectors of the row
/// before, about half of them with either pass, as is what is fetched; it may read what lies at y + i.
template <class T, class F>
HWY_INLINE T exp_sum_along(const T* x, T* y, int64_t n, T& top, RowFlow flow, const F& beside) {
  using D = Tag<T>;
  Along<T, F> along(x, n, flow, beside);
  T sum = 0, none = 0;
  reduce_two<LargestOf, NoneOf, T>(
      n, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { u = v = load(x + i); }, [&](int64_t i) HWY_ATTR { along.next(x + i); }, top,
      none);
  for (int k = 0; k < 8; ++k) along.some();  // so that terms never overtake what is still to be read there
  const auto shift = hn::Set(D(), top);
  reduce_two<SumOf, NoneOf, T>(
      n,
      [&](int64_t i, auto load, auto& e, auto& v) HWY_ATTR {
        e = v = math::exp_bounded(D(), hn::Sub(load(x + i), shift));
        if (y) hn::StoreU(e, D(), y + i);
      },
      [&](int64_t) HWY_ATTR { along.next(); }, sum, none);
  along.rest();
  return sum;
}

/// Rows of which three stay in L1: the largest element is found a row before.
template <class T>
HWY_INLINE bool looks_ahead(int64_t n) {
  return n * int64_t(sizeof(T)) <= 12288;
}
/// The same in one pass where `top` is known, which receives the largest element of the row behind x: one wait for a sum or a maximum a
/// row, where two passes have two.
template <class T, class F>
HWY_INLINE T exp_sum_ahead(const T* x, T* y, int64_t n, T& top, RowFlow flow, const F& beside) {
  using D = Tag<T>;
  Along<T, F> along(x, n, flow, beside);
  T sum = 0, none = 0;
  for (int k = 0; k < 8; ++k) along.some();
  const auto shift = hn::Set(D(), top);
  auto largest = hn::Set(D(), T(LargestOf::identity));  // in any order
  reduce_two<SumOf, NoneOf, T>(
      n,
      [&](int64_t i, auto load, auto& e, auto& v) HWY_ATTR {
        e = v = math::exp_bounded(D(), hn::Sub(load(x + i), shift));
        if (y) hn::StoreU(e, D(), y + i);
        largest = LargestOf::step(D(), largest, load(x + n + i));
      },
      [&](int64_t i) HWY_ATTR {
        along.next(x + n + i);
        along.next();
      },
      sum, none);
  along.rest();
  top = fold_lanes<LargestOf>(D(), largest);
  return sum;
}

/// Rows that leave past the caches, each along with the passes over the next. Form: softmax, which keeps a row's terms in `scratch`, or
/// log-softmax.
template <class Form, class T>
void exp_rows(const T* x, T* y, T* scratch, int64_t rows, int64_t n, RowFlow flow) {
  using D = Tag<T>;
  T* const terms = Form::kKeepsTerms ? scratch : nullptr;
  T top = reduce_row<LargestOf, T>(x, n), sum = exp_sum(x, terms, n, top, {}), next = 0;
  bool looked = false;
  while (true) {
    const T* from = Form::kKeepsTerms ? scratch : x;
    const Form form(top, sum);
    if (--rows == 0) return each_out(y, n, true, [&](int64_t i, auto load) HWY_ATTR { return form.out(load(from + i)); });
    const auto beside = [&](int64_t i) HWY_ATTR { hn::Stream(form.out(hn::LoadU(D(), from + i)), D(), y + i); };
    x += n;
    if (looks_ahead<T>(n) && rows > 1) {
      top = next = looked ? next : reduce_row<LargestOf, T>(x, n);
      sum = exp_sum_ahead(x, terms, n, next, flow, beside), looked = true;
    } else {
      sum = exp_sum_along(x, terms, n, top, flow, beside);
    }
    y += n;
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
