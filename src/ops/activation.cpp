// Activations and their backward forms. Every `*_backward` row is made of parts that are differentiable themselves, so that second derivatives come from the parts; where a branch is masked out, its argument
// is masked too, or an overflow there would turn a zero cotangent into NaN.
#include "ops/activation.h"

#include <cmath>
#include <numbers>

#include "ops/common.h"

namespace keel {
namespace {

template <class P>
Def<P>& activation(Def<P>& def, const char* doc) {
  return def.doc(doc).in("x", kinds::floating).out("y").promote(Promote::to_float).elementwise().infer(same_as_first);
}
template <class P>
Def<P>& backward(Def<P>& def, const char* doc, const char* second) {
  return def.doc(doc).in("g", kinds::floating).in(second, kinds::floating).out("dx").elementwise().infer(broadcast_same);
}

constexpr double kSeluAlpha = 1.6732632423543772848170429916717, kSeluScale = 1.0507009873554804934193349852946;  // Klambauer et al. 2017
constexpr SoftplusParams kNoThreshold{.threshold = HUGE_VAL};
constexpr double kGeluCubic = 0.044715;
constexpr double kRoot2OverPi = 0.79788456080286535587989211986876;

/// 1 / (1 + exp(-x)) without overflow on either side.
Tensor logistic(const Tensor& x) {
  const Tensor e = exp(neg(abs(x)));
  return div(where(greater_equal(x, 0), 1, e), add(e, 1));
}
/// log1p(exp(x)) without overflow.
Tensor soft(const Tensor& x) { return add(maximum(x, 0), log1p(exp(neg(abs(x))))); }
Tensor gelu_inner(const Tensor& x) { return mul(mul(x, add(mul(square(x), kGeluCubic), 1)), kRoot2OverPi); }

}  // namespace

KEEL_OP(tanh, NoParams) {
  activation(def, "Hyperbolic tangent.").primitive().onnx("Tanh").saves(Out{0}).vjp([](auto&, const VjpArgs& a) -> Tensors {
    return {tanh_backward(a.g[0], a.out[0])};
  });
}
KEEL_OP(tanh_backward, NoParams) {
  backward(def, "g (1 - y^2), from y = tanh(x).", "y").decompose([](auto&, Inputs in) {
    const Tensor y = acc(in[1]);
    return like(mul(acc(in[0]), mul(sub(1, y), add(y, 1))), in[0]);
  });
}

KEEL_OP(sigmoid, NoParams) {
  activation(def, "1 / (1 + exp(-x))")
      .onnx("Sigmoid")
      .saves(Out{0})
      .decompose([](auto&, Inputs in) { return like(logistic(acc(in[0])), in[0]); })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {sigmoid_backward(a.g[0], a.out[0])}; });
}
KEEL_OP(sigmoid_backward, NoParams) {
  backward(def, "g y (1 - y), from y = sigmoid(x).", "y").decompose([](auto&, Inputs in) {
    const Tensor y = acc(in[1]);
    return like(mul(acc(in[0]), mul(y, sub(1, y))), in[0]);
  });
}

KEEL_OP(relu, NoParams) {
  def.doc("max(x, 0)")
      .in("x", kinds::real)
      .out("y")
      .elementwise()
      .onnx("Relu")
      .infer(same_as_first)
      .saves(Out{0})
      .decompose([](auto&, Inputs in) { return maximum(in[0], 0); })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {relu_backward(a.g[0], a.out[0])}; });
}
KEEL_OP(relu_backward, NoParams) {
  backward(def, "g where y = relu(x) is not 0; the slope at 0 is 0.", "y").decompose([](auto&, Inputs in) {
    return where(less_equal(in[1], 0), 0, in[0]);
  });
}

