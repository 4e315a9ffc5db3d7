#pragma once
// What a Monitor keeps. The layer's side of it is written for speed: no text, no allocation but when a new site appears.
#include <algorithm>
#include <bitset>
#include <cmath>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/stat_slot.h"
#include "keel/monitor.h"
#include "layers/monitor/governor.h"
#include "layers/monitor/sampling.h"
#include "layers/monitor/series.h"
#include "layers/monitor/state_watch.h"
#include "op/scope.h"

namespace keel {

struct Storage;
struct StepGuard;

/// What the running step brought so far: as bits, `min_bits` less one, as in a StatSlot. Only values of one dtype are in here.
struct RunningStep {
  uint64_t max_bits = 0, min_bits = ~uint64_t(0), elements = 0;
  uint32_t calls = 0, nan = 0, inf = 0, subnormal = 0;
  uint32_t every = 1;  // the largest of its calls'
};
/// Totals of one result at one site.
struct WatchedResult {
  uint64_t calls = 0, elements = 0, nan = 0, inf = 0, subnormal = 0;
  double largest = 0, smallest = 0;  // without `now`; see MonitorState::fold
  int64_t first_step = 0, last_step = 0;
  DType dtype = DType::none;
  bool is_loss = false;            // backward() was called on it
  bool negative = false;           // and it was below 0 in the last step
  float record = -INFINITY;        // log2, the largest up to 32 steps ago
  float first = NAN;               // of a loss: log2, in its first step
  Streak streak;                   // steps in a row with too many subnormal numbers; of a loss: looks that saw it fall without end
  Streak stuck;                    // calls in a row that added to a sum and did not change it
  uint32_t every = 1;              // the largest of all steps'
  std::unique_ptr<Rotation> parts;  // where a step looks at a part
  RunningStep now;
  std::unique_ptr<Series> series;  // complete steps
};
/// An input that endangers its op: a denominator, the argument of a logarithm.
struct WatchedArgument {
  int input = -1;
  uint32_t step_calls = 0;
  DType dtype = DType::none;
  uint64_t min_bits = ~uint64_t(0), max_bits = 0;
  double sum = 0;        // of sampled magnitudes
  int64_t sampled = 0;
  double mean = 0;       // largest mean magnitude of a step so far
  float lost = -INFINITY;   // bits that a cancelling subtraction took from the smallest magnitude, in this step
  uint32_t lost_site = 0;   // that subtraction
  float floor = -INFINITY;  // as Written's
  float last_floor = -INFINITY;  // of the step before
  Streak fades;                  // steps in a row in which it fell
  Streak lost_streak;            // steps in a row that lost too many
  bool recorded = false;    // a gradient flows through it
  enum Kind : uint8_t { vanishes, saturates, attends, targets, turns, nears_one } kind = vanishes;  // what is watched: see judge_argument
  bool number = false;      // the program divides by a number of its own, no tensor
  uint64_t number_bits = 0; // its last value
  float power = 0;          // of a `pow`, whose base this is
  Streak streak;
  uint32_t every = 1;
  std::unique_ptr<Rotation> parts;
  std::unique_ptr<Series> series;
};
/// An optimiser's step.
struct WatchedUpdate {
  Numbers gradient, moved, ratio;  // log2 of the norms of gradients and of what the weights moved; rms of gradient / root of second moment
  std::vector<float> before;       // sampled weights, as they were before the step
  double last_lr = 0, most_lr = 0;
  float most_gradient = -INFINITY;    // log2, ever
  Streak absorbed, floored, unfelt, spikes;  // steps in a row
  Streak silent;                             // steps in a row in which all gradients were 0
  Streak uncleared;                          // steps in a row along gradients that hold those of the step before
  uint32_t rate_rises = 0;            // steps in a row with a higher rate than ever
  double first_long = 0;              // the first step that moved the weights by as much as they were: times their length
  Streak empty;                       // steps in a row whose gradients were all 0
  Streak unmoved;                     // steps in a row that an epsilon kept from moving anything
  std::vector<Streak> cut, faint;     // a parameter: steps in a row without gradient, or with next to none
  Numbers loss;                       // log2, as it was at each step while the rate rose
  Numbers turn;                       // cosine between the sampled gradients of one step and the next
  std::vector<float> last_gradient;   // those samples
  double best_loss = INFINITY, best_lr = 0;  // least median of eight, and the rate then
  std::unique_ptr<WatchedMoments> moments;
};
/// What samples of a result's values say; taken every few steps.
struct WatchedValues {
  Numbers kurtosis;  // log2 of mean x^4 / (mean x^2)^2
  Numbers zeros;     // share of a narrow gradient
  std::vector<uint8_t> alive;  // units of a relu that were not 0 in one of the last `rows` rows
  int64_t rows = 0;
  int64_t last_step = -1, largest = 0;  // elements of the largest result so far
  Streak heavy;                         // samples in a row far from the median
  Streak alike;                         // in which all units of a layer gave the same
};
/// One op at one place of the program. What every call asks for comes first, in one line of the cache.
struct alignas(64) WatchedSite {
  const OpDef* op = nullptr;
  const OpDef* of = nullptr;  // in the backward phase: the op of the program whose gradient this is part of
  const char* path = nullptr;
  const void* site = nullptr;
  uint32_t begun = 0;        // calls that rules about values might look at; of a device also those that nothing is known of yet
  int64_t running = -1;      // the step of its last call,
  uint32_t call = 0;         // and which one of that step it was
  uint32_t next[2] = {};     // the sites that came after this one, the last one first: in a backward pass two take turns
  Phase phase = Phase::forward;
  bool tells_some = false;        // there is something in `telling`
  bool partly = false;            // nothing speaks against watching it in part: neither an optimiser's step nor a transfer
  bool sums = false;              // adds in a backward pass
  bool twice = false;             // both inputs were the same tensor
  uint8_t vain = 0;               // times that the processor's flags spoke of a result without fault
  uint32_t from[2] = {~0u, ~0u};  // the sites that made its first inputs, at its first call
  // By output the calls that are watched in every step, counted from 1; 0 for none. The loss, what it is made of, gradients that an
  // optimiser uses: two, since one place may add up a layer's weights and biases.
  static constexpr uint32_t kAllCalls = ~0u;
  uint32_t telling[4][2] = {};
  bool is(const Call& c) const { return site == c.site && op == &c.op && path == c.scope.path && phase == c.scope.phase; }
  /// A call of step `now` begins.
  void count_call(int64_t now) { call = running == now ? call + 1 : 0, running = now; }
  /// Which outputs of the call that runs are watched in every step, as bits.
  unsigned told(int outputs) const {
    unsigned bits = 0;
    for (int i = 0; tells_some && i < outputs; ++i) bits |= unsigned(tells(i, call)) << i;
    return bits;
  }
  bool tells(int output, uint32_t of_call) const {
    const uint32_t *const t = telling[output], n = of_call + 1;
    return t[0] == n || t[1] == n || t[0] == kAllCalls;
  }
  bool tells_all() const { return telling[0][0] == kAllCalls; }
  void tell(int output, uint32_t of_call) {
    tells_some = true;
    if (!tells(output, of_call)) telling[output][1] = telling[output][0], telling[output][0] = of_call + 1;
  }
  /// All calls, from now on.
  void tell() {
    tells_some = true;
    for (auto& calls : telling) calls[0] = kAllCalls;
  }
  float factor = 0;               // log2 of a number that it multiplies by
  bool counts = false;            // its results are integers: positions, counts, times
  WatchedResult results[4];  // one a declared output
  std::unique_ptr<WatchedArgument> argument;
  std::unique_ptr<WatchedUpdate> update;
  std::unique_ptr<WatchedValues> values;
  std::unique_ptr<WatchedMixture> mixture;
};

/// The rules. The order is that of `detector_name`.
enum class Detector : uint8_t {
  nonfinite, headroom, denominator, argument, growth, lost_bits, underflow, absorbed_update, adam, gradient_norm, attention_entropy,
  fp8_scale, loss_scale, uninitialised, lint, kurtosis, bad_input
};
const char* detector_name(Detector d);

/// What is known of a storage that a watched op wrote last.
struct Written {
  const Storage* storage = nullptr;
  const char* writer = nullptr;
  uint32_t version = 0, site = 0, call = 0;
  int64_t offset = 0, size = 0;                       // elements of the tensor
  uint64_t elements = 0, max_bits = 0, min_bits = 0;  // those that were looked at
  DType dtype = DType::none;
  uint8_t output = 0;
  bool whole = true;        // every element was looked at
  bool all = true;          // the slot is about all of the tensor, though it may be of a part of its elements
  float noise = -INFINITY;  // log2 of the rounding noise that a cancelling subtraction left in it
  uint32_t noise_site = 0;  // that subtraction
  float floor = -INFINITY;  // log2 of an epsilon that was just added, or of a lower bound
};
/// A gradient that an optimiser's step has used, until it is written anew.
struct UsedGradient {
  const Storage* storage = nullptr;
  uint32_t version = 0;
  bool added_to = false;  // a later backward pass added to it
  Tensor leaf;            // whose gradient it is
};
/// One call as the ring keeps it: what the kernel wrote into its slot.
struct WatchedRow {
  int64_t step;
  uint32_t site;
  uint8_t output;
  DType dtype;
  uint16_t every;
  uint64_t max_bits, min_bits, elements;
  uint32_t nan, inf, subnormal;
};

/// Storages that hold a NaN or an infinity which was seen when it was made. Few at a time; beyond the capacity the oldest are forgotten.
class TaintedStorages {
 public:
  enum Kind : uint8_t { clean, inf, nan };
  bool empty() const { return count_ == 0; }
  Kind find(const Storage* s) const {
    for (int i = 0; i < count_; ++i)
      if (of_[i] == s) return kind_[i];
    return clean;
  }
  void set(const Storage* s, Kind k) {
    for (int i = 0; i < count_; ++i)
      if (of_[i] == s) {
        kind_[i] = k;
        if (k == clean) --count_, of_[i] = of_[count_], kind_[i] = kind_[count_];
        return;
      }
    if (k == clean) return;
    const int at = count_ < kMost ? count_++ : next_++ % kMost;
    of_[at] = s, kind_[at] = k;
  }

