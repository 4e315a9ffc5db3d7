// Copies between devices, and calls that a device leaves to the CPU.
#include "op/device_call.h"

#include "core/impl.h"

namespace keel {

Tensor move_to(const Tensor& x, Device to) {
  const TensorImpl& xi = impl(x);
  if (xi.device == to) return x;
  if (!is_dense(xi.spec.shape, xi.strides)) return move_to(contiguous_copy(x), to);
  const Tensor here = on_host(x);
  return to.type == DeviceType::cpu ? here : send(here, to);
}

Tensors run_on_host(Call& c, StatSlot* stats, Device d) {
  SmallVector<Tensor, 10> hosted;
  SmallVector<const Tensor*, 10> in;
  hosted.reserve(c.in.size());  // pointers into it must stay good
  for (int i = 0; i < c.in.size(); ++i) {
    hosted.push_back(c.in[i].defined() ? on_host(c.in[i]) : Tensor());
    in.push_back(&hosted.back());
  }
  Call host{c.op, c.params, Inputs(in.data(), int(in.size())), c.specs, c.out, c.site, c.scope, nullptr, c.recording};
  const Tensors made = run_backend_on(cpu_device, host, stats);
  for (int i = 0; i < c.in.size(); ++i) {
    if (!c.op.in[std::min(i, c.op.in.size() - 1)].written || !c.in[i].defined()) continue;
    const TensorImpl &from = impl(hosted[size_t(i)]), &to = impl(c.in[i]);
    const ElementSpan span(to);  // the whole span goes back: what the view leaves out has not changed meanwhile
    const int64_t low = span.low * int64_t(size_of(to.spec.dtype));
    if (const size_t bytes = span.bytes(to.spec.dtype)) device_copy(d, to.data + low, from.data + low, bytes, CopyWay::to_device);
  }
  Tensors out;
  for (int i = 0; i < made.size(); ++i) {
    const int alias = c.op.out[std::min(i, c.op.out.size() - 1)].alias_of;
    if (alias >= 0 && c.op.in[alias].written)
      out.push_back(c.in[alias]);
    else
      out.push_back(made[i].defined() ? send(made[i], d) : Tensor());
  }
  if (c.into) Tensor(*c.into).copy_(out[0]);
  return out;
}

}  // namespace keel
