#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "keel/tensor.h"

#pragma GCC visibility push(default)
/// What values look like in bits, and what casts to narrower floats would do to them: counted, not sampled, so that a forecast equals the
/// executed cast value by value.
namespace keel {

/// What one cast does. Shares are of the finite values that are not zero: 0.02 is 2 %.
struct CastForecast {
  DType dtype = DType::none;
  bool blocks = false;     ///< MX: blocks of 32 on the last axis with a scale each
  int scale_exponent = 0;  ///< values are multiplied by 2 to this before the cast
  double overflow = 0;     ///< round beyond the largest value: infinity, NaN, or in a saturating fp8 cast the largest value
  double flushed = 0;      ///< become zero
  double subnormal = 0;    ///< become subnormal: kept with fewer digits than the format has
  int64_t overflow_count = 0, flushed_count = 0, subnormal_count = 0;
  /// No overflow, and less than 1 % flushed.
  bool fits() const { return overflow_count == 0 && flushed < 0.01; }
};

struct PrecisionOptions {
  [[no_unique_address]] ByName by_name = ByName();
  bool round_up = false;  ///< MX scales: the next larger one where a block's largest value would overflow; false is OCP's rule
};

/// What `analyze_precision` finds. A default-constructed one holds no values; reports may be added up.
struct PrecisionReport {
  DType dtype = DType::none;
  int64_t elements = 0, zeros = 0, nans = 0, infinities = 0;
  int64_t nonzero = 0;               ///< finite values that are not zero
  double zero = 0;                   ///< share of all values
  double nonfinite = 0;              ///< share of all values
  double subnormal = 0;              ///< share of `nonzero` below the smallest normal value of `dtype`
  double near_max = 0;               ///< share of `nonzero` whose exponent is among the four largest of `dtype`
  double amax = 0, min_nonzero = 0;  ///< magnitudes; 0 where there is none
  /// Exponents e of 2^e <= |x| < 2^(e+1): 0.1 %, 50 % and 99.9 % of `nonzero` lie at or below them.
  int exponent_low = 0, exponent_median = 0, exponent_high = 0;

  /// What a cast to f8e4m3fn, f8e5m2, f16, bf16 or f32 does, after a multiplication by 2^scale_exponent that rounds nothing. ValueError for
  /// other dtypes.
  CastForecast target(DType to, int scale_exponent = 0) const;
  /// The same with the largest scale that keeps `amax` in range: a scale a tensor.
  CastForecast scaled(DType to) const { return target(to, scale_exponent(to)); }
  /// k of the largest 2^k with amax 2^k <= the largest value of `to`; 0 where there is no value.
  int scale_exponent(DType to) const;
  /// The same with a scale for each block of 32 values on the last axis (OCP MX, E8M0 scales); f8e4m3fn or f8e5m2, else ValueError.
  CastForecast mx(DType to) const;
  /// The first of f8e4m3fn, f8e5m2, bf16, f16, f32 whose `target` fits; none where a value is not finite or none fits. `with_scale`: whose
  /// `scaled` fits.
  DType recommended(bool with_scale = false) const;

  /// How many values have exponent e, for e from `least_exponent()` on.
  std::vector<int64_t> histogram() const;
  int least_exponent() const;
  /// Adds the counts of another report; the dtype becomes the wider of both.
  void add(const PrecisionReport& other);

  /// All of it in lines of text.
  std::string text() const;
  /// All of it as a JSON object.
  std::string json() const;

  std::vector<int64_t> counts;      ///< the table of `exponent_counts`
  int64_t block_counts[2][3] = {};  ///< MX in f8e4m3fn and f8e5m2: overflow, flushed, subnormal
};

/// Counts zero, subnormal, near-overflow and nonfinite values of a floating tensor, and what casts would do to them. One pass; on another
/// device the values are copied to the host. DTypeError for dtypes that are not floating.
PrecisionReport analyze_precision(const Tensor& x, const PrecisionOptions& o = {});

/// Whether a cast of a tensor keeps it whole.
struct DTypeSafety {
  bool safe = true;  ///< all values finite, none overflows, less than 1 % become zero
  CastForecast forecast;
  int64_t invalid = 0;  ///< NaN and infinities
  std::string message, recommendation;
};
/// What a cast of `x` to f8e4m3fn, f8e5m2, f16, bf16 or f32 would do; ValueError for other dtypes.
DTypeSafety safe_for_dtype(const Tensor& x, DType to);

struct TensorDTypeComparison {
  std::vector<DTypeSafety> results;  ///< f8e4m3fn, f8e5m2, bf16, f16, f32
  DType best = DType::none;          ///< the first of them that is safe
  DType best_scaled = DType::none;   ///< the first that is safe after a multiplication by 2^scale_exponent
  int scale_exponent = 0;
  std::string recommendation;
};
/// `safe_for_dtype` for all narrower floats.
TensorDTypeComparison compare_dtypes(const Tensor& x);

/// How many times slower this machine multiplies and adds subnormal than normal f32 values, measured once; about 1 where it makes no
/// difference. Whether setting small values to zero pays is advice that depends on it.
double subnormal_slowdown();

}  // namespace keel
#pragma GCC visibility pop
