#pragma once
#include <optional>
#include <string>
#include <vector>

#include "keel/numerics/compare.h"
#include "keel/numerics/inspect_dtype.h"
#include "keel/numerics/safe.h"
#include "keel/numerics/text.h"
#include "keel/numerics/ulp.h"

#pragma push_macro("near")
#pragma push_macro("check")
#undef near
#undef check
#pragma GCC visibility push(default)
/// Reports for people: what is wrong with a number, a comparison, a division, a list of numbers. Numbers are judged in their own type, so
/// that a float16 is subnormal below 2^-14; the texts may change between versions, the conditions do not.
namespace keel::numerics::inspect {

/// What is wrong with x: NaN, an infinity, or a subnormal value, which has fewer digits than its type; nothing where all is well, also for
/// zeros and integers. (A literal below the smallest subnormal, such as 1e-400, is 0 before any function can see it.)
template <Number T>
std::optional<std::string> check(T x) {
  if constexpr (Float<T>) {
    if (is_nan(x)) return "Value is NaN: look for 0/0, inf - inf, or a root or logarithm of a negative number";
    if (is_inf(x)) return std::string("Value is ") + (sign_bit(x) ? "-inf" : "+inf") + ": look for an overflow or a division by zero";
    if (is_subnormal(x)) return "Value " + detail::text_of(x) + " is subnormal: it has fewer significant digits than its type";
  }
  return {};
}
/// `check` under a name that no system header defines as a macro.
template <Number T>
std::optional<std::string> check_value(T x) {
  return inspect::check(x);
}

enum class Risk : uint8_t { low, medium, high };
/// "LOW", "MEDIUM", "HIGH"
constexpr const char* name_of(Risk r) { return r == Risk::low ? "LOW" : r == Risk::medium ? "MEDIUM" : "HIGH"; }

/// What `analyze` counts. `normal` + `denormal` + `zero` + `nan` + `inf` = `total`.
struct AnalysisReport {
  int64_t total = 0, normal = 0, denormal = 0, zero = 0, nan = 0, inf = 0;
  Risk precision_risk = Risk::low;  ///< high: a NaN or an infinity; medium: more than 5 % denormal; else low
  std::vector<std::string> issues, recommendations;

