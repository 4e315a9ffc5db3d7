#pragma once
#include <memory>

#include "keel/data/dataset.h"

#pragma GCC visibility push(default)
namespace keel::data {

/// The order in which an epoch visits examples: `order(size, seed, epoch)`.
using Sampler = Callback<std::vector<int64_t>(int64_t size, uint64_t seed, uint64_t epoch)>;
Sampler sequential();
/// A permutation, another one each epoch.
Sampler shuffled();
/// `count` draws in proportion to the weights, with replacement.
Sampler weighted(std::vector<double> weights, int64_t count);

struct LoaderOptions {
  int64_t batch_size = 1;
  bool shuffle = false;
  bool drop_last = false;
  int64_t workers = 0;    // threads that make batches ahead; 0: the caller makes them
  int64_t prefetch = 2;   // batches ahead a worker
  int64_t seed = -1;      // -1: drawn from the default generator, so that manual_seed decides
  Sampler sampler = {};   // instead of shuffle
};

/// Walks a dataset in batches: `for (auto [x, y] : loader)`. Each walk is an epoch; what it gives depends only on the seed and the epoch's number, not on workers. Copies share the data and the position.
class Loader {
 public:
  Loader(Dataset set, const LoaderOptions& o = {});

  class Run;
  class Iterator {
   public:
    Batch& operator*() { return current_; }
    Iterator& operator++();
    bool operator!=(std::nullptr_t) const { return bool(run_); }
    bool operator==(std::nullptr_t) const { return !run_; }

   private:
    friend class Loader;
    std::shared_ptr<Run> run_;
    Batch current_;
  };
  /// Begins the next epoch, or goes on where `set_position` points.
  Iterator begin();
  /// The same with batches on `d`. With workers, the batch after the one in use is on its way meanwhile: through pinned memory and a queue of
  /// its own where the device has them, by a plain copy elsewhere. An error in making a batch comes when it would be sent.
  Iterator begin(Device d);
  Iterator begin() const;
  std::nullptr_t end() const { return nullptr; }

  /// Batches an epoch.
  int64_t size() const;
  int64_t batch_size() const { return o_.batch_size; }
  const Dataset& dataset() const { return set_; }

  /// Where a run stands, for checkpoints: the epoch in progress (or next) and how many of its batches were given out.
  struct Position {
    uint64_t seed = 0, epoch = 0;
    int64_t batch = 0;
  };
  Position position() const;
  void set_position(const Position& p);

 private:
  Dataset set_;
  LoaderOptions o_;
  std::shared_ptr<Position> at_;
};

}  // namespace keel::data
#pragma GCC visibility pop
