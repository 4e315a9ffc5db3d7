// Captured steps of programs that change more than tensors between calls: modes, policies, frozen weights, gradients that add up; and steps
// that fail, or call each other. What is run as it is tells what is right.
#include <cstring>

#include "backend/device_kernels.h"
#include "core/impl.h"
#include "device/on_device.h"

namespace keel {
namespace {

void expect_same_bits(const Tensors& got, const Tensors& want) {
  ASSERT_EQ(got.size(), want.size());
  for (int64_t i = 0; i < want.size(); ++i) {
    const Tensor a = got[i].to(cpu_device).contiguous(), b = want[i].to(cpu_device).contiguous();
    ASSERT_EQ(a.shape(), b.shape()) << i;
    ASSERT_EQ(a.dtype(), b.dtype()) << i;
    EXPECT_EQ(std::memcmp(a.impl()->data, b.impl()->data, size_t(a.size()) * size_of(a.dtype())), 0) << i << "\n" << a << "\n" << b;
  }
}

class CompilesWhatChanges : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    if (!driver_of(d).record_begin || !static_cast<const DeviceKernels*>(driver_of(d).kernels)->count)
      GTEST_SKIP() << "the device captures nothing";
  }
  /// `run(compiled)` gives what it saw.
  template <class Run>
  void same(Run run) {
    const auto seeded = [&](bool compiled) {
      manual_seed(3);
      return run(compiled);
    };
    const Tensors want = seeded(false), got = seeded(true);
    expect_same_bits(got, want);
  }
};

TEST_F(CompilesWhatChanges, TrainingAndEvaluation) {
  same([&](bool compiled) {
    nn::Sequential net(nn::Linear(6, 16), nn::Dropout(0.5), nn::Linear(16, 3));
    net.to(d);
    const auto f = [&](const Tensors& in) { return net(in[0]).detach(); };
    const Compiled g = compile(f);
    Tensors seen;
    int64_t replays = 0;
    for (int i = 0; i < 24; ++i) {
      if (i % 8 == 5) net.eval();
      if (i % 8 == 0) net.train();
      const Tensor x = randn({8, 6}).to(d);
      seen.push_back(compiled ? g({x})[0] : f({x}));
      if (i >= 16) replays += g.captured();
    }
    if (compiled) {
      EXPECT_EQ(replays, 8) << g.reason();  // a recording of each mode, which both stay
    }
    return seen;
  });
}

/// A mode that the step sets itself is its own affair, and so is a module that comes and goes in it.
TEST_F(CompilesWhatChanges, ModesOfTheStep) {
  nn::Dropout outer(0.5);
  const Compiled g = compile([&](const Tensors& in) {
    outer.train();
    const Tensor y = outer(in[0]) + nn::Dropout(0.5)(in[0]);
    outer.eval();
    return outer(y);
  });
  for (int i = 0; i < 8; ++i) g({ones({16}, {.device = d})});
  EXPECT_TRUE(g.captured()) << g.reason();
}

/// What a recording knows of a module does not hold it alive, nor take another one for it.
TEST_F(CompilesWhatChanges, ModulesThatAreReplaced) {
  same([&](bool compiled) {
    std::optional<nn::Dropout> drop(0.5);
    const auto f = [&](const Tensors& in) { return (*drop)(in[0]) * 2; };
    const Compiled g = compile(f);
    Tensors seen;
    for (int i = 0; i < 12; ++i) {
      if (i == 6) drop.reset(), drop.emplace(0.5), drop->eval();
      const Tensor x = randn({8}).to(d);
      seen.push_back(compiled ? g({x})[0] : f({x}));
    }
    return seen;
  });
}

TEST_F(CompilesWhatChanges, PoliciesOfAutocast) {
  const Tensor w = randn({8, 8}).to(d), x = randn({8, 8}).to(d);
  const Compiled g = compile([&](const Tensors& in) { return matmul(in[0], w); });
  AutocastPolicy low, wide;
  wide.rules.push_back({"", "matmul", f32});
  for (int i = 0; i < 12; ++i) {
    Autocast guard(i % 2 ? low : wide);
    EXPECT_EQ(g({x})[0].dtype(), i % 2 ? bf16 : f32) << i;
  }
}

struct TwoLayers : nn::Module<TwoLayers> {
  nn::Linear a{6, 16}, b{16, 3};
  static void fields(auto& m, auto&& f) { f("a", m.a)("b", m.b); }
  Tensor forward(const Tensor& x) const { return b(relu(a(x))); }
};

