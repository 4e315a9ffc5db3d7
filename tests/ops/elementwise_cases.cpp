#include <cmath>

#include "ops/cases.h"

namespace {
using namespace keel;
using namespace keel::testing_cases;
constexpr DTypeSet kIntegers = set_of(i8, i32, i64, u8, u64);

/// Shapes every function of one tensor is run on, with arguments from `make`.
template <class P = NoParams, class F>
OpCase& shapes(OpCase& o, F make, const P& p = {}) {
  return o.sample(p, {make(Shape({3, 4}))})
      .sample(p, {make(Shape({}))})
      .sample(p, {make(Shape({0, 3}))})
      .sample(p, {make(Shape({2, 1, 5}))})
      .sample(p, {make(Shape({33, 67}))}, false);
}
}  // namespace

KEEL_CASES(unary) {
  const auto any = [](Shape s) { return normal(s); };
  const auto positive = [](Shape s) { return between(s, 0.2, 4); };
  const auto narrow = [](Shape s) { return between(s, -1.3, 1.3); };
  const auto off_grid = [](Shape s) { return between(s, 0.1, 0.9); };
  for (const char* name : {"abs", "sign", "exp", "expm1", "sin", "cos", "sinh", "cosh", "tanh", "erf", "square"})
    shapes(c.op(name), any)
        .torch("torch." + std::string(name) + "(x)")
        .sample({special({16})}, false)
        .error({absent()}, ErrorCode::value, "empty tensor");
  for (const char* name : {"log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal"})
    shapes(c.op(name), positive)
        .torch("torch." + std::string(name) + "(x)")
        .sample({special({16})}, false)
        .error({absent()}, ErrorCode::value, "empty tensor");
  shapes(c.op("tan"), narrow).torch("torch.tan(x)").sample({special({16})}, false);
  for (const char* name : {"floor", "ceil", "round", "trunc"})
    shapes(c.op(name), off_grid)
        .torch("torch." + std::string(name) + "(x)")
        .sample({special({16})}, false)
        .sample({values({8}, {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3, -4})}, false);
  for (const char* name : {"abs", "sign", "square", "floor", "ceil", "round", "trunc"})
    c.op(name).only(kIntegers).sample({integers({4, 5}, -9, 9, DType::none)});
  for (const char* name : {"exp", "sqrt", "sin", "tanh", "sigmoid", "reciprocal"})
    c.op(name).only(set_of(f32)).sample({integers({4, 5}, 1, 9)}).sample({integers({7}, 1, 9, u8)}).sample({bools({7})});
  for (const char* name : {"isnan", "isinf", "isfinite", "logical_not"})
    c.op(name)
        .torch("torch." + std::string(name) + "(x)")
        .sample({special({16})}, false)
        .sample({normal({2, 3})}, false)
        .sample({integers({4}, -2, 2)}, false)
        .sample({bools({3})}, false)
        .no_gradient("gives bools");
  c.op("bitwise_not")
      .torch("torch.bitwise_not(x)")
      .only(kIntegers)
      .sample({integers({4, 5}, -9, 9, DType::none)})
      .sample({bools({6})})
      .error({normal({2})}, ErrorCode::dtype, "f32");
}

