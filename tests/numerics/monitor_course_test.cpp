// Rules about slow courses and about what an optimiser's step is told: each speaks about a small planted sequence, and is silent about its
// repaired twin and about what looks like it.
#include <gtest/gtest.h>

#include <cmath>

#include "keel/keel.h"

namespace keel {
namespace {

/// Runs `body(step)` under a monitor; what it said, faults and warnings.
template <class F>
std::vector<Monitor::Finding> words(int steps, F&& body, Monitor& m) {
  for (int s = 1; s <= steps; ++s) m.step(), body(s);
  m.step();
  auto all = m.findings();
  for (const auto& w : m.warnings()) all.push_back(w);
  return all;
}
template <class F>
std::vector<Monitor::Finding> words(int steps, F&& body) {
  Monitor m;
  return words(steps, body, m);
}
/// The step and detector of each word: what a silent run has none of.
std::string text(const std::vector<Monitor::Finding>& all) {
  std::string lines;
  for (const auto& f : all) lines += std::to_string(f.step) + " [" + f.detector + "] " + f.op + ": " + f.text + "\n";
  return lines;
}

Tensor weight(double value, int64_t n = 4) {
  Tensor w = full({n}, value);
  w.requires_grad_();
  return w;
}
void give(Tensor& w, const Tensor& gradient) { w.set_grad(gradient); }

TEST(MonitorCourse, ARateThatIsNaNWritesNoWeight) {
  Tensor w = weight(1);
  optim::SGD opt({w}, {.lr = 0.1});
  Monitor m({.protect = true});
  const auto said = words(
      5, [&](int s) { opt.set_lr(s == 3 ? std::pow(-0.1, 0.9) : 0.1), give(w, ones({4})), opt.step(); }, m);
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].step, 3);
  EXPECT_EQ(said[0].op, "sgd_step");
  EXPECT_EQ(said[0].detector, "nonfinite");
  EXPECT_EQ(m.blocked_steps(), 1);
  EXPECT_TRUE(std::isfinite(w.detach()[0].item()));
}

TEST(MonitorCourse, DecayRatesInWrongOrder) {
  const auto run = [](double first, double second, bool largest) {
    Tensor w = weight(1);
    optim::Adam opt({w}, {.lr = 1e-3, .betas = {first, second}, .amsgrad = largest});
    return words(3, [&](int) { give(w, ones({4})), opt.step(); });
  };
  const auto said = run(0.999, 0.9, false);
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].op, "adam_step");
  EXPECT_EQ(said[0].step, 1);
  for (const auto& [first, second] : {std::pair{0.9, 0.999}, {0.9, 0.95}, {0.5, 0.9}, {0.95, 0.95}, {0.0, 0.99}})
    EXPECT_EQ(text(run(first, second, false)), "") << first << " " << second;
  EXPECT_EQ(text(run(0.999, 0.9, true)), "") << "the largest second moment does not fade";
}

TEST(MonitorCourse, StepsThatF32DoesNotFeel) {
  const auto run = [](double lr, auto&& gradient) {
    Tensor w = weight(1);
    optim::SGD opt({w}, {.lr = lr});
    return words(40, [&](int s) { give(w, gradient(s)), opt.step(); });
  };
  const auto steady = [](int s) { return full({4}, s % 2 ? 1.0 : -1.0); };
  const auto said = run(1e-9, steady);
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].detector, "absorbed update");
  EXPECT_EQ(said[0].suggestion.kind, "learning_rate");
  EXPECT_NEAR(std::log10(said[0].suggestion.value), 5, 0.1);
  EXPECT_EQ(text(run(1e-3, steady)), "");
  EXPECT_EQ(text(run(1e-3, [](int s) { return full({4}, std::exp2(-std::min(s, 40))); })), "") << "it has arrived";
  EXPECT_EQ(text(run(1e-9, [](int) { return zeros({4}); })), "") << "nothing was to be felt";
}

TEST(MonitorCourse, AScaleThatWalksPastZero) {
  const auto run = [](auto&& at) {
    Tensor scale = ones({4}), x = full({4}, 3.0);
    return words(60, [&](int s) { scale.fill_(at(s)), x / scale; });
  };
  const auto said = run([](int s) { return std::max(0.005, 0.5 - 0.01 * s); });
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].detector, "denominator");
  EXPECT_NEAR(double(said[0].step + said[0].eta), 50, 1);
  EXPECT_EQ(text(run([](int s) { return std::max(0.2, 1 - 0.01 * s); })), "") << "it stays away";
  EXPECT_EQ(text(run([](int s) { return std::exp(-0.02 * s); })), "") << "it never arrives";
}

TEST(MonitorCourse, AnglesThatBf16DoesNotTellApart) {
  const auto run = [](double largest, DType t) {
    const Tensor angle = linspace(0, largest, 64).to(t);
    return words(5, [&](int) { cos(angle); });
  };
  const auto said = run(200, bf16);
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].op, "cos");
  EXPECT_EQ(said[0].detector, "lost bits");
  EXPECT_EQ(text(run(30, bf16)), "");
  EXPECT_EQ(text(run(200, f16)), "");
  EXPECT_EQ(text(run(1e5, f32)), "");
}