 private:
  static constexpr int kMost = 256;
  int count_ = 0;
  unsigned next_ = 0;
  const Storage* of_[kMost];
  Kind kind_[kMost];
};

struct MonitorState {
  static constexpr int kRing = 4096;
  static constexpr size_t kMostSites = 1 << 16;
  static constexpr size_t kMostFindings = 1000;
  static constexpr uint64_t kValuesEvery = 8;  // steps between samples of a result's values
  struct Found {
    uint32_t site;
    uint8_t output;
    const char* kind;
    int64_t step, elements, count;
    Monitor::Finding about;  // severity, detector, text, numbers; what the site says is filled in when somebody asks
  };

  explicit MonitorState(const MonitorOptions& o);
  ~MonitorState();
  MonitorState(const MonitorState&) = delete;
  MonitorState& operator=(const MonitorState&) = delete;

  // What every call asks for lies side by side.
  std::vector<WatchedSite> sites;
  uint32_t last_site = 0;  // of the previous call
  bool paused = false;
  bool debug = false;  // raise at every fault, and where a safe op replaces a value
  int64_t step = 0;
  int64_t step_ops = 0;  // since the last step, for the log
  Governor governor;     // of results on the CPU
  TaintedStorages tainted;

  MonitorOptions options;
  void* above = nullptr;  // the older monitor of this thread
  int64_t epoch = 0, blocked = 0;
  std::vector<uint32_t> index;  // open addressing: site + 1, 0 for none; the size is a power of two
  std::vector<WatchedRow> ring;
  uint64_t rows = 0;  // written so far
  std::vector<Found> found;
  std::unordered_map<uint64_t, uint32_t> found_index;  // site, output, kind

