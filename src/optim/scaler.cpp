#include "keel/optim/scaler.h"

#include <cmath>

#include "core/impl.h"
#include "core/scope.h"
#include "keel/error.h"
#include "keel/ops/cast.h"
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

void check(bool ok, const char* name, const char* must, double got) {
  if (!ok) raise(Error(ErrorCode::value, std::string(name) + " must be " + must + ", got " + to_string(Scalar(got))).op("GradScaler"));
}

Tensor number_tensor(double v) { return full(Shape(), v, {.dtype = f64}); }

/// What surrounds the scaler's own ops: they are part of a recorded step, but of no gradient.
class Quiet {
 public:
  Quiet() { scope().grad = false, scope().autocast = DType::none, scope().phase = Phase::optimiser; }

 private:
  ScopeGuard keep_;
};
/// While it lives, no trace records and nobody watches.
class Aside {
 public:
  Aside() { scope().grad = false, scope().trace = nullptr, scope().monitor = nullptr; }

 private:
  ScopeGuard keep_;
};
bool on_cpu(const Tensors& list) {
  for (const Tensor& t : list)
    if (t.device() != cpu_device) return false;
  return true;
}

}  // namespace

GradScaler::GradScaler(const GradScalerOptions& o) : options_(o) {
  check(o.init_scale > 0 && std::isfinite(float(o.init_scale)), "init_scale", "positive and finite in f32", o.init_scale);
  check(o.growth_factor > 1, "growth_factor", "above 1", o.growth_factor);
  check(o.backoff_factor > 0 && o.backoff_factor < 1, "backoff_factor", "between 0 and 1", o.backoff_factor);
  check(o.growth_interval > 0, "growth_interval", "positive", double(o.growth_interval));
  const Aside off;
  scale_ = full(Shape(), o.init_scale, {.dtype = f32});
  growth_tracker_ = full(Shape(), Scalar(int64_t(0)), {.dtype = i64});
}

/// The first other device that a loss lives on takes the numbers over.
void GradScaler::settle(Device d) const {
  if (scale_.device() != cpu_device || d == cpu_device) return;
  const Aside off;
  scale_ = scale_.to(d), growth_tracker_ = growth_tracker_.to(d);
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
  settle(loss.device());
  return mul(loss, loss.device() == scale_.device() ? scale_ : scale_.to(loss.device()));
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
  const Quiet guard;
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
  const Tensor inverse = cast(cast(reciprocal(cast(scale_, f64)), f32), f64);
  s.found = {};
  for (const auto& [device, grads] : by_device) {
    for (const Tensor& g : grads) note_write(g, "unscale_");
    s.found.push_back(unscale(device == inverse.device() ? inverse : inverse.to(device), grads));
  }
  s.stage = Stage::unscaled;
}

void GradScaler::step(Optimizer& opt) {
  if (!options_.enabled) return opt.step();
  Seen& s = seen(opt);
  if (s.stage == Stage::stepped) refuse("step has been called on this optimiser already since the last update");
  if (s.stage == Stage::ready) unscale_(opt);
  if (s.found.empty()) refuse("no parameter of this optimiser has a gradient", "call scale(loss).backward() first");
  if (on_cpu(s.found) && !scope().trace) {
    bool bad = false;
    for (const Tensor& f : s.found) bad |= f.item() != 0;
    if (!bad) opt.step();
  } else {
    opt.step_unless(found_inf(opt));
  }
  s.stage = Stage::stepped;
}

void GradScaler::update() {
  if (!options_.enabled) return;
  const Quiet guard;
  Tensors found;
  for (const Seen& s : seen_)
    for (const Tensor& f : s.found) found.push_back(f.device() == scale_.device() ? f : f.to(scale_.device()));
  if (found.empty()) refuse("update is called, but no gradients were looked at since the last time", "call step(optimizer) first");
  update_scale(scale_, growth_tracker_, found,
               {.growth_factor = options_.growth_factor,
                .backoff_factor = options_.backoff_factor,
                .growth_interval = options_.growth_interval});
  seen_.clear();
}

void GradScaler::update(double new_scale) {
  if (!options_.enabled) return;
  check(new_scale > 0 && std::isfinite(float(new_scale)), "new_scale", "positive and finite in f32", new_scale);
  const Aside off;
  scale_.fill_(new_scale);
  seen_.clear();
}

double GradScaler::get_scale() const { return options_.enabled ? scale_.to(cpu_device).item() : 1; }

Tensor GradScaler::found_inf(const Optimizer& opt) const {
  for (const Seen& s : seen_)
    if (Identity::of(s.opt) == Identity::of(opt) && !s.found.empty()) {
      const Quiet guard;
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
  s.set("_growth_tracker", copy(growth_tracker_.to(cpu_device)));
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
  const Aside off;
  scale_.fill_(scale);
  options_.growth_factor = growth, options_.backoff_factor = backoff, options_.growth_interval = interval;
  growth_tracker_.fill_(Scalar(tracker));
}

}  // namespace keel::optim
