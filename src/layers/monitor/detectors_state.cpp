// Rules about what an optimiser makes by itself, of good gradients: numbers that are not finite, moments that leave their format, steps
// that grow while gradients do not. And about averages that rounding holds in place.
#include <algorithm>
#include <cmath>

#include "backend/float_bits.h"
#include "backend/step_guard.h"
#include "core/impl.h"
#include "keel/ops/optim_step.h"
#include "layers/monitor/monitor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_add, op_adam_step, op_assign, op_lerp, op_rmsprop_step, op_sgd_step;

namespace {

/// What list `k` of a step is called.
const char* name_of_list(const Call& c, int k) {
  if (k == 0) return "weights";
  if (&c.op == &op_sgd_step) return "momentum_buffer";
  if (&c.op == &op_adam_step) return k == 2 ? "exp_avg" : k == 3 ? "exp_avg_sq" : "max_exp_avg_sq";
  if (k == 2) return "square_avg";
  return k == 3 && static_cast<const RmspropStepParams*>(c.params)->centered ? "grad_avg" : "momentum_buffer";
}
bool holds_squares(const Call& c, int k) { return &c.op == &op_adam_step ? k >= 3 : &c.op == &op_rmsprop_step && k == 2; }

/// Which list input `i` of a step belongs to.
int list_of(const Call& c, int i) {
  int first, end;
  MonitorState::gradients_of(c, first, end);
  return (i - (c.op.in.size() - 1)) / std::max(1, end - first);
}

std::string parameter(const Call& c, int64_t i) {
  return "parameter " + std::to_string(i) + " (" + to_string(impl(c.in[c.op.in.size() - 1 + int(i)]).spec) + ")";
}

/// Where the k-th last of numbers stands that come step by step.
double ago(int k) { return -k; }

/// Of samples; in lanes, so that sums do not wait for each other.
double sum_of_squares(std::span<const float> x) {
  double sum[8] = {};
  size_t i = 0;
  for (; i + 8 <= x.size(); i += 8)
    for (size_t k = 0; k < 8; ++k) sum[k] += double(x[i + k]) * double(x[i + k]);
  for (; i < x.size(); ++i) sum[0] += double(x[i]) * double(x[i]);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]) + (sum[4] + sum[5]) + (sum[6] + sum[7]);
}

}  // namespace

/// A step that made numbers that are not finite out of finite ones. Those that the guard held back are in no weight; others are known to be
/// there from now on.
void MonitorState::judge_made(const Call& c, uint32_t at, const StepGuard& g, const double* settings) {
  const int64_t n = g.elements.load();
  if (n == 0) return;
  const uint32_t lists = g.lists.load();
  std::string where;
  bool squares = false;
  for (int k = 0; k < 6; ++k)
    if (lists >> k & 1) {
      where += (where.empty() ? "" : ", ") + std::string(name_of_list(c, k));
      squares |= holds_squares(c, k);
    }
  if (!g.holds)
    for (int i = c.op.in.size() - 1; i < c.in.size(); ++i) {
      if (impl(c.in[i]).spec.shape.rank() == 0 && impl(c.in[i]).spec.dtype == f64) continue;  // a count of steps
      if (impl(c.in[i]).device != cpu_device) {  // there is no memory to look at
        if (const int list = list_of(c, i); list > 1 && lists >> list & 1) tainted.set(impl(c.in[i]).storage.get(), TaintedStorages::inf);
        continue;
      }
      StatSlot s;
      observe(c.in[i], s);
      if (s.nan.load() + s.inf.load()) tainted.set(impl(c.in[i]).storage.get(), s.nan.load() ? TaintedStorages::nan : TaintedStorages::inf);
    }
  const double epsilon = !settings ? 1 : &c.op == &op_adam_step ? settings[3] : &c.op == &op_rmsprop_step ? settings[2] : 1;
  Suggestion better;
  std::string why;
  if (squares) {
    double norm = 0, spread = 0;
    if (const auto& u = sites[at].update; u && u->gradient.size()) u->gradient.centre(norm, spread);
    why = "the square of a gradient leaves the format of the state";
    better = {"clip", std::exp2(norm), "clip the gradients' norm at " + number(std::exp2(norm)) + ", as large as it usually was"};
  } else if (epsilon == 0) {
    why = "the root that a gradient is divided by is 0, and epsilon is 0";
    better = {"epsilon", 1e-8, "epsilon 1e-8"};
  } else if (settings) {
    why = "a step at a rate of " + number(settings[0]) + " leaves the format";
    better = {"learning_rate", 0.1, "learning rate x 0.1, now " + number(0.1 * settings[0])};
  } else {
    why = "a step leaves the format";
    better = {"learning_rate", 0.1, "learning rate x 0.1"};
  }
  add_found(c, at, 0, "nan", false, NAN, n, better,
            std::string(c.op.name) + " made " + std::to_string(n) + (n == 1 ? " element" : " elements") + " NaN or infinite (" + where +
                ") out of finite numbers, first of " + parameter(c, g.tensor.load()) + ": " + why +
                (g.holds ? "; these keep what they were, weight and state" : ""));
}

