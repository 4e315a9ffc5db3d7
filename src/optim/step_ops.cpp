// The rows of the optimiser steps. What changes from step to step is an input, so that a trace can be replayed.
#include "keel/ops/optim_step.h"

#include <string>

#include "op/checks.h"

namespace keel {
namespace {

/// Checks `hyper` and the lists behind it; `lists` counts them, the last being step counts where `steps` says so. Gives the spec of the first parameter.
Spec check_lists(Specs in, int hyper, int lists, bool steps) {
  if (!(in[0].shape == Shape({hyper}) && in[0].dtype == f64))
    fail(ErrorCode::shape, "hyper must be f64[" + std::to_string(hyper) + "]");
  const int given = in.size() - 1, n = given / lists;
  if (!(given > 0 && n * lists == given))
    fail(ErrorCode::shape, "expects " + std::to_string(lists) + " lists of equal length, got " + std::to_string(given) + " tensors");
  for (int i = 0; i < n; ++i) {
    const Spec& p = in[1 + i];
    const DType state = p.dtype == f64 ? f64 : f32;
    for (int k = 1; k < lists; ++k) {
      const Spec& s = in[1 + k * n + i];
      const bool count = steps && k == lists - 1;
      const Spec want = count ? Spec{f64, Shape()} : Spec{k == 1 ? p.dtype : state, p.shape};
      if (!(s == want))
        fail(ErrorCode::shape, "list " + std::to_string(k) + " has " + to_string(s) + " where parameter " + std::to_string(i) +
             " calls for " + to_string(want));
    }
  }
  return in[1];
}

}  // namespace

KEEL_OP(sgd_step, SgdStepParams) {
  def.doc("One step of stochastic gradient descent, with momentum.").in("hyper", kinds::floating).alone().host().variadic("tensors", kinds::floating).alone().written().out("first").alias(1)
      .promote(Promote::none).primitive()
      .infer([](auto& p, Specs in) { return check_lists(in, 4, p.momentum ? 4 : 2, p.momentum); });
}
KEEL_OP(adam_step, AdamStepParams) {
  def.doc("One step of Adam (Kingma and Ba 2015), AMSGrad (Reddi et al. 2018) or AdamW (Loshchilov and Hutter 2019).").in("hyper", kinds::floating).alone().host()
      .variadic("tensors", kinds::floating).alone().written().out("first").alias(1).promote(Promote::none).primitive()
      .infer([](auto& p, Specs in) { return check_lists(in, 5, p.amsgrad ? 6 : 5, true); });
}
KEEL_OP(rmsprop_step, RmspropStepParams) {
  def.doc("One step of RMSprop, plain or centered (Graves 2013), with momentum.").in("hyper", kinds::floating).alone().host().variadic("tensors", kinds::floating).alone().written().out("first").alias(1)
      .promote(Promote::none).primitive()
      .infer([](auto& p, Specs in) { return check_lists(in, 5, 4 + p.centered + p.momentum, true); });
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
      .host()
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

namespace {
template <class P>
Tensor run(const OpDef& op, const P& p, const Tensor& first, const Tensors& rest) {
  SmallVector<const Tensor*, 32> in;
  in.reserve(rest.size() + 1);
  in.push_back(&first);
  for (const Tensor& t : rest) in.push_back(&t);
  return dispatch_one(op, &p, Inputs(in.data(), int(in.size())), __builtin_return_address(0));
}
}  // namespace

Tensor sgd_step(const Tensor& hyper, const Tensors& tensors, const SgdStepParams& p) { return run(op_sgd_step, p, hyper, tensors); }
Tensor adam_step(const Tensor& hyper, const Tensors& tensors, const AdamStepParams& p) { return run(op_adam_step, p, hyper, tensors); }
Tensor rmsprop_step(const Tensor& hyper, const Tensors& tensors, const RmspropStepParams& p) { return run(op_rmsprop_step, p, hyper, tensors); }
Tensor ema_step(const Tensor& hyper, const Tensors& tensors) { return run(op_ema_step, NoParams{}, hyper, tensors); }
Tensor clip_norm(const Tensor& limit, const Tensors& tensors, const ClipNormParams& p) { return run(op_clip_norm, p, limit, tensors); }
Tensor unscale(const Tensor& inverse, const Tensors& tensors) { return run(op_unscale, NoParams{}, inverse, tensors); }

}  // namespace keel
