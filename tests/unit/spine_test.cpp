// The shortest way through the whole house: ops, broadcasting, views, gradients of gradients, in-place rules.
#include <gtest/gtest.h>

#include "keel/keel.h"

namespace keel {
namespace {

TEST(Spine, BroadcastAndPromotion) {
  Tensor a = tensor({{1, 2, 3}, {4, 5, 6}}), b = tensor({1.5, 2.5, 3.5});
  Tensor c = a * b + 1;
  EXPECT_EQ(c.dtype(), f32);
  EXPECT_EQ(c.shape(), Shape({2, 3}));
  EXPECT_EQ(to_string(c), "[[ 2.5  6.  11.5]\n [ 7.  13.5 22. ]]");
  EXPECT_EQ(sum(c).item(), 62.5);
  EXPECT_EQ(c.sum({.axis = {0, 1}}).rank(), 0);
  EXPECT_EQ((a / 2).dtype(), f32);
  EXPECT_EQ((a + 1).dtype(), i64);
}

TEST(Spine, GradientOfGradient) {
  Tensor t = tensor(2.0, {.requires_grad = true});
  Tensor y = t * t * t;
  Tensor g1 = grad(y, {t}, {.create_graph = true})[0];
  Tensor g2 = grad(g1, {t})[0];
  EXPECT_EQ(g1.item(), 12);
  EXPECT_EQ(g2.item(), 12);
}

TEST(Spine, BackwardAccumulatesIntoLeaves) {
  Tensor x = tensor({1.0, 2.0, 3.0}, {.requires_grad = true});
  for (int i = 0; i < 2; ++i) sum(x * x).backward();
  EXPECT_EQ(to_string(x.grad()), "[ 4.  8. 12.]");
}

TEST(Spine, BroadcastGradientIsSummed) {
  Tensor x = ones({3, 1}, {.requires_grad = true}), y = ones({4}, {.requires_grad = true});
  sum(x * y).backward();
  EXPECT_EQ(x.grad().shape(), Shape({3, 1}));
  EXPECT_EQ(to_string(y.grad()), "[3. 3. 3. 3.]");
}

TEST(Spine, SavedTensorWrittenInPlaceIsRefused) {
  Tensor w = ones({3}, {.requires_grad = true}), h = w * 2, k = h * h;
  h.add_(1.0);
  try {
    sum(k).backward();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::autograd);
    EXPECT_NE(std::string(e.what()).find("add_"), std::string::npos) << e.what();
  }
}

TEST(Spine, LongChainFreesWithoutRecursion) {
  Tensor x = ones({1}, {.requires_grad = true}), y = x;
  for (int i = 0; i < 200000; ++i) y = y + 1;
  y.backward();
  EXPECT_EQ(x.grad().item(), 1);
}

TEST(Spine, ErrorsNameOpAndArguments) {
  try {
    zeros({2, 3}) + zeros({2, 4});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.op(), "add");
    EXPECT_EQ(std::string(e.what()),
              "ShapeError in add: shapes [2, 3] and [2, 4] do not broadcast: axis -1 (3 vs 4)\n    a: f32[2, 3]\n    b: f32[2, 4]\n    "
              "hint: axes are aligned from the right; each must be equal or 1");
  }
}

TEST(Spine, ReshapeOfStridedViews) {
  Tensor x = arange(24).reshape({2, 3, 4});
  Tensor t = x.transpose(0, 2);
  EXPECT_EQ(t.shape(), Shape({4, 3, 2}));
  EXPECT_FALSE(t.is_contiguous());
  EXPECT_EQ(t.reshape({-1}).shape(), Shape({24}));
  EXPECT_TRUE(x.permute({1, 0, 2}).reshape({3, 2, 2, 2}).shares_storage(x));
  EXPECT_EQ(sum(x.flip({0}) - x).item(), 0);
}

TEST(Spine, AxesByListAndByName) {  // both forms must resolve on every compiler
  const Tensor x = ones({2, 3});
  EXPECT_EQ(sum(x, {.axis = 1}).shape(), Shape({2}));
  EXPECT_EQ(sum(x, {.axis = {0, 1}}).rank(), 0);
  EXPECT_EQ(sum(x, {.keepdim = true}).shape(), Shape({1, 1}));
  EXPECT_EQ(sum(x, {0, 1}).rank(), 0);
  EXPECT_EQ(sum(x, {0}).shape(), Shape({3}));
}

}  // namespace
}  // namespace keel
