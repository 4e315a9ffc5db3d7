// The monitor on another device: the same findings as on the CPU, the same bits as without it, and no wait for the device.
#include <cmath>
#include <limits>

#include "device/monitor_on_device.h"

namespace keel {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

struct Ratio : nn::Module<Ratio> {
  nn::Linear top{4, 4}, bottom{4, 4};
  static void fields(auto& m, auto&& f) { f("top", m.top)("bottom", m.bottom); }
  Tensor forward(const Tensor& x) const { return top(x) / relu(bottom(x)); }
};
struct Net : nn::Module<Net> {
  nn::Linear up{8, 16}, down{16, 3};
  nn::LayerNorm norm{16};
  static void fields(auto& m, auto&& f) { f("up", m.up)("norm", m.norm)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(relu(norm(up(x)))); }
};

TEST_F(MonitorOnDevice, StatisticsAreExact) {
  for (const DType t : {f32, f64, f16, bf16})
    for (const int64_t n : {1, 7, 64, 1000, 4099, 100003}) {
      manual_seed(n);
      Tensor x = randn({n}, {.dtype = f64}) * exp(4 * randn({n}, {.dtype = f64}));
      if (n > 10)
        x[{2}] = 0, x[{5}] = kNan, x[{n - 1}] = -kInf,
        x[{n / 2}] = 3 * std::exp2(t == f16    ? -24
                                   : t == bf16 ? -133
                                   : t == f32  ? -149
                                               : -1074);
      const auto seen = [&](Device where) {
        const Tensor here = x.to(t).to(where), rows = here.expand({3, n});
        Monitor m({.budget = 0, .sample = 1});
        m.step();
        neg(here), neg(here[{slice(0, n, 2)}]), neg(rows), sum(here), here.clone();
        if (n > 1) neg(here[{slice(1, n)}]), neg(here[{slice(1, n)}].flip({0}));
        if (n == 1000)
          neg(here.reshape({10, 100}).transpose(0, 1)), softmax(here.reshape({10, 100})),
              add(here.reshape({10, 100}), here[{slice(0, 100)}]);
        return m.statistics();
      };
      const auto here = seen(cpu_device), there = seen(d);
      ASSERT_EQ(here.size(), there.size());
      for (size_t i = 0; i < here.size(); ++i) {
        const auto &a = here[i], &b = there[i];
        SCOPED_TRACE(a.op + " of " + name_of(t) + " " + std::to_string(n) + ", number " + std::to_string(i));
        EXPECT_EQ(a.op, b.op);
        EXPECT_EQ(a.elements, b.elements);
        EXPECT_EQ(a.nan, b.nan);
        EXPECT_EQ(a.inf, b.inf);
        EXPECT_EQ(a.subnormal, b.subnormal);
        if (a.op == "sum" || a.op == "softmax") continue;  // rounded in another order
        EXPECT_EQ(a.largest, b.largest);
        EXPECT_EQ(a.smallest, b.smallest);
      }
    }
}

/// What takes no statistics of its own, and gives what it got: a sum of one along the last axis.
Tensor same_values(const Tensor& x) { return cumsum(x.reshape({x.size(), 1}), {.axis = 1}); }

/// Passes look at one block in so many of a large result: each step at others, together at everything; and they say so.
TEST_F(MonitorOnDevice, PartsOfLargeResults) {
  constexpr int64_t n = 1 << 20;  // 4 MB: one block in 8
  for (const int64_t bad : {int64_t(0), n - 1, int64_t(777777)}) {
    Tensor x = ones({n});
    x.data<float>()[bad] = float(kNan);
    Monitor m({.budget = 0, .foretell = false});
    for (int s = 1; s <= 16; ++s) m.step(), same_values(x.to(d));
    m.step();
    int found = 0;
    for (const auto& r : m.statistics())
      if (r.op == "cumsum") {
        ++found;
        EXPECT_EQ(r.every, 8);
        EXPECT_EQ(r.elements, 2 * n);
        EXPECT_EQ(r.nan, 2);
      }
    EXPECT_EQ(found, 1);
    EXPECT_NE(m.report().find("2/0/0 in a part of 1/8 a step"), std::string::npos) << m.report();
  }
}

/// Passes are put off, and see nevertheless what was there when they were asked for.
TEST_F(MonitorOnDevice, PassesThatArePutOff) {
  Monitor m({.budget = 0, .foretell = false});
  m.step();
  {
    Tensor x = cumsum(ones({64}).to(d), {.axis = 0});  // 1 ... 64
    x *= 0.5;                                          // over it
    x.fill_(1e9);
  }
  {
    Tensor x = cumsum(full({64}, 2.0).to(d), {.axis = 0});
    x.copy_(full({64}, 3e9).to(d));
  }
  cumsum(full({64}, 4.0).to(d), {.axis = 0});
  const Tensor other = full({64}, 5e9).to(d);  // lies where that was
  m.step();
  std::vector<double> largest;
  for (const auto& r : m.statistics())
    if (r.op == "cumsum") largest.push_back(r.largest);
  EXPECT_EQ(largest, (std::vector<double>{64, 128, 256}));
}

/// What made an infinity that lies where nobody looked is named by who passes it on, in every phase of the rotation.
TEST_F(MonitorOnDevice, NamesWhatNobodySaw) {
  constexpr int64_t n = 1 << 20;
  for (int phase = 0; phase < 8; ++phase) {
    Monitor m({.budget = 0, .foretell = false});
    for (int s = 0; s <= phase; ++s) {
      m.step();
      Tensor x = ones({n / 2, 2});
      if (s == phase) x[{1234}] = 3e38;
      max(relu(cumsum(x.to(d), {.axis = 1})));  // 3e38, 6e38
    }
    m.step();
    ASSERT_EQ(m.findings().size(), 1u) << all(m);
    EXPECT_EQ(m.findings()[0].op, "cumsum");
    EXPECT_EQ(m.findings()[0].step, phase + 1);
  }
}

/// Gradients are seen whole before they are used.
TEST_F(MonitorOnDevice, GradientsAreSeenWhole) {
  constexpr int64_t n = 1 << 20;
  for (int phase = 0; phase < 8; ++phase) {
    const bool protect = phase % 2 == 0;
    Tensor w = zeros({n / 2, 2}).to(d);
    w.requires_grad_();
    optim::SGD opt({w}, {.lr = 1e-3});
    Monitor m({.budget = 0, .foretell = false, .protect = protect});
    Tensor before;
    for (int s = 0; s <= phase; ++s) {
      m.step();
      Tensor c = ones({n / 2, 2});
      if (s == phase) c[{100001}] = 3e38, before = w.detach().clone();
      opt.zero_grad();
      sum(cumsum(w, {.axis = 1}) * c.to(d)).backward();
      opt.step();
    }
    EXPECT_EQ(m.blocked_steps(), protect);
    ASSERT_FALSE(m.findings().empty());
    EXPECT_EQ(m.findings()[0].phase, "backward") << all(m);
    EXPECT_EQ(m.findings()[0].step, phase + 1);
    EXPECT_EQ(array_equal(before.to(cpu_device), w.detach().to(cpu_device)), protect);
  }
}

/// A budget is held by looking at less, and then by watching fewer steps; and it is said.
TEST_F(MonitorOnDevice, Budgets) {
  if (d.type == DeviceType::cuda) GTEST_SKIP() << "needs a clock that counts passes only";
  const auto run = [&](double budget, int steps, int64_t& seen, std::string& said) {
    const Tensor x = ones({1 << 19}).to(d);
    Monitor m({.budget = budget, .foretell = false});
    for (int s = 0; s < steps; ++s) {
      m.step();
      sum(same_values(x));
      if (s % 4 == 3) synchronize(d);  // what never arrives cannot be measured
    }
    m.step();
    seen = 0;
    int64_t losses = 0;
    for (const auto& r : m.statistics()) (r.op == "cumsum" ? seen : losses) += r.op == "cumsum" ? r.elements : r.calls;
    EXPECT_EQ(losses, steps);  // small results are seen at every step
    EXPECT_TRUE(m.findings().empty());
    said = m.report().substr(0, m.report().find('\n'));
    return double(seen) / (double(steps) * (1 << 19));
  };
  int64_t seen;
  std::string said;
  const double all = run(0, 20, seen, said), some = run(0.3, 70, seen, said), few = run(0.02, 200, seen, said);
  EXPECT_EQ(all, 0.25);  // 2 MB: one block in 4
  EXPECT_LT(some, 0.25);
  EXPECT_LT(few, 0.6 * some);
  EXPECT_NE(said.find("as a whole"), std::string::npos) << said;
}

/// Copies take over what is known of their source, where they are of all of it.
TEST_F(MonitorOnDevice, Copies) {
  const auto seen = [&](Device where) {
    manual_seed(1);
    Tensor x = randn({6, 40});
    x.data<float>()[7] = float(kNan);
    const Tensor there = x.to(where);
    Monitor m({.budget = 0});
    m.step();
    const Tensor y = there * 3.0, late = y.clone();
    y.transpose(0, 1).contiguous();
    y[{1}].clone();                     // a part
    y[{slice(0, 6, 2)}].clone();        // the same
    y.expand({2, 6, 40}).contiguous();  // more than once
    Tensor into = zeros({12, 40}, {.device = where});
    into[{slice(0, 6)}] = y;
    into[{slice(6, 12)}] = late.transpose(0, 1).contiguous().transpose(0, 1);
    into[{0}] = y[{1}];
    into.clone(), neg(into);
    m.step();
    EXPECT_EQ(m.findings().size(), 1u) << all(m);
    return m.statistics();
  };
  const auto here = seen(cpu_device), there = seen(d);
  ASSERT_EQ(here.size(), there.size());
  for (size_t i = 0; i < here.size(); ++i) {
    const auto &a = here[i], &b = there[i];
    SCOPED_TRACE(a.op + ", number " + std::to_string(i));
    EXPECT_EQ(a.op, b.op);
    EXPECT_EQ(a.elements, b.elements);
    EXPECT_EQ(a.nan, b.nan);
    EXPECT_EQ(a.largest, b.largest);
    EXPECT_EQ(a.smallest, b.smallest);
  }
}

TEST_F(MonitorOnDevice, NamesTheOpThatMadeIt) {
  const std::string said = same(3, [](Device where, int s) {
    static Ratio net;
    if (s == 1) manual_seed(0), net = Ratio(), net.to(where);
    sum(square(net(randn({8, 4}).to(where)))).backward();
  });
  EXPECT_EQ(said.find("fault, step 1, forward: nonfinite inf by div in 'Ratio'"), 0u) << said;
  // One value, in the middle of a run: what comes after only passes it on.
  const std::string planted = same(8,
                                   [](Device where, int s) {
                                     const Tensor x = (randn({4, 8}) + 4).to(where), y = exp(x * 0.1), z = log(s == 5 ? y - y : y);
                                     softmax(z * 2 + z);
                                   },
                                   {.foretell = false});
  EXPECT_EQ(planted,
            "fault, step 5, forward: nonfinite inf by log in '', 32 values, 1 times\nfault, step 5, forward: nonfinite nan by softmax in "
            "'', 32 values, 1 times\n");
  // In the backward phase: the slope of a root at 0.
  const std::string slope = same(3,
                                 [](Device where, int s) {
                                   Tensor w = ones({8}).to(where);
                                   w.requires_grad_();
                                   sum(sqrt(w * (s == 2 ? 0.0 : 1.0)) * 3).backward();
                                 },
                                 {.foretell = false});
  EXPECT_NE(slope.find("fault, step 2, backward: nonfinite"), std::string::npos) << slope;
}

TEST_F(MonitorOnDevice, BadInputs) {
  const std::string said = same(4,
                                [](Device where, int s) {
                                  Tensor x = randn({4, 8});
                                  if (s == 3) x.data<float>()[10] = float(kNan);
                                  const Tensor there = x.to(where);
                                  relu(there * 2), relu(there + 1);
                                },
                                {.foretell = false});
  EXPECT_EQ(said,
            "fault, step 3, forward: bad input nan input by mul in '', 1 values, 1 times\nfault, step 3, forward: bad input nan input by "
            "add in '', 1 values, 1 times\n");
}

TEST_F(MonitorOnDevice, WhatIsBrokenStaysKnownAcrossACopy) {
  // Made on the host, before the device was ever used and after; read on the device: whoever made it is named, and nobody else.
  const std::string up = same(4,
                              [](Device where, int s) {
                                const Tensor a = randn({4, 8}), b = s % 2 ? a - a : a, broken = b / b, there = broken.to(where);
                                relu(there * 2), relu(there + 1);
                              },
                              {.foretell = false});
  EXPECT_EQ(up, "fault, step 1, forward: nonfinite nan by div in '', 32 values, 2 times\n");
  // Made on the device; read on the host.
  const std::string down = same(4,
                                [](Device where, int s) {
                                  const Tensor a = randn({4, 8}).to(where), b = s == 3 ? a - a : a, here = (b / b).to(cpu_device);
                                  relu(here * 2), relu(here + 1);
                                },
                                {.foretell = false});
  EXPECT_EQ(down, "fault, step 3, forward: nonfinite nan by div in '', 32 values, 1 times\n");
}

TEST_F(MonitorOnDevice, Foretells) {
  const auto f = [&](Device where) {
    const Tensor x = ones({8}).to(where), b = (rand({64}) + 0.5).to(where);
    Monitor m({.budget = 0});
    for (int s = 1; s <= 60; ++s) {
      m.step();
      x* std::exp2(1.5 * s) * std::exp2(1.5 * s);
      reciprocal(b * std::exp2(-1.7 * s));
    }
    m.step();
    std::string text;
    for (const auto& w : m.warnings()) text += line(w) + ", eta " + std::to_string(w.eta) + "\n";
    return all(m) + text;
  };
  manual_seed(1);
  const std::string here = f(cpu_device);
  manual_seed(1);
  const std::string there = f(d);
  EXPECT_EQ(here, there);
  EXPECT_NE(there.find("headroom"), std::string::npos) << there;
  EXPECT_NE(there.find("denominator"), std::string::npos) << there;
}

/// A training that goes wrong by its learning rate says so in the same words. Gradients of rows that a norm follows add up to nothing, so
/// that the means it keeps of the rows are rounding: at such a rate they tell whoever watches nothing that hangs on their size.
TEST_F(MonitorOnDevice, FindingsOfATraining) {
  for (const double lr : {0.05, 1e6}) {
    const std::string said = same(6, [lr](Device where, int s) {
      static std::unique_ptr<Net> net;
      static optim::Optimizer opt;
      static Tensor x, y;
      if (s == 1)
        net = std::make_unique<Net>(), x = randn({16, 8}).to(where), y = randn({16, 3}).to(where), net->to(where),
        opt = optim::SGD(net->parameters(), {.lr = lr});
      opt.zero_grad();
      mean(square((*net)(x)-y)).backward();
      opt.step();
    });
    EXPECT_EQ(said.empty(), lr < 1) << said;
  }
}

/// An update that leaves the format is to blame itself, whichever weight it is.
TEST_F(MonitorOnDevice, UpdatesThatOverflow) {
  Tensor v = ones({4}).to(d), w = ones({8}).to(d);
  v.requires_grad_(), w.requires_grad_();
  optim::SGD opt({v, w}, {.lr = 1e30});
  Monitor m({.budget = 0});
  for (int s = 1; s <= 2; ++s) {
    m.step();
    opt.zero_grad();
    sum(v * 1e-30 + 0).backward();
    sum(w * (s == 2 ? 1e20 : 0.0)).backward();
    opt.step();
    w * 2.0;
  }
  ASSERT_EQ(m.findings().size(), 1u) << all(m);
  EXPECT_EQ(line(m.findings()[0]), "step 2, optimiser: nonfinite nan by sgd_step in '', 8 values, 1 times");
  EXPECT_NE(m.findings()[0].text.find("weights) out of finite numbers, first of parameter 1"), std::string::npos) << m.findings()[0].text;
}

/// What a step's own arithmetic makes infinite is told in the words of the CPU, and kept out of weights and state where they are protected.
TEST_F(MonitorOnDevice, StepsThatMakeInfinities) {
  using Make = optim::Optimizer (*)(const Tensors&);
  const Make makes[] = {
      [](const Tensors& p) { return optim::Optimizer(optim::SGD(p, {.lr = 1e30})); },
      [](const Tensors& p) { return optim::Optimizer(optim::SGD(p, {.lr = 1e-3, .momentum = 0.9})); },
      [](const Tensors& p) {
        return optim::Optimizer(optim::SGD(p, {.lr = 1e10, .momentum = 0.9, .nesterov = true, .master_weights = true}));
      },
      [](const Tensors& p) { return optim::Optimizer(optim::Adam(p, {.lr = 1e-3})); },
      [](const Tensors& p) { return optim::Optimizer(optim::AdamW(p, {.lr = 1e-3, .amsgrad = true, .master_weights = true})); },
      [](const Tensors& p) { return optim::Optimizer(optim::RMSprop(p, {.lr = 1e-3})); },
      [](const Tensors& p) { return optim::Optimizer(optim::RMSprop(p, {.lr = 0.1, .eps = 0, .momentum = 0.9})); },
      [](const Tensors& p) { return optim::Optimizer(optim::RMSprop(p, {.lr = 1e-3, .centered = true})); },
  };
  // 2053 elements: whole vectors and some beside; the second parameter's gradient lies in another order.
  const auto train = [&](Make make, DType t, bool protect, Device where, std::string& said) {
    manual_seed(5);
    Tensor v = randn({7}).to(t).to(where), w = randn({2053}).to(t).to(where), u = randn({6, 5}).to(t).to(where);
    v.requires_grad_(), w.requires_grad_(), u.requires_grad_();
    optim::Optimizer opt = make({v, w, u});
    Monitor m({.budget = 0, .protect = protect});
    for (int s = 1; s <= 4; ++s) {
      m.step();
      Tensor g = randn({2053}), h = randn({5, 6});
      for (const int64_t i : {int64_t(3), int64_t(1030), int64_t(2052)}) g[{i}] = s == 2 ? 2e38 : s == 3 ? 2.9e38 : 1.0;
      g[{7}] = 0, h[{4, 1}] = s == 2 ? 3e38 : 1.0;
      const double most = t == f16 ? 6e4 : 3e38;
      v.set_grad(randn({7}).to(t).to(where)), w.set_grad(clamp(g, -most, most).to(t).to(where));
      u.set_grad(clamp(h, -most, most).to(t).to(where).transpose(0, 1));
      opt.step();
      opt.set_lr(opt.lr() * 0.5);  // long before a device's numbers arrive
    }
    m.step();
    said = everything(m);
    for (const auto& f : m.findings()) said += f.text + "\n" + f.suggestion.text + "\n";
    std::vector<Tensor> out;
    for (const Tensor& x : {v, w, u}) out.push_back(x.detach().to(cpu_device).to(f64));
    return out;
  };
  for (size_t i = 0; i < std::size(makes); ++i)
    for (const DType t : {f32, bf16, f16, f64})
      for (const bool protect : {true, false}) {
        SCOPED_TRACE("optimiser " + std::to_string(i) + ", " + name_of(t) + (protect ? ", protected" : ""));
        std::string here, there;
        const std::vector<Tensor> a = train(makes[i], t, protect, cpu_device, here), b = train(makes[i], t, protect, d, there);
        EXPECT_EQ(there, here);
        if (t == f32) {
          EXPECT_NE(there.find("out of finite numbers, first of parameter "), std::string::npos) << there;
        }
        for (size_t k = 0; k < a.size(); ++k) {
          EXPECT_TRUE(array_equal(isfinite(a[k]), isfinite(b[k]))) << k;
          if (protect) {
            EXPECT_TRUE(isfinite(b[k]).all().item<bool>()) << k;
            EXPECT_TRUE(allclose(b[k], a[k], {.rel = 1e-2, .abs = 1e-3})) << k;
          }
        }
      }
}

/// What rounds off, moments that no longer fit, and gradients that jump: in the same words.
TEST_F(MonitorOnDevice, JudgesUpdates) {
  for (const bool master : {false, true}) {
    const std::string said = same(12, [master](Device where, int s) {
      static Tensor w;
      static optim::Optimizer opt;
      if (s == 1)
        w = ones({40, 3}).astype(bf16).to(where), w.requires_grad_(), opt = optim::SGD({w}, {.lr = 1e-3, .master_weights = master});
      opt.zero_grad();
      sum(w * 1.0).backward();
      opt.step();
    });
    EXPECT_EQ(said.find("absorbed update") != std::string::npos, !master) << said;
  }
  const std::string said = same(45, [](Device where, int s) {
    static Tensor w, v;
    static optim::Optimizer opt;
    if (s == 1)
      w = ones({300}).to(where), v = ones({7}).to(where), w.requires_grad_(), v.requires_grad_(), opt = optim::AdamW({w, v}, {.lr = 1e-4});
    opt.zero_grad();
    (sum(w * (s == 40 ? 3000.0 : 1.0 + 0.1 * std::sin(s))) + sum(v)).backward();
    opt.step();
  });
  EXPECT_NE(said.find("adam stale moment by adam_step"), std::string::npos) << said;
  EXPECT_NE(said.find("gradient norm"), std::string::npos) << said;
}

TEST_F(MonitorOnDevice, SettingsThatAreNoNumbersBlockAStep) {
  for (const bool protect : {true, false}) {
    const Tensor w = ones({8}).to(d).requires_grad_();
    optim::Optimizer opt = optim::Adam({w}, {.lr = 1e-2});
    Monitor m({.protect = protect});
    for (const double lr : {1e-2, double(NAN), 1e-2}) {
      m.step();
      opt.zero_grad();
      sum(w * w).backward();
      opt.set_lr(lr);
      opt.step();
    }
    EXPECT_EQ(std::isfinite(sum(w.detach()).item<double>()), protect);
    EXPECT_EQ(m.blocked_steps(), protect ? 1 : 0);
    const auto found = m.findings();
    const auto said = std::find_if(found.begin(), found.end(), [](const auto& f) {
      return f.step == 2 && f.text.find("the learning rate that adam_step was given") != std::string::npos;
    });
    EXPECT_TRUE(said != found.end()) << m.report();
  }
}

/// So many steps that copies of boards run out where the device is far behind.
TEST_F(MonitorOnDevice, SameBitsAndNoWaits) {
  constexpr int kSteps = 40;
  const auto train = [&](bool watched, bool protect, int& waits) {
    manual_seed(7);
    Net net;
    net.to(d);
    optim::AdamW opt(net.parameters(), {.lr = 1e-2});
    const Tensor x = randn({16, 8}).to(d), y = randint(0, 3, {16}).to(d);
    std::unique_ptr<Monitor> m;
    if (watched) m = std::make_unique<Monitor>(MonitorOptions{.budget = 0, .protect = protect});
    Tensor loss;
    const Waits counter(d);
    for (int s = 0; s < kSteps; ++s) {
      if (m) m->step();
      opt.zero_grad();
      loss = cross_entropy(net(x), y);
      loss.backward();
      nn::clip_grad_norm(net.parameters(), 1.0);
      opt.step();
    }
    waits = Waits::count;
    if (m) {
      EXPECT_TRUE(m->findings().empty()) << to_string(m->findings()[0]);
      EXPECT_GT(Waits::count, waits);  // whoever asks waits
      for (const auto& s : m->statistics())
        if (s.op == "cross_entropy") {
          EXPECT_EQ(s.calls, kSteps);
          EXPECT_EQ(s.last_step, kSteps);
        }
    }
    std::vector<Tensor> out{loss.detach().to(cpu_device)};
    for (const Tensor& p : net.parameters()) out.push_back(p.detach().to(cpu_device));
    return out;
  };
  int off = 0, on = 0, guarded = 0;
  const auto a = train(false, false, off), b = train(true, false, on), c = train(true, true, guarded);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(array_equal(a[i], b[i])) << i;
    EXPECT_TRUE(array_equal(a[i], c[i])) << i;
  }
  EXPECT_EQ(on, off);
  // A device that leaves optimisers to the CPU fetches the word for it, once a step.
  EXPECT_LE(guarded, d.type == DeviceType::cuda ? off : off + kSteps);
}

