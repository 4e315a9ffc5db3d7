// Reductions of f64 blocks and columns.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/reduce_f64.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/reduce_float-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
ReduceLoops reduce_f64(ReduceOp op) { return find_reduce<double>(op); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(reduce_f64);
ReduceLoops reduce_f64_loops(ReduceOp op);
ReduceLoops reduce_f64_loops(ReduceOp op) { return KEEL_SIMD(reduce_f64)(op); }
}  // namespace keel::cpu
#endif
