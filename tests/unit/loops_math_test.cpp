// The raw elementwise loops: the same bits at every instruction-set level, position and length; special values; accuracy against
// independent published values.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>
#include <tuple>
#include <vector>

#include "backend/cpu/loops/loops.h"
#include "keel/keel.h"
#include "test_data.h"
#include "unit/isa_scope.h"

namespace keel::cpu {
namespace {

std::vector<Isa> levels() {
  std::vector<Isa> all;
  IsaScope restore;
  for (Isa i : {Isa::scalar, Isa::avx2, Isa::avx512})
    if (set_isa_for_tests(i) == i) all.push_back(i);
  if (all.empty()) all.push_back(active_isa());
  return all;
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T>
constexpr DType kType = dtype_of<T>;

template <class T>
bool same(T a, T b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<Bits<T>>(a) == std::bit_cast<Bits<T>>(b);
}

/// Special values first, then numbers of all sizes.
template <class T>
std::vector<T> inputs(size_t n, uint32_t seed) {
  using L = std::numeric_limits<T>;
  std::vector<T> v = {T(0),        T(-0.0),   T(1),      T(-1),           L::infinity(),    -L::infinity(), L::quiet_NaN(), L::max(),
                      L::lowest(), L::min(),  -L::min(), L::denorm_min(), -L::denorm_min(), T(0.5),         T(-0.5),        T(2),
                      T(-2),       T(1.5),    T(2.5),    T(-3.5),         T(88.72284),      T(88.8),        T(-103.9),      T(-104.5),
                      T(709.78),   T(-745.2), T(1e-20),  T(3e5),          T(-3e9),          T(7.0),         T(-8.0),        T(1e30)};
  std::mt19937_64 r(seed);
  while (v.size() < n) {
    const double u = double(r() >> 11) * 0x1p-53 - 0.5;
    switch (r() % 4) {
      case 0: v.push_back(std::bit_cast<T>(Bits<T>(r()))); break;
      case 1: v.push_back(T(u * 8)); break;
      case 2: v.push_back(T(u * 200)); break;
      default: v.push_back(T(std::ldexp(u, -int(r() % 40)))); break;
    }
  }
  v.resize(n);
  return v;
}

constexpr double kArgs[2] = {0.75, 20};

template <class T>
void check_unary_levels() {
  IsaScope restore;
  const std::vector<T> x = inputs<T>(3000, 1);
  for (int o = 0; o < int(UnaryOp::count_); ++o) {
    const UnaryOp op = UnaryOp(o);
    std::vector<T> first;
    for (Isa isa : levels()) {
      set_isa_for_tests(isa);
      const UnaryLoop f = unary_loop(op, kType<T>);
      if (!f) {
        ASSERT_TRUE(op == UnaryOp::bitwise_not) << o;
        continue;
      }
      if (op == UnaryOp::isnan || op == UnaryOp::isinf || op == UnaryOp::isfinite || op == UnaryOp::logical_not) continue;
      std::vector<T> y(x.size());
      f(x.data(), y.data(), int64_t(x.size()), kArgs);
      if (first.empty()) first = y;
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_TRUE(same(first[i], y[i])) << "op " << o << " isa " << isa_name(isa) << " x " << x[i] << ": " << first[i] << " vs " << y[i];
      for (size_t n = 0; n <= 67; ++n)
        for (size_t at : {size_t(0), size_t(1), size_t(3), size_t(32)}) {
          std::vector<T> z(n + 2, T(-77));
          f(x.data() + at, z.data() + 1, int64_t(n), kArgs);
          ASSERT_EQ(z[0], T(-77));
          ASSERT_EQ(z[n + 1], T(-77)) << "op " << o << " wrote past the end, n " << n;
          for (size_t i = 0; i < n; ++i) ASSERT_TRUE(same(z[i + 1], y[at + i])) << "op " << o << " n " << n << " i " << i;
        }
      std::vector<T> in_place = x;
      f(in_place.data(), in_place.data(), int64_t(x.size()), kArgs);
      for (size_t i = 0; i < x.size(); ++i) ASSERT_TRUE(same(in_place[i], y[i]));
    }
  }
}
TEST(LoopsMath, UnaryIsTheSameAtEveryLevelPositionAndLength) {
  check_unary_levels<float>();
  check_unary_levels<double>();
}

template <class T>
void check_binary_levels() {
  IsaScope restore;
  std::vector<T> a, b;
  const std::vector<T> special = inputs<T>(32, 2), more = inputs<T>(4000, 3), other = inputs<T>(4000, 4);
  for (T u : special)
    for (T v : special) a.push_back(u), b.push_back(v);
  a.insert(a.end(), more.begin(), more.end()), b.insert(b.end(), other.rbegin(), other.rend());
  for (int o = 0; o < int(BinaryOp::count_); ++o) {
    const BinaryOp op = BinaryOp(o);
    if (op >= BinaryOp::eq && op <= BinaryOp::bitwise_xor) continue;
    std::vector<T> first;
    for (Isa isa : levels()) {
      set_isa_for_tests(isa);
      const BinaryLoop f = binary_loop(op, kType<T>);
      ASSERT_TRUE(f) << o;
      std::vector<T> y(a.size());
      f(a.data(), b.data(), y.data(), int64_t(a.size()), kArgs);
      if (first.empty()) first = y;
      for (size_t i = 0; i < a.size(); ++i)
        ASSERT_TRUE(same(first[i], y[i])) << "op " << o << " isa " << isa_name(isa) << " of " << a[i] << ", " << b[i] << ": " << first[i]
                                          << " vs " << y[i];
      for (size_t n = 0; n <= 67; ++n) {
        std::vector<T> z(n + 1, T(-77));
        f(a.data() + 5, b.data() + 5, z.data(), int64_t(n), kArgs);
        ASSERT_EQ(z[n], T(-77));
        for (size_t i = 0; i < n; ++i) ASSERT_TRUE(same(z[i], y[5 + i])) << "op " << o << " n " << n;
      }
      const BinaryLoop vs = binary_loop(op, kType<T>, BinaryMode::vs), sv = binary_loop(op, kType<T>, BinaryMode::sv);
      if (!vs) continue;
      for (size_t k : {size_t(0), size_t(4), size_t(6), size_t(1500)}) {
        std::vector<T> spread(a.size(), b[k]), want(a.size()), got(a.size());
        f(a.data(), spread.data(), want.data(), int64_t(a.size()), kArgs), vs(a.data(), &b[k], got.data(), int64_t(a.size()), kArgs);
        for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(same(want[i], got[i])) << "vs op " << o;
        f(spread.data(), a.data(), want.data(), int64_t(a.size()), kArgs), sv(&b[k], a.data(), got.data(), int64_t(a.size()), kArgs);
        for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(same(want[i], got[i])) << "sv op " << o;
        vs(a.data(), &b[k], got.data(), 0, kArgs);
      }
    }
  }
}
TEST(LoopsMath, BinaryIsTheSameAtEveryLevelPositionAndLength) {
  check_binary_levels<float>();
  check_binary_levels<double>();
}

template <class T>
T call(BinaryOp op, T a, T b) {
  T y;
  binary_loop(op, kType<T>)(&a, &b, &y, 1, kArgs);
  return y;
}
TEST(LoopsMath, PowAndAtan2FollowC) {
  const std::vector<float> s = inputs<float>(32, 5), more = inputs<float>(600, 6);
  std::vector<float> all = s;
  all.insert(all.end(), more.begin(), more.end());
  for (float extra : {3.f, -3.f, 5.f, 16777216.f, 16777215.f, 1e10f, -0.3333f}) all.push_back(extra);
  for (float a : all)
    for (float b : all) {
      const double p = std::pow(double(a), double(b)), t = std::atan2(double(a), double(b));
      const float got = call(BinaryOp::pow, a, b), want = float(p);
      if (std::isnan(want))
        ASSERT_TRUE(std::isnan(got)) << a << " ^ " << b;
      else if (want == 0 || std::isinf(want))
        ASSERT_TRUE(got == want ? std::signbit(got) == std::signbit(want) : std::fabs(p) > 3.4e38 || std::fabs(p) < 1e-45)
            << a << " ^ " << b << " gave " << got;
      else
        ASSERT_LE(std::fabs(double(got) - p), 0.51 * (std::nextafter(std::fabs(want), INFINITY) - std::fabs(want)) + 1e-46)
            << a << " ^ " << b;
      const float angle = call(BinaryOp::atan2, a, b), right = float(t);
      if (std::isnan(right))
        ASSERT_TRUE(std::isnan(angle)) << a << ", " << b;
      else
        ASSERT_TRUE(std::fabs(double(angle) - t) <= 0.51 * (std::nextafter(std::fabs(right), INFINITY) - std::fabs(right)) + 1e-46 &&
                    std::signbit(angle) == std::signbit(right))
            << a << ", " << b << " gave " << angle;
    }
}

TEST(LoopsMath, PowOfF64FollowsC) {
  std::vector<double> all = inputs<double>(400, 9);
  for (double extra : {3.0, -3.0, 5.0, 0x1p52, 0x1p52 + 1, 0x1p53 - 1, -0x1p53 + 1, 0x1p53, 1e10, -1.0 / 3, 1 - 0x1p-53, 1 + 0x1p-52, 4e-320})
    all.push_back(extra);
  for (double a : all)
    for (double b : all) {
      const double got = call(BinaryOp::pow, a, b), want = std::pow(a, b);
      if (std::isnan(want) || std::isinf(want) || want == 0)
        ASSERT_TRUE(same(got, want)) << a << " ^ " << b << " gave " << got;
      else  // libm's own error is about half a unit; results below the normal numbers are rounded twice
        ASSERT_LE(std::fabs(got - want), std::nextafter(std::fabs(want), INFINITY) - std::fabs(want)) << a << " ^ " << b;
    }
  std::mt19937_64 r(10);
  const auto uniform = [&](double lo, double hi) { return lo + (hi - lo) * (double(r() >> 11) * 0x1p-53); };
  for (int i = 0; i < 100'000 && sizeof(long double) > sizeof(double); ++i) {  // where there is something to judge it by
    const double a = i % 2 ? uniform(0, 4) : std::exp(uniform(-300, 300)), b = i % 2 ? uniform(-8, 8) : uniform(-700, 700) / std::log(a);
    const long double want = std::pow((long double)(a), (long double)(b));
    const double near = double(want);
    ASSERT_LE(std::fabs(double(call(BinaryOp::pow, a, b) - want)), 0.65 * (std::nextafter(near, INFINITY) - near)) << a << " ^ " << b;
  }
  for (int a = -20; a <= 20; ++a)
    for (int b = 0; b <= 11; ++b) {
      double exact = 1;
      for (int k = 0; k < b; ++k) exact *= a;
      ASSERT_EQ(call(BinaryOp::pow, double(a), double(b)), exact) << a << " ^ " << b;
    }
}

TEST(LoopsMath, RemainderAndFloorDivideFollowPython) {
  // CPython: x // y and x % y.
  const double cases[][4] = {{7, 3, 2, 1},
                             {-7, 3, -3, 2},
                             {7, -3, -3, -2},
                             {-7, -3, 2, -1},
                             {5.5, 2, 2, 1.5},
                             {-5.5, 2, -3, 0.5},
                             {1, 0.1, 9, 0.09999999999999995},
                             {0, 3, 0, 0},
                             {-0.0, 3, -0.0, 0},
                             {0, -3, -0.0, -0.0},
                             {3, INFINITY, 0, 3},
                             {-3, INFINITY, -1, INFINITY},
                             {1e300, 7, std::floor(1e300 / 7), std::fmod(1e300, 7)}};
  for (const auto& c : cases) {
    EXPECT_EQ(call(BinaryOp::floor_divide, c[0], c[1]), c[2]) << c[0] << " // " << c[1];
    EXPECT_EQ(call(BinaryOp::remainder, c[0], c[1]), c[3]) << c[0] << " % " << c[1];
    EXPECT_EQ(std::signbit(call(BinaryOp::remainder, c[0], c[1])), std::signbit(c[3])) << c[0] << " % " << c[1];
  }
  EXPECT_TRUE(std::isnan(call(BinaryOp::remainder, 1.0, 0.0)));
  EXPECT_EQ(call(BinaryOp::floor_divide, 1.0, 0.0), INFINITY);
  int32_t a[] = {7, -7, 7, -7, 5, INT32_MIN, 0, -1}, b[] = {3, 3, -3, -3, 0, -1, 5, 5}, q[8], m[8];
  binary_loop(BinaryOp::floor_divide, DType::i32)(a, b, q, 8, nullptr);
  binary_loop(BinaryOp::remainder, DType::i32)(a, b, m, 8, nullptr);
  const int32_t want_q[] = {2, -3, -3, 2, 0, INT32_MIN, 0, -1}, want_m[] = {1, 2, -2, -1, 0, 0, 0, 4};
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(q[i], want_q[i]) << i;
    EXPECT_EQ(m[i], want_m[i]) << i;
  }
}

TEST(LoopsMath, MaximumMinimumClampPropagateNan) {
  const float nan = NAN;
  for (float v : {1.f, -INFINITY, INFINITY, nan}) {
    EXPECT_TRUE(std::isnan(call(BinaryOp::maximum, nan, v)));
    EXPECT_TRUE(std::isnan(call(BinaryOp::maximum, v, nan)));
    EXPECT_TRUE(std::isnan(call(BinaryOp::minimum, nan, v)));
    EXPECT_TRUE(std::isnan(call(BinaryOp::minimum, v, nan)));
  }
  EXPECT_EQ(call(BinaryOp::maximum, 1.f, 2.f), 2.f);
  EXPECT_EQ(call(BinaryOp::minimum, 1.f, 2.f), 1.f);
  const float x[] = {-5, 5, 0.5f, nan, 0, 0}, lo[] = {-1, -1, -1, -1, nan, -1}, hi[] = {1, 1, 1, 1, 1, nan};
  float y[6];
  ternary_loop(TernaryOp::clamp, DType::f32)(x, lo, hi, y, 6, nullptr);
  EXPECT_EQ(y[0], -1);
  EXPECT_EQ(y[1], 1);
  EXPECT_EQ(y[2], 0.5f);
  for (int i = 3; i < 6; ++i) EXPECT_TRUE(std::isnan(y[i])) << i;
}

TEST(LoopsMath, ComparisonsAndIntegersFollowCpp) {
  IsaScope restore;
  std::vector<double> a, b;
  for (double u : inputs<double>(32, 7))
    for (double v : inputs<double>(32, 8)) a.push_back(u), b.push_back(v);
  std::vector<int16_t> i, j;
  std::mt19937 r(9);
  for (int k = 0; k < 1000; ++k) i.push_back(int16_t(r())), j.push_back(int16_t(r() % 7 - 3));
  for (Isa isa : levels()) {
    set_isa_for_tests(isa);
    std::vector<uint8_t> y(a.size());
    const auto test = [&](BinaryOp op, auto f) {
      binary_loop(op, DType::f64)(a.data(), b.data(), y.data(), int64_t(a.size()), nullptr);
      for (size_t k = 0; k < a.size(); ++k) ASSERT_EQ(y[k], uint8_t(f(a[k], b[k]))) << int(op) << ": " << a[k] << ", " << b[k];
      binary_loop(op, DType::f64, BinaryMode::vs)(a.data(), &b[3], y.data(), int64_t(a.size()), nullptr);
      for (size_t k = 0; k < a.size(); ++k) ASSERT_EQ(y[k], uint8_t(f(a[k], b[3]))) << int(op);
      binary_loop(op, DType::f64, BinaryMode::sv)(&a[3], b.data(), y.data(), int64_t(a.size()), nullptr);
      for (size_t k = 0; k < a.size(); ++k) ASSERT_EQ(y[k], uint8_t(f(a[3], b[k]))) << int(op);
    };
    test(BinaryOp::eq, [](double u, double v) { return u == v; });
    test(BinaryOp::ne, [](double u, double v) { return u != v; });
    test(BinaryOp::lt, [](double u, double v) { return u < v; });
    test(BinaryOp::le, [](double u, double v) { return u <= v; });
    test(BinaryOp::gt, [](double u, double v) { return u > v; });
    test(BinaryOp::ge, [](double u, double v) { return u >= v; });
    test(BinaryOp::logical_and, [](double u, double v) { return u != 0 && v != 0; });
    test(BinaryOp::logical_xor, [](double u, double v) { return (u != 0) != (v != 0); });
    std::vector<int16_t> z(i.size());
    const auto integer = [&](BinaryOp op, auto f) {
      binary_loop(op, DType::i16)(i.data(), j.data(), z.data(), int64_t(i.size()), nullptr);
      for (size_t k = 0; k < i.size(); ++k) ASSERT_EQ(z[k], int16_t(f(i[k], j[k]))) << int(op) << ": " << i[k] << ", " << j[k];
    };
    integer(BinaryOp::add, [](int u, int v) { return u + v; });
    integer(BinaryOp::mul, [](int u, int v) { return u * v; });
    integer(BinaryOp::maximum, [](int u, int v) { return u > v ? u : v; });
    integer(BinaryOp::pow, [](int u, int v) {
      int64_t p = 1;
      if (v < 0) return u == 1 ? 1 : u == -1 ? (v % 2 ? -1 : 1) : 0;
      while (v--) p = int16_t(p * u);
      return int(p);
    });
    std::vector<double> w(a.size());
    where_loop(y.data(), a.data(), 1, b.data(), 1, w.data(), int64_t(a.size()), 8);
    for (size_t k = 0; k < a.size(); ++k) ASSERT_TRUE(same(w[k], y[k] ? a[k] : b[k]));
    where_loop(y.data(), a.data(), 0, b.data(), 1, w.data(), int64_t(a.size()), 8);
    for (size_t k = 0; k < a.size(); ++k) ASSERT_TRUE(same(w[k], y[k] ? a[0] : b[k]));
  }
}

/// Backward loops against central differences of the forward loops in f64.
TEST(LoopsMath, GradLoopsAreTheDerivatives) {
  const std::pair<UnaryOp, BinaryOp> pairs[] = {{UnaryOp::gelu, BinaryOp::gelu_grad},
                                                {UnaryOp::gelu_tanh, BinaryOp::gelu_tanh_grad},
                                                {UnaryOp::silu, BinaryOp::silu_grad},
                                                {UnaryOp::mish, BinaryOp::mish_grad},
                                                {UnaryOp::softplus, BinaryOp::softplus_grad},
                                                {UnaryOp::relu, BinaryOp::relu_grad},
                                                {UnaryOp::leaky_relu, BinaryOp::leaky_relu_grad},
                                                {UnaryOp::elu, BinaryOp::elu_grad},
                                                {UnaryOp::hardswish, BinaryOp::hardswish_grad},
                                                {UnaryOp::selu, BinaryOp::selu_grad},
                                                {UnaryOp::tanh, BinaryOp::tanh_grad},
                                                {UnaryOp::sigmoid, BinaryOp::sigmoid_grad}};
  for (auto [f, df] : pairs) {
    const UnaryLoop forward = unary_loop(f, DType::f64);
    for (double x = -12.03; x < 12; x += 0.0617) {
      const double h = 1e-5, at[3] = {x - h, x, x + h}, g = 1.7;
      double y[3], dx;
      forward(at, y, 3, kArgs);
      const bool by_output = df == BinaryOp::tanh_grad || df == BinaryOp::sigmoid_grad;
      binary_loop(df, DType::f64)(&g, by_output ? &y[1] : &x, &dx, 1, kArgs);
      ASSERT_NEAR(dx, g * (y[2] - y[0]) / (2 * h), 2e-9 * (1 + std::fabs(dx))) << int(f) << " at " << x;
      const float xf = float(by_output ? y[1] : x), gf = float(g);
      float dxf;
      binary_loop(df, DType::f32)(&gf, &xf, &dxf, 1, kArgs);
      ASSERT_NEAR(dxf, dx, 1e-5 * (1 + std::fabs(dx))) << int(f) << " at " << x;
    }
  }
}

struct Row {
  bool f64;
  uint64_t in, out;
  double ulp;
};
template <class T>
double ulps(T got, T want) {
  if (std::isnan(got) || std::isnan(want)) return std::isnan(got) && std::isnan(want) ? 0 : 1e30;
  if (got == want) return 0;
  if (std::isinf(got) || std::isinf(want)) return 1e30;
  const T step = std::nextafter(std::fabs(want), std::numeric_limits<T>::infinity()) - std::fabs(want);
  return double(std::fabs(got - want) / step);
}
/// The rows of NumPy's validation sets: bits in and out, with the error that NumPy allows.
TEST(LoopsMath, NumpyValidationSets) {
  const std::pair<const char*, UnaryOp> sets[] = {{"exp", UnaryOp::exp},     {"expm1", UnaryOp::expm1}, {"log", UnaryOp::log},
                                                  {"log1p", UnaryOp::log1p}, {"log2", UnaryOp::log2},   {"sin", UnaryOp::sin},
                                                  {"cos", UnaryOp::cos},     {"tan", UnaryOp::tan},     {"sinh", UnaryOp::sinh},
                                                  {"cosh", UnaryOp::cosh},   {"tanh", UnaryOp::tanh}};
  for (auto [name, op] : sets) {
    const auto path = (data_dir() + "/" + std::string("numpy-umath/umath-validation-set-") + name + ".csv");
    std::ifstream file(path);
    if (!file) GTEST_SKIP() << "no " << path;
    std::string line;
    int rows = 0;
    double worst[2] = {0, 0};
    while (std::getline(file, line)) {
      if (line.compare(0, 3, "np.") != 0) continue;
      std::replace(line.begin(), line.end(), ',', ' ');
      std::istringstream in(line);
      std::string type, x, y;
      double allowed;
      in >> type >> x >> y >> allowed;
      ++rows;
      const uint64_t xb = std::stoull(x, nullptr, 16), yb = std::stoull(y, nullptr, 16);
      double error;
      if (type == "np.float32") {
        const float v = std::bit_cast<float>(uint32_t(xb));
        float got;
        unary_loop(op, DType::f32)(&v, &got, 1, nullptr);
        error = ulps(got, std::bit_cast<float>(uint32_t(yb)));
      } else {
        const double v = std::bit_cast<double>(xb);
        double got;
        unary_loop(op, DType::f64)(&v, &got, 1, nullptr);
        error = ulps(got, std::bit_cast<double>(yb));
      }
      worst[type == "np.float64"] = std::max(worst[type == "np.float64"], error);
      EXPECT_LE(error, 2) << name << " " << line;  // tighter than the 2 to 4 that NumPy allows
    }
    EXPECT_GT(rows, 100) << name;
    RecordProperty(std::string(name) + "_worst_ulp_f32", std::to_string(worst[0]));
  }
}

/// Every 40,009th f32 against the same formula in f64; tools/ulp_survey.cpp takes all of them.
TEST(LoopsMath, F32IsWithinTwoUlp) {
  const auto sigmoid = [](double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); };
  const std::tuple<const char*, UnaryOp, std::function<double(double)>> functions[] = {
      {"exp", UnaryOp::exp, [](double x) { return std::exp(x); }},
      {"tanh", UnaryOp::tanh, [](double x) { return std::tanh(x); }},
      {"erf", UnaryOp::erf, [](double x) { return std::erf(x); }},
      {"sigmoid", UnaryOp::sigmoid, sigmoid},
      {"silu", UnaryOp::silu, [&](double x) { return x * sigmoid(x); }},
      {"gelu", UnaryOp::gelu, [](double x) { return x * std::erfc(-x * std::sqrt(0.5)) / 2; }},
      {"gelu_tanh", UnaryOp::gelu_tanh, [&](double x) { return x * sigmoid(std::sqrt(8 / M_PI) * (x + 0.044715 * x * x * x)); }},
      {"mish", UnaryOp::mish, [](double x) { return x * std::tanh(x > 60 ? x : std::log1p(std::exp(x))); }}};
  std::vector<float> x, y;
  for (uint64_t bits = 0; bits < uint64_t(1) << 32; bits += 40'009) x.push_back(std::bit_cast<float>(uint32_t(bits)));
  for (float far = -120; far < -4; far += 0.0117f) x.push_back(far);  // where the tails end
  x.push_back(-0.0f);
  y.resize(x.size());
  for (const auto& [name, op, want] : functions) {
    unary_loop(op, DType::f32)(x.data(), y.data(), int64_t(x.size()), nullptr);
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = want(x[i]);
      const float near = std::fabs(float(exact));
      if (!std::isfinite(near)) {
        ASSERT_TRUE(same(y[i], float(exact))) << name << " of " << x[i] << " gave " << y[i];
        continue;
      }
      ASSERT_TRUE(y[i] != 0 || std::signbit(y[i]) == std::signbit(exact)) << name << " of " << x[i];
      ASSERT_LE(std::fabs(y[i] - exact), 2 * (double(std::nextafter(near, INFINITY)) - near)) << name << " of " << x[i] << " gave " << y[i];
    }
  }
}

TEST(LoopsMath, TanhEndsAtOne) {
  for (DType t : {DType::f32, DType::f64})
    for (double x : {20.0, 50.0, 3e4, 1e30, double(INFINITY)})
      for (double sign : {1.0, -1.0}) {
        const Tensor y = tanh(full({37}, sign * x, {.dtype = t}));  // whole vectors and a rest
        EXPECT_TRUE(all(equal(y, sign)).item<bool>()) << sign * x;
      }
  for (float x = 9.02f; x < 9.2f; x = std::nextafter(x, 10.0f)) ASSERT_EQ(tanh(full({1}, x)).item<float>(), 1.0f) << x;
}

/// ARM's directed cases: "func=expf op1=HEX result=HEX.BITS errno=..." for f32, two words for f64; only the results are judged.
TEST(LoopsMath, ArmDirectedCases) {
  const std::tuple<const char*, UnaryOp, bool> files[] = {
      {"erff", UnaryOp::erf, false},     {"erf", UnaryOp::erf, true},     {"expf", UnaryOp::exp, false},
      {"exp", UnaryOp::exp, true},       {"logf", UnaryOp::log, false},   {"log", UnaryOp::log, true},
      {"log1pf", UnaryOp::log1p, false}, {"log1p", UnaryOp::log1p, true}, {"log2f", UnaryOp::log2, false},
      {"expm1f", UnaryOp::expm1, false}, {"expm1", UnaryOp::expm1, true}, {"sinf", UnaryOp::sin, false},
      {"cosf", UnaryOp::cos, false},     {"tanf", UnaryOp::tan, false},   {"sinhf", UnaryOp::sinh, false},
      {"coshf", UnaryOp::cosh, false},   {"tanhf", UnaryOp::tanh, false}, {"tanh", UnaryOp::tanh, true}};
  int total = 0;
  for (auto [name, op, f64] : files) {
    std::ifstream file((data_dir() + "/" + std::string("arm-math-tst/directed/") + name + ".tst"));
    if (!file) GTEST_SKIP() << "no ARM test cases";
    std::string line;
    while (std::getline(file, line)) {
      if (line.compare(0, 5, "func=") != 0) continue;
      std::istringstream in(line);
      std::string word, func;
      std::vector<uint32_t> x, y;
      while (in >> word) {
        const size_t eq = word.find('=');
        const std::string key = word.substr(0, eq);
        if (key == "func") func = word.substr(eq + 1);
        if (key != "op1" && key != "result") continue;
        std::string v = word.substr(eq + 1, word.find('.') == std::string::npos ? std::string::npos : word.find('.') - eq - 1);
        if (v.size() > 16) v.resize(16);
        for (size_t k = 0; k + 8 <= v.size(); k += 8) (key == "op1" ? x : y).push_back(uint32_t(std::stoul(v.substr(k, 8), nullptr, 16)));
      }
      if (func != name || x.size() != (f64 ? 2 : 1) || y.size() != x.size()) continue;
      ++total;
      if (f64) {
        const double v = std::bit_cast<double>(uint64_t(x[0]) << 32 | x[1]), want = std::bit_cast<double>(uint64_t(y[0]) << 32 | y[1]);
        double got;
        unary_loop(op, DType::f64)(&v, &got, 1, nullptr);
        EXPECT_LE(ulps(got, want), 2.5) << line << " gave " << got;
        if (want == 0) { EXPECT_EQ(std::signbit(got), std::signbit(want)) << line; }
      } else {
        const float v = std::bit_cast<float>(x[0]), want = std::bit_cast<float>(y[0]);
        float got;
        unary_loop(op, DType::f32)(&v, &got, 1, nullptr);
        EXPECT_LE(ulps(got, want), 2.5) << line << " gave " << got;
        if (want == 0) { EXPECT_EQ(std::signbit(got), std::signbit(want)) << line; }
      }
    }
  }
  EXPECT_GT(total, 350);
}

}  // namespace
}  // namespace keel::cpu
