// Conversions between all pairs of dtypes against the scalar types, at every instruction-set level.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/loops/loops.h"
#include "keel/numerics/types.h"
#include "unit/isa_scope.h"

namespace keel::cpu {
namespace {

const Isa kLevels[] = {Isa::scalar, Isa::avx2, Isa::avx512};

template <class To>
std::vector<To> convert(DType from, DType to, const void* x, size_t n, bool nan_or_inf = false) {
  std::vector<To> y(n + 1);
  std::memset(static_cast<void*>(&y[n]), 0x5a, sizeof(To));
  convert_loop(from, to, nan_or_inf)(x, y.data(), int64_t(n), nullptr);
  uint8_t guard[sizeof(To)];
  std::memset(guard, 0x5a, sizeof guard);
  EXPECT_EQ(std::memcmp(&y[n], guard, sizeof guard), 0) << "wrote past the end";
  y.resize(n);
  return y;
}

TEST(LoopsConvert, EveryFloat16AndFloat8Pattern) {
  IsaScope restore;
  std::vector<uint16_t> all16(65536);
  for (size_t i = 0; i < all16.size(); ++i) all16[i] = uint16_t(i);
  std::vector<uint8_t> all8(256);
  for (size_t i = 0; i < all8.size(); ++i) all8[i] = uint8_t(i);
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    const auto check = [](float got, float want, size_t i) {
      if (std::isnan(want))
        ASSERT_TRUE(std::isnan(got)) << i;
      else
        ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << i;
    };
    const auto h = convert<float>(f16, f32, all16.data(), all16.size()), b = convert<float>(bf16, f32, all16.data(), all16.size());
    for (size_t i = 0; i < all16.size(); ++i)
      check(h[i], float(float16::from_bits(uint16_t(i))), i), check(b[i], float(bfloat16::from_bits(uint16_t(i))), i);
    const auto p = convert<float>(f8e4m3fn, f32, all8.data(), 256), q = convert<float>(f8e5m2, f32, all8.data(), 256);
    for (size_t i = 0; i < 256; ++i)
      check(p[i], float(float8_e4m3fn::from_bits(uint8_t(i))), i), check(q[i], float(float8_e5m2::from_bits(uint8_t(i))), i);
  }
}

TEST(LoopsConvert, FloatToSmallRoundsOnce) {
  IsaScope restore;
  std::vector<float> x;
  for (uint64_t b = 0; b < uint64_t(1) << 32; b += 8191) x.push_back(std::bit_cast<float>(uint32_t(b)));
  // Neighbours of every midpoint of the 16- and 8-bit formats.
  for (uint32_t i = 0; i < 0x7c00; ++i) {
    const float mid = 0.5f * (float(float16::from_bits(uint16_t(i))) + float(float16::from_bits(uint16_t(i + 1))));
    for (float v : {mid, std::nextafter(mid, 0.f), std::nextafter(mid, INFINITY)}) x.push_back(v), x.push_back(-v);
  }
  for (uint32_t i = 0; i < 0x7f; ++i)
    for (float mid : {0.5f * (float(float8_e4m3fn::from_bits(uint8_t(i))) + float(float8_e4m3fn::from_bits(uint8_t(i + 1)))),
                      0.5f * (float(float8_e5m2::from_bits(uint8_t(i))) + float(float8_e5m2::from_bits(uint8_t(i + 1))))})
      for (float v : {mid, std::nextafter(mid, 0.f), std::nextafter(mid, INFINITY)}) x.push_back(v), x.push_back(-v);
  for (float v : {464.f, 465.f, 448.f, 61440.f, 65520.f, 65519.f, INFINITY, -INFINITY, NAN, 0.f, -0.f}) x.push_back(v);
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    const auto h = convert<uint16_t>(f32, f16, x.data(), x.size()), b = convert<uint16_t>(f32, bf16, x.data(), x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(h[i], float16(x[i]).bits) << x[i];
      ASSERT_EQ(b[i], bfloat16(x[i]).bits) << x[i];
    }
    for (bool beyond : {false, true}) {
      const Overflow o = beyond ? Overflow::nan_or_inf : Overflow::saturate;
      const auto p = convert<uint8_t>(f32, f8e4m3fn, x.data(), x.size(), beyond),
                 q = convert<uint8_t>(f32, f8e5m2, x.data(), x.size(), beyond);
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_EQ(p[i], float8_e4m3fn(x[i], o).bits) << x[i];
        ASSERT_EQ(q[i], float8_e5m2(x[i], o).bits) << x[i] << " " << std::hex << std::bit_cast<uint32_t>(x[i]);
      }
    }
  }
}

