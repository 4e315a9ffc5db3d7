// Sums of gradients: made in the memory of the first one to come, slices at their place, and only where nobody else sees that memory.
#include <gtest/gtest.h>

#include "keel/keel.h"

namespace keel {
namespace {

TEST(AutogradSums, SlicesOfOneTensorAddToOneGradient) {
  const Tensor x = randn({4, 5, 6}, {.dtype = f64, .requires_grad = true}), w = randn({5, 6}, {.dtype = f64});
  const auto loss = [&](const Tensor& t) {
    const Tensor parts = mul(t[{0}], w) + mul(t[{2}], t[{0}]), row = t[{all, slice(4, 0, -2)}];
    return sum(parts) + sum(mul(row, row)) + sum(mul(t, t));
  };
  const auto formula = [&](const Tensor& t) {
    Tensor g = mul(t, 2.0).clone();
    g[{0}].add_(w), g[{0}].add_(t[{2}]), g[{2}].add_(t[{0}]);
    g[{all, slice(4, 0, -2)}].add_(mul(t[{all, slice(4, 0, -2)}], 2.0));
    return g;
  };
  const Tensor got = grad(loss(x), {x})[0], again = grad(loss(x), {x}, {.create_graph = true})[0];
  const Tensor want = formula(x.detach());
  EXPECT_LT(max(abs(sub(got, want))).item(), 1e-14);
  EXPECT_LT(max(abs(sub(again.detach(), want))).item(), 1e-14);
  EXPECT_TRUE(gradcheck([&](const Tensors& in) { return loss(in[0]); }, {x}));
}
TEST(AutogradSums, SumsOfGradientsLeaveTheirPartsAlone) {
  const Tensor x = randn({3, 4}, {.requires_grad = true}), seed = ones({3, 4}), kept = ones({3, 4});
  const Tensor y = mul(x, 2.0);
  Tensor seen;
  const Tensor a = add(y, 1.0), b = add(y, 2.0);
  register_hook(a, [&](const Tensor& g) { return seen = g, Tensor(); });  // add passes on the very tensor
  backward({a, b, y}, {seed, seed, seed});
  EXPECT_EQ(max(abs(sub(seed, kept))).item(), 0);
  EXPECT_EQ(max(abs(sub(seen, kept))).item(), 0);
  EXPECT_EQ(max(abs(sub(x.grad(), 6.0))).item(), 0);
}

}  // namespace
}  // namespace keel
