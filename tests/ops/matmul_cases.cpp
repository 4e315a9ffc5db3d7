#include "ops/cases.h"

namespace {
using namespace keel;
using namespace keel::testing_cases;
constexpr DTypeSet kIntegers = set_of(i8, i32, i64, u8);
}  // namespace

KEEL_CASES(matmul) {
  c.op("matmul")
      .torch("torch.matmul(a, b)")
      .numpy("np.matmul(a, b)")
      .sample({normal({3, 4}), normal({4, 5})})
      .sample({normal({4}), normal({4})})
      .sample({normal({4}), normal({4, 3})})
      .sample({normal({3, 4}), normal({4})})
      .sample({normal({2, 3, 4}), normal({4, 5})})
      .sample({normal({2, 3, 4}), normal({2, 4, 5})})
      .sample({normal({4}), normal({2, 4, 3})})
      .sample({normal({2, 3, 4}), normal({4})})
      .sample({normal({2, 1, 3, 4}), normal({5, 4, 2})})
      .sample({normal({3, 4}), normal({2, 4, 3})})
      .sample({normal({0, 4}), normal({4, 5})})
      .sample({normal({3, 0}), normal({0, 5})})
      .sample({normal({2, 3, 0}), normal({0, 5})})
      .sample({normal({0, 3, 4}), normal({4, 5})})
      .sample({normal({17, 70}), normal({70, 33})}, false)
      .sample({normal({1, 530}), normal({530, 40})}, false)
      .sample({normal({3, 20, 15}), normal({3, 15, 35})}, false)
      .tolerance(f32, 1e-5, 2e-5)
      .tolerance(f64, 1e-13, 1e-13)
      .error({normal({3, 64}), normal({32, 64})}, ErrorCode::shape, "inner dimensions differ (64 vs 32)")
      .error({normal({2, 3, 4}), normal({3, 4, 5})}, ErrorCode::shape, "")
      .error({normal({}), normal({4})}, ErrorCode::shape, "a");
  c.op("matmul").only(kIntegers).sample({integers({3, 4}, 0, 5), integers({4, 2}, 0, 5)});
  c.op("linear")
      .torch("torch.nn.functional.linear(x, weight, bias)")
      .sample({normal({3, 4}), normal({5, 4}), normal({5})})
      .sample({normal({3, 4}), normal({5, 4}), absent()})
      .sample({normal({4}), normal({5, 4}), normal({5})})
      .sample({normal({2, 3, 4}), normal({5, 4}), normal({5})})
      .sample({normal({2, 1, 3, 4}), normal({1, 4}), normal({1})})
      .sample({normal({0, 4}), normal({5, 4}), normal({5})})
      .sample({normal({3, 0}), normal({5, 0}), normal({5})})
      .sample({normal({2, 3, 0}), normal({5, 0}), normal({5})})
      .sample({normal({1, 300}), normal({40, 300}), normal({40})}, false)
      .sample({normal({64, 600}), normal({10, 600}), normal({10})}, false)
      .tolerance(f32, 1e-5, 5e-5)  // 600 products of deviation 1 added one by one in f32: deviation 1.1e-5, and 640 results to be right
      .tolerance(f64, 1e-13, 1e-13)
      .error({normal({3, 4}), normal({4, 5}), normal({4})}, ErrorCode::shape, "x has 4 features, weight takes 5")
      .error({normal({3, 4}), normal({5, 4}), normal({4})}, ErrorCode::shape, "bias must have shape [5], got [4]");
  c.op("linear_gelu")
      .torch("torch.nn.functional.gelu(torch.nn.functional.linear(x, weight, bias), approximate='tanh')")
      .sample({normal({3, 4}), normal({5, 4}), normal({5})})
      .sample({normal({3, 4}), normal({5, 4}), absent()})
      .sample({normal({4}), normal({5, 4}), normal({5})})
      .sample({normal({2, 3, 4}), constant(normal({5, 4})), normal({5})})
      .sample({constant(normal({2, 1, 3, 4})), normal({1, 4}), normal({1})})
      .sample({normal({0, 4}), normal({5, 4}), normal({5})})
      .sample({normal({3, 0}), normal({5, 0}), normal({5})})
      .sample({normal({2, 3, 0}), normal({5, 0}), normal({5})})
      .sample({normal({24, 40}), normal({16, 40}), normal({16})}, false)
      .sample({normal({2, 32, 64}), normal({128, 64}), absent()}, false)
      .tolerance(f32, 1e-5, 2e-5)
      .tolerance(f64, 1e-13, 1e-13)
      .error({normal({3, 4}), normal({4, 5}), normal({4})}, ErrorCode::shape, "x has 4 features, weight takes 5")
      .error({normal({3, 4}), normal({5, 4}), normal({4})}, ErrorCode::shape, "bias must have shape [5], got [4]");
  c.op("linear_gelu_backward")
      .sample(LinearGradientParams{}, {normal({3, 4}), normal({4, 5}), normal({3, 5})})
      .sample(LinearGradientParams{.need_bias = false}, {normal({2, 3, 4}), normal({4, 5}), normal({2, 3, 5})})
      .sample(LinearGradientParams{}, {normal({4}), normal({4, 5}), normal({5})})
      .sample(LinearGradientParams{}, {normal({0, 4}), normal({4, 5}), normal({0, 5})})
      .sample(LinearGradientParams{}, {normal({64, 24}), normal({24, 40}), normal({64, 40})}, false)
      .sample(LinearGradientParams{.need_bias = false}, {normal({2, 32, 64}), normal({64, 128}), normal({2, 32, 128})}, false)
      .tolerance(f32, 1e-5, 4e-5)
      .tolerance(f16, 4e-3, 2e-2)  // dhidden may be rounded before its rows are summed
      .tolerance(bf16, 3e-2, 0.16)
      .tolerance(f64, 1e-13, 1e-13)
      .error(LinearGradientParams{}, {normal({3, 4}), normal({4, 5}), normal({3, 6})}, ErrorCode::shape,
             "g [3, 4] and hidden [3, 6] do not belong to a weight [4, 5]");
  c.op("feed_forward")
      .torch("torch.nn.functional.linear(torch.nn.functional.gelu(torch.nn.functional.linear(x, up, up_bias), approximate='tanh'), down, down_bias)")
      .sample({normal({3, 4}), normal({5, 4}), normal({5}), normal({2, 5}), normal({2})})
      .sample({normal({2, 3, 4}), normal({5, 4}), absent(), normal({2, 5}), absent()})
      .sample({normal({4}), normal({5, 4}), normal({5}), normal({2, 5}), normal({2})})
      .sample({constant(normal({3, 4})), constant(normal({5, 4})), constant(normal({5})), normal({2, 5}), normal({2})})
      .sample({normal({3, 4}), constant(normal({5, 4})), normal({5}), constant(normal({2, 5})), constant(normal({2}))})
      .sample({normal({0, 4}), normal({5, 4}), normal({5}), normal({2, 5}), normal({2})})
      .sample({normal({24, 40}), between({64, 40}, -0.3, 0.3), normal({64}), between({40, 64}, -0.3, 0.3), normal({40})}, false)
      .tolerance(f32, 2e-5, 4e-5)
      .tolerance(f16, 4e-3, 2e-2)  // what is between the products is rounded
      .tolerance(bf16, 3e-2, 0.16)
      .tolerance(f64, 1e-12, 1e-12)
      .error({normal({3, 4}), normal({5, 3}), absent(), normal({2, 5}), absent()}, ErrorCode::shape, "x has 4 features, up takes 3")
      .error({normal({3, 4}), normal({5, 4}), absent(), normal({2, 6}), absent()}, ErrorCode::shape, "up gives 5 features, down takes 6")
      .error({normal({3, 4}), normal({5, 4}), absent(), normal({2, 5}), normal({3})}, ErrorCode::shape, "down_bias must have shape [2], got [3]");
  c.op("dot")
      .torch("torch.dot(a, b)")
      .sample({normal({7}), normal({7})})
      .sample({normal({0}), normal({0})})
      .tolerance(f32, 1e-5, 2e-5)
      .error({normal({3}), normal({4})}, ErrorCode::shape, "")
      .error({normal({3, 1}), normal({3})}, ErrorCode::shape, "a");
  c.op("outer")
      .torch("torch.outer(a, b)")
      .sample({normal({3}), normal({4})})
      .sample({normal({0}), normal({4})})
      .error({normal({3, 1}), normal({3})}, ErrorCode::shape, "a");
}
