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
TEST(AutogradSums, SlicesThatShareOutATensorAreWrittenSideBySide) {
  const Tensor x = randn({2, 6, 4}, {.dtype = f64, .requires_grad = true}), w = randn({2, 6, 4}, {.dtype = f64});
  const auto part = [](const Tensor& t, int64_t from, int64_t to) { return t[{all, slice(from, to)}]; };
  struct Share {
    std::vector<std::pair<int64_t, int64_t>> slices;
    bool whole;  // the tensor is used as it is too
  };
  const std::vector<Share> shares{{{{0, 2}, {2, 4}, {4, 6}}, false}, {{{4, 6}, {0, 3}, {3, 4}}, false}, {{{0, 6}}, false},
                                  {{{0, 2}, {4, 6}}, false},         {{{0, 4}, {2, 6}}, false},         {{{0, 2}, {0, 2}, {2, 6}}, false},
                                  {{{1, 6}}, false},                 {{{0, 3}, {3, 6}}, true}};
  for (const Share& share : shares) {
    for (const bool leaf : {true, false}) {
      const auto loss = [&](const Tensor& t) {
        const Tensor y = leaf ? t : mul(t, 2.0).transpose(0, 1).transpose(0, 1);
        Tensor total = share.whole ? sum(mul(y, 3.0)) : sum(mul(y.detach(), 0.0));
        for (auto [from, to] : share.slices) total = total + sum(mul(part(y, from, to), part(w, from, to)));
        return share.whole ? total + sum(mul(y, y)) : total;
      };
      Tensor want = zeros({2, 6, 4}, {.dtype = f64});
      const double scale = leaf ? 1 : 2;
      for (auto [from, to] : share.slices) part(want, from, to).add_(mul(part(w, from, to), scale));
      if (share.whole) want = add(want, add(mul(x.detach(), 2 * scale * scale), 3 * scale));
      const Tensor got = grad(loss(x), {x})[0], again = grad(loss(x), {x}, {.create_graph = true})[0];
      EXPECT_LT(max(abs(sub(got, want))).item(), 1e-14);
      EXPECT_LT(max(abs(sub(again.detach(), want))).item(), 1e-14);
      loss(x).backward();
      EXPECT_LT(max(abs(sub(x.grad(), want))).item(), 1e-14);
      Tensor(x).set_grad(Tensor());
    }
  }
}
TEST(AutogradSums, TheGradientOfSlicesLiesAsTheTensorDoes) {
  const Tensor x = randn({2, 5, 3, 4}, {.requires_grad = true}), h = x.permute({2, 0, 1, 3});
  Tensor seen;
  register_hook(h, [&](const Tensor& g) { return seen = g, Tensor(); });
  add(add(sum(h[{0}]), sum(mul(h[{1}], 2.0))), sum(mul(h[{2}], 3.0))).backward();
  EXPECT_EQ(seen.strides(), h.strides());
  EXPECT_TRUE(x.grad().is_contiguous());
  EXPECT_EQ(max(abs(sub(x.grad()[{all, all, 2}], 3.0))).item(), 0);
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