/// Reads element i as the closest wide number; kind 0 integer (signed), 1 u64, 2 float.
struct Wide {
  int kind;
  int64_t i;
  double d;
};
template <class T>
Wide widen(const void* p, size_t i) {
  T v;
  std::memcpy(&v, static_cast<const T*>(p) + i, sizeof v);
  if constexpr (std::is_integral_v<T>)
    return {std::is_same_v<T, uint64_t> ? 1 : 0, int64_t(v), double(v)};
  else
    return {2, 0, double(v)};
}
template <class T>
T narrow(Wide w) {
  if constexpr (std::is_integral_v<T>) {
    if (w.kind != 2) return T(w.i);
    return T(w.d >= -0x1p63 && w.d < 0x1p63 ? int64_t(w.d) : INT64_MIN);
  } else {
    return w.kind == 0 ? T(w.i) : w.kind == 1 ? T(uint64_t(w.i)) : T(w.d);
  }
}
template <class... T>
struct Types {};
using Real = Types<uint8_t, uint16_t, uint32_t, uint64_t, int8_t, int16_t, int32_t, int64_t, float8_e4m3fn, float8_e5m2, float16, bfloat16,
                   float, double>;

/// What differs first, as a test failure: `bad` is its place, n for none. One function for all pairs, as assertions are slow to compile.
void expect_none(size_t bad, size_t n, DType from, DType to, double value) {
  ASSERT_EQ(bad, n) << name_of(from) << " to " << name_of(to) << " of " << value;
}
template <class From, class To>
void check_pair(const std::vector<From>& x) {
  const auto y = convert<To>(dtype_of<From>, dtype_of<To>, x.data(), x.size());
  const auto b = convert<uint8_t>(dtype_of<From>, DType::boolean, x.data(), x.size());
  size_t i = 0;
  for (; i < x.size(); ++i) {
    const Wide w = widen<From>(x.data(), i);
    const To want = narrow<To>(w);
    bool same = std::memcmp(&y[i], &want, sizeof want) == 0;
    if constexpr (!std::is_integral_v<To>) same |= std::isnan(double(want)) && std::isnan(double(y[i]));
    if (!same || b[i] != uint8_t(w.d != 0)) break;
  }
  expect_none(i, x.size(), dtype_of<From>, dtype_of<To>, i < x.size() ? widen<From>(x.data(), i).d : 0);
}
template <class From, class... To>
void check_from(Types<To...>) {
  std::mt19937_64 r(11);
  std::vector<From> x;
  for (int i = 0; i < 700; ++i) {
    const uint64_t bits = i % 3 ? r() : r() >> (r() % 60);
    From v;
    std::memcpy(&v, &bits, sizeof v);
    x.push_back(v);
  }
  for (double d : {0.0, -0.0, 1.0, -1.0, 127.5, 128.0, 255.9, -129.0, 3e9, -3e9, 9.3e18, -9.3e18, 1e30, 65504.0, 1e-8})
    if constexpr (!std::is_integral_v<From>) x.push_back(From(d));
  (check_pair<From, To>(x), ...);
}
template <class... From>
void check_all(Types<From...>) {
  (check_from<From>(Real{}), ...);
}
TEST(LoopsConvert, AllPairsOfRealTypes) {
  IsaScope restore;
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    check_all(Real{});
  }
}
TEST(LoopsConvert, BoolAndComplex) {
  const uint8_t b[] = {0, 1, 1};
  EXPECT_EQ(convert<float>(DType::boolean, f32, b, 3), (std::vector<float>{0, 1, 1}));
  EXPECT_EQ(convert<int64_t>(DType::boolean, i64, b, 3), (std::vector<int64_t>{0, 1, 1}));
  const float c[] = {1.5f, 2, 0, 3, 0, 0};
  EXPECT_EQ(convert<float>(complex64, f32, c, 3), (std::vector<float>{1.5f, 0, 0}));
  EXPECT_EQ(convert<uint8_t>(complex64, DType::boolean, c, 3), (std::vector<uint8_t>{1, 1, 0}));
  struct C {
    double re, im;
    bool operator==(const C&) const = default;
  };
  EXPECT_EQ(convert<C>(complex64, complex128, c, 3), (std::vector<C>{{1.5, 2}, {0, 3}, {0, 0}}));
  const int32_t i[] = {-4, 7};
  EXPECT_EQ(convert<C>(i32, complex128, i, 2), (std::vector<C>{{-4, 0}, {7, 0}}));
}

}  // namespace
}  // namespace keel::cpu
