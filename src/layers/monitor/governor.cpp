#include "layers/monitor/governor.h"

#include <algorithm>
#include <cmath>

namespace keel {

namespace {
// What watching costs, about: a result's place in the tables, and its numbers from a cache. Only the allowance is counted with it.
constexpr uint64_t kNsPerResult = 150, kBytesPerNs = 64;
constexpr uint64_t cost_of(uint64_t results, uint64_t bytes) { return results * kNsPerResult + bytes / kBytesPerNs; }
constexpr uint64_t kNsLeftOut = 60;  // of an op that is not watched, to find that out
constexpr double kAim = 0.75;  // of the budget: what steps in part take is counted in part, and code that comes back finds caches colder
constexpr uint32_t kProbe = 16;  // where nothing has to be saved, one step in so many is watched in part, to know what the others cost
}  // namespace

void Governor::begin(double budget, int64_t fixed, uint64_t now) {
  budget_ = budget, fixed_ = std::clamp<int64_t>(fixed, 0, kMost), began_ = now;
  if (fixed_) every_ = uint32_t(fixed_);
}

void Governor::suspect(int64_t step, int64_t steps) {
  if (fixed_ || load_ < kCap) closely_until_ = std::max(closely_until_, step + steps);
}

void Governor::turn(int64_t step, uint64_t now, uint64_t results, uint64_t bytes) {
  if (!on()) return;
  const bool pure = began_whole_ ? !partly() : !whole_;
  const bool counting = work_ < kAllowance && !fixed_;
  if (counting) {
    work_ += cost_of(results, bytes);
    if (work_ >= kAllowance) every_ = 2;  // now both kinds are timed
  } else if (!fixed_) {
    const double took = began_ && pure ? double(now - began_) : 0;
    if (took > 0 && !began_whole_) part_share_ = (cost_of(results, bytes) + kNsLeftOut * left_out_ + worked_) / took;
    load_ += ((began_whole_ ? share_ : 0) - load_) / 64;
    if (took > 0 && before_ > 0 && before_whole_ != began_whole_) {
      ratios_[pairs_++ % kReadings] = float(began_whole_ ? took / before_ : before_ / took);
      if (pairs_ % (kReadings / 2) == 0) decide();
    }
    before_ = took, before_whole_ = began_whole_;
  }
  began_ = now;
  whole_ = true, left_out_ = 0, worked_ = 0;
  if (fixed_ || work_ >= kAllowance) {
    ++since_whole_;
    whole_ = every_ > 1 ? since_whole_ >= every_ : since_whole_ < kProbe;
    if (!fixed_ && every_ == 1 && !whole_) since_whole_ = 0;
    if (fixed_ == 1 || step <= closely_until_) whole_ = true;
    if (whole_ && every_ > 1) since_whole_ = 0;
  }
  began_whole_ = whole_;
}

void Governor::decide() {
  const uint32_t n = std::min(pairs_, kReadings);
  float sorted[kReadings];
  std::copy(ratios_, ratios_ + n, sorted);
  std::nth_element(sorted, sorted + n / 2, sorted + n);
  share_ = std::max(0.0, double(sorted[n / 2]) - 1);
  const double rest = std::max(budget_ / 4, kAim * budget_ - part_share_), wanted = share_ / rest;
  // Upwards at once; downwards only where the measure leaves no doubt.
  if (wanted > double(every_))
    every_ = uint32_t(std::min(std::ceil(wanted), double(kMost)));
  else if (every_ > 1 && n == kReadings && 1.2 * wanted < double(every_ - 1))
    every_ = uint32_t(std::max(1.0, std::ceil(1.2 * wanted)));
}

}  // namespace keel