TEST_F(MonitorOnDevice, ProtectsWeights) {
  for (const int kind : {0, 1, 2}) {
    Tensor w = ones({8}).to(d), v = ones({8}).to(d);
    w.requires_grad_(), v.requires_grad_();
    optim::Optimizer opt = kind == 0   ? optim::Optimizer(optim::SGD({w, v}, {.lr = 0.1, .momentum = 0.9}))
                           : kind == 1 ? optim::Optimizer(optim::Adam({w, v}, {.lr = 0.1}))
                                       : optim::Optimizer(optim::RMSprop({w, v}, {.lr = 0.01}));
    Monitor m({.budget = 0, .protect = true});
    for (int s = 1; s <= 6; ++s) {
      m.step();
      const Tensor before = w.detach().clone();
      Tensor x = ones({8});
      if (s == 3) x[{2}] = 0;
      sum(log(x.to(d) * w) + square(v)).backward();
      if (s == 5) Tensor(v.grad()).fill_(kNan);
      opt.step();
      opt.zero_grad();
      EXPECT_EQ(array_equal(before.to(cpu_device), w.detach().to(cpu_device)), s == 3 || s == 5) << s;
    }
    EXPECT_EQ(m.blocked_steps(), 2);
    ASSERT_FALSE(m.findings().empty());
    EXPECT_EQ(m.findings()[0].op, "log");
    EXPECT_EQ(m.findings()[0].step, 3);
    EXPECT_TRUE(isfinite(w.detach().to(cpu_device)).all().item<bool>());
    EXPECT_TRUE(isfinite(v.detach().to(cpu_device)).all().item<bool>());
  }
}

