// The gradient scaler beside PyTorch: the sequences of scales were printed by torch.amp.GradScaler("cpu"), PyTorch 2.15.
#include "keel/optim/scaler.h"

#include <gtest/gtest.h>

#include <cmath>

#include "keel/error.h"
#include "keel/keel.h"

namespace keel {
namespace {

struct Outcome {
  std::vector<double> scales;
  std::vector<double> parameters;
  StateDict state;
};

constexpr int kFlags[] = {0, 0, 0, 1, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};  // 1: an infinity in the gradient, 2: a NaN

Outcome train(const optim::GradScalerOptions& o, DType t = f32) {
  optim::GradScaler scaler(o);
  Tensor p = ones({3}, {.dtype = t, .requires_grad = true});
  optim::SGD opt({p}, {.lr = 0.5});
  Outcome r;
  for (int flag : kFlags) {
    opt.zero_grad();
    const Tensor x = cast(tensor({flag == 1 ? double(INFINITY) : flag == 2 ? double(NAN) : 1.0, 2.0, 3.0}), t);
    scaler.scale(sum(p * x)).backward();
    scaler.step(opt);
    scaler.update();
    r.scales.push_back(scaler.get_scale());
  }
  const Tensor end = p.detach().to(f64);
  r.parameters.assign(end.data<double>(), end.data<double>() + 3);
  r.state = scaler.state_dict();
  return r;
}

TEST(GradScaler, ScalesFollowPyTorch) {
  const Outcome a = train({.init_scale = 1024, .growth_interval = 3});
  EXPECT_EQ(a.scales,
            (std::vector<double>{1024, 1024, 2048, 1024, 1024, 1024, 512, 256, 256, 256, 512, 512, 512, 1024, 1024, 1024, 2048, 1024}));
  EXPECT_EQ(a.parameters, (std::vector<double>{-6, -13, -20}));
  EXPECT_EQ(a.state.find("_growth_tracker")->item(), 0);
  const Outcome b = train({.init_scale = 3e38, .growth_factor = 1.7, .backoff_factor = 0.3, .growth_interval = 2});
  EXPECT_EQ(b.scales,
            (std::vector<double>{0x1.0ed57ap+126, 0x1.0ed57ap+126, 0x1.cc6ae8p+126, 0x1.144024p+125, 0x1.144024p+125, 0x1.d5a03ep+125,
                                 0x1.19c68cp+124, 0x1.522174p+122, 0x1.522174p+122, 0x1.1f693cp+123, 0x1.1f693cp+123, 0x1.e8994cp+123,
                                 0x1.e8994cp+123, 0x1.9f4f1ap+124, 0x1.9f4f1ap+124, 0x1.61033cp+125, 0x1.61033cp+125, 0x1.a79d7cp+123}));
  EXPECT_EQ(train({.init_scale = 1024, .growth_interval = 3}, bf16).scales, a.scales);
  EXPECT_EQ(train({.init_scale = 1024, .growth_interval = 3}, f64).scales, a.scales);
}

TEST(GradScaler, NeverGrowsBeyondF32) {
  optim::GradScaler s({.init_scale = 3e38, .growth_interval = 1});
  Tensor p = zeros({2}, {.requires_grad = true});
  optim::SGD opt({p}, {});
  s.scale(sum(p)).backward();
  s.step(opt);
  s.update();
  EXPECT_EQ(s.get_scale(), double(3e38f));
}

TEST(GradScaler, UnscaledGradientsAreThoseOfTheLoss) {
  optim::GradScaler s;
  Tensor p = ones({3}, {.requires_grad = true}), q = ones({2, 2}, {.dtype = f64, .requires_grad = true}),
         unused = ones({2}, {.requires_grad = true});
  optim::AdamW opt({p, q, unused}, {});
  s.scale(sum(p * tensor({0.1, -3.0, 7e-5})) + sum(q.to(f32)) * 0.3).backward();
  EXPECT_EQ(p.grad().to(f64).data<double>()[1], -3.0 * 65536);
  s.unscale_(opt);
  EXPECT_TRUE(array_equal(p.grad(), tensor({0.1, -3.0, 7e-5})));
  EXPECT_EQ(q.grad().data<double>()[3], double(0.3f));
  EXPECT_EQ(s.found_inf(opt).item(), 0);
  s.step(opt);
  s.update();
  EXPECT_FALSE(s.found_inf(opt).defined());
}

TEST(GradScaler, HalfLossesDoNotOverflow) {
  optim::GradScaler s;
  const Tensor loss = full(Shape(), 3.0, {.dtype = f16});
  EXPECT_EQ(s.scale(loss).dtype(), f32);
  EXPECT_EQ(s.scale(loss).item(), 3.0 * 65536);
  EXPECT_EQ(s.scale(full(Shape(), 3.0, {.dtype = f64})).dtype(), f64);
  EXPECT_EQ(s.scale(Tensors{loss, loss}).size(), 2);
}

TEST(GradScaler, TwoOptimisersShareTheScaleAndStepApart) {
  optim::GradScaler s({.init_scale = 8});
  Tensor p = ones({1}, {.requires_grad = true}), q = ones({1}, {.requires_grad = true});
  optim::SGD a({p}, {.lr = 1}), b({q}, {.lr = 1});
  s.scale(sum(p) + sum(q * INFINITY)).backward();
  s.step(a);
  s.step(b);
  EXPECT_EQ(s.found_inf(a).item(), 0);
  EXPECT_EQ(s.found_inf(b).item(), 1);
  EXPECT_EQ(p.item(), 0);
  EXPECT_EQ(q.item(), 1);
  s.update();
  EXPECT_EQ(s.get_scale(), 4);
}

TEST(GradScaler, RefusesWhatIsOutOfOrder) {
  optim::GradScaler s;
  Tensor p = ones({2}, {.requires_grad = true});
  optim::SGD opt({p}, {});
  EXPECT_THROW(s.update(), Error);
  EXPECT_THROW(s.step(opt), Error);  // no gradient
  s.update(4);
  s.scale(sum(p)).backward();
  s.unscale_(opt);
  EXPECT_THROW(s.unscale_(opt), Error);
  s.step(opt);
  EXPECT_THROW(s.step(opt), Error);
  EXPECT_THROW(s.unscale_(opt), Error);
  s.update();
  EXPECT_EQ(s.get_scale(), 4);
  EXPECT_THROW(optim::GradScaler({.init_scale = 0}), Error);
  EXPECT_THROW(optim::GradScaler({.growth_factor = 1}), Error);
  EXPECT_THROW(optim::GradScaler({.backoff_factor = 1}), Error);
  EXPECT_THROW(optim::GradScaler({.growth_interval = 0}), Error);
  Tensor half = ones({2}, {.dtype = f16, .requires_grad = true});
  optim::SGD low({half}, {});
  s.scale(sum(half.to(f32))).backward();
  EXPECT_THROW(s.unscale_(low), Error);
}

TEST(GradScaler, StateGoesToAnotherAndDisabledDoesNothing) {
  optim::GradScaler a({.init_scale = 16, .growth_interval = 5}), b;
  Tensor p = ones({2}, {.requires_grad = true});
  optim::SGD opt({p}, {.lr = 1});
  a.scale(sum(p)).backward();
  a.step(opt), a.update();
  b.load_state_dict(a.state_dict());
  EXPECT_EQ(b.get_scale(), 16);
  EXPECT_EQ(b.get_growth_interval(), 5);
  EXPECT_EQ(b.state_dict().find("_growth_tracker")->item(), 1);
  EXPECT_THROW(b.load_state_dict({}), Error);

  optim::GradScaler off({.enabled = false});
  EXPECT_FALSE(off.is_enabled());
  EXPECT_EQ(off.get_scale(), 1);
  const Tensor loss = full(Shape(), 2.0);
  EXPECT_TRUE(off.scale(loss).is(loss));
  p.zero_grad();
  sum(p * NAN).backward();
  off.unscale_(opt), off.step(opt), off.update();
  EXPECT_TRUE(std::isnan(p.sum().item()));
  EXPECT_TRUE(off.state_dict().empty());
  off.load_state_dict({});
}

TEST(GradScaler, ReplaysReadTheScaleAnew) {
  optim::GradScaler s({.init_scale = 8});
  const Tensor x = ones({2});
  Trace trace;
  Tensor y;
  {
    auto guard = trace.record({x});
    y = s.scale(sum(x));
  }
  const Graph g = trace.graph({y});
  s.update(32);
  EXPECT_EQ(g.run({x})[0].item(), 64);
}

/// A recorded step looks at nothing on the host: replays leave themselves out, and move the scale and its count, by the values of the day.
TEST(GradScaler, ReplayedStepsLeaveThemselvesOut) {
  const auto run = [](bool replayed) {
    optim::GradScaler scaler({.init_scale = 64, .growth_interval = 2});
    Tensor p = ones({3}, {.requires_grad = true});
    optim::SGD opt({p}, {.lr = 0.5, .momentum = 0.5});
    const auto f = [&](const Tensors& in) {
      opt.zero_grad();
      const Tensor loss = sum(p * in[0]);
      scaler.scale(loss).backward();
      scaler.step(opt);
      scaler.update();
      return Tensors{loss.detach()};
    };
    const auto batch = [](int flag) {
      return Tensors{tensor({flag == 1 ? double(INFINITY) : flag == 2 ? double(NAN) : 1.0, 2.0, 3.0}).astype(f32)};
    };
    std::vector<double> all;
    Graph g = replayed ? trace(f, batch(kFlags[0])) : Graph();
    bool first = true;
    for (int flag : kFlags) {
      if (!replayed)
        f(batch(flag));
      else if (!first)
        g.run(batch(flag));
      first = false;
      all.push_back(scaler.get_scale());
      all.push_back(scaler.state_dict().find("_growth_tracker")->item());
      const Tensor now = p.detach().to(f64);
      all.insert(all.end(), now.data<double>(), now.data<double>() + 3);
    }
    return all;
  };
  EXPECT_EQ(run(true), run(false));
}

TEST(Optimizer, StepUnlessChangesNothingWhereAsked) {
  Tensor p = ones({3}, {.requires_grad = true});
  optim::Adam opt({p}, {.lr = 0.5});
  sum(p * p).backward();
  opt.step_unless(ones(Shape()));
  EXPECT_TRUE(array_equal(p.detach(), ones({3})));
  EXPECT_EQ(opt.state_dict().find("state.0.step")->item(), 0);
  opt.step_unless(zeros(Shape()));
  EXPECT_FALSE(array_equal(p.detach(), ones({3})));
  EXPECT_EQ(opt.state_dict().find("state.0.step")->item(), 1);
  EXPECT_THROW(opt.step_unless(Tensor()), Error);
  EXPECT_THROW(opt.step_unless(ones({2})), Error);
}

/// A step that the scaler leaves out is no fault of the run.
TEST(GradScaler, MonitorsTakeAnOverflowForWhatItIs) {
  Tensor p = ones({3}, {.requires_grad = true});
  optim::SGD opt({p}, {.lr = 0.5});
  p.sum().backward();
  Monitor m(MonitorOptions{.foretell = false});
  m.step();
  opt.step_unless(ones(Shape()));
  m.step();
  EXPECT_EQ(m.blocked_steps(), 0);
  EXPECT_TRUE(array_equal(p.detach(), ones({3})));
}

}  // namespace
}  // namespace keel
