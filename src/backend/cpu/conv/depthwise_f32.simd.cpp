// Depthwise convolution of floats: depthwise-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv/depthwise_f32.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/conv/depthwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
void depthwise_f32(const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  run_depthwise<float, float>(g, weights, row0, row1);
}
void depthwise_weight_f32(const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  run_depthwise_weight<float, float>(s, x, g, c0, c1, sums);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(depthwise_f32);
KEEL_SIMD_EXPORT(depthwise_weight_f32);
void conv_depthwise(Elem e, const ConvGrid& g, const void* weights, int64_t row0, int64_t row1) {
  if (e == Elem::f64) return conv_depthwise_f64(g, weights, row0, row1);
  if (e != Elem::f32) return conv_depthwise_half(e, g, weights, row0, row1);
  KEEL_SIMD(depthwise_f32)(g, weights, row0, row1);
}
void conv_depthwise_weight(Elem e, const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums) {
  if (e == Elem::f64) return conv_depthwise_weight_f64(s, x, g, c0, c1, sums);
  if (e != Elem::f32) return conv_depthwise_weight_half(e, s, x, g, c0, c1, sums);
  KEEL_SIMD(depthwise_weight_f32)(s, x, g, c0, c1, sums);
}
}  // namespace keel::cpu
#endif