TEST_F(MonitorOnDevice, BreaksWhenTheNumbersArrive) {
  const Tensor x = zeros({8}).to(d);
  for (const BreakOn on : {BreakOn::nonfinite, BreakOn::nan}) {
    Monitor m({.break_on = on, .budget = 0});
    int64_t at = 0;
    try {
      for (int s = 1; s <= 12; ++s) {
        m.step();
        at = s;
        if (s == 4) x / x;
        synchronize(d);  // steps of a program take longer than these
      }
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::numeric);
      EXPECT_EQ(e.op(), "div");
      EXPECT_NE(std::string(e.what()).find("step: 4, forward"), std::string::npos) << e.what();
    }
    EXPECT_GE(at, 4);
    EXPECT_LE(at, 8);
    ASSERT_EQ(m.findings().size(), 1u);
  }
  set_debug_mode(true);  // waits, and raises in the op
  EXPECT_THROW(x / x, Error);
  set_debug_mode(false);
}

TEST_F(MonitorOnDevice, MoreResultsThanABoardHolds) {
  const Tensor x = ones({3}).to(d);
  Monitor m({.budget = 0});  // no step() at all
  for (int i = 0; i < 30000; ++i) x*(i == 20000 ? kNan : 2.0);
  const auto s = m.statistics();
  ASSERT_EQ(s.size(), 1u);
  EXPECT_EQ(s[0].calls, 30000);
  EXPECT_EQ(s[0].nan, 3);
  EXPECT_EQ(s[0].elements, 90000);
  EXPECT_EQ(m.history().size(), 4096u);
}

TEST_F(MonitorOnDevice, LossScalesAreNoFaults) {
  for (const bool scaled : {true, false}) {
    manual_seed(2);
    Net net;
    net.to(d);
    optim::SGD opt(net.parameters(), {.lr = 1e-3});
    optim::GradScaler scaler({.init_scale = 65536.0 * 32768});
    const Tensor x = (randn({16, 8}) * 30).to(d);
    Monitor m({.budget = 0});
    for (int s = 0; s < 8; ++s) {
      m.step();
      opt.zero_grad();
      Tensor loss;
      {
        Autocast low(f16);
        loss = mean(square(net(x)));
      }
      if (scaled)
        scaler.scale(loss).backward(), scaler.step(opt), scaler.update();
      else
        (loss * 65536.0 * 32768).backward(), opt.step();
    }
    m.step();
    EXPECT_EQ(m.findings().empty(), scaled) << all(m);
  }
}

}  // namespace
}  // namespace keel
