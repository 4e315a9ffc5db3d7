#include "keel/optim/scaler.h"

#include <cmath>

#include "core/impl.h"
#include "core/scope.h"
#include "keel/error.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/optim_step.h"
#include "op/scope.h"
#include "optim/state.h"

namespace keel::optim {
namespace {

/// Which state a handle leads to.
struct Identity : Optimizer {
  static const void* of(const Optimizer& o) { return (o.*(&Identity::state_)).get(); }
};

[[noreturn]] void refuse(const char* message, const char* hint = "call update() once an iteration, after step()") {
  raise(Error(ErrorCode::value, message).op("GradScaler").hint(hint));
}

float& value_of(const Tensor& scale) { return *reinterpret_cast<float*>(impl(scale).data); }

void check(bool ok, const char* name, const char* must, double got) {
  if (!ok) raise(Error(ErrorCode::value, std::string(name) + " must be " + must + ", got " + to_string(Scalar(got))).op("GradScaler"));
}

Tensor number_tensor(double v) { return full(Shape(), v, {.dtype = f64}); }

}  // namespace

GradScaler::GradScaler(const GradScalerOptions& o) : options_(o) {
  check(o.init_scale > 0 && std::isfinite(float(o.init_scale)), "init_scale", "positive and finite in f32", o.init_scale);
  check(o.growth_factor > 1, "growth_factor", "above 1", o.growth_factor);
  check(o.backoff_factor > 0 && o.backoff_factor < 1, "backoff_factor", "between 0 and 1", o.backoff_factor);
  check(o.growth_interval > 0, "growth_interval", "positive", double(o.growth_interval));
  scale_ = make_tensor(f32, Shape());
  value_of(scale_) = float(o.init_scale);
}

GradScaler::Seen& GradScaler::seen(const Optimizer& opt) {
  if (!opt.defined()) refuse("an empty Optimizer", "make one of SGD, Adam, AdamW, RMSprop");
  for (Seen& s : seen_)
    if (Identity::of(s.opt) == Identity::of(opt)) return s;
  seen_.push_back({opt, Stage::ready, {}});
  return seen_.back();
}

Tensor GradScaler::scale(const Tensor& loss) const {
  if (!options_.enabled) return loss;
  return mul(loss, loss.device() == cpu_device ? scale_ : scale_.to(loss.device()));
}
Tensors GradScaler::scale(const Tensors& losses) const {
  Tensors out;
  for (const Tensor& t : losses) out.push_back(scale(t));
  return out;
}

void GradScaler::unscale_(const Optimizer& opt) {
  if (!options_.enabled) return;
  Seen& s = seen(opt);
  if (s.stage == Stage::unscaled) refuse("unscale_ has been called on this optimiser already since the last update");
  if (s.stage == Stage::stepped) refuse("unscale_ is called after step");
  ScopeGuard guard;
  scope().grad = false, scope().autocast = DType::none, scope().phase = Phase::optimiser;
  std::vector<std::pair<Device, Tensors>> by_device;
  for (const Tensor& p : opt.parameters()) {
    const GradMeta* m = impl(p).grad;
    if (!m || !m->grad.defined()) continue;
    if (m->grad.dtype() == f16)
      raise(Error(ErrorCode::dtype, "cannot unscale f16 gradients: what the scale saved would be lost again")
                .op("GradScaler")
                .hint("keep parameters in f32 and let Autocast lower the ops"));
    size_t at = 0;
    while (at < by_device.size() && !(by_device[at].first == m->grad.device())) ++at;
    if (at == by_device.size()) by_device.push_back({m->grad.device(), {}});
    by_device[at].second.push_back(m->grad);
  }
  const Tensor inverse = number_tensor(double(float(1 / double(value_of(scale_)))));
  s.found = {};
  for (const auto& [device, grads] : by_device) {
    for (const Tensor& g : grads) note_write(g, "unscale_");
    s.found.push_back(unscale(inverse, grads));
  }
  s.stage = Stage::unscaled;
}

void GradScaler::step(Optimizer& opt) {
  if (!options_.enabled) return opt.step();
  Seen& s = seen(opt);
  if (s.stage == Stage::stepped) refuse("step has been called on this optimiser already since the last update");
  if (s.stage == Stage::ready) unscale_(opt);
  if (s.found.empty()) refuse("no parameter of this optimiser has a gradient", "call scale(loss).backward() first");
  bool bad = false;
  for (const Tensor& f : s.found) bad |= f.item() != 0;
  if (!bad) opt.step();
  s.stage = Stage::stepped;
}

void GradScaler::update() {
  if (!options_.enabled) return;
  bool any = false, bad = false;
  for (const Seen& s : seen_)
    for (const Tensor& f : s.found) any = true, bad |= f.item() != 0;
  if (!any) refuse("update is called, but no gradients were looked at since the last time", "call step(optimizer) first");
  float& now = value_of(scale_);
  if (bad) {
    now = float(double(now) * options_.backoff_factor), growth_tracker_ = 0;
  } else if (++growth_tracker_ == options_.growth_interval) {
    const float next = float(double(now) * options_.growth_factor);
    if (std::isfinite(next)) now = next;
    growth_tracker_ = 0;
  }
  note_write(scale_, "update");
  seen_.clear();
}

void GradScaler::update(double new_scale) {
  if (!options_.enabled) return;
  check(new_scale > 0 && std::isfinite(float(new_scale)), "new_scale", "positive and finite in f32", new_scale);
  value_of(scale_) = float(new_scale);
  note_write(scale_, "update");
  seen_.clear();
}

double GradScaler::get_scale() const { return options_.enabled ? double(value_of(scale_)) : 1; }

Tensor GradScaler::found_inf(const Optimizer& opt) const {
  for (const Seen& s : seen_)
    if (Identity::of(s.opt) == Identity::of(opt) && !s.found.empty()) {
      Tensor worst = s.found[0];
      for (int64_t i = 1; i < s.found.size(); ++i) worst = maximum(worst, s.found[i].to(worst.device()));
      return worst;
    }
  return {};
}

StateDict GradScaler::state_dict() const {
  StateDict s;
  if (!options_.enabled) return s;
  s.set("scale", number_tensor(get_scale()));
  s.set("growth_factor", number_tensor(options_.growth_factor));
  s.set("backoff_factor", number_tensor(options_.backoff_factor));
  s.set("growth_interval", full(Shape(), Scalar(options_.growth_interval), {.dtype = i64}));
  s.set("_growth_tracker", full(Shape(), Scalar(growth_tracker_), {.dtype = i64}));
  return s;
}

void GradScaler::load_state_dict(const StateDict& s) {
  if (!options_.enabled) return;
  const auto read = [&](const char* name) {
    const Tensor* t = s.find(name);
    if (!t || t->size() != 1)
      raise(Error(ErrorCode::value, std::string("the state has no number '") + name + "'")
                .op("load_state_dict")
                .hint("it was saved by a GradScaler that was not enabled, or by something else"));
    return t->to(cpu_device).item();
  };
  const double scale = read("scale"), growth = read("growth_factor"), backoff = read("backoff_factor");
  const auto interval = int64_t(read("growth_interval")), tracker = int64_t(read("_growth_tracker"));
  check(scale > 0, "scale", "positive", scale);
  value_of(scale_) = float(scale);
  note_write(scale_, "load_state_dict");
  options_.growth_factor = growth, options_.backoff_factor = backoff, options_.growth_interval = interval;
  growth_tracker_ = tracker;
}

}  // namespace keel::optim
