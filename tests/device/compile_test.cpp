// Steps captured by a device: what they give, write and draw equals what the same step gives, run as it is.
#include <cstring>
#include <memory>

#include "backend/device_kernels.h"
#include "core/impl.h"
#include "device/on_device.h"
#include "op/scope.h"
#include "support/training.h"

namespace keel {
namespace {

void expect_same_bits(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.defined(), want.defined()) << what;
  if (!got.defined()) return;
  ASSERT_EQ(got.shape(), want.shape()) << what;
  ASSERT_EQ(got.dtype(), want.dtype()) << what;
  const Tensor a = got.detach().to(cpu_device).contiguous(), b = want.detach().to(cpu_device).contiguous();
  EXPECT_EQ(std::memcmp(a.impl()->data, b.impl()->data, size_t(a.size()) * size_of(a.dtype())), 0) << what << "\n" << a << "\n" << b;
}
uint64_t bits_of(double x) {
  uint64_t b;
  std::memcpy(&b, &x, 8);
  return b;
}

class CompilesOnDevice : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    if (!driver_of(d).record_begin || !static_cast<const DeviceKernels*>(driver_of(d).kernels)->count)
      GTEST_SKIP() << "the device captures nothing";
  }
};

/// A training program with everything that changes from step to step.
struct Training {
  struct Net : nn::Module<Net> {
    nn::Linear a{12, 32}, b{32, 4};
    nn::Dropout drop{0.3};
    static void fields(auto& m, auto&& f) { f("a", m.a)("b", m.b)("drop", m.drop); }
    Tensor forward(const Tensor& x) const { return b(drop(gelu(a(x)))); }
  };
  Net net;
  optim::Optimizer opt;
  optim::Scheduler schedule;
  optim::GradScaler scaler{{.init_scale = 512, .growth_interval = 7}};
  Device d;

  explicit Training(Device where) : d(where) {
    net.to(d);
    opt = optim::AdamW(net.parameters(), {.lr = 1e-2, .weight_decay = 0.1});
    schedule = optim::CosineAnnealing(opt, {.total_steps = 100, .warmup_steps = 5, .min_lr = 1e-4});
  }
  Tensor step(const Tensors& in) {
    opt.zero_grad();
    const Tensor loss = cross_entropy(net(in[0]), in[1]);
    scaler.scale(loss).backward();
    scaler.unscale_(opt);
    nn::clip_grad_norm(net.parameters(), 0.5);
    scaler.step(opt);
    scaler.update();
    return loss.detach();
  }
};

TEST_F(CompilesOnDevice, TrainsToTheSameBits) {
  manual_seed(1);
  const Tensor data = randn({100 * 16, 12}).to(d), labels = randint(0, 4, {100 * 16}).to(d);
  std::vector<uint64_t> losses[2];
  StateDict weights[2];
  double scales[2];
  for (const bool compiled : {false, true}) {
    manual_seed(7);
    Training run(d);
    const Compiled step = compile([&](const Tensors& in) { return run.step(in); });
    for (int i = 0; i < 100; ++i) {
      const Tensors batch = {data[{slice(16 * i, 16 * i + 16)}], labels[{slice(16 * i, 16 * i + 16)}]};
      const Tensor loss = compiled ? step(batch)[0] : run.step(batch);
      losses[compiled].push_back(bits_of(loss.item()));
      run.schedule.step();
      if (i == 50) run.opt.set(0, "weight_decay", 0.05);
      if (compiled && i > 3) {
        EXPECT_TRUE(step.captured()) << i << ": " << step.reason();
      }
    }
    if (compiled) {
      EXPECT_EQ(step.replays(), 97);
    }
    scales[compiled] = run.scaler.get_scale();
    weights[compiled].merge(run.net.state_dict(), "net."), weights[compiled].merge(run.opt.state_dict(), "opt.");
    weights[compiled].set("random", rand({3}));
  }
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(scales[0], scales[1]);
  for (const StateDict::Entry& e : weights[0]) expect_same_bits(*weights[1].find(e.name), e.tensor, e.name);
}

