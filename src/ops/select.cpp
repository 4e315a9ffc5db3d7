// Choosing and mixing: where, masked_fill, clamp, lerp.
#include "ops/common.h"

namespace keel {

KEEL_OP(where, NoParams) {
  def.doc("Elements of a where condition is true, of b elsewhere.")
      .in("condition", kinds::boolean)
      .alone()
      .in("a", kinds::any)
      .in("b", kinds::any)
      .out("y")
      .primitive()
      .elementwise()
      .onnx("Where")
      .infer([](auto&, Specs in) {
        return Spec{in[1].dtype, broadcast_all(in)};
      })
      .saves(In{0})
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        return {Tensor(), a.needs[1] ? where(a.in[0], a.g[0], 0) : Tensor(), a.needs[2] ? where(a.in[0], 0, a.g[0]) : Tensor()};
      });
}

KEEL_OP(masked_fill, NoParams) {
  def.doc("value where mask is true, x elsewhere.")
      .in("x", kinds::any)
      .in("mask", kinds::boolean)
      .alone()
      .in("value", kinds::any)
      .out("y")
      .elementwise()
      .fallback(Fallback::ok)
      .infer(broadcast_same)
      .decompose([](auto&, Inputs in) { return where(in[1], in[2], in[0]); });
}

KEEL_OP(clamp, NoParams) {
  def.doc("min(max(x, lo), hi); NaN stays.")
      .in("x", kinds::ordered)
      .in("lo", kinds::ordered)
      .in("hi", kinds::ordered)
      .out("y")
      .elementwise()
      .infer(broadcast_same)
      .decompose([](auto&, Inputs in) { return minimum(maximum(in[0], in[1]), in[2]); })
      .saves(In{0}, In{1}, In{2})
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        const Tensor &x = a.in[0], &lo = a.in[1], &hi = a.in[2];
        Tensors g(3);
        if (a.needs[0]) g[0] = where(logical_and(greater_equal(x, lo), less_equal(x, hi)), a.g[0], 0);
        if (a.needs[1]) g[1] = where(logical_and(less(x, lo), less(lo, hi)), a.g[0], 0);
        if (a.needs[2]) g[2] = where(logical_or(greater(x, hi), less(hi, lo)), a.g[0], 0);
        return g;
      });
}

KEEL_OP(lerp, NoParams) {
  def.doc("a + t * (b - a)")
      .in("a", kinds::floating)
      .in("b", kinds::floating)
      .in("t", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .elementwise()
      .risk(Risk::cancels)
      .infer(broadcast_same)
      .decompose([](auto&, Inputs in) {
        const Tensor a = acc(in[0]);
        return like(add(a, mul(acc(in[2]), sub(acc(in[1]), a))), in[0]);
      })
      .saves([](auto&, Needs n) {
        Saves s;
        if (n[0] || n[1]) s.add(In{2});
        if (n[2]) s.add(In{0}), s.add(In{1});
        return s;
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        Tensors g(3);
        if (a.needs[0]) g[0] = mul(a.g[0], sub(1, a.in[2]));
        if (a.needs[1]) g[1] = mul(a.g[0], a.in[2]);
        if (a.needs[2]) g[2] = mul(a.g[0], sub(a.in[1], a.in[0]));
        return g;
      });
}

Tensor where(const Tensor& condition, const Operand& a, const Operand& b) {
  return call(op_where, NoParams{}, condition, a.tensor(), b.tensor());
}
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Operand& v) { return call(op_masked_fill, NoParams{}, x, mask, v.tensor()); }
Tensor clamp(const Tensor& x, const Operand& lo, const Operand& hi) { return call(op_clamp, NoParams{}, x, lo.tensor(), hi.tensor()); }
Tensor lerp(const Tensor& a, const Tensor& b, const Operand& t) { return call(op_lerp, NoParams{}, a, b, t.tensor()); }

}  // namespace keel
