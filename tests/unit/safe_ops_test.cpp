// Safe and soft ops on special values: values beside the scalar core, gradients that may not be NaN, and the figures that documents
// promise.
#include "safe_grid.h"

namespace keel {
namespace {

template <class T>
struct SafeOps : ::testing::Test {};
TYPED_TEST_SUITE(SafeOps, Floats);
template <class T>
struct AllFloats : ::testing::Test {};
using EveryFloat = ::testing::Types<double, float, float16, bfloat16, float8_e4m3fn, float8_e5m2>;
TYPED_TEST_SUITE(AllFloats, EveryFloat);

TYPED_TEST(SafeOps, DivisionIsThatOfTheScalarCore) {
  using T = TypeParam;
  const auto v = grid<T>();
  const Tensor a = column(v), b = across(a);
  for (double tol : {0.0, 0.5})
    expect_pairs<T>(div_safe(a, b, {.otherwise = 7, .zero_tol = tol}), v, "div_safe",
                    [&](T x, T y) { return *num::safe::div(x, y, {.otherwise = 7.0, .zero_tol = tol}); });
  expect_pairs<T>(clamp_safe(a, b, 1), v, "clamp_safe", [](T x, T lo) {
    return double(lo) > 1 && !num::is_nan(x) ? T(1.0f)
                                             : num::clamp::clamp_safe(x, double(lo) > 1 ? T(1.0f) : lo, T(1.0f));  // lo > hi gives hi
  });
}
/// Bounds that are numbers have a loop of their own.
TYPED_TEST(SafeOps, ABoundGivesTheSameBitsAsANumberAndAsATensor) {
  using T = TypeParam;
  const auto v = grid<T>();
  const Tensor x = column(v);
  for (const T lo : v)
    for (const T hi : v) {
      const auto all = [&](T bound) { return full(x.shape(), double(bound), {.dtype = x.dtype()}); };
      const auto one = [&](T bound) { return full({1, 1}, double(bound), {.dtype = x.dtype()}); };
      const Tensor many = clamp_safe(x, all(lo), all(hi)), single = clamp_safe(x, one(lo), one(hi));
      EXPECT_EQ(std::memcmp(many.raw_data(), single.raw_data(), many.nbytes()), 0) << double(lo) << " to " << double(hi);
    }
}
TYPED_TEST(SafeOps, FunctionsAreThoseOfTheScalarCore) {
  using T = TypeParam;
  const auto v = grid<T>();
  const Tensor x = column(v);
  const auto each = [&](const Tensor& y, auto f, const char* what, int64_t ulps) {
    const T* got = y.data<T>();
    for (size_t i = 0; i < v.size(); ++i) {
      const T want = f(v[i]);
      if (num::is_finite(want))
        ASSERT_TRUE(num::ulp::within(got[i], want, {.max_ulps = ulps}))
            << what << " of " << double(v[i]) << ": " << double(got[i]) << ", want " << double(want);
      else
        ASSERT_TRUE(same(got[i], want)) << what << " of " << double(v[i]);
    }
  };
  each(sqrt_safe(x, {.otherwise = 5}), [](T a) { return *num::safe::sqrt(a, {.otherwise = 5.0}); }, "sqrt_safe", 0);
  each(log_safe(x, {.otherwise = 5}), [](T a) { return *num::safe::log(a, {.otherwise = 5.0}); }, "log_safe", 2);
  each(
      log_safe(x, {.base = 2, .otherwise = 5}), [](T a) { return *num::safe::log(a, {.base = 2.0, .otherwise = 5.0}); },
      "log_safe to base 2", 2);
  each(
      log_safe(x, {.base = 10, .otherwise = 5}), [](T a) { return *num::safe::log(a, {.base = 10.0, .otherwise = 5.0}); },
      "log_safe to base 10", 1);
  const Tensor p = pow_safe(x, across(x), {.otherwise = 5}).contiguous();
  const T* got = p.data<T>();
  for (T a : v)
    for (T b : v) {
      const T want = *num::safe::pow(a, b, {.otherwise = 5.0});
      ASSERT_TRUE(num::is_finite(want) ? num::ulp::within(*got, want, {.max_ulps = 1}) : same(*got, want))
          << double(a) << " ^ " << double(b) << ": " << double(*got) << ", want " << double(want);
      ++got;
    }
}

TYPED_TEST(AllFloats, ComparisonIsThatOfTheScalarCore) {
  using T = TypeParam;
  const auto v = grid<T>();
  const Tensor a = column(v), b = across(a);
  expect_pairs<bool>(near(a, b), v, "near", [](T x, T y) { return num::compare::is_near(x, y); });
  expect_pairs<bool>(near(a, b, {.rel_tol = 0.5, .abs_tol = 0.25, .equal_nan = true}), v, "near",
                     [](T x, T y) { return num::compare::is_near(x, y, {.rel_tol = 0.5, .abs_tol = 0.25, .equal_nan = true}); });
  expect_pairs<bool>(near(a, b, {.rel_tol = 4, .abs_tol = 0}), v, "near",
                     [](T x, T y) { return num::compare::is_near(x, y, {.rel_tol = 4.0, .abs_tol = 0.0}); });
  expect_pairs<bool>(ulp_within(a, b, {.max_ulps = 2}), v, "ulp_within", [](T x, T y) { return num::ulp::within(x, y, {.max_ulps = 2}); });
  expect_pairs<int64_t>(ulp_diff(a, b), v, "ulp_diff", [](T x, T y) {
    if (num::is_nan(x) || num::is_nan(y)) return INT64_MAX;
    const int64_t p = num::ordered(x), q = num::ordered(y);
    const uint64_t n = p < q ? uint64_t(q) - uint64_t(p) : uint64_t(p) - uint64_t(q);
    return n > uint64_t(INT64_MAX) ? INT64_MAX : int64_t(n);
  });
  const Tensor of = ulp_of(a), next = ulp_next(a), prev = ulp_prev(a), zero = near_zero(a), flat = clamp_to_zero(a);
  for (size_t i = 0; i < v.size(); ++i) {
    EXPECT_TRUE(same(of.data<T>()[i], num::is_nan(v[i]) ? v[i] : num::ulp::of(v[i]))) << double(v[i]);
    EXPECT_TRUE(same(next.data<T>()[i], num::ulp::next(v[i]))) << double(v[i]);
    EXPECT_TRUE(same(prev.data<T>()[i], num::ulp::prev(v[i]))) << double(v[i]);
    EXPECT_EQ(zero.data<bool>()[i], num::compare::near_zero(v[i])) << double(v[i]);
    EXPECT_TRUE(same(flat.data<T>()[i], num::clamp::to_zero(v[i]))) << double(v[i]);
  }
}
TYPED_TEST(AllFloats, SanitizeLeavesFiniteValues) {
  using T = TypeParam;
  const auto v = grid<T>();
  const Tensor x = column(v), plain = sanitize(x), own = sanitize(x, {.nan_value = 1, .inf_value = 2}), kept = sanitize(x, {.keep = true});
  for (size_t i = 0; i < v.size(); ++i) {
    const T a = v[i];
    if (num::is_finite(a)) {
      EXPECT_TRUE(same(plain.data<T>()[i], a) && same(own.data<T>()[i], a) && same(kept.data<T>()[i], a)) << double(a);
    } else if (num::is_nan(a)) {
      EXPECT_TRUE(same(plain.data<T>()[i], T(0.0f)) && same(own.data<T>()[i], T(1.0f)) && same(kept.data<T>()[i], T(0.0f)));
    } else {
      const bool below = num::sign_bit(a);
      EXPECT_TRUE(same(plain.data<T>()[i], below ? FloatTraits<T>::lowest() : FloatTraits<T>::max()));
      EXPECT_TRUE(same(own.data<T>()[i], T(below ? -2.0f : 2.0f)) && same(kept.data<T>()[i], a));
    }
  }
}

}  // namespace
}  // namespace keel
