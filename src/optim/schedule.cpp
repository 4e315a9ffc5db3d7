#include "keel/optim/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/impl.h"
#include "keel/error.h"
#include "keel/ops/creation.h"

namespace keel::optim {

/// Every schedule is a function of the step; what must be remembered beside it is kept here too.
struct detail::SchedulerState : RefCounted {
  const char* name = "";
  Optimizer opt;
  int64_t step = 0;
  std::vector<double> base;  // rates that the groups had when the schedule was made
  /// The rate of a group at `step`; called for every group.
  Callback<double(SchedulerState& s, int64_t group)> rate;
  /// What else a step does, after the rates.
  Callback<void(SchedulerState& s, double metric)> also;
  bool wants_metric = false;
  // ReduceOnPlateau
  double best = 0;
  int64_t bad_steps = 0, cooldown_left = 0;

  void apply(double metric) {
    if (rate)
      for (int64_t i = 0; i < opt.groups(); ++i) opt.set_lr(i, rate(*this, i));
    if (also) also(*this, metric);
  }
  static void destroy(SchedulerState* s) { delete s; }
};
using detail::SchedulerState;

namespace {
SchedulerState& state_of(const Ref<SchedulerState>& s) {
  if (!s) raise(Error(ErrorCode::value, "an empty Scheduler").hint("make one of StepLR, CosineAnnealing, ..."));
  return *s;
}
void require(bool ok, const char* schedule, const char* what, double got) {
  if (!ok) raise(Error(ErrorCode::value, std::string(what) + ", got " + to_string(Scalar(got))).op(schedule));
}
constexpr double kPi = 3.14159265358979323846;
double cosine(double from, double to, double share) { return to + (from - to) / 2 * (std::cos(kPi * share) + 1); }
}  // namespace

Scheduler::Scheduler() noexcept = default;
Scheduler::Scheduler(const Scheduler&) noexcept = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;
Scheduler& Scheduler::operator=(const Scheduler&) noexcept = default;
Scheduler& Scheduler::operator=(Scheduler&&) noexcept = default;
Scheduler::~Scheduler() = default;

Scheduler::Scheduler(const Optimizer& opt) : state_(new SchedulerState) {
  state_->opt = opt;
  for (int64_t i = 0; i < opt.groups(); ++i) state_->base.push_back(opt.lr(i));
}
void Scheduler::step() {
  SchedulerState& s = state_of(state_);
  if (s.wants_metric) raise(Error(ErrorCode::value, "step needs the measure that it follows").op(s.name).hint("step(validation_loss)"));
  ++s.step;
  s.apply(0);
}
void Scheduler::step(double metric) {
  SchedulerState& s = state_of(state_);
  ++s.step;
  s.apply(metric);
}
int64_t Scheduler::steps_done() const { return state_of(state_).step; }
double Scheduler::lr(int64_t group) const { return state_of(state_).opt.lr(group); }
bool Scheduler::wants_metric() const { return state_of(state_).wants_metric; }

StateDict Scheduler::state_dict() const {
  SchedulerState& s = state_of(state_);
  StateDict d;
  d.set("last_epoch", full(Shape(), s.step, {.dtype = i64}));
  Tensor base = make_tensor(f64, Shape({int64_t(s.base.size())})), now = make_tensor(f64, Shape({int64_t(s.base.size())}));
  for (size_t i = 0; i < s.base.size(); ++i) base.data<double>()[i] = s.base[i], now.data<double>()[i] = s.opt.lr(int64_t(i));
  d.set("base_lrs", base);
  d.set("last_lr", now);
  if (s.wants_metric) {
    d.set("best", full(Shape(), s.best, {.dtype = f64}));
    d.set("num_bad_epochs", full(Shape(), s.bad_steps, {.dtype = i64}));
    d.set("cooldown_counter", full(Shape(), s.cooldown_left, {.dtype = i64}));
  }
  return d;
}
void Scheduler::load_state_dict(const StateDict& d) {
  SchedulerState& s = state_of(state_);
  const Tensor base = d["base_lrs"].to(f64), now = d["last_lr"].to(f64);
  if (base.size() != int64_t(s.base.size()) || now.size() != base.size())
    raise(Error(ErrorCode::shape, "the state is of " + std::to_string(base.size()) + " groups, the optimiser has " + std::to_string(s.base.size())).op("load_state_dict"));
  const int64_t step = d["last_epoch"].item<int64_t>();
  if (s.wants_metric) {
    const double best = d["best"].item();
    const int64_t bad = d["num_bad_epochs"].item<int64_t>(), cooldown = d["cooldown_counter"].item<int64_t>();
    s.best = best, s.bad_steps = bad, s.cooldown_left = cooldown;
  }
  s.step = step;
  for (size_t i = 0; i < s.base.size(); ++i) s.base[i] = base.data<double>()[i], s.opt.set_lr(int64_t(i), now.data<double>()[i]);
  if (!s.wants_metric) s.apply(0);
}

StepLR::StepLR(const Optimizer& opt, const StepLROptions& o) : Scheduler(opt) {
  require(o.step_size > 0, "StepLR", "step_size must be positive", double(o.step_size));
  state_->name = "StepLR";
  state_->rate = [o](SchedulerState& s, int64_t group) { return s.base[size_t(group)] * std::pow(o.gamma, double(s.step / o.step_size)); };
  state_->apply(0);
}

MultiStepLR::MultiStepLR(const Optimizer& opt, const MultiStepLROptions& o) : Scheduler(opt) {
  std::vector<int64_t> at = o.milestones;
  std::sort(at.begin(), at.end());
  state_->name = "MultiStepLR";
  state_->rate = [at, gamma = o.gamma](SchedulerState& s, int64_t group) {
    return s.base[size_t(group)] * std::pow(gamma, double(std::upper_bound(at.begin(), at.end(), s.step) - at.begin()));
  };
  state_->apply(0);
}

ExponentialLR::ExponentialLR(const Optimizer& opt, const ExponentialLROptions& o) : Scheduler(opt) {
  state_->name = "ExponentialLR";
  state_->rate = [o](SchedulerState& s, int64_t group) { return s.base[size_t(group)] * std::pow(o.gamma, double(s.step)); };
  state_->apply(0);
}

CosineAnnealing::CosineAnnealing(const Optimizer& opt, const CosineAnnealingOptions& o) : Scheduler(opt) {
  require(o.total_steps > 0, "CosineAnnealing", "total_steps must be positive", double(o.total_steps));
  require(o.warmup_steps >= 0 && o.warmup_steps < o.total_steps, "CosineAnnealing", "warmup_steps must be at least 0 and below total_steps", double(o.warmup_steps));
  state_->name = "CosineAnnealing";
  state_->rate = [o](SchedulerState& s, int64_t group) {
    const double base = s.base[size_t(group)];
    if (s.step < o.warmup_steps) return base * (o.warmup_start + (1 - o.warmup_start) * double(s.step) / double(o.warmup_steps));
    const double share = std::min(1.0, double(s.step - o.warmup_steps) / double(o.total_steps - o.warmup_steps));
    return o.min_lr + (base - o.min_lr) * (1 + std::cos(kPi * share)) / 2;
  };
  state_->apply(0);
}

OneCycle::OneCycle(const Optimizer& opt, const OneCycleOptions& o) : Scheduler(opt) {
  require(o.total_steps > 0, "OneCycle", "total_steps must be positive", double(o.total_steps));
  require(o.pct_start >= 0 && o.pct_start <= 1, "OneCycle", "pct_start must be in [0, 1]", o.pct_start);
  state_->name = "OneCycle";
  /// The value at `step` of a course low, high, (low,) least, with momentum running against it.
  auto course = [o](int64_t step, double low, double high, double least) {
    const double total = double(o.total_steps), t = double(step);
    struct Phase {
      double end, from, to;
    } phases[3];
    int n = 0;
    if (o.three_phase) phases[n++] = {o.pct_start * total - 1, low, high}, phases[n++] = {2 * o.pct_start * total - 2, high, low}, phases[n++] = {total - 1, low, least};
    else phases[n++] = {o.pct_start * total - 1, low, high}, phases[n++] = {total - 1, high, least};
    double begin = 0;
    for (int i = 0; i < n; ++i) {
      if (t <= phases[i].end || i == n - 1) {
        const double share = (t - begin) / (phases[i].end - begin);
        return o.linear ? phases[i].from + (phases[i].to - phases[i].from) * share : cosine(phases[i].from, phases[i].to, share);
      }
      begin = phases[i].end;
    }
    return least;
  };
  state_->rate = [o, course](SchedulerState& s, int64_t group) {
    if (s.step >= o.total_steps) raise(Error(ErrorCode::value, "step " + std::to_string(s.step) + " is beyond the cycle's " + std::to_string(o.total_steps)).op("OneCycle"));
    const double high = o.max_lr > 0 ? o.max_lr : s.base[size_t(group)], low = high / o.div_factor;
    return course(s.step, low, high, low / o.final_div_factor);
  };
  if (o.cycle_momentum)
    state_->also = [o, course](SchedulerState& s, double) {
      const char* what = s.opt.has("beta1") ? "beta1" : "momentum";
      for (int64_t i = 0; i < s.opt.groups(); ++i)
        if (s.opt.get(i, what) > 0) s.opt.set(i, what, course(s.step, o.max_momentum, o.base_momentum, o.max_momentum));
    };
  state_->apply(0);
}

ReduceOnPlateau::ReduceOnPlateau(const Optimizer& opt, const ReduceOnPlateauOptions& o) : Scheduler(opt) {
  require(o.factor < 1, "ReduceOnPlateau", "factor must be below 1", o.factor);
  state_->name = "ReduceOnPlateau";
  state_->wants_metric = true;
  state_->best = o.maximize ? -INFINITY : INFINITY;
  state_->also = [o](SchedulerState& s, double metric) {
    const double mark = o.absolute ? s.best + (o.maximize ? o.threshold : -o.threshold) : s.best * (1 + (o.maximize ? o.threshold : -o.threshold));
    if (o.maximize ? metric > mark : metric < mark) s.best = metric, s.bad_steps = 0;
    else ++s.bad_steps;
    if (s.cooldown_left > 0) --s.cooldown_left, s.bad_steps = 0;
    if (s.bad_steps <= o.patience) return;
    for (int64_t i = 0; i < s.opt.groups(); ++i) {
      const double now = s.opt.lr(i), next = std::max(now * o.factor, o.min_lr);
      if (now - next > o.eps) s.opt.set_lr(i, next);
    }
    s.cooldown_left = o.cooldown, s.bad_steps = 0;
  };
}

LambdaLR::LambdaLR(const Optimizer& opt, Callback<double(int64_t)> f) : Scheduler(opt) {
  state_->name = "LambdaLR";
  state_->rate = [f = std::move(f)](SchedulerState& s, int64_t group) { return s.base[size_t(group)] * f(s.step); };
  state_->apply(0);
}

}  // namespace keel::optim