KEEL_CASES(binary) {
  for (const char* name : {"maximum", "minimum"}) {
    c.op(name)
        .torch("torch." + std::string(name) + "(a, b)")
        .sample({normal({3, 4}), normal({3, 4})})
        .sample({normal({2, 3, 1}), normal({3, 4})})
        .sample({normal({}), normal({5})})
        .sample({normal({0, 3}), normal({3})})
        .sample({special({16, 1}), special({16})}, false)
        .error({normal({2, 3}), normal({2, 4})}, ErrorCode::shape, "axis -1 (3 vs 4)");
    c.op(name).only(kIntegers).sample({integers({4, 5}, -9, 9, DType::none), integers({5}, -9, 9, DType::none)});
  }
  c.op("pow")
      .torch("torch.pow(a, b)")
      .sample({between({3, 4}, 0.2, 3), normal({3, 4})})
      .sample({between({2, 3, 1}, 0.2, 3), normal({3, 4})})
      .sample({between({}, 0.5, 2), normal({5})})
      .sample({normal({6}), constant(values({6}, {0, 1, 2, 3, -1, -2}))})
      .sample({special({16, 1}), special({16})}, false)
      .sample({normal({0}), normal({0})})
      .tolerance(f64, 1e-12, 1e-12)
      .tolerance(f32, 4e-6, 1e-6)
      .error({normal({2, 3}), normal({2, 4})}, ErrorCode::shape, "do not broadcast");
  c.op("pow").only(kIntegers).sample({integers({4, 5}, 0, 5, DType::none), integers({5}, 0, 4, DType::none)});
  c.op("pow").only(set_of(i32, i64)).sample({integers({4, 5}, -3, 3, DType::none), integers({5}, -3, 4, DType::none)});
  for (const char* name : {"floor_divide", "remainder"}) {
    c.op(name)
        .torch("torch." + std::string(name) + "(a, b)")
        .sample({between({3, 4}, 0.2, 0.8), between({3, 4}, 0.9, 3)})
        .sample({between({4, 1}, -9.7, 9.7), between({5}, 0.7, 3)}, false)
        .sample({between({4, 1}, -9.7, 9.7), between({5}, -3, -0.7)}, false)
        .sample({values({4}, {5, -5, 5, -5}), values({4}, {2, 2, -2, -2})}, false)
        .sample({values({8}, {5, -5, 0, 3, -3, INFINITY, NAN, -0.0}), values({8}, {INFINITY, INFINITY, 0, 0, 0, 2, 1, 3})}, false)
        .tolerance(f16, 2e-3, 2e-3)
        .tolerance(bf16, 1.6e-2, 1e-2)
        .error({normal({2, 3}), normal({2, 4})}, ErrorCode::shape, "do not broadcast");
    c.op(name).only(kIntegers).sample({integers({4, 5}, -9, 9, DType::none), values({5}, {1, 2, 3, 0, 5}, DType::none)});
    c.op(name).only(set_of(i8, i64)).sample({integers({4, 5}, -9, 9, DType::none), values({5}, {-1, -2, 3, 0, -5}, DType::none)});
  }
}