/// Branches that have nothing in common, beside writes into what others still read: whoever runs them at the same time must not mix them
/// up.
TEST_F(CompilesOnDevice, BranchesKeepTheirOrder) {
  manual_seed(4);
  const Tensor x = randn({96, 64}).to(d), long_row = randn({1, 300000}).to(d);
  Tensors w[2];
  Tensor sum[2], last[2];
  for (int k = 0; k < 2; ++k) {
    manual_seed(5);
    for (int i = 0; i < 6; ++i) w[k].push_back(randn({64, 80}).to(d));
    sum[k] = zeros({96, 80}).to(d), last[k] = ones({80}).to(d);
  }
  const auto step = [&](int k, const Tensors& in) {
    Tensor products[6], rows[3];
    for (int i = 0; i < 6; ++i) {
      products[i] = matmul(in[0], w[k][i]);
      if (i % 2) rows[i / 2] = softmax(long_row * double(i));  // its blocks must run at the same time
      w[k][i].mul_(0.999);                                     // the product has read it
    }
    for (int i = 0; i < 6; ++i) sum[k].add_(products[i] * double(i + 1));
    last[k].copy_(products[5][{0}]);
    Tensors out{sum[k].sum({.axis = 0}) + last[k], matmul(products[0], products[1].transpose())};
    last[k].mul_(2.0);
    for (const Tensor& r : rows) out.push_back(r.sum({.axis = 1}) + r[{0, 0}]);
    return out;
  };
  const Compiled compiled = compile([&](const Tensors& in) { return step(1, in); });
  for (int i = 0; i < 25; ++i) {
    const Tensors want = step(0, {x}), got = compiled({x});
    for (int64_t k = 0; k < want.size(); ++k) expect_same_bits(got[k], want[k], std::to_string(i) + ", " + std::to_string(k));
    EXPECT_EQ(compiled.captured(), i > 2) << compiled.reason();
    if (HasFailure()) return;
  }
  for (int i = 0; i < 6; ++i) expect_same_bits(w[1][i], w[0][i], "weight");
}

TEST_F(CompilesOnDevice, EveryShapeHasItsOwnRecording) {
  const Tensor w = randn({6, 5}).to(d);
  const auto f = [&](const Tensors& in) { return tanh(matmul(in[0], w)); };
  const Compiled g = compile(f);
  for (int i = 0; i < 6; ++i)
    for (const int64_t n : {3, 8}) {
      const Tensor x = randn({n, 6}).to(d);
      expect_same_bits(g({x})[0], f({x}), std::to_string(n));
      EXPECT_EQ(g.captured(), i > 2) << i << " " << g.reason();
    }
  const Tensor t = randn({6, 3}).to(d).transpose(0, 1);
  for (int i = 0; i < 5; ++i) expect_same_bits(g({t})[0], f({t}), "transposed");
  for (int64_t n = 20; n < 32; ++n) {  // more kinds than are kept
    const Tensor x = randn({n, 6}).to(d);
    for (int i = 0; i < 4; ++i) expect_same_bits(g({x})[0], f({x}), std::to_string(n));
    EXPECT_TRUE(g.captured());
  }
}

TEST_F(CompilesOnDevice, ResultsStay) {
  const Compiled g = compile([](const Tensors& in) -> Tensors { return {in[0] * 2, in[0], in[0].transpose(0, 1), in[0] + 1}; });
  std::vector<Tensors> kept;
  for (int i = 0; i < 8; ++i) kept.push_back(g({full({2, 3}, double(i), {.device = d})}));
  EXPECT_TRUE(g.captured()) << g.reason();
  for (int i = 0; i < 8; ++i) {
    expect_same_bits(kept[size_t(i)][0], full({2, 3}, 2.0 * i), "twice");
    expect_same_bits(kept[size_t(i)][1], full({2, 3}, double(i)), "itself");
    expect_same_bits(kept[size_t(i)][2], full({3, 2}, double(i)), "transposed");
    expect_same_bits(kept[size_t(i)][3], full({2, 3}, i + 1.0), "plus one");
  }
}