  // since the last step, for the log
  int64_t step_nan = 0, step_inf = 0, step_subnormal = 0;
  double step_largest = 0;
  uint32_t rotation = 0;   // steps that were watched whole
  size_t judged = 0;       // findings that the governor knows of
  // devices: steps to come in which passes look at everything, because something broke where only a part was seen
  uint32_t whole_steps = 0;
  uint32_t looks = 0;          // steps that passes took part in: which part they look at
  uint32_t level = 0;          // how far the governor of devices has gone down
  double device_share = -1;    // of a step's time, as it last measured; -1: never
  bool light = false;          // this step is watched in what costs little
  bool light_booking = false;  // the call that is being booked was made in such a step
  static constexpr uint32_t kMostLevels = 5;
  /// Of how many steps one is watched.
  uint32_t duty() const { return level <= 1 ? 1 : 1u << (level - 1); }
  uint32_t device_every() const;
  /// Whoever wants to stop at the op that goes wrong wants to see every op.
  bool saves() const { return options.break_on == BreakOn::never || options.break_on == BreakOn::warning; }
  /// Share of the time that watching may take; 0: all is watched.
  double budget() const { return !saves() ? 0 : options.budget < 0 ? 0.02 : options.budget; }
  /// Whether devices find out themselves how much of a step they watch.
  bool times_device() const { return budget() > 0 && options.whole_every <= 0; }
  std::FILE* log = nullptr;
  size_t logged = 0;  // findings written so far
  std::vector<uint8_t> announced;  // a site's outputs, as bits, that the log has named
  int broken_lines = 0;
  size_t told = 0;            // findings that news() has handed out
  std::vector<bool> spoken;   // sites that debug mode has logged

