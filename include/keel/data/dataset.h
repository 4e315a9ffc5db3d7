#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "keel/base/callback.h"
#include "keel/tensor.h"

#pragma GCC visibility push(default)
namespace keel::data {

/// Examples stacked along a new first axis.
struct Batch {
  Tensor x, y;
};

/// What a random transform may draw: a number stream that depends only on seed, epoch and example, never on which worker asks.
class ExampleRandom {
 public:
  ExampleRandom(uint64_t seed, uint64_t epoch, uint64_t example) : seed_(seed), high_(epoch), low_(example << 20) {}
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  double uniform(double lo, double hi) { return lo + (hi - lo) * uniform(); }
  /// Uniform in [lo, hi).
  int64_t integer(int64_t lo, int64_t hi);
  double normal();

 private:
  uint64_t seed_, high_, low_;
};

/// Where a batch comes from, for those who make one: the examples' positions and, for random transforms, seed and epoch.
struct Fetch {
  const int64_t* index = nullptr;
  int64_t count = 0;
  uint64_t seed = 0, epoch = 0;
};

/// A set of examples: a cheap handle that is copied by sharing. Made from tensors, from a function, or by a reader.
class Dataset {
 public:
  Dataset() = default;
  Dataset(int64_t size, Callback<Batch(const Fetch&)> fetch) : size_(size), fetch_(std::move(fetch)) {}
  /// Rows of `x` with rows of `y`; the extents of the first axes agree.
  static Dataset from_tensors(const Tensor& x, const Tensor& y);
  /// One example at a time; stacked in batches.
  static Dataset from_function(int64_t size, Callback<Batch(int64_t index)> example);

  int64_t size() const { return size_; }
  /// The examples at those positions.
  Batch batch(const Fetch& f) const;
  Batch operator[](int64_t i) const;
  /// The same set with every batch sent through `f`: normalisation, augmentation.
  Dataset map(Callback<Batch(Batch, const Fetch&)> f) const;
  /// The examples at `index` only.
  Dataset subset(std::vector<int64_t> index) const;

 private:
  int64_t size_ = 0;
  Callback<Batch(const Fetch&)> fetch_;
};

struct MnistOptions {
  bool train = true;
  double mean = 0, stddev = 1;  // (pixel / 255 - mean) / stddev
};
/// MNIST from its four IDX files (.gz or not) in `folder`: x f32[n, 1, 28, 28], y i64[n]. Raises IOError where a file is missing or malformed.
Dataset mnist(const std::string& folder, const MnistOptions& o = {});

struct DigitsOptions {
  int64_t size = 10000;
  uint64_t seed = 0;
};
/// Drawn digits, for machines without MNIST: each is its strokes under a random affine map, thickness and noise. x f32[n, 1, 28, 28] in [0, 1], y i64[n]; example i depends on seed and i only.
Dataset digits(const DigitsOptions& o = {});

struct CsvDatasetOptions {
  int64_t target = -1;   // column of the target; negative counts from the end
  bool header = false;
  bool classes = true;   // the target is a class index (i64), else a number (f32)
};
/// Numbers from a CSV file: x f32[n, columns - 1], y [n].
Dataset csv(const std::string& path, const CsvDatasetOptions& o = {});

}  // namespace keel::data
#pragma GCC visibility pop
