// Safe roots, logarithms, powers, norms and softmax, and their gradients. Masked operands are replaced before the dangerous step.
#include <numbers>

#include "keel/ops/reduce.h"
#include "keel/ops/safe.h"
#include "keel/ops/softmax.h"
#include "ops/safe_common.h"

namespace keel {
namespace {

Tensor sqrt_safe_backward(const Tensor& g, const Tensor& x, const OtherwiseParams& p);
Tensor rsqrt_safe_backward(const Tensor& g, const Tensor& x, const OtherwiseParams& p);
Tensor log_safe_backward(const Tensor& g, const Tensor& x, const LogSafeParams& p);
Tensors pow_safe_backward(const Tensor& g, const Tensor& x, const Tensor& y, const OtherwiseParams& p);
Tensor norm_safe_backward(const Tensor& g, const Tensor& x, const Tensor& y);
Tensor normalize_safe_backward(const Tensor& g, const Tensor& x, const NormalizeSafeParams& p);
Tensor softmax_backward_of(const Tensor& g, const Tensor& y, int64_t axis);

constexpr auto with_otherwise = [](auto& p, Specs in) {
  check_fits(p.otherwise, in[0].dtype, "otherwise");
  return Spec{in[0].dtype, broadcast_all(in)};
};
template <class P>
Def<P>& function(Def<P>& def, const char* doc) {
  return def.doc(doc)
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .cast(Cast::fp32)
      .infer(with_otherwise)
      .saves(In{0});
}
template <class P>
Def<P>& slope(Def<P>& def, const char* doc) {
  return def.doc(doc).in("g", kinds::floating).in("x", kinds::floating).out("dx").elementwise().infer(broadcast_same);
}
constexpr auto log_infer = [](auto& p, Specs in) {
  check_value(p.base > 0 && p.base != 1 && std::isfinite(p.base), "base", "positive and not 1", p.base);
  return with_otherwise(p, in);
};

}  // namespace

KEEL_OP(sqrt_safe, OtherwiseParams) {
  function(def, "Square root; a default below 0; its gradient at 0 is 0.")
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]), bad = less(x, 0);
        return like(where(bad, p.otherwise, sqrt(where(bad, 1, x))), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {sqrt_safe_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(sqrt_safe_backward, OtherwiseParams) {
  slope(def, "g / (2 sqrt(x)), 0 where x <= 0.").decompose([](auto&, Inputs in) {
    const Tensor x = acc(in[1]), bad = less_equal(x, 0);
    return like(where(bad, 0, div(mul(acc(in[0]), 0.5), sqrt(where(bad, 1, x)))), in[0]);
  });
}
KEEL_OP(rsqrt_safe, OtherwiseParams) {
  function(def, "1 / sqrt(x); a default where x <= 0.")
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]), bad = less_equal(x, 0);
        return like(where(bad, p.otherwise, div(1, sqrt(where(bad, 1, x)))), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {rsqrt_safe_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(rsqrt_safe_backward, OtherwiseParams) {
  slope(def, "-g / (2 x sqrt(x)), 0 where x <= 0.").decompose([](auto&, Inputs in) {
    const Tensor x = acc(in[1]), bad = less_equal(x, 0), v = where(bad, 1, x);
    return like(where(bad, 0, div(div(mul(acc(in[0]), -0.5), sqrt(v)), v)), in[0]);
  });
}

KEEL_OP(log_safe, LogSafeParams) {
  function(def, "Logarithm to a base; a default where x <= 0.")
      .infer(log_infer)
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]), bad = less_equal(x, 0), v = where(bad, 1, x);
        const Tensor l = p.base == std::numbers::e ? log(v) : p.base == 2 ? log2(v) : div(log(v), std::log(p.base));
        return like(where(bad, p.otherwise, l), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {log_safe_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(log_safe_backward, LogSafeParams) {
  slope(def, "g / (x ln(base)), 0 where x <= 0.").decompose([](auto& p, Inputs in) {
    const Tensor x = acc(in[1]), bad = less_equal(x, 0), d = where(bad, 0, div(acc(in[0]), where(bad, 1, x)));
    return like(p.base == std::numbers::e ? d : mul(d, 1 / std::log(p.base)), in[0]);
  });
}

namespace {
/// What forward and backward of pow_safe share: the base with 1 where there is no power, the exponent without gradient where the base is
/// not positive, the power, and where the default stands.
struct Power {
  Tensor x, y, power, dead;
};
Power power_of(const Tensor& base, const Tensor& exponent) {
  const Tensor x = acc(base), y = acc(exponent), both = logical_and(isfinite(x), isfinite(y)), below = less(x, 0);
  const Tensor corner = logical_and(equal(x, 0), less(y, 0)), fraction = logical_and(below, not_equal(y, round(y)));
  const Tensor bad = logical_and(both, logical_or(corner, fraction));
  Power p;
  p.x = where(bad, 1, x), p.y = where(less_equal(x, 0), y.detach(), y);
  const Tensor over = logical_and(both, greater_equal(abs(pow(p.x.detach(), p.y.detach())), overflow_of(base.dtype())));
  p.dead = logical_or(bad, over), p.x = where(over, 1, p.x), p.power = pow(p.x, p.y);
  return p;
}
}  // namespace

KEEL_OP(pow_safe, OtherwiseParams) {
  def.doc("base to the power of exponent; a default where there is no real result or it overflows.")
      .in("base", kinds::floating)
      .in("exponent", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .cast(Cast::fp32)
      .infer(with_otherwise)
      .decompose([](auto& p, Inputs in) {
        const Power w = power_of(in[0], in[1]);
        return like(where(w.dead, p.otherwise, w.power), in[0]);
      })
      .saves(In{0}, In{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return pow_safe_backward(a.g[0], a.in[0], a.in[1], p); });
}
KEEL_OP(pow_safe_backward, OtherwiseParams) {
  def.doc("g y x^(y-1) and g x^y log(x), 0 where the default stands; the second also where x <= 0.")
      .in("g", kinds::floating)
      .in("base", kinds::floating)
      .in("exponent", kinds::floating)
      .out("dbase")
      .out("dexponent")
      .elementwise()
      .infer([](auto&, Specs in) {
        const Spec s{in[0].dtype, broadcast_all(in)};
        return SpecList{s, s};
      })
      .decompose([](auto&, Inputs in) -> Tensors {
        const Tensor g = acc(in[0]);
        const Power w = power_of(in[1], in[2]);
        const Tensor still = logical_or(w.dead, equal(w.y, 0)), x = where(still, 1, w.x);
        const Tensor dx = where(still, 0, mul(g, mul(w.y, pow(x, sub(w.y, 1)))));
        const Tensor none = logical_or(w.dead, less_equal(w.x, 0)), up = where(none, 1, w.x);
        const Tensor dy = where(none, 0, mul(g, mul(pow(up, w.y), log(up))));
        return {like(dx, in[0]), like(dy, in[0])};
      });
}

KEEL_OP(norm_safe, NormSafeParams) {
  def.doc("sqrt(sum of x^2) over axes, scaled by the largest |x|; its gradient is 0 where it is 0.")
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .cast(Cast::fp32)
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        return Spec{in[0].dtype, reduced_shape(in[0].shape, check_axes(p.axis, in[0]), p.keepdim)};
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]);
        const Spec& s = impl(in[0]).spec;
        if (reduced_count(s, p.axis) == 0) return like(sum(x, {.axis = p.axis, .keepdim = p.keepdim}), in[0]);
        const Tensor top = max(abs(x), {.axis = p.axis, .keepdim = true});
        const Tensor plain = logical_or(equal(top, 0), logical_not(isfinite(top))), scale = where(plain, 1, top);
        const Tensor root = mul(sqrt(sum(square(div(x, scale)), {.axis = p.axis, .keepdim = true})), scale);
        return like(p.keepdim ? root : reshape(root, reduced_shape(s.shape, check_axes(p.axis, s), false)), in[0]);
      })
      .saves(In{0}, Out{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Spec& s = a.in_specs[0];
        const Tensor g = unreduce(a.g[0], s, p.axis, p.keepdim), y = unreduce(a.out[0], s, p.axis, p.keepdim);
        return {norm_safe_backward(g, a.in[0], y)};
      });
}
KEEL_OP(norm_safe_backward, NoParams) {
  def.doc("g x / y, 0 where the norm y is 0.")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .in("y", kinds::floating)
      .out("dx")
      .elementwise()
      .infer(broadcast_same)
      .decompose([](auto&, Inputs in) {
        const Tensor y = acc(in[2]), none = equal(y, 0);
        return like(where(none, 0, mul(acc(in[0]), div(acc(in[1]), where(none, 1, y)))), in[0]);
      });
}

KEEL_OP(normalize_safe, NormalizeSafeParams) {
  def.doc("x / max(norm, eps) along an axis.")
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .cast(Cast::fp32)
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_value(p.eps > 0, "eps", "positive", p.eps);
        check_value(!(p.grad_cap <= 0), "grad_cap", "positive", p.grad_cap);
        check_axis(p.axis, in[0]);
        return in[0];
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]);
        return like(div(x, maximum(norm_safe(x, {.axis = {p.axis}, .keepdim = true}), p.eps)), in[0]);
      })
      .saves(In{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {normalize_safe_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(normalize_safe_backward, NormalizeSafeParams) {
  def.doc("(g - y sum(g y)) / norm, with y = x / norm; g / eps where the norm is below eps.")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .out("dx")
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_same_shape(in[0], in[1], "g and x");
        check_axis(p.axis, in[0]);
        return in[0];
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[1]), g = acc(in[0]), n = norm_safe(x, {.axis = {p.axis}, .keepdim = true}), tiny = less_equal(n, p.eps);
        const Tensor size = where(tiny, p.eps, n), y = div(x, size), along = mul(y, sum(mul(g, y), {.axis = {p.axis}, .keepdim = true}));
        const Tensor turned = where(tiny, g, sub(g, along));
        const Tensor d = std::isnan(p.grad_cap) ? div(turned, size) : mul(turned, minimum(div(1, size), p.grad_cap));
        return like(d, in[0]);
      });
}

