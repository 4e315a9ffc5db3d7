#pragma once
// Batches on their way to a device. Where the device copies by itself (DeviceDriver::upload), a batch goes through pinned memory while the
// host and the device do other things; elsewhere it is copied at once.
#include <vector>

#include "core/device_driver.h"
#include "keel/data/dataset.h"

namespace keel::data {

class Uploader {
 public:
  /// For batches on `to`, of which `ahead` are under way beside the one in use.
  Uploader(Device to, int64_t ahead);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  struct Sent {
    Batch batch;
    uint64_t last = 0;  // ticket of its last copy; 0: all there
  };
  Sent send(const Batch& b);
  /// The batch, for work that is queued from now on. Every batch that was sent must be taken or dropped.
  Batch take(Sent s);
  /// Nobody will use it: its memory may go once this returns. What went wrong shows at the next wait.
  void drop(const Sent& s);

 private:
  /// A piece of pinned memory, free once the copy of `ticket` has been made.
  struct Stage {
    void* p = nullptr;
    size_t bytes = 0;
    uint64_t ticket = 0;
  };
  Tensor send(const Tensor& x, uint64_t& last);
  Stage* stage(size_t bytes);

  Device to_;
  const DeviceDriver* driver_ = nullptr;  // null: plain copies
  std::vector<Stage> stages_;
  size_t next_ = 0;
};

}  // namespace keel::data
