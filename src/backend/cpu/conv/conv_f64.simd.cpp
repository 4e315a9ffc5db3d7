// Convolution computed in double: the tasks of engine-inl.h for every target.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv/conv_f64.simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "backend/cpu/conv/engine-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
using Zf64 = ConvSizing<double>;
int64_t panel_f64() { return Zf64::kNr; }
int64_t paired_f64() { return 0; }
int64_t group_f64() { return kGroup; }
int64_t task_bytes_f64(const ConvGrid& g) { return Zf64::task_bytes(g); }
int64_t weight_task_bytes_f64(const ConvGrid& g) { return Zf64::weight_task_bytes(g); }
int64_t weight_channels_f64() { return Zf64::kWeightChannels; }
void conv_task_f64(Elem, const ConvTask& t) { run_conv_task<double, double, double>(t); }
void weight_task_f64(Elem, const ConvWeightTask& t) { run_weight_task<double, double>(t); }
void pack_f64(Elem, const void* w, int64_t lanes, int64_t lane_stride, int64_t channels, int64_t k_stride, const int64_t* tap,
              int64_t n_taps, int64_t panel0, int64_t panel1, bool pair, void* panels) {
  pack_conv_weights<double, double>(w, lanes, lane_stride, channels, k_stride, tap, n_taps, panel0, panel1, pair, panels);
}
void scatter_f64(Elem, const void* sums, int64_t ld, int64_t cg, int64_t taps, int64_t o0, int64_t o1, void* dweight) {
  scatter_weights<double, double>(sums, ld, cg, taps, o0, o1, dweight);
}
void spread_f64(const ConvSpread& t) { spread_columns<double>(t); }
constexpr ConvKernels kernels_f64_table{panel_f64,           group_f64,     paired_f64,          task_bytes_f64, weight_task_bytes_f64,
                                        weight_channels_f64, conv_task_f64, weight_task_f64,     pack_f64,       scatter_f64,
                                        spread_f64};
const ConvKernels& kernels_f64() { return kernels_f64_table; }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(kernels_f64);
const ConvKernels& conv_kernels_f64() { return KEEL_SIMD(kernels_f64)(); }
}  // namespace keel::cpu
#endif
