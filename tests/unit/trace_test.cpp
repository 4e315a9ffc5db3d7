// Traces: what was recorded runs again to the same bits, with writes, gradients and steps in their order.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "keel/keel.h"

namespace keel {
namespace {

void expect_same_bits(const Tensor& a, const Tensor& b, const char* what = "") {
  ASSERT_EQ(a.dtype(), b.dtype()) << what;
  ASSERT_EQ(to_string(a.shape()), to_string(b.shape())) << what;
  const Tensor x = a.contiguous(), y = b.contiguous();
  EXPECT_EQ(std::memcmp(x.raw_data(), y.raw_data(), x.nbytes()), 0) << what << "\n" << to_string(a) << "\n" << to_string(b);
}
Tensor numbers(const Shape& s, double scale = 1) { return (sin(arange(s.numel(), {.dtype = f32}) * scale)).reshape(s); }

TEST(Trace, TextOfASmallGraph) {
  const Tensor w = numbers({3, 2});
  Graph g = trace([&](const Tensors& in) { return sum(tanh(in[0] * w) + 1, {.axis = 1}); }, {numbers({3, 2})});
  EXPECT_EQ(g.text(),
            "graph(%0: f32[3, 2])\n"
            "  %1: f32[3, 2] = captured\n"
            "  %2: f32[3, 2] = mul(%0, %1)\n"
            "  %3: f32[3, 2] = tanh(%2)\n"
            "  %5: f32[3, 2] = add(%3, 1)\n"
            "  %6: f32[3] = sum(%5; axis=[1])\n"
            "  return %6\n");
  EXPECT_EQ(g.size(), 4);
  EXPECT_EQ(g.dot(),
            "digraph keel {\n"
            "  node [shape=box, fontname=\"monospace\"];\n"
            "  v0 [shape=ellipse, label=\"input f32[3, 2]\"];\n"
            "  v1 [shape=ellipse, style=dashed, label=\"captured f32[3, 2]\"];\n"
            "  n0 [label=\"mul\", style=filled, fillcolor=white];\n"
            "  v0 -> n0 [label=\"f32[3, 2]\"];\n"
            "  v1 -> n0 [label=\"f32[3, 2]\"];\n"
            "  n1 [label=\"tanh\", style=filled, fillcolor=white];\n"
            "  n0 -> n1 [label=\"f32[3, 2]\"];\n"
            "  n2 [label=\"add\", style=filled, fillcolor=white];\n"
            "  n1 -> n2 [label=\"f32[3, 2]\"];\n"
            "  n3 [label=\"sum\\naxis=[1]\", style=filled, fillcolor=white];\n"
            "  n2 -> n3 [label=\"f32[3, 2]\"];\n"
            "  n3 -> out0;\n"
            "  out0 [shape=ellipse, label=\"output 0\"];\n"
            "}\n");
}

TEST(Trace, ReplayEqualsEagerOnNewInputs) {
  auto f = [](const Tensors& in) {
    Tensor a = in[0].reshape({4, 6}).transpose(0, 1), b = exp(a * 0.5) / (square(a) + 1.5);
    return Tensors{sum(b, {.axis = 0}), b[{slice(0, 6, 2)}], a.flip({1})};
  };
  Graph g = trace(f, {numbers({24})});
  for (double scale : {0.3, 2.0, 5.0}) {
    const Tensor x = numbers({24}, scale);
    const Tensors want = f({x}), got = g.run({x});
    ASSERT_EQ(got.size(), want.size());
    for (int64_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i]);
  }
}

/// A small training step, all by hand: forward, backward, momentum update in place.
struct Step {
  Tensor w, b, velocity;
  Step() : w(numbers({5, 3})), b(zeros({3})), velocity(zeros({5, 3})) {
    w.requires_grad_();
    b.requires_grad_();
  }
  Tensor operator()(const Tensor& x, const Tensor& y) {
    w.zero_grad(), b.zero_grad();
    Tensor h = (x.unsqueeze(2) * w).sum({.axis = 1}) + b;
    Tensor loss = mean(square(tanh(h) - y));
    loss.backward();
    NoGrad off;
    velocity.mul_(0.9).add_(w.grad());
    w.sub_(velocity * 0.1);
    b.sub_(b.grad() * 0.1);
    return loss.detach();
  }
};

TEST(Trace, TrainingStepReplayedThreeTimesEqualsEager) {
  Step eager, recorded;
  const auto batch = [](int i) { return Tensors{numbers({7, 5}, 0.7 + i), numbers({7, 3}, 1.3 + i)}; };
  eager(batch(0)[0], batch(0)[1]);
  Graph g = trace([&](const Tensors& in) { return recorded(in[0], in[1]); }, batch(0));
  expect_same_bits(eager.w, recorded.w);
  for (int i = 1; i <= 3; ++i) {
    const Tensors in = batch(i);
    const Tensor want = eager(in[0], in[1]);
    const Tensor got = g.run(in)[0];
    expect_same_bits(got, want, "loss");
    expect_same_bits(recorded.w, eager.w, "w");
    expect_same_bits(recorded.b, eager.b, "b");
    expect_same_bits(recorded.velocity, eager.velocity, "velocity");
    expect_same_bits(recorded.w.grad(), eager.w.grad(), "grad");
  }
}

TEST(Trace, GuardFormRecordsAcrossStatements) {
  Tensor x = numbers({4}), total = zeros({4});
  Trace t;
  Tensor y;
  {
    auto guard = t.record({x});
    y = x * 2;
    total.add_(y);
  }
  Tensor after = x + 1;  // not recorded
  Graph g = t.graph({y});
  EXPECT_EQ(g.size(), 3);  // mul, add, assign
  const Tensor got = g.run({x * 3})[0];
  expect_same_bits(got, x * 3 * 2);
  expect_same_bits(total, x * 2 + x * 3 * 2);
}

TEST(Trace, WritesBumpVersionsAndConflict) {
  Tensor x = numbers({4}), s = zeros({4});
  Trace t;
  Tensor a, b, c;
  {
    auto guard = t.record({x});
    a = s * 1;  // 0 reads s
    s.add_(x);  // 1 add, 2 assign writes s
    b = s * 2;  // 3 reads s
    c = x * 5;  // 4 has nothing to do with it
  }
  Graph g = t.graph({a, b, c});
  EXPECT_TRUE(g.conflicts(0, 2));
  EXPECT_TRUE(g.conflicts(2, 3));
  EXPECT_FALSE(g.conflicts(0, 3));
  EXPECT_FALSE(g.conflicts(2, 4));
  EXPECT_NE(g.text().find("writes"), std::string::npos) << g.text();
  const uint32_t before = s.version();
  g.run({x});
  EXPECT_EQ(s.version(), before + 1);
}

TEST(Trace, WriteThroughAViewIsSeenByTheBase) {
  auto f = [](const Tensors& in) {
    Tensor buffer = in[0] * 1;
    buffer[{slice(1, 3)}] = 7;
    return buffer + 0;
  };
  const Tensor x = numbers({5});
  Graph g = trace(f, {x});
  const Tensor z = numbers({5}, 3);
  expect_same_bits(g.run({z})[0], f({z}));
}

TEST(Trace, DetachedTensorsAreAliases) {
  Tensor x = numbers({4});
  x.requires_grad_();
  auto f = [](const Tensors& in) { return (in[0] * 2).detach() * 3; };
  Graph g = trace(f, {x});
  EXPECT_NE(g.text().find("alias("), std::string::npos) << g.text();
  const Tensor z = numbers({4}, 2);
  expect_same_bits(g.run({z})[0], f({z}));
}

TEST(Trace, ViewsOfInputsFollowTheReplay) {
  auto f = [](const Tensors& in) {
    Tensor t = in[0].transpose(0, 1);
    return t.detach() * 2 + in[0].detach().transpose(0, 1);
  };
  Graph g = trace(f, {numbers({3, 4})});
  const Tensor z = numbers({4, 3}, 2).transpose(0, 1);  // other strides than the recorded input's
  expect_same_bits(g.run({z})[0], f({z}));
}

TEST(Trace, HigherGradientsAndCustomFunctions) {
  auto f = [](const Tensors& in) {
    Tensor x = in[0].detach().requires_grad_();
    Tensor g1 = grad(sum(x * x * x), {x}, {.create_graph = true})[0];
    return grad(sum(g1 * g1), {x})[0];
  };
  const Tensor x = numbers({3}), z = numbers({3}, 4);
  Graph g = trace(f, {x});
  expect_same_bits(g.run({z})[0], f({z}));
}

TEST(Trace, LiteralsAndNumbersAreConstants) {
  auto f = [](const Tensors& in) { return in[0] * tensor({1.0, 2.0, 3.0}) + 0.5; };
  Graph g = trace(f, {numbers({3})});
  const Tensor z = numbers({3}, 4);
  expect_same_bits(g.run({z})[0], f({z}));
}

TEST(Trace, CapturedTensorsAreReadAsTheyAreNow) {
  Tensor w = ones({3});
  Graph g = trace([&](const Tensors& in) { return in[0] * w; }, {ones({3})});
  w.fill_(4);
  EXPECT_EQ(g.run({ones({3})})[0].sum().item(), 12);
}

TEST(Trace, RefusesWhatItCannotRepeat) {
  const Tensor x = numbers({4});
  EXPECT_THROW(trace([](const Tensors& in) { return nonzero(in[0]); }, {x}), Error);
  try {
    trace([](const Tensors& in) { return nonzero(in[0]); }, {x});
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(e.what()).find("depends on the data"), std::string::npos);
  }
  Tensor after = x + 1;  // the failed recording is over
  EXPECT_THROW(trace([](const Tensors&) { manual_seed(1); }, {x}), Error);
  EXPECT_THROW(trace([&](const Tensors&) { trace([](const Tensors& in) { return in[0] + 1; }, {x}); }, {x}), Error);
  EXPECT_THROW(trace([](const Tensors& in) { return in[0]; }, {x, x}), Error);
}

