#include <keel/numerics.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "numerics_grid.h"

namespace keel::numerics {
namespace {

using inspect::Issue;
using inspect::Risk;
using inspect::Target;
const double kNan = NAN, kInf = INFINITY;

TEST(NumericsInspect, CheckNamesWhatIsWrong) {
  for (double x : {0.0, -0.0, 1.0, 2.3e-308, 1.7e308, 2.2250738585072014e-308}) EXPECT_FALSE(inspect::check(x)) << x;
  EXPECT_NE(inspect::check(kNan)->find("NaN"), std::string::npos);
  EXPECT_NE(inspect::check(kInf)->find("+inf"), std::string::npos);
  EXPECT_NE(inspect::check(-kInf)->find("-inf"), std::string::npos);
  // the largest subnormal is one too; the first version's threshold missed it
  EXPECT_NE(inspect::check(2.225073858507201e-308)->find("subnormal"), std::string::npos);
  EXPECT_TRUE(inspect::check(5e-324) && inspect::check(-5e-324) && !inspect::check(7) && inspect::check_value(kNan));
  // each type has its own border
  EXPECT_TRUE(inspect::check(float16(6e-5)) && !inspect::check(float16(6.2e-5)) && !inspect::check(6e-5f) &&
              inspect::check(float8_e4m3fn(0.01)));
}
template <class T>
class InspectEvery : public ::testing::Test {};
TYPED_TEST_SUITE(InspectEvery, SmallFloats);
TYPED_TEST(InspectEvery, AnalyzeCountsEveryCode) {
  using T = TypeParam;
  const auto all = every_code<T>();
  const auto r = inspect::analyze(all);
  const int64_t mantissa = int64_t(1) << (FloatTraits<T>::digits - 1);
  EXPECT_EQ(r.total, int64_t(all.size()));
  EXPECT_EQ(r.zero, 2);
  EXPECT_EQ(r.denormal, 2 * (mantissa - 1));
  EXPECT_EQ(r.inf, FloatTraits<T>::has_infinity ? 2 : 0);
  EXPECT_EQ(r.nan, FloatTraits<T>::has_infinity ? 2 * (mantissa - 1) : 2);
  EXPECT_EQ(r.normal + r.denormal + r.zero + r.inf + r.nan, r.total);
  EXPECT_EQ(r.precision_risk, Risk::high);
}
TEST(NumericsInspect, Analyze) {
  const auto r = inspect::analyze({1, kNan, 0, -kInf});
  EXPECT_TRUE(r.total == 4 && r.normal == 1 && r.zero == 1 && r.nan == 1 && r.inf == 1 && r.precision_risk == Risk::high &&
              r.issues.size() == 2);
  EXPECT_NE(r.text().find("nan: 1 of 4 (25 %)"), std::string::npos) << r.text();
  std::vector<float> values(20, 1.0f);
  values[0] = 1e-40f;
  EXPECT_EQ(inspect::analyze(values).precision_risk, Risk::low);  // 5 %: not more
  values[1] = 1e-40f;
  EXPECT_EQ(inspect::analyze(values).precision_risk, Risk::medium);
  EXPECT_STREQ(inspect::name_of(Risk::medium), "MEDIUM");
  // no values: the first version divided by zero when it printed the report
  const auto none = inspect::analyze(std::vector<double>{});
  EXPECT_TRUE(none.total == 0 && none.precision_risk == Risk::low && none.issues.empty());
  EXPECT_NE(none.text().find("0 values"), std::string::npos);
  EXPECT_EQ(none.text().find("%"), std::string::npos);
  EXPECT_EQ(inspect::check_many({1, 2}), "All 2 values are normal or zero: no issues");
  EXPECT_EQ(inspect::check_many({1, kNan, kInf, 5e-324}), "Found 1 NaN, 1 infinite, 1 denormal of 4: precision risk HIGH");
}

TEST(NumericsInspect, CompareDebugAndDivDebug) {
  EXPECT_EQ(inspect::compare_debug(1.0, 1), "Values are exactly equal");
  EXPECT_EQ(inspect::compare_debug(kInf, kInf), "Values are exactly equal");
  const std::string close = inspect::compare_debug(0.1 + 0.2, 0.3);
  EXPECT_NE(close.find("5.551115123e-17"), std::string::npos) << close;
  EXPECT_NE(close.find("ULP distance: 1\n"), std::string::npos);
  EXPECT_NE(close.find("They are near"), std::string::npos);
  EXPECT_NE(inspect::compare_debug(1, 2).find("(50 %)"), std::string::npos);
  EXPECT_NE(inspect::compare_debug(1, 2).find("not near"), std::string::npos);
  EXPECT_NE(inspect::compare_debug(kNan, 2.0).find("ULP distance: none"), std::string::npos);
  EXPECT_NE(inspect::compare_debug(float16(1.0), float16(1.0009765625)).find("ULP distance: 1\nThey are near"), std::string::npos);
  EXPECT_EQ(inspect::div_debug(1, 3), "The division is safe: no issues");
  EXPECT_EQ(inspect::div_debug(1, 0).substr(0, 16), "Division by zero");
  EXPECT_EQ(inspect::div_debug(1.0, -0.0).substr(0, 16), "Division by zero");
  EXPECT_EQ(inspect::div_debug(1.0, kInf).substr(0, 12), "Denominator:");
  EXPECT_EQ(inspect::div_debug(1.0, 5e-324).substr(0, 12), "Denominator:");
  EXPECT_EQ(inspect::div_debug(1e300, 1e-300).substr(0, 7), "Result:");
  EXPECT_EQ(inspect::div_debug(kNan, 3.0).substr(0, 7), "Result:");
}
TEST(NumericsInspect, PrecisionLoss) {
  const auto loss = inspect::precision_loss(1.0000000001, 1.0);
  ASSERT_TRUE(loss);
  EXPECT_NE(loss->find("(450360 ULP)"), std::string::npos) << *loss;
  EXPECT_TRUE(!inspect::precision_loss(1.02, 1.0) && inspect::precision_loss(1.009, 1.0) && !inspect::precision_loss(1.0, 1.0) &&
              !inspect::precision_loss(1.0, 0.0));
  EXPECT_TRUE(!inspect::precision_loss(0.0, 0.0) && inspect::precision_loss(kNan, 1.0) && !inspect::precision_loss(kInf, 1.0) &&
              inspect::precision_loss(-0.999, -1.0));
}

// IEEE 754, OCP 8-bit formats. The first version had bf16's largest value, E5M2's smallest (ten times too large) and E4M3's (the subnormal
// one) wrong.
TEST(NumericsInspect, Limits) {
  using inspect::limits_of;
  static_assert(limits_of(Target::fp16).max == 65504 && limits_of(Target::fp16).overflow_from == 65520 &&
                limits_of(Target::fp16).min_normal == 0x1p-14 && limits_of(Target::fp16).min_subnormal == 0x1p-24);
  static_assert(limits_of(Target::bf16).max == 0x1.fep127 && limits_of(Target::bf16).min_normal == 0x1p-126 &&
                limits_of(Target::bf16).min_subnormal == 0x1p-133);
  static_assert(limits_of(Target::fp8_e4m3).max == 448 && limits_of(Target::fp8_e4m3).overflow_from == ulp::next(464.0) &&
                limits_of(Target::fp8_e4m3).min_normal == 0x1p-6 && limits_of(Target::fp8_e4m3).min_subnormal == 0x1p-9);
  static_assert(limits_of(Target::fp8_e5m2).max == 57344 && limits_of(Target::fp8_e5m2).overflow_from == 61440 &&
                limits_of(Target::fp8_e5m2).min_normal == 0x1p-14 && limits_of(Target::fp8_e5m2).min_subnormal == 0x1p-16);
  static_assert(limits_of(Target::fp32).max == 0x1.fffffep127 && limits_of(Target::fp32).overflow_from == 0x1.ffffffp127 &&
                limits_of(Target::fp32).min_subnormal == 0x1p-149);
}
// Every border from the limits, and what the casts really do on both sides of it.
TEST(NumericsInspect, IssuesAtEveryBorder) {
  for (Target t : inspect::kTargets) {
    const auto l = inspect::limits_of(t);
    const auto issue = [&](double x) { return inspect::issue_for_dtype(x, t).first; };
    for (double s : {1.0, -1.0}) {
      EXPECT_EQ(issue(s * l.max), Issue::none);
      EXPECT_EQ(issue(s * l.overflow_from), Issue::overflow);
      EXPECT_EQ(issue(s * ulp::prev(l.overflow_from)), Issue::none);
      EXPECT_EQ(issue(s * l.min_subnormal / 2), Issue::underflow);
      EXPECT_EQ(issue(s * ulp::next(l.min_subnormal / 2)), Issue::none);
      EXPECT_EQ(inspect::issue_for_dtype(s * l.min_subnormal, t), std::make_pair(Issue::none, true));
      EXPECT_EQ(inspect::issue_for_dtype(s * l.min_normal, t), std::make_pair(Issue::none, false));
      EXPECT_EQ(issue(s * kInf), Issue::invalid);
      EXPECT_EQ(issue(s * 0.0), Issue::none);
    }
    EXPECT_EQ(issue(kNan), Issue::invalid);
    EXPECT_EQ(issue(1e-320), Issue::underflow);
  }
}
TEST(NumericsInspect, SafeForDtype) {
  EXPECT_TRUE(inspect::safe_for_dtype(1.0, "fp16").safe && inspect::safe_for_dtype(0.0, Target::fp8_e4m3).safe &&
              !inspect::safe_for_dtype(1.0, "fp16").recommendation);
  const auto over = inspect::safe_for_dtype(70000.0, "fp16");
  EXPECT_TRUE(!over.safe && over.issue == Issue::overflow && over.recommendation);
  EXPECT_EQ(over.message, "Value 70000 overflows fp16 (largest: 65504)");
  EXPECT_TRUE(inspect::safe_for_dtype(65519.0, "fp16").safe);  // rounds to 65504
  EXPECT_EQ(inspect::safe_for_dtype(1e-9, "fp16").issue, Issue::underflow);
  const auto below = inspect::safe_for_dtype(6e-6, "fp16");  // "underflow" in the first version, though a subnormal float16 holds it
  EXPECT_TRUE(below.safe && below.subnormal && below.recommendation);
  EXPECT_TRUE(inspect::safe_for_dtype(1.6e-5, "fp8_e5m2").safe && inspect::safe_for_dtype(3.38e38, "bf16").safe &&
              inspect::safe_for_dtype(70000, "bf16").safe);
  EXPECT_EQ(inspect::safe_for_dtype(float16(500.0), "fp8_e4m3").issue, Issue::overflow);
  EXPECT_EQ(inspect::safe_for_dtype(kNan, "fp32").issue, Issue::invalid);
  EXPECT_THROW(inspect::safe_for_dtype(1.0, "fp17"), InvalidValueError);
  for (Target t : inspect::kTargets) EXPECT_EQ(inspect::target_from_name(inspect::name_of(t)), t);
}
// The prediction against the cast that it foretells, with the library's own types.
TEST(NumericsInspect, ForetellsCasts) {
  std::mt19937_64 random(17);
  for (int i = 0; i < 200000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isfinite(x)) continue;
    const float16 h(x);
    const auto [issue, subnormal] = inspect::issue_for_dtype(x, Target::fp16);
    ASSERT_EQ(issue == Issue::overflow, std::isinf(float(h))) << x;
    ASSERT_EQ(issue == Issue::underflow, x != 0 && float(h) == 0) << x;
    ASSERT_EQ(subnormal, is_subnormal(h)) << x;
    const float8_e4m3fn q(x, Overflow::nan_or_inf);
    ASSERT_EQ(inspect::issue_for_dtype(x, Target::fp8_e4m3).first == Issue::overflow, std::isnan(float(q))) << x;
  }
}
TEST(NumericsInspect, AnalyzeForDtypeAndCompareDtypes) {
  const auto r = inspect::analyze_for_dtype({1, 1e6, 1e-9, kNan, 0, 6e-6}, "fp16");
  EXPECT_TRUE(r.total == 6 && r.safe == 3 && r.overflow == 1 && r.underflow == 1 && r.invalid == 1 && r.subnormal == 1 && r.zero == 1);
  EXPECT_EQ(r.safe + r.overflow + r.underflow + r.invalid, r.total);
  EXPECT_NE(r.recommendation.find("1 of 6 (16.7 %) are NaN or infinite"), std::string::npos) << r.recommendation;
  EXPECT_EQ(inspect::analyze_for_dtype(std::vector<float>{}, "bf16").recommendation, "All values are safe in bf16");
  EXPECT_EQ(inspect::compare_dtypes({1, 2, 0.5}).best, Target::fp8_e4m3);
  EXPECT_EQ(inspect::compare_dtypes({1, 1000}).best, Target::fp8_e5m2);
  EXPECT_EQ(inspect::compare_dtypes({1, 1e6}).best, Target::bf16);
  EXPECT_EQ(inspect::compare_dtypes({1, 1000}, {Target::fp32, Target::fp16}).best, Target::fp16);
  EXPECT_EQ(inspect::compare_dtypes({1, 1e300}).best, std::nullopt);
  EXPECT_EQ(inspect::compare_dtypes({1, kNan}).recommendation, "None of them fits: rescale the values first");
  EXPECT_EQ(inspect::compare_dtypes({1}).results.size(), 5u);
  std::vector<double> few(200, 1.0);
  few[0] = 1e-20;  // half a percent of the nonzero values becomes zero
  EXPECT_EQ(inspect::compare_dtypes(few).best, Target::fp8_e4m3);
  few[1] = 1e-20;
  EXPECT_EQ(inspect::compare_dtypes(few).best, Target::bf16);
  EXPECT_TRUE(inspect::compare_dtypes({0, 0}).best == Target::fp8_e4m3);
}

// The short names, and what the program of the public API says.
TEST(Numerics, ShortNames) {
  namespace num = keel::numerics;
  EXPECT_TRUE(num::near(0.1 + 0.2, 0.3) && num::is_near(1, 1) && num::near_zero(0.0) && num::is_integer(2.0) && num::to_zero(1e-12) == 0 &&
              num::to_int(3.0) == 3);
  EXPECT_TRUE(num::to_range(5, 0, 1) == 1 && num::div(1, 2) == 0.5 && num::sqrt(4.0) == 2.0 && num::sum_exact({1, 2}) == 3);
  EXPECT_TRUE(num::ulp_of(1.0) == 0x1p-52 && num::ulp_diff(1.0, 1.0) == 0 && num::ulp_within(1.0, 1.0, {.max_ulps = 0}));
}
TEST(Numerics, Errors) {
  try {
    ulp::of(kNan);
    FAIL();
  } catch (const NumericsError& e) { EXPECT_STREQ(e.what(), "Cannot compute the ULP of NaN"); }
  const InvalidValueError e(std::string(500, 'x').c_str(), 3.0), copy = e;
  EXPECT_EQ(std::string(copy.what()), std::string(159, 'x'));
  EXPECT_EQ(copy.value(), 3.0);
}

}  // namespace
}  // namespace keel::numerics
