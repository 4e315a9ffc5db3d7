// float matrix products: the driver of driver-inl.h for every target (see gemm.h for numerics, kernel-inl.h for the algorithm).
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm/gemm_f32.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/gemm/driver-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
GemmShape shape_f32(Elem, Elem) { return {kMr, Blocking<float>::kNr, Blocking<float>::bytes(false)}; }
void task_f32(Elem, Elem, const GemmTask& t) { run_task<float, float, float>(t); }
void pack_b_f32(Elem, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
  pack_whole_b<float, float>(k, n, b, rs, cs, packed);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(shape_f32);
KEEL_SIMD_EXPORT(task_f32);
KEEL_SIMD_EXPORT(pack_b_f32);
GemmShape gemm_shape_f32(Elem in, Elem out) { return KEEL_SIMD(shape_f32)(in, out); }
void gemm_task_f32(Elem in, Elem out, const GemmTask& t) { KEEL_SIMD(task_f32)(in, out, t); }
void gemm_pack_b_f32(Elem in, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
  KEEL_SIMD(pack_b_f32)(in, k, n, b, rs, cs, packed);
}
}  // namespace keel::cpu
#endif
