#pragma once
// The one outer driver of elementwise kernels: strides, broadcasting, 16-bit dtypes, threads, statistics and streaming stores around the
// contiguous loops of loops/loops.h.
#include "backend/cpu/loops/loops.h"
#include "backend/kernel.h"

namespace keel::cpu {

/// One elementwise call: which loop runs, and in which dtypes it wants its operands. `in_as` and `out_as` differ from the views' dtypes
/// where a loop computes wider: blocks are then converted in L1.
struct Elementwise {
  enum class Form : uint8_t { unary, binary, ternary, where, fused } form = Form::unary;
  static constexpr int kMaxIn = 4, kMaxOut = 2;
  int n_in = 1, n_out = 1;                         // outputs have one dtype and one layout
  DType in_as[kMaxIn] = {}, out_as = DType::none;  // `out_as` differs from the outputs' dtype where all convert
  UnaryLoop unary = nullptr;
  BinaryLoop binary[3] = {};  // by BinaryMode; vs and sv may be null
  TernaryLoop ternary = nullptr;
  FusedLoop fused = nullptr;
  const double* args = nullptr;
  int64_t grain = 1 << 15;  // elements below which a second thread does not pay
};

/// The dtype that loops compute `t` in: f32 for 8- and 16-bit floats.
constexpr DType compute_dtype(DType t) { return is_floating(t) && t != f64 ? f32 : t; }

/// Runs `e` over a.in[0..n_in) broadcast to the outputs, which are dense. Fills a.stats.
KernelStatus run_elementwise(const KernelArgs& a, const Elementwise& e);

KernelStatus run_unary(const KernelArgs& a, UnaryOp op, const double* args, int64_t grain);
KernelStatus run_binary(const KernelArgs& a, BinaryOp op, const double* args, int64_t grain);
KernelStatus run_ternary(const KernelArgs& a, TernaryOp op, const double* args, int64_t grain);
/// x between two bounds; a NaN anywhere stays.
KernelStatus run_clamp(const KernelArgs& a);
/// `loop` over all inputs that are present, which are the first ones, and all outputs; operands are converted to `as`, and floating results
/// from it.
KernelStatus run_fused(const KernelArgs& a, FusedLoop loop, DType as, const double* args, int64_t grain);

/// Elements below which loops stay on one thread: a few instructions each, a vector function, a libm call a lane.
inline constexpr int64_t kCheap = 1 << 15, kMath = 1 << 14, kLibm = 1 << 11;

/// What kernels of one, two and three operands have in common.
inline KernelDef& elementwise(KernelDef& k) { return k.inputs(Layout::strided).outputs(Layout::like_inputs).inplace().stats(); }
template <UnaryOp op, int64_t grain = kMath>
void unary_kernel(KernelDef& k, DTypeSet dtypes) {
  elementwise(k).dtypes(dtypes).run([](const KernelArgs& a) { return run_unary(a, op, nullptr, grain); });
}
template <BinaryOp op, int64_t grain = kCheap>
void binary_kernel(KernelDef& k, DTypeSet dtypes) {
  elementwise(k).dtypes(dtypes).run([](const KernelArgs& a) { return run_binary(a, op, nullptr, grain); });
}

}  // namespace keel::cpu
