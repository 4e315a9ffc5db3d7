// A profile's advice put to work: the policy and the loss scale that it proposes train as f32 does.
#include <gtest/gtest.h>

#include <cmath>

#include "keel/keel.h"

namespace keel {
namespace {

struct Net : nn::Module<Net> {
  nn::Linear a{20, 64}, b{64, 64}, c{64, 5};
  static void fields(auto& m, auto&& f) { f("a", m.a)("b", m.b)("c", m.c); }
  Tensor forward(const Tensor& x) const { return c(gelu(b(gelu(a(x))))); }
};

struct Task {
  Tensor x, y;
};
/// Classes that another network draws.
Task task() {
  manual_seed(11);
  NoGrad off;
  const Net teacher;
  const Tensor x = randn({512, 20});
  return {x, argmax(teacher(x) * 10, {.axis = -1})};
}

/// The mean loss of the last ten of `steps` steps, in f32 where there is no policy.
double train(const Task& t, int steps, const PrecisionProfile* p) {
  manual_seed(5);
  Net net;
  optim::Adam opt(net.parameters(), {.lr = 3e-3});
  optim::GradScaler scaler({.init_scale = p ? p->loss_scale() : 1, .enabled = p != nullptr});
  double sum = 0;
  for (int i = 0; i < steps; ++i) {
    opt.zero_grad();
    Tensor loss;
    {
      Autocast guard(p ? p->policy() : AutocastPolicy(), p != nullptr);
      loss = cross_entropy(net(t.x), t.y);
    }
    scaler.scale(loss).backward();
    scaler.step(opt);
    scaler.update();
    if (i >= steps - 10) sum += loss.item() / 10;
  }
  return sum;
}

TEST(MixedPrecision, TheProfilesMixTrainsWithinOnePercentOfF32) {
  const Task t = task();
  const double f32_loss = train(t, 40, nullptr);
  EXPECT_GT(f32_loss, 0.05);
  for (DType low : {f16, bf16}) {
    manual_seed(5);
    Net net;
    const PrecisionProfile p = precision_profile([&] { cross_entropy(net(t.x), t.y).backward(); }, {.low = low});
    EXPECT_GT(p.loss_scale(), 1);
    const double loss = train(t, 40, &p);
    EXPECT_NEAR(loss / f32_loss, 1, 0.01) << name_of(low) << ": " << loss << " beside " << f32_loss;
  }
}

}  // namespace
}  // namespace keel
