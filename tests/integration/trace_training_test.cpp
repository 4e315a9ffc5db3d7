// A whole training step, forward, backward and optimiser, recorded once and replayed: equal to the bit to the same steps run eagerly.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "keel/keel.h"

namespace keel {
namespace {

struct Net : nn::Module<Net> {
  nn::Linear first{6, 16}, second{16, 3};
  nn::Dropout drop{0.25};
  static void fields(auto& m, auto&& f) { f("first", m.first)("second", m.second)("drop", m.drop); }
  Tensor forward(const Tensor& x) const { return second(drop(tanh(first(x)))); }
};

Tensors batch(int i) {
  Tensor x = sin(arange(48, {.dtype = f32}) * (0.3 + 0.1 * i)).reshape({8, 6});
  Tensor y = remainder(arange(8) + i, 3);
  return {x, y};
}

void expect_same(const Net& a, const Net& b) {
  const auto p = a.named_parameters(), q = b.named_parameters();
  ASSERT_EQ(p.size(), q.size());
  for (size_t i = 0; i < size_t(p.size()); ++i) {
    const Tensor x = p[i].tensor, y = q[i].tensor;
    EXPECT_EQ(std::memcmp(x.raw_data(), y.raw_data(), x.nbytes()), 0) << p[i].name;
  }
}

template <class MakeOptimizer>
void replay_equals_eager(MakeOptimizer make, DType low = DType::none) {
  std::vector<double> eager, replayed;
  Net a, b;
  for (bool replay : {false, true}) {
    manual_seed(7);
    Net& net = replay ? b : a;
    net = Net();
    auto opt = make(net.parameters());
    const auto step = [&](const Tensors& in) -> Tensor {
      opt.zero_grad();
      Tensor loss;
      {
        Autocast guard(low);
        loss = cross_entropy(net(in[0]), in[1]);
      }
      loss.backward();
      opt.step();
      return loss.detach();
    };
    Graph g;
    for (int i = 0; i < 5; ++i) {
      if (i == 2) opt.set_lr(opt.lr() * 0.5);  // a setting that changes between replays
      Tensor loss;
      if (!replay) {
        loss = step(batch(i));
      } else if (i == 0) {
        Trace t;
        const Tensors in = batch(0);
        {
          auto guard = t.record(in);
          loss = step(in);
        }
        g = t.graph({loss});
      } else {
        loss = g.run(batch(i))[0];
      }
      (replay ? replayed : eager).push_back(loss.item());
    }
    // The generator stands where eager code would have left it.
    (replay ? replayed : eager).push_back(rand({1}).item());
  }
  EXPECT_EQ(eager, replayed);
  expect_same(a, b);
}

TEST(TraceTraining, Sgd) {
  replay_equals_eager([](const Tensors& p) { return optim::SGD(p, {.lr = 0.1, .momentum = 0.9}); });
}
TEST(TraceTraining, Adam) {
  replay_equals_eager([](const Tensors& p) { return optim::Adam(p, {.lr = 0.01}); });
}
TEST(TraceTraining, AdamWUnderAutocast) {
  replay_equals_eager([](const Tensors& p) { return optim::AdamW(p, {.lr = 0.01}); }, bf16);
}

/// What a recorded step looks like to a reader: every line a value, an op and its inputs, modules and phases beside them; and a picture
/// whose arrows end at nodes that exist.
TEST(TraceTraining, DumpShowsModulesAndPhases) {
  manual_seed(7);
  Net net;
  optim::SGD opt(net.parameters(), {.lr = 0.1});
  const Tensors in = batch(0);
  Trace t;
  Tensor loss;
  {
    auto guard = t.record(in);
    opt.zero_grad();
    loss = cross_entropy(net(in[0]), in[1]);
    loss.backward();
    opt.step();
  }
  const Graph g = t.graph({loss});
  const std::string text = g.text(), dot = g.dot();
  for (const char* part : {"graph(%0: f32[8, 6], %1: i64[8])", "linear(", "tanh(", "cross_entropy", "sgd_step(", "first", "second",
                           "backward", "optimiser", "return %"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
  int64_t lines = 0;
  for (char c : text) lines += c == '\n';
  EXPECT_GT(lines, g.size());
  std::set<std::string> nodes;
  std::vector<std::string> ends;
  std::stringstream rows(dot);
  for (std::string row; std::getline(rows, row);) {
    std::stringstream words(row);
    std::string a, b, c;
    words >> a >> b >> c;
    if (b == "->") ends.push_back(a), ends.push_back(c.substr(0, c.find(';')));
    else nodes.insert(a);
  }
  EXPECT_GT(ends.size(), size_t(g.size()));
  for (const std::string& e : ends) EXPECT_TRUE(nodes.contains(e)) << e << " is an end of an arrow, but no node in\n" << dot;
}

}  // namespace
}  // namespace keel
