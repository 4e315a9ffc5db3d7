// Schedules: PyTorch's values, and saving in the middle.
#include <gtest/gtest.h>

#include "keel/keel.h"
#include "unit/schedule_goldens.h"

namespace keel {
namespace {

optim::SGD make_optimizer() {
  Tensor p = zeros({1});
  return optim::SGD({p.requires_grad_()}, {.lr = 0.1, .momentum = 0.9});
}

void expect_rates(optim::Optimizer opt, optim::Scheduler s, const std::vector<double>& want, const char* what = "lr", bool metric = false,
                  double sign = 1) {
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(opt.get(0, what), want[i], 1e-12) << "step " << i;
    if (i + 1 == want.size()) break;
    if (metric) s.step(sign * goldens::metric[i]);
    else s.step();
  }
}

TEST(Schedules, StepLR) {
  auto opt = make_optimizer();
  expect_rates(opt, optim::StepLR(opt, {.step_size = 3, .gamma = 0.5}), goldens::step);
}
TEST(Schedules, MultiStepLR) {
  auto opt = make_optimizer();
  expect_rates(opt, optim::MultiStepLR(opt, {.milestones = {2, 5, 5, 9}, .gamma = 0.3}), goldens::multistep);
}
TEST(Schedules, ExponentialLR) {
  auto opt = make_optimizer();
  expect_rates(opt, optim::ExponentialLR(opt, {.gamma = 0.93}), goldens::exponential);
}
TEST(Schedules, CosineAnnealing) {
  auto opt = make_optimizer();
  optim::CosineAnnealing schedule(opt, {.total_steps = 20, .min_lr = 0.002});
  expect_rates(opt, schedule, goldens::cosine);
  schedule.step();
  EXPECT_EQ(opt.lr(), 0.002);  // and stays there
}
TEST(Schedules, CosineAnnealingWithWarmUp) {
  auto opt = make_optimizer();
  expect_rates(opt, optim::CosineAnnealing(opt, {.total_steps = 20, .warmup_steps = 5, .warmup_start = 0.1, .min_lr = 0.001}),
               goldens::cosine_warm);
}
TEST(Schedules, OneCycle) {
  auto a = make_optimizer(), b = make_optimizer(), c = make_optimizer(), d = make_optimizer(), e = make_optimizer();
  expect_rates(a, optim::OneCycle(a, {.max_lr = 0.4, .total_steps = 25}), goldens::one_cycle);
  expect_rates(b, optim::OneCycle(b, {.max_lr = 0.4, .total_steps = 25}), goldens::one_cycle_momentum, "momentum");
  expect_rates(
      c,
      optim::OneCycle(c, {.max_lr = 0.4, .total_steps = 25, .pct_start = 0.2, .div_factor = 10, .final_div_factor = 100, .linear = true}),
      goldens::one_cycle_linear);
  expect_rates(d, optim::OneCycle(d, {.max_lr = 0.4, .total_steps = 30, .three_phase = true}), goldens::one_cycle_three);
  expect_rates(e, optim::OneCycle(e, {.max_lr = 0.4, .total_steps = 30, .three_phase = true}), goldens::one_cycle_three_momentum,
               "momentum");
  optim::OneCycle short_cycle(a, {.max_lr = 0.4, .total_steps = 2});
  short_cycle.step();
  EXPECT_THROW(short_cycle.step(), Error);
}
TEST(Schedules, ReduceOnPlateau) {
  auto a = make_optimizer(), b = make_optimizer();
  optim::ReduceOnPlateau schedule(a, {.factor = 0.5, .patience = 2, .cooldown = 1});
  EXPECT_THROW(schedule.step(), Error);
  expect_rates(a, schedule, goldens::plateau, "lr", true);
  expect_rates(
      b, optim::ReduceOnPlateau(b, {.maximize = true, .factor = 0.1, .patience = 1, .threshold = 0.01, .absolute = true, .min_lr = 0.002}),
      goldens::plateau_max, "lr", true, -1);
}
TEST(Schedules, LambdaLR) {
  auto opt = make_optimizer();
  expect_rates(opt, optim::LambdaLR(opt, [](int64_t t) { return 1.0 / (1.0 + double(t)); }), goldens::lambda_rule);
}

TEST(Schedules, StateGoesOnInTheMiddle) {
  auto a = make_optimizer(), b = make_optimizer();
  optim::CosineAnnealing first(a, {.total_steps = 20, .min_lr = 0.002});
  for (int i = 0; i < 7; ++i) first.step();
  b.set_lr(99);  // what a fresh optimiser has does not matter
  optim::CosineAnnealing second(b, {.total_steps = 20, .min_lr = 0.002});
  second.load_state_dict(first.state_dict());
  EXPECT_EQ(second.steps_done(), 7);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(a.lr(), b.lr());
    first.step(), second.step();
  }
  auto c = make_optimizer(), d = make_optimizer();
  optim::ReduceOnPlateau p(c, {.patience = 1}), q(d, {.patience = 1});
  for (double m : {1.0, 1.0, 1.0, 1.0}) p.step(m);
  q.load_state_dict(p.state_dict());
  for (double m : {1.0, 0.5, 0.6, 0.6, 0.6}) {
    p.step(m), q.step(m);
    EXPECT_EQ(c.lr(), d.lr());
  }
}

TEST(Schedules, MistakesAreRefused) {
  auto opt = make_optimizer();
  EXPECT_THROW(optim::CosineAnnealing(opt, {}), Error);
  EXPECT_THROW(optim::CosineAnnealing(opt, {.total_steps = 5, .warmup_steps = 5}), Error);
  EXPECT_THROW(optim::StepLR(opt, {.step_size = 0}), Error);
  EXPECT_THROW(optim::OneCycle(opt, {}), Error);
}

}  // namespace
}  // namespace keel