TEST_F(CompilesOnDevice, FollowsWeightsThatAreReplaced) {
  nn::Linear layer(4, 4);
  layer.to(d);
  const Compiled g = compile([&](const Tensors& in) { return layer(in[0]).detach(); });
  const Tensor x = randn({2, 4}).to(d);
  const auto check = [&](const char* what, int calls) {
    for (int i = 0; i < calls; ++i) expect_same_bits(g({x})[0], layer(x), what);
    EXPECT_TRUE(g.captured()) << what << ": " << g.reason();
  };
  check("first", 5);
  nn::Linear other(4, 4);
  layer.load_state_dict(other.state_dict());
  check("loaded", 3);
  layer.to(cpu_device);
  layer.to(d);
  check("moved", 4);
  layer.weight = Tensor(randn({4, 4}).to(d)).requires_grad_();
  check("another", 4);
}

/// State that is loaded in the middle of a run is what the next step begins from; running statistics move as they do without a recording.
TEST_F(CompilesOnDevice, FollowsStateThatIsLoaded) {
  const auto on_host = [](const StateDict& s) {
    StateDict copies;
    for (const StateDict::Entry& e : s) copies.set(e.name, copy(e.tensor.detach().to(cpu_device)));
    return copies;
  };
  StateDict end[2];
  for (const bool compiled : {false, true}) {
    manual_seed(3);
    nn::Sequential net(nn::Linear(6, 16), nn::BatchNorm1d(16), nn::ReLU(), nn::Linear(16, 3));
    net.to(d);
    optim::SGD opt(net.parameters(), {.lr = 0.1, .momentum = 0.9});
    const auto f = training_step(net, opt);
    const Compiled step = compile(f);
    StateDict weights, state;
    for (int i = 0; i < 20; ++i) {
      const Tensors batch = {randn({8, 6}).to(d), randint(0, 3, {8}).to(d)};
      if (i == 6) weights = on_host(net.state_dict()), state = on_host(opt.state_dict());
      if (i == 12) net.load_state_dict(weights), opt.load_state_dict(state);
      compiled ? step(batch) : Tensors{f(batch)};
    }
    if (compiled) {
      EXPECT_TRUE(step.captured()) << step.reason();
      EXPECT_GT(step.replays(), 12);
    }
    end[compiled].merge(on_host(net.state_dict()), "net."), end[compiled].merge(on_host(opt.state_dict()), "opt.");
  }
  for (const StateDict::Entry& e : end[0]) expect_same_bits(*end[1].find(e.name), e.tensor, e.name);
}

TEST_F(CompilesOnDevice, SaysWhyNot) {
  const Tensor x = randn({4}).to(d);
  const auto settles = [&](auto f) {
    const Compiled g = compile(f);
    for (int i = 0; i < 6; ++i) g({x});
    EXPECT_FALSE(g.captured());
    return g.reason();
  };
  EXPECT_EQ(settles([](const Tensors& in) { return in[0] * in[0].sum().item(); }), "the host looks at the result of sum");
  EXPECT_EQ(settles([](const Tensors& in) { return nonzero(in[0]); }), "the shape of nonzero's result depends on the data");
  EXPECT_EQ(settles([](const Tensors& in) { return Tensor(in[0]).mul_(1); }), "it writes into an input");
  EXPECT_EQ(settles([](const Tensors& in) { return in[0].to(cpu_device) + 1; }),
            "transfer copies between " + to_string(d) + " and the host");
  const Tensor w = randn({4}, {.device = d, .requires_grad = true});
  EXPECT_EQ(settles([&](const Tensors& in) { return in[0] * w; }),
            "a result carries a gradient; call backward() inside, or return it detached");
  if (d.type == DeviceType::cuda) return;
  EXPECT_EQ(settles([](const Tensors& in) { return cumsum(in[0], {.axis = 0}); }),
            "cumsum has no kernel on " + to_string(d) + " and runs on the CPU");
}

/// Control flow that follows values is followed.
TEST_F(CompilesOnDevice, DecisionsOfTheHostAreMadeAnew) {
  const Compiled g = compile([](const Tensors& in) { return in[0].sum().item() > 0 ? in[0] * 2 : in[0] * -3; });
  for (int i = 0; i < 6; ++i) {
    const double v = i % 2 ? 1 : -1;
    EXPECT_EQ(g({full({2}, v, {.device = d})})[0].sum().item(), v > 0 ? 4 : 6);
  }
}