KEEL_CASES(compare) {
  for (const char* name :
       {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_xor"}) {
    c.op(name)
        .sample({normal({3, 4}), normal({3, 4})}, false)
        .sample({values({2, 3}, {0, 1, 2, -0.0, 1, 3}), values({3}, {0, 1, 3})}, false)
        .sample({special({16, 1}), special({16})}, false)
        .sample({normal({0}), normal({})}, false)
        .no_gradient("gives bools")
        .error({normal({2, 3}), normal({2, 4})}, ErrorCode::shape, "do not broadcast");
    c.op(name)
        .only(kIntegers)
        .sample({integers({4, 5}, -2, 3, DType::none), integers({5}, -2, 3, DType::none)})
        .sample({bools({8}), bools({8})});
  }
  for (const char* name : {"bitwise_and", "bitwise_or", "bitwise_xor"})
    c.op(name)
        .only(kIntegers)
        .torch("torch." + std::string(name) + "(a, b)")
        .sample({integers({4, 5}, -99, 99, DType::none), integers({5}, -99, 99, DType::none)})
        .sample({bools({8}), bools({8})})
        .error({normal({2}), normal({2})}, ErrorCode::dtype, "f32");
}

KEEL_CASES(select) {
  c.op("where")
      .torch("torch.where(condition, a, b)")
      .sample({bools({3, 4}), normal({3, 4}), normal({3, 4})})
      .sample({bools({3, 1}), normal({4}), normal({})})
      .sample({bools({0}), normal({0}), normal({1})})
      .sample({bools({16}), special({16}), special({16})}, false)
      .error({normal({3}), normal({3}), normal({3})}, ErrorCode::dtype, "'condition' has dtype f32; supported: bool")
      .error({bools({3}), normal({4}), normal({1})}, ErrorCode::shape, "axis -1 (3 vs 4)");
  c.op("where")
      .only(set_of(i8, i64, u64))
      .sample({bools({3, 4}), integers({3, 4}, -9, 9, DType::none), integers({4}, -9, 9, DType::none)})
      .sample({bools({4}), bools({4}), bools({4})});
  c.op("masked_fill")
      .torch("x.masked_fill(mask, value)")
      .sample({normal({3, 4}), bools({3, 4}), normal({})})
      .sample({normal({3, 4}), bools({4}), normal({})})
      .error({normal({3}), normal({3}), normal({})}, ErrorCode::dtype, "'mask'");
  c.op("clamp")
      .torch("torch.clamp(x, lo, hi)")
      .sample({normal({3, 4}), values({}, {-0.5}), values({}, {0.75})})
      .sample({normal({3, 4}), between({4}, -1, -0.5), between({3, 1}, 0.5, 1)})
      .sample({normal({7}), values({}, {0.5}), values({}, {-0.5})})
      .sample({special({16}), values({}, {-1}), values({}, {1})}, false);
  c.op("clamp").only(kIntegers).sample(
      {integers({4, 5}, -9, 9, DType::none), integers({}, 1, 2, DType::none), integers({}, 4, 5, DType::none)});
  c.op("lerp")
      .torch("torch.lerp(a, b, t)")
      .sample({normal({3, 4}), normal({3, 4}), normal({3, 4})})
      .sample({normal({3, 1}), normal({4}), normal({})})
      .sample({normal({0}), normal({0}), normal({0})})
      .tolerance(f32, 2e-6, 2e-6)
      .tolerance(f16, 2e-3, 4e-3)
      .tolerance(bf16, 1.6e-2, 3e-2);
}

KEEL_CASES(activation) {
  const auto wide = [](Shape s) { return between(s, -6, 6); };
  for (const char* name : {"sigmoid", "relu", "silu", "hardswish", "mish", "selu"})
    shapes(c.op(name), wide)
        .torch("torch.nn.functional." + std::string(name) + "(x)")
        .sample({special({16})}, false)
        .sample({values({6}, {-100, 100, -30, 30, -3, 3})}, false);
  shapes(c.op("leaky_relu"), wide, LeakyReluParams{})
      .torch("torch.nn.functional.leaky_relu(x, slope)")
      .sample(LeakyReluParams{.slope = 0.2}, {normal({3, 4})})
      .sample(LeakyReluParams{.slope = -0.5}, {normal({3, 4})});
  c.op("elu")
      .torch("torch.nn.functional.elu(x, alpha)")
      .sample(EluParams{}, {between({3, 4}, -6, 6)})
      .sample(EluParams{.alpha = 0.3}, {normal({5})})
      .sample(EluParams{}, {special({16})}, false)
      .sample(EluParams{}, {values({4}, {-100, 100, -800, 800})});
  c.op("gelu")
      .torch("torch.nn.functional.gelu(x, approximate=approximate)")
      .sample(GeluParams{}, {between({3, 4}, -6, 6)})
      .sample(GeluParams{.approximate = Gelu::tanh}, {between({3, 4}, -6, 6)})
      .sample(GeluParams{}, {special({16})}, false)
      .sample(GeluParams{.approximate = Gelu::tanh}, {values({6}, {-100, 100, -30, 30, -5, 5})})
      .sample(GeluParams{}, {normal({0})});
  c.op("softplus")
      .torch("torch.nn.functional.softplus(x, beta, threshold)")
      .sample(SoftplusParams{}, {between({3, 4}, -6, 6)})
      .sample(SoftplusParams{.beta = 2.5}, {normal({5})})
      .sample(SoftplusParams{.beta = 0.5, .threshold = 1}, {between({9}, -6, 6)})
      .sample(SoftplusParams{}, {special({16})}, false)
      .sample(SoftplusParams{}, {values({4}, {-100, 100, -800, 800})});
  for (const char* name : {"tanh_backward", "sigmoid_backward"})
    c.op(name)
        .sample({normal({3, 4}), between({3, 4}, 0.05, 0.95)})
        .sample({normal({0}), normal({0})})
        .sample({normal({16}), special({16})}, false);
  c.op("relu_backward")
      .sample({normal({3, 4}), between({3, 4}, 0.1, 1)})
      .sample({normal({4}), values({4}, {0, 1, -0.0, 2})}, false)
      .sample({special({16}), between({16}, 0.1, 1)}, false);
  for (const char* name : {"silu_backward", "hardswish_backward", "mish_backward", "selu_backward"})
    c.op(name)
        .sample({normal({3, 4}), between({3, 4}, -2.9, 2.9)})
        .sample({normal({6}), values({6}, {-100, 100, -30, 30, -4, 4})})
        .sample({normal({0}), normal({0})})
        .sample({normal({16}), special({16})}, false)
        .tolerance(f32, 4e-6, 2e-6);
  c.op("leaky_relu_backward").sample(LeakyReluParams{.slope = 0.2}, {normal({3, 4}), normal({3, 4})});
  c.op("elu_backward")
      .sample(EluParams{.alpha = 0.3}, {normal({3, 4}), normal({3, 4})})
      .sample(EluParams{}, {normal({4}), values({4}, {-100, 100, -800, 800})});
  c.op("gelu_backward")
      .sample(GeluParams{}, {normal({3, 4}), between({3, 4}, -6, 6)})
      .sample(GeluParams{.approximate = Gelu::tanh}, {normal({3, 4}), between({3, 4}, -6, 6)})
      .sample(GeluParams{.approximate = Gelu::tanh}, {normal({4}), values({4}, {-100, 100, -30, 30})})
      .tolerance(f32, 4e-6, 2e-6);
  c.op("softplus_backward")
      .sample(SoftplusParams{.beta = 2.5}, {normal({3, 4}), normal({3, 4})})
      .sample(SoftplusParams{.threshold = 1}, {normal({9}), between({9}, -6, 6)});
}
