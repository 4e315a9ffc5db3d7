// Softmax and log-sum-exp of one row. Three passes over a row that stays in L1 or L2: maximum; exp, stored and summed; scale. Bound by the
// exp pass in cache and by memory above, where the last pass over one row goes along with the others over the next.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_softmax.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/rows.h"
#include "backend/cpu/loops/rows_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class T>
struct Softmax {
  static constexpr bool kKeepsTerms = true;
  Vec<Tag<T>> scale;
  HWY_INLINE Softmax(T, T sum) : scale(hn::Set(Tag<T>(), T(1) / sum)) {}
  HWY_INLINE Vec<Tag<T>> out(Vec<Tag<T>> term) const { return hn::Mul(term, scale); }
};
template <class T>
void softmax(const void* x_, void* y, void* scratch, int64_t n, RowFlow flow) {
  const T* x = static_cast<const T*>(x_);
  T* terms = static_cast<T*>(flow.stream ? scratch : y);
  const T top = reduce_row<LargestOf, T>(x, n);
  const Softmax<T> form(top, exp_sum(x, terms, n, top, flow));
  each_out(static_cast<T*>(y), n, flow.stream, [&](int64_t i, auto load) HWY_ATTR { return form.out(load(terms + i)); });
}
template <class T>
void softmax_rows(const void* x, void* y, void* scratch, int64_t rows, int64_t n, RowFlow flow) {
  exp_rows<Softmax<T>>(static_cast<const T*>(x), static_cast<T*>(y), static_cast<T*>(scratch), rows, n, flow);
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
}  // namespace

template <class T>
void set_softmax(RowLoops& r) {
  r.softmax = softmax<T>, r.softmax_rows = softmax_rows<T>;
  r.log_sum_exp = log_sum_exp<T>, r.weighted = weighted<T>;
}
void softmax_loops(DType t, RowLoops& r) { t == DType::f32 ? set_softmax<float>(r) : set_softmax<double>(r); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(softmax_loops);
void add_softmax_loops(DType t, RowLoops& r) { KEEL_SIMD(softmax_loops)(t, r); }
}  // namespace keel::cpu
#endif