  // what the rules look at
  static constexpr size_t kWritten = 4096;  // some times what a step keeps alive, so that few lose their place
  std::vector<Written> written;              // direct-mapped by storage
  std::vector<UsedGradient> used_gradients;  // likewise; empty before the first step of an optimiser
  std::bitset<kWritten> gradients_used;      // which of its places are taken: a word that stays in the cache
  std::vector<uint32_t> touched;             // results seen in this step, in order: site << 2 | output
  std::vector<uint32_t> touched_arguments;   // sites
  uint32_t loss_site = ~uint32_t(0);         // where the loss came from last
  uint8_t loss_output = 0;
  bool start_told = false;                   // of layers that start huge or tiny
  bool raise_pending = false;                // break_on = warning, and there is one
  // of the running step
  uint32_t bad_site = ~uint32_t(0);          // the first that made a NaN or infinity
  uint8_t bad_output = 0;
  bool backward_ran = false, updated = false, jump_seen = false, jump_told = false;
  int64_t blocked_step = -1;                 // the last step in which an update was kept from running
  bool asked = false, unasked = false;       // gradients were unscaled with a look at them; an optimiser stepped
  uint32_t vanished_site = ~uint32_t(0);     // of a narrow gradient, last
  uint8_t vanished_output = 0;
  uint32_t skips = 0;                        // steps in a row that went bad and wrote no weight
  std::vector<uint32_t> pending;             // findings of narrow gradients: faults only if an update uses them

  Wanted wanted;  // of the call that is being looked at, on the CPU

