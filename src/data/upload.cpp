#include "data/upload.h"

#include <cstring>

#include "core/impl.h"

namespace keel::data {
namespace {

void must(const char* wrong) {
  if (wrong) raise(Error(ErrorCode::device, wrong).op("Loader"));
}

}  // namespace

Uploader::Uploader(Device to, int64_t ahead) : to_(to) {
  if (to == cpu_device) return;
  if (const DeviceDriver& d = driver_of(to); d.pin && d.unpin && d.upload && d.join && d.await) driver_ = &d;
  stages_.resize(size_t(2 * (ahead + 1)));  // x and y of each
}
Uploader::~Uploader() {
  for (const Stage& s : stages_) {
    if (s.ticket) driver_->await(to_.index, s.ticket);  // what went wrong shows at the next wait
    if (s.p) driver_->unpin(s.p);
  }
}

/// The next piece, of at least `bytes` bytes and free; null where the system has none.
Uploader::Stage* Uploader::stage(size_t bytes) {
  Stage& s = stages_[next_];
  next_ = (next_ + 1) % stages_.size();
  if (s.ticket) must(driver_->await(to_.index, s.ticket));
  s.ticket = 0;
  if (s.bytes >= bytes) return &s;
  if (s.p) driver_->unpin(s.p);
  s.p = driver_->pin(bytes), s.bytes = s.p ? bytes : 0;
  return s.p ? &s : nullptr;
}

Tensor Uploader::send(const Tensor& x, uint64_t& last) {
  if (!x.defined() || x.device() == to_) return x;
  const TensorImpl& xi = impl(x);
  const size_t bytes = size_t(xi.spec.shape.numel()) * size_of(xi.spec.dtype);
  if (!driver_ || bytes == 0 || xi.device != cpu_device || xi.weak || !is_dense(xi.spec.shape, xi.strides)) return x.to(to_);
  Stage* const s = stage(bytes);
  if (!s) return x.to(to_);
  std::memcpy(s->p, xi.data, bytes);
  Tensor y = make_tensor(xi.spec.dtype, xi.spec.shape, xi.strides, to_);
  must(driver_->upload(to_.index, impl(y).data, s->p, bytes, &s->ticket));
  last = s->ticket;
  return y;
}

Uploader::Sent Uploader::send(const Batch& b) {
  Sent s;
  s.batch.x = send(b.x, s.last);
  s.batch.y = send(b.y, s.last);
  return s;
}

Batch Uploader::take(Sent s) {
  if (s.last) must(driver_->join(to_.index, s.last));
  return std::move(s.batch);
}

void Uploader::drop(const Sent& s) {
  if (s.last) driver_->join(to_.index, s.last);
}

}  // namespace keel::data
