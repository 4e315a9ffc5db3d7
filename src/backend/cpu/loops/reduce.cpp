// Reductions of f32 blocks and columns, and the choice by dtype.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/reduce.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/reduce_float-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
ReduceLoops reduce_f32(ReduceOp op) { return find_reduce<float>(op); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(reduce_f32);
ReduceLoops reduce_f64_loops(ReduceOp op);
ReduceLoops reduce_int_loops(ReduceOp op, DType t);

DType reduce_acc(ReduceOp op, DType t) {
  if (op == ReduceOp::any || op == ReduceOp::all) return DType::boolean;
  if (is_inexact(t) || op == ReduceOp::max || op == ReduceOp::min || op == ReduceOp::max_abs) return t;
  return accumulate_dtype(t);
}
ReduceLoops reduce_loops(ReduceOp op, DType t) {
  if (op != ReduceOp::any && op != ReduceOp::all) {
    if (t == DType::f32) return KEEL_SIMD(reduce_f32)(op);
    if (t == DType::f64) return reduce_f64_loops(op);
  }
  return reduce_int_loops(op, t);
}
}  // namespace keel::cpu
#endif