  // device_board.cpp: results on devices, whose statistics come later
  std::shared_ptr<struct DeviceBoards> boards;  // null until there is one
  bool quiet = false;                           // a fault is not raised now
  size_t raise_fault = 0;                       // one of `found`, counted from 1, that could not be raised
  bool has_board(Device d);
  /// Runs a call on `d`, which has a board, and notes what is to be booked once its statistics are there.
  Tensors watch_on_device(Call& c, Device d, uint32_t at, bool first);
  /// Moves a tensor between devices: it keeps its values, and what is known of them.
  Tensors transfer(Call& c);
  /// True: `t` is on a device, and will be noted as the root in its turn.
  bool root_on_device(const Tensor& t);
  void end_device_step();
  /// Takes in how long steps took on the device, with and without; decides how much the next one is watched.
  void govern_device();
  /// The time between the last step and the next one says nothing.
  void break_laps();
  /// Books what has arrived, in the order of the program; with `wait` everything that was queued. What break_on asks for is raised where
  /// `may_raise`, else by the next call that may.
  void settle(bool wait, bool may_raise = false);
  bool undecided_on_device(size_t i) const;
  /// The statistics of an input: of a device's tensor what is known of it, without waiting.
  void look(const Tensor& t, StatSlot& slot) const;
  /// Which inputs of an optimiser's step are gradients; [first, end).
  static void gradients_of(const Call& c, int& first, int& end);

  uint32_t site_of(const Call& c);
  /// Looks at what is cast to integers, of which there are no statistics.
  void judge_integers(const Call& c);
  /// The site of `c`, if it came after the last one before: steps repeat the same calls in the same order. kMostSites: it did not.
  uint32_t next_site(const Call& c) const {
    if (last_site < sites.size())
      for (const uint32_t guess : sites[last_site].next)
        if (guess < sites.size() && sites[guess].is(c)) return guess;
    return kMostSites;
  }
  /// What is known of `x` if a watched op wrote it last and saw all of it, or with `partly` also part of its elements; null: nothing.
  const Written* known(const Tensor& x, bool partly = false) const;
  /// Whether `x` is what `site` made last, or is about to overwrite.
  bool wrote_last(const Tensor& x, uint32_t site) const;
  /// Notes that backward() was called on `t`.
  void root(const Tensor& t);
  /// Looks at the input of `c` that can endanger its result, before the op runs.
  void look_at_argument(const Call& c, WatchedSite& s, uint32_t at);
  /// Adds the running step to the totals of `r`.
  static void fold(WatchedResult& r);
  void fold_touched() {
    for (const uint32_t t : touched) fold(sites[t >> 2].results[t & 3]);
  }
  /// Notes that a backward pass adds to a gradient which a step has used.
  void note_sum_of_gradients(const Call& c);
  /// The op whose growth that of `site` is: the first along its inputs that grows as fast.
  uint32_t producer(uint32_t site, double slope) const;
  /// Looks in what the step wrote so far for a value that is suddenly larger by many bits; it is to blame for what follows.
  bool find_jump();
  /// What to do where an optimiser's last step moved the weights a thousand times as far as usual; nothing where none did. `skip`: it
  /// is the one before the last that counts.
  Suggestion after_a_leap(bool skip) const;
  /// An update uses the gradients of this step.
  void note_update();
  /// An optimiser's step is kept from running.
  void note_blocked() {
    if (blocked_step != step) ++blocked, blocked_step = step;
  }
  /// Whether an op of the optimiser phase is an optimiser's step.
  static bool is_update(const OpDef& op);
  /// True: the update must not run.
  bool before_update(const Call& c, uint32_t at);
  void after_update(const Call& c, uint32_t at);
  /// A step has been made, and looked over. `settings`: null where they are not known.
  void judge_made(const Call& c, uint32_t at, const StepGuard& g, const double* settings);
  /// The same for a step on a device: what it wants to see, of the weights before and after, and what the rules say of it.
  static void plan_update(const Call& c, Wanted& to);
  void judge_device_update(const Call& c, uint32_t at, const double* settings, Samples s);
  // sampling.cpp: rules that look at values
  /// How many steps were watched whole on the CPU, or on devices, which rules that take turns count by; negative: this one is not.
  int64_t turn(bool on_device) const { return on_device ? (light ? -1 : int64_t(looks)) : governor.whole() ? int64_t(rotation) : -1; }
  /// Which rules look at what `c` is about to read, and at what it has made.
  ValueRules rules_before(const Call& c, uint32_t at, bool first, int64_t turn) const;
  ValueRules rules_after(const Call& c, uint32_t at, int64_t turn) const;
  /// Where a rule wants to look at this call; false: nowhere. `out`: its first result, once there is one.
  bool plan(ValueRule r, const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to);
  void judge(ValueRule r, const Call& c, uint32_t at, Samples s);
  /// Both, on the CPU.
  void look_at_values(ValueRule r, const Call& c, const Tensor& out, uint32_t at);
  void judge_running_sum(uint32_t at, const std::vector<float>& before, const std::vector<float>& added, const std::vector<float>& after);
  // lint.cpp
  void lint_call(const Call& c, uint32_t at);
  void take(const Call& c, const Tensors& out, const StatSlot* slots, const TaintedStorages::Kind* overwritten);
  void begin_step();
  /// Runs an op in a step that is not watched whole: looks at outputs that are watched in every step, and at the others only where the
  /// processor says that something went wrong.
  Tensors run_in_part(Call& c, uint32_t at);
  Tensors run_left_out(Call& c, uint32_t at);
  Tensors run_told(Call& c, uint32_t at, unsigned told);
  void look_again(const Call& c, uint32_t at, const Tensors& out);
  bool look_again(const Call& c, uint32_t at, const Tensors& out, StatSlot* slots);
  void book_in_part(const Call& c, uint32_t at, const Tensors& out, const StatSlot* slots, const TaintedStorages::Kind* before,
                    TaintedStorages::Kind worst);
  /// From now on a site is watched in every step.
  void tell(uint32_t site) {
    if (site < sites.size()) sites[site].tell();
  }
  /// What is broken among the inputs breaks the lists of tensors that an op writes: they have no statistics of their own.
  TaintedStorages::Kind worst_of(const Call& c) const;
  void spread(const Call& c, TaintedStorages::Kind worst);

