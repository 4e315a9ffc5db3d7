#include "keel/nn/norm.h"

#include "core/impl.h"
#include "core/scope.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/norm.h"
#include "nn/layers.h"
#include "op/scope.h"

namespace keel::nn {
namespace {

/// The trailing extents of `x` must be those that the layer was made for.
void require_trailing(const char* module, const Tensor& x, const Shape& want) {
  const Shape& s = x.shape();
  bool fits = s.rank() >= want.rank();
  for (int i = 1; fits && i <= want.rank(); ++i) fits = s[-i] == want[-i];
  if (fits) return;
  raise(Error(ErrorCode::shape, "the trailing axes must have extents " + to_string(want)).op(module).arg("x", to_string(impl(x).spec)).hint("the module normalises the axes that it was made with").path(scope().path));
}

Shape checked(const char* module, const Shape& s) {
  if (s.rank() == 0) raise(Error(ErrorCode::value, "at least one axis must be normalised").op(module));
  for (int64_t e : s) require_positive(module, "an extent", e);
  return s;
}

}  // namespace

LayerNorm::LayerNorm(const Shape& shape, const LayerNormOptions& o) : shape_(checked("LayerNorm", shape)), eps_(o.eps) {
  if (o.affine) weight = Weight(keel::ones(shape));
  if (o.affine && o.bias) bias = Weight(keel::zeros(shape));
}
Tensor LayerNorm::forward(const Tensor& x) const {
  require_trailing("LayerNorm", x, shape_);
  const LayerNormParams p{.eps = eps_, .axes = shape_.rank()};
  return bias.defined() ? layer_norm(x, weight, bias, p) : weight.defined() ? layer_norm(x, weight, p) : layer_norm(x, p);
}

RMSNorm::RMSNorm(const Shape& shape, const RMSNormOptions& o) : shape_(checked("RMSNorm", shape)), eps_(o.eps) {
  if (o.affine) weight = Weight(keel::ones(shape));
}
Tensor RMSNorm::forward(const Tensor& x) const {
  require_trailing("RMSNorm", x, shape_);
  const LayerNormParams p{.eps = eps_ >= 0 ? eps_ : x.dtype() == f64 ? 0x1p-52 : 0x1p-23, .axes = shape_.rank()};
  return weight.defined() ? rms_norm(x, weight, p) : rms_norm(x, p);
}

void detail::require_rank(const Tensor& x, int low, int high, const char* module) {
  if (x.rank() >= low && x.rank() <= high) return;
  raise(Error(ErrorCode::shape, "expects rank " + std::to_string(low) + (high > low ? " or " + std::to_string(high) : "") + ", got " + std::to_string(x.rank())).op(module).arg("x", to_string(impl(x).spec)).hint(x.rank() < low ? "unsqueeze(x, 0) adds a batch of one" : "flatten or reshape merges axes").path(scope().path));
}

detail::BatchNormState::BatchNormState(int64_t n, const BatchNormOptions& o) : options(o), channels(n) {
  require_positive("BatchNorm", "channels", n);
  if (o.affine) weight = Weight(keel::ones({n})), bias = Weight(keel::zeros({n}));
  if (o.track_running_stats) running_mean = keel::zeros({n}), running_var = keel::ones({n}), num_batches_tracked = keel::full(Shape(), 0, {.dtype = i64});
}

void detail::BatchNormState::admit(const Tensor& x, bool training) const {
  if (x.shape()[1] != channels)
    raise(Error(ErrorCode::shape, "axis 1 must have " + std::to_string(channels) + " channels, got " + std::to_string(x.shape()[1])).op("batch_norm").arg("x", to_string(impl(x).spec)).hint("channels are axis 1 whatever the memory order; permute moves them there").path(scope().path));
  if (training && x.size() / channels <= 1)
    raise(Error(ErrorCode::value, "training needs more than one value a channel").op("batch_norm").arg("x", to_string(impl(x).spec)).hint("a larger batch, or eval()").path(scope().path));
}
void detail::BatchNormState::gather(const Tensor& x, const Tensor& of_batch, const Tensor& biased) const {
  const int64_t count = x.size() / channels;
  NoGrad off;
  Tensor mean = running_mean, var = running_var, batches = num_batches_tracked;
  if (!options.cumulative && mean.dtype() == of_batch.dtype() && var.dtype() == mean.dtype()) {
    for (const Tensor* t : {&mean, &var, &batches}) note_write(*t, "batch_norm_update");
    batch_norm_update(mean, var, batches, of_batch, biased, {.momentum = options.momentum, .count = count});
    return;
  }
  batches.add_(1);
  const Tensor batch_mean = of_batch.detach(), batch_var = biased.detach() * (double(count) / double(count - 1));  // unbiased
  if (options.cumulative) {
    const Tensor share = 1.0 / batches.astype(mean.dtype());
    mean.add_((batch_mean - mean) * share), var.add_((batch_var - var) * share);
  } else {
    mean.mul_(1 - options.momentum).add_(batch_mean * options.momentum), var.mul_(1 - options.momentum).add_(batch_var * options.momentum);
  }
}
Tensor detail::BatchNormState::normalise(const Tensor& x, bool training) const {
  admit(x, training);
  const BatchNormParams p{.eps = options.eps};
  if (fixed(training)) return batch_norm_eval(x, running_mean, running_var, weight, bias, p);
  const BatchNormResult r = batch_norm(x, weight, bias, p);
  if (training && running_mean.defined()) gather(x, r.mean, r.var);
  return r.y;
}
Tensor detail::BatchNormState::normalise_relu(const Tensor& x, const Tensor& residual, bool training) const {
  admit(x, training);
  const BatchNormParams p{.eps = options.eps};
  if (fixed(training)) return batch_norm_relu_eval(x, running_mean, running_var, weight, bias, residual, p);
  const BatchNormResult r = batch_norm_relu(x, weight, bias, residual, p);
  if (training && running_mean.defined()) gather(x, r.mean, r.var);
  return r.y;
}
Tensor BatchNorm2d::then_relu(const Tensor& x, const Tensor& residual) const {
  if (x.device() == cpu_device || hooks_) {
    const Tensor y = (*this)(x);
    return relu(residual.defined() ? y + residual : y);
  }
  const detail::Enter enter(*this);
  detail::require_rank(x, 4, 4, "BatchNorm2d");
  return normalise_relu(x, residual, is_training());
}

}  // namespace keel::nn
