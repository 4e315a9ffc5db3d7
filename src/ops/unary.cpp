// Functions of one tensor, element by element. Those that are not exact on integers give the default float for them.
#include <numbers>

#include "ops/common.h"

namespace keel {
namespace {

template <class P>
Def<P>& exact(Def<P>& def, const char* doc, DTypeSet k) {
  return def.doc(doc).in("x", k).out("y").elementwise().infer(same_as_first);
}
template <class P>
Def<P>& real_function(Def<P>& def, const char* doc) {
  return def.doc(doc).in("x", kinds::floating).out("y").promote(Promote::to_float).elementwise().infer(same_as_first);
}
/// Gradient of functions that are constant between jumps.
constexpr auto no_slope = [](auto&, const VjpArgs& a) -> Tensors { return {zeros_like(a.g[0])}; };

}  // namespace

KEEL_OP(abs, NoParams) {
  exact(def, "|x|; the lowest signed integer stays itself.", kinds::real)
      .primitive()
      .onnx("Abs")
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], sign(a.in[0]))}; });
}
KEEL_OP(sign, NoParams) { exact(def, "-1, 0 or 1; NaN stays.", kinds::real).primitive().onnx("Sign").saves().vjp(no_slope); }
KEEL_OP(floor, NoParams) { exact(def, "The largest integer not above x.", kinds::real).primitive().onnx("Floor").saves().vjp(no_slope); }
KEEL_OP(ceil, NoParams) { exact(def, "The smallest integer not below x.", kinds::real).primitive().onnx("Ceil").saves().vjp(no_slope); }
KEEL_OP(round, NoParams) { exact(def, "The nearest integer, ties to even.", kinds::real).primitive().onnx("Round").saves().vjp(no_slope); }
KEEL_OP(trunc, NoParams) { exact(def, "The integer part.", kinds::real).primitive().onnx("Trunc").saves().vjp(no_slope); }
KEEL_OP(square, NoParams) {
  exact(def, "x * x", kinds::real)
      .risk(Risk::exp_range)
      .saves(In{0})
      .decompose([](auto&, Inputs in) { return mul(in[0], in[0]); })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], mul(a.in[0], 2))}; });
}

KEEL_OP(exp, NoParams) {
  real_function(def, "e to the power x.")
      .primitive()
      .onnx("Exp")
      .cast(Cast::fp32)
      .risk(Risk::exp_range)
      .watch_input(0, Risk::exp_range)
      .saves(Out{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], a.out[0])}; });
}
KEEL_OP(expm1, NoParams) {
  real_function(def, "exp(x) - 1, exact near 0.")
      .primitive()
      .cast(Cast::fp32)
      .risk(Risk::exp_range)
      .watch_input(0, Risk::exp_range)
      .saves(Out{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], add(a.out[0], 1))}; });
}
KEEL_OP(log, NoParams) {
  real_function(def, "Natural logarithm; -inf at 0, NaN below.")
      .primitive()
      .onnx("Log")
      .cast(Cast::fp32)
      .risk(Risk::domain)
      .watch_input(0, Risk::domain)
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {div(a.g[0], a.in[0])}; });
}
KEEL_OP(log1p, NoParams) {
  real_function(def, "log(1 + x), exact near 0.")
      .primitive()
      .cast(Cast::fp32)
      .risk(Risk::domain)
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {div(a.g[0], add(a.in[0], 1))}; });
}
KEEL_OP(log2, NoParams) {
  real_function(def, "Logarithm to base 2.")
      .primitive()
      .cast(Cast::fp32)
      .risk(Risk::domain)
      .watch_input(0, Risk::domain)
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {div(a.g[0], mul(a.in[0], std::numbers::ln2))}; });
}
KEEL_OP(sqrt, NoParams) {
  real_function(def, "Square root; NaN below 0. Its gradient at 0 is inf.")
      .primitive()
      .onnx("Sqrt")
      .risk(Risk::domain)
      .watch_input(0, Risk::domain)
      .saves(Out{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {div(a.g[0], mul(a.out[0], 2))}; });
}
KEEL_OP(rsqrt, NoParams) {
  real_function(def, "1 / sqrt(x); inf at 0, NaN below.")
      .cast(Cast::fp32)
      .risk(Risk::domain | Risk::divides)
      .watch_input(0, Risk::domain | Risk::divides)
      .saves(Out{0})
      .decompose([](auto&, Inputs in) { return like(reciprocal(sqrt(acc(in[0]))), in[0]); })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(mul(a.g[0], -0.5), mul(a.out[0], square(a.out[0])))}; });
}
KEEL_OP(reciprocal, NoParams) {
  real_function(def, "1 / x")
      .onnx("Reciprocal")
      .cast(Cast::fp32)
      .risk(Risk::divides)
      .watch_input(0, Risk::divides)
      .saves(Out{0})
      .decompose([](auto&, Inputs in) { return div(1, in[0]); })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {neg(mul(a.g[0], square(a.out[0])))}; });
}

