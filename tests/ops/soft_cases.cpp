#include <cmath>

#include "ops/cases.h"

namespace {
using namespace keel;
using namespace keel::testing_cases;
}  // namespace

KEEL_CASES(safe_math) {
  const Arg some_below = constant(values({3, 4}, {2, 0, -1.5, 0.5, -0.0, 3, 0.25, -4, 0, 1, -2.5, 7}));
  for (const char* name : {"sqrt_safe", "rsqrt_safe"}) {
    c.op(name)
        .sample(OtherwiseParams{.otherwise = 0.5}, {between({3, 4}, 0.5, 3)})
        .sample(OtherwiseParams{.otherwise = -1}, {some_below}, false)
        .sample(OtherwiseParams{.otherwise = 2}, {special({16})}, false)
        .sample(OtherwiseParams{}, {between({}, 1, 2)})
        .sample(OtherwiseParams{}, {normal({0, 3})})
        .sample(OtherwiseParams{.otherwise = 3}, {normal({33, 7})}, false)
        .error(OtherwiseParams{.otherwise = 1e39}, {normal({2})}, ErrorCode::value, "otherwise must be a value of f32");
    c.op((std::string(name) + "_backward").c_str())
        .sample(OtherwiseParams{}, {normal({3, 4}), between({3, 4}, 0.5, 3)})
        .sample(OtherwiseParams{}, {normal({3, 4}), some_below})
        .sample(OtherwiseParams{}, {values({4}, {1, 2, NAN, INFINITY}), values({4}, {0, -0.0, -1, -INFINITY})}, false);
  }
  c.op("log_safe")
      .sample(LogSafeParams{.otherwise = 0.5}, {between({3, 4}, 0.5, 3)})
      .sample(LogSafeParams{.base = 2, .otherwise = -1}, {some_below}, false)
      .sample(LogSafeParams{.base = 2}, {between({5}, 0.5, 3)})
      .sample(LogSafeParams{.base = 10, .otherwise = 2}, {between({7}, 0.5, 3)})
      .sample(LogSafeParams{.base = 0.5, .otherwise = 2}, {between({2, 3}, 0.5, 3)})
      .sample(LogSafeParams{.otherwise = 2}, {special({16})}, false)
      .sample(LogSafeParams{}, {normal({0, 3})})
      .error(LogSafeParams{.base = 1}, {normal({2})}, ErrorCode::value, "base must be positive and not 1, got 1")
      .error(LogSafeParams{.base = -2}, {normal({2})}, ErrorCode::value, "base must be positive")
      .error(LogSafeParams{.otherwise = 1e39}, {normal({2})}, ErrorCode::value, "otherwise must be a value of f32");
  c.op("log_safe_backward")
      .sample(LogSafeParams{}, {normal({3, 4}), between({3, 4}, 0.5, 3)})
      .sample(LogSafeParams{.base = 10}, {normal({3, 4}), some_below})
      .sample(LogSafeParams{}, {values({4}, {1, 2, NAN, INFINITY}), values({4}, {0, -0.0, -1, -INFINITY})}, false);
  c.op("pow_safe")
      .sample(OtherwiseParams{.otherwise = 0.5}, {between({3, 4}, 0.5, 3), normal({3, 4})})
      .sample(OtherwiseParams{.otherwise = 0.5}, {between({2, 1, 3}, 0.5, 3), normal({4, 1})})
      .sample(OtherwiseParams{.otherwise = 0.5}, {between({6}, -2, -1), constant(values({6}, {0, 1, 2, 3, -1, -2}))})
      .sample(OtherwiseParams{.otherwise = -7}, {values({6}, {0, -0.0, -2, 0, -8, 4}), values({6}, {-1, -2, 0.5, 0.5, 1.0 / 3, 0.5})},
              false)
      .sample(OtherwiseParams{.otherwise = 2},
              {values({5, 1}, {0, 1, -1, INFINITY, NAN}), values({7}, {0, 1, -1, INFINITY, -INFINITY, NAN, 2})}, false)
      .sample(OtherwiseParams{.otherwise = 2}, {normal({0}), normal({0})})
      .tolerance(f32, 4e-6, 1e-6)
      .error(OtherwiseParams{.otherwise = 1e39}, {normal({2}), normal({2})}, ErrorCode::value, "otherwise must be a value of f32");
  c.op("pow_safe_backward")
      .sample(OtherwiseParams{}, {normal({3, 4}), between({3, 4}, 0.5, 3), normal({3, 4})})
      .sample(OtherwiseParams{},
              {normal({6}), constant(values({6}, {0, -0.0, -2, 0, -8, -3})), constant(values({6}, {-1, 2, 0.5, 1, 2, 3}))})
      .tolerance(f32, 4e-6, 1e-6)
      .error(OtherwiseParams{}, {normal({2}), normal({2}), normal({3})}, ErrorCode::shape, "do not broadcast");
}

