// Conversions between all pairs of dtypes against the scalar types, statistics of blocks, and streaming copies, at every instruction-set
// level.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/loops/loops.h"
#include "backend/cpu/loops/stat_rows.h"
#include "keel/numerics/types.h"

namespace keel::cpu {
namespace {

struct IsaScope {
  Isa before = active_isa();
  ~IsaScope() { set_isa_for_tests(before); }
};
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

template <class From, class To>
void check_pair(const std::vector<From>& x) {
  const auto y = convert<To>(dtype_of<From>, dtype_of<To>, x.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const To want = narrow<To>(widen<From>(x.data(), i));
    if constexpr (!std::is_integral_v<To>)
      if (std::isnan(double(want))) {
        ASSERT_TRUE(std::isnan(double(y[i])));
        continue;
      }
    ASSERT_EQ(std::memcmp(&y[i], &want, sizeof want), 0)
        << name_of(dtype_of<From>) << " to " << name_of(dtype_of<To>) << " of " << double(widen<From>(x.data(), i).d);
  }
  const auto b = convert<uint8_t>(dtype_of<From>, DType::boolean, x.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(b[i], uint8_t(widen<From>(x.data(), i).d != 0));
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

TEST(LoopsStat, BlockAgreesWithAPlainCount) {
  IsaScope restore;
  std::mt19937_64 r(5);
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    for (int round = 0; round < 40; ++round) {
      std::vector<uint32_t> x(size_t(1 + r() % 300));
      for (uint32_t& v : x) {
        const uint64_t pick = r() % (round < 20 ? 3 : 9);
        v = uint32_t(r());
        if (pick < 3)
          v = (v & 0x807fffff) | uint32_t(100 + r() % 60) << 23;  // ordinary numbers
        else if (pick == 3)
          v &= 0x80000000;
        else if (pick == 4)
          v &= 0x807fffff;
        else if (pick == 5)
          v = (v & 0x80000000) | 0x7f800000;
      }
      StatSlot::Part part, want;
      stat_block(f32, x.data(), int64_t(x.size()), part);
      for (uint32_t v : x) {
        const uint64_t u = v & 0x7fffffff;
        want.max_bits = std::max(want.max_bits, u), want.min_bits = std::min(want.min_bits, u - 1), ++want.count;
        want.nan += u > 0x7f800000, want.inf += u == 0x7f800000, want.subnormal += u && u < 0x00800000;
      }
      EXPECT_EQ(part.max_bits, want.max_bits);
      EXPECT_EQ(part.min_bits, want.min_bits);
      EXPECT_EQ(part.count, want.count);
      EXPECT_EQ(part.nan, want.nan);
      EXPECT_EQ(part.inf, want.inf);
      EXPECT_EQ(part.subnormal, want.subnormal);
    }
    // Blocks behind one another into one part: what is known decides how closely the next is looked at.
    for (int round = 0; round < 40; ++round) {
      StatSlot::Part part, want;
      for (int block = 0; block < 30; ++block) {
        const int64_t rows = 1 + int64_t(r() % 5), cols = 1 + int64_t(r() % 1200), step = cols + int64_t(r() % 3);
        std::vector<uint32_t> x(size_t(rows * step), 0x7fc00000);
        const uint64_t odd = r() % 4;  // one other value in most blocks
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < cols; ++j)
            x[size_t(i * step + j)] = (uint32_t(r()) & 0x807fffff) | uint32_t(120 + (round % 4 + 1) * (r() % 8)) << 23;
        uint32_t& other = x[size_t(int64_t(r() % uint64_t(rows)) * step + int64_t(r() % uint64_t(cols)))];
        if (odd == 1) other = uint32_t(r()) & 0x80000000;
        if (odd == 2) other = uint32_t(r());
        if (odd == 3 && round % 2) other &= 0x807fffff;
        stat_rows(f32, x.data(), rows, cols, step, part);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < cols; ++j) {
            const uint64_t u = x[size_t(i * step + j)] & 0x7fffffff;
            want.max_bits = std::max(want.max_bits, u), want.min_bits = std::min(want.min_bits, u - 1), ++want.count;
            want.nan += u > 0x7f800000, want.inf += u == 0x7f800000, want.subnormal += u && u < 0x00800000;
          }
        ASSERT_EQ(part.max_bits, want.max_bits);
        ASSERT_EQ(part.min_bits, want.min_bits);
        ASSERT_EQ(part.count, want.count);
        ASSERT_EQ(part.nan, want.nan);
        ASSERT_EQ(part.inf, want.inf);
        ASSERT_EQ(part.subnormal, want.subnormal);
      }
    }
    StatSlot::Part zero, e4m3;
    const double zeros[5] = {};
    stat_block(f64, zeros, 5, zero);
    EXPECT_EQ(zero.max_bits, 0u);
    EXPECT_EQ(zero.min_bits, ~uint64_t(0));
    EXPECT_EQ(zero.count, 5u);
    const uint8_t codes[] = {0x7f, 0xff, 0x01, 0x38, 0x00};
    stat_block(f8e4m3fn, codes, 5, e4m3);
    EXPECT_EQ(e4m3.nan, 2u);
    EXPECT_EQ(e4m3.inf, 0u);
    EXPECT_EQ(e4m3.subnormal, 1u);
  }
}

TEST(LoopsStream, CopiesAnyAlignmentAndLength) {
  IsaScope restore;
  std::vector<uint8_t> from(1000), to(1000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = uint8_t(i * 7 + 1);
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    for (size_t a : {0, 1, 4, 13, 60})
      for (size_t b : {0, 3, 4, 8})
        for (size_t n : {0, 1, 63, 64, 127, 200, 800}) {
          std::fill(to.begin(), to.end(), uint8_t(0));
          stream_copy(to.data() + a, from.data() + b, n);
          stream_fence();
          for (size_t i = 0; i < n; ++i) ASSERT_EQ(to[a + i], from[b + i]);
          for (size_t i = 0; i < to.size(); ++i) {
            if (i < a || i >= a + n) { ASSERT_EQ(to[i], 0); }
          }
        }
  }
}

}  // namespace
}  // namespace keel::cpu
