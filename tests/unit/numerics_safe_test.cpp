#include <keel/numerics/safe.h>
#include <keel/numerics/ulp.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "numerics_goldens.h"
#include "numerics_grid.h"

namespace keel::numerics {
namespace {

const double kNan = NAN, kInf = INFINITY, kMax = std::numeric_limits<double>::max();

template <class T>
bool bits_equal(std::optional<T> got, T want) {
  return got && same_bits(*got, want);
}
bool nan(std::optional<double> x) { return x && is_nan(*x); }

template <class T>
class SafeAll : public ::testing::Test {};
TYPED_TEST_SUITE(SafeAll, AllFloats);

// a / b in long double and rounded once, wherever b counts as not zero.
template <class T>
void divide_all(const std::vector<T>& values) {
  for (T a : values)
    for (T b : values)
      for (double tol : {0.0, 0.1}) {
        using C = detail::Compute<T>;
        const auto got = safe::div(a, b, {.otherwise = 0.5, .zero_tol = tol});
        ASSERT_TRUE(got);
        if (std::fabs(double(b)) <= double(C(tol))) {
          ASSERT_EQ(double(*got), 0.5);
          ASSERT_FALSE(safe::div(a, b, {.zero_tol = tol}));
          ASSERT_TRUE(is_zero(safe::div_or_zero(a, b, {.zero_tol = tol})));
        } else {
          C quotient = C(a) / C(b);
          ASSERT_TRUE(same_bits(*got, T(quotient))) << double(a) << " " << double(b);
          ASSERT_TRUE(same_bits(safe::div_or_inf(a, b, {.zero_tol = tol}), *got) &&
                      same_bits(safe::div_or_zero(a, b, {.zero_tol = tol}), *got));
        }
      }
}
TYPED_TEST(SafeAll, DivOnTheGrid) { divide_all(grid<TypeParam>()); }
TEST(NumericsSafe, DivEveryPairOf8Bits) {
  divide_all(every_code<float8_e4m3fn>());
  divide_all(every_code<float8_e5m2>());
}

TEST(NumericsSafe, Div) {
  static_assert(safe::div(1.0, 0.0, {.otherwise = 0.0}) == 0.0 && !safe::div(1.0, 0.0).has_value() && safe::div(1, 2) == 0.5 &&
                !safe::div(1, 0));
  EXPECT_TRUE(!safe::div(1.0, -0.0) && !safe::div(kNan, 0.0) && safe::div(kNan, 0.0, {.otherwise = 1.0}) == 1.0 && !safe::div(0.0, 0.0));
  EXPECT_TRUE(nan(safe::div(1.0, kNan)) && nan(safe::div(1.0, kNan, {.otherwise = 0.0, .zero_tol = 1.0})) && nan(safe::div(kInf, kInf)) &&
              nan(safe::div(kNan, 2.0)));
  EXPECT_TRUE(safe::div(1.0, 5e-324) == kInf && bits_equal(safe::div(-1.0, kInf), -0.0));
  EXPECT_FALSE(safe::div(1.0, 1e-9, {.zero_tol = 1e-9}));
  EXPECT_TRUE(safe::div(1.0, std::nextafter(1e-9, 1), {.zero_tol = 1e-9}).has_value());
  for (double bad : {-1.0, kNan, -5e-324, -kInf}) EXPECT_THROW(safe::div(1.0, 2.0, {.zero_tol = bad}), InvalidValueError);
  EXPECT_TRUE(nan(safe::div(1.0, 0.0, {.otherwise = kNan})) && safe::div(1.0, 0.0, {.otherwise = kInf}) == kInf);
  static_assert(std::is_same_v<decltype(safe::div(float16(1.0), bfloat16(1.0))), std::optional<float>>);
}
// An answer that its type cannot hold is an error even where it is not needed.
TEST(NumericsSafe, AnswersMustFit) {
  EXPECT_THROW(safe::div(float16(1.0), float16(1.0), {.otherwise = 1e5}), InvalidValueError);
  EXPECT_THROW(safe::sqrt(1.0f, {.otherwise = 1e300}), InvalidValueError);
  EXPECT_THROW(safe::log(float8_e5m2(1.0), {.otherwise = 61440.0}), InvalidValueError);
  EXPECT_THROW(safe::pow(float8_e4m3fn(1.0), float8_e4m3fn(1.0), {.otherwise = kInf}), InvalidValueError);
  EXPECT_THROW(safe::mod(float8_e4m3fn(1.0), float8_e4m3fn(1.0), {.otherwise = 465.0}), InvalidValueError);
  EXPECT_EQ(float(*safe::div(float8_e4m3fn(1.0), float8_e4m3fn(0.0), {.otherwise = 448.0})), 448.0f);
  EXPECT_EQ(float(*safe::div(float16(1.0), float16(0.0), {.otherwise = 65519.0})), 65504.0f);
  EXPECT_EQ(float(*safe::div(float16(1.0), float16(0.0), {.otherwise = kInf})), INFINITY);
  try {
    safe::div(float16(1.0), float16(1.0), {.otherwise = 1e5});
  } catch (const InvalidValueError& e) { EXPECT_EQ(e.value(), 1e5); }
}
TEST(NumericsSafe, DivOrInf) {
  EXPECT_TRUE(safe::div_or_inf(1.0, 0.0) == kInf && safe::div_or_inf(-1.0, 0.0) == -kInf && safe::div_or_inf(-1.0, -0.0) == -kInf &&
              safe::div_or_inf(1.0, -0.0) == kInf);
  EXPECT_TRUE(is_nan(safe::div_or_inf(0.0, 0.0)) && is_nan(safe::div_or_inf(-0.0, 0.0)) && safe::div_or_inf(kNan, 0.0) == kInf &&
              safe::div_or_inf(-kNan, 0.0) == kInf);
  EXPECT_TRUE(is_nan(safe::div_or_inf(kNan, 1.0)) && safe::div_or_inf(1.0, 1e-10, {.zero_tol = 1e-9}) == kInf);
  EXPECT_TRUE(is_inf(safe::div_or_inf(float16(-1.0), float16(0.0))) && is_nan(safe::div_or_inf(float8_e4m3fn(1.0), float8_e4m3fn(0.0))));
}

TEST(NumericsSafe, ModAsPython) {
  for (const PairGolden& g : kModGoldens) {
    const auto got = safe::mod(g.a, g.b);
    ASSERT_EQ(got.has_value(), g.has) << g.a << " " << g.b;
    if (g.has) { ASSERT_TRUE(same_bits(*got, g.result)) << g.a << " " << g.b; }
  }
  EXPECT_TRUE(safe::mod(-7, 3) == -1.0 && safe::mod(5.0, kInf) == 5.0 && !safe::mod(kNan, 0.0) &&
              safe::mod(5.0, 0.0, {.otherwise = 1.0}) == 1.0);
  EXPECT_THROW(safe::mod(kInf, 3.0), InvalidValueError);
  EXPECT_FALSE(safe::mod(kInf, 0.0));
}
// The remainder of 16-bit numbers is exact: a - b * trunc(a / b), which double holds for these.
TEST(NumericsSafe, ModOf8Bits) {
  for (float8_e5m2 a : every_code<float8_e5m2>())
    for (float8_e5m2 b : every_code<float8_e5m2>()) {
      if (!is_finite(a) || !is_finite(b) || is_zero(b)) continue;
      const double x = a, y = b, want = x - y * std::trunc(x / y);
      ASSERT_EQ(double(*safe::mod(a, b)), want) << x << " " << y;
    }
}

TYPED_TEST(SafeAll, SqrtOnTheGrid) {
  using T = TypeParam;
  std::vector<T> values = grid<T>();
  if constexpr (sizeof(T) <= 2) values = every_code<T>();
  for (T x : values) {
    const auto got = safe::sqrt(x);
    if (double(x) < 0) {
      ASSERT_TRUE(!got && double(*safe::sqrt(x, {.otherwise = 0.25})) == 0.25);
    } else if constexpr (sizeof(T) <= 2) {
      ASSERT_TRUE(bits_equal(got, T(std::sqrt(double(x)))));  // double rounding is innocuous: 53 >= 2 * 11 + 2
    } else {
      ASSERT_TRUE(bits_equal(got, std::sqrt(x)));
    }
  }
  EXPECT_TRUE(sign_bit(*safe::sqrt(T(-0.0f))));
}

TEST(NumericsSafe, LogAsPython) {
  for (const PairGolden& g : kLogGoldens) {
    const auto got = safe::log(g.a, {.base = g.b});
    ASSERT_EQ(got.has_value(), g.has) << g.a << " " << g.b;
    if (g.has && !same_bits(*got, g.result)) {
      ASSERT_TRUE(ulp::within(*got, g.result, {.max_ulps = 2})) << g.a << " " << g.b << " " << *got;
    }
  }
  // 2.9999999999999996 by log(x) / log(base)
  EXPECT_TRUE(safe::log(1000.0, {.base = 10.0}) == 3.0 && safe::log(0x1p-1074, {.base = 2.0}) == -1074.0 &&
              safe::log(8, {.base = 2}) == 3.0);
  EXPECT_TRUE(safe::log(1.0) == 0.0 && safe::log(kInf) == kInf && nan(safe::log(kNan)) && !safe::log(0.0) && !safe::log(-0.0) &&
              !safe::log(-kInf));
  EXPECT_TRUE(safe::log(0.0, {.otherwise = -1.0}) == -1.0 && safe::log(2.0, {.base = 1.0, .otherwise = 7.0}) == 7.0 &&
              !safe::log(2.0, {.base = -2.0}));
  EXPECT_TRUE(nan(safe::log(2.0, {.base = kNan})) && !safe::log(-1.0, {.base = kNan}) && !safe::log(kNan, {.base = 1.0}));
}
TEST(NumericsSafe, LogOfEvery16Bits) {
  for (float16 x : every_code<float16>()) {
    const auto got = safe::log(x);
    ASSERT_EQ(got.has_value(), !(float(x) <= 0));
    if (got && is_finite(x)) { ASSERT_TRUE(same_bits(*got, float16(std::log(static_cast<float>(x))))); }
  }
}

TEST(NumericsSafe, PowAsPython) {
  for (const PairGolden& g : kPowGoldens) {
    const auto got = safe::pow(g.a, g.b);
    ASSERT_EQ(got.has_value(), g.has) << g.a << " " << g.b;
    if (g.has && !same_bits(*got, g.result)) {
      ASSERT_TRUE(ulp::within(*got, g.result, {.max_ulps = 1})) << g.a << " " << g.b << " " << *got;
    }
  }
  // the first version made complex numbers of these
  EXPECT_TRUE(!safe::pow(-1.0, 0.5) && !safe::pow(-8.0, 1.0 / 3) && safe::pow(-1.0, 0.5, {.otherwise = 0.0}) == 0.0);
  EXPECT_TRUE(safe::pow(-2.0, 3.0) == -8.0 && safe::pow(2, 10) == 1024.0 && safe::pow(kNan, 0.0) == 1.0 && safe::pow(0.0, 0.0) == 1.0 &&
              safe::pow(1.0, kNan) == 1.0);
  EXPECT_TRUE(!safe::pow(0.0, -1.0) && !safe::pow(1e200, 2.0) && safe::pow(1e-200, 2.0) == 0.0 && safe::pow(0.0, -kInf) == kInf &&
              safe::pow(kInf, 2.0) == kInf);
  // overflow is that of the type of the result, also where its casts saturate
  EXPECT_TRUE(!safe::pow(float16(300.0), float16(2.0)) && !safe::pow(float8_e4m3fn(32.0), float8_e4m3fn(2.0)) && !safe::pow(1e30f, 2.0f));
  EXPECT_EQ(float(*safe::pow(float8_e4m3fn(20.0), float8_e4m3fn(2.0))), 384.0f);
}

// Sums.
TEST(NumericsSum, AsExactFractions) {
  for (const SumGolden& g : kSumGoldens) {
    if (g.fits) {
      ASSERT_TRUE(same_bits(safe::sum_exact(g.values), g.sum)) << safe::sum_exact(g.values) << " " << g.sum;
    } else {
      ASSERT_THROW(safe::sum_exact(g.values), InvalidValueError);
    }
    ASSERT_EQ(safe::mean_exact(g.values), g.mean);
    auto reversed = g.values;
    std::reverse(reversed.begin(), reversed.end());
    ASSERT_EQ(safe::mean_exact(reversed), g.mean);
  }
}
TEST(NumericsSum, SpecialValues) {
  static_assert(safe::sum_exact({1e16, 1.0, -1e16}) == 1.0 && safe::mean_exact({1.0, 2.0, 4.0}) == 7.0 / 3);
  EXPECT_FALSE(sign_bit(safe::sum_exact({-0.0, -0.0})));
  EXPECT_TRUE(is_nan(safe::sum_exact({kNan, kInf})) && safe::sum_exact({kInf, 1.0}) == kInf && safe::sum_exact({-kInf, kMax}) == -kInf &&
              is_nan(safe::mean_exact({1.0, kNan})));
  EXPECT_THROW(safe::sum_exact({kInf, -kInf}), InvalidValueError);
  EXPECT_THROW(safe::mean_exact({kNan, kInf, -kInf}), InvalidValueError);
  EXPECT_THROW(safe::sum_exact(std::vector<double>{}), EmptyInputError);
  EXPECT_THROW(safe::mean_exact(std::vector<float16>{}), NeonError);
  EXPECT_EQ(safe::mean_exact({kMax, kMax, kMax}), kMax);  // a mean fits, whatever the sum
  EXPECT_EQ(safe::sum_exact({kMax, kMax, -kMax}), kMax);
  // how much of a half step it takes to overflow
  EXPECT_EQ(safe::sum_exact({kMax, 0x1p969}), kMax);
  EXPECT_THROW(safe::sum_exact({-kMax, -0x1p970}), InvalidValueError);
}
TEST(NumericsSum, Integers) {
  const std::vector<int64_t> big = {INT64_MAX, INT64_MAX, INT64_MIN, INT64_MIN, 7};
  EXPECT_EQ(safe::sum_exact(big), 5.0);
  EXPECT_EQ(safe::sum_exact(std::vector<uint64_t>{UINT64_MAX, 1}), 0x1p64);
  EXPECT_EQ(safe::mean_exact(std::vector<int>{1, 2}), 1.5);
}
// The sum of small floats is that of their doubles, which is exact, rounded once.
TYPED_TEST(SafeAll, SumRoundsOnce) {
  using T = TypeParam;
  std::mt19937_64 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::vector<T> values;
    std::vector<double> wide;
    for (int i = 0; i < 2 + round % 5; ++i) {
      const T x = from_ordered<T>(ordered(T(1.0f)) + int64_t(random() % 400) - 200);
      values.push_back(random() % 2 == 0 ? x : from_ordered<T>(-ordered(x)));
      wide.push_back(double(values.back()));
    }
    if constexpr (sizeof(T) < 8) {
      double sum = 0;
      for (double x : wide) sum += x;  // at most 30 bits apart from each other: exact
      if (std::fabs(sum) > double(FloatTraits<T>::max()) || !std::all_of(values.begin(), values.end(), [](T x) { return is_finite(x); }))
        continue;
      ASSERT_EQ(double(safe::sum_exact(values)), double(T(sum)));
      ASSERT_EQ(double(safe::mean_exact(values)), double(T(safe::mean_exact(wide)))) << round;
    } else {
      long double sum = 0;
      for (double x : wide) sum += x;
      ASSERT_EQ(safe::sum_exact(values), static_cast<double>(sum));
    }
  }
}
// What lies far below a half decides it: in float and bfloat16 below what double holds, in a mean in the remainder alone.
TEST(NumericsSum, TheSmallestPartDecidesAHalf) {
  EXPECT_EQ(safe::sum_exact(std::vector<float>{1, 0x1p-24f, 0x1p-100f}), 1 + 0x1p-23f);
  EXPECT_EQ(safe::sum_exact(std::vector<float>{1, 0x1p-24f, -0x1p-100f}), 1.0f);
  EXPECT_EQ(safe::sum_exact(std::vector<float>{1, 0x1p-24f}), 1.0f);
  EXPECT_EQ(float(safe::sum_exact(std::vector<bfloat16>{bfloat16(1.0), bfloat16(0x1p-8), bfloat16(0x1p-100)})), 1 + 0x1p-7f);
  for (uint64_t n : {(uint64_t(1) << 32) - 1, (uint64_t(1) << 32) + 1}) {
    detail::ExactSum above, below;
    above.add(std::ldexp(double(n / 2 + 1), -1074));
    below.add(std::ldexp(double(n / 2), -1074));
    EXPECT_EQ(above.mean<double>(n), 5e-324);
    EXPECT_EQ(below.mean<double>(n), 0.0);
  }
}
TEST(NumericsSum, ManyValues) {
  std::vector<float> tenth(1000003, 0.1f);
  EXPECT_EQ(safe::sum_exact(tenth), float(double(0.1f) * 1000003));
  EXPECT_EQ(safe::mean_exact(tenth), 0.1f);
  detail::ExactSum sum;  // a divisor of more than 32 bits
  sum.add(1.0);
  EXPECT_EQ(sum.mean<double>(uint64_t(3) << 40), 1.0 / 3 * 0x1p-40);
  detail::ExactSum tiny;
  tiny.add(5e-324);
  EXPECT_EQ(tiny.mean<double>(uint64_t(1) << 33), 0.0);
}

TEST(NumericsSafe, Many) {
  EXPECT_EQ(safe::div_many({1, 2}, {0, 2}), (std::vector<std::optional<double>>{{}, 1.0}));
  EXPECT_EQ(safe::div_many({1, 2}, {0, 2}, {.otherwise = 9.0}), (std::vector<std::optional<double>>{9.0, 1.0}));
  EXPECT_EQ(safe::sqrt_many({4, -1}), (std::vector<std::optional<double>>{2.0, {}}));
  EXPECT_EQ(safe::log_many({1, 0}, {.otherwise = 0.0}), (std::vector<std::optional<double>>{0.0, 0.0}));
  EXPECT_EQ(safe::pow_many({2, 0}, {3, -1}), (std::vector<std::optional<double>>{8.0, {}}));
  EXPECT_THROW(safe::div_many({1}, {1, 2}), InvalidValueError);
  try {
    safe::pow_many({1}, {1, 2});
    FAIL();
  } catch (const InvalidValueError& e) {
    EXPECT_STREQ(e.what(), "Input sequences must have equal length (got 1 for bases and 2 for exps)");
    EXPECT_FALSE(e.value());
  }
}

}  // namespace
}  // namespace keel::numerics
