#include "train/late_number.h"

#include "core/impl.h"

namespace keel::train {

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
  const bool wide = t.spec.dtype == f32 || t.spec.dtype == f64;
  if (!driver_ || t.device != from_ || t.spec.shape.numel() != 1 || !wide) return {.value = x.item()};
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
  if (n.dtype == f64) return *reinterpret_cast<const double*>(at);
  return double(*reinterpret_cast<const float*>(at));
}

}  // namespace keel::train
