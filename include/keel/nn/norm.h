#pragma once
#include "keel/nn/module.h"

#pragma GCC visibility push(default)
namespace keel::nn {

struct LayerNormOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double eps = 1e-5;
  bool affine = true;  // has a weight
  bool bias = true;    // and a bias
};
/// Normalises over the trailing axes, whose extents are given, to mean 0 and variance 1, then scales by weight and shifts by bias, which have those extents.
class LayerNorm : public Module<LayerNorm> {
 public:
  explicit LayerNorm(int64_t width, const LayerNormOptions& o = {}) : LayerNorm(Shape({width}), o) {}
  explicit LayerNorm(const Shape& shape, const LayerNormOptions& o = {});
  static void fields(auto& m, auto&& f) { f("weight", m.weight)("bias", m.bias); }
  Tensor forward(const Tensor& x) const;

  Weight weight, bias;

 private:
  Shape shape_;
  double eps_;
};

struct RMSNormOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double eps = -1;  // negative: the machine epsilon of f64 for f64, of f32 otherwise
  bool affine = true;
};
/// Divides by the root of the mean square over the trailing axes, whose extents are given, then scales by weight.
class RMSNorm : public Module<RMSNorm> {
 public:
  explicit RMSNorm(int64_t width, const RMSNormOptions& o = {}) : RMSNorm(Shape({width}), o) {}
  explicit RMSNorm(const Shape& shape, const RMSNormOptions& o = {});
  static void fields(auto& m, auto&& f) { f("weight", m.weight); }
  Tensor forward(const Tensor& x) const;

  Weight weight;

 private:
  Shape shape_;
  double eps_;
};

struct BatchNormOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double eps = 1e-5;
  double momentum = 0.1;            // share of the batch in the running statistics
  bool cumulative = false;          // running statistics are plain means over all batches instead; momentum is not used
  bool affine = true;               // has weight and bias
  bool track_running_stats = true;  // without, evaluation normalises by the batch too
};
namespace detail {
/// What the batch norms share. Running statistics are written through their handles, so `forward` is const.
struct BatchNormState {
  BatchNormState(int64_t channels, const BatchNormOptions& o);
  Tensor normalise(const Tensor& x, bool training) const;
  /// relu(normalise(x) + residual) as one op.
  Tensor normalise_relu(const Tensor& x, const Tensor& residual, bool training) const;

  Weight weight, bias;
  Statistic running_mean, running_var;  // the variance is unbiased
  Tensor num_batches_tracked;        // i64, 0-d
  BatchNormOptions options;
  int64_t channels;

 private:
  /// By the running statistics: nothing of the batch is gathered.
  bool fixed(bool training) const { return !training && running_mean.defined(); }
  void admit(const Tensor& x, bool training) const;
  /// What a batch of training leaves behind.
  void gather(const Tensor& x, const Tensor& mean, const Tensor& var) const;
};
void batch_norm_fields(auto& m, auto&& f) {
  f("weight", m.weight)("bias", m.bias)("running_mean", m.running_mean)("running_var", m.running_var)("num_batches_tracked", m.num_batches_tracked);
}
void require_rank(const Tensor& x, int low, int high, const char* module);
}  // namespace detail

/// Normalises each channel of x [n, c] or [n, c, l] over the batch and all other axes: in training by the batch's own mean and biased variance, else by the running statistics.
class BatchNorm1d : public Module<BatchNorm1d>, public detail::BatchNormState {
 public:
  explicit BatchNorm1d(int64_t channels, const BatchNormOptions& o = {}) : BatchNormState(channels, o) {}
  static void fields(auto& m, auto&& f) { detail::batch_norm_fields(m, f); }
  Tensor forward(const Tensor& x) const {
    detail::require_rank(x, 2, 3, "BatchNorm1d");
    return normalise(x, is_training());
  }
};
/// The same for x [n, c, h, w].
class BatchNorm2d : public Module<BatchNorm2d>, public detail::BatchNormState {
 public:
  explicit BatchNorm2d(int64_t channels, const BatchNormOptions& o = {}) : BatchNormState(channels, o) {}
  static void fields(auto& m, auto&& f) { detail::batch_norm_fields(m, f); }
  Tensor forward(const Tensor& x) const {
    detail::require_rank(x, 4, 4, "BatchNorm2d");
    return normalise(x, is_training());
  }
  /// relu of what `forward` gives, plus `residual` of the shape of x where it is defined: `norm.then_relu(conv(x), shortcut)`. One op on
  /// devices that have a kernel for it; the parts on the CPU, and where hooks look at what `forward` gives.
  Tensor then_relu(const Tensor& x, const Tensor& residual = {}) const;
};

}  // namespace keel::nn
#pragma GCC visibility pop
