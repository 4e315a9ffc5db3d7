// The monitor's rules: each one speaks about a small planted sequence, and is silent about its repaired twin.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "keel/keel.h"
#include "support/training.h"

namespace keel {
namespace {

std::string all_of(const Monitor& m) {
  std::string text;
  for (const auto& f : m.warnings())
    text += "step " + std::to_string(f.step) + " " + f.detector + " " + f.op + " " + f.path + ": " + f.text + "\n";
  for (const auto& f : m.findings()) text += "step " + std::to_string(f.step) + " FAULT " + f.op + " " + f.path + ": " + f.text + "\n";
  return text;
}
const Monitor::Finding* said(const std::vector<Monitor::Finding>& all, const char* detector) {
  for (const auto& f : all)
    if (f.detector == detector) return &f;
  return nullptr;
}

/// Runs `body(step)` under a monitor and returns what it warned of by rule `detector`; an empty finding where it did not.
template <class F>
Monitor::Finding warned(const char* detector, int steps, F&& body, std::string* everything = nullptr) {
  Monitor m;
  for (int s = 1; s <= steps; ++s) {
    m.step();
    body(s);
  }
  m.step();
  if (everything) *everything = all_of(m);
  const auto w = m.warnings();
  const auto* f = said(w, detector);
  return f ? *f : Monitor::Finding{};
}
template <class F>
void silent(int steps, F&& body) {
  std::string all;
  warned("", steps, body, &all);
  EXPECT_EQ(all, "");
}

TEST(MonitorDetectors, HeadroomOfF16) {
  const Tensor x = ones({4}, {.dtype = f16});
  const auto f = warned("headroom", 300, [&](int s) { x* std::min(8 * std::pow(1.04, s), 65000.0); });
  EXPECT_EQ(f.op, "mul");
  EXPECT_LE(f.step, 230 - 20) << f.text;
  EXPECT_GT(f.step, 100) << f.text;
  EXPECT_EQ(f.suggestion.kind, "dtype");
  silent(100, [&](int s) { x*(2000 + 100 * (s % 3)); });
  silent(100, [&](int s) { x*(1000 * (1 - std::exp(-s / 5.0))); });  // a warm-up that ends
}

TEST(MonitorDetectors, HeadroomOfF32WithAForecast) {
  const Tensor x = ones({4});
  const auto f = warned("headroom", 40, [&](int s) { x* std::exp2(3.0 * s); });
  EXPECT_EQ(f.op, "mul");
  EXPECT_GE(f.eta, 10);
  EXPECT_NEAR(double(f.step + f.eta), 128.0 / 3, 2) << f.text;
  silent(60, [&](int s) { x* std::exp2(0.5 * s); });
  silent(60, [&](int s) { x* std::exp2(s < 30 ? 2.0 : s < 40 ? -60.0 : std::min(-60.0 + 7 * (s - 40), 1.0)); });  // comes back
}

TEST(MonitorDetectors, AMaskIsNoLackOfHeadroom) {
  const Tensor x = randn({8, 8}).to(f16), mask = where(randn({8, 8}) > 0, zeros({8, 8}), -60000.0).to(f16);
  silent(50, [&](int) { softmax(x + mask); });
  const Tensor y = randn({8, 8});
  silent(60, [&](int s) { softmax(y + where(rand({8, 8}) > (s > 30 ? 0.5 : 2.0), zeros({8, 8}), -1e9)); });
}

TEST(MonitorDetectors, ArgumentOfExp) {
  const Tensor x = ones({4});
  const auto f = warned("argument", 20, [&](int s) { log(1 + exp(x * (4.0 * s))); });
  EXPECT_EQ(f.op, "exp");
  EXPECT_LE(f.step, 10);
  EXPECT_NEAR(double(f.step + f.eta), 22, 2) << f.text;
  EXPECT_EQ(f.suggestion.kind, "stable_op");
  silent(30, [&](int s) { softplus(x * (4.0 * s)); });
}

TEST(MonitorDetectors, VanishingDenominators) {
  const Tensor x = rand({64}) + 0.5;
  for (const bool root : {false, true}) {
    const auto f = warned(root ? "argument" : "denominator", 145, [&](int s) {
      const Tensor b = x * std::exp2(-0.9 * s);
      if (root)
        rsqrt(b);
      else
        x / b;
    });
    EXPECT_EQ(f.op, root ? "rsqrt" : "div");
    EXPECT_GE(f.eta, 20) << f.text;
    EXPECT_EQ(f.suggestion.kind, "epsilon");
    EXPECT_GT(f.suggestion.value, 1e-6);
    EXPECT_GT(f.low, 0);
  }
  silent(145, [&](int s) { rsqrt(x * std::exp2(-0.9 * s) + 1e-5); });
  silent(200, [&](int) { x / (rand({64}) + 1e-3); });
}

TEST(MonitorDetectors, RootsCountOnlyWithAGradient) {
  Tensor x = rand({16}) + 0.5;
  silent(70, [&](int s) { sqrt(x * std::exp2(-2.0 * s)); });
  x.requires_grad_();
  EXPECT_EQ(warned("argument", 70, [&](int s) { sqrt(x * std::exp2(-2.0 * s)); }).op, "sqrt");
}

TEST(MonitorDetectors, LostBits) {
  manual_seed(0);
  const Tensor noise = 0.1 * randn({64});
  const auto one_pass = [&](int s) {
    const Tensor x = noise + std::pow(1.5, s);
    return rsqrt(mean(square(x)) - square(mean(x)) + 1e-6);
  };
  const auto f = warned("lost bits", 13, one_pass);
  EXPECT_EQ(f.op, "sub");
  EXPECT_LE(f.step, 9) << f.text;
  EXPECT_GT(f.lost_ulps, 1000);
  EXPECT_EQ(f.suggestion.kind, "stable_op");
  silent(13, [&](int s) {
    const Tensor x = noise + std::pow(1.5, s);
    rsqrt(mean(square(x - mean(x))) + 1e-6);
  });
  const auto g = warned("lost bits", 30, [&](int s) { log(1 - sigmoid(full({4}, 0.5 * s))); });
  EXPECT_EQ(g.op, "sub");
  EXPECT_LE(g.step, 24) << g.text;
}

TEST(MonitorDetectors, GrowingLoss) {
  Tensor w = ones({4});
  w.requires_grad_();
  const auto f = warned("growth", 30, [&](int s) {
    sum(square(w * std::pow(1.5, s))).backward();
    w.zero_grad();
  });
  EXPECT_EQ(f.op, "sum");
  EXPECT_LE(f.step, 9);
  EXPECT_EQ(f.suggestion.kind, "learning_rate");
  silent(60, [&](int s) {
    sum(square(w * (1 + 0.5 * (s % 5)))).backward();
    w.zero_grad();
  });
}

TEST(MonitorDetectors, JumpOfOneValue) {
  const Tensor x = randn({32, 32});
  const auto f = warned("growth", 40, [&](int s) {
    Tensor y = matmul(x, x);
    if (s == 30) static_cast<float*>(y.raw_data())[5] = float(std::ldexp(1.0, 40));  // unseen, as a fault of the memory is
    relu(y) + 1;
  });
  EXPECT_EQ(f.op, "relu");
  EXPECT_EQ(f.step, 30);
  EXPECT_EQ(f.suggestion.kind, "hardware");
}

TEST(MonitorDetectors, GradientUnderflow) {
  const Tensor x = randn({16, 16}).to(f16);
  Tensor w = randn({16, 16}).to(f16);
  w.requires_grad_();
  const auto train = [&](double by) {
    return [&, by](int s) {
      (mean(square(matmul(x, w).to(f32))) * std::exp2(-0.2 * s) * by).backward();
      w.zero_grad();
    };
  };
  const auto f = warned("underflow", 100, train(1));
  EXPECT_EQ(f.phase, "backward");
  EXPECT_LE(f.step, 60) << f.text;
  EXPECT_EQ(f.suggestion.kind, "loss_scale");
  EXPECT_GT(f.suggestion.value, 1000);
  silent(30, train(4096));
}

TEST(MonitorDetectors, AbsorbedUpdates) {
  const auto train = [](DType t, double lr) {
    return [t, lr, w = std::make_shared<Tensor>(), opt = std::make_shared<optim::Optimizer>()](int s) {
      if (s == 1) {
        *w = (rand({32}) * 0.5 + 0.75).to(t);
        w->requires_grad_();
        *opt = optim::Adam({*w}, {.lr = lr});
      }
      sum(*w * (s % 2 ? 1.0 : 0.5)).backward();
      opt->step();
      opt->zero_grad();
    };
  };
  const auto f = warned("absorbed update", 20, train(bf16, 1e-3));
  EXPECT_EQ(f.op, "adam_step");
  EXPECT_EQ(f.phase, "optimiser");
  EXPECT_LE(f.step, 10);
  EXPECT_EQ(f.suggestion.kind, "master_weights");
  silent(20, train(f32, 1e-3));
  silent(20, train(bf16, 2e-2));
}

TEST(MonitorDetectors, StaleSecondMoment) {
  Tensor w = zeros({64});
  w.requires_grad_();
  for (const double jump : {1.0, 30.0}) {
    optim::Adam opt({w}, {.lr = 1e-3});
    std::string all;
    const auto f = warned(
        "adam", 130,
        [&](int s) {
          sum(w * randn({64}) * (s > 120 ? jump : 1.0)).backward();
          opt.step();
          opt.zero_grad();
        },
        &all);
    if (jump > 1) {
      EXPECT_EQ(f.op, "adam_step");
      EXPECT_EQ(f.step, 121);
      EXPECT_EQ(f.suggestion.kind, "clip");
    } else {
      EXPECT_EQ(all, "");
    }
  }
}

TEST(MonitorDetectors, ProtectKeepsWeightsClean) {
  for (const bool adam : {false, true}) {
    Tensor w = ones({8});
    w.requires_grad_();
    optim::Optimizer opt = adam ? optim::Optimizer(optim::Adam({w}, {.lr = 0.1})) : optim::Optimizer(optim::SGD({w}, {.lr = 0.1}));
    Monitor m({.protect = true});
    for (int s = 1; s <= 4; ++s) {
      m.step();
      const Tensor before = w.detach().clone();
      Tensor x = ones({8});
      if (s == 3) x[{2}] = 0;
      sum(log(x * w)).backward();
      opt.step();
      opt.zero_grad();
      EXPECT_EQ(array_equal(before, w.detach()), s == 3);
    }
    EXPECT_EQ(m.blocked_steps(), 1);
    ASSERT_FALSE(m.findings().empty());
    EXPECT_EQ(m.findings()[0].op, "log");
    EXPECT_TRUE(isfinite(w.detach()).all().item<bool>());
  }
}

TEST(MonitorDetectors, SkippedStepsOfALossScale) {
  const Tensor x = randn({16, 8}).to(f16);
  Tensor w = randn({8, 4}).to(f16);
  w.requires_grad_();
  optim::SGD opt({w}, {.lr = 1e-4});
  const auto run = [&](double first, bool always) {
    Monitor m;
    double scale = first;
    for (int s = 1; s <= 40; ++s) {
      m.step();
      opt.zero_grad();
      Tensor y = matmul(x, w);
      if (always) y = y * 60000.0;
      (sum(square(y.to(f32))) * scale).backward();
      if (isfinite(w.grad()).all().item<bool>()) {
        NoGrad off;
        w.grad().div_(scale);
        opt.step();
        if (s % 5 == 0) scale *= 2;
      } else {
        scale /= 2;
      }
    }
    m.step();
    return std::pair(m.warnings(), m.findings());
  };
  const auto [warnings, faults] = run(64, false);
  EXPECT_TRUE(warnings.empty()) << warnings[0].text;
  EXPECT_TRUE(faults.empty()) << faults[0].text;
  const auto [w2, f2] = run(64, true);
  ASSERT_TRUE(said(w2, "loss scale"));
  EXPECT_EQ(said(w2, "loss scale")->op, "mul");
  EXPECT_EQ(said(w2, "loss scale")->step, 4);
}

TEST(MonitorDetectors, BreakOnWarning) {
  const Tensor x = ones({4});
  Monitor m({.break_on = BreakOn::warning});
  bool stopped = false;
  try {
    for (int s = 1; s <= 40; ++s) {
      m.step();
      x* std::exp2(3.0 * s);
    }
  } catch (const Error& e) { stopped = e.code() == ErrorCode::numeric; }
  EXPECT_TRUE(stopped);
  EXPECT_LT(m.current_step(), 30);
}

TEST(MonitorDetectors, EpsilonThatTheDtypeCannotHold) {
  const Tensor v = (rand({8}) + 0.5).to(f16);
  const auto f = warned("lint", 1, [&](int) { v / (sqrt(v) + 1e-8); });
  EXPECT_EQ(f.op, "add");
  EXPECT_EQ(f.step, 1);
  EXPECT_EQ(f.suggestion.kind, "epsilon");
  EXPECT_GT(f.suggestion.value, 1e-7);
  silent(3, [&](int) { v / (sqrt(v) + 1e-4); });
  silent(3, [&](int) { v.to(f32) / (sqrt(v.to(f32)) + 1e-8); });
}

TEST(MonitorDetectors, LogOfSoftmax) {
  const Tensor x = randn({4, 8});
  EXPECT_EQ(warned("lint", 1, [&](int) { log(softmax(x)); }).op, "log");
  silent(3, [&](int) { log_softmax(x); });
}

TEST(MonitorDetectors, VarianceInOnePassIsANote) {
  const Tensor x = randn({4, 8});
  Monitor m;
  mean(square(x)) - square(mean(x));
  ASSERT_TRUE(said(m.notes(), "lint"));
  EXPECT_EQ(said(m.notes(), "lint")->op, "sub");
  EXPECT_TRUE(m.warnings().empty());
}

TEST(MonitorDetectors, MemoryThatNobodyWrote) {
  for (const DType t : {f32, f16, bf16}) {
    Tensor x = zeros({256}, {.dtype = t});
    uint64_t state = 7;
    auto* p = static_cast<unsigned char*>(x.raw_data());
    for (size_t i = 0; i < x.nbytes(); ++i)
      state = state * 6364136223846793005u + 1442695040888963407u, p[i] = static_cast<unsigned char>(state >> 56);
    EXPECT_EQ(warned("uninitialised", 1, [&](int) { x + 1.0; }).op, "add") << name_of(t);
    const Tensor good = (randn({256}) * exp(randn({256}))).to(t);
    silent(2, [&](int) { good + 1.0; });
  }
}

TEST(MonitorDetectors, SumThatStandsStill) {
  const auto add_up = [](DType t) {
    return [t, acc = std::make_shared<Tensor>()](int s) {
      const Tensor g = (full({16}, 1e-3) * (1 + 0.1 * rand({16}))).to(t);
      if (s == 1) *acc = zeros({16}, {.dtype = t});
      acc->add_(g);
    };
  };
  const auto f = warned("absorbed update", 512, add_up(bf16));
  EXPECT_EQ(f.op, "add");
  EXPECT_EQ(f.suggestion.kind, "accumulator");
  silent(512, add_up(f32));
}

TEST(MonitorDetectors, BadInputNamesTheRow) {
  const Tensor w = randn({4, 2});
  Tensor x = randn({8, 4});
  x[{5, 1}] = std::numeric_limits<double>::quiet_NaN();
  Monitor m;
  matmul(x, w);
  ASSERT_EQ(m.findings().size(), 1u);
  EXPECT_EQ(m.findings()[0].detector, "bad input");
  EXPECT_EQ(m.findings()[0].suggestion.kind, "data");
  EXPECT_NE(m.findings()[0].text.find("row 5 of"), std::string::npos) << m.findings()[0].text;
}

TEST(MonitorDetectors, StaleScaleOfFp8) {
  const Tensor x = randn({64});
  const double amax = max(abs(x)).item();
  const auto f = warned("fp8 scale", 4, [&](int s) { cast(x * (448 / amax * std::pow(1.2, s)), f8e4m3fn); });
  EXPECT_EQ(f.op, "cast");
  EXPECT_EQ(f.step, 2);
  EXPECT_EQ(f.suggestion.kind, "margin");
  silent(20, [&](int) { cast(x * (448 / amax), f8e4m3fn); });
}

TEST(MonitorDetectors, AttentionThatCollapses) {
  const Tensor q = randn({2, 8, 16}), k = randn({2, 8, 16});
  const auto attend = [&](double growth, double size) {
    return [&, growth, size](int s) { softmax(matmul(q, k.transpose(1, 2)) * (size * std::pow(growth, s))); };
  };
  const auto f = warned("attention entropy", 120, attend(1.04, 1));
  EXPECT_EQ(f.op, "softmax");
  EXPECT_EQ(f.suggestion.kind, "stable_op");
  silent(120, attend(1.0, 0.25));
}

TEST(MonitorDetectors, KurtosisOfAnOutlierChannel) {
  Tensor gate = randn({64, 32}) * 0.2, up = randn({64, 32}) * 0.2;
  const auto act = [&](DType t, double growth) {
    return [&, t, growth](int s) {
      const Tensor x = randn({32, 32}), channel = arange(64) == 5;
      const Tensor boost = where(channel, s > 120 ? std::min(std::pow(growth, s - 120), 40.0) : 1.0, ones({64}));
      (silu(linear(x, gate) * boost).to(t)) * (linear(x, up) * boost).to(t);
    };
  };
  const auto f = warned("kurtosis", 300, act(f16, 1.1));
  EXPECT_EQ(f.op, "mul");
  EXPECT_GT(f.step, 120) << f.text;
  EXPECT_LE(f.step, 175) << f.text;
  EXPECT_EQ(f.suggestion.kind, "dtype");
  silent(300, act(f16, 1.0));
  Monitor m;  // f32 has room: worth knowing only
  for (int s = 1; s <= 300; ++s) {
    m.step();
    act(f32, 1.1)(s);
  }
  EXPECT_EQ(all_of(m), "");
  ASSERT_TRUE(said(m.notes(), "kurtosis"));
  EXPECT_GT(said(m.notes(), "kurtosis")->value, 10);
}

TEST(MonitorDetectors, ShadowOfProducts) {
  const Tensor x = randn({2, 16, 64}), w = randn({24, 64}), b = randn({24});
  for (const DType t : {f32, bf16, f16}) {
    Monitor m({.max_ulp_drift = 40, .shadow_every = 1});
    for (int s = 1; s <= 20; ++s) {
      m.step();
      linear(x.to(t), w.to(t), b.to(t));
      matmul(x.to(t), x.to(t).transpose(1, 2));
      matmul(w.to(t).transpose(), w.to(t));
    }
    m.step();
    EXPECT_EQ(all_of(m), "") << name_of(t);
  }
  // A bound that no product keeps: the measure is not blind.
  Monitor m({.max_ulp_drift = 0.01, .shadow_every = 1});
  m.step();
  matmul(w, w.transpose());
  ASSERT_TRUE(said(m.warnings(), "lost bits"));
  EXPECT_GT(said(m.warnings(), "lost bits")->lost_ulps, 0.01);
  EXPECT_LT(said(m.warnings(), "lost bits")->lost_ulps, 10);
}

TEST(MonitorDetectors, ShadowOfSumsAndNorms) {
  const Tensor x = randn({4, 16, 64}), w = randn({64}), b = randn({64}), hidden = rand({4, 16, 64}) > 0.5;
  const auto all_ops = [&](DType t) {
    const Tensor v = x.to(t);
    sum(v), sum(v, {.axis = -1}), sum(v, {.axis = {1, 2}}), sum(v, {.axis = 0}), mean(v, {.axis = -1, .keepdim = true});
    layer_norm(v, w.to(t), b.to(t)), layer_norm(v, {}, {}, {.axes = 2}), rms_norm(v, w.to(t)), softmax(v * 20), softmax(v, {.axis = 1});
    softmax(masked_fill(v, hidden, -std::numeric_limits<double>::infinity())), layer_norm(ones({4, 8}, {.dtype = t}));
  };
  for (const DType t : {f32, f64, bf16, f16}) {
    Monitor m({.max_ulp_drift = 200, .shadow_every = 1});
    for (int s = 1; s <= 20; ++s) {
      m.step();
      all_ops(t);
    }
    m.step();
    EXPECT_EQ(all_of(m), "") << name_of(t);
  }
  for (const char* op : {"sum", "layer_norm", "rms_norm", "softmax"}) {  // a bound that nothing keeps: no measure is blind
    Monitor m({.max_ulp_drift = 1e-4, .shadow_every = 1});
    m.step();
    all_ops(f32);
    bool spoke = false;
    for (const auto& f : m.warnings()) spoke |= f.op == op && f.detector == "lost bits" && f.lost_ulps < 200;
    EXPECT_TRUE(spoke) << op;
  }
  {  // squares that overflow within a norm: its result is 0, though what goes in and out is finite
    Monitor m({.shadow_every = 1});
    m.step();
    layer_norm(x, w, b), layer_norm(x * 1e20, w, b);
    m.step();
    const auto warnings = m.warnings();
    const auto f = said(warnings, "headroom");  // what made them is to blame, not the norm
    ASSERT_TRUE(f);
    EXPECT_EQ(f->op, "mul");
    EXPECT_EQ(f->suggestion.kind, "stable_op");
    EXPECT_NE(f->text.find("squares that layer_norm adds up"), std::string::npos) << f->text;
    EXPECT_EQ(warnings.size(), 1u);
  }
  // Rows whose mean is a hundred thousand deviations from 0 have few digits left after a norm.
  Monitor m({.shadow_every = 1});
  m.step();
  layer_norm(x * 0.01 + 3000.1);
  ASSERT_TRUE(said(m.warnings(), "lost bits"));
  EXPECT_EQ(said(m.warnings(), "lost bits")->op, "layer_norm");
  EXPECT_EQ(said(m.warnings(), "lost bits")->suggestion.kind, "stable_op");
}

TEST(MonitorDetectors, UnitsThatAreDead) {
  const auto layer = [](double bias, double share) {
    return [=](int) { relu(randn({64, 32}) + where(arange(32) < int(32 * share), bias, 0.0)); };
  };
  const auto f = warned("underflow", 300, layer(-50, 1));
  EXPECT_EQ(f.op, "relu");
  EXPECT_EQ(f.kind, "dead units");
  Monitor m;
  for (int s = 1; s <= 300; ++s) {
    m.step();
    layer(-50, 0.75)(s);
  }
  EXPECT_EQ(all_of(m), "");
  ASSERT_TRUE(said(m.notes(), "underflow"));  // worth knowing
  EXPECT_NEAR(said(m.notes(), "underflow")->value, 0.75, 1e-9);
  Monitor sound;
  for (int s = 1; s <= 300; ++s) {
    sound.step();
    layer(-1.5, 1)(s);  // seldom on is not dead
  }
  EXPECT_FALSE(said(sound.notes(), "underflow"));
  EXPECT_EQ(all_of(sound), "");
}

TEST(MonitorDetectors, GradientsThatAreFlushedToZero) {
  const Tensor x = randn({64, 16}).to(f16), spread = exp(randn({64, 16}) * 1.4);
  Tensor w = randn({16, 16}).to(f16);
  w.requires_grad_();
  const auto train = [&](double slope) {
    return [&, slope](int s) {
      sum(matmul(x, w).to(f32) * spread * std::exp2(-11 - slope * s)).backward();
      w.zero_grad();
    };
  };
  for (const double slope : {0.1, 0.0}) {
    Monitor m;
    for (int s = 1; s <= 200; ++s) {
      m.step();
      train(slope)(s);
    }
    bool flushed = false;
    for (const auto& f : m.notes()) flushed |= f.kind == "flushed" && f.phase == "backward" && f.suggestion.kind == "loss_scale";
    EXPECT_EQ(flushed, slope > 0);
    if (slope == 0) {
      EXPECT_EQ(all_of(m), "");
    }
  }
}

TEST(MonitorDetectors, HealthyTrainingIsSilent) {
  manual_seed(3);
  {
    nn::Linear up(8, 32), down(32, 3);
    Tensors weights = up.parameters();
    for (const Tensor& w : down.parameters()) weights.push_back(w);
    optim::Adam opt(weights, {.lr = 1e-2});
    silent(300, [&](int) {
      const Tensor x = randn({32, 8});
      cross_entropy(down(dropout(relu(up(x)), {.p = 0.5})), argmax(x.index({all, slice(0, 3)}), {.axis = 1})).backward();
      opt.step();
      opt.zero_grad();
    });
  }
  SmallCnn net;
  optim::SGD opt(net.parameters(), {.lr = 0.05, .momentum = 0.9});
  silent(300, [&](int) {
    net.loss_on_noise().backward();
    opt.step();
    opt.zero_grad();
  });
}

}  // namespace
}  // namespace keel
