#include "ops/cases.h"

KEEL_CASES(arithmetic) {
  for (const char* name : {"add", "sub", "mul", "div"}) {
    auto& o = c.op(name);
    const auto second = [&](Shape s) { return std::string(name) == "div" ? between(s, 0.3, 3) : normal(s); };
    o.sample({normal({3, 4}), second({3, 4})})
        .sample({normal({2, 3, 4}), second({3, 1})})
        .sample({normal({}), second({5})})
        .sample({normal({0, 3}), second({3})})
        .sample({normal({1, 1}), second({7, 9})})
        .sample({special({15, 1}), special({15})}, false)
        .sample({normal({33, 67}), normal({33, 67})})
        .error({normal({2, 3}), normal({2, 4})}, ErrorCode::shape, "axis -1 (3 vs 4)")
        .error({normal({2, 3}), absent()}, ErrorCode::value, "empty tensor");
    if (std::string(name) == "sub") o.error({bools({2}), bools({2})}, ErrorCode::dtype, "bool");
  }
  c.op("add").only(set_of(i8, i32, i64, u8, u64)).sample({integers({4, 5}, -9, 9, DType::none), integers({5}, -9, 9, DType::none)});
  c.op("neg").sample({normal({3, 4})}).sample({special({16})}, false).sample({normal({})});
  c.op("sum").sample(SumParams{}, {normal({3, 4})})
      .sample(SumParams{.axis = 1}, {normal({3, 4, 5})})
      .sample(SumParams{.axis = {0, 2}, .keepdim = true}, {normal({3, 4, 5})})
      .sample(SumParams{.axis = -1}, {normal({37, 129})})
      .sample(SumParams{.axis = 0}, {normal({129, 37})})
      .sample(SumParams{}, {normal({0, 3})})
      .sample(SumParams{.axis = 0}, {normal({})})
      .tolerance(f32, 2e-6, 2e-5)
      .tolerance(f16, 2e-3, 3e-2)
      .tolerance(bf16, 1.6e-2, 0.1)
      .tolerance(f64, 1e-12, 1e-12)
      .error(SumParams{.axis = 2}, {normal({2, 3})}, ErrorCode::index, "axis 2 is out of range [-2, 1]")
      .error(SumParams{.axis = {0, 0}}, {normal({2, 3})}, ErrorCode::value, "twice");
}
