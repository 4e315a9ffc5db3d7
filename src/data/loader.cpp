// Batches in a fixed order, made ahead by worker threads. Worker w makes batches w, w + workers, ...; each has a ring of its own, so the consumer takes them in order without sorting.
#include "keel/data/loader.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <numeric>
#include <thread>

#include "base/philox.h"
#include "data/upload.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/random.h"

namespace keel::data {

Sampler sequential() {
  return [](int64_t n, uint64_t, uint64_t) {
    std::vector<int64_t> v(static_cast<size_t>(n));
    std::iota(v.begin(), v.end(), 0);
    return v;
  };
}

Sampler shuffled() {
  return [](int64_t n, uint64_t seed, uint64_t epoch) {
    std::vector<int64_t> v(static_cast<size_t>(n));
    std::iota(v.begin(), v.end(), 0);
    for (int64_t i = n - 1; i > 0; --i) {  // Fisher and Yates, by counter
      const auto r = base::philox(uint64_t(i), epoch, seed ^ 0x5348554646u);
      const uint64_t bits = uint64_t(r[0]) << 32 | r[1];
      const auto j = int64_t(static_cast<unsigned __int128>(bits) * uint64_t(i + 1) >> 64);
      std::swap(v[size_t(i)], v[size_t(j)]);
    }
    return v;
  };
}

Sampler weighted(std::vector<double> weights, int64_t count) {
  for (size_t i = 0; i < weights.size(); ++i)
    if (!(weights[i] >= 0 && std::isfinite(weights[i])))
      raise(Error(ErrorCode::value, "weights must be finite and at least 0; weight " + std::to_string(i) + " is not").op("weighted"));
  for (size_t i = 1; i < weights.size(); ++i) weights[i] += weights[i - 1];
  if (weights.empty() || !(weights.back() > 0)) raise(Error(ErrorCode::value, "weights must have a positive sum").op("weighted"));
  return [sums = std::move(weights), count](int64_t n, uint64_t seed, uint64_t epoch) {
    if (n != int64_t(sums.size())) raise(Error(ErrorCode::shape, std::to_string(sums.size()) + " weights for " + std::to_string(n) + " examples").op("weighted"));
    std::vector<int64_t> v;
    for (int64_t i = 0; i < count; ++i) {
      ExampleRandom r(seed, epoch, uint64_t(i));
      v.push_back(std::upper_bound(sums.begin(), sums.end(), r.uniform() * sums.back()) - sums.begin());
      v.back() = std::min(v.back(), n - 1);
    }
    return v;
  };
}

/// One epoch in progress.
class Loader::Run {
 public:
  Run(const Dataset& set, const LoaderOptions& o, std::shared_ptr<Position> at, Device to)
      : set_(set), o_(o), at_(std::move(at)), seed_(at_->seed), epoch_(at_->epoch), to_(to), uploader_(to) {
    const Sampler order = o.sampler ? o.sampler : o.shuffle ? shuffled() : sequential();
    order_ = order(set.size(), seed_, epoch_);
    const auto n = int64_t(order_.size());
    batches_ = o.drop_last ? n / o.batch_size : (n + o.batch_size - 1) / o.batch_size;
    first_ = next_ = fetched_ = at_->batch;
    for (int64_t w = 0; w < o.workers; ++w) lanes_.emplace_back();
    for (int64_t w = 0; w < o.workers; ++w) threads_.emplace_back([this, w] { work(w); });
  }
  ~Run() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
    for (const Uploader::Sent& s : sent_) uploader_.drop(s);
  }

  /// The next batch, or false at the end of the epoch.
  bool take(Batch& out) {
    if (next_ >= batches_) {
      ++at_->epoch, at_->batch = 0;
      return false;
    }
    if (to_ == cpu_device) {
      Uploader::Staged s;
      fetch(s, true);
      out = std::move(s.batch);
    } else {
      if (sent_.empty()) send(true);
      out = uploader_.take(std::move(sent_.front()));
      sent_.pop_front();
      // Now, not after the caller has queued its work: the copy waits for what is queued before it.
      while (!threads_.empty() && int64_t(sent_.size()) < kAhead && send(false)) {}
    }
    at_->batch = ++next_;
    return true;
  }

 private:
  static constexpr int64_t kAhead = 1;

