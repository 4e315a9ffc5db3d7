#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "keel/dtype.h"
#include "keel/shape.h"

#pragma GCC visibility push(default)
namespace keel {

/// When a Monitor stops the program's run with a NumericalError: at a NaN, at a NaN or infinity, raised by the op that went wrong; or already
/// at a warning, raised at the end of the step. What other faces call break_on_instability is `warning`.
enum class BreakOn : uint8_t { never, nan, nonfinite, warning };

/// `info`: worth knowing, no fault. `warning`: will go bad, or loses what it computes, if nothing changes. `fault`: went bad.
enum class Severity : uint8_t { info, warning, fault };

/// What to do about a finding: a kind that programs can act on, a number where it has one, and a sentence.
struct Suggestion {
  /// "epsilon" (value: the epsilon to use), "loss_scale" (the scale), "dtype" (text begins with its name), "learning_rate" (factor), "clip"
  /// (norm), "stable_op" (text names it), "master_weights", "accumulator", "data", "hardware", "margin"; empty: none.
  std::string kind;
  double value = 0;
  std::string text;
};

struct MonitorOptions {
  [[no_unique_address]] ByName by_name = ByName();
  BreakOn break_on = BreakOn::never;
  /// A file that gets one JSON object a line: findings as they come, a summary a step, and the table of sites at the end. Empty: none.
  std::string log_file = {};
  /// Share of the time that watching may take. On the CPU: once it has had a quarter of a second of work; where it takes more, one step in so
  /// many is watched whole, at most in 16, and of the others the loss, what it is made of, the gradients that an optimiser uses, its steps,
  /// and any result where the processor met a NaN, an overflow or a division by zero; after a fault or a warning 64 steps are watched whole
  /// again. On devices: measured by steps with and without; above it passes look at less than `sample` says, and at last only every 2nd,
  /// 4th ... 16th step is watched, the others in what costs little: small results such as the loss, gradients and weights at an optimiser's
  /// step. Negative: 0.02. 0: watch all of every step; so do `break_on` with nan or nonfinite, and debug mode.
  double budget = -1;
  /// On devices such passes look at one kilobyte in so many, another one at each step, until all have been looked at; at results of less
  /// than 1 MB, at gradients when an optimiser uses them, at weights and at data from outside always at everything. A power of two up to
  /// 64; 1: at everything.
  int64_t sample = 16;
  /// Look ahead: judge the trend of every site at the end of each step, and warn before a value is out of range. Off: only report what went
  /// bad.
  bool foretell = true;
  /// Keep weights clean: an optimiser step whose gradients hold a NaN or infinity writes nothing, and says so. `blocked_steps()` counts
  /// them.
  bool protect = false;
  /// Warn where rounding has cost more than this many units in the last place of a result; at 1000, 14 of the 24 digits of f32 cancelled.
  double max_ulp_drift = 1000;
  /// Every so many steps eight values of each matrix product are computed again in f64, to measure what rounding costs. 0: never.
  int64_t shadow_every = 50;
  /// 1 to 16: watch one step in so many whole, from the start and whatever that costs, on devices too; 0: as `budget` says.
  int64_t whole_every = 0;
};

/// Watches every op of this thread while it lives: what each one wrote, by op, module path, phase and place in the program; and says which
/// one made the first NaN or infinity. Results are the same, bit for bit,
/// with a monitor or without. Statistics are exact: largest magnitude, smallest magnitude that is not zero, how many values are NaN,
/// infinite, subnormal; on devices those of large results of some kernels are of a part, see MonitorOptions::sample. Integer results are not
/// watched.
///
///     Monitor monitor;
///     for (...) { monitor.step(); train_one_batch(); }
///     std::puts(monitor.report().c_str());
///
/// Belongs to the thread that made it, and must go before an older one of that thread does; the younger one watches.
class Monitor {
 public:
  explicit Monitor(const MonitorOptions& options = {});
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  /// Something that went wrong, at its first occurrence; `count` says how often since.
  ///
  /// Ops that only pass on what is broken already are not reported. An infinity that the program wrote itself (a mask's -inf in `full`,
  /// `where`, `masked_fill`) is `info` and comes with `notes()`.
  struct Finding {
    Severity severity = Severity::fault;
    std::string detector;  ///< which rule spoke: "nonfinite", "headroom", "denominator", ...; see docs/numerics/detectors.md
    int64_t epoch = 0;     ///< as `epoch()` was told
    int64_t eta = -1;      ///< steps until the value leaves its range if it goes on like this; -1 where there is no such number
    double low = 0, mean = 0;  ///< of a denominator or an argument that the finding is about: smallest magnitude, mean magnitude
    double lost_ulps = 0;  ///< units in the last place lost, measured or bounded; 0 where it is not about that
    Suggestion suggestion;
    std::string op;    ///< the op that produced it
    std::string path;  ///< module path; empty outside modules
    /// Where the program called the op: file:line where it has debug information (-g1), else function or module, plus offset. In the
    /// backward phase that of the forward call.
    std::string site;
    std::string phase;     ///< forward, backward or optimiser
    std::string kind;      ///< "nan", "inf", or "nan input": a NaN that no watched op made
    std::string text;      ///< a sentence with numbers
    int64_t step = 0;      ///< 0 before the first call of `step()`
    double value = 0;      ///< the worst value: NaN or infinity
    int64_t elements = 0;  ///< how many values of the result were so
    int64_t count = 0;     ///< calls at this site with the same finding
    bool info = false;  ///< severity is info
  };
  /// Totals of one result of one op at one place.
  struct Statistic {
    std::string op, output, path, site, phase;
    DType dtype = DType::none;  // of the last call
    int64_t calls = 0, elements = 0;
    double largest = 0;   // magnitude, among calls whose values were all finite; 0 where there was none
    double smallest = 0;  // magnitude other than zero; 0 where there is none
    int64_t nan = 0, inf = 0, subnormal = 0;
    int64_t first_step = 0, last_step = 0;
    /// `elements` and the counts are of what was looked at: one kilobyte in so many of a result at a step, at most; 1: all of each.
    int64_t every = 1;
  };
  /// One call, as the history keeps it.
  struct Record {
    int64_t step = 0;
    std::string op, output, path, phase;
    DType dtype = DType::none;
    int64_t elements = 0;
    double largest = 0, smallest = 0;
    int64_t nan = 0, inf = 0, subnormal = 0;
    int64_t every = 1;  // as Statistic's
  };

