// Depthwise convolution of 16-bit floats computed in float: depthwise-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv/depthwise_half.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/conv/depthwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
void depthwise_half(Elem in, const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  const auto f = in == Elem::bf16 ? &run_depthwise<bfloat16, float> : &run_depthwise<float16, float>;
  f(g, weights, row0, row1);
}
void depthwise_weight_half(Elem in, const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  const auto f = in == Elem::bf16 ? &run_depthwise_weight<bfloat16, float> : &run_depthwise_weight<float16, float>;
  f(s, x, g, c0, c1, sums);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(depthwise_half);
KEEL_SIMD_EXPORT(depthwise_weight_half);
void conv_depthwise_half(Elem e, const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  KEEL_SIMD(depthwise_half)(e, g, weights, row0, row1);
}
void conv_depthwise_weight_half(Elem e, const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  KEEL_SIMD(depthwise_weight_half)(e, s, x, g, c0, c1, sums);
}
}  // namespace keel::cpu
#endif