  /// The next batch that was not fetched yet. False where there is none, or where it is not ready and the caller does not wait.
  bool fetch(Uploader::Staged& out, bool wait) {
    if (fetched_ >= batches_) return false;
    if (threads_.empty()) {
      out = make(fetched_++);
      return true;
    }
    std::unique_lock lock(mutex_);
    auto& lane = lanes_[size_t(fetched_ % o_.workers)];
    if (!wait && lane.empty()) return false;
    changed_.wait(lock, [&] { return !lane.empty(); });
    std::future<Uploader::Staged> ready = std::move(lane.front());
    lane.pop_front();
    lock.unlock();
    changed_.notify_all();
    ++fetched_;
    out = ready.get();  // hands on what the worker raised
    return true;
  }
  bool send(bool wait) {
    Uploader::Staged s;
    if (!fetch(s, wait)) return false;
    sent_.push_back(uploader_.send(std::move(s)));
    return true;
  }
  /// Batch `k`, ready to be sent, so that who takes it has nothing to copy.
  Uploader::Staged make(int64_t k) {
    const int64_t lo = k * o_.batch_size, hi = std::min(lo + o_.batch_size, int64_t(order_.size()));
    return uploader_.stage(set_.batch({order_.data() + lo, hi - lo, seed_, epoch_}));
  }
  void work(int64_t w) {
    NoGrad off;
    int64_t k = first_ + ((w - first_) % o_.workers + o_.workers) % o_.workers;  // this worker's first batch at or after where the run begins
    for (; k < batches_; k += o_.workers) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || int64_t(lanes_[size_t(w)].size()) < o_.prefetch; });
        if (stop_) return;
      }
      std::packaged_task<Uploader::Staged()> task([&] { return make(k); });
      task();
      std::lock_guard lock(mutex_);
      lanes_[size_t(w)].push_back(task.get_future());
      changed_.notify_all();
    }
  }

  Dataset set_;
  LoaderOptions o_;
  std::shared_ptr<Position> at_;
  std::vector<int64_t> order_;
  const uint64_t seed_, epoch_;
  const Device to_;
  Uploader uploader_;
  std::deque<Uploader::Sent> sent_;
  int64_t batches_ = 0, first_ = 0, next_ = 0, fetched_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::deque<std::future<Uploader::Staged>>> lanes_;
  std::vector<std::thread> threads_;
  bool stop_ = false;
};

Loader::Loader(Dataset set, const LoaderOptions& o) : set_(std::move(set)), o_(o), at_(std::make_shared<Position>()) {
  auto must = [](bool ok, const char* name, int64_t got) {
    if (!ok) raise(Error(ErrorCode::value, std::string(name) + " must be positive, got " + std::to_string(got)).op("Loader"));
  };
  must(o.batch_size > 0, "batch_size", o.batch_size);
  must(o.workers >= 0 && o.workers <= 256, "workers", o.workers);
  must(o.prefetch > 0, "prefetch", o.prefetch);
  if (o.seed >= 0) {
    at_->seed = uint64_t(o.seed);
  } else {  // another stream for each loader made after one manual_seed
    Generator& g = default_generator();
    const auto r = base::philox(uint64_t(g.reserve(4)), g.state().base, g.state().seed);
    at_->seed = uint64_t(r[0]) << 32 | r[1];
  }
}

Loader::Iterator Loader::begin() { return begin(cpu_device); }
Loader::Iterator Loader::begin(Device d) {
  Iterator i;
  i.run_ = std::make_shared<Run>(set_, o_, at_, d);
  return ++i, std::move(i);
}
Loader::Iterator Loader::begin() const { return Loader(*this).begin(); }
Loader::Iterator& Loader::Iterator::operator++() {
  current_ = {};
  if (run_ && !run_->take(current_)) run_.reset();
  return *this;
}
int64_t Loader::size() const {
  const int64_t n = o_.sampler ? int64_t(o_.sampler(set_.size(), at_->seed, at_->epoch).size()) : set_.size();
  return o_.drop_last ? n / o_.batch_size : (n + o_.batch_size - 1) / o_.batch_size;
}
Loader::Position Loader::position() const { return *at_; }
void Loader::set_position(const Position& p) { *at_ = p; }

}  // namespace keel::data
