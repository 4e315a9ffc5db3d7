#pragma once
// How much of a step is watched, so that watching stays within its budget.
#include <chrono>
#include <cstdint>

namespace keel {

/// Decides, step by step, whether all of its results are watched or only those that tell most. The first steps are watched whole, until
/// watching has done a fixed amount of work, counted and not measured, so that short runs do not depend on the machine. From then on steps
/// with and without are timed in turn, the median ratio of neighbours, which drifts of the machine cannot touch, is what a whole step costs,
/// and one step in so many is watched whole.
class Governor {
 public:
  static constexpr uint32_t kMost = 16;                 // steps of which one is watched whole, at most
  static constexpr uint64_t kAllowance = 250'000'000;   // work before anything is saved, in about nanoseconds
  static constexpr uint32_t kReadings = 32;             // pairs of steps that a median is taken of
  static constexpr int64_t kClosely = 64;               // steps that are watched whole after something went wrong
  static constexpr double kCap = 0.05;                  // share of the time beyond which a mere suspicion changes nothing

  static uint64_t clock() {  // in nanoseconds
    return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
  }
  /// While it lives, the monitor does what it does in every step, and the time that takes is noted.
  class Work {
   public:
    explicit Work(Governor& g) : g_(g), began_(g.on() ? clock() : 0) {}
    Work(const Work&) = delete;
    ~Work() {
      if (began_) g_.worked_ += double(clock() - began_);
    }

   private:
    Governor& g_;
    const uint64_t began_;
  };

  /// `fixed`: one step in so many is watched whole from the start; 0: as `budget` demands, a share of the time; 0: all.
  void begin(double budget, int64_t fixed, uint64_t now);
  /// Whether steps differ at all.
  bool on() const { return fixed_ > 1 || budget_ > 0; }
  /// Whether this step is watched whole.
  bool whole() const { return whole_; }
  /// Whether some of its results were not watched.
  bool partly() const { return left_out_ > 0; }
  /// One of them.
  void left_out() { ++left_out_; }
  /// Something went wrong: the rest of this step is watched, and the next ones are.
  void alarm(int64_t step) {
    whole_ = true;
    closely_until_ = step + kClosely;
  }
  /// Something looks as if it might: the next `steps` are watched whole, if the cap allows.
  void suspect(int64_t step, int64_t steps);
  /// A step is over that took `results` statistics of `bytes`; `step` begins.
  void turn(int64_t step, uint64_t now, uint64_t results, uint64_t bytes);
  /// The step that runs is not like the others, and takes no part in medians.
  void forget_step() { began_ = 0; }
  uint32_t every() const { return every_; }
  /// What a whole step takes beyond one in part, as a share; 0 where that was not measured yet.
  double share() const { return share_; }

 private:
  void decide();

  bool whole_ = true, began_whole_ = true;
  uint32_t left_out_ = 0, every_ = 1, since_whole_ = 0;
  double budget_ = 0, share_ = 0, load_ = 0;
  int64_t fixed_ = 0, closely_until_ = -1;
  uint64_t began_ = 0, work_ = 0;
  double worked_ = 0;          // of this step, see Work
  double before_ = 0;          // what the step before took; 0 where it is no measure
  bool before_whole_ = false;
  double part_share_ = 0;      // of the last step in part: what was watched all the same
  float ratios_[kReadings];    // whole to part, of neighbours
  uint32_t pairs_ = 0;
};

}  // namespace keel
