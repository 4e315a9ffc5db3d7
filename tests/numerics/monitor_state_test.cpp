// What an optimiser makes by itself: numbers that are not finite are held back and named, moments and steps that go astray are seen before.
// And averages that rounding holds in place.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "keel/keel.h"

namespace keel {
namespace {

std::vector<Monitor::Finding> said(Monitor& m) {
  m.step();
  auto all = m.findings();
  for (const auto& w : m.warnings()) all.push_back(w);
  return all;
}
std::string text(const std::vector<Monitor::Finding>& all) {
  std::string lines;
  for (const auto& f : all) lines += std::to_string(f.step) + " [" + f.detector + "] " + f.op + ": " + f.text + "\n";
  return lines;
}
const Monitor::Finding* find(const std::vector<Monitor::Finding>& all, const std::string& detector, const std::string& op) {
  for (const auto& f : all)
    if (f.detector == detector && f.op == op) return &f;
  return nullptr;
}
bool finite(const Tensor& x) { return all(isfinite(x.detach().to(f64))).item<bool>(); }

using Make = std::function<optim::Optimizer(const Tensors&)>;
struct Form {
  const char *name, *op;
  Make make;
};
const Form kForms[] = {
    {"sgd", "sgd_step", [](const Tensors& p) { return optim::SGD(p, {.lr = 0.1}); }},
    {"nesterov", "sgd_step",
     [](const Tensors& p) { return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true}); }},
    {"adam", "adam_step", [](const Tensors& p) { return optim::Adam(p, {.lr = 0.1}); }},
    {"amsgrad", "adam_step", [](const Tensors& p) { return optim::Adam(p, {.lr = 0.1, .amsgrad = true}); }},
    {"adamw", "adam_step", [](const Tensors& p) { return optim::AdamW(p, {.lr = 0.1, .weight_decay = 0.1}); }},
    {"rmsprop", "rmsprop_step", [](const Tensors& p) { return optim::RMSprop(p, {.lr = 0.1, .momentum = 0.5}); }},
    {"centred", "rmsprop_step", [](const Tensors& p) { return optim::RMSprop(p, {.lr = 0.1, .centered = true}); }},
    {"centred with momentum", "rmsprop_step",
     [](const Tensors& p) { return optim::RMSprop(p, {.lr = 0.1, .momentum = 0.9, .centered = true}); }},
};

/// A weight of 37 elements, and one whose memory is not in order.
Tensors weights(DType t) {
  manual_seed(3);
  Tensors p{randn({37}).to(t), randn({5, 9}).to(t).transpose(0, 1)};
  for (Tensor& w : p) w.requires_grad_();
  return p;
}

