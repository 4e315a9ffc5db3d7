#include <cmath>

#include "ops/cases.h"

namespace {
using namespace keel;
using namespace keel::testing_cases;

/// Denominators, some of them zeros of either sign, none near enough to zero for a difference quotient to notice.
Arg with_zeros(Shape s) { return constant(values(s, {2, 0, -1.5, 0.5, -0.0, 3, 0.25, -4, 0, 1, -2.5})); }
}  // namespace

KEEL_CASES(safe_division) {
  c.op("div_safe")
      .torch("torch.where(b == 0, torch.tensor(otherwise), a / torch.where(b == 0, 1, b))")
      .sample(DivSafeParams{.otherwise = 0.5}, {normal({3, 4}), between({3, 4}, 0.5, 2)})
      .sample(DivSafeParams{.otherwise = 0}, {normal({2, 3, 1}), between({3, 4}, -2, -0.5)})
      .sample(DivSafeParams{.otherwise = -1}, {normal({3, 4}), with_zeros({3, 4})})
      .sample(DivSafeParams{.otherwise = -1, .zero_tol = 0.75}, {normal({33, 5}), with_zeros({33, 5})})
      .sample(DivSafeParams{.otherwise = 2, .skip_subnormal = true}, {normal({4}), between({4}, 1, 2)})
      .sample(DivSafeParams{}, {normal({3, 4}), with_zeros({3, 4}), normal({4})})
      .sample(DivSafeParams{}, {normal({3, 4}), with_zeros({4}), normal({3, 1})})
      .sample(DivSafeParams{.otherwise = 1, .saturate = true}, {normal({3, 4}), between({3, 4}, 0.5, 2)})
      .sample(DivSafeParams{.otherwise = 1}, {normal({}), between({5}, 1, 2)})
      .sample(DivSafeParams{.otherwise = 1}, {normal({0, 3}), normal({3})})
      .sample(DivSafeParams{.otherwise = 7}, {special({16, 1}), values({7}, {0, -0.0, 1, -2, INFINITY, -INFINITY, NAN})}, false)
      .sample(DivSafeParams{.otherwise = 7, .saturate = true}, {special({16, 1}), values({5}, {0, 0.5, -2, INFINITY, NAN})}, false)
      .error(DivSafeParams{.zero_tol = -1}, {normal({2}), normal({2})}, ErrorCode::value, "zero_tol must be not negative, got -1")
      .error(DivSafeParams{.zero_tol = NAN}, {normal({2}), normal({2})}, ErrorCode::value, "zero_tol must be not negative")
      .error(DivSafeParams{.otherwise = 1e39}, {normal({2}), normal({2})}, ErrorCode::value, "otherwise must be a value of f32")
      .error(DivSafeParams{}, {integers({2}, 1, 5), integers({2}, 0, 5)}, ErrorCode::value, "otherwise must be given for integers")
      .error(DivSafeParams{}, {normal({2, 3}), normal({2, 4})}, ErrorCode::shape, "do not broadcast");
  c.op("div_safe").only(set_of(f32)).sample(DivSafeParams{.otherwise = 0}, {integers({4, 5}, -9, 9), integers({5}, -1, 2)}, false);
  c.op("div_safe_backward")
      .sample(DivSafeParams{}, {normal({3, 4}), normal({3, 4}), with_zeros({3, 4})})
      .sample(DivSafeParams{.zero_tol = 0.75}, {normal({3, 4}), normal({4}), with_zeros({3, 1})})
      .sample(DivSafeParams{.saturate = true}, {normal({3, 4}), normal({3, 4}), with_zeros({3, 4})})
      .sample(DivSafeParams{}, {normal({0, 2}), normal({2}), normal({2})})
      .sample(DivSafeParams{}, {normal({16, 1}), values({16, 1}, {0, 1, -2, 3}), values({7}, {0, -0.0, 1, -2, INFINITY, -INFINITY, NAN})},
              false)
      .error(DivSafeParams{}, {normal({2}), normal({2}), normal({3})}, ErrorCode::shape, "do not broadcast");
}

KEEL_CASES(sanitize) {
  c.op("sanitize")
      .torch("torch.nan_to_num(x, nan_value, inf_value, neginf_value)")
      .sample(SanitizeParams{}, {normal({3, 4})})
      .sample(SanitizeParams{.nan_value = 2, .inf_value = 9}, {special({32})}, false)
      .sample(SanitizeParams{.inf_value = 9, .neginf_value = 3}, {special({4, 8})}, false)
      .sample(SanitizeParams{.nan_value = -1, .keep = true}, {special({16})}, false)
      .sample(SanitizeParams{}, {normal({})})
      .sample(SanitizeParams{}, {normal({0, 3})})
      .sample(SanitizeParams{.inf_value = 1}, {constant(values({6}, {1, NAN, -INFINITY, 2, INFINITY, 3}))})
      .error(SanitizeParams{.nan_value = 1e39}, {normal({2})}, ErrorCode::value, "nan_value must be a value of f32")
      .error(SanitizeParams{.inf_value = -1e39}, {normal({2})}, ErrorCode::value, "inf_value must be a value of f32");
  c.op("sanitize").only(set_of(f64)).sample(SanitizeParams{}, {special({16})}, false);
  c.op("sanitize")
      .only(set_of(i8, i64, u8))
      .sample(SanitizeParams{}, {integers({4, 5}, 0, 9, DType::none)})
      .sample(SanitizeParams{}, {bools({6})});
  c.op("sanitize_backward")
      .sample({normal({3, 4}), normal({3, 4})})
      .sample({normal({16}), special({16})}, false)
      .sample({special({16}), special({16})}, false)
      .sample({normal({0}), normal({0})});
}

