// Comparisons, logic and bits.
#include "ops/common.h"

namespace keel {
namespace {
template <class P>
Def<P>& compare(Def<P>& def, const char* doc) {
  return def.doc(doc).in("a", kinds::ordered).in("b", kinds::ordered).out("y").promote(Promote::compare).primitive().elementwise().infer(broadcast_bool);
}
template <class P>
Def<P>& bits(Def<P>& def, const char* doc) {
  return def.doc(doc)
      .in("a", kinds::integer | kinds::boolean)
      .in("b", kinds::integer | kinds::boolean)
      .out("y")
      .primitive()
      .elementwise()
      .infer(broadcast_same);
}
}  // namespace

KEEL_OP(equal, NoParams) { compare(def, "a == b; NaN equals nothing.").onnx("Equal"); }
KEEL_OP(not_equal, NoParams) { compare(def, "a != b; true where either is NaN."); }
KEEL_OP(less, NoParams) { compare(def, "a < b").onnx("Less"); }
KEEL_OP(less_equal, NoParams) { compare(def, "a <= b").onnx("LessOrEqual"); }
KEEL_OP(greater, NoParams) { compare(def, "a > b").onnx("Greater"); }
KEEL_OP(greater_equal, NoParams) { compare(def, "a >= b").onnx("GreaterOrEqual"); }
KEEL_OP(logical_and, NoParams) { compare(def, "Whether a and b are both not zero.").onnx("And"); }
KEEL_OP(logical_or, NoParams) { compare(def, "Whether a or b is not zero.").onnx("Or"); }
KEEL_OP(logical_xor, NoParams) { compare(def, "Whether exactly one of a and b is not zero.").onnx("Xor"); }
KEEL_OP(bitwise_and, NoParams) { bits(def, "Bits set in both; on bools: and.").onnx("BitwiseAnd"); }
KEEL_OP(bitwise_or, NoParams) { bits(def, "Bits set in either; on bools: or.").onnx("BitwiseOr"); }
KEEL_OP(bitwise_xor, NoParams) { bits(def, "Bits set in exactly one; on bools: exclusive or.").onnx("BitwiseXor"); }

Tensor equal(const Operand& a, const Operand& b) { return call(op_equal, NoParams{}, a.tensor(), b.tensor()); }
Tensor not_equal(const Operand& a, const Operand& b) { return call(op_not_equal, NoParams{}, a.tensor(), b.tensor()); }
Tensor less(const Operand& a, const Operand& b) { return call(op_less, NoParams{}, a.tensor(), b.tensor()); }
Tensor less_equal(const Operand& a, const Operand& b) { return call(op_less_equal, NoParams{}, a.tensor(), b.tensor()); }
Tensor greater(const Operand& a, const Operand& b) { return call(op_greater, NoParams{}, a.tensor(), b.tensor()); }
Tensor greater_equal(const Operand& a, const Operand& b) { return call(op_greater_equal, NoParams{}, a.tensor(), b.tensor()); }
Tensor logical_and(const Operand& a, const Operand& b) { return call(op_logical_and, NoParams{}, a.tensor(), b.tensor()); }
Tensor logical_or(const Operand& a, const Operand& b) { return call(op_logical_or, NoParams{}, a.tensor(), b.tensor()); }
Tensor logical_xor(const Operand& a, const Operand& b) { return call(op_logical_xor, NoParams{}, a.tensor(), b.tensor()); }
Tensor bitwise_and(const Operand& a, const Operand& b) { return call(op_bitwise_and, NoParams{}, a.tensor(), b.tensor()); }
Tensor bitwise_or(const Operand& a, const Operand& b) { return call(op_bitwise_or, NoParams{}, a.tensor(), b.tensor()); }
Tensor bitwise_xor(const Operand& a, const Operand& b) { return call(op_bitwise_xor, NoParams{}, a.tensor(), b.tensor()); }

}  // namespace keel
