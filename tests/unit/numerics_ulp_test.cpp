#include <keel/numerics/ulp.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "numerics_goldens.h"
#include "numerics_grid.h"

namespace keel::numerics {
namespace {

TEST(NumericsUlp, AsPythonsMath) {
  for (const UlpGolden& g : kUlpGoldens) {
    EXPECT_TRUE(same_bits(ulp::next(g.x), g.next)) << g.x;
    EXPECT_TRUE(same_bits(ulp::prev(g.x), g.prev)) << g.x;
    EXPECT_TRUE(same_bits(ulp::of(g.x), g.of)) << g.x << " " << ulp::of(g.x) << " " << g.of;
  }
}

// The counts that were wrong across zero in the scalar core's first version: 2^63, 2^63 - 1, 2^63 + 1, and `within` false.
TEST(NumericsUlp, CountsAcrossZero) {
  static_assert(ulp::diff(-5e-324, 5e-324) == 2 && ulp::diff(-5e-324, 0.0) == 1 && ulp::diff(-0.0, 5e-324) == 1 &&
                ulp::diff(-0.0, 0.0) == 0);
  static_assert(ulp::within(-5e-324, 5e-324) && ulp::within(-0.0, 0.0, {.max_ulps = 0}));
  constexpr double kMax = std::numeric_limits<double>::max();
  static_assert(ulp::diff(-kMax, kMax) == 2 * uint64_t(0x7fefffffffffffff));  // beyond int64_t
  static_assert(ulp::diff(1.0, 2.0) == uint64_t(1) << 52 && ulp::diff(2.0f, 1.0f) == 1u << 23 && ulp::diff(0, 5e-324) == 1);
  static_assert(ulp::diff(1, 2) == uint64_t(1) << 52 && ulp::diff(1.0f, 1.0) == 0);
}

template <class T>
class UlpEvery : public ::testing::Test {
 public:
  static const FormatGolden& golden();
};
template <>
const FormatGolden& UlpEvery<float16>::golden() {
  return kFloat16Golden;
}
template <>
const FormatGolden& UlpEvery<bfloat16>::golden() {
  return kBfloat16Golden;
}
template <>
const FormatGolden& UlpEvery<float8_e4m3fn>::golden() {
  return kFloat8E4m3fnGolden;
}
template <>
const FormatGolden& UlpEvery<float8_e5m2>::golden() {
  return kFloat8E5m2Golden;
}
TYPED_TEST_SUITE(UlpEvery, SmallFloats);

template <class T>
void hash(uint64_t& h, T x) {
  h = (h ^ detail::bits_of(is_nan(x) ? FloatTraits<T>::quiet_nan() : x)) * 0x100000001b3u;
}
// Every code against nextafter of NumPy and ml_dtypes, through one checksum each.
TYPED_TEST(UlpEvery, NextAndOfAsNumpy) {
  uint64_t next = 0xcbf29ce484222325u, of = next;
  for (TypeParam x : every_code<TypeParam>()) hash(next, ulp::next(x)), hash(of, is_nan(x) ? x : ulp::of(x));
  EXPECT_EQ(next, TestFixture::golden().next);
  EXPECT_EQ(of, TestFixture::golden().of);
}
TYPED_TEST(UlpEvery, StepsAndCounts) {
  using T = TypeParam;
  const auto all = every_code<T>();
  for (T x : all) {
    if (!is_finite(x)) continue;
    const T up = ulp::next(x), down = ulp::prev(x);
    const auto negated = [](T v) { return is_nan(v) ? v : T::from_bits(static_cast<detail::Bits<T>>(v.bits ^ detail::kSign<T>)); };
    EXPECT_TRUE(same_bits(ulp::prev(negated(x)), negated(up)));  // prev mirrors next, the sign of zero too
    EXPECT_TRUE(same_bits(ulp::add(x, 1), up) && same_bits(ulp::add(x, -1), down));
    if (is_finite(up)) {
      EXPECT_EQ(ulp::diff(x, up), 1u);
      EXPECT_LT(float(x), float(up));
      EXPECT_EQ(float(ulp::of(x)), float(up) - float(x));
    }
    EXPECT_EQ(ulp::within(x, ulp::add(x, 4)), is_finite(ulp::add(x, 4)));
    if (is_finite(ulp::add(x, 5))) { EXPECT_FALSE(ulp::within(x, ulp::add(x, 5))); }
    EXPECT_EQ(ulp::diff(x, T(0.0f)), uint64_t(detail::code_of(x)));
  }
  // counts add up: walking from the lowest to the largest value visits every finite value once
  T x = FloatTraits<T>::lowest();
  uint64_t steps = 0;
  while (is_finite(ulp::next(x))) x = ulp::next(x), ++steps;
  EXPECT_EQ(float(x), float(FloatTraits<T>::max()));
  EXPECT_EQ(steps, ulp::diff(FloatTraits<T>::lowest(), FloatTraits<T>::max()));
  EXPECT_EQ(steps, 2 * uint64_t(detail::kBeyond<T>) - 2);
}

template <class T>
void against_nextafter() {
  std::mt19937_64 random(3);
  auto values = grid<T>();
  for (int i = 0; i < 200000; ++i) values.push_back(std::bit_cast<T>(static_cast<detail::Bits<T>>(random())));
  const T inf = std::numeric_limits<T>::infinity();
  for (T x : values) {
    ASSERT_TRUE(same_bits(ulp::next(x), std::nextafter(x, inf))) << x;
    ASSERT_TRUE(same_bits(ulp::prev(x), std::nextafter(x, -inf))) << x;
    if (std::isfinite(x)) { ASSERT_TRUE(same_bits(ulp::of(x), std::nextafter(x, inf) - x)) << x; }
    const auto n = static_cast<int>(random() % 20) - 10;
    T loop = x;
    for (int i = 0; i < std::abs(n); ++i) loop = std::nextafter(loop, n > 0 ? inf : -inf);
    if (std::isfinite(x) && std::isfinite(loop)) {
      ASSERT_TRUE(same_bits(ulp::add(x, n), loop)) << x << " " << n;
      ASSERT_EQ(ulp::diff(x, loop), uint64_t(std::abs(n)));
    }
  }
}
TEST(NumericsUlp, AsNextafter) {
  against_nextafter<float>();
  against_nextafter<double>();
}

TEST(NumericsUlp, SpecialValues) {
  const double inf = INFINITY, max = std::numeric_limits<double>::max();
  EXPECT_EQ(ulp::of(max), inf);
  EXPECT_EQ(ulp::of(-inf), inf);
  EXPECT_EQ(ulp::of(-1.0), 0x1p-53);
  EXPECT_EQ(ulp::of(0), 5e-324);
  EXPECT_EQ(ulp::add(max, 3), inf);
  EXPECT_EQ(ulp::add(max, INT64_MAX), inf);
  EXPECT_EQ(ulp::add(-1.0, INT64_MIN), -inf);
  EXPECT_EQ(ulp::add(1.0, INT64_MIN), -4.0);
  EXPECT_EQ(ulp::add(-max, INT64_MAX), 0x1p-1022);
  EXPECT_EQ(ulp::add(inf, -1), inf);  // infinities stay: where the steps began is lost
  EXPECT_EQ(ulp::add(1.0, -3), 1.0 - 3 * 0x1p-53);
  EXPECT_TRUE(std::signbit(ulp::add(-5e-324, 1)) && !std::signbit(ulp::add(5e-324, -1)) && std::signbit(ulp::add(-0.0, 0)));
  EXPECT_TRUE(ulp::within(inf, inf) && !ulp::within(inf, max) && !ulp::within(inf, -inf) && !ulp::within(double(NAN), double(NAN)));
  EXPECT_TRUE(ulp::within(1.0, 1.0, {.max_ulps = -1}) && !ulp::within(1.0, ulp::next(1.0), {.max_ulps = -1}));
  EXPECT_THROW(ulp::of(double(NAN)), InvalidValueError);
  for (double x : {inf, -inf, double(NAN)}) {
    EXPECT_THROW(ulp::diff(x, x), InvalidValueError);
    EXPECT_THROW(ulp::diff(1.0, x), InvalidValueError);
  }
  // float8_e4m3fn has no infinity: NaN stands beyond 448
  const auto top = FloatTraits<float8_e4m3fn>::max();
  EXPECT_TRUE(is_nan(ulp::next(top)) && is_nan(ulp::of(top)) && is_nan(ulp::add(top, 7)));
  EXPECT_EQ(float(ulp::of(FloatTraits<float8_e4m3fn>::lowest())), 32.0f);
}

TEST(NumericsUlp, Many) {
  EXPECT_EQ(ulp::of_many({1.0, -1.0}), (std::vector<double>{0x1p-52, 0x1p-53}));
  EXPECT_EQ(ulp::diff_many({1.0, 2.0}, {1.0, 4.0}), (std::vector<uint64_t>{0, uint64_t(1) << 52}));
  EXPECT_EQ(ulp::within_many(std::vector<float>{1, 1}, std::vector<float>{1, 2}), (std::vector<bool>{true, false}));
  EXPECT_TRUE(ulp::of_many(std::vector<float16>{}).empty());
  try {
    ulp::diff_many({1.0}, {1.0, 2.0});
    FAIL();
  } catch (const NumericsError& e) {
    EXPECT_STREQ(e.what(), "Input sequences must have equal length (got 1 for a_values and 2 for b_values)");
  }
}

}  // namespace
}  // namespace keel::numerics