KEEL_OP(leaky_relu, LeakyReluParams) {
  activation(def, "x above 0, slope * x below.")
      
      .saves(In{0})
      .decompose([](auto& p, Inputs in) { return where(greater(in[0], 0), in[0], mul(in[0], p.slope)); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {leaky_relu_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(leaky_relu_backward, LeakyReluParams) {
  backward(def, "g where x is above 0, slope * g elsewhere.", "x").decompose([](auto& p, Inputs in) {
    return where(greater(in[1], 0), in[0], mul(in[0], p.slope));
  });
}

KEEL_OP(elu, EluParams) {
  activation(def, "x above 0, alpha * (exp(x) - 1) below.")
      .onnx("Elu")
      .saves(In{0})
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]), above = greater(x, 0);
        return like(where(above, x, mul(expm1(where(above, 0, x)), p.alpha)), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {elu_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(elu_backward, EluParams) {
  backward(def, "g where x is above 0, g alpha exp(x) elsewhere.", "x").decompose([](auto& p, Inputs in) {
    const Tensor g = acc(in[0]), x = acc(in[1]), above = greater(x, 0);
    return like(where(above, g, mul(g, mul(exp(where(above, 0, x)), p.alpha))), in[0]);
  });
}

KEEL_OP(selu, NoParams) {
  activation(def, "scale * (x above 0, alpha * (exp(x) - 1) below), with the constants that keep mean 0 and variance 1.")
      .onnx("Selu")
      .saves(In{0})
      .decompose([](auto&, Inputs in) { return like(mul(elu(acc(in[0]), {.alpha = kSeluAlpha}), kSeluScale), in[0]); })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {selu_backward(a.g[0], a.in[0])}; });
}
KEEL_OP(selu_backward, NoParams) {
  backward(def, "scale * (g where x is above 0, g alpha exp(x) elsewhere).", "x").decompose([](auto&, Inputs in) {
    return like(mul(elu_backward(acc(in[0]), acc(in[1]), {.alpha = kSeluAlpha}), kSeluScale), in[0]);
  });
}

KEEL_OP(gelu, GeluParams) {
  activation(def, "x times the normal distribution function of x, or its tanh form.")
      .onnx("Gelu")
      .saves(In{0})
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]);
        const Tensor t = p.approximate == Gelu::tanh ? tanh(gelu_inner(x)) : erf(mul(x, std::numbers::sqrt2 / 2));
        return like(mul(mul(x, 0.5), add(t, 1)), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {gelu_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(gelu_backward, GeluParams) {
  backward(def, "g times the slope of gelu at x.", "x").decompose([](auto& p, Inputs in) {
    const Tensor g = acc(in[0]), x = acc(in[1]);
    if (p.approximate == Gelu::tanh) {
      const Tensor t = tanh(gelu_inner(x)), inner = mul(add(mul(square(x), 3 * kGeluCubic), 1), kRoot2OverPi);
      return like(mul(g, add(mul(add(t, 1), 0.5), mul(mul(mul(x, 0.5), mul(sub(1, t), add(t, 1))), inner))), in[0]);
    }
    const Tensor cdf = mul(add(erf(mul(x, std::numbers::sqrt2 / 2)), 1), 0.5);
    const Tensor pdf = mul(exp(mul(square(x), -0.5)), std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
    return like(mul(g, add(cdf, mul(x, pdf))), in[0]);
  });
}

KEEL_OP(silu, NoParams) {
  activation(def, "x * sigmoid(x)")
      .saves(In{0})
      .decompose([](auto&, Inputs in) {
        const Tensor x = acc(in[0]);
        return like(mul(x, sigmoid(x)), in[0]);
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {silu_backward(a.g[0], a.in[0])}; });
}
KEEL_OP(silu_backward, NoParams) {
  backward(def, "g s (1 + x (1 - s)), with s = sigmoid(x).", "x").decompose([](auto&, Inputs in) {
    const Tensor x = acc(in[1]), s = sigmoid(x);
    return like(mul(acc(in[0]), mul(s, add(mul(x, sub(1, s)), 1))), in[0]);
  });
}

KEEL_OP(softplus, SoftplusParams) {
  activation(def, "log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold.")
      .saves(In{0})
      .risk(Risk::exp_range)
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]), bx = mul(x, p.beta), straight = greater(bx, p.threshold);
        return like(where(straight, x, div(soft(where(straight, 0, bx)), p.beta)), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {softplus_backward(a.g[0], a.in[0], p)}; });
}
KEEL_OP(softplus_backward, SoftplusParams) {
  backward(def, "g sigmoid(beta x); g itself where beta x is above the threshold.", "x").decompose([](auto& p, Inputs in) {
    const Tensor g = acc(in[0]), bx = mul(acc(in[1]), p.beta);
    return like(where(greater(bx, p.threshold), g, mul(g, sigmoid(bx))), in[0]);
  });
}

KEEL_OP(hardswish, NoParams) {
  activation(def, "x * clamp(x + 3, 0, 6) / 6")
      .onnx("HardSwish")
      .saves(In{0})
      .decompose([](auto&, Inputs in) {
        const Tensor x = acc(in[0]);
        return like(mul(x, div(clamp(add(x, 3), 0, 6), 6)), in[0]);
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {hardswish_backward(a.g[0], a.in[0])}; });
}
KEEL_OP(hardswish_backward, NoParams) {
  backward(def, "0 up to x = -3, g from x = 3 on, g (x / 3 + 1 / 2) between.", "x").decompose([](auto&, Inputs in) {
    const Tensor g = acc(in[0]), x = acc(in[1]);
    return like(where(less_equal(x, -3), 0, where(less(x, 3), mul(g, add(div(x, 3), 0.5)), g)), in[0]);
  });
}

KEEL_OP(mish, NoParams) {
  activation(def, "x * tanh(log(1 + exp(x)))")
      .onnx("Mish")
      .saves(In{0})
      .decompose([](auto&, Inputs in) {
        const Tensor x = acc(in[0]);
        return like(mul(x, tanh(softplus(x, kNoThreshold))), in[0]);
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {mish_backward(a.g[0], a.in[0])}; });
}
KEEL_OP(mish_backward, NoParams) {
  backward(def, "g (t + x s (1 - t^2)), with t = tanh(log(1 + exp(x))) and s = sigmoid(x).", "x").decompose([](auto&, Inputs in) {
    const Tensor x = acc(in[1]), t = tanh(softplus(x, kNoThreshold));
    return like(mul(acc(in[0]), add(t, mul(mul(x, sigmoid(x)), mul(sub(1, t), add(t, 1))))), in[0]);
  });
}

Tensor tanh(const Tensor& x) { return call(op_tanh, NoParams{}, x); }
Tensor sigmoid(const Tensor& x) { return call(op_sigmoid, NoParams{}, x); }
Tensor relu(const Tensor& x) { return call(op_relu, NoParams{}, x); }
Tensor leaky_relu(const Tensor& x, const LeakyReluParams& p) { return call(op_leaky_relu, p, x); }
Tensor elu(const Tensor& x, const EluParams& p) { return call(op_elu, p, x); }
Tensor selu(const Tensor& x) { return call(op_selu, NoParams{}, x); }
Tensor gelu(const Tensor& x, const GeluParams& p) { return call(op_gelu, p, x); }
Tensor silu(const Tensor& x) { return call(op_silu, NoParams{}, x); }
Tensor softplus(const Tensor& x, const SoftplusParams& p) { return call(op_softplus, p, x); }
Tensor hardswish(const Tensor& x) { return call(op_hardswish, NoParams{}, x); }
Tensor mish(const Tensor& x) { return call(op_mish, NoParams{}, x); }
Tensor tanh_backward(const Tensor& g, const Tensor& y) { return call(op_tanh_backward, NoParams{}, g, y); }
Tensor sigmoid_backward(const Tensor& g, const Tensor& y) { return call(op_sigmoid_backward, NoParams{}, g, y); }
Tensor relu_backward(const Tensor& g, const Tensor& y) { return call(op_relu_backward, NoParams{}, g, y); }
Tensor leaky_relu_backward(const Tensor& g, const Tensor& x, const LeakyReluParams& p) { return call(op_leaky_relu_backward, p, g, x); }
Tensor elu_backward(const Tensor& g, const Tensor& x, const EluParams& p) { return call(op_elu_backward, p, g, x); }
Tensor selu_backward(const Tensor& g, const Tensor& x) { return call(op_selu_backward, NoParams{}, g, x); }
Tensor gelu_backward(const Tensor& g, const Tensor& x, const GeluParams& p) { return call(op_gelu_backward, p, g, x); }
Tensor silu_backward(const Tensor& g, const Tensor& x) { return call(op_silu_backward, NoParams{}, g, x); }
Tensor softplus_backward(const Tensor& g, const Tensor& x, const SoftplusParams& p) { return call(op_softplus_backward, p, g, x); }
Tensor hardswish_backward(const Tensor& g, const Tensor& x) { return call(op_hardswish_backward, NoParams{}, g, x); }
Tensor mish_backward(const Tensor& g, const Tensor& x) { return call(op_mish_backward, NoParams{}, g, x); }

}  // namespace keel