KEEL_CASES(safe_rows) {
  c.op("norm_safe")
      .torch("torch.linalg.vector_norm(x, dim=axis, keepdim=keepdim)")
      .sample(NormSafeParams{}, {normal({3, 4})})
      .sample(NormSafeParams{.axis = {1}}, {normal({3, 4})})
      .sample(NormSafeParams{.axis = {0, -1}, .keepdim = true}, {normal({2, 3, 4})})
      .sample(NormSafeParams{.axis = {0}}, {constant(values({2, 3}, {0, 1, 2, 0, -1, INFINITY}))}, false)
      .sample(NormSafeParams{}, {values({4}, {NAN, 1, 2, 3})}, false)
      .sample(NormSafeParams{.axis = {0, 2}}, {normal({2, 3, 4})})
      .sample(NormSafeParams{.axis = {1}}, {normal({5, 133})}, false)
      .sample(NormSafeParams{.axis = {0}}, {normal({133, 5})}, false)
      .sample(NormSafeParams{.axis = {1}}, {normal({3, 0})})
      .sample(NormSafeParams{}, {normal({})}, false)
      .error(NormSafeParams{.axis = {2}}, {normal({2, 3})}, ErrorCode::index, "axis 2 is out of range");
  c.op("norm_safe")
      .only(set_of(f64))
      .sample(NormSafeParams{}, {values({3}, {1e300, -1e300, 1e300})}, false)
      .sample(NormSafeParams{}, {values({3}, {1e-300, 1e-300, 1e-300})}, false);
  c.op("norm_safe")
      .only(set_of(f32))
      .sample(NormSafeParams{}, {values({3}, {1e38, -1e38, 1e38})}, false)
      .sample(NormSafeParams{}, {values({3}, {1e-30, 1e-30, 1e-30})}, false);
  c.op("norm_safe_backward")
      .sample({normal({3, 4}), normal({3, 4}), between({3, 1}, 0.5, 2)})
      .sample({normal({4}), values({4}, {0, 1, -2, 3}), constant(values({4}, {0, 0, 1, 2}))})
      .sample({values({3}, {NAN, 1, 2}), values({3}, {0, 1, INFINITY}), values({3}, {0, INFINITY, NAN})}, false)
      .error({normal({2}), normal({2}), normal({3})}, ErrorCode::shape, "do not broadcast");
  c.op("normalize_safe_backward")
      .sample(NormalizeSafeParams{}, {normal({3, 4}), normal({3, 4})})
      .sample(NormalizeSafeParams{.axis = 0, .eps = 100}, {normal({3, 4}), normal({3, 4})})
      .sample(NormalizeSafeParams{.axis = 0, .grad_cap = 0.25}, {normal({3, 4}), normal({3, 4})})
      .sample(NormalizeSafeParams{}, {normal({2, 67}), normal({2, 67})}, false)
      .sample(NormalizeSafeParams{.eps = 0.5}, {normal({2, 3}), constant(values({2, 3}, {0, 0, 0, 1, 2, 3}))})
      .sample(NormalizeSafeParams{}, {normal({3, 0}), normal({3, 0})})
      .error(NormalizeSafeParams{}, {normal({2}), normal({3})}, ErrorCode::shape, "g and x must have the same shape");
  c.op("normalize_safe")
      .torch("torch.nn.functional.normalize(x, dim=axis, eps=eps)")
      .sample(NormalizeSafeParams{}, {normal({3, 4})})
      .sample(NormalizeSafeParams{.axis = 0}, {normal({3, 4})})
      .sample(NormalizeSafeParams{.eps = 100}, {normal({2, 5})})
      .sample(NormalizeSafeParams{}, {values({2, 3}, {0, 0, 0, 1, 2, 3})}, false)
      .sample(NormalizeSafeParams{}, {normal({3, 0})})
      .sample(NormalizeSafeParams{.grad_cap = 0.25}, {between({3, 4}, 0.1, 1)}, false)
      .error(NormalizeSafeParams{.eps = 0}, {normal({2})}, ErrorCode::value, "eps must be positive, got 0")
      .error(NormalizeSafeParams{.grad_cap = -1}, {normal({2})}, ErrorCode::value, "grad_cap must be positive, got -1")
      .error(NormalizeSafeParams{.axis = 1}, {normal({2})}, ErrorCode::index, "axis 1 is out of range");
  c.op("softmax_safe")
      .torch("torch._safe_softmax(x, axis)")
      .sample(SoftmaxParams{}, {normal({3, 4})})
      .sample(SoftmaxParams{.axis = 0}, {normal({3, 4})})
      .sample(SoftmaxParams{.axis = 1},
              {values({3, 4}, {-INFINITY, 1, 2, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, 0, 0, 5, 1})}, false)
      .sample(SoftmaxParams{}, {values({2, 3}, {NAN, 1, 2, -INFINITY, NAN, -INFINITY})}, false)
      .sample(SoftmaxParams{}, {normal({3, 0})})
      .sample(SoftmaxParams{}, {normal({0, 3})})
      .sample(SoftmaxParams{}, {normal({})})
      .sample(SoftmaxParams{}, {normal({5, 67})}, false)
      .error(SoftmaxParams{.axis = 2}, {normal({2, 3})}, ErrorCode::index, "axis 2 is out of range");
}

