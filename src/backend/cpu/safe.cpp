// Kernels of safe arithmetic: parameters become the arguments of one fused loop, forward or backward.
#include "keel/ops/safe.h"

#include <cmath>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/loops/safe.h"
#include "backend/float_limits.h"

using namespace keel;
using namespace keel::cpu;

namespace {

constexpr DTypeSet kFloats = kinds::floating | kinds::fp8;

KernelStatus run_safe(const KernelArgs& a, SafeOp op, const double* args, int64_t grain = kCheap) {
  const DType t = compute_dtype(a.in[0].dtype);
  return run_fused(a, safe_loop(op, t), t, args, grain);
}
KernelStatus run_div(const KernelArgs& a, SafeOp op) {
  const auto& p = a.get<DivSafeParams>();
  const DType t = a.in[0].dtype;
  const double args[] = {p.otherwise, zero_tolerance(p.zero_tol, p.skip_subnormal, compute_dtype(t)),
                         p.saturate ? largest_of(t) : HUGE_VAL};
  return run_safe(a, op, args);
}
KernelStatus run_zone(const KernelArgs& a, SafeOp op) {
  const double tol = a.get<ClampToZeroParams>().abs_tol;
  const double args[] = {std::isnan(tol) ? tolerance_of(a.in[0].dtype).abs : tol};
  return run_safe(a, op, args);
}
KernelStatus run_log(const KernelArgs& a, SafeOp op) {
  const auto& p = a.get<LogSafeParams>();
  const double args[] = {p.otherwise, p.base, p.base == std::numbers::e ? 1 : 1 / std::log(p.base)};
  return run_safe(a, op, args, p.base == 10 ? kLibm : kMath);
}
template <SafeOp op>
KernelStatus run_otherwise(const KernelArgs& a) {
  return run_safe(a, op, &a.get<OtherwiseParams>().otherwise);
}
KernelStatus run_pow(const KernelArgs& a, SafeOp op) {
  const double args[] = {a.get<OtherwiseParams>().otherwise, overflow_of(a.in[0].dtype)};
  return run_safe(a, op, args, kMath);
}

}  // namespace

KEEL_CPU_KERNEL(div_safe) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_div(a, a.n_in == 3 && a.in[2].present() ? SafeOp::div_filled : SafeOp::div);
  });
}
KEEL_CPU_KERNEL(div_safe_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_div(a, SafeOp::div_grad); });
}
KEEL_CPU_KERNEL(sanitize) {
  elementwise(k).dtypes(kFloats).run([](const KernelArgs& a) {
    const auto& p = a.get<SanitizeParams>();
    const double inf = p.keep ? HUGE_VAL : std::isnan(p.inf_value) ? largest_of(a.in[0].dtype) : p.inf_value;
    const double args[] = {p.nan_value, inf, p.keep || std::isnan(p.neginf_value) ? -inf : p.neginf_value};
    return run_safe(a, SafeOp::sanitize, args);
  });
}
KEEL_CPU_KERNEL(sanitize_backward) {
  elementwise(k).dtypes(kFloats).run([](const KernelArgs& a) { return run_safe(a, SafeOp::finite_grad, nullptr); });
}
KEEL_CPU_KERNEL(clamp_to_zero) {
  elementwise(k).dtypes(kFloats).run([](const KernelArgs& a) { return run_zone(a, SafeOp::clamp_to_zero); });
}
KEEL_CPU_KERNEL(clamp_to_zero_backward) {
  elementwise(k).dtypes(kFloats).run([](const KernelArgs& a) { return run_zone(a, SafeOp::outside_grad); });
}
KEEL_CPU_KERNEL(clamp_safe) {
  elementwise(k).dtypes(kinds::real).run(run_clamp);
}
KEEL_CPU_KERNEL(clamp_safe_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) {
    return run_safe(a, SafeOp::clamp_grad, &a.get<ClampSafeParams>().boundary_grad);
  });
}
KEEL_CPU_KERNEL(sqrt_safe) { elementwise(k).dtypes(kinds::floating).run(run_otherwise<SafeOp::sqrt>); }
KEEL_CPU_KERNEL(sqrt_safe_backward) { elementwise(k).dtypes(kinds::floating).run(run_otherwise<SafeOp::sqrt_grad>); }
KEEL_CPU_KERNEL(rsqrt_safe) { elementwise(k).dtypes(kinds::floating).run(run_otherwise<SafeOp::rsqrt>); }
KEEL_CPU_KERNEL(rsqrt_safe_backward) { elementwise(k).dtypes(kinds::floating).run(run_otherwise<SafeOp::rsqrt_grad>); }
KEEL_CPU_KERNEL(log_safe) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_log(a, SafeOp::log); });
}
KEEL_CPU_KERNEL(log_safe_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_log(a, SafeOp::log_grad); });
}
KEEL_CPU_KERNEL(norm_safe_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_safe(a, SafeOp::norm_grad, nullptr); });
}
KEEL_CPU_KERNEL(pow_safe) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_pow(a, SafeOp::pow); });
}
KEEL_CPU_KERNEL(pow_safe_backward) {
  elementwise(k).dtypes(kinds::floating).run([](const KernelArgs& a) { return run_pow(a, SafeOp::pow_grad); });
}