  /// All of it in lines of text.
  std::string text() const {
    std::string s = detail::text_of(static_cast<uint64_t>(total)) + " values, precision risk " + name_of(precision_risk) + "\n";
    const std::pair<const char*, int64_t> rows[] = {{"normal", normal}, {"denormal", denormal}, {"zero", zero}, {"nan", nan}, {"inf", inf}};
    for (const auto& [name, count] : rows) s += std::string("  ") + name + ": " + detail::share_text(count, total) + "\n";
    for (const std::string& line : issues) s += "  issue: " + line + "\n";
    for (const std::string& line : recommendations) s += "  try: " + line + "\n";
    return s;
  }
};

/// Counts normal, denormal, zero, NaN and infinite values and says what to do about them. Denormal: 0 < |x| < smallest normal value of the
/// type, the largest denormal included. An empty list is at low risk.
template <detail::Range R = detail::List>
AnalysisReport analyze(const R& values) {
  AnalysisReport r;
  const auto* data = std::data(values);
  for (size_t i = 0; i < std::size(values); ++i) {
    const auto x = detail::keep<detail::Result<detail::ElementOf<R>>>(data[i]);
    ++(is_nan(x) ? r.nan : is_inf(x) ? r.inf : is_zero(x) ? r.zero : is_subnormal(x) ? r.denormal : r.normal);
  }
  r.total = static_cast<int64_t>(std::size(values));
  const bool many = r.denormal * 20 > r.total;
  r.precision_risk = r.nan + r.inf > 0 ? Risk::high : many ? Risk::medium : Risk::low;
  if (r.nan > 0) {
    r.issues.push_back("NaN: " + detail::share_text(r.nan, r.total));
    r.recommendations.push_back("find the operation that makes NaN: a division by zero, a root or logarithm of a negative number");
  }
  if (r.inf > 0) {
    r.issues.push_back("infinite: " + detail::share_text(r.inf, r.total));
    r.recommendations.push_back("rescale, or divide with keel::numerics::safe::div");
  }
  if (many) {
    r.issues.push_back("denormal: " + detail::share_text(r.denormal, r.total));
    r.recommendations.push_back("rescale, or set them to zero with keel::numerics::clamp::to_zero");
  }
  return r;
}
/// One line: what `analyze` found.
template <detail::Range R = detail::List>
std::string check_many(const R& values) {
  const AnalysisReport r = inspect::analyze(values);
  std::string found;
  const std::pair<const char*, int64_t> rows[] = {{"NaN", r.nan}, {"infinite", r.inf}, {"denormal", r.denormal}};
  for (const auto& [name, count] : rows)
    if (count > 0) found += (found.empty() ? "Found " : ", ") + detail::text_of(static_cast<uint64_t>(count)) + " " + name;
  if (found.empty()) return "All " + detail::text_of(static_cast<uint64_t>(r.total)) + " values are normal or zero: no issues";
  return found + " of " + detail::text_of(static_cast<uint64_t>(r.total)) + ": precision risk " + name_of(r.precision_risk);
}

/// How far a and b lie apart, absolutely, as a share of the larger magnitude and in ULPs, and whether `compare::near` takes them for equal
/// with the default tolerances of their types.
template <Number A, Number B>
std::string compare_debug(A a, B b) {
  using R = detail::Result<A, B>;
  const R x = detail::keep<R>(a), y = detail::keep<R>(b);
  if (detail::same(x, y)) return "Values are exactly equal";
  const double p = detail::compute<double>(x), q = detail::compute<double>(y),
               size = detail::larger(detail::absolute(p), detail::absolute(q));
  std::string s = "Values differ by " + detail::text_of(detail::absolute(p - q), 10) + " (" +
                  detail::text_of(100 * detail::absolute(p - q) / size, 10) + " %)\n";
  if (!is_finite(x) || !is_finite(y))
    return s + "ULP distance: none (a value is NaN or infinite)\nThey are not near: this is no rounding error";
  s += "ULP distance: " + detail::text_of(ulp::diff(x, y)) + "\n";
  return s + (compare::near(a, b) ? "They are near: compare them with keel::numerics::compare::near and its default tolerances"
                                  : "They are not near with the default tolerances: this is more than rounding");
}
/// What is wrong with a / b: a denominator that is zero, NaN, infinite or subnormal, else a result that is.
template <Number A, Number B>
std::string div_debug(A a, B b) {
  using R = detail::Result<A, B>;
  constexpr const char* kHint = "\nTry: keel::numerics::safe::div with an answer for this case";
  const R y = detail::keep<R>(b);
  if (is_zero(y)) return std::string("Division by zero") + kHint;
  if (const auto issue = inspect::check(y)) return "Denominator: " + *issue + kHint;
  if (const auto issue = inspect::check(*safe::div(a, b))) return "Result: " + *issue + kHint;
  return "The division is safe: no issues";
}
/// A report where `got` differs from `expected` by rounding: by more than nothing and at most 1 % of |expected|, or where `got` is NaN.
/// Nothing where they are equal, further apart (a wrong result, not a rounding one) or where `expected` is 0.
template <Number A, Number B>
std::optional<std::string> precision_loss(A got, B expected) {
  using R = detail::Result<A, B>;
  const R x = detail::keep<R>(got), y = detail::keep<R>(expected);
  if (detail::same(x, y) || is_zero(y)) return {};
  const double p = detail::compute<double>(x), q = detail::compute<double>(y);
  const bool finite = is_finite(x) && is_finite(y);
  const double error = detail::absolute(p / q - 1);
  if (finite ? !detail::at_most(error, 0.01) : !is_nan(x)) return {};
  std::string s = "Precision loss\n  expected: " + detail::text_of(y) + "\n  got:      " + detail::text_of(x) + "\n";
  if (finite) s += "  error:    " + detail::text_of(error, 3) + " (" + detail::text_of(ulp::diff(x, y)) + " ULP)\n";
  return s + "  try:      keel::numerics::safe::sum_exact, or another order of the operations";
}

}  // namespace keel::numerics::inspect
#pragma GCC visibility pop
#pragma pop_macro("check")
#pragma pop_macro("near")