/// Looks at the samples of parameter `i`.
void MonitorState::look_at_moments(const Call& c, uint32_t at, int i, const SampledStep& s, const double* settings) {
  WatchedUpdate& u = *sites[at].update;
  if (!u.moments) u.moments = std::make_unique<WatchedMoments>();
  WatchedMoments& m = *u.moments;
  const bool wide = impl(c.in[c.op.in.size() - 1 + i]).spec.dtype == f64;  // samples are f32
  const double epsilon = &c.op == &op_adam_step ? settings[3] : &c.op == &op_rmsprop_step ? settings[2] : 0;
  bool broken = false, cancelled = false;
  float most = 0;
  for (size_t j = 0; j < s.second.size() && !wide; ++j) {
    most = s.second[j] > most ? s.second[j] : most;
    broken |= !(std::abs(s.second[j]) < INFINITY) && std::isfinite(s.gradient[j]);
  }
  m.most_second = std::max(m.most_second, double(most));
  // What is left of 14 of 24 digits is rounding, unless an epsilon is above it.
  for (size_t j = 0; j < s.mean.size() && !wide; ++j) {
    const auto v = double(s.second[j]), mean = double(s.mean[j]);
    cancelled |= v > 0 && s.gradient[j] != 0 && v - mean * mean < v * 0x1p-14 && epsilon * epsilon < v * 0x1p-20;
  }
  m.cancelled |= cancelled;
  if (broken) {
    Monitor::Finding about;
    about.severity = Severity::fault, about.value = double(INFINITY);
    about.suggestion = {"clip", 1, "clip gradients, and start the optimiser's state anew"};
    about.text = "the second moment that " + std::string(c.op.name) + " divides by is not finite in " + parameter(c, i) +
                 ": such weights do not move any more, or become NaN";
    warn(Detector::nonfinite, at, 0, "state", std::move(about));
  }
  judge_stride(c, at, i, s, settings[0]);
}

/// Steps that grow while the gradient stands still; notes one that leaps.
void MonitorState::judge_stride(const Call& c, uint32_t at, int i, const SampledStep& s, double lr) {
  WatchedMoments& m = *sites[at].update->moments;
  if (m.strides.size() <= size_t(i)) m.strides.resize(size_t(i) + 1);
  Stride& x = m.strides[size_t(i)];
  const auto samples = double(s.before.size());
  const double d = std::sqrt(s.moved2 / samples), g = std::sqrt(s.gradient2 / samples),
               size = std::sqrt(sum_of_squares(s.before) / samples);
  if (!(d > 0) || !(g > 0) || !(lr > 0) || !(d < INFINITY) || !(g < INFINITY)) return;
  const uint32_t steps = x.steps++;
  x.size = std::max(x.size, size);
  const double beside = x.size > 0 ? d / x.size : 0;
  if (steps >= 16 && beside > 2 && beside > 32 * x.most && m.leap.parameter < 0) m.leap = {i, beside, x.most};
  x.most = std::max(x.most, beside);
  if (steps % Stride::kEvery || &c.op == &op_sgd_step) return;
  constexpr int n = Stride::kReadings;
  const uint32_t place = steps / Stride::kEvery;
  x.stretch[place % n] = float(std::log2(d / lr)), x.gradient[place % n] = float(std::log2(g));
  if (place + 1 < n || d < 4 * lr) return;
  const auto [low, high] = std::minmax_element(x.gradient, x.gradient + n);
  const Line line = fit(n, ago, [&](int k) { return double(x.stretch[(place - uint32_t(k)) % n]); });
  if (double(*high) - double(*low) > 1 || line.slope * (n - 1) < 3 || line.r2 < 0.95) return;
  Monitor::Finding about;
  about.severity = Severity::warning, about.value = d / lr;
  const double by = 100 * (std::exp2(line.slope / Stride::kEvery) - 1);
  if (&c.op == &op_rmsprop_step && static_cast<const RmspropStepParams*>(c.params)->centered)
    about.suggestion = {"stable_op", 0, "centered = false: of gradients that hardly change the deviation is next to nothing"};
  else
    about.suggestion = {"learning_rate", 0.1, "learning rate x 0.1, now " + number(0.1 * lr)};
  about.text = std::string(c.op.name) + " moves " + parameter(c, i) + " further and further, by " + number(by) + " % a step for " +
               std::to_string(n * Stride::kEvery) + " steps, though its gradient stands still: now by " + number(d / lr) +
               " times the learning rate";
  warn(Detector::growth, at, 0, "stretch", std::move(about));
}