KEEL_OP(sin, NoParams) {
  real_function(def, "Sine of an angle in radians.").primitive().onnx("Sin").saves(In{0}).vjp([](auto&, const VjpArgs& a) -> Tensors {
    return {mul(a.g[0], cos(a.in[0]))};
  });
}
KEEL_OP(cos, NoParams) {
  real_function(def, "Cosine of an angle in radians.").primitive().onnx("Cos").saves(In{0}).vjp([](auto&, const VjpArgs& a) -> Tensors {
    return {neg(mul(a.g[0], sin(a.in[0])))};
  });
}
KEEL_OP(tan, NoParams) {
  real_function(def, "Tangent of an angle in radians.")
      .primitive()
      .onnx("Tan")
      .risk(Risk::divides)
      .saves(Out{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], add(square(a.out[0]), 1))}; });
}
KEEL_OP(sinh, NoParams) {
  real_function(def, "Hyperbolic sine.")
      .primitive()
      .onnx("Sinh")
      .cast(Cast::fp32)
      .risk(Risk::exp_range)
      .watch_input(0, Risk::exp_range)
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], cosh(a.in[0]))}; });
}
KEEL_OP(cosh, NoParams) {
  real_function(def, "Hyperbolic cosine.")
      .primitive()
      .onnx("Cosh")
      .cast(Cast::fp32)
      .risk(Risk::exp_range)
      .watch_input(0, Risk::exp_range)
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], sinh(a.in[0]))}; });
}
KEEL_OP(erf, NoParams) {
  real_function(def, "Error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.")
      .primitive()
      .onnx("Erf")
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mul(a.g[0], mul(exp(neg(square(a.in[0]))), 2 * std::numbers::inv_sqrtpi))}; });
}

KEEL_OP(isnan, NoParams) {
  def.doc("Whether x is NaN.").in("x", kinds::ordered | kinds::fp8).out("y").primitive().elementwise().onnx("IsNaN").infer(bool_like_first);
}
KEEL_OP(isinf, NoParams) {
  def.doc("Whether x is infinite, of either sign.")
      .in("x", kinds::ordered | kinds::fp8)
      .out("y")
      .primitive()
      .elementwise()
      .onnx("IsInf")
      .infer(bool_like_first);
}
KEEL_OP(isfinite, NoParams) {
  def.doc("Whether x is neither NaN nor infinite.")
      .in("x", kinds::ordered | kinds::fp8)
      .out("y")
      .primitive()
      .elementwise()
      .infer(bool_like_first);
}
KEEL_OP(logical_not, NoParams) {
  def.doc("Whether x is zero or false.")
      .in("x", kinds::ordered | kinds::fp8)
      .out("y")
      .primitive()
      .elementwise()
      .onnx("Not")
      .infer(bool_like_first);
}
KEEL_OP(bitwise_not, NoParams) {
  def.doc("Every bit flipped; on bools: not.")
      .in("x", kinds::integer | kinds::boolean)
      .out("y")
      .primitive()
      .elementwise()
      .onnx("BitwiseNot")
      .infer(same_as_first);
}

Tensor abs(const Tensor& x) { return call(op_abs, NoParams{}, x); }
Tensor sign(const Tensor& x) { return call(op_sign, NoParams{}, x); }
Tensor floor(const Tensor& x) { return call(op_floor, NoParams{}, x); }
Tensor ceil(const Tensor& x) { return call(op_ceil, NoParams{}, x); }
Tensor round(const Tensor& x) { return call(op_round, NoParams{}, x); }
Tensor trunc(const Tensor& x) { return call(op_trunc, NoParams{}, x); }
Tensor square(const Tensor& x) { return call(op_square, NoParams{}, x); }
Tensor exp(const Tensor& x) { return call(op_exp, NoParams{}, x); }
Tensor expm1(const Tensor& x) { return call(op_expm1, NoParams{}, x); }
Tensor log(const Tensor& x) { return call(op_log, NoParams{}, x); }
Tensor log1p(const Tensor& x) { return call(op_log1p, NoParams{}, x); }
Tensor log2(const Tensor& x) { return call(op_log2, NoParams{}, x); }
Tensor sqrt(const Tensor& x) { return call(op_sqrt, NoParams{}, x); }
Tensor rsqrt(const Tensor& x) { return call(op_rsqrt, NoParams{}, x); }
Tensor reciprocal(const Tensor& x) { return call(op_reciprocal, NoParams{}, x); }
Tensor sin(const Tensor& x) { return call(op_sin, NoParams{}, x); }
Tensor cos(const Tensor& x) { return call(op_cos, NoParams{}, x); }
Tensor tan(const Tensor& x) { return call(op_tan, NoParams{}, x); }
Tensor sinh(const Tensor& x) { return call(op_sinh, NoParams{}, x); }
Tensor cosh(const Tensor& x) { return call(op_cosh, NoParams{}, x); }
Tensor erf(const Tensor& x) { return call(op_erf, NoParams{}, x); }
Tensor isnan(const Tensor& x) { return call(op_isnan, NoParams{}, x); }
Tensor isinf(const Tensor& x) { return call(op_isinf, NoParams{}, x); }
Tensor isfinite(const Tensor& x) { return call(op_isfinite, NoParams{}, x); }
Tensor logical_not(const Tensor& x) { return call(op_logical_not, NoParams{}, x); }
Tensor bitwise_not(const Tensor& x) { return call(op_bitwise_not, NoParams{}, x); }

}  // namespace keel
