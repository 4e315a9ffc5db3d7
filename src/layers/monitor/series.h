#pragma once
// The last steps of one site, and what their trend says.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "keel/dtype.h"

namespace keel {

/// What a site wrote (or read) in one step. Magnitudes are logarithms to base 2 of finite values.
struct Reading {
  int64_t step = 0;
  float high = -INFINITY;  // of the largest magnitude; -infinity where all was zero
  float low = INFINITY;    // of the smallest that is not zero; infinity where all was zero
  uint64_t elements = 0;
  uint32_t nan = 0, inf = 0, subnormal = 0, calls = 0;
};

/// How many times in a row something held; 200 stands for more, too.
class Streak {
 public:
  /// Takes in whether it holds; gives how many times it did so in a row.
  int add(bool holds) { return count_ = holds ? uint8_t(std::min(count_ + 1, 200)) : uint8_t(0); }
  operator int() const { return count_; }

 private:
  uint8_t count_ = 0;
};

/// What the last steps saw that looked at a part each: together they have seen everything.
class Rotation {
 public:
  static constexpr uint32_t kMost = 64;
  /// Takes in what a step saw that looked at one of `every` parts, and widens it to what the last `every` steps saw.
  void hold(Reading& r, uint32_t every) {
    high_[n_ % kMost] = r.high, low_[n_ % kMost] = r.low, ++n_;
    for (uint32_t k = 1; k < every && k < n_ && k < kMost; ++k) {
      const uint32_t i = (n_ - 1 - k) % kMost;
      r.high = std::fmax(r.high, high_[i]), r.low = std::fmin(r.low, low_[i]);
    }
  }

 private:
  float high_[kMost], low_[kMost];
  uint32_t n_ = 0;
};

/// A straight line through the last readings, by least squares over the step's number.
struct Trend {
  int n = 0;              // readings that took part
  double slope = 0;       // bits a step
  double r2 = 0;          // share of the variance that the line explains
  double change = 0;      // last less first
  double last = 0;        // the newest reading
  double least_step = 0;  // the smallest change from one reading to the next
};

/// The same of any numbers x(k), y(k), the newest at k = 0, with the standard error of the slope.
struct Line {
  double slope = 0, error = INFINITY, r2 = 0, at_end = 0;
};
template <class X, class Y>
Line fit(int n, X x, Y y) {
  double x0 = 0, y0 = 0, xx = 0, xy = 0, yy = 0;
  for (int k = 0; k < n; ++k) x0 += x(k) / n, y0 += y(k) / n;
  for (int k = 0; k < n; ++k) {
    const double u = x(k) - x0, v = y(k) - y0;
    xx += u * u, xy += u * v, yy += v * v;
  }
  if (!(xx > 0) || !(yy > 0) || n < 3) return {};
  const double slope = xy / xx, rest = std::fmax(0.0, yy - slope * xy);
  return {slope, std::sqrt(rest / (n - 2) / xx), slope * xy / yy, y0 + slope * (x(0) - x0)};
}

class Series {
 public:
  static constexpr int kLength = 128;
  void push(const Reading& r) {
    if (at_.capacity() == 0) at_.reserve(8);
    if (n_ < kLength)
      at_.push_back(r);
    else
      at_[n_ % kLength] = r;
    ++n_;
  }
  int size() const { return int(at_.size()); }
  uint64_t total() const { return n_; }
  /// The reading `k` before the newest, 0 <= k < size().
  const Reading& back(int k = 0) const { return at_[(n_ - 1 - uint64_t(k)) % kLength]; }
  /// The line through the last `n` values of `field`; n = 0 where there are fewer, or one is not finite.
  Trend trend(int n, float Reading::*field) const;
  /// The largest and smallest `high` among the `n` readings before the newest.
  void range(int n, float& least, float& most) const;

 private:
  std::vector<Reading> at_;
  uint64_t n_ = 0;
};

/// The same for a bare number a step.
class Numbers {
 public:
  static constexpr int kLength = 128;
  void push(double v) { at_[n_++ % kLength] = float(v); }
  int size() const { return n_ < kLength ? int(n_) : kLength; }
  float back(int k = 0) const { return at_[(n_ - 1 - uint64_t(k)) % kLength]; }
  float most(int from, int n) const {
    float v = -INFINITY;
    for (int i = from; i < from + n && i < size(); ++i) v = std::fmax(v, back(i));
    return v;
  }
  /// Rises in a row, newest first, each by more than `by`.
  int rises(double by) const {
    int k = 0;
    while (k + 1 < size() && double(back(k)) - double(back(k + 1)) > by) ++k;
    return k;
  }
  /// Rises in a row of more than half a bit each that are too many to be chance, to beyond what there was before: seven, or of the first
  /// sixteen numbers four that come to twelve bits; 0 where they are not.
  int climbs() const {
    const int n = std::min(rises(0.5), kLength - 1);
    const bool enough = n >= 7 || (n >= 4 && size() <= 16 && back() - back(n) >= 12);
    return enough && back() > most(n + 1, kLength) ? n : 0;
  }
  /// Median and scaled median distance from it of the `most` numbers before the newest `without`.
  void centre(double& median, double& spread, int most = kLength, int without = 1) const;

 private:
  float at_[kLength] = {};
  uint64_t n_ = 0;
};

/// Logarithms to base 2 of a format's largest number, smallest normal and smallest subnormal number; bits of its significand.
struct Format {
  double max2 = 0, normal2 = 0, tiny2 = 0;
  int digits = 0;
  bool narrow = false;  // few exponents: f16, f8
};
Format format_of(DType t);

}  // namespace keel
