// Gradients at kinks, ties and zeros, where differences cannot judge: the rules that the op docs promise.
#include <gtest/gtest.h>

#include <cmath>

#include "keel/keel.h"

namespace keel {
namespace {

/// The gradient of sum(f(x)) at x, as text.
template <class F>
std::string slope(F f, const Tensor& x) {
  Tensor leaf = x.astype(f64).clone();
  leaf.requires_grad_();
  sum(f(leaf)).backward();
  return to_string(leaf.grad());
}

TEST(GradientRules, Kinks) {
  const Tensor x = tensor({-1.0, 0.0, 2.0});
  EXPECT_EQ(slope([](const Tensor& t) { return relu(t); }, x), "[0. 0. 1.]");
  EXPECT_EQ(slope([](const Tensor& t) { return abs(t); }, x), "[-1.  0.  1.]");
  EXPECT_EQ(slope([](const Tensor& t) { return leaky_relu(t, {.slope = 0.5}); }, x), "[0.5 0.5 1. ]");
  EXPECT_EQ(slope([](const Tensor& t) { return sign(t) + floor(t) + round(t); }, x), "[0. 0. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return clamp(t, -1, 2); }, tensor({-1.5, -1.0, 0.0, 2.0, 2.5})), "[0. 1. 1. 1. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return hardswish(t); }, tensor({-4.0, -3.0, 3.0, 4.0})), "[0. 0. 1. 1.]");
  EXPECT_EQ(slope([](const Tensor& t) { return sqrt(t); }, tensor({0.0, 4.0})), "[ inf 0.25]");
}

TEST(GradientRules, TiesShare) {
  EXPECT_EQ(slope([](const Tensor& t) { return maximum(t, 1); }, tensor({0.0, 1.0, 2.0})), "[0.  0.5 1. ]");
  EXPECT_EQ(slope([](const Tensor& t) { return minimum(t, 1); }, tensor({0.0, 1.0, 2.0})), "[1.  0.5 0. ]");
  EXPECT_EQ(slope([](const Tensor& t) { return max(t); }, tensor({3.0, 1.0, 3.0, 2.0})), "[0.5 0.  0.5 0. ]");
  EXPECT_EQ(slope([](const Tensor& t) { return min(t, {.axis = 1}); }, tensor({{1.0, 1.0}, {4.0, 3.0}})), "[[0.5 0.5]\n [0.  1. ]]");
  EXPECT_EQ(slope([](const Tensor& t) { return norm(t, {.p = HUGE_VAL}); }, tensor({-3.0, 1.0, 3.0})), "[-0.5  0.   0.5]");
}

TEST(GradientRules, Zeros) {
  EXPECT_EQ(slope([](const Tensor& t) { return pow(t, 2); }, tensor({0.0, 3.0})), "[0. 6.]");
  EXPECT_EQ(slope([](const Tensor& t) { return pow(t, 0); }, tensor({0.0, 3.0})), "[0. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return pow(t, tensor({0.0, 1.0})); }, tensor({0.0, 0.0})), "[0. 1.]");
  EXPECT_EQ(slope([](const Tensor& t) { return pow(tensor({0.0, 0.0, 1.0}, {.dtype = f64}), t); }, tensor({0.0, 2.0, 5.0})), "[0. 0. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return prod(t); }, tensor({2.0, 0.0, 3.0})), "[0. 6. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return prod(t); }, tensor({2.0, 0.0, 0.0})), "[0. 0. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return norm(t); }, zeros({2})), "[0. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return stddev(t); }, ones({3})), "[0. 0. 0.]");
  EXPECT_EQ(slope([](const Tensor& t) { return norm(t, {.p = 3}); }, tensor({0.0, 2.0})), "[0. 1.]");
}

TEST(GradientRules, SecondDerivativeOfProductWithZeros) {
  Tensor x = tensor({0.0, 5.0}, {.dtype = f64});
  x.requires_grad_();
  const Tensor g = grad(prod(x), {x}, {.create_graph = true})[0];
  EXPECT_EQ(to_string(g), "[5. 0.]");
  EXPECT_EQ(to_string(grad(sum(g), {x})[0]), "[1. 1.]");
}

TEST(GradientRules, PaddingRowOfEmbedding) {
  EXPECT_EQ(slope(
                [](const Tensor& w) {
                  return embedding(tensor({0, 1, 1, 2}), w, {.padding_index = 1});
                },
                ones({3, 1})),
            "[[1.]\n [0.]\n [1.]]");
}

TEST(GradientRules, MaxPoolGivesToTheFirst) {
  EXPECT_EQ(slope([](const Tensor& t) { return max_pool2d(t); }, ones({1, 1, 2, 2})), "[[[[1. 0.]\n   [0. 0.]]]]");
}

