// Soft clamp, relu and comparisons, and their gradients. The decompositions take the same branches as the kernels: exp of negative numbers
// only, the form of two equal ones in which nothing cancels, sigmoid(z) sigmoid(-z) for s (1 - s).
#include "keel/ops/soft.h"

#include <limits>

#include "ops/safe_common.h"

namespace keel {
namespace {

Tensor soft_clamp_backward(const Tensor& g, const Tensor& x, const Tensor& lo, const Tensor& hi, const Tensor& sharpness,
                           const SoftClampParams& p);
Tensors soft_near_backward(const Tensor& g, const Tensor& a, const Tensor& b, const SoftNearParams& p);
Tensors soft_compare_backward(const Tensor& g, const Tensor& a, const Tensor& b, const SoftCompareParams& p);

/// log(1 + exp(-beta |z|)) / beta.
Tensor rest(const Tensor& z, const Operand& beta) { return div(log1p(exp(neg(mul(abs(z), beta)))), beta); }
Tensor soft_plus(const Tensor& z, const Operand& beta) { return add(maximum(z, 0), rest(z, beta)); }

constexpr auto clamp_infer = [](auto& p, Specs in) {
  check_value(p.beta > 0 && std::isfinite(p.beta), "beta", "positive", p.beta);
  check_value(p.leak >= 0 && p.leak <= 1, "leak", "in [0, 1]", p.leak);
  return Spec{in[0].dtype, broadcast_all(in)};
};
/// Below the middle base = lo, u = x - lo, v = x - hi; above it base = hi, u = lo - x, v = hi - x.
struct Sides {
  Tensor upper, base, u, v;
  Sides(const Tensor& x, const Tensor& lo, const Tensor& hi) {
    upper = greater_equal(x, mul(add(lo, hi), 0.5)), base = where(upper, hi, lo);
    u = where(upper, sub(lo, x), sub(x, lo)), v = where(upper, sub(hi, x), sub(x, hi));
  }
};

}  // namespace

KEEL_OP(soft_clamp, SoftClampParams) {
  def.doc("lo + softplus(x - lo) - softplus(x - hi) of sharpness beta: a smooth clamp.")
      .in("x", kinds::floating)
      .in("lo", kinds::floating)
      .in("hi", kinds::floating)
      .opt("sharpness", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_bounds(1, 2, true);
        return clamp_infer(p, in);
      })
      .decompose([](auto& p, Inputs in) {
        const Operand beta = in.has(3) ? Operand(acc(in[3])) : Operand(p.beta);
        const Sides s(acc(in[0]), acc(in[1]), acc(in[2]));
        Tensor f = add(s.base, sub(soft_plus(s.u, beta), soft_plus(s.v, beta)));
        if (p.leak != 0) {
          const Tensor beyond = soft_plus(where(s.upper, neg(s.v), s.v), beta), under = soft_plus(where(s.upper, s.u, neg(s.u)), beta);
          f = add(f, mul(sub(beyond, under), p.leak));
        }
        return like(f, in[0]);
      })
      .saves([](auto&, Needs) { return Saves(In{0}, In{1}, In{2}, In{3}); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor absent, &sharpness = a.in.has(3) ? a.in[3] : absent;
        Tensors g(a.in.size());
        if (a.needs[0]) g[0] = soft_clamp_backward(a.g[0], a.in[0], a.in[1], a.in[2], sharpness, p);
        if (!(a.needs.bits & 14)) return g;
        const Operand beta = sharpness.defined() ? Operand(acc(sharpness)) : Operand(p.beta);
        const Tensor below = sub(acc(a.in[1]), acc(a.in[0])), above = sub(acc(a.in[0]), acc(a.in[2])), full = mul(acc(a.g[0]), 1 - p.leak);
        if (a.needs[1]) g[1] = mul(full, sigmoid(mul(below, beta)));
        if (a.needs[2]) g[2] = mul(full, sigmoid(mul(above, beta)));
        if (a.in.size() > 3 && a.needs[3]) {
          const auto bend = [&](const Tensor& z) {  // |z| sigmoid(-beta |z|) + log(1 + exp(-beta |z|)) / beta, 0 for an infinity
            const Tensor far = isinf(z), size = abs(where(far, 0, z));
            return where(far, 0, add(mul(size, sigmoid(neg(mul(size, beta)))), rest(size, beta)));
          };
          g[3] = div(mul(full, sub(bend(above), bend(below))), beta);
        }
        return g;
      });
}
KEEL_OP(soft_clamp_backward, SoftClampParams) {
  def.doc("g (sigmoid(beta (x - lo)) - sigmoid(beta (x - hi)) + leak times what that lacks to 1).")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .in("lo", kinds::floating)
      .in("hi", kinds::floating)
      .opt("sharpness", kinds::floating)
      .out("dx")
      .elementwise()
      .fallback(Fallback::ok)
      .infer(broadcast_same)
      .decompose([](auto& p, Inputs in) {
        const Operand beta = in.has(4) ? Operand(acc(in[4])) : Operand(p.beta);
        const Sides s(acc(in[1]), acc(in[2]), acc(in[3]));
        const Tensor su = sigmoid(mul(s.u, beta)), sv = sigmoid(mul(s.v, beta)), slope = where(s.upper, sub(sv, su), sub(su, sv));
        return like(mul(acc(in[0]), p.leak == 0 ? slope : add(slope, mul(sub(1, slope), p.leak))), in[0]);
      });
}

