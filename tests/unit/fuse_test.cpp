// Chains in graphs: which ops join, in which order they run, and what is written. That kernels of chains give the ops' bits is judged on
// devices (tests/device/fuse_test.cpp).
#include "layers/fuse.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "keel/keel.h"

namespace keel {
namespace {

/// What `f` does, and its chains.
struct Found {
  std::unique_ptr<Recorder> recorder = new_recorder();
  FusePlan plan;
  Tensors want;
  template <class F>
  Found(F f, const Tensors& in, const char* (*takes)(const FusedOp&, const DType*, const Shape&) = nullptr) {
    recorder->begin(in);
    want = detail::giving_tensors(f)(in);
    recorder->end();
    recorder->finish(want);
    plan = find_chains(graph(), takes);
  }
  const GraphData& graph() const { return *recorder->graph; }
  /// Chains and other ops in the order in which they run: "[mul, add] sum".
  std::string text() const {
    std::string s;
    for (const FusePlan::Step& step : plan.steps) {
      const auto name = [&](int at) {
        const GraphNode& n = graph().nodes[size_t(at)];
        return n.kind == GraphNode::Kind::alias ? "alias" : n.kind == GraphNode::Kind::gradient ? "gradient" : n.op->name;
      };
      s += s.empty() ? "" : " ";
      if (step.node >= 0) {
        s += name(step.node);
        continue;
      }
      const FuseChain& c = plan.chains[size_t(step.chain)];
      s += "[";
      for (const int at : c.nodes) s += (at == c.nodes.front() ? "" : " ") + std::string(name(at));
      s += "]" + (c.results.size() == 1 ? "" : std::to_string(c.results.size()));
      for (const int at : c.after) s += std::string(" ") + name(at);
    }
    return s;
  }
  /// The graph in the order of the plan, ops one by one.
  Tensors run(const Tensors& in) const {
    GraphWalk w(graph(), in);
    ScopeGuard guard;
    scope().grad = false;
    for (const FusePlan::Step& step : plan.steps) {
      if (step.node >= 0)
        w.run_node(graph().nodes[size_t(step.node)]);
      else
        for (const int at : plan.chains[size_t(step.chain)].one_by_one) w.run_node(graph().nodes[size_t(at)]);
      for (const int v : step.last) w.values[size_t(v)] = Tensor();
    }
    return w.outputs();
  }
};

const Tensor a() { return full({2, 3}, 2.0); }

TEST(Fuse, OpsThatFollowEachOther) {
  const Tensor w = a();
  const Found f([&](const Tensors& in) { return sum(tanh(in[0] * w) + 1, {.axis = 1}); }, {a()});
  EXPECT_EQ(f.text(), "[mul tanh add] sum");
  const FuseChain& c = f.plan.chains[0];
  EXPECT_EQ(c.sources.size(), 3u);  // the input, w, 1
  EXPECT_EQ(c.ops.size(), 3u);
  EXPECT_EQ(c.results.size(), 1u);
  EXPECT_EQ(f.plan.saved(), 2);
  EXPECT_EQ(chain_text(f.graph(), c), "mul, tanh, add: f32[2, 3]");
}

TEST(Fuse, WhatOthersReadIsWritten) {
  const Found f(
      [](const Tensors& in) -> Tensors {
        const Tensor x = exp(in[0]), y = x + 1, z = y * x;
        return {z, sum(x), sqrt(z)};
      },
      {a()});
  EXPECT_EQ(f.text(), "[exp add mul]2 sum sqrt");  // sum closes the chain
  const Found g(
      [](const Tensors& in) -> Tensors {
        const Tensor x = exp(in[0]), y = x + 1;
        return {y * x, x, y.reshape({6})};
      },
      {a()});
  EXPECT_EQ(g.text(), "[exp add mul]3 reshape");
}

TEST(Fuse, BranchesBecomeOne) {
  const Found f(
      [](const Tensors& in) {
        const Tensor x = exp(in[0]), y = sigmoid(in[1]);
        return x * y + in[2];
      },
      {a(), a(), full({3}, 1.0)});
  EXPECT_EQ(f.text(), "[exp sigmoid mul add]");
  // Of another shape it is another kernel.
  const Found g([](const Tensors& in) { return in[0] * (in[1] + 1); }, {a(), full({3}, 1.0)});
  EXPECT_EQ(g.text(), "add mul");
}

TEST(Fuse, WritesBelongToAChain) {
  const Tensor m = a();
  const Found f(
      [&](const Tensors& in) {
        Tensor(m).mul_(0.9).add_(in[0] * 0.1);
        return m * 2;
      },
      {a()});
  EXPECT_EQ(f.text(), "[mul assign mul add assign mul]2");
  const FuseChain& c = f.plan.chains[0];
  EXPECT_EQ(c.ops.size(), 4u);  // m * 0.9, in * 0.1, their sum, twice that
  int writes = 0;
  for (const FuseChain::Result& r : c.results) writes += r.writes;
  EXPECT_EQ(writes, 1);
}

TEST(Fuse, OtherViewsOfWhatIsWrittenStayOutside) {
  const Tensor m = full({3, 3}, 2.0);
  const Found f(
      [&](const Tensors&) -> Tensors {
        const Tensor t = m.transpose(0, 1);
        Tensor(m).add_(1);
        return {t * m, m * 3};
      },
      {});
  EXPECT_EQ(f.text(), "permute [add assign] mul mul");
  const Found g(
      [&](const Tensors&) {
        const Tensor t = m.transpose(0, 1);
        const Tensor y = t * 2 + 1;
        Tensor(m).add_(1);
        return y;
      },
      {});
  EXPECT_EQ(g.text(), "permute [mul add] [add assign]");
  const Found h([&](const Tensors&) { return Tensor(m).copy_(m.transpose(0, 1)) + 1; }, {});  // reads before it writes
  EXPECT_EQ(h.text(), "permute copy [assign add]2");
}

TEST(Fuse, WhatADeviceDoesNotTake) {
  const Found f([](const Tensors& in) { return sqrt(exp(in[0]) * 2) + 1; }, {a()},
                [](const FusedOp& o, const DType* in, const Shape&) -> const char* {
                  EXPECT_EQ(in[0], f32);
                  return std::strcmp(o.op, "sqrt") ? nullptr : "no";
                });
  EXPECT_EQ(f.text(), "[exp mul] sqrt add");
}

TEST(Fuse, SoftmaxOfRowsBelongsToAChain) {
  const Tensor mask = greater(a(), 1);
  const Found f([&](const Tensors& in) { return softmax(where(mask, in[0] * 0.5, -1e9)) * 2; }, {a()});
  EXPECT_EQ(f.text(), "[mul where softmax mul]");
  EXPECT_TRUE(f.plan.chains[0].rows);
  const Found g([](const Tensors& in) { return softmax(in[0] * 0.5, {.axis = 0}) * 2; }, {a()});  // columns
  EXPECT_EQ(g.text(), "mul softmax mul");
  const Found h([](const Tensors& in) { return log_softmax(cast(softmax(in[0] + 1), f16), {.axis = 1}) + 1; }, {a()});  // of two dtypes
  EXPECT_EQ(h.text(), "[add softmax cast] [log_softmax add]");
  const Tensor m = a();
  const Found k([&](const Tensors& in) { return Tensor(m).copy_(softmax(in[0] + 1)); }, {a()});
  EXPECT_EQ(k.text(), "[add softmax] assign");
}

/// The gradient of a residual branch through a norm: the other branch's is added as it is written.
TEST(Fuse, AdditionAfterANormsGradient) {
  const Tensor w = Tensor(a()).requires_grad_(), scale = Tensor(ones({3})).requires_grad_();
  const Found f(
      [&](const Tensors& in) {
        const Tensor x = matmul(in[0], w), y = x + layer_norm(x, scale);
        sum(square(y)).backward();
      },
      {full({2, 2}, 3.0)});
  EXPECT_NE(f.text().find("[layer_norm_backward add]"), std::string::npos) << f.text();
  for (const FuseChain& c : f.plan.chains) {
    EXPECT_TRUE(std::strcmp(f.graph().nodes[size_t(c.nodes.front())].op->name, "layer_norm_backward") || c.nodes.size() == 2) << f.text();
  }
}

TEST(Fuse, AliasesAndGradientsFollow) {
  const Tensor w = Tensor(a()).requires_grad_();
  const Found f(
      [&](const Tensors& in) {
        const Tensor y = square(in[0] * w);
        y.sum().backward();
        return y.detach();
      },
      {a()});
  EXPECT_NE(f.text().find("gradient"), std::string::npos) << f.text();
  for (const FusePlan::Step& s : f.plan.steps)
    if (s.node >= 0) {
      EXPECT_STRNE(f.graph().nodes[size_t(s.node)].op ? f.graph().nodes[size_t(s.node)].op->name : "", "square") << f.text();
    }
}

TEST(Fuse, EmptyTensorsAndLongChains) {
  const Found f([](const Tensors& in) { return exp(in[0]) + 1; }, {zeros({0, 3})});
  EXPECT_EQ(f.text(), "exp add");
  const Found g(
      [](const Tensors& in) {
        Tensor x = in[0];
        for (int i = 0; i < 200; ++i) x = x + 1;
        return x;
      },
      {a()});
  size_t longest = 0, nodes = 0;
  for (const FuseChain& c : g.plan.chains) longest = std::max(longest, c.nodes.size()), nodes += c.nodes.size();
  EXPECT_EQ(nodes, 200u);
  EXPECT_LE(longest, 32u);
}

bool same(const Tensor& x, const Tensor& y) {
  const Tensor p = x.contiguous(), q = y.contiguous();
  return p.shape() == q.shape() && std::memcmp(p.raw_data(), q.raw_data(), p.nbytes()) == 0;
}

/// Programs drawn at random with writes, views and reductions among the ops: the plan's order gives what the program gives, and memory that
/// nobody uses any more is not used.
TEST(Fuse, TheOrderOfAPlanIsLegal) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::vector<Tensor> state[2];
    const auto program = [&](std::vector<Tensor>& held, const Tensors& in) {
      std::mt19937 draw(seed);
      const auto pick = [&](size_t n) { return size_t(draw() % n); };
      std::vector<Tensor> v{in[0], in[1], held[0], held[1]};
      const auto any = [&] { return v[pick(v.size())]; };
      for (int i = 0; i < 24; ++i) {
        switch (pick(9)) {
          case 0: v.push_back(any() + any()); break;
          case 1: v.push_back(any() * 0.5 - any()); break;
          case 2: v.push_back(sigmoid(any())); break;
          case 3: Tensor(held[pick(2)]).mul_(0.5).add_(any() * 0.25); break;
          case 4: v.push_back(any().transpose(0, 1)); break;
          case 5: v.push_back(any() - sum(any(), {.axis = 0})); break;
          case 6: Tensor(held[pick(2)]).copy_(any()); break;
          case 7: v.push_back(any().detach()); break;
          default: v.push_back(any().clone()), v.back().mul_(any()); break;
        }
      }
      Tensors out{v.back(), held[0], any()};
      return out;
    };
    const auto start = [&](std::vector<Tensor>& s) { s = {rand({4, 4}), rand({4, 4})}; };
    manual_seed(seed);
    start(state[0]);
    manual_seed(seed);
    start(state[1]);
    const Tensors first{rand({4, 4}), rand({4, 4})}, second{rand({4, 4}), rand({4, 4})};
    const Found f([&](const Tensors& in) { return program(state[0], in); }, first);
    program(state[1], first);
    const Tensors want = program(state[1], second), got = f.run(second);
    for (int64_t i = 0; i < want.size(); ++i) ASSERT_TRUE(same(got[i], want[i])) << seed << ", result " << i << "\n" << f.text();
    for (size_t i = 0; i < 2; ++i) ASSERT_TRUE(same(state[0][i], state[1][i])) << seed << ", state " << i << "\n" << f.text();
  }
}

}  // namespace
}  // namespace keel
