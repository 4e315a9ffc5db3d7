// Log-softmax of one row; its passes are those of softmax.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/rows_log_softmax.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/rows_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class T>
struct LogSoftmax {
  static constexpr bool kKeepsTerms = false;
  Vec<Tag<T>> top, log_sum;
  HWY_INLINE LogSoftmax(T top_, T sum) : top(hn::Set(Tag<T>(), top_)), log_sum(hn::Set(Tag<T>(), log_of(sum))) {}
  HWY_INLINE Vec<Tag<T>> out(Vec<Tag<T>> x) const { return hn::Sub(hn::Sub(x, top), log_sum); }
};
template <class T>
void log_softmax(const void* x_, void* y, int64_t n, RowFlow flow) {
  const T* x = static_cast<const T*>(x_);
  T* nowhere = nullptr;
  const T top = reduce_row<LargestOf, T>(x, n);
  const LogSoftmax<T> form(top, exp_sum(x, nowhere, n, top, flow));
  each_out(static_cast<T*>(y), n, flow.stream, [&](int64_t i, auto load) HWY_ATTR { return form.out(load(x + i)); });
}
template <class T>
void log_softmax_rows(const void* x, void* y, int64_t rows, int64_t n, RowFlow flow) {
  T* nowhere = nullptr;
  exp_rows<LogSoftmax<T>>(static_cast<const T*>(x), static_cast<T*>(y), nowhere, rows, n, flow);
}
}  // namespace

void log_softmax_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.log_softmax = f ? log_softmax<float> : log_softmax<double>;
  r.log_softmax_rows = f ? log_softmax_rows<float> : log_softmax_rows<double>;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(log_softmax_loops);
void add_log_softmax_loops(DType t, RowLoops& r) { KEEL_SIMD(log_softmax_loops)(t, r); }
}  // namespace keel::cpu
#endif