/// Work of the program between two steps reads and writes what they do.
TEST_F(CompilesOnDevice, StepsTakeTurnsWithEagerWork) {
  const auto run = [&](bool compiled) {
    manual_seed(11);
    Tensor a = zeros({5}).to(d), b = zeros({5}).to(d);
    const auto f = [&](const Tensors& in) { return a.add_(in[0] + rand({5}, {.device = d})), b * 2; };
    const auto h = [&](const Tensors& in) { return b.add_(a * in[0]), a - rand({5}, {.device = d}); };
    const Compiled cf = compile(f), ch = compile(h);
    Tensors seen;
    for (int i = 0; i < 10; ++i) {
      const Tensor x = full({5}, 0.25 * i, {.device = d});
      seen.push_back(compiled ? cf({x})[0] : f({x}));
      a.mul_(0.5), b.sub_(rand({5}, {.device = d}));
      seen.push_back(compiled ? ch({x})[0] : h({x}));
      const Tensor temporary = a * b + 1;  // takes and gives back memory in between
      seen.push_back(temporary);
    }
    if (compiled) {
      EXPECT_TRUE(cf.captured() && ch.captured()) << cf.reason() << ch.reason();
    }
    seen.push_back(a), seen.push_back(b);
    return seen;
  };
  const Tensors want = run(false), got = run(true);
  for (int64_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i], std::to_string(i));
}

/// Gradients that add up over calls, and those that the program clears outside.
TEST_F(CompilesOnDevice, GradientsBeginAsTheProgramLeftThem) {
  const auto run = [&](bool compiled) {
    manual_seed(4);
    const Tensor w = randn({3, 3}, {.device = d, .requires_grad = true});
    const auto f = [&](const Tensors& in) {
      const Tensor y = square(matmul(in[0], w)).sum();
      y.backward();
      return y.detach();
    };
    const Compiled g = compile(f);
    Tensors seen;
    for (int i = 0; i < 24; ++i) {
      const Tensor x = randn({2, 3}).to(d);
      if (i == 9 || i == 15 || i == 20) Tensor(w).zero_grad();
      seen.push_back(compiled ? g({x})[0] : f({x}));
      seen.push_back(w.grad().clone());
    }
    if (compiled) {
      EXPECT_GT(g.replays(), 5) << g.reason();
    }
    return seen;
  };
  const Tensors want = run(false), got = run(true);
  for (int64_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i], std::to_string(i));
}

/// Slices that share out a tensor, as queries, keys and values do: their gradients are put side by side.
TEST_F(CompilesOnDevice, GradientsOfSlicesKeepTheirBits) {
  const auto run = [&](bool compiled) {
    manual_seed(6);
    const Tensor w = randn({8, 24}, {.device = d, .requires_grad = true});
    const auto f = [&](const Tensors& in) {
      Tensor(w).zero_grad();
      const Tensor h = matmul(in[0], w).reshape({4, 5, 3, 2, 4}).permute({2, 0, 3, 1, 4}), flat = matmul(in[0], w);
      const Tensor y = attention(h[0], h[1], h[2], {.causal = true}), z = flat[{all, slice(0, 9)}] * flat[{all, slice(9, 18)}];
      (y.sum() - relu(z).sum() + flat[{all, slice(18, 24)}].sum() * -0.0).backward();
      return w.grad();
    };
    const Compiled g = compile(f);
    Tensors seen;
    for (int i = 0; i < 6; ++i) {
      const Tensor x = randn({20, 8}).to(d);
      seen.push_back((compiled ? g({x})[0] : f({x})).clone());
    }
    if (compiled) {
      EXPECT_TRUE(g.captured()) << g.reason();
    }
    return seen;
  };
  const Tensors want = run(false), got = run(true);
  for (int64_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i], std::to_string(i));
}

