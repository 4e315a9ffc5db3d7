// Safe arithmetic: div_safe, sanitize, clamp_to_zero, clamp_safe, and their gradients. Decompositions replace a masked operand before the
// dangerous step and select afterwards, so that neither values nor gradients of masked elements get out, in derivatives of any order.
#include "keel/ops/safe.h"

#include "ops/safe_common.h"

namespace keel {
namespace {

Tensors div_safe_backward(const Tensor& g, const Tensor& a, const Tensor& b, const DivSafeParams& p);
Tensor sanitize_backward(const Tensor& g, const Tensor& x);
Tensor clamp_to_zero_backward(const Tensor& g, const Tensor& x, const ClampToZeroParams& p);
Tensor clamp_safe_backward(const Tensor& g, const Tensor& x, const Tensor& lo, const Tensor& hi, const ClampSafeParams& p);

Tensor counts_as_zero(const Tensor& b, const DivSafeParams& p) {
  const Tensor wide = acc(b);
  return less_equal(abs(wide), zero_tolerance(p.zero_tol, p.skip_subnormal, wide.dtype()));
}
/// Where the quotient q of a finite a overflows the dtype of `in`; undefined where nobody asks.
Tensor overflown(const Tensor& q, const Tensor& a, const Tensor& in, const DivSafeParams& p) {
  return p.saturate ? logical_and(greater(abs(q), largest_of(in.dtype())), isfinite(a)) : Tensor();
}

}  // namespace

KEEL_OP(div_safe, DivSafeParams) {
  def.doc("a / b, and a default where |b| <= zero_tol.")
      .in("a", kinds::floating)
      .in("b", kinds::floating)
      .opt("fill", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .infer([](auto& p, Specs in) {
        check_value(p.zero_tol >= 0, "zero_tol", "not negative", p.zero_tol);
        check_fits(p.otherwise, in[0].dtype, "otherwise");
        if (const std::optional<double> fill = in.has(2) ? given_number(2) : std::nullopt) check_fits(*fill, in[0].dtype, "fill");
        if (std::isnan(p.otherwise) && !in.has(2) && given_integers())
          fail(ErrorCode::value, "otherwise must be given for integers, which have no NaN", "div_safe(a, b, {.otherwise = 0})");
        return Spec{in[0].dtype, broadcast_all(in)};
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor a = acc(in[0]), b = acc(in[1]), bad = counts_as_zero(b, p);
        Tensor q = div(a, where(bad, 1, b));
        if (const Tensor over = overflown(q, a, in[0], p); over.defined()) {
          const Tensor inside = where(over, 0, div(where(over, 0, a), where(logical_or(bad, over), 1, b)));
          q = where(over, mul(sign(q.detach()), largest_of(in[0].dtype())), inside);
        }
        return like(in.has(2) ? where(bad, acc(in[2]), q) : where(bad, p.otherwise, q), in[0]);
      })
      .saves([](auto& p, Needs n) {
        Saves s(In{1});
        if (n[1] || p.saturate) s.add(In{0});
        return s;
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensors g(a.in.size());
        if (a.needs[1] || (a.needs[0] && p.saturate))
          g = div_safe_backward(a.g[0], a.in[0], a.in[1], p);
        else if (a.needs[0])
          g[0] = div_safe(a.g[0], a.in[1], {.otherwise = 0, .zero_tol = p.zero_tol, .skip_subnormal = p.skip_subnormal});
        while (g.size() < a.in.size()) g.push_back(Tensor());
        if (a.in.size() > 2 && a.needs[2]) g[2] = where(counts_as_zero(a.in[1], p), a.g[0], 0);
        return g;
      });
}
KEEL_OP(div_safe_backward, DivSafeParams) {
  def.doc("g / b and -(g / b) (a / b), 0 where b counts as zero or the quotient was saturated.")
      .in("g", kinds::floating)
      .in("a", kinds::floating)
      .in("b", kinds::floating)
      .out("da")
      .out("db")
      .elementwise()
      .infer([](auto&, Specs in) {
        const Spec s{in[0].dtype, broadcast_all(in)};
        return SpecList{s, s};
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor g = acc(in[0]), a = acc(in[1]), b = acc(in[2]);
        Tensor dead = counts_as_zero(b, p);
        if (const Tensor over = overflown(div(a, where(dead, 1, b)), a, in[1], p); over.defined()) dead = logical_or(dead, over);
        const Tensor by = where(dead, 1, b), ga = where(dead, 0, div(g, by)), q = where(dead, 0, div(where(dead, 0, a), by));
        const Tensor clash = logical_or(logical_and(equal(ga, 0), isinf(q)), logical_and(equal(q, 0), isinf(ga)));
        const Tensor gb = where(clash, 0, neg(mul(where(clash, 0, ga), where(clash, 0, q))));
        return {like(ga, in[0]), like(where(dead, 0, gb), in[0])};
      });
}

KEEL_OP(sanitize, SanitizeParams) {
  def.doc("x with NaN and infinities replaced.")
      .in("x", kinds::real | kinds::fp8 | kinds::boolean)
      .out("y")
      .elementwise()
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        if (!is_floating(in[0].dtype)) return in[0];
        check_fits(p.nan_value, in[0].dtype, "nan_value");
        check_fits(p.inf_value, in[0].dtype, "inf_value");
        check_fits(p.neginf_value, in[0].dtype, "neginf_value");
        return in[0];
      })
      .decompose([](auto& p, Inputs in) {
        if (!is_floating(in[0].dtype())) return copy(in[0]);
        const Tensor x = acc(in[0]), nan = isnan(x), inf = isinf(x), safe = where(logical_or(nan, inf), 0, x);
        if (p.keep) return like(where(nan, p.nan_value, where(inf, x.detach(), safe)), in[0]);
        const double above = given_or(p.inf_value, largest_of(in[0].dtype())), below = given_or(p.neginf_value, -above);
        return like(where(nan, p.nan_value, where(inf, where(greater(x, 0), above, below), safe)), in[0]);
      })
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {sanitize_backward(a.g[0], a.in[0])}; });
}
KEEL_OP(sanitize_backward, NoParams) {
  def.doc("g where x is finite, else 0.")
      .in("g", kinds::floating | kinds::fp8)
      .in("x", kinds::floating | kinds::fp8)
      .out("dx")
      .elementwise()
      .infer(broadcast_same)
      .decompose([](auto&, Inputs in) { return like(where(finite(in[1]), acc(in[0]), 0), in[0]); });
}