TEST(GradientRules, MaskedBranchesDoNotPoison) {
  // exp overflows in the branch that is not taken; its gradient must not become NaN, nor the second one.
  for (auto f : {+[](const Tensor& t) { return elu(t); }, +[](const Tensor& t) { return softplus(t); },
                 +[](const Tensor& t) { return selu(t); }, +[](const Tensor& t) { return mish(t); },
                 +[](const Tensor& t) { return silu(t); }, +[](const Tensor& t) { return gelu(t, {.approximate = Gelu::tanh}); }}) {
    Tensor x = tensor({-900.0, 900.0}, {.dtype = f64});
    x.requires_grad_();
    const Tensor g = grad(sum(f(x)), {x}, {.create_graph = true})[0];
    EXPECT_TRUE(all(isfinite(g)).item<bool>()) << to_string(g);
    EXPECT_TRUE(all(isfinite(grad(sum(g * g), {x})[0])).item<bool>());
  }
}

TEST(GradientRules, StatisticsOfBatchNormAreDifferentiable) {
  Tensor x = tensor({{1.0, 2.0}, {3.0, 6.0}}, {.dtype = f64});
  x.requires_grad_();
  const BatchNormResult r = batch_norm(x, Tensor(), Tensor());
  sum(r.mean + r.var).backward();
  EXPECT_EQ(to_string(x.grad()), "[[-0.5 -1.5]\n [ 1.5  2.5]]");
}

TEST(InPlace, ReluClampMaskedFill) {
  Tensor x = tensor({-2.0, 0.5, 3.0});
  x.relu_();
  EXPECT_EQ(to_string(x), "[0.  0.5 3. ]");
  x.clamp_(0.25, 2);
  EXPECT_EQ(to_string(x), "[0.25 0.5  2.  ]");
  x.masked_fill_(x > 1, -1);
  EXPECT_EQ(to_string(x), "[ 0.25  0.5  -1.  ]");
  Tensor n = tensor({-3, 7});
  n.clamp_(-1, 5);
  EXPECT_EQ(to_string(n), "[-1  5]");
}

TEST(InPlace, TakesOverTheGraph) {
  Tensor x = tensor({-1.0, 2.0}, {.requires_grad = true}), h = x * 3;
  h.relu_();
  sum(h).backward();
  EXPECT_EQ(to_string(x.grad()), "[0. 3.]");
}

TEST(GradientRules, PowersByANumberInEveryDtype) {
  for (const DType t : {f64, f32, bf16, f16})
    for (const double e : {-0.5, 0.25, 0.5, 1.5, 2.5, 3.0}) {
      const Tensor x = full({1}, 4, {.dtype = t, .requires_grad = true});
      sum(pow(x, e)).backward();
      const double want = e * std::pow(4.0, e - 1), close = t == f64 ? 1e-15 : t == f32 ? 1e-6 : t == f16 ? 2e-3 : 1e-2;
      EXPECT_NEAR(x.grad().item<double>(), want, close * std::abs(want)) << name_of(t) << " " << e;
    }
}

TEST(GradientRules, ALogitThatIsInfiniteMakesCrossEntropyNaNAsLogSoftmaxIs) {
  for (const DType t : {f64, f32, bf16, f16})
    for (const int64_t n : {3, 40})
      for (const int64_t at : {0, 1})
        for (const double smooth : {0.0, 0.1}) {
          Tensor z = (arange(n).to(f64) * 0.1).reshape({1, n}).clone();
          z[{0, at}] = HUGE_VAL;
          z = z.to(t);
          z.requires_grad_();
          const Tensor loss = cross_entropy(z, zeros({1}, {.dtype = i64}), {.label_smoothing = smooth});
          loss.backward();
          EXPECT_TRUE(std::isnan(loss.item<double>())) << name_of(t) << " " << n << " " << at;
          for (int64_t i = 0; i < n; ++i) EXPECT_TRUE(std::isnan(z.grad()[{0, i}].item<double>())) << name_of(t) << " " << n << " " << i;
          EXPECT_TRUE(std::isnan(nll_loss(log_softmax(z.detach()), zeros({1}, {.dtype = i64})).item<double>()));
        }
}

TEST(IntegerRules, FloorDivideRemainderPow) {
  const Tensor a = tensor({7, -7, 7, -7, 5}), b = tensor({2, 2, -2, -2, 0});
  EXPECT_EQ(to_string(floor_divide(a, b)), "[ 3 -4 -4  3  0]");
  EXPECT_EQ(to_string(a % b), "[ 1  1 -1 -1  0]");
  EXPECT_EQ(to_string(pow(tensor({2, -1, 1, 3}), tensor({10, -3, -5, -1}))), "[1024   -1    1    0]");
  EXPECT_EQ((pow(tensor({2}), 2.0)).dtype(), f32);
  EXPECT_EQ(floor_divide(a, 2).dtype(), i64);
  const Tensor big = tensor({uint64_t(1) << 63, uint64_t(5)}, {.dtype = u64});
  EXPECT_EQ(argmax(big).item<int64_t>(), 0);
  EXPECT_TRUE((big > 6)[{0}].item<bool>());
}

TEST(PlainNumbers, AbsIsNotTheIntegerOne) {
  EXPECT_EQ(abs(-0.5), 0.5);
  EXPECT_EQ(abs(tensor(2.25).item() - 3), 0.75);
}

}  // namespace
}  // namespace keel
