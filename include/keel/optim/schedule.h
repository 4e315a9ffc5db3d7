#pragma once
#include <vector>

#include "keel/base/callback.h"
#include "keel/optim/optimizer.h"

#pragma GCC visibility push(default)
// Learning-rate schedules. Each sets the rates of step 0 when it is made; `step()` after each optimiser step (or epoch, as the options count) sets the next. The values are PyTorch's.
namespace keel::optim {

namespace detail {
struct SchedulerState;
}

/// Any schedule: a handle, whose copies share one state.
class Scheduler {
 public:
  Scheduler() noexcept;
  Scheduler(const Scheduler&) noexcept;
  Scheduler(Scheduler&&) noexcept;
  Scheduler& operator=(const Scheduler&) noexcept;
  Scheduler& operator=(Scheduler&&) noexcept;
  ~Scheduler();

  /// Goes to the next step and sets every group's rate. ReduceOnPlateau needs a measure and refuses this.
  void step();
  /// The same for schedules that follow a measure, such as a validation loss; others ignore it.
  void step(double metric);
  /// Steps taken.
  int64_t steps_done() const;
  double lr(int64_t group = 0) const;
  bool defined() const { return bool(state_); }
  /// Whether `step` needs a measure.
  bool wants_metric() const;
  StateDict state_dict() const;
  /// Also sets the rates, as the optimiser may be a fresh one.
  void load_state_dict(const StateDict& s);

 protected:
  explicit Scheduler(const Optimizer& opt);
  Ref<detail::SchedulerState> state_;
};

struct StepLROptions {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t step_size = 1;
  double gamma = 0.1;
};
/// Times gamma every `step_size` steps.
class StepLR : public Scheduler {
 public:
  StepLR(const Optimizer& opt, const StepLROptions& o);
};

struct MultiStepLROptions {
  [[no_unique_address]] ByName by_name = ByName();
  std::vector<int64_t> milestones = {};
  double gamma = 0.1;
};
/// Times gamma at each milestone.
class MultiStepLR : public Scheduler {
 public:
  MultiStepLR(const Optimizer& opt, const MultiStepLROptions& o);
};

struct ExponentialLROptions {
  [[no_unique_address]] ByName by_name = ByName();
  double gamma = 0.9;
};
/// Times gamma at each step.
class ExponentialLR : public Scheduler {
 public:
  ExponentialLR(const Optimizer& opt, const ExponentialLROptions& o);
};

struct CosineAnnealingOptions {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t total_steps = 0;   // must be given
  int64_t warmup_steps = 0;  // of these, the first climb in a straight line
  double warmup_start = 0;   // share of the rate at which they begin
  double min_lr = 0;
};
/// Half a cosine from the optimiser's rate to `min_lr`, after the warm-up; stays there.
class CosineAnnealing : public Scheduler {
 public:
  CosineAnnealing(const Optimizer& opt, const CosineAnnealingOptions& o);
};

struct OneCycleOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double max_lr = 0;              // 0: the optimiser's rate
  int64_t total_steps = 0;        // must be given
  double pct_start = 0.3;         // share of the steps that climb
  double div_factor = 25;         // the rate begins at max_lr / div_factor
  double final_div_factor = 1e4;  // and ends at that / final_div_factor
  bool linear = false;            // straight lines instead of cosines
  bool three_phase = false;       // climb, come back the same way, then fall
  bool cycle_momentum = true;     // momentum, or the first beta, runs the other way between
  double base_momentum = 0.85;
  double max_momentum = 0.95;
};
/// Smith and Topin's one-cycle policy. A `step` beyond the last is a ValueError.
class OneCycle : public Scheduler {
 public:
  OneCycle(const Optimizer& opt, const OneCycleOptions& o);
};

struct ReduceOnPlateauOptions {
  [[no_unique_address]] ByName by_name = ByName();
  bool maximize = false;    // the measure should grow
  double factor = 0.1;
  int64_t patience = 10;    // steps without improvement that are borne
  double threshold = 1e-4;
  bool absolute = false;    // the threshold is a difference, not a share
  int64_t cooldown = 0;     // steps after a reduction that do not count
  double min_lr = 0;
  double eps = 1e-8;        // a smaller change is not made
};
/// Times `factor` when a measure has stopped improving: `step(measure)`.
class ReduceOnPlateau : public Scheduler {
 public:
  ReduceOnPlateau(const Optimizer& opt, const ReduceOnPlateauOptions& o);
};

/// The optimiser's rate times f(steps done).
class LambdaLR : public Scheduler {
 public:
  LambdaLR(const Optimizer& opt, Callback<double(int64_t step)> f);
};

}  // namespace keel::optim
#pragma GCC visibility pop
