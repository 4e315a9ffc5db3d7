#include "train/late_number.h"

#include <cstring>

#include "core/impl.h"
#include "keel/numerics/types.h"

namespace keel::train {
namespace {

template <class T>
double read(const char* at) {
  T v;
  std::memcpy(&v, at, sizeof v);
  if constexpr (std::is_same_v<T, double>)
    return v;
  else
    return double(float(v));
}

}  // namespace

LateNumbers::LateNumbers(Device from) : from_(from) {
  if (from == cpu_device) return;
  const DeviceDriver& d = driver_of(from);
  if (!d.fetch || !d.collected || !d.pin || !d.unpin) return;
  room_ = static_cast<char*>(d.pin(2 * kBytes));
  if (room_) driver_ = &d;
}
LateNumbers::~LateNumbers() {
  bool made;
  if (last_) driver_->collected(from_.index, last_, true, &made);  // the device must not write to memory that is gone
  if (room_) driver_->unpin(room_);
}

LateNumbers::Number LateNumbers::send(const Tensor& x) {
  const TensorImpl& t = impl(x);
  const bool known = is_floating(t.spec.dtype) && size_of(t.spec.dtype) > 1;
  if (!driver_ || t.device != from_ || t.spec.shape.numel() != 1 || !known) return {.value = x.item()};
  Number n{.place = next_, .dtype = t.spec.dtype};
  next_ ^= 1;
  if (const char* wrong = driver_->fetch(from_.index, room_ + size_t(n.place) * kBytes, t.data, size_of(n.dtype), &n.ticket))
    raise(Error(ErrorCode::device, wrong).op("Trainer"));
  last_ = n.ticket;
  return n;
}

double LateNumbers::value(const Number& n) const {
  if (!n.ticket) return n.value;
  bool made = false;
  if (const char* wrong = driver_->collected(from_.index, n.ticket, true, &made)) raise(Error(ErrorCode::device, wrong).op("Trainer"));
  raise_fault(from_);
  const char* const at = room_ + size_t(n.place) * kBytes;
  return n.dtype == f64 ? read<double>(at) : n.dtype == f32 ? read<float>(at) : n.dtype == f16 ? read<float16>(at) : read<bfloat16>(at);
}

}  // namespace keel::train
