#include <keel/numerics/bits.h>
#include <keel/numerics/tolerances.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>
#include <vector>

#include "numerics_grid.h"

namespace keel::numerics {
namespace {

template <class T>
class SmallBits : public ::testing::Test {};
TYPED_TEST_SUITE(SmallBits, SmallFloats);

// Every code: the questions against <cmath> on its value, the positions against the sorted values.
TYPED_TEST(SmallBits, EveryCode) {
  using T = TypeParam;
  std::vector<std::pair<double, T>> finite;
  for (T x : every_code<T>()) {
    const float f = x;
    EXPECT_EQ(is_nan(x), std::isnan(f));
    EXPECT_EQ(is_inf(x), std::isinf(f));
    EXPECT_EQ(is_finite(x), std::isfinite(f));
    EXPECT_EQ(is_zero(x), f == 0);
    EXPECT_EQ(sign_bit(x), std::signbit(f));
    EXPECT_EQ(is_subnormal(x), f != 0 && std::fabs(double(f)) < double(FloatTraits<T>::min_normal()));
    if (!is_nan(x) && !(f == 0 && sign_bit(x))) finite.emplace_back(f, x);
  }
  std::sort(finite.begin(), finite.end(), [](auto& a, auto& b) { return a.first < b.first; });
  const auto zero = std::find_if(finite.begin(), finite.end(), [](auto& p) { return p.first == 0; }) - finite.begin();
  for (size_t i = 0; i < finite.size(); ++i) {
    ASSERT_EQ(ordered(finite[i].second), int64_t(i) - zero);
    ASSERT_EQ(detail::bits_of(from_ordered<T>(int64_t(i) - zero)), detail::bits_of(finite[i].second));
  }
  EXPECT_EQ(ordered(T(-0.0f)), 0);
  const int64_t beyond = detail::kBeyond<T>;
  for (int64_t far_out : {beyond + 1, INT64_MAX}) EXPECT_EQ(detail::bits_of(from_ordered<T>(far_out)), detail::kBeyond<T>);
  EXPECT_TRUE(sign_bit(from_ordered<T>(INT64_MIN)));
}

// Comparisons of bits are those of IEEE 754.
template <class T>
void compare_all(const std::vector<T>& values) {
  for (T a : values)
    for (T b : values) {
      const double x = detail::compute<double>(a), y = detail::compute<double>(b);
      ASSERT_EQ(detail::same(a, b), x == y);
      ASSERT_EQ(detail::less(a, b), x < y);
      ASSERT_EQ(detail::at_most(a, b), x <= y);
    }
}
TEST(NumericsBits, ComparesAsIeee) {
  compare_all(every_code<float8_e4m3fn>());
  compare_all(every_code<float8_e5m2>());
  compare_all(grid<float16>());
  compare_all(grid<bfloat16>());
  compare_all(grid<float>());
  compare_all(grid<double>());
}

TEST(NumericsBits, WidensAndNarrowsAsTheHardware) {
  for (uint64_t i = 0; i < (uint64_t(1) << 32); i += 4099) {
    const auto f = std::bit_cast<float>(uint32_t(i));
    const double wide = detail::widen(f);
    ASSERT_TRUE(std::isnan(f) ? std::isnan(wide) : wide == f && std::signbit(wide) == std::signbit(f)) << i;
    const auto d = std::bit_cast<double>(i << 32 | (i * 2654435761u & 0xffffffff));
    const float narrow = detail::narrow(d);
    ASSERT_TRUE(std::isnan(d) ? std::isnan(narrow) : narrow == float(d) && std::signbit(narrow) == std::signbit(d)) << d;
  }
}

TEST(NumericsBits, RoundsEvenInEveryRoundingMode) {
  std::vector<double> values = grid<double>();
  for (double x : {0.4999999999999999, 0.5, 1.5, 2.5, 3.5, 4503599627370495.5, 4503599627370496.0, 1e15 + 0.5, 1e300})
    values.insert(values.end(), {x, -x});
  for (int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    for (double x : values) {
      if (!std::isfinite(x)) continue;
      const double want = std::nearbyint(x);
      std::fesetround(mode);
      const double got = detail::round_even(x);
      std::fesetround(FE_TONEAREST);
      ASSERT_EQ(got, want) << x;
      ASSERT_EQ(std::signbit(got), std::signbit(x)) << x;
    }
  }
  for (float x : grid<float>())
    if (std::isfinite(x)) { EXPECT_EQ(detail::round_even(x), std::nearbyint(x)) << x; }
}

TEST(NumericsBits, TypesOfResults) {
  using detail::Compute, detail::Result;
  static_assert(std::is_same_v<Result<float16>, float16> && std::is_same_v<Result<float16, float16>, float16>);
  static_assert(std::is_same_v<Result<float16, bfloat16>, float> && std::is_same_v<Result<float, float8_e5m2>, float>);
  static_assert(std::is_same_v<Result<float16, double>, double> && std::is_same_v<Result<float, double>, double>);
  static_assert(std::is_same_v<Result<int, float16>, float16> && std::is_same_v<Result<int, bool>, double> &&
                std::is_same_v<Result<int>, double>);
  static_assert(std::is_same_v<Compute<float16>, float> && std::is_same_v<Compute<float, float>, float>);
  static_assert(std::is_same_v<Compute<int, float16>, double> && std::is_same_v<Compute<double>, double>);
  static_assert(!Number<long double> && !Number<const char*> && Number<bool> && Number<unsigned long long>);
}

// docs/numerics/tolerances.md has the reasons.
TEST(NumericsTolerances, Table) {
  static_assert(tolerances<double>() == Tolerance{1e-9, 1e-9} && tolerances<float>() == Tolerance{1e-6, 1e-7});
  static_assert(tolerances<float16>() == Tolerance{1e-3, 1e-4} && tolerances<bfloat16>() == Tolerance{1e-2, 1e-3});
  static_assert(tolerances<float8_e4m3fn>() == Tolerance{0.125, 0.0125} && tolerances<float8_e5m2>() == Tolerance{0.25, 0.025});
  static_assert(tolerances<int>() == Tolerance{} && tolerances<bool>() == Tolerance{});
  static_assert(tolerances<float>(Profile::seed) == Tolerance{1e-9, 1e-9} &&
                tolerances<float8_e4m3fn>(Profile::seed) == Tolerance{0.1, 0.01});
  static_assert(tolerances<float, bfloat16>() == Tolerance{1e-2, 1e-3} && tolerances<double, float>() == Tolerance{1e-6, 1e-7});
}
template <class T>
void rule() {
  EXPECT_GE(tolerances<T>().rel, detail::compute<double>(FloatTraits<T>::epsilon()));
  if (sizeof(T) < 8) { EXPECT_DOUBLE_EQ(tolerances<T>().abs, tolerances<T>().rel / 10); }
}
TEST(NumericsTolerances, Rule) {
  rule<double>(), rule<float>(), rule<float16>(), rule<bfloat16>(), rule<float8_e4m3fn>(), rule<float8_e5m2>();
}

}  // namespace
}  // namespace keel::numerics