KEEL_OP(soft_relu, SoftReluParams) {
  def.doc("log(1 + exp(beta x)) / beta.")
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_value(p.beta > 0 && std::isfinite(p.beta), "beta", "positive", p.beta);
        return in[0];
      })
      .decompose(
          [](auto& p, Inputs in) { return softplus(in[0], {.beta = p.beta, .threshold = std::numeric_limits<double>::infinity()}); });
}

namespace {
/// What soft_near and its gradient share; operands are 0 where one is infinite and neither is NaN.
struct NearParts {
  Tensor a, b, apart, tol, distance, z, at_zero, far;
  NearParts(const Tensor& x, const Tensor& y, const SoftNearParams& p) {
    const numerics::Tolerance own = tolerance_of(x.dtype());
    a = acc(x), b = acc(y);
    const Tensor known = logical_not(logical_or(isnan(a), isnan(b)));
    far = logical_and(known, logical_or(isinf(a), isinf(b))), apart = logical_and(far, not_equal(a, b));
    a = where(far, 0, a), b = where(far, 0, b);
    tol = maximum(mul(maximum(abs(a), abs(b)), given_or(p.rel_tol, own.rel)), given_or(p.abs_tol, own.abs));
    if (p.detach_tol) tol = tol.detach();
    distance = abs(sub(a, b));
    if (std::isnan(p.temperature)) {
      const Tensor none = equal(tol, 0), beyond = where(equal(distance, 0), 0, std::numeric_limits<double>::infinity());
      z = mul(sub(1, where(none, beyond, div(distance, where(none, 1, tol)))), 4), at_zero = full_like(tol, 4);
    } else {
      z = div(sub(tol, distance), p.temperature), at_zero = div(tol, p.temperature);
    }
  }
};
constexpr auto near_infer = [](auto& p, Specs in) {
  check_not_negative(p.rel_tol, "rel_tol"), check_not_negative(p.abs_tol, "abs_tol");
  check_value(!(p.temperature <= 0), "temperature", "positive", p.temperature);
  return Spec{in[0].dtype, broadcast_all(in)};
};
constexpr auto compare_infer = [](auto& p, Specs in) {
  check_value(p.temperature > 0, "temperature", "positive", p.temperature);
  return Spec{in[0].dtype, broadcast_all(in)};
};
template <class P>
Def<P>& of_two(Def<P>& def, const char* doc) {
  return def.doc(doc)
      .in("a", kinds::floating)
      .in("b", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .saves(In{0}, In{1});
}
template <class P>
Def<P>& to_two(Def<P>& def, const char* doc) {
  return def.doc(doc)
      .in("g", kinds::floating)
      .in("a", kinds::floating)
      .in("b", kinds::floating)
      .out("da")
      .out("db")
      .elementwise()
      .infer([](auto&, Specs in) {
        const Spec s{in[0].dtype, broadcast_all(in)};
        return SpecList{s, s};
      });
}
}  // namespace

KEEL_OP(soft_near, SoftNearParams) {
  of_two(def, "sigmoid((tol - |a - b|) / temperature), tol = max(rel_tol max(|a|, |b|), abs_tol).")
      .infer(near_infer)
      .decompose([](auto& p, Inputs in) {
        const NearParts n(in[0], in[1], p);
        const Tensor s = sigmoid(n.z);
        return like(where(n.apart, 0, p.normalized ? div(s, sigmoid(n.at_zero)) : s), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return soft_near_backward(a.g[0], a.in[0], a.in[1], p); });
}
KEEL_OP(soft_near_backward, SoftNearParams) {
  to_two(def, "Gradients of soft_near: along the distance, and along the tolerance, which grows with the larger of |a| and |b|.")
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor g = acc(in[0]);
        const NearParts n(in[1], in[2], p);
        const double rel = given_or(p.rel_tol, tolerance_of(in[1].dtype()).rel),
                     least = given_or(p.abs_tol, tolerance_of(in[1].dtype()).abs);
        const Tensor s = sigmoid(n.z), bell = mul(s, sigmoid(neg(n.z))), top = p.normalized ? sigmoid(n.at_zero) : ones_like(s);
        const Tensor bent = div(bell, top);
        Tensor along, grown;
        if (std::isnan(p.temperature)) {
          const Tensor none = equal(n.tol, 0), by = where(none, 1, n.tol);
          along = where(none, 0, div(mul(bent, 4), by));
          const Tensor still = logical_or(equal(bell, 0), equal(n.distance, 0));
          grown = where(still, 0, mul(where(still, 0, along), div(where(still, 0, n.distance), by)));
        } else {
          along = grown = div(bent, p.temperature);
          if (p.normalized) grown = sub(grown, div(mul(div(s, top), sigmoid(neg(n.at_zero))), p.temperature));
        }
        const Tensor step = where(greater(n.a, n.b), along, where(less(n.a, n.b), neg(along), 0));
        Tensor ga = neg(step), gb = step;
        if (!p.detach_tol) {
          const Tensor x = abs(n.a), y = abs(n.b), scaled = greater(mul(maximum(x, y), rel), least),
                       rise = where(scaled, mul(grown, rel), 0);
          const Tensor to_a = where(greater(x, y), 1.0, where(less(x, y), 0.0, 0.5));
          ga = add(ga, mul(mul(rise, to_a), sign(n.a))), gb = add(gb, mul(mul(rise, sub(1, to_a)), sign(n.b)));
        }
        return {like(where(n.far, 0, mul(g, ga)), in[0]), like(where(n.far, 0, mul(g, gb)), in[0])};
      });
}

