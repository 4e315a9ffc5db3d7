#pragma once
// Mean and squared deviations of rows and of columns in one pass: sums about a shift, the mean of the first sixteenth. Beside two passes
// the deviations lose at most a factor of 16 in accuracy, where just these elements lie far from all others, and nothing where they do not.
// The order depends on the extents alone.
#include <cstdint>

#include "keel/dtype.h"

namespace keel::cpu {

/// Most rows that one call takes in.
inline constexpr int64_t kMomentRows = 256;
/// Values that give the mean and squared deviations of a part.
inline constexpr int64_t kMomentValues = 3;

/// Mean and squared deviations of n elements so far, joined in f64 (Chan, Golub, LeVeque 1979).
struct Moments {
  double n = 0, mean = 0, square = 0;
  /// With m others: `part` has kMomentValues of them, `apart` elements from each other.
  template <class T>
  void join(double m, const T* part, int64_t apart = 1) {
    const double all = n + m, delta = double(part[0]) + double(part[apart]) - mean;
    mean += delta * (m / all), square += double(part[2 * apart]) + delta * delta * (n * m / all);
    n = all;
  }
};

struct MomentLoops {
  /// Of x[0..n), n > 0: out[0] + out[1] = mean, which one number of the type does not hold well enough to be joined with others, and
  /// out[2] = sum of squared deviations from it. `far`: x is read from memory.
  void (*row)(const void* x, int64_t n, bool far, void* out);
  /// The same of `width` columns of 0 < rows <= kMomentRows rows, `stride` elements apart; the three lie `apart` elements from each other.
  void (*columns)(const void* x, int64_t rows, int64_t stride, int64_t width, bool far, void* out, int64_t apart);
};
/// t is f32 or f64.
MomentLoops moment_loops(DType t);

}  // namespace keel::cpu
