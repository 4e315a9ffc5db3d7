// Matrix products of bf16 and f16 by widening to f32 while packing: for targets without 16-bit dot products, and for f16 everywhere. The product of two
// 16-bit values is exact in f32 (bf16 always, f16 always), so this is the f32 chain of kernel-inl.h on the widened inputs. The choice between this and the
// instructions for bf16 (gemm_bf16.cpp) looks at the type and the ISA level only, so that a result does not depend on the shape.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/gemm/gemm_half.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/gemm/driver-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
GemmShape shape_half(Elem, Elem out) { return {kMr, Blocking<float>::kNr, Blocking<float>::bytes(out != Elem::f32)}; }
void task_half(Elem in, Elem out, const GemmTask& t) {
  if (in == Elem::bf16)
    out == Elem::f32 ? run_task<bfloat16, float, float>(t) : run_task<bfloat16, float, bfloat16>(t);
  else
    out == Elem::f32 ? run_task<float16, float, float>(t) : run_task<float16, float, float16>(t);
}
void pack_b_half(Elem in, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
  in == Elem::bf16 ? pack_whole_b<bfloat16, float>(k, n, b, rs, cs, packed) : pack_whole_b<float16, float>(k, n, b, rs, cs, packed);
}
void finish_half(Elem out, const GemmTask& t, const float* sums, int64_t lds, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  (out == Elem::f32    ? finish_block<float, float, true>
   : out == Elem::bf16 ? finish_block<float, bfloat16, true>
                       : finish_block<float, float16, true>)(t, sums, lds, row, rows, col, cols);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(shape_half);
KEEL_SIMD_EXPORT(task_half);
KEEL_SIMD_EXPORT(pack_b_half);
KEEL_SIMD_EXPORT(finish_half);
namespace {
#if defined(__x86_64__)
bool tiles() { return active_isa() == Isa::amx; }
bool pairs(Elem in) { return in == Elem::bf16 && (tiles() || use_bf16_dot()); }
#endif
}  // namespace

GemmShape gemm_shape_half(Elem in, Elem out) {
#if defined(__x86_64__)
  if (pairs(in)) return gemm_shape_bf16(tiles());
#endif
  return KEEL_SIMD(shape_half)(in, out);
}
void gemm_task_half(Elem in, Elem out, const GemmTask& t) {
#if defined(__x86_64__)
  if (pairs(in)) return gemm_task_bf16(tiles(), out, t);
#endif
  KEEL_SIMD(task_half)(in, out, t);
}
void gemm_pack_b_half(Elem in, int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
#if defined(__x86_64__)
  if (pairs(in)) return gemm_pack_b_bf16(k, n, b, rs, cs, packed);
#endif
  KEEL_SIMD(pack_b_half)(in, k, n, b, rs, cs, packed);
}
void gemm_finish_half(Elem out, const GemmTask& t, const float* sums, int64_t lds, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  KEEL_SIMD(finish_half)(out, t, sums, lds, row, rows, col, cols);
}
}  // namespace keel::cpu
#endif