TEST_F(CompilesOnDevice, WatchersSeeEveryOp) {
  const Tensor x = randn({4}).to(d);
  const Compiled g = compile([](const Tensors& in) { return exp(in[0]); });
  for (int i = 0; i < 5; ++i) g({x});
  EXPECT_TRUE(g.captured());
  {
    Monitor m;
    g({x});
    EXPECT_FALSE(g.captured());
    EXPECT_EQ(g.reason(), "a monitor watches");
  }
  EXPECT_EQ(trace([&](const Tensors& in) { return g({in[0]}); }, {x}).size(), 1);
  g({x});
  EXPECT_TRUE(g.captured());
}

/// Of a monitor that watches one step in some whole, the others are replayed; bits are the same, and what breaks is noticed in its step.
TEST_F(CompilesOnDevice, StepsThatAreWatchedInPart) {
  manual_seed(1);
  const Tensor data = randn({16, 12}).to(d), labels = randint(0, 4, {16}).to(d), broken = (randn({16, 12}) * 1e38 * 1e3).to(d);
  StateDict weights[2];
  for (const bool watched : {false, true}) {
    manual_seed(7);
    Training run(d);
    const Compiled step = compile([&](const Tensors& in) { return run.step(in); });
    std::unique_ptr<Monitor> m;
    if (watched) m = std::make_unique<Monitor>(MonitorOptions{.whole_every = 4});
    int64_t steps[2] = {};
    for (int i = 0; i < 64; ++i) {
      if (m) m->step();
      step({data, labels});
      if (i >= 32) ++steps[step.captured()];
    }
    EXPECT_EQ(steps[1], watched ? 24 : 32) << step.reason();
    if (m) {
      EXPECT_TRUE(m->findings().empty()) << m->findings()[0].text;
      EXPECT_TRUE(m->warnings().empty()) << m->warnings()[0].text;
    }
    weights[watched].merge(run.net.state_dict(), "net."), weights[watched].merge(run.opt.state_dict(), "opt.");
  }
  for (const StateDict::Entry& e : weights[0]) expect_same_bits(*weights[1].find(e.name), e.tensor, e.name);

  Training run(d);
  const Compiled step = compile([&](const Tensors& in) { return run.step(in); });
  {  // whoever holds weights back sees every op
    Monitor m({.protect = true, .whole_every = 4});
    for (int i = 0; i < 16; ++i) m.step(), step({data, labels});
    EXPECT_EQ(step.replays(), 0);
  }
  Monitor m({.whole_every = 4});
  for (int i = 0; i < 33; ++i) m.step(), step({data, labels});
  m.step(), step({broken, labels});
  EXPECT_TRUE(step.captured()) << step.reason();
  ASSERT_EQ(m.findings().size(), 1u);
  EXPECT_EQ(m.findings()[0].step, m.current_step());
  EXPECT_NE(m.findings()[0].text.find("was not watched in this step"), std::string::npos) << m.findings()[0].text;
  for (int i = 0; i < 8; ++i) {
    m.step(), step({data, labels});
    EXPECT_FALSE(step.captured());
  }
}

TEST_F(CompilesOnDevice, MemoryGoesWithTheStep) {
  matmul(ones({4, 4}, {.device = d}), ones({4, 4}, {.device = d}));  // libraries take memory of their own
  synchronize(d);
  const int64_t before = memory_stats(d).bytes_in_use;
  {
    Tensor kept;
    {
      const Tensor w = ones({64, 64}, {.device = d}).requires_grad_();
      auto g = std::make_unique<Compiled>(compile([&](const Tensors& in) {
        Tensor(w).zero_grad();
        const Tensor y = matmul(matmul(in[0], w), w).sum();
        y.backward();
        return y.detach();
      }));
      for (int i = 0; i < 5; ++i) (*g)({ones({8, 64}, {.device = d})});
      ASSERT_TRUE(g->captured()) << g->reason();
      g.reset();
      kept = w.grad();  // memory of the recording that outlives it
      const Tensor churn = ones({64, 64}, {.device = d}) * 5;
    }
    expect_same_bits(kept, full({64, 64}, 2.0 * 8 * 64), "a gradient after the step has gone");
  }
  EXPECT_EQ(memory_stats(d).bytes_in_use, before);
}

}  // namespace
}  // namespace keel
