#pragma once
#include <limits>
#include <numbers>

#include "keel/op.h"
#include "keel/ops/softmax.h"

#pragma GCC visibility push(default)
/// Arithmetic whose undefined cases have an answer that the caller chose, with gradients that are 0 there and never NaN because of them. f16, bf16 and 8-bit floats compute in f32, f32 in f32, f64 in f64, and round
/// once; a number beside tensors takes their dtype; shapes broadcast. NaN that comes in goes through, unless a function says what it becomes. docs/numerics/safe-ops.md has formulas, gradients and all edge cases.
namespace keel {

/// A parameter of type double that was not given (Python: None).
inline constexpr double kNotGiven = std::numeric_limits<double>::quiet_NaN();

struct DivSafeParams {
  [[no_unique_address]] ByName by_name = ByName();
  double otherwise = kNotGiven;
  double zero_tol = 0;
  bool skip_subnormal = false;
  bool saturate = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("otherwise", p.otherwise, "the result where the denominator counts as zero; NaN where not given, which integers refuse");
    f("zero_tol", p.zero_tol, "|b| <= zero_tol counts as zero; not negative");
    f("skip_subnormal", p.skip_subnormal, "a denominator below the smallest normal value of the dtype that computes counts as zero too");
    f("saturate", p.saturate, "a quotient of finite numbers beyond the largest value of the dtype becomes that value, with gradient 0");
  }
};
/// a / b, and `otherwise` where |b| <= zero_tol, whatever a is; NaN as b is no zero. Integers give the default float. Gradients: g / b and -(g / b) (a / b), 0 where b counts as zero.
/// Raises ValueError for a negative zero_tol, an `otherwise` beyond the dtype of the result, and integers without `otherwise`.
Tensor div_safe(const Operand& a, const Operand& b, const DivSafeParams& p = {});
/// The same with a tensor as default, which takes the gradient where b counts as zero; `p.otherwise` is not looked at.
Tensor div_safe(const Operand& a, const Operand& b, const Tensor& fill, const DivSafeParams& p = {});

struct OtherwiseParams {
  [[no_unique_address]] ByName by_name = ByName();
  double otherwise = kNotGiven;
  static constexpr void fields(auto& p, auto&& f) { f("otherwise", p.otherwise, "the result where there is none; NaN where not given"); }
};
struct LogSafeParams {
  [[no_unique_address]] ByName by_name = ByName();
  double base = std::numbers::e;
  double otherwise = kNotGiven;
  static constexpr void fields(auto& p, auto&& f) {
    f("base", p.base, "of the logarithm; positive and not 1; 2 and 10 are exact at their powers");
    f("otherwise", p.otherwise, "the result where x <= 0; NaN where not given");
  }
};
/// The square root; `otherwise` below 0. Its gradient is 0 at 0 and below.
Tensor sqrt_safe(const Tensor& x, const OtherwiseParams& p = {});
/// 1 / sqrt(x); `otherwise`, with gradient 0, where x <= 0.
Tensor rsqrt_safe(const Tensor& x, const OtherwiseParams& p = {});
/// The logarithm to a base; `otherwise`, with gradient 0, where x <= 0.
Tensor log_safe(const Tensor& x, const LogSafeParams& p = {});
/// base to the power of exponent; `otherwise`, with gradient 0, where there is no real result, where 0 has a negative exponent, and where finite arguments overflow the dtype. x^0 = 1 and 1^x = 1 for every x.
/// The gradient for the exponent is 0 where base <= 0, where the power has no slope along it.
Tensor pow_safe(const Operand& base, const Operand& exponent, const OtherwiseParams& p = {});

struct SanitizeParams {
  [[no_unique_address]] ByName by_name = ByName();
  double nan_value = 0;
  double inf_value = kNotGiven;
  double neginf_value = kNotGiven;
  bool keep = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("nan_value", p.nan_value, "what NaN becomes");
    f("inf_value", p.inf_value, "what inf becomes; the largest value of the dtype where not given");
    f("neginf_value", p.neginf_value, "what -inf becomes; -inf_value where not given");
    f("keep", p.keep, "leave infinities as they are");
  }
};
/// x without NaN and infinities; zeros of both signs, subnormals and integers stay. The gradient is 0 where x was not finite. f8e4m3fn has no infinity. Raises ValueError for a value beyond the dtype.
/// NumPy's nan_to_num.
Tensor sanitize(const Tensor& x, const SanitizeParams& p = {});

enum class ZoneGrad : int32_t { exact, ste };
inline const char* const* enum_names(ZoneGrad) {
  static const char* const names[] = {"exact", "ste", nullptr};
  return names;
}
struct ClampToZeroParams {
  [[no_unique_address]] ByName by_name = ByName();
  double abs_tol = kNotGiven;
  ZoneGrad grad = ZoneGrad::exact;
  static constexpr void fields(auto& p, auto&& f) {
    f("abs_tol", p.abs_tol, "largest |x| that becomes 0; that of the dtype (tolerances) where not given; not negative");
    f("grad", p.grad, "exact: 0 where x became 0; ste: straight through, 1 everywhere");
  }
};
/// +0 where |x| <= abs_tol, also for -0, else x. NaN and infinities pass. abs_tol = 0 turns -0 into +0 and changes nothing else.
Tensor clamp_to_zero(const Tensor& x, const ClampToZeroParams& p = {});

struct ClampSafeParams {
  [[no_unique_address]] ByName by_name = ByName();
  double boundary_grad = 1;
  static constexpr void fields(auto& p, auto&& f) { f("boundary_grad", p.boundary_grad, "share of x in the gradient where it equals a bound: 0, 0.5 or 1; the bound has the rest"); }
};
/// min(max(x, lo), hi), NaN where x or a bound is NaN. The gradient of x is 1 between the bounds and `boundary_grad` on them. Numbers with lo > hi raise ValueError; where tensors have lo > hi, the result is hi.
Tensor clamp_safe(const Tensor& x, const Operand& lo, const Operand& hi, const ClampSafeParams& p = {});

struct NormSafeParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  bool keepdim = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axes to reduce; none given: all");
    f("keepdim", p.keepdim, "keep reduced axes with extent 1");
  }
};
/// sqrt(sum of x^2) over axes without overflow or underflow on the way. Its gradient x / norm is 0 where the norm is 0.
Tensor norm_safe(const Tensor& x, const NormSafeParams& p = {});

struct NormalizeSafeParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = -1;
  double eps = 1e-12;
  double grad_cap = kNotGiven;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axis of the vectors; negative counts from the end");
    f("eps", p.eps, "norms below it count as it; positive");
    f("grad_cap", p.grad_cap, "largest factor 1 / norm in the gradient; no limit where not given; positive");
  }
};
/// x / max(norm_safe(x), eps) along an axis: vectors of length 1, and 0 for 0. Its gradient at 0 is g / eps, 1e12 by default: `grad_cap` limits that factor.
Tensor normalize_safe(const Tensor& x, const NormalizeSafeParams& p = {});

/// softmax, with zeros and gradient 0 for a row that is -inf throughout (fully masked). A gradient that comes to a masked entry, NaN too, is dropped.
Tensor softmax_safe(const Tensor& x, const SoftmaxParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
