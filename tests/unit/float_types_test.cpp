#include <keel/numerics/types.h>

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace keel {
namespace {

template <class T>
struct Format;
template <>
struct Format<float16> {
  static constexpr int exponent = 5, mantissa = 10;
  static constexpr bool inf = true, eight = false;
};
template <>
struct Format<bfloat16> {
  static constexpr int exponent = 8, mantissa = 7;
  static constexpr bool inf = true, eight = false;
};
template <>
struct Format<float8_e4m3fn> {
  static constexpr int exponent = 4, mantissa = 3;
  static constexpr bool inf = false, eight = true;
};
template <>
struct Format<float8_e5m2> {
  static constexpr int exponent = 5, mantissa = 2;
  static constexpr bool inf = true, eight = true;
};

// The value of a finite code from the definition of the format, in doubles.
template <class T>
double value_of(uint32_t code) {
  const int man = Format<T>::mantissa, bias = (1 << (Format<T>::exponent - 1)) - 1;
  const uint32_t m = code & ((1u << man) - 1), e = (code >> man) & ((1u << Format<T>::exponent) - 1);
  return e == 0 ? std::ldexp(double(m), 1 - bias - man) : std::ldexp(double(m | (1u << man)), int(e) - bias - man);
}
template <class T>
uint32_t largest_code() {
  return Format<T>::inf ? (((1u << Format<T>::exponent) - 1) << Format<T>::mantissa) - 1
                        : (1u << (Format<T>::exponent + Format<T>::mantissa)) - 2;
}

template <class T>
class FloatTypes : public ::testing::Test {};
using All = ::testing::Types<float16, bfloat16, float8_e4m3fn, float8_e5m2>;
TYPED_TEST_SUITE(FloatTypes, All);

TYPED_TEST(FloatTypes, EveryCodeDecodesAndComesBack) {
  using T = TypeParam;
  using Bits = decltype(T::bits);
  const uint32_t sign = 1u << (sizeof(T) * 8 - 1), top = largest_code<T>();
  for (uint32_t c = 0; c < 2 * sign; ++c) {
    const T t = T::from_bits(Bits(c));
    const float f = t;
    const uint32_t u = c & (sign - 1);
    EXPECT_EQ(std::signbit(f), (c & sign) != 0) << c;
    if (u <= top) {
      ASSERT_EQ(double(f), (c & sign) ? -value_of<T>(u) : value_of<T>(u)) << c;
      ASSERT_EQ(T(f).bits, c);
      ASSERT_EQ(T(double(f)).bits, c);
    } else if (Format<T>::inf && u == top + 1) {
      ASSERT_TRUE(std::isinf(f)) << c;
      ASSERT_EQ(T(f).bits, c);
    } else {
      ASSERT_TRUE(std::isnan(f)) << c;
      ASSERT_TRUE(std::isnan(float(T(f)))) << c;
      ASSERT_EQ(T(f).bits & sign, c & sign) << c;
    }
  }
}

// Between each two neighbours: the midpoint goes to the even code, one step of double (and of float, where it has one) beside it to the
// near one.
TYPED_TEST(FloatTypes, RoundsToNearestEven) {
  using T = TypeParam;
  const uint32_t top = largest_code<T>();
  for (uint32_t c = 0; c < top; ++c) {
    const double a = value_of<T>(c), b = value_of<T>(c + 1), mid = a + (b - a) / 2;
    const uint32_t even = c % 2 == 0 ? c : c + 1;
    ASSERT_EQ(T(mid).bits, even) << c;
    ASSERT_EQ(T(std::nextafter(mid, 0.0)).bits, c) << c;
    ASSERT_EQ(T(std::nextafter(mid, b)).bits, c + 1) << c;
    ASSERT_EQ(T(std::nextafter(a, b)).bits, c) << c;
    ASSERT_EQ(T(std::nextafter(b, a)).bits, c + 1) << c;
    ASSERT_EQ(T(-mid).bits, even | (1u << (sizeof(T) * 8 - 1))) << c;
    const float fmid = float(mid);
    if (double(fmid) == mid) {
      ASSERT_EQ(T(fmid).bits, even) << c;
      ASSERT_EQ(T(std::nextafter(fmid, 0.0f)).bits, c) << c;
      ASSERT_EQ(T(std::nextafter(fmid, INFINITY)).bits, c + 1) << c;
    }
  }
}

TYPED_TEST(FloatTypes, Overflow) {
  using T = TypeParam;
  const uint32_t top = largest_code<T>(), sign = 1u << (sizeof(T) * 8 - 1);
  const double max = value_of<T>(top), edge = max + (max - value_of<T>(top - 1)) / 2;  // rounds up on the tie where the largest code is odd
  const uint32_t beyond = Format<T>::inf ? top + 1 : sign - 1, clipped = Format<T>::eight ? top : beyond;
  ASSERT_EQ(T(std::nextafter(edge, 0.0)).bits, top);
  ASSERT_EQ(T(std::nextafter(edge, 0.0), Overflow::nan_or_inf).bits, top);
  ASSERT_EQ(T(edge, Overflow::nan_or_inf).bits, top % 2 ? beyond : top);
  for (double v : {std::nextafter(edge, INFINITY), edge * 2, 1e300}) {
    ASSERT_EQ(T(v).bits, clipped);
    ASSERT_EQ(T(-v).bits, clipped | sign);
    ASSERT_EQ(T(v, Overflow::nan_or_inf).bits, beyond);
    ASSERT_EQ(T(-v, Overflow::nan_or_inf).bits, beyond | sign);
  }
  for (Overflow o : {Overflow::saturate, Overflow::nan_or_inf}) {
    ASSERT_EQ(T(INFINITY, o).bits, beyond);
    ASSERT_EQ(T(-INFINITY, o).bits, beyond | sign);
    ASSERT_TRUE(std::isnan(float(T(NAN, o))));
    ASSERT_TRUE(std::isnan(float(T(double(NAN), o))));
  }
}

TYPED_TEST(FloatTypes, TinyAndDouble) {
  using T = TypeParam;
  const double least = value_of<T>(1);
  ASSERT_EQ(T(least / 2).bits, 0u);
  ASSERT_EQ(T(std::nextafter(least / 2, 1.0)).bits, 1u);
  ASSERT_EQ(T(4.9406564584124654e-324).bits, 0u);
  ASSERT_EQ(T(1.401298464324817e-45f).bits, 0u);
  ASSERT_TRUE(std::signbit(float(T(-1e-300))));
  // A double just above a midpoint that the float nearest to it would hide.
  const double mid = 1.0 + double(FloatTraits<T>::epsilon()) / 2;
  ASSERT_EQ(float(T(mid)), 1.0f);
  ASSERT_EQ(float(T(mid + 0x1p-50)), 1.0f + float(FloatTraits<T>::epsilon()));
}

TYPED_TEST(FloatTypes, Traits) {
  using T = TypeParam;
  using L = FloatTraits<T>;
  static_assert(L::digits == Format<T>::mantissa + 1 && L::has_infinity == Format<T>::inf);
  EXPECT_EQ(double(L::max()), value_of<T>(largest_code<T>()));
  EXPECT_EQ(double(L::lowest()), -value_of<T>(largest_code<T>()));
  EXPECT_EQ(double(L::min_normal()), value_of<T>(1u << Format<T>::mantissa));
  EXPECT_EQ(double(L::min_normal()), std::ldexp(1.0, L::min_exponent));
  EXPECT_EQ(std::ilogb(double(L::max())), L::max_exponent);
  EXPECT_EQ(double(L::min_subnormal()), value_of<T>(1));
  EXPECT_EQ(double(L::epsilon()), std::ldexp(1.0, -Format<T>::mantissa));
  EXPECT_TRUE(std::isnan(float(L::quiet_nan())));
  EXPECT_TRUE(L::has_infinity ? std::isinf(float(L::infinity())) : std::isnan(float(L::infinity())));
}

TEST(FloatTypesUse, ArithmeticThroughFloat) {
  constexpr float16 a(1.5f), b(2.0);
  static_assert(a + b == 3.5f && a < b && a != b && a == a && -a == -1.5f && std::is_same_v<decltype(a * b), float>);
  static_assert(float16(a + b).bits == float16(3.5f).bits && bfloat16(a).bits == bfloat16(1.5f).bits && int(b) == 2);
  static_assert(!std::is_convertible_v<float, float16> && std::is_convertible_v<float16, float> && std::is_convertible_v<bfloat16, double>);
  float16 s(2048.0f);
  s += 1.0f;
  EXPECT_EQ(float(s), 2048.0f);
  s -= 48.0f, s /= 2.0f, s *= 3.0f;
  EXPECT_EQ(float(s), 3000.0f);
  EXPECT_FALSE(FloatTraits<bfloat16>::quiet_nan() == FloatTraits<bfloat16>::quiet_nan());
}

TEST(FloatTypesUse, IntegersRoundOnce) {
  // 2^62 + 2^54 is a tie in 8 digits; one more unit, which no double holds, breaks it upwards.
  const int64_t tie = (int64_t(1) << 62) + (int64_t(1) << 54);
  EXPECT_EQ(double(bfloat16(tie)), 0x1p62);
  EXPECT_EQ(double(bfloat16(tie + 1)), 0x1p62 + 0x1p55);
  EXPECT_EQ(double(bfloat16(-tie - 1)), -(0x1p62 + 0x1p55));
  EXPECT_EQ(double(bfloat16(INT64_MIN)), -0x1p63);
  EXPECT_EQ(double(bfloat16(UINT64_MAX)), 0x1p64);
  EXPECT_EQ(float(float16(2049)), 2048.0f);
  EXPECT_EQ(float(float16(true)), 1.0f);
  EXPECT_TRUE(std::isinf(float(float16(100000))));
  EXPECT_EQ(float(float8_e4m3fn(1000)), 448.0f);
}

TEST(FloatTypesUse, NativeTraits) {
  static_assert(FloatTraits<float>::max() == 3.40282346638528859812e+38f && FloatTraits<double>::epsilon() == 0x1p-52);
  static_assert(FloatTraits<float>::epsilon() == 0x1p-23f && FloatTraits<float>::min_normal() == 0x1p-126f &&
                FloatTraits<double>::lowest() == -0x1.fffffffffffffp1023);
  EXPECT_TRUE(std::isnan(FloatTraits<double>::quiet_nan()) && std::isinf(FloatTraits<float>::infinity()));
}

}  // namespace
}  // namespace keel