TEST(MonitorState, AGuardChangesNoBitOfWhatIsFinite) {
  for (const auto& [name, op, make] : kForms)
    for (const DType t : {f32, f64, bf16, f16}) {
      SCOPED_TRACE(std::string(name) + " " + name_of(t));
      const auto train = [&](bool watched) {
        const Tensors p = weights(t);
        optim::Optimizer opt = make(p);
        std::unique_ptr<Monitor> m;
        if (watched) m = std::make_unique<Monitor>(MonitorOptions{.protect = true});
        for (int s = 0; s < 5; ++s) {
          for (Tensor w : p) w.set_grad((randn(w.shape()) * 0.1).to(t));
          if (m) m->step();
          opt.step();
        }
        return p;
      };
      const Tensors plain = train(false), guarded = train(true);
      for (int64_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(array_equal(plain[i].detach(), guarded[i].detach()));
    }
}

TEST(MonitorState, WhatAStepMakesInfiniteIsHeldBack) {
  for (const auto& [name, op, make] : kForms) {
    SCOPED_TRACE(name);
    const bool sgd = std::string(op) == "sgd_step";
    const Tensors p = weights(f32), calm = weights(f32);
    optim::Optimizer opt = make(p), other = make(calm);
    Monitor m({.protect = true});
    for (int s = 1; s <= 4; ++s) {
      for (int64_t i = 0; i < p.size(); ++i) {
        const Tensor g = randn(p[i].shape());
        Tensor(calm[i]).set_grad(g.clone()), Tensor(p[i]).set_grad(g.clone());
      }
      // Finite, but its square is not; and such a step of SGD takes the weight out of range.
      if (s == 3) p[0].grad().data<float>()[36] = sgd ? -3.4e38f : 1e25f, p[0].detach().data<float>()[36] = sgd ? 3.4e38f : 1.0f;
      m.step();
      opt.step(), other.step();
      for (const Tensor& w : p) EXPECT_TRUE(finite(w)) << s;
      if (s == 3) { EXPECT_EQ(p[0].detach()[36].item<float>(), sgd ? 3.4e38f : 1.0f); }
    }
    for (const auto& [key, value] : opt.state_dict()) EXPECT_TRUE(!is_floating(value.dtype()) || finite(value)) << key;
    EXPECT_TRUE(array_equal(p[0].detach()[slice(0, 36)], calm[0].detach()[slice(0, 36)])) << "its neighbours are stepped";
    EXPECT_TRUE(array_equal(p[1].detach(), calm[1].detach()));
    const auto all = said(m);
    const auto* f = find(all, "nonfinite", op);
    ASSERT_TRUE(f) << text(all);
    EXPECT_EQ(f->step, 3);
    EXPECT_NE(f->text.find("parameter 0"), std::string::npos) << f->text;
    EXPECT_EQ(m.blocked_steps(), 0);
  }
}

TEST(MonitorState, AWeightThatItsFormatDoesNotHold) {
  for (const bool master : {false, true}) {
    Tensor w = full({8}, 65000.0).to(f16);
    w.requires_grad_();
    optim::SGD opt({w}, {.lr = 1, .master_weights = master});
    Monitor m({.protect = true});
    w.set_grad(full({8}, -1000.0).to(f16));
    m.step(), opt.step();
    EXPECT_EQ(w.detach()[0].item(), 64992) << "65000 in f16";
    const auto all = said(m);
    EXPECT_TRUE(find(all, "nonfinite", "sgd_step")) << text(all);
  }
}

TEST(MonitorState, NothingToDivideBy) {
  for (const bool protect : {false, true}) {
    Tensor w = ones({8});
    w.requires_grad_();
    optim::RMSprop opt({w}, {.lr = 0.1, .eps = 0});
    Monitor m({.protect = protect});
    Tensor g = ones({8});
    g.data<float>()[5] = 0;
    w.set_grad(g);
    m.step(), opt.step();
    EXPECT_EQ(finite(w), protect);
    const auto all = said(m);
    const auto* f = find(all, "nonfinite", "rmsprop_step");
    ASSERT_TRUE(f) << text(all);
    EXPECT_EQ(f->step, 1);
    EXPECT_EQ(f->suggestion.kind, "epsilon") << f->text;
  }
}

TEST(MonitorState, AStepMayBeStoppedAt) {
  Tensor w = ones({8});
  w.requires_grad_();
  optim::Adam opt({w}, {});
  Monitor m({.break_on = BreakOn::nonfinite, .protect = true});
  w.set_grad(full({8}, 1e30));
  m.step();
  EXPECT_THROW(opt.step(), Error);
  EXPECT_TRUE(finite(w));
}

/// Gradients of one parameter; gives what was said. `gradient` of a step.
template <class Gradient>
std::vector<Monitor::Finding> course(const Make& make, int steps, Gradient gradient, double at = 1) {
  Tensor w = full({8}, at);
  w.requires_grad_();
  optim::Optimizer opt = make({w});
  Monitor m({.protect = true});
  for (int s = 1; s <= steps; ++s) w.set_grad(gradient(s)), m.step(), opt.step();
  EXPECT_TRUE(finite(w));
  return said(m);
}

TEST(MonitorState, ADeviationThatCancels) {
  const Make centred = [](const Tensors& p) { return optim::RMSprop(p, {.lr = 1e-4, .alpha = 0.9, .centered = true}); };
  // Gradients that differ in the sixth digit: what is left of E[g^2] - E[g]^2 is rounding.
  auto all = course(centred, 300, [](int s) { return full({8}, 3 + 3e-6 * (s % 2)); });
  const auto* f = find(all, "lost bits", "rmsprop_step");
  ASSERT_TRUE(f) << text(all);
  EXPECT_LT(f->step, 130);
  EXPECT_EQ(f->suggestion.kind, "stable_op");
  manual_seed(1);
  all = course(centred, 300, [](int) { return 3 + 0.3 * randn({8}); });
  EXPECT_EQ(text(all), "");
  all = course(centred, 300, [](int) { return zeros({8}); });
  EXPECT_EQ(text(all), "");
}

TEST(MonitorState, StepsThatGrowWhileTheGradientStandsStill) {
  const Make centred = [](const Tensors& p) { return optim::RMSprop(p, {.lr = 1e-5, .alpha = 0.5, .centered = true}); };
  const auto settling = [](int s) { return 1 + std::pow(0.96, s) * 0.3 * (s % 2 ? ones({8}) : -ones({8})); };
  const auto all = course(centred, 120, settling);
  const auto* f = find(all, "growth", "rmsprop_step");
  ASSERT_TRUE(f) << text(all);
  EXPECT_LT(f->step, 110);
  EXPECT_EQ(text(course([](const Tensors& p) { return optim::RMSprop(p, {.lr = 1e-5, .alpha = 0.5}); }, 120, settling)), "");
  EXPECT_EQ(text(course([](const Tensors& p) { return optim::Adam(p, {.lr = 1e-5}); }, 120, settling)), "");
  EXPECT_EQ(
      text(course([](const Tensors& p) { return optim::SGD(p, {.lr = 1e-5, .momentum = 0.99}); }, 200, [](int) { return ones({8}); })), "");
}

TEST(MonitorState, AStepThatLeaps) {
  const Make sgd = [](const Tensors& p) { return optim::SGD(p, {.lr = 0.01}); };
  const auto all = course(sgd, 60, [](int s) { return full({8}, s == 40 ? 400.0 : s % 2 ? 1.0 : -1.0); });
  const auto* f = find(all, "growth", "sgd_step");
  ASSERT_TRUE(f) << text(all);
  EXPECT_EQ(f->step, 40);
  EXPECT_EQ(f->suggestion.kind, "clip");
  const auto* none = find(course(
                              sgd, 60, [](int s) { return full({8}, s % 2 ? 1.0 : -1.0); }, 1e-6),
                          "growth", "sgd_step");
  EXPECT_FALSE(none) << "from 0 a step may be long";
}

TEST(MonitorState, SecondMomentsThatLeaveTheirFormat) {
  const Make adam = [](const Tensors& p) { return optim::Adam(p, {.lr = 1e-3}); };
  const auto all = course(adam, 90, [](int s) { return full({8}, std::exp2(s < 20 ? 0.0 : s - 20.0)); });
  const auto* f = find(all, "headroom", "adam_step");
  ASSERT_TRUE(f) << text(all);
  EXPECT_LE(f->step, 78) << text(all);
  EXPECT_NEAR(double(f->step + f->eta), 20 + 64 + 5, 3) << "v is a thousandth of the square";
}

/// `share` of the way from an average to a value that walks, copied back; in `t`.
std::vector<Monitor::Finding> average(DType t, double share, double pace, bool copied = true) {
  manual_seed(2);
  const Tensor start = randn({200}), way = randn({200});
  Tensor kept = start.to(t).clone();
  Monitor m;
  for (int s = 1; s <= 40; ++s) {
    m.step();
    const Tensor next = lerp(kept, (start + (pace * s) * way).to(t), share);
    if (copied) kept.copy_(next);
  }
  return said(m);
}

TEST(MonitorState, AnAverageThatStandsStill) {
  auto all = average(f16, 1e-5, 0.02);
  const auto* f = find(all, "absorbed update", "lerp");
  ASSERT_TRUE(f) << text(all);
  EXPECT_LE(f->step, 12);
  EXPECT_EQ(f->suggestion.kind, "accumulator");
  EXPECT_GT(f->suggestion.value, 1e-5);
  EXPECT_EQ(text(average(f32, 1e-5, 0.02)), "");
  EXPECT_EQ(text(average(f16, 0.1, 0.02)), "");
  EXPECT_EQ(text(average(f16, 1e-5, 0.02, false)), "") << "nobody keeps it";
  EXPECT_EQ(text(average(f16, 1e-5, 0)), "") << "it has arrived";
  all = average(f32, 1e-9, 0.02);
  EXPECT_TRUE(find(all, "absorbed update", "lerp")) << text(all);
}

}  // namespace
}  // namespace keel
