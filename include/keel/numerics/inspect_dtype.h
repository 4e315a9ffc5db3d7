#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keel/numerics/range.h"
#include "keel/numerics/text.h"

#pragma GCC visibility push(default)
/// What a cast to a narrower type would do to values, foretold by doing it.
namespace keel::numerics::inspect {

/// Types that a cast can aim at.
enum class Target : uint8_t { fp32, fp16, bf16, fp8_e4m3, fp8_e5m2 };
inline constexpr Target kTargets[] = {Target::fp32, Target::fp16, Target::bf16, Target::fp8_e4m3, Target::fp8_e5m2};
/// "fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2"
constexpr const char* name_of(Target t) {
  constexpr const char* kNames[] = {"fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2"};
  return kNames[static_cast<int>(t)];
}
/// The target of that name. Raises InvalidValueError where there is none.
constexpr Target target_from_name(std::string_view name) {
  for (Target t : kTargets)
    if (name == name_of(t)) return t;
  detail::raise_invalid("Unknown dtype. Valid options: fp32, fp16, bf16, fp8_e4m3, fp8_e5m2");
}

/// The borders of a target, as doubles.
struct Limits {
  double max;            ///< largest value
  double overflow_from;  ///< smallest magnitude that a cast without saturation takes beyond `max`; what lies between them rounds down
  double min_normal;     ///< smallest value with all digits
  double min_subnormal;  ///< smallest value; halves of it and less become zero
};

}  // namespace keel::numerics::inspect

namespace keel::numerics::detail {

template <class F>
constexpr auto with_target(inspect::Target t, F f) {
  switch (t) {
    case inspect::Target::fp32: return f(float());
    case inspect::Target::fp16: return f(float16::from_bits(0));
    case inspect::Target::bf16: return f(bfloat16::from_bits(0));
    case inspect::Target::fp8_e4m3: return f(float8_e4m3fn::from_bits(0));
    default: return f(float8_e5m2::from_bits(0));
  }
}
/// The cast of a finite value, beyond the largest one to infinity or NaN.
template <Float T>
constexpr T cast(double x) {
  if constexpr (std::is_same_v<T, float>) {
    return narrow(x);
  } else {
    return T(x, Overflow::nan_or_inf);
  }
}

}  // namespace keel::numerics::detail