/// A step that leaves little of weights, as it moves them by more than twice what they were. One parameter that does so far out of its custom
/// met a gradient out of its own. Where it is all of them, the rate is too large: Adam's and RMSprop's steps are as long as it is, whatever
/// the gradient.
void MonitorState::judge_length(const Call& c, uint32_t at, double moved2, double length2, double lr) {
  const WatchedUpdate& u = *sites[at].update;
  const Leap leap = u.moments ? std::exchange(u.moments->leap, {}) : Leap();
  Monitor::Finding about;
  about.severity = Severity::warning;
  if (leap.parameter >= 0 && !find_jump()) {
    double median = 0, spread = 0;
    u.gradient.centre(median, spread);
    about.value = leap.beside;
    about.suggestion = {"clip", 2 * std::exp2(median),
                        "clip the gradients' norm at " + number(2 * std::exp2(median)) + ", twice its median"};
    about.text = std::string(c.op.name) + " moved " + parameter(c, leap.parameter) + " by " + number(leap.beside) +
                 " times its size in one step, where " + number(leap.most) + " was the most so far: little of what it had learned is left";
  } else if (&c.op != &op_sgd_step && length2 > 0 && moved2 > 4 * length2 && moved2 > 0.01 && moved2 < INFINITY) {
    const double factor = std::pow(10, std::floor(std::log10(0.01 * std::sqrt(length2 / moved2))));
    about.value = std::sqrt(moved2 / length2);
    about.suggestion = {"learning_rate", factor, "learning rate x " + number(factor) + ", now " + number(factor * lr)};
    about.text = "a step of " + std::string(c.op.name) + " moved the weights by " + number(std::sqrt(moved2)) + " each, " +
                 number(about.value) + " times what they were: nothing of them is left";
  } else {
    return;
  }
  warn(Detector::growth, at, 0, "length", std::move(about));
}

/// After all parameters: second moments that leave the format soon, and those that are a difference of two numbers that became the same.
void MonitorState::judge_moments(const Call& c, uint32_t at) {
  WatchedUpdate& u = *sites[at].update;
  if (!u.moments) return;
  WatchedMoments& m = *u.moments;
  const bool cancelled = std::exchange(m.cancelled, false);
  m.cancels.add(cancelled);
  if (m.cancels == 2) {
    Monitor::Finding about;
    about.severity = Severity::warning, about.value = 14, about.lost_ulps = std::exp2(14);
    about.suggestion = {"stable_op", 0, "centered = false, or an epsilon that is felt: a hundredth of the gradients"};
    about.text =
        "E[g^2] - E[g]^2, whose root " + std::string(c.op.name) +
        " divides by, cancels 14 of the 24 digits (bits) of f32 and more: some gradients hardly change, their steps grow without end, "
        "and what is left is rounding, which may be below 0";
    warn(Detector::lost_bits, at, 0, "centred", std::move(about));
  }
  const double most = std::exchange(m.most_second, 0);
  if (!(most > 0) || !std::isfinite(most)) return;
  m.second.push(std::log2(most));
  const double now = std::log2(most), room = 128 - now;
  if (now < 20) return;
  for (const int n : {8, 16}) {
    if (m.second.size() < n) return;
    const Line line = fit(n, ago, [&](int k) { return double(m.second.back(k)); });
    if (!(line.slope > 0.05) || line.r2 < 0.8 || room / line.slope > 20) continue;
    Monitor::Finding about;
    about.severity = Severity::warning, about.eta = int64_t(room / line.slope), about.value = most;
    double median = 0, spread = 0;
    u.gradient.centre(median, spread, Numbers::kLength, u.gradient.size() / 2);
    const bool endless = loss_site < sites.size() && sites[loss_site].results[loss_output].negative;
    about.suggestion = endless ? Suggestion{"stable_op", 0, "a loss with a lower end: look at the sign of what grows in it"}
                               : Suggestion{"clip", std::exp2(median), "clip the gradients' norm at " + number(std::exp2(median))};
    about.text = "the second moment of " + std::string(c.op.name) + " reaches " + number(most) + " and grows by " + number(line.slope) +
                 " bits a step: it leaves f32 in " + std::to_string(about.eta) + " steps, and then its weights stand still for ever";
    return warn(Detector::headroom, at, 0, "second moment", std::move(about));
  }
}

