#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

// Steps of optimisers over many tensors at once. `hyper` (f64) and the step counts (f64, 0-d, one a parameter) are inputs, not params: a replayed step reads what they hold then. `tensors` is a list of lists, each
// with one tensor a parameter; all but the gradients are written in place. State is f32 for f16 and bf16 parameters, else of the parameter's dtype, and so is the arithmetic. Each row gives back the first parameter.
// With `master`, parameters are f16 or bf16 and a list of f32 masters follows the states: the step changes the master, and the parameter becomes it, rounded once. Updates too small for the parameter's dtype add up there.
// `skip` (f32[], where the tensors are) makes a step of SGD, Adam or RMSprop leave everything as it is where it is not 0: whether to step is decided
// where the gradients are, and the host waits for nothing.

struct SgdStepParams {
  [[no_unique_address]] ByName by_name = ByName();
  bool momentum = false;
  bool nesterov = false;
  bool maximize = false;
  bool master = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("momentum", p.momentum, "whether there are momentum buffers");
    f("nesterov", p.nesterov, "step along the gradient at the point that momentum leads to");
    f("maximize", p.maximize, "climb instead of descend");
    f("master", p.master, "whether f32 masters of 16-bit parameters are stepped");
  }
};
struct AdamStepParams {
  [[no_unique_address]] ByName by_name = ByName();
  bool amsgrad = false;
  bool decoupled = false;
  bool maximize = false;
  bool master = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("amsgrad", p.amsgrad, "divide by the largest second moment so far");
    f("decoupled", p.decoupled, "weight decay shrinks the parameter (AdamW) instead of adding to the gradient");
    f("maximize", p.maximize, "climb instead of descend");
    f("master", p.master, "whether f32 masters of 16-bit parameters are stepped");
  }
};
struct RmspropStepParams {
  [[no_unique_address]] ByName by_name = ByName();
  bool centered = false;
  bool momentum = false;
  bool maximize = false;
  bool master = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("centered", p.centered, "divide by the deviation instead of the root mean square");
    f("momentum", p.momentum, "whether there are momentum buffers");
    f("maximize", p.maximize, "climb instead of descend");
    f("master", p.master, "whether f32 masters of 16-bit parameters are stepped");
  }
};
struct UpdateScaleParams {
  [[no_unique_address]] ByName by_name = ByName();
  double growth_factor = 2;
  double backoff_factor = 0.5;
  int64_t growth_interval = 2000;
  static constexpr void fields(auto& p, auto&& f) {
    f("growth_factor", p.growth_factor, "by which the scale grows");
    f("backoff_factor", p.backoff_factor, "by which it shrinks");
    f("growth_interval", p.growth_interval, "good steps in a row before it grows");
  }
};
struct ClipNormParams {
  [[no_unique_address]] ByName by_name = ByName();
  double p = 2;
  static constexpr void fields(auto& q, auto&& f) { f("p", q.p, "order of the norm, or infinity"); }
};

/// hyper {lr, momentum, dampening, weight_decay}; lists: parameters, gradients, with momentum buffers, with master masters, with momentum step counts.
Tensor sgd_step(const Tensor& hyper, const Tensors& tensors, const SgdStepParams& p = {}, const Tensor& skip = {});
/// hyper {lr, beta1, beta2, eps, weight_decay}; lists: parameters, gradients, first moments, second moments, with amsgrad largest second moments, with master masters, step counts.
Tensor adam_step(const Tensor& hyper, const Tensors& tensors, const AdamStepParams& p = {}, const Tensor& skip = {});
/// hyper {lr, alpha, eps, weight_decay, momentum}; lists: parameters, gradients, mean squares, if centered mean gradients, with momentum buffers, with master masters, step counts.
Tensor rmsprop_step(const Tensor& hyper, const Tensors& tensors, const RmspropStepParams& p = {}, const Tensor& skip = {});
/// hyper {decay}; lists: averages, values. average += (1 - decay) (value - average).
Tensor ema_step(const Tensor& hyper, const Tensors& tensors);
/// Scales the tensors in place by limit / (norm + 1e-6) where that is below 1; gives the norm of all of them together, 0-d, in the dtype of the first (f32 for 16-bit floats). Sums run in f64, in fixed order.
Tensor clip_norm(const Tensor& limit, const Tensors& tensors, const ClipNormParams& p = {});
/// Multiplies the tensors in place by `inverse` (f64, 0-d, where the tensors are), in f32 for 16-bit floats; gives f32[]: 1 where one of them held a NaN or an
/// infinity before, else 0.
Tensor unscale(const Tensor& inverse, const Tensors& tensors);
/// The next loss scale, written to `scale` (f32[]) and given back, and `tracker` (i64[]), the good steps since it last changed. Where one of
/// `found` (f32[]) is not 0 the scale shrinks by backoff_factor and the count starts anew; else it is counted, and after growth_interval steps
/// the scale grows by growth_factor, unless that is beyond f32. Products are f64, rounded to f32.
Tensor update_scale(const Tensor& scale, const Tensor& tracker, const Tensors& found, const UpdateScaleParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
