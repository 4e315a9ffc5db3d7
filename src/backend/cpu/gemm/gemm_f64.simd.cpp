// double matrix products: the driver of driver-inl.h for every target (see gemm.h for numerics, kernel-inl.h for the algorithm).
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm/gemm_f64.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/gemm/driver-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
GemmShape shape_f64(Elem, Elem) { return {kMr, Blocking<double>::kNr, Blocking<double>::bytes(false)}; }
void task_f64(Elem, Elem, const GemmTask& t) { run_task<double, double, double>(t); }
void pack_b_f64(Elem, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
  pack_whole_b<double, double>(k, n, b, rs, cs, packed);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(shape_f64);
KEEL_SIMD_EXPORT(task_f64);
KEEL_SIMD_EXPORT(pack_b_f64);
GemmShape gemm_shape_f64(Elem in, Elem out) { return KEEL_SIMD(shape_f64)(in, out); }
void gemm_task_f64(Elem in, Elem out, const GemmTask& t) { KEEL_SIMD(task_f64)(in, out, t); }
void gemm_pack_b_f64(Elem in, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
  KEEL_SIMD(pack_b_f64)(in, k, n, b, rs, cs, packed);
}
}  // namespace keel::cpu
#endif
