// Gradients of safe and soft ops where values are extreme, and the figures that their documentation names.
#include "safe_grid.h"

namespace keel {
namespace {

/// No gradient of f is NaN where all operands are finite; a NaN that comes in at a masked element is dropped.
template <class T, class F>
void expect_no_nan(F f, const char* what) {
  std::vector<T> v;
  for (T x : grid<T>())
    if (num::is_finite(x)) v.push_back(x);
  Tensor a = expand(column(v), {int64_t(v.size()), int64_t(v.size())}).clone(), b = expand(across(column(v)), a.shape()).clone();
  a.requires_grad_(), b.requires_grad_();
  sum(f(a, b)).backward();
  for (const Tensor& x : {a, b})
    if (x.grad().defined()) {
      EXPECT_FALSE(any(isnan(x.grad())).item<bool>()) << what << " in " << name_of(dtype_of<T>);
    }
}
template <class T>
struct SafeGradients : ::testing::Test {};
TYPED_TEST_SUITE(SafeGradients, Floats);
TYPED_TEST(SafeGradients, AreNotNan) {
  using T = TypeParam;
  using C = const Tensor&;
  expect_no_nan<T>([](C a, C b) { return div_safe(a, b, {.otherwise = 0}); }, "div_safe");
  expect_no_nan<T>([](C a, C b) { return div_safe(a, b, {.otherwise = 0, .zero_tol = 1}); }, "div_safe with a tolerance");
  expect_no_nan<T>([](C a, C b) { return div_safe(a, b, {.otherwise = 0, .saturate = true}); }, "div_safe that saturates");
  expect_no_nan<T>([](C a, C b) { return pow_safe(a, b, {.otherwise = 0}); }, "pow_safe");
  expect_no_nan<T>([](C a, C b) { return clamp_safe(a, b, 1); }, "clamp_safe");
  expect_no_nan<T>([](C a, C) { return sanitize(a); }, "sanitize");
  expect_no_nan<T>([](C a, C) { return clamp_to_zero(a); }, "clamp_to_zero");
  expect_no_nan<T>([](C a, C) { return sqrt_safe(a, {.otherwise = 0}); }, "sqrt_safe");
  expect_no_nan<T>([](C a, C) { return rsqrt_safe(a, {.otherwise = 0}); }, "rsqrt_safe");
  expect_no_nan<T>([](C a, C) { return log_safe(a, {.otherwise = 0}); }, "log_safe");
  expect_no_nan<T>([](C a, C) { return soft_clamp(a, 0, 1); }, "soft_clamp");
  expect_no_nan<T>([](C a, C) { return soft_clamp(a, 0, 1, {.leak = 0.5}); }, "soft_clamp with a leak");
  expect_no_nan<T>([](C a, C) { return soft_relu(a); }, "soft_relu");
  expect_no_nan<T>([](C a, C b) { return soft_near(a, b); }, "soft_near");
  expect_no_nan<T>([](C a, C b) { return soft_near(a, b, {.temperature = 0.1, .normalized = true}); }, "soft_near, normalized");
  expect_no_nan<T>([](C a, C b) { return soft_compare(a, b); }, "soft_compare");
}
TEST(SafeOps, NanGradientsOfMaskedElementsAreDropped) {
  const Tensor bad = tensor({NAN, 1.0});
  const auto slope = [&](auto f, const Tensor& at) {
    Tensor x = at.astype(f32).clone();
    x.requires_grad_();
    sum(mul(f(x), bad)).backward();
    return x.grad();
  };
  EXPECT_EQ(slope([](const Tensor& x) { return div_safe(1, x, {.otherwise = 0}); }, tensor({double(0), double(2)}))[0].item(), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return sqrt_safe(x, {.otherwise = 0}); }, tensor({double(-1), double(2)}))[0].item(), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return sanitize(x); }, tensor({double(INFINITY), double(2)}))[0].item(), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return clamp_to_zero(x, {.abs_tol = 1}); }, tensor({double(0.5), double(2)}))[0].item(), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return clamp_safe(x, 0, 1, {.boundary_grad = 0}); }, tensor({double(0), double(0.5)}))[0].item(),
            0);
  EXPECT_EQ(slope([](const Tensor& x) { return softmax_safe(x); }, tensor({double(-INFINITY), double(2)}))[0].item(), 0);
}

