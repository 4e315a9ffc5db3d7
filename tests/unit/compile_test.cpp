// Compiled steps where there is nothing to capture: they run as recorded, or as they are, and equal the step to the bit.
#include <gtest/gtest.h>

#include <cstring>

#include "core/impl.h"
#include "keel/keel.h"

namespace keel {
namespace {

void expect_same_bits(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  ASSERT_EQ(got.dtype(), want.dtype()) << what;
  const Tensor a = got.detach().contiguous(), b = want.detach().contiguous();
  const auto bytes = size_t(a.size()) * size_of(a.dtype());
  EXPECT_EQ(std::memcmp(a.impl()->data, b.impl()->data, bytes), 0) << what << "\n" << a << "\n" << b;
}

TEST(Compile, TrainsToTheSameBitsOnTheCpu) {
  const Tensor data = randn({320, 6}), labels = randint(0, 3, {320});
  std::vector<double> losses[2];
  StateDict weights[2];
  for (const bool compiled : {false, true}) {
    manual_seed(2);
    nn::Sequential net(nn::Linear(6, 16), nn::GELU(), nn::Dropout(0.2), nn::Linear(16, 3));
    optim::Adam opt(net.parameters(), {.lr = 1e-2});
    optim::CosineAnnealing schedule(opt, {.total_steps = 20});
    const auto f = [&](const Tensors& in) {
      const Tensor loss = cross_entropy(net(in[0]), in[1]);
      loss.backward();
      nn::clip_grad_norm(net.parameters(), 1.0);
      opt.step();
      opt.zero_grad();
      return loss.detach();
    };
    const Compiled step = compile(f);
    EXPECT_EQ(step.reason(), "it was not called yet");
    for (int i = 0; i < 20; ++i) {
      const Tensors batch = {data[{slice(16 * i, 16 * i + 16)}], labels[{slice(16 * i, 16 * i + 16)}]};
      losses[compiled].push_back((compiled ? step(batch)[0] : f(batch)).item());
      schedule.step();
      if (compiled && i > 1) {
        EXPECT_EQ(step.reason(), "the CPU has nothing to capture");
        EXPECT_FALSE(step.captured());
      }
    }
    EXPECT_EQ(step.replays(), 0);
    weights[compiled] = net.state_dict();
    weights[compiled].set("random", rand({3}));
  }
  EXPECT_EQ(losses[0], losses[1]);
  for (const StateDict::Entry& e : weights[0]) expect_same_bits(*weights[1].find(e.name), e.tensor, e.name);
}

TEST(Compile, RunsTheStepItselfWhereTheHostDecides) {
  int64_t calls = 0;
  const Compiled g = compile([&](const Tensors& in) { return ++calls, sum(in[0]).item() > 0 ? in[0] * 2 : in[0] - 1; });
  for (int i = 0; i < 8; ++i) expect_same_bits(g({full({3}, i % 2 ? 1.0 : -1.0)})[0], full({3}, i % 2 ? 2.0 : -2.0), "both ways");
  EXPECT_EQ(calls, 8);
  EXPECT_EQ(g.reason(), "the host looks at the result of sum");
  const Compiled shapes = compile([](const Tensors& in) { return nonzero(in[0]); });
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(shapes({arange(3) - Scalar(i % 3)})[0].shape()[0], 2);
  EXPECT_EQ(shapes.reason(), "the shape of nonzero's result depends on the data");
  Tensor state = zeros({2});
  const Compiled read = compile([&](const Tensors& in) { return state.add_(in[0]), in[0] * state.data<float>()[0]; });
  for (int i = 1; i < 6; ++i) expect_same_bits(read({ones({2})})[0], full({2}, double(i)), "a tensor that it writes");
  EXPECT_EQ(read.reason(), "the host looks at a tensor that the step works on");
}

TEST(Compile, RunsTheRecordingElsewhere) {
  int64_t calls = 0;
  Tensor w = ones({3});
  const Compiled g = compile([&](const Tensors& in) { return ++calls, in[0] * w; });
  const auto check = [&] {
    const Tensor x = randn({3});
    expect_same_bits(g({x})[0], x * w, "product");
  };
  for (int i = 0; i < 6; ++i) check();
  EXPECT_EQ(calls, 2);  // warming up, recording
  w.mul_(3);
  check();
  EXPECT_EQ(calls, 2);
  w = ones({3}) * 5;  // another tensor: recorded again
  check();
  EXPECT_EQ(calls, 3);
  check();
  {
    Monitor m;
    check();
    EXPECT_EQ(g.reason(), "a monitor watches");
  }
  EXPECT_EQ(calls, 4);
  {
    NoGrad off;  // a recording of its own
    for (int i = 0; i < 4; ++i) check();
    EXPECT_EQ(calls, 6);
  }
  check();
  EXPECT_EQ(calls, 6);
}

TEST(Compile, TakesNoStepForAnother) {
  const Tensor w = ones({3}, {.requires_grad = true});
  const Compiled carries = compile([&](const Tensors& in) { return in[0] * w; });
  for (int i = 0; i < 5; ++i) {
    Tensor(w).zero_grad();
    carries({full({3}, double(i))})[0].sum().backward();
    expect_same_bits(w.grad(), full({3}, double(i)), "a gradient through the result");
  }
  Tensor x = zeros({2});
  const Compiled writes = compile([](const Tensors& in) { return Tensor(in[0]).add_(1), Tensor(in[1]) * 2; });
  for (int i = 1; i < 6; ++i) {
    writes({x, ones({1})});
    EXPECT_EQ(x.data<float>()[0], i);
  }
  const Compiled tied = compile([](const Tensors& in) { return Tensor(in[0]).add_(1), in[1] * 2; });
  for (int i = 0; i < 4; ++i) tied({x, x});
  EXPECT_EQ(tied.reason(), "two inputs share memory");
  const Compiled none = compile([&](const Tensors&) { x.add_(1); });
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(none().empty());
  EXPECT_EQ(x.data<float>()[0], 14);
}

TEST(Compile, RefusesWhatIsNoStep) {
  EXPECT_THROW(compile([](const Tensors& in) { return in[0]; }, {.warm_up = -1}), Error);
  EXPECT_THROW(Compiled()({}), Error);
  const Compiled g = compile([](const Tensors& in) { return matmul(in[0], in[0]); });
  for (int i = 0; i < 3; ++i) EXPECT_THROW(g({ones({2, 3})}), Error);
  expect_same_bits(g({ones({2, 2})})[0], full({2, 2}, 2.0), "after errors");
}

}  // namespace
}  // namespace keel