  /// A new step begins. Also writes the log's lines.
  void step();
  int64_t current_step() const;
  /// Does not watch until resumed, as if it did not live. Between steps, of a monitor that watches.
  void pause();
  void resume();
  bool paused() const;
  /// One step in so many is watched whole now; see MonitorOptions::budget.
  int64_t whole_every() const;
  /// An epoch begins; findings name it.
  void epoch(int64_t number);
  /// What went wrong, in order of appearance; at most 1,000.
  std::vector<Finding> findings() const;
  /// What is about to go wrong, in order of appearance: rules that look at trends and at what rounding costs.
  std::vector<Finding> warnings() const;
  /// Optimiser steps that wrote nothing because of `protect`.
  int64_t blocked_steps() const;
  /// What is worth knowing but is no fault.
  std::vector<Finding> notes() const;
  /// All sites, in order of appearance.
  std::vector<Statistic> statistics() const;
  /// The last 4,096 results, oldest first.
  std::vector<Record> history() const;
  /// Findings, and the sites that come closest to the limits of their dtype, as text.
  std::string report() const;
  /// Faults, warnings and notes that came since the last call, in order of appearance. Costs nothing where there are none.
  std::vector<Finding> news();
  /// What is needed to find out afterwards why a run broke: versions, instruction set, seed and step, findings, every site with its last
  /// steps, and the last 4,096 results. Trainer writes it as post_mortem.json and post_mortem.txt.
  struct PostMortem {
    std::string json, text;
  };
  PostMortem post_mortem() const;

 private:
  struct MonitorState* state_;
};

/// One line: when, which op of which layer in which phase, at which line, what happened with its numbers, and what to do.
std::string to_string(const Monitor::Finding& f);

}  // namespace keel
#pragma GCC visibility pop
