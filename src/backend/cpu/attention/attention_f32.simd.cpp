// Attention computed in float: the tasks of attention-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention/attention_f32.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/attention/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
int64_t forward_bytes_f32(const AttentionArgs& a) { return AttentionSizes<float>(a).forward() * int64_t(sizeof(float)) + 128; }
int64_t backward_bytes_f32(const AttentionArgs& a) { return AttentionSizes<float>(a).backward() * int64_t(sizeof(float)) + 128; }
void forward_f32(const AttentionTask& t) {
  switch (t.args->e) {
    case Elem::bf16: return attention_forward_task<bfloat16, float>(t);
    case Elem::f16: return attention_forward_task<float16, float>(t);
    default: return attention_forward_task<float, float>(t);
  }
}
void backward_f32(const AttentionTask& t) {
  switch (t.args->e) {
    case Elem::bf16: return attention_backward_task<bfloat16, float>(t);
    case Elem::f16: return attention_backward_task<float16, float>(t);
    default: return attention_backward_task<float, float>(t);
  }
}
constexpr AttentionKernels attention_table_f32{forward_bytes_f32, backward_bytes_f32, forward_f32, backward_f32};
const AttentionKernels& attention_f32() { return attention_table_f32; }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(attention_f32);
const AttentionKernels& attention_kernels_f32() { return KEEL_SIMD(attention_f32)(); }
}  // namespace keel::cpu
#endif
