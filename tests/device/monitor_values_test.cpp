// The monitor's rules that look at values, on another device: what they say of a fault there is what they say of it on the CPU, and of its
// healthy twin nothing.
#include <cmath>
#include <limits>
#include <map>
#include <memory>

#include "device/monitor_on_device.h"
#include "support/training.h"

namespace keel {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

class MonitorValues : public MonitorOnDevice {
 protected:
  struct Said {
    std::vector<Monitor::Finding> all;
    const Monitor::Finding* of(const char* detector, const char* kind) const {
      for (const auto& f : all)
        if (f.detector == detector && f.kind == kind) return &f;
      return nullptr;
    }
  };
  /// What a monitor says of `steps` calls of body(where, step) on `where`, which draw the same random numbers each time.
  template <class F>
  Said run(Device where, int steps, F&& body, MonitorOptions o = {}) {
    o.budget = 0;
    manual_seed(5);
    Monitor m(o);
    for (int s = 1; s <= steps; ++s) {
      m.step();
      body(where, s);
    }
    m.step();
    Said said;
    for (const auto& list : {m.findings(), m.warnings(), m.notes()}) said.all.insert(said.all.end(), list.begin(), list.end());
    return said;
  }
  /// The rule speaks here and there: of the same op, in the same words, within `period` steps of each other.
  template <class F>
  void speaks(const char* detector, const char* kind, int steps, F&& body, int period = 0, MonitorOptions o = {}) {
    const Said here = run(cpu_device, steps, body, o), there = run(d, steps, body, o);
    const Monitor::Finding *a = here.of(detector, kind), *b = there.of(detector, kind);
    ASSERT_TRUE(a) << detector << ", " << kind << ", on the CPU";
    ASSERT_TRUE(b) << detector << ", " << kind << ", on " << to_string(d);
    EXPECT_EQ(b->op, a->op);
    EXPECT_EQ(b->path, a->path);
    EXPECT_EQ(b->phase, a->phase);
    EXPECT_EQ(int(b->severity), int(a->severity));
    EXPECT_EQ(b->suggestion.kind, a->suggestion.kind);
    EXPECT_LE(std::abs(b->step - a->step), period) << a->text << "\n" << b->text;
    EXPECT_NEAR(b->mean, a->mean, 1e-3 * a->mean);
  }
  template <class F>
  void is_silent(int steps, F&& body, MonitorOptions o = {}) {
    for (const auto& f : run(d, steps, body, o).all)
      if (f.severity != Severity::info) ADD_FAILURE() << line(f) << ": " << f.text;
  }
};

TEST_F(MonitorValues, Denominators) {
  const auto fall = [](double by) {
    return [by](Device where, int s) {
      const Tensor x = (rand({64}) + 0.5).to(where);
      x / (x * std::exp2(-0.9 * s) + by);
    };
  };
  speaks("denominator", "vanishing", 145, fall(0));
  is_silent(145, fall(1e-5));
  EXPECT_GT(run(d, 145, fall(0)).of("denominator", "vanishing")->mean, 0);
  EXPECT_GT(run(d, 145, fall(0)).of("denominator", "vanishing")->suggestion.value, 1e-6);
}

TEST_F(MonitorValues, BadInputsNameTheirRow) {
  const auto read = [](int64_t at) {
    return [at](Device where, int s) {
      Tensor x = randn({8, 40});
      if (s == 3) x.data<float>()[at] = float(kInf - kInf), x.data<float>()[319] = float(kInf);
      const Tensor there = x.to(where);
      there * 2, there + 1;
    };
  };
  for (const int64_t at : {int64_t(0), int64_t(213), int64_t(318)}) {
    const auto here = run(cpu_device, 4, read(at)), there = run(d, 4, read(at));
    ASSERT_EQ(there.all.size(), here.all.size());
    for (size_t i = 0; i < here.all.size(); ++i) EXPECT_EQ(there.all[i].text, here.all[i].text);
    EXPECT_NE(there.all[0].text.find("row " + std::to_string(at / 40) + " of"), std::string::npos) << there.all[0].text;
  }
}

TEST_F(MonitorValues, DataThatIsToBlame) {
  const auto root = [](Device where, int) {
    Tensor x = rand({64});
    x.data<float>()[5] = 1e30f;
    square(x.to(where));
  };
  const Said said = run(d, 1, root);
  ASSERT_EQ(said.all.size(), 1u);
  EXPECT_EQ(said.all[0].suggestion.kind, "data");
  EXPECT_EQ(said.all[0].suggestion.text, run(cpu_device, 1, root).all[0].suggestion.text);
}

TEST_F(MonitorValues, Targets) {
  const auto loss = [](double most) {
    return [most](Device where, int) { bce_with_logits(randn({8, 40}).to(where), (rand({8, 40}) * most).to(where)); };
  };
  speaks("bad input", "targets", 3, loss(4));
  is_silent(3, loss(1));
}

TEST_F(MonitorValues, Kurtosis) {
  const auto gated = [](DType t, double growth) {
    return [t, growth](Device where, int s) {
      static Tensor gate, up;
      if (s == 1) gate = (randn({64, 32}) * 0.2).to(where), up = (randn({64, 32}) * 0.2).to(where);
      const Tensor x = randn({32, 32}).to(where);
      Tensor boost = ones({64});
      if (s > 120) boost[{5}] = std::min(std::pow(growth, s - 120), 40.0);
      const Tensor b = boost.to(where);
      (silu(linear(x, gate) * b).to(t)) * (linear(x, up) * b).to(t);
    };
  };
  speaks("kurtosis", "kurtosis", 300, gated(f16, 1.1), 8);
  speaks("kurtosis", "kurtosis", 300, gated(f32, 1.1), 8);
  is_silent(300, gated(f16, 1.0));
}

TEST_F(MonitorValues, DeadUnits) {
  const auto layer = [](double bias) { return [bias](Device where, int) { relu(randn({64, 32}).to(where) + bias); }; };
  speaks("underflow", "dead units", 300, layer(-50));
  EXPECT_TRUE(run(d, 300, layer(-1.5)).all.empty());
}

TEST_F(MonitorValues, GradientsThatAreFlushed) {
  const auto train = [](double slope) {
    return [slope](Device where, int s) {
      static Tensor x, w, spread;
      if (s == 1) {
        x = randn({64, 16}).to(f16).to(where), w = randn({16, 16}).to(f16).to(where), spread = exp(randn({64, 16}) * 1.4).to(where);
        w.requires_grad_();
      }
      sum(matmul(x, w).to(f32) * spread * std::exp2(-11 - slope * s)).backward();
      w.zero_grad();
    };
  };
  speaks("underflow", "flushed", 200, train(0.1), 8);
  is_silent(200, train(0));
}

TEST_F(MonitorValues, AttentionThatCollapses) {
  const auto attend = [](double growth) {
    return [growth](Device where, int s) {
      static Tensor q, k;
      if (s == 1) q = randn({2, 8, 16}).to(where), k = randn({2, 8, 16}).to(where);
      softmax(matmul(q, k.transpose(1, 2)) * (0.25 * std::pow(growth, s)));
    };
  };
  speaks("attention entropy", "entropy", 150, attend(1.05), 8);
  is_silent(150, attend(1));
}

TEST_F(MonitorValues, MemoryThatNobodyWrote) {
  Tensor x[2] = {randn({256}), randn({256})};  // by no watched op
  uint64_t state = 7;
  auto* p = static_cast<unsigned char*>(x[1].raw_data());
  for (size_t i = 0; i < x[1].nbytes(); ++i)
    state = state * 6364136223846793005u + 1442695040888963407u, p[i] = static_cast<unsigned char>(state >> 56);
  const auto read = [&x](bool random) { return [&x, random](Device where, int) { x[random].to(where) + 1.0; }; };
  speaks("uninitialised", "uninitialised", 1, read(true));
  is_silent(1, read(false));
}

TEST_F(MonitorValues, SumsThatStandStill) {
  const auto add_up = [](DType t) {
    return [t](Device where, int s) {
      static Tensor total;
      const Tensor g = (full({16}, 1e-3) * (1 + 0.1 * rand({16}))).to(t).to(where);
      if (s == 1) total = zeros({16}, {.dtype = t, .device = where});
      total.add_(g);
    };
  };
  speaks("absorbed update", "accumulation", 512, add_up(bf16), 1);
  is_silent(512, add_up(f32));
}

TEST_F(MonitorValues, ShadowsOfProducts) {
  const auto multiply = [](DType t) {
    return [t](Device where, int s) {
      static Tensor x, w, b;
      if (s == 1) x = randn({2, 16, 64}).to(t).to(where), w = randn({24, 64}).to(t).to(where), b = randn({24}).to(t).to(where);
      linear(x, w, b);
      matmul(x, x.transpose(1, 2));
      matmul(w.transpose(), w);
    };
  };
  for (const DType t : {f32, bf16, f16, f64}) {
    is_silent(20, multiply(t), {.max_ulp_drift = 40, .shadow_every = 1});
    if (t == f64) continue;
    // A bound that no product keeps: the measure is not blind.
    const Said said = run(d, 20, multiply(t), {.max_ulp_drift = 0.01, .shadow_every = 1});
    for (const char* op : {"linear", "matmul"}) {
      bool spoke = false;
      for (const auto& f : said.all) spoke |= f.kind == "drift" && f.op == op && f.lost_ulps > 0.01 && f.lost_ulps < 40;
      EXPECT_TRUE(spoke) << op << " of " << name_of(t);
    }
  }
}

TEST_F(MonitorValues, ShadowsOfSumsAndNorms) {
  const auto all_ops = [](DType t) {
    return [t](Device where, int s) {
      static Tensor v, w, b, hidden;
      if (s == 1) {
        v = randn({4, 16, 64}).to(t).to(where), w = randn({64}).to(t).to(where), b = randn({64}).to(t).to(where);
        hidden = (rand({4, 16, 64}) > 0.5).to(where);
      }
      sum(v), sum(v, {.axis = -1}), sum(v, {.axis = {1, 2}}), sum(v, {.axis = 0}), mean(v, {.axis = -1, .keepdim = true});
      layer_norm(v, w, b), layer_norm(v, {}, {}, {.axes = 2}), rms_norm(v, w), softmax(v * 20), softmax(v, {.axis = 1});
      softmax(masked_fill(v, hidden, -kInf));
    };
  };
  for (const DType t : {f32, f64, bf16, f16}) is_silent(20, all_ops(t), {.max_ulp_drift = 200, .shadow_every = 1});
  const Said said = run(d, 20, all_ops(f32), {.max_ulp_drift = 1e-4, .shadow_every = 1});
  for (const char* op : {"sum", "mean", "layer_norm", "rms_norm", "softmax"}) {
    bool spoke = false;
    for (const auto& f : said.all) spoke |= f.kind == "drift" && f.op == op && f.lost_ulps < 200;
    EXPECT_TRUE(spoke) << op;
  }
}

TEST_F(MonitorValues, ShadowsOfNormsThatLoseAll) {
  const auto norm = [](double scale, double offset) {
    return [scale, offset](Device where, int) {
      const Tensor x = randn({4, 16, 64}).to(where);
      layer_norm(x * scale + offset);
    };
  };
  speaks("headroom", "range", 2, norm(1e20, 0), 0, {.shadow_every = 1});  // squares that overflow within the norm
  speaks("lost bits", "drift", 8, norm(0.01, 3000.1), 8, {.shadow_every = 1});
  is_silent(8, norm(1, 3), {.shadow_every = 1});
}

TEST_F(MonitorValues, GradientsThatNobodyClears) {
  const auto train = [](bool clears) {
    return [clears](Device where, int s) {
      static Tensor w;
      static optim::Optimizer opt;
      if (s == 1) w = ones({40}).to(where), w.requires_grad_(), opt = optim::SGD({w}, {.lr = 1e-3});
      sum(square(w)).backward();
      opt.step();
      if (clears) opt.zero_grad();
    };
  };
  speaks("lint", "gradients not cleared", 8, train(false));
  is_silent(8, train(true));
}

struct Attend : nn::Module<Attend> {
  nn::Linear q{16, 16}, k{16, 16}, v{16, 4};
  static void fields(auto& m, auto&& f) { f("q", m.q)("k", m.k)("v", m.v); }
  Tensor forward(const Tensor& x, double scale) const { return matmul(softmax(matmul(q(x), k(x).transpose(1, 2)) * scale), v(x)); }
};
struct Layers : nn::Module<Layers> {
  nn::Linear up{16, 32}, down{32, 4};
  static void fields(auto& m, auto&& f) { f("up", m.up)("down", m.down); }
  Tensor forward(const Tensor& x, double bias) const { return down(relu(up(x) + bias)); }
};

/// Networks that are trained on the device, and go wrong within a module.
TEST_F(MonitorValues, InModules) {
  const auto train = [](auto net, double first, double growth) {
    return [net, first, growth](Device where, int s) {
      static std::shared_ptr<decltype(net)> m;
      static optim::Optimizer opt;
      if (s == 1) m = std::make_shared<decltype(net)>(), m->to(where), opt = optim::AdamW(m->parameters(), {.lr = 1e-4});
      opt.zero_grad();
      mean(square((*m)(randn({16, 8, 16}).to(where), first * std::pow(growth, s)))).backward();
      nn::clip_grad_norm(m->parameters(), 1.0);
      opt.step();
    };
  };
  speaks("attention entropy", "entropy", 150, train(Attend(), 1, 1.05), 8);
  is_silent(150, train(Attend(), 1, 1));
  speaks("underflow", "dead units", 200, train(Layers(), -50, 1));
  is_silent(200, train(Layers(), -0.01, 1));
  EXPECT_EQ(run(d, 150, train(Attend(), 1, 1.05)).of("attention entropy", "entropy")->path, "Attend");
}

TEST_F(MonitorValues, HealthyTrainingIsSilent) {
  const auto train = [](Device where, int s) {
    static std::unique_ptr<SmallCnn> net;
    static optim::Optimizer opt;
    if (s == 1) net = std::make_unique<SmallCnn>(), net->to(where), opt = optim::SGD(net->parameters(), {.lr = 0.05, .momentum = 0.9});
    net->loss_on_noise(where).backward();
    opt.step();
    opt.zero_grad();
  };
  is_silent(200, train, {.shadow_every = 5});
}

/// What was there when the op ran is looked at, whatever becomes of the memory.
TEST_F(MonitorValues, SeeWhatWasThere) {
  const auto overwritten = [](Device where, int s) {
    static Tensor x;
    if (s == 1) x = zeros({64, 32}, {.device = where});
    x.copy_((randn({64, 32}) - 50).to(where));
    const Tensor y = x / (x * x);
    relu(x).fill_(1e9);
    x.fill_(3), Tensor(y).fill_(kInf);
  };
  speaks("underflow", "dead units", 300, overwritten);
}

/// Of results that passes see in part, too; the very same values.
TEST_F(MonitorValues, OfLargeResults) {
  const auto multiply = [](double growth) {
    return [growth](Device where, int s) {
      static Tensor x, w;
      if (s == 1) x = randn({512, 64}).to(where), w = randn({1024, 64}).to(where);
      Tensor boost = ones({1024});
      if (s > 120) boost[{slice(0, 4)}] = std::min(std::pow(growth, s - 120), 60.0);
      linear(x, w * boost.to(where).reshape({1024, 1}));
    };
  };
  speaks("kurtosis", "kurtosis", 220, multiply(1.2), 8);
}

/// A fixed rhythm: large results are watched in one step of so many, what tells most in each.
TEST_F(MonitorValues, WholeEvery) {
  const auto run = [&](int64_t every, int bad) {
    manual_seed(1);
    Tensor w = randn({512, 128}).to(d), v = randn({128, 8}).to(d);
    w.requires_grad_(), v.requires_grad_();
    optim::SGD opt({w, v}, {.lr = 1e-4});
    Monitor m({.whole_every = every});
    for (int s = 1; s <= 32; ++s) {
      m.step();
      const Tensor x = randn({16, 512}).to(d);
      const Tensor hidden = tanh(relu(matmul(x, w)) * 0.5) * (s == bad ? kInf : 1.0);
      opt.zero_grad();
      mean(square(matmul(hidden, v))).backward();
      opt.step();
      m.news();
      synchronize(d);
    }
    m.step();
    std::map<std::string, int64_t> calls;
    for (const auto& r : m.statistics())
      if (r.phase == "forward") calls[r.op] += r.calls;
    if (bad) {
      EXPECT_FALSE(m.findings().empty());
      EXPECT_EQ(m.findings()[0].step, bad);
      EXPECT_GT(calls["tanh"], 16);  // steps after it are watched whole
    } else {
      EXPECT_TRUE(m.findings().empty()) << everything(m);
      EXPECT_EQ(calls["tanh"], every == 1 ? 32 : 32 / every + 1);
    }
    EXPECT_EQ(calls["mean"], 32);    // the loss
    EXPECT_EQ(calls["square"], 32);  // what it is made of
  };
  run(1, 0), run(4, 0), run(8, 0), run(4, 10);
}

TEST_F(MonitorValues, SameBitsAndNoWaits) {
  const auto train = [&](bool watched, int& waits) {
    manual_seed(7);
    Tensor w = randn({64, 64}).to(d), v = randn({64, 8}).to(d);
    w.requires_grad_(), v.requires_grad_();
    optim::AdamW opt({w, v}, {.lr = 1e-2});
    const Tensor x = randn({32, 64}).to(d), y = randint(0, 8, {32}).to(d);
    std::unique_ptr<Monitor> m;
    if (watched) m = std::make_unique<Monitor>(MonitorOptions{.budget = 0, .shadow_every = 1});
    Tensor loss;
    const Waits counter(d);
    for (int s = 0; s < 12; ++s) {
      if (m) m->step();
      opt.zero_grad();
      const Tensor h = matmul(relu(layer_norm(matmul(x, w))), v);
      loss = cross_entropy(h / (1 + softmax(h.reshape({4, 8, 8})).reshape({32, 8})), y);
      loss.backward();
      opt.step();
    }
    waits = Waits::count;
    if (m) { EXPECT_TRUE(m->findings().empty()) << all(*m); }
    return std::vector<Tensor>{loss.detach().to(cpu_device), w.detach().to(cpu_device), v.detach().to(cpu_device)};
  };
  int off = 0, on = 0;
  const auto a = train(false, off), b = train(true, on);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(array_equal(a[i], b[i])) << i;
  EXPECT_EQ(on, off);
}

/// A device so far behind that boards have no room left for values: rules about these rest, and all else is seen; nobody waits.
TEST_F(MonitorValues, FarBehind) {
  constexpr int kSteps = 60, kBad = 50;
  const auto run = [&](bool watched, int& waits) {
    manual_seed(1);
    const Tensor x = randn({256, 256}).to(d), w = randn({256, 256}).to(d);
    std::unique_ptr<Monitor> m;
    if (watched) m = std::make_unique<Monitor>(MonitorOptions{.budget = 0, .shadow_every = 1});
    const Waits counter(d);
    for (int s = 1; s <= kSteps; ++s) {
      if (m) m->step();
      softmax(layer_norm(matmul(x, w)) * (s == kBad ? kInf : 1.0));
    }
    waits = Waits::count;
    if (!m) return;
    m->step();
    ASSERT_FALSE(m->findings().empty());
    EXPECT_EQ(m->findings()[0].op, "softmax") << all(*m);  // the infinity was meant
    EXPECT_EQ(m->findings()[0].step, kBad);
    for (const auto& r : m->statistics())
      if (r.op == "matmul" || r.op == "softmax") {
        EXPECT_EQ(r.calls, kSteps);
        EXPECT_EQ(r.last_step, kSteps);
      }
  };
  int off = 0, on = 0;
  run(false, off), run(true, on);
  EXPECT_EQ(on, off);
}

}  // namespace
}  // namespace keel