namespace keel::numerics::inspect {

/// The borders of a target, in the order of the members: fp16 65504, 65520, 2^-14, 2^-24; bf16 3.3895e38; fp8_e4m3 448, just above 464,
/// 2^-6, 2^-9; fp8_e5m2 57344, 61440, 2^-14, 2^-16. Halfway values go to the even code: the one beyond `max`, but in fp8_e4m3 `max` itself.
/// Source: IEEE 754 binary16 and binary32, OCP 8-bit Floating Point Specification 1.0.
constexpr Limits limits_of(Target t) {
  return detail::with_target(t, []<class T>(T) {
    const T largest = from_ordered<T>(detail::kBeyond<T> - 1), before = from_ordered<T>(detail::kBeyond<T> - 2);
    const double top = detail::compute<double>(largest), step = top - detail::compute<double>(before), half = top + step / 2;
    return Limits{top, is_finite(detail::cast<T>(half)) ? from_ordered<double>(ordered(half) + 1) : half,
                  detail::compute<double>(FloatTraits<T>::min_normal()), detail::compute<double>(FloatTraits<T>::min_subnormal())};
  });
}

/// `overflow`: a finite value beyond the target's range; `underflow`: a nonzero value that becomes zero; `invalid`: NaN or an infinity.
enum class Issue : uint8_t { none, overflow, underflow, invalid };
/// "none", "overflow", "underflow", "invalid"
constexpr const char* name_of(Issue i) {
  constexpr const char* kNames[] = {"none", "overflow", "underflow", "invalid"};
  return kNames[static_cast<int>(i)];
}
struct SafetyCheck {
  bool safe = true;
  Issue issue = Issue::none;
  bool subnormal = false;  ///< safe, but kept with fewer digits than the target has
  std::string message;
  std::optional<std::string> recommendation = {};
};

/// What a rounding cast of x does in the target: overflow, underflow to zero, or neither; subnormal results are safe, with a note. x itself
/// may be rounded; exact zeros are safe. Saturating 8-bit casts would give the largest value where this says overflow.
template <Number T>
constexpr std::pair<Issue, bool> issue_for_dtype(T x, Target target) {
  const auto v = detail::keep<detail::Result<T>>(x);
  if (!is_finite(v)) return {Issue::invalid, false};
  return detail::with_target(target, [&]<class To>(To) -> std::pair<Issue, bool> {
    const To there = detail::cast<To>(detail::compute<double>(v));
    if (!is_finite(there)) return {Issue::overflow, false};
    if (is_zero(there)) return {is_zero(v) ? Issue::none : Issue::underflow, false};
    return {Issue::none, is_subnormal(there)};
  });
}
/// `issue_for_dtype` with words.
template <Number T>
SafetyCheck safe_for_dtype(T x, Target target) {
  const auto [issue, subnormal] = inspect::issue_for_dtype(x, target);
  const std::string value = "Value " + detail::text_of(detail::keep<detail::Result<T>>(x)), name = name_of(target);
  const Limits limits = limits_of(target);
  if (issue == Issue::invalid)
    return {false, issue, false, value + " is no number that a cast could keep", "Remove NaN and infinities before the cast"};
  if (issue == Issue::overflow)
    return {false, issue, false, value + " overflows " + name + " (largest: " + detail::text_of(limits.max, 6) + ")",
            "Rescale, or take a type with a wider range"};
  if (issue == Issue::underflow)
    return {false, issue, false, value + " becomes 0 in " + name + " (smallest: " + detail::text_of(limits.min_subnormal, 6) + ")",
            "Rescale, or take a type with a wider range"};
  if (subnormal)
    return {true, issue, true,
            value + " is subnormal in " + name + " (smallest with all digits: " + detail::text_of(limits.min_normal, 6) + ")",
            "Rescale to keep all digits"};
  return {true, issue, false, value + " is safe in " + name, {}};
}
template <Number T>
SafetyCheck safe_for_dtype(T x, std::string_view target) {
  return inspect::safe_for_dtype(x, target_from_name(target));
}

/// Counts of `issue_for_dtype`; `safe` + `overflow` + `underflow` + `invalid` = `total`. Zeros are safe, `subnormal` ones too.
struct DTypeReport {
  int64_t total = 0, safe = 0, overflow = 0, underflow = 0, invalid = 0;
  int64_t subnormal = 0, zero = 0;  ///< among `safe`
  std::string recommendation;
};
/// What a cast of all values to the target would do.
template <detail::Range R = detail::List>
DTypeReport analyze_for_dtype(const R& values, Target target) {
  DTypeReport r;
  const auto* data = std::data(values);
  r.total = static_cast<int64_t>(std::size(values));
  for (size_t i = 0; i < std::size(values); ++i) {
    const auto [issue, subnormal] = inspect::issue_for_dtype(data[i], target);
    ++(issue == Issue::none ? r.safe : issue == Issue::overflow ? r.overflow : issue == Issue::underflow ? r.underflow : r.invalid);
    r.subnormal += subnormal;
    r.zero += is_zero(detail::keep<detail::Result<detail::ElementOf<R>>>(data[i]));
  }
  const std::string name = name_of(target);
  r.recommendation =
      r.invalid > 0     ? detail::share_text(r.invalid, r.total) + " are NaN or infinite: remove them before the cast"
      : r.overflow > 0  ? detail::share_text(r.overflow, r.total) + " overflow " + name + ": scale them down or take a wider range"
      : r.underflow > 0 ? detail::share_text(r.underflow, r.total) + " become 0 in " + name + ": scale them up or take a wider range"
      : r.subnormal > 0 ? detail::share_text(r.subnormal, r.total) + " are subnormal in " + name + ": scale them up to keep all digits"
                        : "All values are safe in " + name;
  return r;
}
template <detail::Range R = detail::List>
DTypeReport analyze_for_dtype(const R& values, std::string_view target) {
  return inspect::analyze_for_dtype(values, target_from_name(target));
}

struct DTypeComparison {
  std::vector<std::pair<Target, DTypeReport>> results;  ///< in the order asked for
  std::optional<Target> best;                           ///< the first that fits of fp8_e4m3, fp8_e5m2, bf16, fp16, fp32
  std::string recommendation;
};
/// `analyze_for_dtype` for several targets, all if not given. A target fits where no value overflows or is invalid and less than 1 % of the
/// nonzero values become zero.
template <detail::Range R = detail::List>
DTypeComparison compare_dtypes(const R& values, const std::vector<Target>& targets = {std::begin(kTargets), std::end(kTargets)}) {
  DTypeComparison c;
  for (Target t : targets) c.results.emplace_back(t, inspect::analyze_for_dtype(values, t));
  for (Target t : {Target::fp8_e4m3, Target::fp8_e5m2, Target::bf16, Target::fp16, Target::fp32})
    for (const auto& [asked, r] : c.results)
      if (asked == t && !c.best && r.overflow + r.invalid == 0 && (r.underflow == 0 || r.underflow * 100 < r.total - r.zero)) c.best = t;
  c.recommendation = c.best ? std::string("Use ") + name_of(*c.best) : std::string("None of them fits: rescale the values first");
  return c;
}

}  // namespace keel::numerics::inspect
#pragma GCC visibility pop
