#include "keel/optim/ema.h"

#include "core/impl.h"
#include "core/scope.h"
#include "keel/autograd.h"
#include "keel/error.h"
#include "keel/ops/creation.h"
#include "keel/ops/optim_step.h"
#include "op/scope.h"

namespace keel {
extern OpDef op_ema_step;
}

namespace keel::optim {

Ema::Ema(const Tensors& parameters, const EmaOptions& o) : parameters_(parameters), decay_(full(Shape({1}), o.decay, {.dtype = f64})) {
  if (!(o.decay >= 0 && o.decay <= 1)) raise(Error(ErrorCode::value, "decay must be in [0, 1], got " + to_string(Scalar(o.decay))).op("Ema"));
  if (parameters.empty()) raise(Error(ErrorCode::value, "got no parameters").op("Ema"));
  NoGrad off;
  for (const Tensor& p : parameters) {
    Tensor a = p.detach().to(p.dtype() == f64 ? f64 : f32);
    averages_.push_back(a.shares_storage(p) ? a.clone() : a);
  }
}

void Ema::update() {
  ScopeGuard guard;
  scope().grad = false, scope().autocast = DType::none, scope().phase = Phase::optimiser;
  SmallVector<const Tensor*, 64> in;
  in.push_back(&decay_);
  for (const Tensor& a : averages_) in.push_back(&a), note_write(a, "Ema");
  for (const Tensor& p : parameters_) in.push_back(&p);
  const NoParams none;
  dispatch_one(op_ema_step, &none, Inputs(in.data(), int(in.size())), __builtin_return_address(0));
}

void Ema::swap() {
  NoGrad off;
  for (int64_t i = 0; i < parameters_.size(); ++i) {
    const Tensor value = parameters_[i].detach().clone();
    Tensor(parameters_[i]).copy_(averages_[i]);
    averages_[i].copy_(value);
  }
}

void Ema::copy_to_parameters() const {
  NoGrad off;
  for (int64_t i = 0; i < parameters_.size(); ++i) Tensor(parameters_[i]).copy_(averages_[i]);
}

double Ema::decay() const { return decay_.data<double>()[0]; }
void Ema::set_decay(double decay) {
  decay_.data<double>()[0] = decay;
  note_write(decay_, "set_decay");
}

StateDict Ema::state_dict() const {
  StateDict d;
  for (int64_t i = 0; i < averages_.size(); ++i) d.set("averages." + std::to_string(i), averages_[i].detach());
  d.set("decay", decay_);
  return d;
}
void Ema::load_state_dict(const StateDict& d) {
  Tensors values;
  for (int64_t i = 0; i < averages_.size(); ++i) {
    values.push_back(d["averages." + std::to_string(i)]);
    if (!(values[i].shape() == averages_[i].shape()))
      raise(Error(ErrorCode::shape, "averages." + std::to_string(i) + " is " + to_string(impl(values[i]).spec) + ", expected " + to_string(averages_[i].shape())).op("load_state_dict"));
  }
  const Tensor decay = d["decay"];
  NoGrad off;
  for (int64_t i = 0; i < averages_.size(); ++i) averages_[i].copy_(values[i]);
  decay_.copy_(decay);
}

}  // namespace keel::optim
