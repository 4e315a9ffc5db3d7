#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct LayerNormParams {
  [[no_unique_address]] ByName by_name = ByName();
  double eps = 1e-5;
  int64_t axes = 1;
  static constexpr void fields(auto& p, auto&& f) {
    f("eps", p.eps, "added to the variance");
    f("axes", p.axes, "how many trailing axes are normalised together");
  }
};
struct BatchNormParams {
  [[no_unique_address]] ByName by_name = ByName();
  double eps = 1e-5;
  static constexpr void fields(auto& p, auto&& f) { f("eps", p.eps, "added to the variance"); }
};

/// (x - mean) / sqrt(var + eps) over the trailing axes, times weight, plus bias. Mean and variance in two passes in f32 or f64.
Tensor layer_norm(const Tensor& x, const LayerNormParams& p = {});
Tensor layer_norm(const Tensor& x, const Tensor& weight, const LayerNormParams& p = {});
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const LayerNormParams& p = {});
/// x / sqrt(mean(x^2) + eps) over the trailing axes, times weight.
Tensor rms_norm(const Tensor& x, const LayerNormParams& p = {});
Tensor rms_norm(const Tensor& x, const Tensor& weight, const LayerNormParams& p = {});

struct BatchNormResult {
  Tensor y;     // normalised
  Tensor mean;  // of the batch, one a channel
  Tensor var;   // of the batch, biased, one a channel
};
/// For the backward forms: `need_*` says which results are wanted; the others come out empty, of shape [0].
struct NormBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axes = 1;
  bool need_x = true;
  bool need_weight = true;
  bool need_bias = true;
  static constexpr void fields(auto& p, auto&& f) {
    f("axes", p.axes, "how many trailing axes are normalised together");
    f("need_x", p.need_x, "whether dx is wanted");
    f("need_weight", p.need_weight, "whether dweight is wanted");
    f("need_bias", p.need_bias, "whether dbias is wanted");
  }
};
struct BatchNormBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  bool need_x = true;
  bool need_weight = true;
  bool need_bias = true;
  static constexpr void fields(auto& p, auto&& f) {
    f("need_x", p.need_x, "whether dx is wanted");
    f("need_weight", p.need_weight, "whether dweight is wanted");
    f("need_bias", p.need_bias, "whether dbias is wanted");
  }
};
/// For the gradient of batch_norm_relu.
struct BatchNormReluBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  double eps = 1e-5;
  bool need_x = true;
  bool need_weight = true;
  bool need_bias = true;
  bool need_residual = true;
  static constexpr void fields(auto& p, auto&& f) {
    f("eps", p.eps, "added to the variance");
    f("need_x", p.need_x, "whether dx is wanted");
    f("need_weight", p.need_weight, "whether dweight is wanted");
    f("need_bias", p.need_bias, "whether dbias is wanted");
    f("need_residual", p.need_residual, "whether dresidual is wanted");
  }
};
struct BatchNormUpdateParams {
  [[no_unique_address]] ByName by_name = ByName();
  double momentum = 0.1;
  int64_t count = 2;
  static constexpr void fields(auto& p, auto&& f) {
    f("momentum", p.momentum, "share of the batch");
    f("count", p.count, "values a channel in the batch, at least 2");
  }
};
/// Training form: normalises x [n, c, ...] per channel by the batch's own mean and biased variance; weight and bias [c] may be undefined.
BatchNormResult batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const BatchNormParams& p = {});
/// Evaluation form: by the given mean and variance.
Tensor batch_norm_eval(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& weight, const Tensor& bias, const BatchNormParams& p = {});
/// relu(batch_norm(x) + residual): the end of a block of a residual network. `residual` has the shape of x, or is undefined. On a device with
/// a kernel for it one pass after that of the statistics, rounded once; elsewhere its parts. The gradient passes where the result is above 0.
BatchNormResult batch_norm_relu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual = {},
                                const BatchNormParams& p = {});
/// The same by the given mean and variance.
Tensor batch_norm_relu_eval(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& weight, const Tensor& bias,
                            const Tensor& residual = {}, const BatchNormParams& p = {});
/// Moves running statistics towards those of a batch, in place: mean = (1 - momentum) mean + momentum batch_mean; var likewise, with the batch's
/// variance made unbiased by count / (count - 1); and counts the batch. Statistics f32[c] or f64[c], all of one dtype; `batches` i64[]. Gives `mean`.
Tensor batch_norm_update(const Tensor& mean, const Tensor& var, const Tensor& batches, const Tensor& batch_mean, const Tensor& batch_var,
                         const BatchNormUpdateParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
