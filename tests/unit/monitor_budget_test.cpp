// Steps that are not watched whole: what they still see, and how many of them there are.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/fp_env.h"
#include "keel/keel.h"
#include "layers/monitor/governor.h"

namespace keel {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

int64_t calls_of(const Monitor& m, const char* op, const char* phase = "forward") {
  int64_t n = 0;
  for (const auto& s : m.statistics())
    if (s.op == op && s.phase == phase) n += s.calls;
  return n;
}

/// A step of training; `spoil` changes the hidden values.
template <class F>
Tensor train(const Tensor& w, const Tensor& v, optim::SGD& opt, const Tensor& x, F&& spoil) {
  const Tensor h = spoil(relu(matmul(x, w)));
  Tensor loss = mean(square(matmul(h, v)));
  opt.zero_grad();
  loss.backward();
  opt.step();
  return loss;
}

struct Small {
  Tensor x = randn({8, 16}), w = randn({16, 16}, {.requires_grad = true}), v = randn({16, 1}, {.requires_grad = true});
  optim::SGD opt{{w, v}, {.lr = 1e-4}};
};

TEST(MonitorBudget, OneStepInSoManyIsWatchedWhole) {
  manual_seed(0);
  Small net;
  Monitor m({.whole_every = 4});
  for (int i = 0; i < 16; ++i) {
    m.step();
    train(net.w, net.v, net.opt, net.x, [](const Tensor& h) { return h * 1.0; });
  }
  EXPECT_EQ(m.whole_every(), 4);
  EXPECT_EQ(calls_of(m, "mean"), 16);                              // the loss is watched in every step
  EXPECT_GE(calls_of(m, "relu"), 5);                               // at its first call, and in steps 4, 8, 12, 16
  EXPECT_LE(calls_of(m, "relu"), 6);
  EXPECT_EQ(m.findings().size() + m.warnings().size(), 0u) << m.report();
}

TEST(MonitorBudget, StepsWatchedInPartGiveTheSameBits) {
  const auto run = [](int64_t every) {
    manual_seed(0);
    Small net;
    Monitor m({.whole_every = every});
    for (int i = 0; i < 8; ++i) {
      m.step();
      train(net.w, net.v, net.opt, net.x, [](const Tensor& h) { return h * 1.0; });
    }
    return net.w.detach().clone();
  };
  EXPECT_TRUE(array_equal(run(1), run(8)));
}

TEST(MonitorBudget, WhatIsMadeInAPartIsNamed) {
  manual_seed(0);
  Small net;
  Monitor m({.protect = true, .whole_every = 8});
  for (int i = 1; i <= 12; ++i) {
    m.step();
    // 1 / 0 in step 10, which is not watched whole.
    const Tensor by = i == 10 ? zeros({16}) : ones({16});
    train(net.w, net.v, net.opt, net.x, [&](const Tensor& h) { return tanh(abs(neg(h * (ones({16}) / by)))); });
    if (i == 10) {
      const auto f = m.findings();
      ASSERT_FALSE(f.empty()) << m.report();
      EXPECT_EQ(f[0].op, "div");
      EXPECT_EQ(f[0].kind, "inf");
      EXPECT_EQ(f[0].step, 10);
      EXPECT_EQ(f[0].elements, 16);
    }
  }
  EXPECT_EQ(m.blocked_steps(), 1);
  EXPECT_TRUE(isfinite(net.w).all().item<bool>());
}

TEST(MonitorBudget, BadDataIsNamedInAnyStep) {
  manual_seed(0);
  Small net;
  Tensor bad = net.x.clone();
  bad.data<float>()[35] = float(kNan);
  Monitor m({.protect = true, .whole_every = 8});
  for (int i = 1; i <= 12; ++i) {
    m.step();
    train(net.w, net.v, net.opt, i == 10 ? bad : net.x, [&](const Tensor& h) { return h * 1.0; });
  }
  const auto f = m.findings();
  ASSERT_FALSE(f.empty()) << m.report();
  EXPECT_EQ(f[0].op, "matmul");
  EXPECT_EQ(f[0].kind, "nan input");
  EXPECT_EQ(f[0].step, 10);
  EXPECT_NE(f[0].text.find("row 2 of"), std::string::npos) << f[0].text;
  EXPECT_EQ(m.blocked_steps(), 1);
}

TEST(MonitorBudget, WhatArrivesUnseenIsFoundInTheSameStep) {
  manual_seed(0);
  Small net;
  Tensor bad = ones({16});
  bad.data<float>()[3] = float(kNan);
  Monitor m({.protect = true, .whole_every = 8});
  for (int i = 1; i <= 12; ++i) {
    m.step();
    train(net.w, net.v, net.opt, net.x, [&](const Tensor& h) { return tanh(relu(neg(abs(h * (i == 10 ? bad : ones({16})))))); });
    EXPECT_EQ(m.findings().empty(), i < 10);
    if (i == 10) {
      const auto f = m.findings();
      ASSERT_FALSE(f.empty()) << m.report();
      EXPECT_EQ(f[0].kind, "nan");
      EXPECT_EQ(f[0].step, 10);
      EXPECT_NE(f[0].text.find("not watched in this step"), std::string::npos) << f[0].text;
    }
  }
  EXPECT_EQ(m.blocked_steps(), 1);
  EXPECT_TRUE(isfinite(net.w).all().item<bool>());
  EXPECT_EQ(calls_of(m, "relu") >= 4, true);  // steps 1, 8, and whole from step 11 on
}

TEST(MonitorBudget, OfAnOpOnlyTheGradientsAreWatchedInEveryStep) {
  manual_seed(0);
  Small net;
  nn::LayerNorm norm(16);
  optim::SGD opt({net.w, norm.weight, norm.bias}, {.lr = 1e-4});
  Monitor m({.whole_every = 8});
  for (int i = 0; i < 16; ++i) {
    m.step();
    train(net.w, net.v, opt, net.x, [&](const Tensor& h) { return norm(h); });
  }
  int64_t dx = 0, dweight = 0;
  for (const auto& s : m.statistics())
    if (s.op == "layer_norm_backward" && s.output == "dx")
      dx += s.calls;
    else if (s.op == "layer_norm_backward" && s.output == "dweight")
      dweight += s.calls;
  EXPECT_EQ(dweight, 16);
  EXPECT_GE(dx, 2);
  EXPECT_LE(dx, 4);  // at its first call, and in whole steps
}

TEST(MonitorBudget, WhatMasksHideRaisesNoFlag) {
  Tensor x = ones({4, 64});
  for (int i = 0; i < 128; ++i) x.data<float>()[2 * i] = -std::numeric_limits<float>::infinity();
  const Tensor q = ones({1, 2, 64, 32});
  base::take_exceptions();
  exp(x), softmax(x), attention(q, q, q, {.causal = true});
  EXPECT_EQ(base::take_exceptions(), 0u);
}

TEST(MonitorBudget, BreakingMeansWatchingAll) {
  Monitor m({.break_on = BreakOn::nonfinite, .whole_every = 8});
  const Tensor x = ones({4});
  for (int i = 0; i < 6; ++i) {
    m.step();
    relu(x);
  }
  EXPECT_EQ(calls_of(m, "relu"), 6);
}

TEST(MonitorBudget, PausedMonitorsDoNotLook) {
  Monitor m;
  const Tensor x = ones({4});
  for (int i = 0; i < 4; ++i) {
    m.step();
    relu(x);
    m.pause();
    EXPECT_TRUE(m.paused());
    relu(x), relu(x);
    m.resume();
  }
  EXPECT_FALSE(m.paused());
  EXPECT_EQ(calls_of(m, "relu"), 4);
}

/// A program whose steps take `plain` nanoseconds, and `watched` more where they are watched whole.
struct Program {
  Governor g;
  uint64_t now = 0, plain = 1'000'000, watched = 90'000;
  int64_t step = 0;
  explicit Program(double budget) { g.begin(budget, 0, 0); }
  /// Runs steps; the share of those that were watched whole.
  double run(int steps) {
    int whole = 0;
    for (int i = 0; i < steps; ++i) {
      const bool all = g.whole();
      if (!all) g.left_out();
      whole += all;
      now += plain + (all ? watched : 0) + uint64_t(step % 7) * 300;
      g.turn(++step, now, all ? 500 : 0, all ? 10 << 20 : 0);
    }
    return double(whole) / steps;
  }
};

TEST(MonitorBudget, TheFirstStepsAreWatchedWholeWhateverTheyCost) {
  Program p(0.02);
  p.watched = 10'000'000;
  EXPECT_EQ(p.run(500), 1.0);  // 0.24 ms of work each by the count, half of the allowance
}

TEST(MonitorBudget, HoldsTheBudget) {
  Program p(0.02);
  p.run(2000);
  EXPECT_NEAR(p.g.share(), 0.09, 0.01);
  EXPECT_GE(p.g.every(), 4u);
  EXPECT_LE(p.g.every(), 7u);
  EXPECT_LE(p.run(600) * 0.09, 0.02);
  p.watched = 12'000;  // now 1.2 %: all of it fits
  p.run(600);
  EXPECT_EQ(p.g.every(), 1u);
  EXPECT_GE(p.run(160), 0.9);
  p.watched = 400'000;
  p.run(600);
  EXPECT_EQ(p.g.every(), Governor::kMost);
}

TEST(MonitorBudget, AnAlarmIsFollowedByWholeSteps) {
  Program p(0.02);
  p.run(2000);
  p.g.alarm(p.step);
  EXPECT_EQ(p.run(Governor::kClosely), 1.0);
  EXPECT_LE(p.run(64), 0.3);
  Program off(0);
  EXPECT_EQ(off.run(5000), 1.0);
}

}  // namespace
}  // namespace keel
