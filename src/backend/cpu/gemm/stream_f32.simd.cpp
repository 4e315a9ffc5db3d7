// Few rows of float: stream-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm/stream_f32.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/gemm/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
void stream_f32(GemmStream form, const GemmTask& t, const float* a, const float* b, float* c, float* sums, int64_t kc) {
  stream(form, t, a, b, c, sums, kc);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(stream_f32);
void gemm_stream(GemmStream form, const GemmTask& t, const float* a, const float* b, float* c, float* sums, int64_t kc) {
  KEEL_SIMD(stream_f32)(form, t, a, b, c, sums, kc);
}
}  // namespace keel::cpu
#endif
