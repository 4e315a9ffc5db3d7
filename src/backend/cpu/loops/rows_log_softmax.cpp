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
void log_softmax(const void* x_, void* y, int64_t n, RowFlow flow, PendingRow* pending) {
  const T* x = static_cast<const T*>(x_);
  const Tag<T> d;
  T* nowhere = nullptr;
  if (pending) {
    const T* from = static_cast<const T*>(pending->from);
    T* to = static_cast<T*>(pending->y);
    const auto shift = hn::Set(d, T(pending->shift)), log_sum = hn::Set(d, T(pending->scale));
    const auto beside = [&](int64_t i) HWY_ATTR {
      hn::Stream(hn::Sub(hn::Sub(hn::LoadU(d, from + i), shift), log_sum), d, to + i);
    };
    T top;
    const T sum = exp_sum_pending(x, nowhere, n, top, flow, *pending, beside);
    pending->from = x, pending->y = y, pending->shift = top, pending->scale = log_of(sum);
    return;
  }
  const T top = reduce_row<LargestOf, T>(x, n), sum = exp_sum(x, nowhere, n, top, flow);
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
}  // namespace

void log_softmax_loops(DType t, RowLoops& r) {
  const bool f = t == DType::f32;
  r.log_softmax = f ? log_softmax<float> : log_softmax<double>;
  r.log_softmax_flush = f ? log_softmax_flush<float> : log_softmax_flush<double>;
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(log_softmax_loops);
void add_log_softmax_loops(DType t, RowLoops& r) { KEEL_SIMD(log_softmax_loops)(t, r); }
}  // namespace keel::cpu
#endif