KEEL_OP(clamp_to_zero, ClampToZeroParams) {
  def.doc("+0 where |x| <= abs_tol, else x.")
      .in("x", kinds::floating | kinds::fp8)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .infer([](auto& p, Specs in) {
        check_not_negative(p.abs_tol, "abs_tol");
        return in[0];
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]), size = abs(x);
        const double tol = given_or(p.abs_tol, tolerance_of(in[0].dtype()).abs);
        return like(where(logical_and(less_equal(size, tol), isfinite(x)), 0, x), in[0]);
      })
      .saves([](auto& p, Needs) { return p.grad == ZoneGrad::ste ? Saves() : Saves(In{0}); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {p.grad == ZoneGrad::ste ? a.g[0] : clamp_to_zero_backward(a.g[0], a.in[0], p)};
      });
}
KEEL_OP(clamp_to_zero_backward, ClampToZeroParams) {
  def.doc("g where |x| > abs_tol, else 0.")
      .in("g", kinds::floating | kinds::fp8)
      .in("x", kinds::floating | kinds::fp8)
      .out("dx")
      .elementwise()
      .infer(broadcast_same)
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[1]);
        const double tol = given_or(p.abs_tol, tolerance_of(in[1].dtype()).abs);
        return like(where(logical_and(less_equal(abs(x), tol), isfinite(x)), 0, acc(in[0])), in[0]);
      });
}

