// Forecasts of casts beside the casts: every 16-bit pattern, random bits of f32 and f64, the borders and their neighbours.
#include "keel/precision.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/json.h"
#include "keel/error.h"
#include "keel/keel.h"
#include "keel/numerics/types.h"

namespace keel {
namespace {

constexpr DType kTargets[] = {f8e4m3fn, f8e5m2, f16, bf16, f32};

struct Counted {
  int64_t overflow = 0, flushed = 0, subnormal = 0, nonzero = 0;
};

double min_normal(DType t) { return t == f16 || t == f8e5m2 ? 0x1p-14 : t == f8e4m3fn ? 0x1p-6 : 0x1p-126; }

/// Executes the cast op on x 2^scale, with both rules of overflow, and counts.
Counted executed(const Tensor& x, DType to, int scale) {
  const Tensor wide = x.to(f64).contiguous() * std::ldexp(1.0, scale), there = cast(wide, to).to(f64).contiguous(),
               strict = cast(wide, {.to = to, .saturate = false}).to(f64).contiguous();
  const double *a = wide.data<double>(), *b = there.data<double>(), *s = strict.data<double>();
  const double largest = to == f8e4m3fn ? 448 : 57344;
  Counted c;
  for (int64_t i = 0; i < wide.size(); ++i) {
    if (!std::isfinite(a[i]) || a[i] == 0) continue;
    ++c.nonzero;
    const bool over = !std::isfinite(s[i]);
    c.overflow += over;
    EXPECT_EQ(over && size_of(to) == 1 ? std::copysign(largest, a[i]) : s[i], b[i]) << a[i] << " in " << name_of(to);
    c.flushed += b[i] == 0;
    c.subnormal += b[i] != 0 && std::fabs(b[i]) < min_normal(to);
  }
  return c;
}

void compare(const Tensor& x, const char* what, std::initializer_list<int> scales = {0, 1, -1, 7, -9, 24, -30}) {
  const PrecisionReport r = analyze_precision(x);
  for (DType to : kTargets)
    for (int k : scales) {
      const CastForecast f = r.target(to, k);
      const Counted c = executed(x, to, k);
      EXPECT_EQ(r.nonzero, c.nonzero) << what;
      EXPECT_EQ(f.overflow_count, c.overflow) << what << " to " << name_of(to) << " x 2^" << k;
      EXPECT_EQ(f.flushed_count, c.flushed) << what << " to " << name_of(to) << " x 2^" << k;
      EXPECT_EQ(f.subnormal_count, c.subnormal) << what << " to " << name_of(to) << " x 2^" << k;
    }
}

template <class Small>
Tensor all_patterns() {
  Tensor x = empty({256, 256}, {.dtype = dtype_of<Small>});
  for (int i = 0; i < 65536; ++i) x.data<Small>()[i] = Small::from_bits(uint16_t(i));
  return x;
}

/// Random bits: all exponents alike, NaN and infinities among them; and ordinary numbers around 2^centre.
Tensor random_bits(DType t, int64_t n, uint64_t seed) {
  std::mt19937_64 draw(seed);
  Tensor x = empty({n}, {.dtype = t});
  for (int64_t i = 0; i < n; ++i) {
    if (t == f64)
      x.data<double>()[i] = i % 3 ? std::bit_cast<double>(draw()) : std::ldexp(double(int64_t(draw()) >> 8), int(draw() % 300) - 250);
    else
      x.data<float>()[i] = std::bit_cast<float>(uint32_t(draw()));
  }
  return x;
}

TEST(Precision, EveryPatternOf16Bits) {
  compare(all_patterns<float16>(), "f16");
  compare(all_patterns<bfloat16>(), "bf16");
}

TEST(Precision, RandomBits) {
  compare(random_bits(f32, 40000, 1), "f32");
  compare(random_bits(f64, 40000, 2), "f64", {0});
  compare(cast(random_bits(f32, 40000, 6), f64), "f64 in the range of f32", {3, -5, 100});
}

TEST(Precision, Borders) {
  std::vector<double> v;
  for (double border :
       {464.0,     61440.0,     65520.0,     0x1.ffp127,      0x1.ffffffp127, 0x1p-10, 0x1p-17, 0x1p-25,  0x1p-134, 0x1p-150, 0x1.ep-7,
        0x1.cp-15, 0x1.ffcp-15, 0x1.fcp-127, 0x1.fffffep-127, 448.0,          57344.0, 65504.0, 0x1p-149, 0x1p-126, 1.0,      0x1p-14})
    for (double x : {border, std::nextafter(border, 0), std::nextafter(border, INFINITY), double(std::nextafter(float(border), 0.0f)),
                     double(std::nextafter(float(border), INFINITY))})
      v.push_back(x), v.push_back(-x);
  Tensor wide = empty({int64_t(v.size())}, {.dtype = f64});
  std::copy(v.begin(), v.end(), wide.data<double>());
  compare(wide, "f64", {0});
  compare(cast(wide, f32), "f32", {0});
  compare(wide * 0x1p-40, "f64 below", {40});
}

TEST(Precision, StridedEmptyAndNumbers) {
  const Tensor x = randn({40, 70});
  const PrecisionReport a = analyze_precision(x.transpose(0, 1)), b = analyze_precision(x.transpose(0, 1).contiguous());
  EXPECT_EQ(a.json(), b.json());
  const PrecisionReport none = analyze_precision(zeros({0, 3}));
  EXPECT_EQ(none.elements, 0);
  EXPECT_EQ(none.target(f16).overflow, 0);
  EXPECT_EQ(none.scale_exponent(f16), 0);
  EXPECT_FALSE(none.text().empty());
  const PrecisionReport one = analyze_precision(full(Shape(), 3.0));
  EXPECT_EQ(one.nonzero, 1);
  EXPECT_EQ(one.amax, 3.0);
  EXPECT_EQ(one.exponent_median, 1);
  EXPECT_THROW(analyze_precision(arange(0, 5)), Error);
  EXPECT_THROW(one.target(i32), Error);
  EXPECT_THROW(one.mx(f16), Error);
}

TEST(Precision, CountsOfOneTensor) {
  Tensor x = tensor({0.0, -0.0, 1e-40, 2.0, -3e38, 1e38, INFINITY, NAN, 6e4, 1e-9});
  const PrecisionReport r = analyze_precision(x);
  EXPECT_EQ(r.elements, 10);
  EXPECT_EQ(r.zeros, 2);
  EXPECT_EQ(r.nans, 1);
  EXPECT_EQ(r.infinities, 1);
  EXPECT_EQ(r.nonzero, 6);
  EXPECT_DOUBLE_EQ(r.subnormal, 1.0 / 6);
  EXPECT_DOUBLE_EQ(r.near_max, 2.0 / 6);
  EXPECT_DOUBLE_EQ(r.nonfinite, 0.2);
  EXPECT_EQ(r.amax, double(3e38f));
  EXPECT_EQ(r.min_nonzero, double(1e-40f));
  EXPECT_EQ(r.exponent_low, -133);
  EXPECT_EQ(r.exponent_high, 127);
  EXPECT_EQ(r.target(f16).overflow_count, 2);
  EXPECT_EQ(r.target(f16).flushed_count, 2);
  EXPECT_EQ(r.recommended(), DType::none);
  const auto j = base::parse_json(r.json());
  ASSERT_TRUE(j);
  EXPECT_EQ(j->root()["elements"].as_int(), 10);
}

TEST(Precision, ManyThreadsAndRowLengths) {
  for (int64_t row : {1, 3, 31, 32, 33, 100, 1000, 1024, 1025, 3000}) {
    const Tensor x = randn({(row > 500 ? 700 : 5000), row}) * 1e-5;
    const int64_t before = num_threads();
    set_num_threads(1);
    const PrecisionReport one = analyze_precision(x);
    set_num_threads(4);
    const PrecisionReport four = analyze_precision(x);
    set_num_threads(before);
    EXPECT_EQ(one.elements, x.size());
    EXPECT_EQ(one.json(), four.json()) << row;
    EXPECT_EQ(one.counts, four.counts) << row;
  }
}

/// One value in an MX block whose scale is 2^scale.
template <class Small>
void see(double x, int scale, double least_normal, Counted& c) {
  if (!std::isfinite(x) || x == 0) return;
  const double y = std::ldexp(x, -scale);
  const float there = float(Small(y, Overflow::nan_or_inf));
  c.overflow += !std::isfinite(there), c.flushed += there == 0;
  c.subnormal += there != 0 && std::fabs(there) < least_normal;
}

template <class Small>
Counted mx_by_hand(const Tensor& x, int top, double least_normal, bool round_up) {
  const Tensor wide = x.to(f64).contiguous();
  const double* v = wide.data<double>();
  const int64_t row = x.shape()[-1], rows = row ? x.size() / row : 0;
  Counted c;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t b = 0; b < row; b += 32) {
      const int64_t n = std::min<int64_t>(32, row - b);
      double amax = 0;
      for (int64_t i = 0; i < n; ++i)
        if (const double m = std::fabs(v[r * row + b + i]); std::isfinite(m)) amax = std::max(amax, m);
      if (amax == 0) continue;
      int scale = std::clamp(std::ilogb(amax) - top, -127, 127);
      const float there = float(Small(std::ldexp(amax, -scale), Overflow::nan_or_inf));
      if (round_up && !std::isfinite(there) && scale < 127) ++scale;
      for (int64_t i = 0; i < n; ++i) see<Small>(v[r * row + b + i], scale, least_normal, c);
    }
  return c;
}

TEST(Precision, MxBlocks) {
  const Tensor inputs[] = {random_bits(f32, 32 * 500, 3).reshape({500, 32}),
                           random_bits(f32, 33 * 301, 4).reshape({301, 33}),
                           randn({37, 100}) * 1e-3,
                           random_bits(f64, 32 * 300, 5).reshape({100, 96}),
                           all_patterns<bfloat16>(),
                           exp(randn({50, 64}) * 12),
                           zeros({4, 40})};
  for (const Tensor& x : inputs)
    for (bool up : {false, true}) {
      const PrecisionReport r = analyze_precision(x, {.round_up = up});
      const Counted a = mx_by_hand<float8_e4m3fn>(x, 8, 0x1p-6, up), b = mx_by_hand<float8_e5m2>(x, 15, 0x1p-14, up);
      EXPECT_EQ(r.mx(f8e4m3fn).overflow_count, a.overflow);
      EXPECT_EQ(r.mx(f8e4m3fn).flushed_count, a.flushed);
      EXPECT_EQ(r.mx(f8e4m3fn).subnormal_count, a.subnormal);
      EXPECT_EQ(r.mx(f8e5m2).overflow_count, b.overflow);
      EXPECT_EQ(r.mx(f8e5m2).flushed_count, b.flushed);
      EXPECT_EQ(r.mx(f8e5m2).subnormal_count, b.subnormal);
      if (up && x.dtype() != f64) { EXPECT_EQ(r.mx(f8e4m3fn).overflow_count, 0); }
    }
}

TEST(Precision, ScaleKeepsTheLargestValueInRange) {
  for (double amax : {1.0, 1.74, 1.75, 1.7501, 1.9999, 3e-5, 7e20})
    for (DType to : kTargets) {
      const PrecisionReport r = analyze_precision(full({3}, amax, {.dtype = f64}));
      const double largest = to == f8e4m3fn ? 448 : to == f8e5m2 ? 57344 : to == f16 ? 65504 : to == bf16 ? 0x1.fep127 : 0x1.fffffep127;
      const int k = r.scale_exponent(to);
      EXPECT_LE(std::ldexp(amax, k), largest);
      EXPECT_GT(std::ldexp(amax, k + 1), largest);
      EXPECT_EQ(r.scaled(to).overflow_count, 0);
    }
}

TEST(Precision, AddingUpIsAnalysingBoth) {
  const Tensor a = randn({64, 32}) * 1e-6, b = randn({10, 32}) * 300, wide = cast(a, f64);
  PrecisionReport sum = analyze_precision(a);
  sum.add(analyze_precision(b));
  const PrecisionReport both = analyze_precision(concat({a, b}, {.axis = 0}));
  EXPECT_EQ(sum.json(), both.json());
  PrecisionReport mixed = analyze_precision(wide);
  mixed.add(analyze_precision(b));
  EXPECT_EQ(mixed.dtype, f64);
  EXPECT_EQ(mixed.target(f16).flushed_count, both.target(f16).flushed_count);
  EXPECT_EQ(mixed.amax, both.amax);
}

TEST(Precision, SafetyAndComparison) {
  EXPECT_TRUE(safe_for_dtype(tensor({1.0, 2.0}), f8e4m3fn).safe);
  const DTypeSafety big = safe_for_dtype(tensor({1.0, 500.0}), f8e4m3fn);
  EXPECT_FALSE(big.safe);
  EXPECT_EQ(big.forecast.overflow_count, 1);
  EXPECT_NE(big.message.find("overflow f8e4m3fn"), std::string::npos) << big.message;
  EXPECT_FALSE(safe_for_dtype(tensor({1.0, NAN}), bf16).safe);
  EXPECT_FALSE(safe_for_dtype(tensor({1e-9, 1.0}), f16).safe);
  EXPECT_THROW(safe_for_dtype(tensor({1.0}), i8), Error);
  const TensorDTypeComparison c = compare_dtypes(tensor({1e-6, 2e-6}));
  EXPECT_EQ(c.best, bf16);
  EXPECT_EQ(c.best_scaled, f8e4m3fn);
  EXPECT_EQ(c.scale_exponent, 27);
  EXPECT_EQ(c.results.size(), 5u);
  EXPECT_NE(c.recommendation.find("use bf16, or f8e4m3fn"), std::string::npos) << c.recommendation;
}

TEST(Precision, TextSaysWhatWasFound) {
  const std::string s = analyze_precision(tensor({1e-41, 1.0, 2.0})).text();
  EXPECT_NE(s.find("subnormal values"), std::string::npos) << s;
  EXPECT_NE(s.find("f8e4m3fn MX blocks"), std::string::npos) << s;
  EXPECT_GT(subnormal_slowdown(), 0.2);
  EXPECT_EQ(subnormal_slowdown(), subnormal_slowdown());
}

}  // namespace
}  // namespace keel
