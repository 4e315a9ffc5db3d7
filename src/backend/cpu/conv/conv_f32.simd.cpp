// Convolution computed in float: the tasks of engine-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv/conv_f32.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/conv/engine-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
using Zf32 = ConvSizing<float>;
int64_t panel_f32() { return Zf32::kNr; }
int64_t paired_f32() { return kHasPairs ? Zf32::kN / 2 : 0; }
int64_t group_f32() { return kGroup; }
int64_t task_bytes_f32(const ConvGrid& g) { return Zf32::task_bytes(g); }
int64_t weight_task_bytes_f32(const ConvGrid& g) { return Zf32::weight_task_bytes(g); }
int64_t weight_channels_f32() { return Zf32::kWeightChannels; }
void conv_task_f32(Elem in, const ConvTask& t) {
  in == Elem::f32    ? run_conv_task<float, float, float>(t)
  : in == Elem::bf16 ? run_conv_task<bfloat16, float, bfloat16>(t)
                     : run_conv_task<float16, float, float16>(t);
}
void weight_task_f32(Elem in, const ConvWeightTask& t) {
  in == Elem::f32    ? run_weight_task<float, float>(t)
  : in == Elem::bf16 ? run_weight_task<bfloat16, float>(t)
                     : run_weight_task<float16, float>(t);
}
void pack_f32(Elem in, const void* w, int64_t lanes, int64_t lane_stride, int64_t channels, int64_t k_stride, const int64_t* tap,
              int64_t n_taps, int64_t panel0, int64_t panel1, bool pair, void* panels) {
  const auto f = in == Elem::f32    ? &pack_conv_weights<float, float>
                 : in == Elem::bf16 ? &pack_conv_weights<bfloat16, float>
                                    : &pack_conv_weights<float16, float>;
  f(w, lanes, lane_stride, channels, k_stride, tap, n_taps, panel0, panel1, pair, panels);
}
void scatter_f32(Elem in, const void* sums, int64_t ld, int64_t cg, int64_t taps, int64_t o0, int64_t o1, void* dweight) {
  const auto f = in == Elem::f32    ? &scatter_weights<float, float>
                 : in == Elem::bf16 ? &scatter_weights<float, bfloat16>
                                    : &scatter_weights<float, float16>;
  f(sums, ld, cg, taps, o0, o1, dweight);
}
void spread_f32(const ConvSpread& t) { spread_columns<float>(t); }
constexpr ConvKernels kernels_f32_table{panel_f32,           group_f32,     paired_f32,          task_bytes_f32, weight_task_bytes_f32,
                                        weight_channels_f32, conv_task_f32, weight_task_f32,     pack_f32,       scatter_f32,
                                        spread_f32};
const ConvKernels& kernels_f32() { return kernels_f32_table; }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(kernels_f32);
const ConvKernels& conv_kernels_f32() { return KEEL_SIMD(kernels_f32)(); }
}  // namespace keel::cpu
#endif