// ---- averages that stand still ----

/// Whether a call may be the new value of a moving average: nothing learns through it, and its format may keep nothing of what is new.
bool MonitorState::may_stand_still(const Call& c) {
  if ((&c.op != &op_lerp && &c.op != &op_add) || c.recording || c.into || c.scope.phase == Phase::backward) return false;
  const TensorImpl &a = impl(c.in[0]), &b = impl(c.in[1]);
  if (a.weak || b.weak || a.device != cpu_device || !(a.spec == c.out[0]) || !(b.spec == a.spec) || !is_inexact(a.spec.dtype)) return false;
  if (format_of(a.spec.dtype).digits <= 11) return true;
  if (&c.op != &op_lerp) return false;
  const TensorImpl& t = impl(c.in[2]);  // f32, moved by next to nothing
  return t.weak && std::abs(read_double(t.data, t.spec.dtype)) < 0x1p-20;
}

/// 64 elements: before, what they are to come nearer to or is added, and after. Of a copy, that it was a mixture that is copied back.
void MonitorState::plan_mixture(const Call& c, const Tensor& out, const Sight& sight, Wanted& to) {
  if (&c.op == &op_assign) return note_copied_back(c);
  if (!sight.takes_rows(c.in[0]) || !sight.takes_rows(c.in[1]) || !sight.takes_rows(out)) return;
  for (const int operand : {0, 1, -1}) to.ask(ValueRule::mixture, operand, {of_weights(out.size())});
}

void MonitorState::judge_mixture(const Call& c, uint32_t at, Samples s) {
  WatchedSite& site = sites[at];
  if (!site.mixture) site.mixture = std::make_unique<WatchedMixture>();
  WatchedMixture& m = *site.mixture;
  const std::vector<float> before = s[0].all<float>(), other = s[1].all<float>(), after = s[2].all<float>();
  const int digits = format_of(s[0].dtype).digits;
  std::vector<double> needed;
  m.first = impl(c.in[0]).storage.get(), m.due = m.still = 0;
  for (size_t j = 0; j < before.size(); ++j) {
    const double way = std::abs(site.op == &op_lerp ? double(other[j]) - double(before[j]) : double(other[j])),
                 unit = std::ldexp(std::abs(double(before[j])), 1 - digits);
    // A mixture must have some way to go; of a sum all that is added counts.
    if (!(way > (site.op == &op_lerp ? 4 * unit : 0)) || !std::isfinite(way)) continue;
    ++m.due, m.still += before[j] == after[j];
    needed.push_back(unit / 2 / way);
  }
  if (needed.empty()) return;
  std::nth_element(needed.begin(), needed.begin() + int64_t(needed.size() / 2), needed.end());
  m.factor = needed[needed.size() / 2];
}

/// Nine of ten elements keep their bits though they should move, eight steps in a row, and the result replaces what it was made of.
void MonitorState::note_copied_back(const Call& c) {
  const Written* const w = c.in.has(1) ? known(c.in[1]) : nullptr;
  WatchedMixture* const m = w ? sites[w->site].mixture.get() : nullptr;
  if (!m || m->first != impl(c.in[0]).storage.get() || !(impl(c.in[0]).spec.dtype == w->dtype)) return;
  m->first = nullptr;
  if (m->step != step) {
    const bool stands = m->step_due >= 8 && 10 * m->step_still > 9 * m->step_due;
    m->streak.add(stands);
    if (m->streak == 8) {
      const bool mixes = sites[w->site].op == &op_lerp;
      Monitor::Finding about;
      about.severity = Severity::warning, about.value = double(m->step_still) / m->step_due, about.lost_ulps = 0.5;
      about.suggestion = {
          "accumulator", mixes ? m->factor : 0,
          "keep the average in f32 and cast it where it is used" +
              (mixes ? "; in " + std::string(name_of(w->dtype)) + " half of it moves from a factor of " + number(m->factor) + " on"
                     : std::string())};
      about.text = std::string(mixes ? "a moving average in " : "a running sum in ") + name_of(w->dtype) +
                   " stands still: " + std::to_string(m->step_still) + " of " + std::to_string(m->step_due) +
                   " sampled values kept their bits in " + sites[w->site].op->name +
                   " though they had some way to go, eight steps in a row";
      warn(Detector::absorbed_update, w->site, 0, "standing still", std::move(about));
    }
    m->step = step, m->step_due = m->step_still = 0;
  }
  m->step_due += m->due, m->step_still += m->still;
}

}  // namespace keel