KEEL_CASES(safe_clamps) {
  const auto spread = [](Shape s) { return between(s, 0.3, 2); };
  c.op("clamp_to_zero")
      .sample(ClampToZeroParams{.abs_tol = 0.125}, {spread({3, 4})})
      .sample(ClampToZeroParams{.abs_tol = 0.125}, {values({8}, {0.125, -0.125, 0.1, -0.0, 0.25, -1, 0, 0.13})}, false)
      .sample(ClampToZeroParams{.abs_tol = 0.125, .grad = ZoneGrad::ste}, {spread({3, 4})})
      .sample(ClampToZeroParams{.abs_tol = 0}, {special({16})}, false)
      .sample(ClampToZeroParams{.abs_tol = INFINITY}, {special({16})}, false)
      .sample(ClampToZeroParams{.abs_tol = 0.5}, {normal({})}, false)
      .sample(ClampToZeroParams{}, {normal({0, 2})})
      .error(ClampToZeroParams{.abs_tol = -1}, {normal({2})}, ErrorCode::value, "abs_tol must be not negative, got -1");
  c.op("clamp_to_zero").only(set_of(f64)).sample(ClampToZeroParams{}, {special({16})}, false).sample(ClampToZeroParams{}, {normal({5})});
  c.op("clamp_to_zero_backward")
      .sample(ClampToZeroParams{.abs_tol = 0.125}, {normal({3, 4}), spread({3, 4})})
      .sample(ClampToZeroParams{.abs_tol = 0.5}, {special({16}), special({16})}, false);

  c.op("clamp_safe")
      .torch("torch.clamp(x, lo, hi)")
      .sample(ClampSafeParams{}, {normal({3, 4}), constant(values({}, {-0.5})), constant(values({}, {0.7}))})
      .sample(ClampSafeParams{}, {normal({3, 4}), between({3, 1}, -2, -1), between({4}, 1, 2)})
      .sample(ClampSafeParams{.boundary_grad = 0.5}, {normal({2, 5}), between({5}, -2, -1), between({2, 1}, -0.9, 2)})
      .sample(ClampSafeParams{.boundary_grad = 0}, {values({6}, {-1, 0, 1, 2, 3, 0.5}), values({}, {0}), values({}, {1})}, false)
      .sample(ClampSafeParams{}, {special({16, 1}), values({4}, {-1, NAN, 0, -INFINITY}), values({4}, {1, 1, NAN, INFINITY})}, false)
      .sample(ClampSafeParams{}, {normal({5}), values({}, {1}), values({}, {-1})}, false)
      .sample(ClampSafeParams{}, {normal({0, 3}), normal({3}), normal({3})})
      .error(ClampSafeParams{.boundary_grad = 0.3}, {normal({2}), normal({2}), normal({2})}, ErrorCode::value,
             "boundary_grad must be 0, 0.5 or 1")
      .error(ClampSafeParams{}, {normal({2}), normal({3}), normal({2})}, ErrorCode::shape, "do not broadcast");
  c.op("clamp_safe")
      .only(set_of(i8, i64, u8))
      .sample(ClampSafeParams{},
              {integers({4, 5}, 0, 20, DType::none), integers({5}, 3, 5, DType::none), integers({5}, 7, 9, DType::none)});
  const Arg x = constant(values({6}, {-1, 0, 1, 2, 3, 0.5})), lo = constant(values({}, {0})), hi = constant(values({}, {1}));
  c.op("clamp_safe_backward")
      .sample(ClampSafeParams{}, {normal({3, 4}), constant(normal({3, 4})), constant(values({4}, {-0.5})), constant(values({}, {0.5}))})
      .sample(ClampSafeParams{}, {normal({6}), x, lo, hi})
      .sample(ClampSafeParams{.boundary_grad = 0.5}, {normal({6}), x, lo, hi})
      .sample(ClampSafeParams{.boundary_grad = 0}, {normal({6}), x, lo, hi})
      .sample(ClampSafeParams{.boundary_grad = 0}, {special({16}), special({16}), values({}, {-1}), values({}, {1})}, false);
}
