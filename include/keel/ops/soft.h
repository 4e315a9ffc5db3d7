#pragma once
#include "keel/ops/safe.h"

#pragma GCC visibility push(default)
/// Smooth forms of clamp, relu and comparison, whose gradient says where to go. f16 and bf16 compute in f32 and round once. docs/numerics/safe-ops.md has formulas, gradients and edge cases.
namespace keel {

struct SoftClampParams {
  [[no_unique_address]] ByName by_name = ByName();
  double beta = 10;
  double leak = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("beta", p.beta, "sharpness: the largest distance from clamp is ln(2) / beta; positive");
    f("leak", p.leak, "slope that is left outside the bounds, where the result is then unbounded");
  }
};
/// lo + softplus(x - lo) - softplus(x - hi), with softplus(z) = log(1 + exp(beta z)) / beta, plus leak (softplus(x - hi) - softplus(lo - x)): a smooth clamp, monotone, within [lo, hi] where leak is 0. Infinite x gives
/// the bound with gradient 0; NaN gives NaN. The gradient sigmoid(beta (x - lo)) - sigmoid(beta (x - hi)) is exact far outside too (1.9e-22 at x = 6 for [0, 1] and beta 10) until it underflows: `leak` keeps it alive.
/// Bounds must be finite; numbers with lo > hi, and beta <= 0, raise ValueError.
Tensor soft_clamp(const Tensor& x, const Operand& lo, const Operand& hi, const SoftClampParams& p = {});
/// The same with a sharpness of its own for every element, which has a gradient too; `p.beta` is not looked at.
Tensor soft_clamp(const Tensor& x, const Operand& lo, const Operand& hi, const Tensor& sharpness, const SoftClampParams& p = {});

struct SoftReluParams {
  [[no_unique_address]] ByName by_name = ByName();
  double beta = 1;
  static constexpr void fields(auto& p, auto&& f) { f("beta", p.beta, "sharpness; positive"); }
};
/// log(1 + exp(beta x)) / beta, without a threshold: softplus. Its gradient is sigmoid(beta x).
Tensor soft_relu(const Tensor& x, const SoftReluParams& p = {});

struct SoftNearParams {
  [[no_unique_address]] ByName by_name = ByName();
  double rel_tol = kNotGiven;
  double abs_tol = kNotGiven;
  double temperature = kNotGiven;
  bool normalized = false;
  bool detach_tol = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("rel_tol", p.rel_tol, "share of the larger magnitude; that of the dtype (tolerances) where not given; not negative");
    f("abs_tol", p.abs_tol, "absolute tolerance; that of the dtype where not given; not negative");
    f("temperature", p.temperature, "width of the step; a quarter of the tolerance of the element where not given; positive");
    f("normalized", p.normalized, "divide by the value at a == b, so that this is 1");
    f("detach_tol", p.detach_tol, "leave the tolerance's own dependence on a and b out of the gradient, so that nobody grows |a| to be near");
  }
};
/// sigmoid((tol - |a - b|) / temperature) with tol = max(rel_tol * max(|a|, |b|), abs_tol): in [0, 1], 1/2 at the edge of the tolerance. Equal infinities count as a difference of 0; one infinity gives 0; NaN gives NaN.
Tensor soft_near(const Operand& a, const Operand& b, const SoftNearParams& p = {});

struct SoftCompareParams {
  [[no_unique_address]] ByName by_name = ByName();
  double temperature = 1;
  static constexpr void fields(auto& p, auto&& f) { f("temperature", p.temperature, "width of the step; positive"); }
};
/// tanh((a - b) / temperature): -1 where a is below b, 1 where it is above. Equal infinities give 0 with gradient 0; NaN gives NaN.
Tensor soft_compare(const Operand& a, const Operand& b, const SoftCompareParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
