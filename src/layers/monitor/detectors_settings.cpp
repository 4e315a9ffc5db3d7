// Rules about what an optimiser's step is told: settings that are no numbers, decay rates that do not fit together, and steps so short that
// f32 weights do not feel them.
#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "keel/ops/optim_step.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_adam_step, op_rmsprop_step, op_sgd_step;

/// Says what the settings of a step are worth; false: one is no number. A schedule that is asked for steps beyond its end gives a NaN, and
/// one number is enough to spoil every weight.
bool MonitorState::judge_settings(const Call& c, uint32_t at, const double* v, int64_t n) {
  if (&c.op == &op_adam_step && options.foretell && n > 2) judge_decay_rates(c, at, v[1], v[2]);
  if (options.foretell) judge_domain(c, at, v, n);
  const int64_t bad = std::find_if(v, v + n, [](double x) { return !std::isfinite(x); }) - v;
  if (bad == n) return true;
  Monitor::Finding about;
  about.severity = Severity::fault, about.value = v[bad];
  about.suggestion = {"stable_op", 0, "a schedule that holds its last value: it was asked for a step beyond its end, perhaps"};
  about.text = std::string(bad == 0 ? "the learning rate" : "a setting") + " that " + c.op.name + " was given is " + number(v[bad]) +
               ", and so would every weight be";
  warn(Detector::nonfinite, at, 0, "settings", std::move(about));
  return false;
}

/// Settings beyond what they may be: a rate that a schedule took below 0, a decay rate of 1 and more, which forgets nothing.
void MonitorState::judge_domain(const Call& c, uint32_t at, const double* v, int64_t n) {
  struct Setting {
    const char* name;
    bool decays;
  };
  static constexpr Setting sgd[] = {{"learning rate", false}, {"momentum", true}, {"dampening", false}, {"weight decay", false}},
                           adam[] = {{"learning rate", false},
                                     {"first decay rate", true},
                                     {"second decay rate", true},
                                     {"epsilon", false},
                                     {"weight decay", false}},
                           rmsprop[] = {{"learning rate", false},
                                        {"decay rate", true},
                                        {"epsilon", false},
                                        {"weight decay", false},
                                        {"momentum", true}};
  const std::span<const Setting> of = &c.op == &op_sgd_step       ? std::span<const Setting>(sgd)
                                      : &c.op == &op_adam_step    ? std::span<const Setting>(adam)
                                      : &c.op == &op_rmsprop_step ? std::span<const Setting>(rmsprop)
                                                                  : std::span<const Setting>();
  for (size_t i = 0; i < of.size() && int64_t(i) < n; ++i) {
    if (!(v[i] < 0) && !(of[i].decays && v[i] >= 1)) continue;
    if (i == 0 && !(sites[at].update && sites[at].update->most_lr > 0)) continue;  // from the start: meant, perhaps, to climb
    Monitor::Finding about;
    about.severity = Severity::warning, about.value = v[i];
    about.suggestion = {"stable_op", 0, v[i] < 0 ? "a schedule that ends at 0 and stays there" : "a rate below 1"};
    about.text = std::string("the ") + of[i].name + " that " + c.op.name + " was given is " + number(v[i]) +
                 (i == 0     ? ": each step climbs"
                  : v[i] < 0 ? ": it may not be below 0"
                             : ": what is gathered so never fades");
    return warn(Detector::lint, at, 0, "settings", std::move(about));
  }
  // What decay takes of a weight in one step: of SGD and AdamW that is rate x decay.
  const int64_t decay = &c.op == &op_sgd_step ? 3 : 4;
  const bool shrinks = &c.op == &op_sgd_step || (&c.op == &op_adam_step && static_cast<const AdamStepParams*>(c.params)->decoupled);
  if (!shrinks || decay >= n || !(v[0] * v[decay] >= 0.2)) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = v[0] * v[decay];
  about.suggestion = {"learning_rate", std::pow(10, std::floor(std::log10(1e-3 / about.value))),
                      "a weight decay, or rate, a thousandth of it"};
  about.text = "weight decay " + number(v[decay]) + " at a rate of " + number(v[0]) + " takes " + number(100 * about.value) +
               " % of each weight in each step of " + c.op.name + ": what was learned is gone in a few";
  warn(Detector::lint, at, 0, "settings", std::move(about));
}

/// Adam's step is m / sqrt(v). Where gradients stay away m fades by beta1 a step and sqrt(v) by the root of beta2: if that is less, the
/// step of a weight that gets no gradient grows and grows.
void MonitorState::judge_decay_rates(const Call& c, uint32_t at, double first, double second) {
  if (static_cast<const AdamStepParams*>(c.params)->amsgrad || !(first * first > second) || !(second > 0)) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = first;
  about.suggestion = {"stable_op", 0, "decay rates whose first is below the root of the second, such as 0.9 and 0.999"};
  about.text = "decay rates " + number(first) + " and " + number(second) + ": the step of a weight without gradient grows by " +
               number(100 * (first / std::sqrt(second) - 1)) +
               " % each time, because what divides it fades sooner than what is divided; are they in the wrong order?";
  warn(Detector::lint, at, 0, "decay rates", std::move(about));
}

/// Most f32 or f64 weights that have a gradient stand still, ten steps in a row, at a rate and with gradients that have not come down:
/// something made the step too short by many powers of ten.
void MonitorState::judge_unfelt(uint32_t at, WatchedUpdate& u, double share, double relative, double lr) {
  const bool settled = u.most_lr == 0 || (lr <= 1.01 * u.last_lr && lr >= 0.1 * u.most_lr);
  const bool arrived = u.gradient.size() && double(u.gradient.back()) < double(u.most_gradient) - 2;
  // A rate of 0 is somebody's wish.
  if (u.unfelt.add(relative > 0 && settled && !arrived && share > 0.5) != 10) return;
  const double factor = std::pow(10, std::round(std::log10(kFelt / relative)));
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = share, about.lost_ulps = 0.5;
  about.suggestion = {"learning_rate", factor,
                      "gradients that reach the step undiminished (were they clipped before they were divided by a loss scale?); else "
                      "learning rate x " +
                          number(factor)};
  about.text = number(100 * share) + " % of the weights that have a gradient did not move in 10 steps of " + sites[at].op->name +
               ": an update is " + number(relative) + " of a weight, less than half the distance to the next number";
  warn(Detector::absorbed_update, at, 0, "unfelt", std::move(about));
}

}  // namespace keel