KEEL_OP(softmax_safe, SoftmaxParams) {
  def.doc("softmax; zeros for a row of -inf.")
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .cast(Cast::fp32)
      .risk(Risk::exp_range)
      .infer([](auto& p, Specs in) {
        check_axis(p.axis, in[0]);
        return in[0];
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]);
        if (x.size() == 0) return like(x, in[0]);
        const Tensor dead = equal(max(x.detach(), {.axis = {p.axis}, .keepdim = true}), -std::numeric_limits<double>::infinity());
        return like(where(dead, 0, softmax(where(dead, 0, x), {.axis = p.axis})), in[0]);
      })
      .saves(Out{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor& y = a.out[0];
        return {softmax_backward_of(where(equal(y, 0), 0, a.g[0]), y, p.axis)};  // what comes to a masked entry is dropped, NaN too
      });
}

Tensor sqrt_safe(const Tensor& x, const OtherwiseParams& p) { return call(op_sqrt_safe, p, x); }
Tensor rsqrt_safe(const Tensor& x, const OtherwiseParams& p) { return call(op_rsqrt_safe, p, x); }
Tensor log_safe(const Tensor& x, const LogSafeParams& p) { return call(op_log_safe, p, x); }
Tensor pow_safe(const Operand& base, const Operand& exponent, const OtherwiseParams& p) {
  return call(op_pow_safe, p, base.tensor(), exponent.tensor());
}
Tensor norm_safe(const Tensor& x, const NormSafeParams& p) { return call(op_norm_safe, p, x); }
Tensor normalize_safe(const Tensor& x, const NormalizeSafeParams& p) { return call(op_normalize_safe, p, x); }
Tensor softmax_safe(const Tensor& x, const SoftmaxParams& p) { return call(op_softmax_safe, p, x); }
extern OpDef op_softmax_backward;
namespace {
Tensor sqrt_safe_backward(const Tensor& g, const Tensor& x, const OtherwiseParams& p) { return call(op_sqrt_safe_backward, p, g, x); }
Tensor rsqrt_safe_backward(const Tensor& g, const Tensor& x, const OtherwiseParams& p) { return call(op_rsqrt_safe_backward, p, g, x); }
Tensor log_safe_backward(const Tensor& g, const Tensor& x, const LogSafeParams& p) { return call(op_log_safe_backward, p, g, x); }
Tensors pow_safe_backward(const Tensor& g, const Tensor& x, const Tensor& y, const OtherwiseParams& p) {
  return call_all(op_pow_safe_backward, p, g, x, y);
}
Tensor norm_safe_backward(const Tensor& g, const Tensor& x, const Tensor& y) { return call(op_norm_safe_backward, NoParams{}, g, x, y); }
Tensor normalize_safe_backward(const Tensor& g, const Tensor& x, const NormalizeSafeParams& p) {
  return call(op_normalize_safe_backward, p, g, x);
}
Tensor softmax_backward_of(const Tensor& g, const Tensor& y, int64_t axis) {
  return call(op_softmax_backward, SoftmaxParams{.axis = axis}, g, y);
}
}  // namespace

}  // namespace keel