TEST(Trace, RefusesOtherShapesAndCounts) {
  Graph g = trace([](const Tensors& in) { return in[0] + 1; }, {numbers({4})});
  const auto code = [&](const Tensors& in) {
    try {
      g.run(in);
    } catch (const Error& e) { return e.code(); }
    return ErrorCode::internal;
  };
  EXPECT_EQ(code({numbers({5})}), ErrorCode::shape);
  EXPECT_EQ(code({numbers({4}).astype(f64)}), ErrorCode::dtype);
  EXPECT_EQ(code({}), ErrorCode::value);
  EXPECT_EQ(code({Tensor()}), ErrorCode::value);
  EXPECT_THROW(Graph().run(), Error);
}

TEST(Trace, ReplayIsWatchedAndAttributed) {
  Graph g = trace([](const Tensors& in) { return ones({2}) / in[0]; }, {ones({2})});
  Monitor m;
  m.step();
  g.run({zeros({2})});
  ASSERT_EQ(m.findings().size(), 1u);
  EXPECT_EQ(m.findings()[0].op, "div");
}

TEST(Trace, ReplayOnAnotherThread) {
  Graph g = trace([](const Tensors& in) { return tanh(in[0]) * 3; }, {numbers({64})});
  const Tensor x = numbers({64}, 2), want = tanh(x) * 3;
  std::thread([&] { expect_same_bits(g.run({x})[0], want); }).join();
}

TEST(Trace, FreesIntermediatesDuringReplay) {
  Graph g = trace(
      [](const Tensors& in) {
        Tensor y = in[0];
        for (int i = 0; i < 50; ++i) y = y + 1;
        return y;
      },
      {zeros({1 << 18})});
  const Tensor x = zeros({1 << 18});
  reset_peak_memory();
  const int64_t before = memory_stats().bytes_in_use;
  g.run({x});
  EXPECT_LT(memory_stats().peak_in_use - before, 4 << 20);  // three buffers of a megabyte, not fifty
}

}  // namespace
}  // namespace keel
