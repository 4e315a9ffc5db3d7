// add, sub, mul, div: the four that everything else leans on.
#include "ops/common.h"

namespace keel {
namespace {
template <class P>
Def<P>& binary(Def<P>& def, const char* doc, DTypeSet k) {
  return def.doc(doc).in("a", k).in("b", k).out("y").primitive().elementwise().infer(broadcast_same);
}
}  // namespace

KEEL_OP(add, NoParams) {
  binary(def, "a + b; on bools: or.", kinds::numeric | kinds::boolean).onnx("Add").risk(Risk::cancels).saves().vjp([](auto&, const VjpArgs& a) -> Tensors {
    return {a.g[0], a.g[0]};
  });
}
KEEL_OP(sub, NoParams) {
  binary(def, "a - b; refused on bools.", kinds::numeric).onnx("Sub").risk(Risk::cancels).saves().vjp([](auto&, const VjpArgs& a) -> Tensors {
    return {a.g[0], a.needs[1] ? neg(a.g[0]) : Tensor()};
  });
}
KEEL_OP(mul, NoParams) {
  binary(def, "a * b; on bools: and.", kinds::numeric | kinds::boolean).onnx("Mul").risk(Risk::grows)
      .saves([](auto&, Needs n) {
        Saves s;
        if (n[0]) s.add(In{1});
        if (n[1]) s.add(In{0});
        return s;
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.needs[0] ? mul(a.g[0], a.in[1]) : Tensor(), a.needs[1] ? mul(a.g[0], a.in[0]) : Tensor()}; });
}
KEEL_OP(div, NoParams) {
  binary(def, "a / b; integers give the default float.", kinds::inexact).promote(Promote::to_float).onnx("Div").risk(Risk::divides).watch_input(1, Risk::divides)
      .saves([](auto&, Needs n) {
        Saves s(In{1});
        if (n[1]) s.add(Out{0});
        return s;
      })
      .vjp([](auto&, const VjpArgs& a) -> Tensors {
        const Tensor q = div(a.g[0], a.in[1]);
        return {a.needs[0] ? q : Tensor(), a.needs[1] ? neg(mul(q, a.out[0])) : Tensor()};
      });
}
KEEL_OP(neg, NoParams) {
  def.doc("-x").in("x", kinds::numeric).out("y").primitive().elementwise().infer(same_as_first).onnx("Neg").saves().vjp([](auto&, const VjpArgs& a) -> Tensors { return {neg(a.g[0])}; });
}

Tensor add(const Operand& a, const Operand& b) { return call(op_add, NoParams{}, a.tensor(), b.tensor()); }
Tensor sub(const Operand& a, const Operand& b) { return call(op_sub, NoParams{}, a.tensor(), b.tensor()); }
Tensor mul(const Operand& a, const Operand& b) { return call(op_mul, NoParams{}, a.tensor(), b.tensor()); }
Tensor div(const Operand& a, const Operand& b) { return call(op_div, NoParams{}, a.tensor(), b.tensor()); }
Tensor neg(const Tensor& x) { return call(op_neg, NoParams{}, x); }

}  // namespace keel