namespace {
/// (a - b) / temperature, 0 for equal infinities.
Tensor scaled_difference(const Tensor& a, const Tensor& b, double temperature) {
  const Tensor same = logical_and(isinf(a), equal(a, b));
  return div(sub(where(same, 0, a), where(same, 0, b)), temperature);
}
}  // namespace

KEEL_OP(soft_compare, SoftCompareParams) {
  of_two(def, "tanh((a - b) / temperature).")
      .infer(compare_infer)
      .decompose([](auto& p, Inputs in) { return like(tanh(scaled_difference(acc(in[0]), acc(in[1]), p.temperature)), in[0]); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return soft_compare_backward(a.g[0], a.in[0], a.in[1], p); });
}
KEEL_OP(soft_compare_backward, SoftCompareParams) {
  to_two(def, "g (1 - tanh^2) / temperature and its negative; 0 where an operand is infinite.")
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor far = logical_or(isinf(acc(in[1])), isinf(acc(in[2]))), a = where(far, 0, acc(in[1])), b = where(far, 0, acc(in[2]));
        const Tensor twice = mul(scaled_difference(a, b, p.temperature), 2),
                     slope = mul(mul(sigmoid(twice), sigmoid(neg(twice))), 4 / p.temperature);
        const Tensor ga = where(far, 0, mul(acc(in[0]), slope));
        return {like(ga, in[0]), like(neg(ga), in[0])};
      });
}

Tensor soft_clamp(const Tensor& x, const Operand& lo, const Operand& hi, const SoftClampParams& p) {
  return call(op_soft_clamp, p, x, lo.tensor(), hi.tensor());
}
Tensor soft_clamp(const Tensor& x, const Operand& lo, const Operand& hi, const Tensor& sharpness, const SoftClampParams& p) {
  return call(op_soft_clamp, p, x, lo.tensor(), hi.tensor(), sharpness);
}
Tensor soft_relu(const Tensor& x, const SoftReluParams& p) { return call(op_soft_relu, p, x); }
Tensor soft_near(const Operand& a, const Operand& b, const SoftNearParams& p) { return call(op_soft_near, p, a.tensor(), b.tensor()); }
Tensor soft_compare(const Operand& a, const Operand& b, const SoftCompareParams& p) {
  return call(op_soft_compare, p, a.tensor(), b.tensor());
}
namespace {
Tensor soft_clamp_backward(const Tensor& g, const Tensor& x, const Tensor& lo, const Tensor& hi, const Tensor& sharpness,
                           const SoftClampParams& p) {
  return sharpness.defined() ? call(op_soft_clamp_backward, p, g, x, lo, hi, sharpness) : call(op_soft_clamp_backward, p, g, x, lo, hi);
}
Tensors soft_near_backward(const Tensor& g, const Tensor& a, const Tensor& b, const SoftNearParams& p) {
  return call_all(op_soft_near_backward, p, g, a, b);
}
Tensors soft_compare_backward(const Tensor& g, const Tensor& a, const Tensor& b, const SoftCompareParams& p) {
  return call_all(op_soft_compare_backward, p, g, a, b);
}
}  // namespace

}  // namespace keel
