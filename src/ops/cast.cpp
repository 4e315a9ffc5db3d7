#include "ops/common.h"

namespace keel {

KEEL_OP(cast, CastParams) {
  def.doc("The same values in another dtype.").in("x", kinds::any).out("y").primitive().elementwise().promote(Promote::none).onnx("Cast")
      .infer([](auto& p, Specs in) { return Spec{p.to, in[0].shape}; })
      .saves()
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {cast(a.g[0], a.in_specs[0].dtype)}; });
}

KEEL_OP(copy, NoParams) {
  def.doc("A dense copy of the values.").in("x", kinds::any).out("y").primitive().elementwise().promote(Promote::none).onnx("Identity")
      .infer(same_as_first)
      .saves()
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0]}; });
}

Tensor cast(const Tensor& x, DType to) {
  if (to == DType::none) raise(Error(ErrorCode::value, "no dtype given").op("cast"));
  if (x.defined() && x.dtype() == to && !impl(x).weak) return x;
  return call(op_cast, CastParams{.to = to}, x);
}
Tensor copy(const Tensor& x) { return call(op_copy, NoParams{}, x); }

}  // namespace keel
