// Kernels of soft clamp and soft comparisons: parameters become the arguments of one fused loop, forward or backward.
#include "keel/ops/soft.h"

#include <cmath>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/loops/safe.h"
#include "backend/float_limits.h"

using namespace keel;
using namespace keel::cpu;

namespace {

KernelStatus run_soft(const KernelArgs& a, SoftOp op, const double* args) {
  const DType t = compute_dtype(a.in[0].dtype);
  return run_fused(a, soft_loop(op, t), t, args, t == f64 ? kLibm : kMath);
}
KernelStatus run_soft_clamp(const KernelArgs& a, SoftOp op) {
  const double args[] = {a.get<SoftClampParams>().beta, a.get<SoftClampParams>().leak};
  return run_soft(a, op, args);
}
KernelStatus run_near(const KernelArgs& a, SoftOp op) {
  const auto& p = a.get<SoftNearParams>();
  const numerics::Tolerance own = tolerance_of(a.in[0].dtype);
  const double args[] = {std::isnan(p.rel_tol) ? own.rel : p.rel_tol, std::isnan(p.abs_tol) ? own.abs : p.abs_tol,
                         std::isnan(p.temperature) ? 0 : p.temperature, double(p.normalized), double(p.detach_tol)};
  return run_soft(a, op, args);
}
template <SoftOp op>
KernelStatus run_compare(const KernelArgs& a) {
  return run_soft(a, op, &a.get<SoftCompareParams>().temperature);
}

}  // namespace

KEEL_CPU_KERNEL(soft_clamp) {
  elementwise(k).dtypes(kinds::floating);
  k.refuses([](const void*, Specs in) -> const char* { return in.has(3) ? "a sharpness of every element" : nullptr; });
  k.run([](const KernelArgs& a) { return run_soft_clamp(a, SoftOp::soft_clamp); });
}
KEEL_CPU_KERNEL(soft_clamp_backward) {
  elementwise(k).dtypes(kinds::floating);
  k.refuses([](const void*, Specs in) -> const char* { return in.has(4) ? "a sharpness of every element" : nullptr; });
  k.run([](const KernelArgs& a) { return run_soft_clamp(a, SoftOp::soft_clamp_grad); });
}
KEEL_CPU_KERNEL(soft_near) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_near(a, SoftOp::soft_near); });
}
KEEL_CPU_KERNEL(soft_near_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_near(a, SoftOp::soft_near_grad); });
}
KEEL_CPU_KERNEL(soft_compare) { elementwise(k).dtypes(kinds::floating).run(run_compare<SoftOp::soft_compare>); }
KEEL_CPU_KERNEL(soft_compare_backward) { elementwise(k).dtypes(kinds::floating).run(run_compare<SoftOp::soft_compare_grad>); }
