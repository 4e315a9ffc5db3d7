#include <keel/numerics/clamp.h>
#include <keel/numerics/compare.h>
#include <keel/numerics/ulp.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "numerics_goldens.h"
#include "numerics_grid.h"

namespace keel::numerics {
namespace {

const double kNan = NAN, kInf = INFINITY;

// The definition, in long double: equal, or both finite and |a - b| <= max(rel * max(|a|, |b|), abs), where difference and product are
// rounded to the type that computes and the difference fits it.
template <class T>
bool near_by_definition(T a, T b, double rel, double abs) {
  using C = detail::Compute<T>;
  const long double x = detail::compute<double>(a), y = detail::compute<double>(b);
  if (x == y) return true;
  if (!std::isfinite(x) || !std::isfinite(y)) return false;
  const long double d = std::fabs(x - y);
  if (std::isinf(static_cast<C>(d))) return false;
  return static_cast<C>(d) <= std::max(static_cast<C>(C(rel) * std::max(std::fabs(x), std::fabs(y))), C(abs));
}

template <class T>
class CompareAll : public ::testing::Test {};
TYPED_TEST_SUITE(CompareAll, AllFloats);

TYPED_TEST(CompareAll, NearOnTheGrid) {
  using T = TypeParam;
  const Tolerance t = tolerances<T>();
  int yes = 0;
  for (T a : grid<T>())
    for (T b : grid<T>()) {
      ASSERT_EQ(compare::near(a, b), near_by_definition(a, b, t.rel, t.abs)) << double(a) << " " << double(b);
      ASSERT_EQ(compare::near(a, b), compare::near(b, a));
      ASSERT_EQ(compare::is_near(a, b), compare::near(a, b));
      for (double rel : {0.0, 0.3, 1.0, 3.0, 1e300})
        for (double abs : {0.0, 1e-30, 2.0, kInf}) {
          if (detail::Compute<T>(rel) == kInf && abs < kInf) continue;
          ASSERT_EQ(compare::near(a, b, {.rel_tol = rel, .abs_tol = abs}), near_by_definition(a, b, rel, abs))
              << double(a) << " " << double(b) << " " << rel << " " << abs;
        }
      yes += compare::near(a, b);
    }
  EXPECT_GT(yes, 50);
}
// numerics and design: adjacent values of a type are near with its default tolerances, everywhere.
TYPED_TEST(CompareAll, NeighboursAreNear) {
  using T = TypeParam;
  std::mt19937_64 random(9);
  for (int i = 0; i < 100000; ++i) {
    const T x = std::bit_cast<T>(static_cast<detail::Bits<T>>(random()));
    if (is_finite(x) && is_finite(ulp::next(x))) { ASSERT_TRUE(compare::near(x, ulp::next(x))) << double(x); }
  }
}
TYPED_TEST(CompareAll, SpecialValues) {
  using T = TypeParam;
  const T nan = FloatTraits<T>::quiet_nan(), zero(0.0f), minus(-0.0f), one(1.0f), top = FloatTraits<T>::max();
  EXPECT_TRUE(!compare::near(nan, nan) && compare::near(nan, nan, {.equal_nan = true}) && !compare::near(nan, one, {.equal_nan = true}));
  EXPECT_TRUE(compare::near(zero, minus, {.rel_tol = 0.0, .abs_tol = 0.0}));
  EXPECT_FALSE(compare::near(top, FloatTraits<T>::lowest()));
  if (FloatTraits<T>::has_infinity) {
    const T inf = FloatTraits<T>::infinity();
    EXPECT_TRUE(compare::near(inf, inf) && !compare::near(inf, top) && !compare::near(T(-float(inf)), inf) && !compare::near(inf, nan));
    EXPECT_FALSE(compare::near(inf, top, {.rel_tol = kInf}));  // the tolerance itself would be infinite
    EXPECT_TRUE(!compare::near_zero(inf, {.abs_tol = kInf}) && !compare::is_integer(inf));
  }
  EXPECT_TRUE(!compare::near_zero(nan, {.abs_tol = kInf}) && !compare::is_integer(nan) && compare::near_zero(minus, {.abs_tol = 0.0}));
  EXPECT_EQ(compare::compare(nan, nan), 1);
  EXPECT_EQ(compare::compare(one, nan), 1);
  EXPECT_EQ(compare::compare(nan, one), 1);
  EXPECT_EQ(compare::compare(one, top), -1);
  EXPECT_EQ(compare::compare(top, one), 1);
  EXPECT_TRUE(!compare::less_or_near(nan, one) && !compare::greater_or_near(one, nan));
}

template <class T>
class CompareEvery : public ::testing::Test {};
TYPED_TEST_SUITE(CompareEvery, SmallFloats);

// All pairs of 8-bit values, every 509th row of 16-bit ones: the count that NumPy finds, each against the definition.
template <class T>
void every_pair(const FormatGolden& golden) {
  const Tolerance t = tolerances<T>();
  const auto all = every_code<T>();
  uint64_t count = 0;
  for (size_t k = 0; k < all.size(); k += sizeof(T) == 1 ? 1 : 509)
    for (T a : all) {
      const bool got = compare::near(a, all[k]);
      count += got;
      ASSERT_EQ(got, near_by_definition(a, all[k], t.rel, t.abs)) << float(a) << " " << float(all[k]);
    }
  EXPECT_EQ(count, golden.near_pairs);
}
TEST(NumericsCompare, EveryPairAsNumpy) {
  every_pair<float16>(kFloat16Golden);
  every_pair<bfloat16>(kBfloat16Golden);
  every_pair<float8_e4m3fn>(kFloat8E4m3fnGolden);
  every_pair<float8_e5m2>(kFloat8E5m2Golden);
}
TYPED_TEST(CompareEvery, NearZeroIsIntegerToZeroToInt) {
  using T = TypeParam;
  const double tol = static_cast<float>(tolerances<T>().abs);
  for (T x : every_code<T>()) {
    const double v = double(float(x));
    const bool small = std::isfinite(v) && std::fabs(v) <= tol, whole = std::isfinite(v) && std::fabs(v - std::nearbyint(v)) <= tol;
    ASSERT_EQ(compare::near_zero(x), small) << v;
    ASSERT_EQ(compare::is_integer(x), whole) << v;
    ASSERT_EQ(detail::bits_of(clamp::to_zero(x)), small ? 0 : detail::bits_of(x)) << v;
    const T n = clamp::to_int(x);
    if (whole) {
      ASSERT_EQ(double(float(n)), std::nearbyint(v));
      ASSERT_FALSE(is_zero(n) && sign_bit(n));
    } else {
      ASSERT_EQ(detail::bits_of(n), detail::bits_of(x)) << v;
    }
  }
}

// A float16's difference of 131008 overflows in float16; in float it is only not near.
TEST(NumericsCompare, SmallTypesComputeInFloat) {
  EXPECT_TRUE(compare::near(float16(65504.0), float16(-65504.0), {.rel_tol = 2.0}));
  EXPECT_TRUE(compare::near(float16(1.0), float16(1.0009765625)) && !compare::near(float16(1.0), float16(1.01)));
  EXPECT_TRUE(compare::near(float8_e4m3fn(1.0), float8_e4m3fn(1.125)));
}

TEST(NumericsCompare, DoubleAsTheFirstVersion) {
  static_assert(compare::near(0.1 + 0.2, 0.3) && !compare::near(1.0, 1.0 + 2e-9) && compare::near(1.0, 1.0 + 5e-10) &&
                compare::near(0.0, 1e-9));
  static_assert(!compare::near(1e308, -1e308) && !compare::near(1e308, -1e308, {.rel_tol = 3.0}) &&
                compare::near(1e308, 1.2e308, {.rel_tol = 1e10}));
  static_assert(compare::near(1e308, 1.2e308, {.rel_tol = 1.6}));  // the product would overflow
  EXPECT_FALSE(compare::near(1000000.0, 1000000.1, {.rel_tol = 0.0, .abs_tol = 0.0001}));
  EXPECT_TRUE(compare::near(1.0, 2.0, {.rel_tol = kInf}) && compare::near(1, 2, {.rel_tol = kInf}));
  EXPECT_TRUE(!compare::near(kInf, 1e308) && compare::near(kInf, kInf) && !compare::near(kInf, -kInf));
  // a negative or NaN tolerance admits nothing; equal numbers stay near
  EXPECT_TRUE(compare::near(1.0, 1.0, {.rel_tol = -1.0, .abs_tol = -1.0}) && compare::near(1.0, 1.0, {.rel_tol = kNan, .abs_tol = kNan}));
  EXPECT_TRUE(!compare::near(1.0, 1.0 + 1e-12, {.rel_tol = -1.0, .abs_tol = -1.0}) &&
              !compare::near(1.0, 1.0 + 1e-12, {.rel_tol = kNan, .abs_tol = kNan}));
  // one relative step apart, but the tolerance is relative to both: the first version's text said otherwise
  EXPECT_FALSE(compare::near_rel(1e-15, 2e-15, {.tol = 1e-3}));
  EXPECT_TRUE(compare::near_rel(1.0, 1.0 + 5e-10) && !compare::near_rel(0.0, 1e-300) && compare::near_rel(0.0, -0.0));
  EXPECT_TRUE(compare::near_abs(1e-10, -1e-10) && !compare::near_abs(1e10, 1e10 + 1e-5) && compare::near_abs(kInf, kInf) &&
              !compare::near_abs(kInf, 1.0, {.tol = kInf}));
  EXPECT_TRUE(compare::near_zero(1e-9) && compare::near_zero(-1e-9) && !compare::near_zero(std::nextafter(1e-9, 1)) &&
              compare::near_zero(5e-324));
  EXPECT_TRUE(compare::is_integer(2.9999999999) && !compare::is_integer(2.9999999) && compare::is_integer(1e300) &&
              !compare::is_integer(0.5));
  EXPECT_TRUE(compare::is_integer(0.5, {.abs_tol = 0.5}) && compare::is_integer(4503599627370495.5, {.abs_tol = 0.5}) &&
              !compare::is_integer(4503599627370495.5));
  EXPECT_TRUE(compare::less_or_near(1.0, 1.0 - 1e-12) && compare::less_or_near(-kInf, 1.0) && !compare::less_or_near(2.0, 1.0) &&
              compare::greater_or_near(1.0, -kInf));
  EXPECT_EQ(compare::compare(1.0, 1.0 + 1e-12), 0);
  EXPECT_EQ(compare::compare(-kInf, kInf), -1);
  EXPECT_TRUE(compare::all_near({}) && compare::all_near({{1, 1 + 1e-12}, {0, 1e-10}}) && !compare::all_near({{1, 1}, {1, 2}}));
  EXPECT_EQ(compare::near_many({{1, 1}, {1, 2}}), (std::vector<bool>{true, false}));
  EXPECT_EQ(compare::near_zero_many({0, 1, kNan}), (std::vector<bool>{true, false, false}));
  EXPECT_EQ(compare::is_integer_many(std::vector<float>{1, 1.5}), (std::vector<bool>{true, false}));
  const std::vector<std::pair<float, double>> mixed = {{0.1f, 0.1}};
  EXPECT_TRUE(compare::all_near(mixed));
}

__extension__ typedef __int128 Wide;
TEST(NumericsCompare, Integers) {
  const std::vector<int64_t> values = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
  for (int64_t a : values)
    for (int64_t b : values) {
      EXPECT_EQ(compare::near(a, b), a == b);
      for (double tol : {0.0, 1.0, 2.0, 9e18, 1.9e19}) {
        const Wide d = Wide(a) - b;
        EXPECT_EQ(compare::near(a, b, {.abs_tol = tol}), (d < 0 ? -d : d) <= static_cast<Wide>(tol)) << a << " " << b << " " << tol;
      }
      EXPECT_EQ(compare::compare(a, b), a < b ? -1 : a > b);
    }
  static_assert(!compare::near(INT64_MIN, INT64_MAX) && compare::near(100, 101, {.rel_tol = 0.01}) &&
                !compare::near(100, 102, {.rel_tol = 0.01}));
  static_assert(!compare::near(-1, 4294967295u) && compare::less_or_near(-1, 0u) && compare::near(uint8_t(255), 255));
  static_assert(!compare::near(UINT64_MAX, -1) && !compare::near(-1, UINT64_MAX));  // their difference does not fit
  static_assert(!compare::near(UINT64_MAX, INT64_MIN, {.abs_tol = 1e18}) && compare::near(UINT64_MAX, INT64_MIN, {.abs_tol = 1e20}));
  static_assert(compare::near(true, true) && !compare::near(true, false, {.abs_tol = 5.0}) && compare::near(true, 1) &&
                compare::near_zero(0) && !compare::near_zero(1));
  static_assert(compare::near(1, 1.0 + 1e-10) && compare::near(float16(1.0), 1) && compare::is_integer(7) &&
                compare::near_zero(-3, {.abs_tol = 3.0}));
}

// Two types: the looser tolerances, compared in the wider type.
TEST(NumericsCompare, MixedTypes) {
  EXPECT_TRUE(compare::near(0.1f, 0.1) && !compare::near(0.1, double(0.1f)));
  EXPECT_TRUE(compare::near(bfloat16(0.1), 0.1) && compare::near(float16(0.1), bfloat16(0.1)) &&
              !compare::near(float16(0.1), 0.1f, {.rel_tol = 1e-6, .abs_tol = 0.0}));
  EXPECT_TRUE(compare::near(float8_e5m2(1.0), 1.2f) && !compare::near(1.0f, 1.2f));
}

TEST(NumericsClamp, ToZeroAndToInt) {
  static_assert(clamp::to_zero(-1e-12) == 0.0 && clamp::to_zero(2e-9) == 2e-9 && clamp::to_int(2.9999999999) == 3 &&
                clamp::to_int(2.5) == 2.5);
  for (double x : {-0.0, -1e-15, -1e-9, 5e-324}) EXPECT_TRUE(is_zero(clamp::to_zero(x)) && !sign_bit(clamp::to_zero(x)));
  EXPECT_FALSE(sign_bit(clamp::to_zero(-0.0, {.abs_tol = 0.0})));
  EXPECT_TRUE(sign_bit(clamp::to_zero(-0.0, {.abs_tol = -1.0})) && clamp::to_zero(-5e-324, {.abs_tol = 0.0}) == -5e-324);
  EXPECT_TRUE(clamp::to_zero(kInf, {.abs_tol = kInf}) == kInf && std::isnan(clamp::to_zero(kNan)) && std::isnan(clamp::to_int(kNan)) &&
              clamp::to_int(-kInf) == -kInf);
  EXPECT_TRUE(!sign_bit(clamp::to_int(-1e-10)) && !sign_bit(clamp::to_int(-0.0)) && !sign_bit(clamp::to_int(-0.4, {.abs_tol = 0.5})));
  EXPECT_TRUE(clamp::to_int(2.5, {.abs_tol = 0.5}) == 2 && clamp::to_int(3.5, {.abs_tol = 0.5}) == 4 && clamp::to_int(1e300) == 1e300 &&
              clamp::to_int(2.9999999) == 2.9999999);
  EXPECT_EQ(clamp::to_zero_many({1e-10, 1}), (std::vector<double>{0, 1}));
  EXPECT_EQ(clamp::to_int_many({2.9999999999, 2.9999999}), (std::vector<double>{3, 2.9999999}));
}
TEST(NumericsClamp, ToValueAndToValues) {
  EXPECT_TRUE(clamp::to_value(0.3, 0.1 + 0.2) == 0.1 + 0.2 && clamp::to_value(1.0, 2.0) == 1.0 && std::isnan(clamp::to_value(kNan, 1.0)) &&
              clamp::to_value(1.0, kNan) == 1.0);
  EXPECT_EQ(clamp::to_values(0.5, {0.5000000001, 0.5}), 0.5000000001);  // the first, not the nearest
  EXPECT_EQ(clamp::to_values(0.499999999, {0.5}), 0.499999999);         // 2e-9 of 0.5 away
  EXPECT_EQ(clamp::to_values(0.7, std::vector<double>{}), 0.7);
  EXPECT_EQ(clamp::to_values(0.7, {kNan, 0.7 + 1e-12}, {.rel_tol = 1e-6}), 0.7 + 1e-12);
}
TEST(NumericsClamp, ToRange) {
  EXPECT_TRUE(clamp::to_range(5, 2, 3) == 3 && clamp::to_range(1, 2, 3) == 2 && clamp::to_range(2.5, 2, 3) == 2.5 &&
              std::isnan(clamp::to_range(kNan, 0, 1)));
  EXPECT_EQ(clamp::to_range(5.0, 10.0, 0.0), 10);
  EXPECT_TRUE(std::isnan(clamp::to_range(5.0, kNan, 1.0)) && clamp::to_range(5.0, 1.0, kNan) == 5);
  EXPECT_TRUE(!sign_bit(clamp::to_range(-0.0, 0.0, 1.0)) && sign_bit(clamp::to_range(0.0, -0.0, 1.0)));
  EXPECT_EQ(clamp::to_range_many({1, 5}, 2, 3), (std::vector<double>{2, 3}));
  EXPECT_EQ(float(clamp::to_range(float16(7.0), 0, 6)), 6.0f);
  static_assert(std::is_same_v<decltype(clamp::to_range(float16(7.0), 0, 6)), float16>);
}
template <class T>
class ClampAll : public ::testing::Test {};
TYPED_TEST_SUITE(ClampAll, AllFloats);
TYPED_TEST(ClampAll, SafeOnTheGrid) {
  using T = TypeParam;
  for (T lo : grid<T>())
    for (T hi : grid<T>())
      for (T x : grid<T>()) {
        const double v = double(x), l = double(lo), h = double(hi);
        if (l > h) {
          if (v == 0) { ASSERT_THROW(clamp::clamp_safe(x, lo, hi), InvalidValueError); }
          continue;
        }
        const T got = clamp::clamp_safe(x, lo, hi);
        if (std::isnan(v) || std::isnan(l) || std::isnan(h)) {
          ASSERT_TRUE(is_nan(got));
        } else {
          ASSERT_EQ(double(got), std::min(std::max(v, l), h));
          if (v >= l && v <= h) { ASSERT_EQ(detail::bits_of(got), detail::bits_of(x)); }
        }
      }
}

}  // namespace
}  // namespace keel::numerics