TEST(MonitorCourse, ALossThatFallsFasterAndFaster) {
  const auto run = [](auto&& loss) {
    Tensor w = weight(1, 1);
    return words(300, [&](int s) { (w * loss(double(s))).backward(); });
  };
  const auto said = run([](double s) { return -1e-4 * s * s * s; });
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].detector, "growth");
  EXPECT_EQ(said[0].suggestion.kind, "stable_op");
  EXPECT_EQ(text(run([](double s) { return 5 - 32 * std::log(1 + 0.1 * s); })), "") << "a likelihood";
  EXPECT_EQ(text(run([](double s) { return -20 * s; })), "") << "along a line";
  EXPECT_EQ(text(run([](double s) { return -1e-7 * s * s; })), "") << "next to nothing";
  EXPECT_EQ(text(run([](double s) { return 1 + 1e-4 * s * s * s; })), "") << "it rises";
}

TEST(MonitorCourse, SigmoidsWithoutASlope) {
  const auto run = [](double width, bool learns) {
    Tensor w = weight(1);
    return words(20, [&](int) {
      const Tensor x = randn({32, 4}) * width;
      learns ? sigmoid(x * w) : sigmoid(x);
    });
  };
  const auto said = run(1e5, true);
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].op, "sigmoid");
  EXPECT_LE(said[0].step, 2);
  EXPECT_EQ(said[0].suggestion.kind, "data");
  EXPECT_EQ(text(run(10, true)), "");
  EXPECT_EQ(text(run(1e5, false)), "") << "nothing learns through it";
}

TEST(MonitorCourse, AFactorThatBf16RoundsToOne) {
  const auto run = [](double factor, DType t) {
    Tensor average = full({8}, 1.5).to(t);
    return words(3, [&](int) { average.mul_(factor); });
  };
  const auto said = run(0.999, bf16);
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].op, "mul");
  EXPECT_EQ(said[0].suggestion.kind, "accumulator");
  EXPECT_EQ(text(run(0.99, bf16)), "");
  EXPECT_EQ(text(run(1.0, bf16)), "");
  EXPECT_EQ(text(run(0.999, f32)), "");
}

TEST(MonitorCourse, ALoneSpikeOfTheGradientIsATailAndTwoAreNot) {
  const auto run = [](int spikes) {
    Tensor w = weight(1);
    optim::SGD opt({w}, {.lr = 1e-6});
    return words(80, [&](int s) { give(w, (1 + 0.2 * rand({4})) * (s >= 60 && s < 60 + spikes ? 300.0 : 1.0)), opt.step(); });
  };
  EXPECT_EQ(text(run(1)), "");
  const auto said = run(2);
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].detector, "gradient norm");
}

TEST(MonitorCourse, AMeanOverNoTargetsBlamesTheData) {
  const Tensor logits = randn({6, 4});
  const auto said = words(1, [&](int) { cross_entropy(logits, full({6}, -100).to(i64)); });
  ASSERT_EQ(said.size(), 1u) << text(said);
  EXPECT_EQ(said[0].suggestion.kind, "data");
}

TEST(MonitorCourse, ALossThatStaysHighAfterALongStep) {
  const auto run = [](double gradient, double factor) {
    Tensor w = weight(1);
    optim::SGD opt({w}, {.lr = 1});
    return words(14, [&](int s) {
      (sum(square(w)) * (s > 1 ? factor : 1.0)).backward();
      give(w, full({4}, s == 1 ? gradient : 1e-3)), opt.step();
    });
  };
  const auto said = run(100, 1);
  ASSERT_FALSE(said.empty());
  EXPECT_EQ(said[0].detector, "growth") << text(said);
  EXPECT_EQ(said[0].op, "sgd_step");
  EXPECT_EQ(said[0].suggestion.kind, "learning_rate");
  EXPECT_LT(said[0].suggestion.value, 0.01);
  EXPECT_EQ(text(run(0.1, 1)), "");
  EXPECT_EQ(text(run(0.1, 100)), "");  // a loss that the program multiplies
}

TEST(MonitorCourse, AnInfinityThatWasMeantReachesTheLoss) {
  const auto run = [](int masked_from) {
    Tensor w = weight(1);
    return words(6, [&](int s) {
      const Tensor scores = where(arange(4) < (s < masked_from ? 3 : 0), w, -INFINITY);
      (-logsumexp(scores)).backward();
    });
  };
  const auto said = run(4);
  ASSERT_FALSE(said.empty());
  EXPECT_EQ(said[0].op, "logsumexp") << text(said);
  EXPECT_EQ(said[0].step, 4);
  EXPECT_EQ(text(run(9)), "");
}

}  // namespace
}  // namespace keel
