// Suggestions fit what happened.
#include <gtest/gtest.h>

#include <cmath>

#include "keel/keel.h"

namespace keel {
namespace {

template <class F>
Suggestion suggested(int steps, F&& body) {
  Monitor m;
  for (int s = 1; s <= steps; ++s) {
    m.step();
    body(s);
  }
  m.step();
  if (!m.warnings().empty()) return m.warnings()[0].suggestion;
  return m.findings().empty() ? Suggestion{} : m.findings()[0].suggestion;
}

TEST(MonitorSuggest, AConstantThatTakesTheRangeIsToBlame) {
  const Tensor x = full({8}, 2000.0, {.dtype = f16});
  EXPECT_EQ(suggested(1, [&](int) { x * 600.0; }).kind, "stable_op");
  EXPECT_EQ(suggested(1, [&](int) { x / (1.0 / 600); }).kind, "stable_op");
  EXPECT_EQ(suggested(1, [&](int) { x* x; }).kind, "dtype");
}

TEST(MonitorSuggest, ARecurrenceIsNotMendedByClipping) {
  const Tensor w = full({4, 4}, 0.5);  // doubles the state
  const auto grow = [&](int s, int calls) {
    Tensor h = full({4, 4}, std::exp2(s * 4.0));
    for (int k = 0; k < calls; ++k) h = matmul(h, w);
  };
  EXPECT_EQ(suggested(40, [&](int s) { grow(s, 16); }).kind, "stable_op");
  EXPECT_EQ(suggested(40, [&](int s) { grow(s, 1); }).kind, "clip");
}

TEST(MonitorSuggest, AnEpsilonServesTheSlopeToo) {
  const Tensor x = rand({64}) + 0.5;
  for (const DType t : {f16, f32}) {
    const double largest = t == f16 ? 65504 : 3.4e38;
    const Suggestion d = suggested(140, [&](int s) {
      const Tensor b = (x * std::exp2(-(t == f16 ? 0.5 : 0.9) * s)).to(t);
      x.to(t) / b;
    });
    ASSERT_EQ(d.kind, "epsilon") << name_of(t);
    EXPECT_LT(1 / (d.value * d.value), largest) << name_of(t);
  }
}

}  // namespace
}  // namespace keel
