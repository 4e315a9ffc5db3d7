// Attention computed in double: the tasks of attention-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention/attention_f64.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/attention/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
int64_t forward_bytes_f64(const AttentionArgs& a) { return AttentionSizes<double>(a).forward() * int64_t(sizeof(double)) + 128; }
int64_t backward_bytes_f64(const AttentionArgs& a) { return AttentionSizes<double>(a).backward() * int64_t(sizeof(double)) + 128; }
void forward_f64(const AttentionTask& t) { attention_forward_task<double, double>(t); }
void backward_f64(const AttentionTask& t) { attention_backward_task<double, double>(t); }
constexpr AttentionKernels attention_table_f64{forward_bytes_f64, backward_bytes_f64, forward_f64, backward_f64};
const AttentionKernels& attention_f64() { return attention_table_f64; }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(attention_f64);
const AttentionKernels& attention_kernels_f64() { return KEEL_SIMD(attention_f64)(); }
}  // namespace keel::cpu
#endif
