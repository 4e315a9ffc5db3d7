// Tensors between host memory and a device's.
#include "core/device_driver.h"

namespace keel {

ElementSpan::ElementSpan(const TensorImpl& x) {
  for (int i = 0; i < x.spec.shape.rank(); ++i) {
    if (x.spec.shape[i] == 0) {
      low = high = 0;
      return;
    }
    const int64_t reach = (x.spec.shape[i] - 1) * x.strides[i];
    (reach < 0 ? low : high) += reach;
  }
  ++high;
}

Tensor on_host(const Tensor& x) {
  const TensorImpl& xi = impl(x);
  if (xi.device.type == DeviceType::cpu || xi.weak) return x;
  const ElementSpan span(xi);
  const size_t bytes = span.bytes(xi.spec.dtype);
  Ref<Storage> storage = allocate_storage(bytes);
  if (bytes) device_copy(xi.device, storage->data, xi.data + span.low * int64_t(size_of(xi.spec.dtype)), bytes, CopyWay::to_host);
  return make_view(std::move(storage), xi.spec.dtype, xi.spec.shape, xi.strides, -span.low);
}

Tensor send(const Tensor& x, Device to) {
  const TensorImpl& xi = impl(x);
  Tensor y = make_tensor(xi.spec.dtype, xi.spec.shape, xi.strides, to);
  if (const size_t bytes = size_t(xi.spec.shape.numel()) * size_of(xi.spec.dtype))
    device_copy(to, impl(y).data, xi.data, bytes, CopyWay::to_device);
  return y;
}

}  // namespace keel