KEEL_CASES(soft) {
  const auto bound = [](double v) { return constant(values({}, {v})); };
  c.op("soft_clamp")
      .sample(SoftClampParams{}, {normal({3, 4}), bound(0), bound(1)})
      .sample(SoftClampParams{.beta = 2}, {normal({3, 4}), between({4}, -2, -1), between({3, 1}, 1, 2)})
      .sample(SoftClampParams{.beta = 2, .leak = 0.1}, {normal({3, 4}), between({4}, -2, -1), between({3, 1}, 1, 2)})
      .sample(SoftClampParams{}, {normal({2, 3}), between({3}, -2, -1), between({2, 1}, 1, 2), between({2, 3}, 0.5, 3)})
      .sample(SoftClampParams{.leak = 0.2}, {normal({2, 3}), between({3}, -2, -1), between({2, 1}, 1, 2), between({3}, 0.5, 3)})
      .sample(SoftClampParams{}, {values({8}, {INFINITY, -INFINITY, NAN, 1e8, -1e8, 0.5, 6, -5}), bound(0), bound(1)}, false)
      .sample(SoftClampParams{.leak = 0.5}, {values({6}, {1e4, -1e4, NAN, 0.5, 6, -5}), bound(0), bound(1)}, false)
      .sample(SoftClampParams{}, {normal({0, 3}), normal({3}), normal({3})})
      .sample(SoftClampParams{.beta = 3}, {normal({}), bound(0), bound(1)})
      .error(SoftClampParams{.beta = 0}, {normal({2}), normal({2}), normal({2})}, ErrorCode::value, "beta must be positive, got 0")
      .error(SoftClampParams{.leak = -1}, {normal({2}), normal({2}), normal({2})}, ErrorCode::value, "leak must be in [0, 1], got -1")
      .error(SoftClampParams{}, {normal({2}), normal({3}), normal({2})}, ErrorCode::shape, "do not broadcast");
  c.op("soft_clamp_backward")
      .sample(SoftClampParams{}, {normal({3, 4}), normal({3, 4}), bound(0), bound(1)})
      .sample(SoftClampParams{.beta = 2, .leak = 0.1}, {normal({3, 4}), normal({4}), between({4}, -2, -1), between({3, 1}, 1, 2)})
      .sample(SoftClampParams{}, {normal({3}), normal({3}), bound(0), bound(1), between({3}, 0.5, 3)})
      .sample(SoftClampParams{}, {values({7}, {1}), values({7}, {INFINITY, -INFINITY, 1e8, -1e8, 0.5, 6, -5}), bound(0), bound(1)}, false);
  c.op("soft_relu")
      .torch("torch.nn.functional.softplus(x, beta, threshold=1e9)")
      .sample(SoftReluParams{}, {normal({3, 4})})
      .sample(SoftReluParams{.beta = 5}, {normal({2, 3})})
      .sample(SoftReluParams{}, {special({16})}, false)
      .sample(SoftReluParams{}, {normal({0})})
      .error(SoftReluParams{.beta = 0}, {normal({2})}, ErrorCode::value, "beta must be positive, got 0");
  const SoftNearParams plain{.rel_tol = 0.1, .abs_tol = 0.01, .temperature = 0.5}, own{.rel_tol = 0.3, .abs_tol = 0.1};
  const SoftNearParams normal_one{.rel_tol = 0.1, .abs_tol = 0.01, .temperature = 0.5, .normalized = true};
  c.op("soft_near")
      .sample(plain, {normal({3, 4}), normal({3, 4})})
      .sample(plain, {normal({2, 3, 1}), normal({4})})
      .sample(own, {between({3, 4}, 1, 2), between({3, 4}, 1, 2)})
      .sample(normal_one, {normal({3, 4}), normal({3, 4})})
      .sample(SoftNearParams{.rel_tol = 0.3, .abs_tol = 0.1, .normalized = true}, {between({5}, 1, 2), between({5}, 1, 2)})
      .sample(SoftNearParams{.rel_tol = 0, .abs_tol = 0.5, .temperature = 0.5, .detach_tol = true}, {normal({5}), normal({5})})
      .sample(plain, {special({16, 1}), values({6}, {INFINITY, -INFINITY, NAN, 0, 1, -2})}, false)
      .sample(own, {values({6, 1}, {INFINITY, -INFINITY, NAN, 0, 1, -2}), values({6}, {INFINITY, -INFINITY, NAN, 0, 1, -2})}, false)
      .sample(SoftNearParams{.rel_tol = 0, .abs_tol = 0}, {values({3}, {0, 1, 2}), values({3}, {0, 1, 2.5})}, false)
      .sample(plain, {normal({0}), normal({0})})
      .error(SoftNearParams{.temperature = 0}, {normal({2}), normal({2})}, ErrorCode::value, "temperature must be positive, got 0")
      .error(SoftNearParams{.rel_tol = -1}, {normal({2}), normal({2})}, ErrorCode::value, "rel_tol must be not negative, got -1")
      .error(SoftNearParams{.abs_tol = -1}, {normal({2}), normal({2})}, ErrorCode::value, "abs_tol must be not negative, got -1");
  c.op("soft_near").only(set_of(f64)).sample(SoftNearParams{}, {normal({5}), normal({5})}, false);
  c.op("soft_near_backward")
      .sample(plain, {normal({3, 4}), normal({3, 4}), normal({3, 4})})
      .sample(normal_one, {normal({3, 4}), normal({3, 1}), normal({4})})
      .sample(own, {normal({5}), between({5}, 1, 2), between({5}, 1, 2)})
      .sample(plain, {constant(values({4}, {1})), constant(values({4}, {1, -2, 0, INFINITY})), constant(values({4}, {1, 2, 0, INFINITY}))},
              false)
      .tolerance(f32, 8e-6, 2e-6);
  c.op("soft_compare")
      .sample(SoftCompareParams{}, {normal({3, 4}), normal({3, 4})})
      .sample(SoftCompareParams{.temperature = 0.5}, {normal({2, 3, 1}), normal({4})})
      .sample(SoftCompareParams{}, {special({16, 1}), values({6}, {INFINITY, -INFINITY, NAN, 0, 1, -2})}, false)
      .sample(SoftCompareParams{}, {normal({0}), normal({0})})
      .error(SoftCompareParams{.temperature = -1}, {normal({2}), normal({2})}, ErrorCode::value, "temperature must be positive, got -1");
  c.op("soft_compare_backward")
      .sample(SoftCompareParams{}, {normal({3, 4}), normal({3, 4}), normal({3, 4})})
      .sample(SoftCompareParams{.temperature = 2}, {normal({2, 4}), normal({2, 1}), normal({4})})
      .sample(SoftCompareParams{}, {values({4}, {1}), values({4}, {INFINITY, 1, 40, INFINITY}), values({4}, {INFINITY, 1, -40, 2})}, false);
}

