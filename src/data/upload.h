#pragma once
// Batches on their way to a device. Where the device copies by itself (DeviceDriver::upload), a batch is put into pinned memory by who made
// it, and travels while the host and the device do other things; elsewhere it is copied at once.
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "core/device_driver.h"
#include "keel/data/dataset.h"

namespace keel::data {

class Uploader {
  struct Piece;

 public:
  explicit Uploader(Device to);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  /// A batch that is ready to be sent.
  struct Staged {
    Batch batch;                       // what lies in no pinned memory
    Piece *x = nullptr, *y = nullptr;  // what does
  };
  /// From any thread.
  Staged stage(Batch b);

  struct Sent {
    Batch batch;
    uint64_t ticket = 0;  // of its copies; 0: all there
  };
  Sent send(Staged s);
  /// The batch, for work that is queued from now on. Every batch that was sent must be taken or dropped.
  Batch take(Sent s);
  /// Nobody will use it: its memory may go once this returns. What went wrong shows at the next wait.
  void drop(const Sent& s);

 private:
  /// Pinned memory, and the tensor in it.
  struct Piece {
    void* p = nullptr;
    size_t bytes = 0;
    uint64_t ticket = 0;  // of the copy out of it
    Spec spec;
    Strides strides;
  };
  /// The pieces of one side of batches: those that wait for the next one, the one that was sent first in front.
  struct Ring {
    std::vector<std::unique_ptr<Piece>> all;
    std::deque<Piece*> idle;
  };
  Piece* stage(Ring& r, Tensor& x);
  Piece* room_in(Ring& r, size_t bytes);

  Device to_;
  const DeviceDriver* driver_ = nullptr;  // null: plain copies
  std::mutex mutex_;                      // of what follows
  Ring x_, y_;
};

}  // namespace keel::data
