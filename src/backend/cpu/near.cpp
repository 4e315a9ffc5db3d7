// Kernels of comparison with tolerances and of units in the last place. Floats narrower than f32 are compared in f32; the ulp functions
// read the codes of the operands' own dtype.
#include "keel/ops/near.h"

#include <cmath>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/loops/safe.h"
#include "backend/float_limits.h"

using namespace keel;
using namespace keel::cpu;

namespace {

constexpr DTypeSet kFloats = kinds::floating | kinds::fp8;

KernelStatus run_ulp(const KernelArgs& a, NearOp op, const double* args) {
  return run_fused(a, near_loop(op, a.in[0].dtype), a.in[0].dtype, args, kCheap);
}
template <NearOp op>
void ulp_kernel(KernelDef& k) {
  elementwise(k).dtypes(kFloats).run([](const KernelArgs& a) { return run_ulp(a, op, nullptr); });
}

}  // namespace

KEEL_CPU_KERNEL(near) {
  elementwise(k).dtypes(kinds::ordered | kinds::fp8).run([](const KernelArgs& a) {
    const auto& p = a.get<NearParams>();
    const DType t = compute_dtype(a.in[0].dtype);
    const numerics::Tolerance own = tolerance_of(a.in[0].dtype);
    const double args[] = {std::isnan(p.rel_tol) ? own.rel : p.rel_tol, std::isnan(p.abs_tol) ? own.abs : p.abs_tol, double(p.equal_nan)};
    return run_fused(a, near_loop(NearOp::near, t), t, args, kCheap);
  });
}
KEEL_CPU_KERNEL(near_zero) {
  elementwise(k).dtypes(kFloats).run([](const KernelArgs& a) {
    const double tol = a.get<NearZeroParams>().abs_tol;
    const DType t = compute_dtype(a.in[0].dtype);
    const double args[] = {std::isnan(tol) ? tolerance_of(a.in[0].dtype).abs : tol};
    return run_fused(a, near_loop(NearOp::near_zero, t), t, args, kCheap);
  });
}
KEEL_CPU_KERNEL(ulp_of) { ulp_kernel<NearOp::of>(k); }
KEEL_CPU_KERNEL(ulp_next) { ulp_kernel<NearOp::next>(k); }
KEEL_CPU_KERNEL(ulp_prev) { ulp_kernel<NearOp::prev>(k); }
KEEL_CPU_KERNEL(ulp_diff) { ulp_kernel<NearOp::diff>(k); }
KEEL_CPU_KERNEL(ulp_within) {
  elementwise(k).dtypes(kFloats).run([](const KernelArgs& a) {
    const double limit[] = {double(a.get<UlpWithinParams>().max_ulps)};
    return run_ulp(a, NearOp::within, limit);
  });
}