TEST_F(CompilesWhatChanges, WeightsThatAreFrozen) {
  same([&](bool compiled) {
    TwoLayers net;
    net.to(d);
    optim::SGD opt(net.parameters(), {.lr = 0.1, .momentum = 0.9});
    const auto f = [&](const Tensors& in) {
      opt.zero_grad();
      const Tensor loss = cross_entropy(net(in[0]), in[1]);
      loss.backward();
      opt.step();
      return loss.detach();
    };
    const Compiled g = compile(f);
    Tensors seen;
    for (int i = 0; i < 24; ++i) {
      if (i == 8) net.a.requires_grad_(false);
      if (i == 16) net.a.requires_grad_(true);
      const Tensors batch = {randn({8, 6}).to(d), randint(0, 3, {8}).to(d)};
      seen.push_back(compiled ? g(batch)[0] : f(batch));
      seen.push_back(net.a.weight.detach().clone());
    }
    if (compiled) {
      EXPECT_TRUE(g.captured()) << g.reason();
    }
    return seen;
  });
}

/// The first batch of a group begins without gradients, the others add to them.
TEST_F(CompilesWhatChanges, GradientsThatAddUp) {
  same([&](bool compiled) {
    nn::Linear net(6, 3);
    net.to(d);
    optim::Adam opt(net.parameters(), {.lr = 1e-2});
    const auto f = [&](const Tensors& in) {
      const Tensor loss = cross_entropy(net(in[0]), in[1]);
      loss.backward();
      return loss.detach();
    };
    const Compiled g = compile(f);
    Tensors seen;
    int64_t replays = 0;
    for (int i = 0; i < 48; ++i) {
      const Tensors batch = {randn({8, 6}).to(d), randint(0, 3, {8}).to(d)};
      seen.push_back(compiled ? g(batch)[0] : f(batch));
      if (i >= 32) replays += g.captured();
      if (i % 4 == 3) opt.step(), opt.zero_grad();
    }
    if (compiled) {
      EXPECT_EQ(replays, 16) << g.reason();
    }
    seen.push_back(net.weight.detach());
    return seen;
  });
}

TEST_F(CompilesWhatChanges, StepsThatFail) {
  const Tensor w = ones({4}, {.device = d});
  int calls = 0;
  const Compiled g = compile([&](const Tensors& in) {
    const Tensor y = in[0] * w;
    if (calls++ < 3) raise(Error(ErrorCode::value, "not yet").op("step"));
    return y + 1;
  });
  const Tensor x = full({4}, 2, {.device = d});
  for (int i = 0; i < 9; ++i) {
    if (i < 3)
      EXPECT_THROW(g({x}), Error) << i;
    else
      EXPECT_EQ(g({x})[0].sum().item(), 12) << i;
  }
  EXPECT_TRUE(g.captured()) << g.reason();
}

TEST_F(CompilesWhatChanges, StepsInSteps) {
  const Tensor w = full({4}, 3, {.device = d});
  const Compiled inner = compile([&](const Tensors& in) { return in[0] * w + 1; });
  const Compiled outer = compile([&](const Tensors& in) { return inner({in[0] * 2})[0] - 1; });
  for (int i = 0; i < 9; ++i) {
    const Tensor x = full({4}, i, {.device = d});
    EXPECT_EQ(outer({x})[0].sum().item(), 24 * i);
    if (i > 4) {
      EXPECT_EQ(inner({x})[0].sum().item(), 12 * i + 4);
    }
  }
  EXPECT_TRUE(outer.captured()) << outer.reason();
}

TEST_F(CompilesWhatChanges, StepsThatTakeTurns) {
  same([&](bool compiled) {
    nn::Linear net(6, 3);
    net.to(d);
    optim::SGD opt(net.parameters(), {.lr = 1e-2, .momentum = 0.9});
    const auto step_by = [&](double k) {
      return [&net, &opt, k](const Tensors& in) {
        opt.zero_grad();
        const Tensor loss = (net(in[0]) * k).sum();
        loss.backward();
        opt.step();
        return loss.detach();
      };
    };
    const auto up = step_by(-0.5), down = step_by(1);
    const Compiled cup = compile(up), cdown = compile(down);
    Tensors seen;
    for (int i = 0; i < 24; ++i) {
      const Tensor x = randn({8, 6}).to(d);
      seen.push_back(compiled ? (i % 2 ? cup : cdown)({x})[0] : i % 2 ? up({x}) : down({x}));
    }
    if (compiled) {
      EXPECT_TRUE(cup.captured() && cdown.captured()) << cup.reason() << cdown.reason();
    }
    seen.push_back(net.weight.detach());
    return seen;
  });
}

}  // namespace
}  // namespace keel