KEEL_OP(clamp_safe, ClampSafeParams) {
  def.doc("min(max(x, lo), hi); NaN where x or a bound is NaN.")
      .in("x", kinds::real)
      .in("lo", kinds::real)
      .in("hi", kinds::real)
      .out("y")
      .elementwise()
      .infer([](auto& p, Specs in) {
        const double share = p.boundary_grad;
        check_value(share == 0 || share == 0.5 || share == 1, "boundary_grad", "0, 0.5 or 1", share);
        check_bounds(1, 2, false);
        return Spec{in[0].dtype, broadcast_all(in)};
      })
      .decompose([](auto&, Inputs in) { return minimum(maximum(in[0], in[1]), in[2]); })
      .saves(In{0}, In{1}, In{2})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor &x = a.in[0], &lo = a.in[1], &hi = a.in[2];
        Tensors g(3);
        if (a.needs[0]) g[0] = clamp_safe_backward(a.g[0], x, lo, hi, p);
        if (!a.needs[1] && !a.needs[2]) return g;
        // A bound has what x leaves it on the bound, in halves where both bounds are there, and all beyond it.
        const double rest = 1 - p.boundary_grad;
        const Tensor at_lo = equal(x, lo), at_hi = equal(x, hi), pinned = equal(lo, hi);
        const Tensor part = rest == 0 ? zeros_like(a.g[0]) : where(pinned, mul(a.g[0], rest / 2), mul(a.g[0], rest));
        if (a.needs[1]) g[1] = where(less_equal(lo, hi), where(less(x, lo), a.g[0], where(at_lo, part, 0)), 0);
        if (a.needs[2]) g[2] = where(logical_or(greater(x, hi), greater(lo, hi)), a.g[0], where(at_hi, part, 0));
        return g;
      });
}
KEEL_OP(clamp_safe_backward, ClampSafeParams) {
  def.doc("g between the bounds, its share boundary_grad on them, else 0.")
      .in("g", kinds::floating)
      .in("x", kinds::floating)
      .in("lo", kinds::floating)
      .in("hi", kinds::floating)
      .out("dx")
      .elementwise()
      .infer(broadcast_same)
      .decompose([](auto& p, Inputs in) {
        const Tensor &g = in[0], &x = in[1], &lo = in[2], &hi = in[3];
        const Tensor closed = logical_and(greater_equal(x, lo), less_equal(x, hi)), edge = logical_or(equal(x, lo), equal(x, hi));
        const Tensor kept = where(closed, g, 0);
        return p.boundary_grad == 1 ? kept : where(edge, p.boundary_grad == 0 ? zeros_like(g) : mul(kept, p.boundary_grad), kept);
      });
}

Tensor div_safe(const Operand& a, const Operand& b, const DivSafeParams& p) { return call(op_div_safe, p, a.tensor(), b.tensor()); }
Tensor div_safe(const Operand& a, const Operand& b, const Tensor& fill, const DivSafeParams& p) {
  return call(op_div_safe, p, a.tensor(), b.tensor(), fill);
}
Tensor sanitize(const Tensor& x, const SanitizeParams& p) { return call(op_sanitize, p, x); }
Tensor clamp_to_zero(const Tensor& x, const ClampToZeroParams& p) { return call(op_clamp_to_zero, p, x); }
Tensor clamp_safe(const Tensor& x, const Operand& lo, const Operand& hi, const ClampSafeParams& p) {
  return call(op_clamp_safe, p, x, lo.tensor(), hi.tensor());
}
namespace {
Tensors div_safe_backward(const Tensor& g, const Tensor& a, const Tensor& b, const DivSafeParams& p) {
  return call_all(op_div_safe_backward, p, g, a, b);
}
Tensor sanitize_backward(const Tensor& g, const Tensor& x) { return call(op_sanitize_backward, NoParams{}, g, x); }
Tensor clamp_to_zero_backward(const Tensor& g, const Tensor& x, const ClampToZeroParams& p) {
  return call(op_clamp_to_zero_backward, p, g, x);
}
Tensor clamp_safe_backward(const Tensor& g, const Tensor& x, const Tensor& lo, const Tensor& hi, const ClampSafeParams& p) {
  return call(op_clamp_safe_backward, p, g, x, lo, hi);
}
}  // namespace

}  // namespace keel