TEST(SafeOps, DocumentedFigures) {
  const auto slope = [](auto f, double at, DType t = f32) {
    Tensor x = tensor({at}, {.dtype = t, .requires_grad = true});
    sum(f(x)).backward();
    return x.grad().item();
  };
  Tensor big = tensor({1e25}, {.dtype = f32});
  EXPECT_EQ(slope([&](const Tensor& b) { return div_safe(big, b, {.otherwise = 0}); }, 1e25), double(-1e-25f));
  EXPECT_EQ(slope([](const Tensor& b) { return div_safe(0, b, {.otherwise = 0}); }, 1e-40), 0);
  const auto clamp01 = [](const Tensor& x) { return soft_clamp(x, 0, 1); };
  EXPECT_EQ(clamp01(tensor({1e8}, {.dtype = f32})).item(), 1);
  EXPECT_NEAR(slope(clamp01, 6) / 1.9287e-22, 1, 1e-3);
  EXPECT_NEAR(slope(clamp01, -5) / 1.9287e-22, 1, 1e-3);
  EXPECT_EQ(clamp01(tensor({0.5}, {.dtype = f64})).item(), 0.5);
  EXPECT_EQ(to_string(clamp01(tensor({INFINITY, -INFINITY, NAN}))), "[ 1.  0. nan]");
  EXPECT_EQ(slope(clamp01, INFINITY), 0);
  const Tensor one = ones({1}, {.dtype = f64});
  EXPECT_NEAR(soft_near(one, one, {.rel_tol = 1e-3, .abs_tol = 0, .temperature = 0.1}).item(), 0.5025, 1e-5);
  EXPECT_NEAR(soft_near(one, one).item(), 0.98201379, 1e-8);
  EXPECT_NEAR(soft_near(one, add(one, 1e-9)).item(), 0.5, 1e-6);
  EXPECT_EQ(soft_near(one, one, {.temperature = 0.1, .normalized = true}).item(), 1);
  EXPECT_EQ(sqrt_safe(tensor({0.0})).item(), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return sqrt_safe(x); }, 0), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return norm_safe(x); }, 0), 0);
  EXPECT_NEAR(slope([](const Tensor& x) { return normalize_safe(x); }, 0, f64), 1e12, 1);
  EXPECT_EQ(slope([](const Tensor& x) { return normalize_safe(x, {.grad_cap = 100}); }, 0, f64), 100);
  EXPECT_NEAR(norm_safe(tensor({3e38, 4e37}, {.dtype = f32})).item() / 3.0265492e38, 1, 1e-6);
}
TEST(SafeOps, SoftClampIsMonotoneWithinItsBounds) {
  for (DType t : {f32, f64}) {
    const Tensor x = linspace(-12, 13, 5001).astype(t), y = soft_clamp(x, 0, 1), hard = clamp(x, 0, 1);
    EXPECT_TRUE(all(greater_equal(y, 0)).item<bool>() && all(less_equal(y, 1)).item<bool>());
    const Tensor wide = y.astype(f64);
    for (int64_t i = 1; i < wide.size(); ++i) ASSERT_GE(wide.data<double>()[i], wide.data<double>()[i - 1] - 1e-7);
    EXPECT_LE(max(abs(sub(y, hard))).item(), std::log(2.0) / 10 + 1e-6);
  }
}

TEST(SafeOps, DTypes) {
  EXPECT_EQ(div_safe(arange(4), arange(4), {.otherwise = 0}).dtype(), f32);
  EXPECT_EQ(clamp_safe(arange(4), 1, 2).dtype(), i64);
  EXPECT_TRUE(array_equal(sanitize(arange(4)), arange(4)));
  EXPECT_EQ(div_safe(ones({2}, {.dtype = f16}), 3).dtype(), f16);
  // Tolerances of two dtypes: the looser.
  const Tensor half = tensor({1.0009765625}, {.dtype = f16}), full = ones({1}, {.dtype = f32});
  EXPECT_TRUE(near(half, full).item<bool>());
  EXPECT_FALSE(near(half.astype(f32), full).item<bool>());
  EXPECT_FALSE(near(tensor({INT64_MIN}), tensor({INT64_MAX}), {.rel_tol = 0, .abs_tol = 1}).item<bool>());
  EXPECT_EQ(count_near(arange(5), 3).item<int64_t>(), 1);
  EXPECT_EQ(fraction_near(arange(4), 3).item(), 0.25);
  EXPECT_TRUE(all_near(empty({0}), empty({0})).item<bool>());
  EXPECT_TRUE(std::isnan(fraction_near(empty({0}), empty({0})).item()));
}
TEST(SafeOps, Tolerances) {
  EXPECT_EQ(tolerances(f32).rel, 1e-6);
  EXPECT_EQ(tolerances(f8e4m3fn).rel, 0.125);
  EXPECT_EQ(tolerances(f8e4m3fn, num::Profile::seed).rel, 0.1);
  EXPECT_EQ(tolerances(f32, num::Profile::seed).abs, 1e-9);
  EXPECT_EQ(tolerances(f16, f64).rel, 1e-3);
  EXPECT_EQ(tolerances(i32).rel, 0);
}
TEST(SafeOps, CastsToFp8HaveBothRulesOfOverflow) {
  const Tensor x = tensor({464.0, 465.0, 1e9, -1e9, NAN, INFINITY, 61439.0, 1.0}, {.dtype = f32});
  EXPECT_EQ(to_string(cast(x, f8e4m3fn).astype(f32)), "[ 448.  448.  448. -448.   nan   nan  448.    1.]");
  EXPECT_EQ(to_string(cast(x, {.to = f8e4m3fn, .saturate = false}).astype(f32)), "[448.  nan  nan  nan  nan  nan  nan   1.]");
  EXPECT_EQ(cast(x, f8e5m2).astype(f32)[2].item(), 57344);
  EXPECT_EQ(cast(x, f8e5m2).astype(f32)[6].item(), 57344);
  const Tensor wide = cast(x, {.to = f8e5m2, .saturate = false}).astype(f32);
  EXPECT_EQ(wide[2].item(), HUGE_VAL);
  EXPECT_EQ(wide[3].item(), -HUGE_VAL);
  EXPECT_EQ(wide[6].item(), 57344);
}

}  // namespace
}  // namespace keel