  /// What to do about a result that left its range, or is about to.
  Suggestion suggestion(uint32_t site, int output) const;
  Monitor::Finding finding(const Found& f) const;
  std::vector<Monitor::Finding> found_with(Severity severity) const;
  /// A finding of a rule; one entry a site and rule.
  void warn(Detector d, uint32_t site, uint8_t output, const char* kind, Monitor::Finding about);
  Monitor::Statistic statistic(const WatchedSite& s, int output) const;
  Monitor::Record record(const WatchedRow& r) const;
  std::string report() const;
  void speak(uint32_t site, const std::string& text);
  void check_safe(const Call& c);
  void write_begin();
  /// Whether it is still open if finding `i` is a fault: an update that uses the values would make it one.
  bool undecided(size_t i) const {
    return std::find(pending.begin(), pending.end(), uint32_t(i)) != pending.end() || (boards && undecided_on_device(i));
  }
  void write_findings();
  void write_step();
  void write_end();

 private:
  friend struct DeviceBoards;
  void govern();
  void suspect_trends();
  void write_series();
  void announce(uint32_t site, int output);
  void grow_index();
  void remember(const Call& c, const Tensors& out, int i, uint32_t site, const StatSlot& slot);
  static float floor_of(const Call& c);
  float noise_of(const Call& c, const Tensor& out, uint32_t site, uint32_t& from) const;
  // detectors_range.cpp: at the end of a step
  void judge_step();
  void judge_jump(uint32_t site, uint8_t output, const WatchedResult& r, bool running = false);
  void judge_skips();
  void judge_saturation(uint32_t site, WatchedArgument& a, double high);
  void judge_attention(uint32_t site, WatchedArgument& a, double entropy);
  // rules that look at values: where, and what they say
  void plan_exponents(const Call& c, const Sight& sight, Wanted& to);
  void judge_exponents(const Call& c, uint32_t at, Samples found);
  void plan_denominator(const Call& c, uint32_t at, const Sight& sight, Wanted& to);
  void judge_denominator(uint32_t at, const Sample& sample);
  void plan_targets(const Call& c, uint32_t at, const Sight& sight, Wanted& to);
  void judge_targets(uint32_t at, const Sample& sample);
  void plan_running_sum(const Call& c, const Sight& sight, Wanted& to);
  static bool may_add_up(const Call& c);
  static bool has_product(const OpDef& op);
  static bool has_rows(const OpDef& op);
  void plan_product(const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to);
  void judge_product(const Call& c, uint32_t at, Samples found);
  void plan_rows(const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to);
  void judge_rows(const Call& c, uint32_t at, Samples found);
  void judge_shadow(const Call& c, uint32_t at, const struct Drift& d);
  void plan_spread(const Call& c, const Tensor& out, uint32_t at, const Sight& sight, Wanted& to);
  void judge_spread(const Call& c, uint32_t at, const Sample& sample);
  void judge_kurtosis(uint32_t site, WatchedValues& v, const std::vector<float>& x, DType t);
  void judge_units(uint32_t at, WatchedValues& v, const std::vector<float>& x, int64_t width);
  void judge_zeros(uint32_t at, WatchedValues& v, const std::vector<float>& x);
  void plan_attention(const Call& c, const Tensor& out, const Sight& sight, Wanted& to);
  void judge_attention_rows(const Call& c, uint32_t at, Samples found);
  // detectors_update.cpp
  template <class Get>
  void judge_update(const Call& c, uint32_t at, const double* settings, Get get);
  void judge_sums(const Call& c, uint32_t at, const struct StepSums& s, const double* settings, std::span<const double> squares);
  bool gradients_are_bad(const Call& c) const;
  // detectors_state.cpp
  void look_at_moments(const Call& c, uint32_t at, int i, const SampledStep& s, const double* settings);
  void judge_stride(const Call& c, uint32_t at, int i, const SampledStep& s, double lr);
  void judge_moments(const Call& c, uint32_t at);
  void judge_length(const Call& c, uint32_t at, double moved2, double length2, double lr);
  static bool may_stand_still(const Call& c);
  void plan_mixture(const Call& c, const Tensor& out, const Sight& sight, Wanted& to);
  void judge_mixture(const Call& c, uint32_t at, Samples s);
  void note_copied_back(const Call& c);
  // detectors_settings.cpp
  static constexpr double kFelt = 1e-4;  // of a weight: an update that moves it
  bool judge_settings(const Call& c, uint32_t at, const double* v, int64_t n);
  void judge_domain(const Call& c, uint32_t at, const double* v, int64_t n);
  void judge_decay_rates(const Call& c, uint32_t at, double first, double second);
  void judge_unfelt(uint32_t at, WatchedUpdate& u, double share, double relative, double lr);
  // detectors_dead.cpp: where nothing comes through
  void judge_unfed(uint32_t site);
  void judge_alike(uint32_t at, WatchedValues& v, const std::vector<float>& x, int64_t width);
  void judge_cut(const Call& c, uint32_t at, std::span<const double> squares);
  uint32_t where_cut(uint32_t site) const;
  uint32_t forward_of(uint32_t site) const;
  bool is_nothing(uint32_t site, bool running) const;
  // detectors_course.cpp
  void judge_nearing(uint32_t site, WatchedArgument& a);
  void judge_height(uint32_t site, uint8_t output, WatchedResult& r);
  void judge_start(uint32_t site, const WatchedResult& r);
  Suggestion shorter_steps() const;
  bool judge_straight(uint32_t site, WatchedArgument& a, double mean);
  void judge_angle(uint32_t site, WatchedArgument& a, double high);
  bool has_slopes(const Call& c, uint32_t at, int64_t turn) const;
  void plan_slopes(const Call& c, const Tensor& out, const Sight& sight, Wanted& to);
  void judge_slopes(const Call& c, uint32_t at, const Sample& sample);
  void judge_vanished(uint32_t site, uint8_t output, WatchedResult& r);
  void judge_extinct(uint32_t site, WatchedResult& r);
  void judge_outgrown(uint32_t site, WatchedResult& r);
  void judge_endless(uint32_t site, uint8_t output, WatchedResult& r);
  void judge_absorbed(uint32_t at, WatchedUpdate& u, double share, double lr, DType t);
  void judge_adam(uint32_t at, WatchedUpdate& u, double rms, double floored, double eps, double norm);
  void judge_smothered(uint32_t at, WatchedUpdate& u, double floored, double relative, double eps, double gradient);
  void judge_gradient(uint32_t at, WatchedUpdate& u);
  bool goes_along_old_gradients(const Call& c);
  void judge_uncleared(const Call& c, uint32_t at, bool old);
  void judge_rate(uint32_t at, WatchedUpdate& u, double lr);
  void judge_silent(WatchedUpdate& u, bool silent);
  void judge_range(uint32_t site, uint8_t output, WatchedResult& r);
  bool judge_dwindling(uint32_t site, uint8_t output, WatchedResult& r);
  /// How far a result is from the end of its format, in bits, and whether it comes there.
  struct Outlook {
    double room = 0, slope = 0, eta = INFINITY;
    bool root = false, trend = false, near = false;
  };
  Outlook outlook(uint32_t site, uint8_t output, const WatchedResult& r) const;
  void judge_headroom(uint32_t site, uint8_t output, const WatchedResult& r);
  void judge_growth(uint32_t site, uint8_t output, WatchedResult& r);
  void judge_counts(uint32_t site, uint8_t output, const WatchedResult& r);
  void judge_noise(uint32_t site, uint8_t output, const Written& w);
  double most_digits_lost(int digits) const;
  int digits_of(uint32_t site) const;
  double leap_of(uint32_t site, bool running) const;
  bool gradients_climb() const;
  bool climbs(WatchedResult& r, Trend& t) const;
  void judge_fading_product(uint32_t site, uint8_t output, const WatchedResult& r);
  void judge_argument(uint32_t site, WatchedArgument& a);
  Reading take_reading(uint32_t site, WatchedArgument& a) const;
  void judge_cancellation(uint32_t site, WatchedArgument& a, double lost, double mean);
  uint32_t exponential_of(uint32_t site) const;
  void judge_unshifted(uint32_t e, uint32_t site, int64_t eta, double low);
  void judge_meant_infinities();
  void judge_residual(uint32_t site, WatchedResult& r);
  void judge_vanishing(uint32_t site, const WatchedArgument& a, double mean);
  Trend loss_trend(int n) const;
  double scale_slope(int n) const;
  /// Whether a step ran, and none ever asked whether gradients had overflowed: nobody looks for a loss scale.
  bool scale_stays() const { return unasked && !asked; }
  void taint(const Call& c, const Tensors& out, int i, TaintedStorages::Kind kind);
  void examine(const Call& c, const Tensors& out, int i, uint32_t site, uint8_t output, const StatSlot& slot,
               const TaintedStorages::Kind* overwritten);
  void add_found(const Call& c, uint32_t site, uint8_t output, const char* kind, bool info, double value, int64_t elements,
                 const Suggestion& better, std::string text);
  void suggest_data(const Tensor& t, const char* role, double high, Suggestion& data) const;
  std::string place_of_first_bad(const Tensor& t, const char* role) const;
  // device_booking.cpp: of a tensor that no watched op wrote
  int64_t first_bad_on_device(const Tensor& t) const;
  std::vector<float> some_on_device(const Tensor& t) const;
};

/// The writer of a storage that an op wrote in a step that was not watched whole.
inline constexpr char kLeftOut[] = "an op that was not watched";

/// The value of a bit pattern without its sign.
double magnitude_of(uint64_t bits, DType t);
const char* phase_name(Phase p);

}  // namespace keel
