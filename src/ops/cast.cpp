#include "op/device_call.h"
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

KEEL_OP(relayout, RelayoutParams) {
  def.doc("The same values in another order in memory.").in("x", kinds::any).out("y").promote(Promote::none).fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        if (p.order == MemoryOrder::channels_last) check_rank(in[0], 4, "x");
        return in[0];
      })
      .decompose([](auto& p, Inputs in) { return p.order == MemoryOrder::channels_last ? channels_last_copy(in[0]) : contiguous_copy(in[0]); })
      .saves()
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0]}; });
}
KEEL_OP(transfer, TransferParams) {
  def.doc("The same values in the memory of another device.").in("x", kinds::any).out("y").promote(Promote::none).fallback(Fallback::ok)
      .infer([](auto&, Specs in) { return in[0]; })
      .decompose([](auto& p, Inputs in) { return p.to == in[0].device() ? contiguous_copy(in[0]) : move_to(in[0], p.to); })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {transfer(a.g[0], p.origin)}; });
}
Tensor transfer(const Tensor& x, Device to) {
  const Device from = x.device();
  return from == to ? x : call(op_transfer, TransferParams{.to = to, .origin = from}, x);
}

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : call(op_relayout, RelayoutParams{}, x); }
Tensor channels_last(const Tensor& x) {
  if (x.rank() == 4 && is_channels_last(x)) return x;
  return call(op_relayout, RelayoutParams{.order = MemoryOrder::channels_last}, x);
}

Tensor cast(const Tensor& x, DType to) {
  if (to == DType::none) raise(Error(ErrorCode::value, "no dtype given").op("cast"));
  if (x.defined() && x.dtype() == to && !impl(x).weak) return x;
  return call(op_cast, CastParams{.to = to}, x);
}
Tensor cast(const Tensor& x, const CastParams& p) {
  if (p.saturate || (p.to != f8e4m3fn && p.to != f8e5m2)) return cast(x, p.to);
  return x.defined() && x.dtype() == p.to && !impl(x).weak ? x : call(op_cast, p, x);
}
Tensor copy(const Tensor& x) { return call(op_copy, NoParams{}, x); }

}  // namespace keel
