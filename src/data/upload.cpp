#include "data/upload.h"

#include <cstring>

#include "core/impl.h"

namespace keel::data {
namespace {

constexpr size_t kResting = 3;  // pieces of a ring that are left alone after they were sent: their copies may be under way

void must(const char* wrong) {
  if (wrong) raise(Error(ErrorCode::device, wrong).op("Loader"));
}

}  // namespace

Uploader::Uploader(Device to) : to_(to) {
  if (to == cpu_device) return;
  if (const DeviceDriver& d = driver_of(to); d.pin && d.unpin && d.upload && d.join && d.await) driver_ = &d;
}
Uploader::~Uploader() {
  for (const Ring* r : {&x_, &y_})
    for (const auto& piece : r->all) {
      if (piece->ticket) driver_->await(to_.index, piece->ticket);  // what went wrong shows at the next wait
      if (piece->p) driver_->unpin(piece->p);
    }
}

/// A piece of at least `bytes` bytes whose copy has been made; null where the system has none.
Uploader::Piece* Uploader::room_in(Ring& r, size_t bytes) {
  Piece* piece = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (r.idle.size() > kResting) {
      piece = r.idle.front();
      r.idle.pop_front();
    } else {
      piece = r.all.emplace_back(std::make_unique<Piece>()).get();
    }
  }
  if (piece->ticket) must(driver_->await(to_.index, piece->ticket));
  piece->ticket = 0;
  if (piece->bytes < bytes) {
    if (piece->p) driver_->unpin(piece->p);
    piece->p = driver_->pin(bytes), piece->bytes = piece->p ? bytes : 0;
  }
  return piece->p ? piece : nullptr;
}

/// Moves `x` into a piece where it can.
Uploader::Piece* Uploader::stage(Ring& r, Tensor& x) {
  if (!x.defined() || !driver_) return nullptr;
  const TensorImpl& xi = impl(x);
  const size_t bytes = size_t(xi.spec.shape.numel()) * size_of(xi.spec.dtype);
  if (bytes == 0 || xi.device != cpu_device || xi.weak || !is_dense(xi.spec.shape, xi.strides)) return nullptr;
  Piece* const piece = room_in(r, bytes);
  if (!piece) return nullptr;
  std::memcpy(piece->p, xi.data, bytes);
  piece->spec = xi.spec, piece->strides = xi.strides;
  x = Tensor();
  return piece;
}
Uploader::Staged Uploader::stage(Batch b) {
  Staged s{std::move(b)};
  s.x = stage(x_, s.batch.x), s.y = stage(y_, s.batch.y);
  return s;
}

Uploader::Sent Uploader::send(Staged s) {
  Sent sent{std::move(s.batch)};
  void* to[2];
  const void* from[2];
  size_t bytes[2];
  int n = 0;
  for (auto [piece, tensor] : {std::pair(s.x, &sent.batch.x), std::pair(s.y, &sent.batch.y)}) {
    if (!piece) {
      if (tensor->defined()) *tensor = tensor->to(to_);
      continue;
    }
    *tensor = make_tensor(piece->spec.dtype, piece->spec.shape, piece->strides, to_);
    to[n] = impl(*tensor).data, from[n] = piece->p;
    bytes[n++] = size_t(piece->spec.shape.numel()) * size_of(piece->spec.dtype);
  }
  if (n == 0) return sent;
  must(driver_->upload(to_.index, n, to, from, bytes, &sent.ticket));
  const std::lock_guard lock(mutex_);
  if (s.x) s.x->ticket = sent.ticket, x_.idle.push_back(s.x);
  if (s.y) s.y->ticket = sent.ticket, y_.idle.push_back(s.y);
  return sent;
}

Batch Uploader::take(Sent s) {
  if (s.ticket) must(driver_->join(to_.index, s.ticket));
  return std::move(s.batch);
}

void Uploader::drop(const Sent& s) {
  if (s.ticket) driver_->join(to_.index, s.ticket);
}

}  // namespace keel::data
