// Depthwise convolution computed in float: depthwise-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv/depthwise_f32.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/conv/depthwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
void depthwise_f32(Elem in, const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  const auto f = in == Elem::f32    ? &run_depthwise<float, float>
                 : in == Elem::bf16 ? &run_depthwise<bfloat16, float>
                                    : &run_depthwise<float16, float>;
  f(g, weights, row0, row1);
}
void depthwise_weight_f32(Elem in, const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  const auto f = in == Elem::f32    ? &run_depthwise_weight<float, float>
                 : in == Elem::bf16 ? &run_depthwise_weight<bfloat16, float>
                                    : &run_depthwise_weight<float16, float>;
  f(s, x, g, c0, c1, sums);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(depthwise_f32);
KEEL_SIMD_EXPORT(depthwise_weight_f32);
void conv_depthwise(Elem e, const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  if (e == Elem::f64) return conv_depthwise_f64(g, weights, row0, row1);
  KEEL_SIMD(depthwise_f32)(e, g, weights, row0, row1);
}
void conv_depthwise_weight(Elem e, const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  if (e == Elem::f64) return conv_depthwise_weight_f64(s, x, g, c0, c1, sums);
  KEEL_SIMD(depthwise_weight_f32)(e, s, x, g, c0, c1, sums);
}
}  // namespace keel::cpu
#endif