KEEL_CASES(near) {
  const Arg a = values({8}, {1, 2, -3, 0, 100, 1e4, -0.5, 7}), b = values({8}, {1.0625, 2, 3, -0.0, 101, 2e4, -0.5625, 7});
  const NearParams loose{.rel_tol = 0.05, .abs_tol = 0.01};
  for (const char* name : {"near", "all_near", "any_near", "count_near", "fraction_near"})
    c.op(name)
        .no_gradient("has none")
        .sample(loose, {a, b})
        .sample(loose, {a, a})
        .sample(loose, {special({16, 1}), special({16})})
        .sample(NearParams{.rel_tol = 0, .abs_tol = 0.5, .equal_nan = true}, {special({16, 1}), special({16})})
        .sample(loose, {normal({0, 3}), normal({3})})
        .sample(loose, {integers({4, 5}, -9, 9), integers({5}, -9, 9)})
        .sample(NearParams{}, {integers({4, 5}, -2, 2), integers({5}, -2, 2)})
        .sample(NearParams{}, {bools({8}), bools({8})})
        .error(NearParams{.rel_tol = -1}, {normal({2}), normal({2})}, ErrorCode::value, "rel_tol must be not negative, got -1")
        .error(NearParams{}, {normal({2}), normal({3})}, ErrorCode::shape, "do not broadcast");
  c.op("near")
      .only(set_of(f64))
      .no_gradient("has none")
      .sample(NearParams{}, {values({4}, {0.3, 1, INFINITY, 1e308}), values({4}, {0.30000000000000004, 1.1, 1e308, -1e308})});
  c.op("near_zero")
      .no_gradient("has none")
      .sample(NearZeroParams{.abs_tol = 0.125}, {values({8}, {0.125, -0.125, 0.126, -0.0, 0.25, -1, 0, 0.13})})
      .sample(NearZeroParams{.abs_tol = INFINITY}, {special({16})})
      .sample(NearZeroParams{.abs_tol = 0}, {normal({0})})
      .error(NearZeroParams{.abs_tol = -1}, {normal({2})}, ErrorCode::value, "abs_tol must be not negative, got -1");
  for (const char* name : {"ulp_of", "ulp_next", "ulp_prev"})
    c.op(name)
        .no_gradient("a step has no difference quotient")
        .sample({normal({3, 4})})
        .sample({special({16})})
        .sample({normal({0})})
        .error({integers({2}, 0, 4)}, ErrorCode::dtype, "i64");
  c.op("ulp_diff")
      .no_gradient("gives integers")
      .sample({normal({3, 4}), normal({4})})
      .sample({special({16, 1}), special({16})})
      .sample({normal({0}), normal({})})
      .error({normal({2}), normal({3})}, ErrorCode::shape, "do not broadcast");
  c.op("ulp_within")
      .no_gradient("gives bools")
      .sample(UlpWithinParams{}, {a, b})
      .sample(UlpWithinParams{.max_ulps = 0}, {special({16, 1}), special({16})})
      .error(UlpWithinParams{.max_ulps = -1}, {normal({2}), normal({2})}, ErrorCode::value, "max_ulps must be not negative, got -1");
}
