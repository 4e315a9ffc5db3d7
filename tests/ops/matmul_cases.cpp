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
      .sample({normal({1, 300}), normal({40, 300}), normal({40})}, false)
      .sample({normal({64, 600}), normal({10, 600}), normal({10})}, false)
      .tolerance(f32, 1e-5, 2e-5)
      .tolerance(f64, 1e-13, 1e-13)
      .error({normal({3, 4}), normal({4, 5}), normal({4})}, ErrorCode::shape, "x has 4 features, weight takes 5")
      .error({normal({3, 4}), normal({5, 4}), normal({4})}, ErrorCode::shape, "bias must have shape [5], got [4]");
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
