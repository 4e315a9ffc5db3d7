// The rows of the optimiser steps. What changes from step to step is an input, so that a trace can be replayed.
#include "keel/ops/optim_step.h"

#include <string>

#include "op/checks.h"

namespace keel {
namespace {

/// A word of the device: f32; the oracle's are f64.
bool is_word(const Spec& s) { return s.shape.rank() == 0 && (s.dtype == f32 || s.dtype == f64); }

/// Checks `hyper`, `skip` and the lists behind them; `lists` counts them but for masters, the last being step counts where `steps` says so. Gives the spec of the first parameter.
Spec check_lists(Specs in, int hyper, int lists, bool steps, bool master) {
  lists += master;
  if (!(in[0].shape == Shape({hyper}) && in[0].dtype == f64))
    fail(ErrorCode::shape, "hyper must be f64[" + std::to_string(hyper) + "]");
  check_shape(!in.has(1) || is_word(in[1]), "skip must be f32[] or f64[]");
  const int given = in.size() - 2, n = given / lists;
  if (!(given > 0 && n * lists == given))
    fail(ErrorCode::shape, "expects " + std::to_string(lists) + " lists of equal length, got " + std::to_string(given) + " tensors");
  for (int i = 0; i < n; ++i) {
    const Spec& p = in[2 + i];
    const DType state = p.dtype == f64 ? f64 : f32;
    if (master && p.dtype != f16 && p.dtype != bf16 && p.dtype != f64)  // f64: the oracle's
      fail(ErrorCode::dtype, "master is for f16 and bf16 parameters; parameter " + std::to_string(i) + " is " + to_string(p), "leave it out: the parameter is its own master");
    for (int k = 1; k < lists; ++k) {
      const Spec& s = in[2 + k * n + i];
      const bool count = steps && k == lists - 1;
      const Spec want = count ? Spec{f64, Shape()} : Spec{k == 1 ? p.dtype : state, p.shape};
      if (!(s == want))
        fail(ErrorCode::shape, "list " + std::to_string(k) + " has " + to_string(s) + " where parameter " + std::to_string(i) +
             " calls for " + to_string(want));
    }
  }
  return in[2];
}

}  // namespace

KEEL_OP(sgd_step, SgdStepParams) {
  def.doc("One step of stochastic gradient descent, with momentum.").in("hyper", kinds::floating).alone().host().opt("skip", kinds::floating).alone().variadic("tensors", kinds::floating).alone().written().out("first").alias(2)
      .promote(Promote::none).primitive()
      .infer([](auto& p, Specs in) { return check_lists(in, 4, p.momentum ? 4 : 2, p.momentum, p.master); });
}
KEEL_OP(adam_step, AdamStepParams) {
  def.doc("One step of Adam (Kingma and Ba 2015), AMSGrad (Reddi et al. 2018) or AdamW (Loshchilov and Hutter 2019).").in("hyper", kinds::floating).alone().host().opt("skip", kinds::floating).alone()
      .variadic("tensors", kinds::floating).alone().written().out("first").alias(2).promote(Promote::none).primitive()
      .infer([](auto& p, Specs in) { return check_lists(in, 5, p.amsgrad ? 6 : 5, true, p.master); });
}
KEEL_OP(rmsprop_step, RmspropStepParams) {
  def.doc("One step of RMSprop, plain or centered (Graves 2013), with momentum.").in("hyper", kinds::floating).alone().host().opt("skip", kinds::floating).alone().variadic("tensors", kinds::floating).alone().written().out("first").alias(2)
      .promote(Promote::none).primitive()
      .infer([](auto& p, Specs in) { return check_lists(in, 5, 4 + p.centered + p.momentum, true, p.master); });
}
KEEL_OP(ema_step, NoParams) {
  def.doc("Moves averages towards values.").in("hyper", kinds::floating).alone().host().variadic("tensors", kinds::floating).alone().written().out("first").alias(1)
      .promote(Promote::none).primitive()
      .infer([](auto&, Specs in) {
        check_shape(in[0].shape == Shape({1}) && in[0].dtype == f64, "hyper must be f64[1]");
        const int n = (in.size() - 1) / 2;
        if (!(n > 0 && 2 * n == in.size() - 1))
          fail(ErrorCode::shape, "expects two lists of equal length, got " + std::to_string(in.size() - 1) + " tensors");
        for (int i = 0; i < n; ++i) {
          const Spec &average = in[1 + i], &value = in[1 + n + i];
          const DType t = value.dtype == f64 ? f64 : f32;
          if (!(average == Spec{t, value.shape}))
            fail(ErrorCode::shape, "average " + std::to_string(i) + " is " + to_string(average) + " where the value calls for " +
                 to_string(Spec{t, value.shape}));
        }
        return in[1];
      });
}
KEEL_OP(clip_norm, ClipNormParams) {
  def.doc("Scales tensors in place so that their common norm is at most `limit`.").in("limit", kinds::floating).alone().host().variadic("tensors", kinds::floating).alone().written().out("norm")
      .promote(Promote::none).primitive()
      .infer([](auto& p, Specs in) {
        check_value(p.p > 0, "p", "positive", p.p);
        check_shape(in[0].shape.rank() == 0 && in[0].dtype == f64, "limit must be f64[]");
        check_shape(in.size() > 1, "expects at least one tensor");
        return Spec{in[1].dtype == f64 ? f64 : f32, Shape()};
      });
}
KEEL_OP(unscale, NoParams) {
  def.doc("Multiplies tensors in place; tells whether one of them was not finite.")
      .in("inverse", kinds::floating)
      .alone()
      .variadic("tensors", kinds::floating)
      .alone()
      .written()
      .out("found_inf")
      .promote(Promote::none)
      .primitive()
      .infer([](auto&, Specs in) {
        check_shape(in[0].shape.rank() == 0 && in[0].dtype == f64, "inverse must be f64[]");
        check_shape(in.size() > 1, "expects at least one tensor");
        return Spec{f32, Shape()};
      });
}
KEEL_OP(update_scale, UpdateScaleParams) {
  def.doc("The next scale of a loss, after steps whose gradients were or were not finite.")
      .in("scale", kinds::floating)
      .alone()
      .written()
      .in("tracker", kinds::integer)
      .alone()
      .written()
      .variadic("found", kinds::floating)
      .alone()
      .out("next")
      .alias(0)
      .promote(Promote::none)
      .primitive()
      .infer([](auto& p, Specs in) {
        check_value(p.growth_factor > 1, "growth_factor", "above 1", p.growth_factor);
        check_value(p.backoff_factor > 0 && p.backoff_factor < 1, "backoff_factor", "between 0 and 1", p.backoff_factor);
        check_value(p.growth_interval > 0, "growth_interval", "positive", double(p.growth_interval));
        check_shape(is_word(in[0]), "scale must be f32[] or f64[]");
        check_shape(in[1] == Spec{i64, Shape()}, "tracker must be i64[]");
        check_shape(in.size() > 2, "expects at least one found");
        for (int i = 2; i < in.size(); ++i) check_shape(is_word(in[i]), "found must be f32[] or f64[]");
        return in[0];
      });
}

namespace {
template <class P, class... More>
Tensor run(const OpDef& op, const P& p, const Tensors& rest, const More&... first) {
  SmallVector<const Tensor*, 32> in;
  in.reserve(rest.size() + int(sizeof...(first)));
  (in.push_back(&first), ...);
  for (const Tensor& t : rest) in.push_back(&t);
  return dispatch_one(op, &p, Inputs(in.data(), int(in.size())), __builtin_return_address(0));
}
}  // namespace

Tensor sgd_step(const Tensor& hyper, const Tensors& tensors, const SgdStepParams& p, const Tensor& skip) { return run(op_sgd_step, p, tensors, hyper, skip); }
Tensor adam_step(const Tensor& hyper, const Tensors& tensors, const AdamStepParams& p, const Tensor& skip) { return run(op_adam_step, p, tensors, hyper, skip); }
Tensor rmsprop_step(const Tensor& hyper, const Tensors& tensors, const RmspropStepParams& p, const Tensor& skip) { return run(op_rmsprop_step, p, tensors, hyper, skip); }
Tensor ema_step(const Tensor& hyper, const Tensors& tensors) { return run(op_ema_step, NoParams{}, tensors, hyper); }
Tensor clip_norm(const Tensor& limit, const Tensors& tensors, const ClipNormParams& p) { return run(op_clip_norm, p, tensors, limit); }
Tensor unscale(const Tensor& inverse, const Tensors& tensors) { return run(op_unscale, NoParams{}, tensors, inverse); }
Tensor update_scale(const Tensor& scale, const Tensor& tracker, const Tensors& found, const UpdateScaleParams& p) {
  return run(op_update_scale, p, found, scale, tracker);
}

}  // namespace keel
