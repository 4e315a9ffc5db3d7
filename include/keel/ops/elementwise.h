#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

enum class Gelu : int32_t { none, tanh };
inline const char* const* enum_names(Gelu) {
  static const char* const names[] = {"none", "tanh", nullptr};
  return names;
}

struct GeluParams {
  [[no_unique_address]] ByName by_name = ByName();
  Gelu approximate = Gelu::none;
  static constexpr void fields(auto& p, auto&& f) { f("approximate", p.approximate, "none: by the error function; tanh: the tanh form of GPT-2"); }
};
struct LeakyReluParams {
  [[no_unique_address]] ByName by_name = ByName();
  double slope = 0.01;
  static constexpr void fields(auto& p, auto&& f) { f("slope", p.slope, "factor of negative values"); }
};
struct EluParams {
  [[no_unique_address]] ByName by_name = ByName();
  double alpha = 1.0;
  static constexpr void fields(auto& p, auto&& f) { f("alpha", p.alpha, "limit, with a minus sign, for negative values"); }
};
struct SoftplusParams {
  [[no_unique_address]] ByName by_name = ByName();
  double beta = 1.0;
  double threshold = 20.0;
  static constexpr void fields(auto& p, auto&& f) {
    f("beta", p.beta, "sharpness");
    f("threshold", p.threshold, "where beta * x is above it, the result is x");
  }
};

// One argument. Integers and bools become f32 where the function is not exact on them. NaN gives NaN.
Tensor abs(const Tensor& x);
Tensor neg(const Tensor& x);
Tensor sign(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor expm1(const Tensor& x);
Tensor log(const Tensor& x);
Tensor log1p(const Tensor& x);
Tensor log2(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tan(const Tensor& x);
Tensor sinh(const Tensor& x);
Tensor cosh(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor erf(const Tensor& x);
Tensor floor(const Tensor& x);
Tensor ceil(const Tensor& x);
/// To the nearest integer, ties to even.
Tensor round(const Tensor& x);
Tensor trunc(const Tensor& x);
Tensor relu(const Tensor& x);
Tensor leaky_relu(const Tensor& x, const LeakyReluParams& p = {});
Tensor elu(const Tensor& x, const EluParams& p = {});
Tensor gelu(const Tensor& x, const GeluParams& p = {});
Tensor silu(const Tensor& x);
Tensor softplus(const Tensor& x, const SoftplusParams& p = {});
Tensor hardswish(const Tensor& x);
Tensor mish(const Tensor& x);
Tensor selu(const Tensor& x);
Tensor isnan(const Tensor& x);
Tensor isinf(const Tensor& x);
Tensor isfinite(const Tensor& x);
Tensor logical_not(const Tensor& x);
/// Bitwise on integers, logical on bools.
Tensor bitwise_not(const Tensor& x);

/// |v| of a plain number: without it `abs(y.item() - 1)` would be C's abs(int) wherever namespace keel is open.
template <class T>
  requires std::is_floating_point_v<T>
constexpr T abs(T v) {
  return v < 0 ? -v : v == 0 ? T(0) : v;
}

// Two arguments, broadcast. A number takes the tensor's dtype where its kind allows.
Tensor add(const Operand& a, const Operand& b);
Tensor sub(const Operand& a, const Operand& b);
Tensor mul(const Operand& a, const Operand& b);
/// True division: integers give the default float.
Tensor div(const Operand& a, const Operand& b);
/// Rounds towards minus infinity, as Python's //. An integer divided by zero gives 0.
Tensor floor_divide(const Operand& a, const Operand& b);
/// Takes the sign of the divisor, as Python's %. An integer modulo zero gives 0.
Tensor remainder(const Operand& a, const Operand& b);
Tensor pow(const Operand& a, const Operand& b);
/// NaN where either is NaN. Ties share the gradient in halves.
Tensor maximum(const Operand& a, const Operand& b);
Tensor minimum(const Operand& a, const Operand& b);
Tensor equal(const Operand& a, const Operand& b);
Tensor not_equal(const Operand& a, const Operand& b);
Tensor less(const Operand& a, const Operand& b);
Tensor less_equal(const Operand& a, const Operand& b);
Tensor greater(const Operand& a, const Operand& b);
Tensor greater_equal(const Operand& a, const Operand& b);
Tensor logical_and(const Operand& a, const Operand& b);
Tensor logical_or(const Operand& a, const Operand& b);
Tensor logical_xor(const Operand& a, const Operand& b);
Tensor bitwise_and(const Operand& a, const Operand& b);
Tensor bitwise_or(const Operand& a, const Operand& b);
Tensor bitwise_xor(const Operand& a, const Operand& b);

/// Elements of `a` where `condition` is true, of `b` elsewhere.
Tensor where(const Tensor& condition, const Operand& a, const Operand& b);
/// min(max(x, lo), hi), NaN stays; the gradient is 1 on the closed interval.
Tensor clamp(const Tensor& x, const Operand& lo, const Operand& hi);
/// a + t * (b - a)
Tensor lerp(const Tensor& a, const Tensor& b, const Operand& t);
/// `v` where `mask` is true, `x` elsewhere.
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Operand& v);

}  // namespace keel
#pragma GCC visibility pop
