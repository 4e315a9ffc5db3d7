// The graph: what it keeps, when it refuses, how it is freed, and that several threads may walk at once.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "keel/keel.h"
#include "layers/autograd.h"

namespace keel {
namespace {

Tensor leaf(const Shape& s, double scale = 1) {
  Tensor t = sin(arange(s.numel(), {.dtype = f32}) * scale + 0.5).reshape(s);
  return t.requires_grad_();
}
const Node& node_of(const Tensor& t) { return static_cast<const Node&>(*impl(t).grad->node); }
int saved(const Tensor& t) {
  int n = 0;
  for (const Saved& s : node_of(t).saved_in) n += s.t.defined();
  for (const Saved& s : node_of(t).saved_out) n += s.t.defined();
  return n;
}
template <class F>
std::string error_of(F f, ErrorCode want = ErrorCode::autograd) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), want) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}
void expect_contains(const std::string& text, const char* part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

// ---- what is kept ----

TEST(AutogradGraph, SavesOnlyWhatIsNeeded) {
  Tensor w = leaf({4}), x = ones({4});
  EXPECT_EQ(saved(w + x), 0);
  EXPECT_EQ(saved(w - x), 0);
  EXPECT_EQ(saved(x * w), 1);       // x, for w's gradient
  EXPECT_EQ(saved(w * w), 2);
  EXPECT_EQ(saved(w / x), 1);       // only the divisor
  EXPECT_EQ(saved(exp(w)), 1);      // its result
  EXPECT_EQ(saved(sum(w)), 0);
  EXPECT_EQ(saved(w.reshape({2, 2})), 0);
}

TEST(AutogradGraph, FrozenWeightComputesAndSavesNothing) {
  Tensor frozen = ones({1 << 16}), x = leaf({1 << 16});
  Tensor y = x * frozen;
  EXPECT_TRUE(node_of(y).saved_in[1].t.defined());
  EXPECT_FALSE(node_of(y).saved_in[0].t.defined());
  Monitor m;
  sum(y).backward();
  for (const auto& s : m.statistics())
    if (s.op == "mul") { EXPECT_EQ(s.calls, 1); }  // g * frozen, and nothing for frozen
  EXPECT_FALSE(frozen.grad().defined());
}

TEST(AutogradGraph, ActivationsAreNotKeptForFrozenLayers) {
  const auto kept = [](bool frozen) {
    Tensor w = ones({1 << 18}), h = leaf({1 << 18});
    if (!frozen) w.requires_grad_();
    const int64_t before = memory_stats().bytes_in_use;
    Tensor y = (h + 0) * w;  // only w's gradient needs h + 0
    return memory_stats().bytes_in_use - before;
  };
  EXPECT_GE(kept(false), 2 << 20);
  EXPECT_LT(kept(true), (1 << 20) + (1 << 18));
}

TEST(AutogradGraph, FrozenWeightsOfLayersCostNothing) {
  struct Cost {
    int64_t bytes, calls;  // held by the graph; ops of the backward pass
  };
  const auto cost = [](auto&& f, const Shape& xs, const Shape& ws, bool frozen) {
    Tensor x = leaf(xs), w = leaf(ws).detach();
    if (!frozen) w.requires_grad_();
    const int64_t before = memory_stats().bytes_in_use;
    Tensor y = f(x + 0, w);  // an input that nobody but the graph could hold
    Cost c{memory_stats().bytes_in_use - before - int64_t(y.nbytes()), 0};
    Monitor m;
    y.backward(ones_like(y));
    for (const auto& s : m.statistics())
      if (s.phase == "backward") c.calls += s.calls;
    EXPECT_EQ(w.grad().defined(), !frozen);
    return c;
  };
  const auto check = [&](const char* name, auto&& f, const Shape& xs, const Shape& ws) {
    const int64_t x_bytes = xs.numel() * 4;
    const Cost trained = cost(f, xs, ws, false), frozen = cost(f, xs, ws, true);
    EXPECT_GE(trained.bytes, x_bytes) << name;
    EXPECT_LT(frozen.bytes, x_bytes / 8) << name;
    EXPECT_LT(frozen.calls, trained.calls) << name;
  };
  check("linear", [](const Tensor& x, const Tensor& w) { return linear(x, w); }, {256, 64}, {32, 64});
  check("matmul", [](const Tensor& x, const Tensor& w) { return matmul(x, w); }, {256, 64}, {64, 32});
  check("conv2d", [](const Tensor& x, const Tensor& w) { return conv2d(x, w, Tensor(), {.padding = 1}); }, {4, 8, 24, 24}, {8, 8, 3, 3});
  Tensor x = ones({4, 8}), w = ones({3, 8});
  EXPECT_FALSE(linear(x, w).tracked());  // nothing wants a gradient: no node
}

TEST(AutogradGraph, NothingIsRecordedWithoutNeed) {
  Tensor x = ones({2}), w = leaf({2});
  EXPECT_FALSE((x * 2).tracked());
  {
    NoGrad off;
    EXPECT_FALSE((w * 2).tracked());
    {
      EnableGrad on;
      EXPECT_TRUE((w * 2).tracked());
    }
    EXPECT_FALSE(grad_enabled());
  }
  EXPECT_TRUE(grad_enabled());
  EXPECT_FALSE(w.detach().tracked());
  EXPECT_FALSE((w > 0.0).tracked());  // bool results carry no gradient
  std::thread([] { EXPECT_TRUE(grad_enabled()); }).join();
}

// ---- writing in place ----

TEST(AutogradGraph, WritingIntoTrackedLeavesAndViewsIsRefused) {
  Tensor w = leaf({4});
  expect_contains(error_of([&] { w.add_(1.0); }), "leaf");
  EXPECT_EQ(w.version(), 0u);  // a refused call leaves no trace
  Tensor y = w * 2;
  Tensor v = y.reshape({2, 2});
  expect_contains(error_of([&] { v.mul_(2.0); }), "view");
  expect_contains(error_of([&] { y[{slice(0, 2)}] = 0; }), "where");
  NoGrad off;
  w.add_(1.0);
  EXPECT_EQ(w.version(), 1u);
}

TEST(AutogradGraph, WritingIntoAResultMovesItsNode) {
  Tensor w = leaf({3});
  Tensor y = w + 1;
  y.mul_(y.detach().clone());
  y.add_(w * 2);
  sum(y).backward();
  EXPECT_TRUE(allclose(w.grad(), w.detach() + 1 + 2));
  Tensor plain = zeros({3});
  plain.add_(w.detach());
  EXPECT_FALSE(plain.tracked());
  plain.add_(w);  // an untracked tensor takes over the gradient
  EXPECT_TRUE(plain.tracked());
}

TEST(AutogradGraph, WritingKeepsWhatItsOwnGradientNeeds) {
  const Tensor a = leaf({3}), b = leaf({3}) + 2;
  struct Way {
    const char* name;
    Tensor (*in_place)(Tensor h, const Tensor& b);
    Tensor (*plain)(const Tensor& h, const Tensor& b);
  };
  const Way ways[] = {
      {"h *= b", [](Tensor h, const Tensor& v) { return h.mul_(v); }, [](const Tensor& h, const Tensor& v) { return h * v; }},
      {"h *= h", [](Tensor h, const Tensor&) { return h.mul_(h); }, [](const Tensor& h, const Tensor&) { return h * h; }},
      {"h *= h[0]", [](Tensor h, const Tensor&) { return h.mul_(h[0]); }, [](const Tensor& h, const Tensor&) { return h * h[0]; }},
      {"h /= b", [](Tensor h, const Tensor& v) { return h.div_(v); }, [](const Tensor& h, const Tensor& v) { return h / v; }},
      {"h /= h[1]", [](Tensor h, const Tensor&) { return h.div_(h[1]); }, [](const Tensor& h, const Tensor&) { return h / h[1]; }},
      {"clamp_ and *=", [](Tensor h, const Tensor& v) { return h.clamp_(-1, 1).mul_(v); }, [](const Tensor& h, const Tensor& v) { return clamp(h, -1, 1) * v; }},
      {"relu_ and *=", [](Tensor h, const Tensor& v) { return h.relu_().mul_(v); }, [](const Tensor& h, const Tensor& v) { return relu(h) * v; }},
      {"*= into zeros", [](Tensor h, const Tensor& v) { return (zeros({3}) + 1.5).mul_(v) + h; }, [](const Tensor& h, const Tensor& v) { return v * 1.5 + h; }},
  };
  for (const Way& w : ways) {
    const auto twice = [&](const Tensor& y) {  // gradients and their gradients
      Tensors g = grad(sum(square(y)), {a, b}, {.create_graph = true, .allow_unused = true});
      Tensor l = sum(square(g[0]));
      if (g[1].defined()) l = l + sum(square(g[1]));
      for (const Tensor& h : grad(l, {a, b}, {.allow_unused = true})) g.push_back(h);
      return g;
    };
    const Tensors got = twice(w.in_place(a * 2, b)), want = twice(w.plain(a * 2, b));
    for (int64_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(got[i].defined(), want[i].defined()) << w.name << i;
      if (!want[i].defined()) continue;
      EXPECT_TRUE(allclose(got[i], want[i], {.rel = 1e-5, .abs = 1e-5})) << w.name << i << to_string(got[i]) << to_string(want[i]);
    }
  }
}

TEST(AutogradGraph, CopiesIntoAResultTakeTheGradientOfWhatIsCopied) {
  const Tensor w = leaf({3}), v = leaf({3}, 2);
  const auto gradient = [&](auto&& write) {
    Tensor h = w * 2;
    write(h);
    sum(h * w).backward();
    Tensors g{w.grad(), v.grad()};
    Tensor(w).zero_grad(), Tensor(v).zero_grad();
    return g;
  };
  for (const auto& constant : {+[](Tensor& h) { h.zero_(); }, +[](Tensor& h) { h.fill_(0.0); }, +[](Tensor& h) { h.copy_(0.0); },
                               +[](Tensor& h) { h.copy_(zeros({3})); }, +[](Tensor& h) { h.copy_(zeros({})); }, +[](Tensor& h) { h.copy_(zeros({3}, {.dtype = f64})); }}) {
    const Tensors g = gradient(constant);
    EXPECT_TRUE(array_equal(g[0], zeros({3})));  // what was there before no longer matters
    EXPECT_FALSE(g[1].defined());
  }
  const Tensors leaf_copied = gradient([&](Tensor& h) { h.copy_(v); });
  EXPECT_TRUE(allclose(leaf_copied[0], v.detach()));
  ASSERT_TRUE(leaf_copied[1].defined());
  EXPECT_TRUE(allclose(leaf_copied[1], w.detach()));
  const Tensors itself_copied = gradient([&](Tensor& h) { h.copy_(h); });
  EXPECT_TRUE(allclose(itself_copied[0], w.detach() * 4));
  const Tensors result_copied = gradient([&](Tensor& h) { h.copy_(v * 3); });
  EXPECT_TRUE(allclose(result_copied[1], w.detach() * 3));
  const Tensors into_plain = gradient([&](Tensor& h) { Tensor plain = zeros({3}); plain.copy_(v); h = plain; });
  ASSERT_TRUE(into_plain[1].defined());
  EXPECT_TRUE(allclose(into_plain[1], w.detach()));
}

TEST(AutogradGraph, SavedTensorsWrittenLaterAreRefusedByName) {
  Tensor w = leaf({3}), h = w * 2, k = h * h;
  h.add_(1.0);
  std::string e = error_of([&] { sum(k).backward(); });
  expect_contains(e, "mul");
  expect_contains(e, "add_");
  Tensor a = leaf({3}), b = exp(a);
  b.mul_(2.0);  // exp saves its result
  e = error_of([&] { sum(b).backward(); });
  expect_contains(e, "exp");
  expect_contains(e, "mul_");
  Tensor u = leaf({3}), plain = ones({3}), p = u * plain;
  plain.sub_(1.0);  // not tracked, but saved
  e = error_of([&] { sum(p).backward(); });
  expect_contains(e, "mul");
  expect_contains(e, "sub_");
  Tensor indexed = ones({3}), q = u * indexed;
  indexed[{tensor({0, 2})}] = 5.0;
  e = error_of([&] { sum(q).backward(); });
  expect_contains(e, "mul");
  expect_contains(e, "index_write");
  Tensor c = leaf({3}), d = c + 1;
  d.mul_(2.0);  // add saves nothing: fine
  sum(d).backward();
  EXPECT_EQ(c.grad().sum().item(), 6);
}

TEST(AutogradGraph, ViewUsedAfterItsBaseWasWrittenIsRefused) {
  Tensor w = leaf({4}), y = w * 1, v = y.reshape({2, 2});
  y.add_(1.0);
  const std::string e = error_of([&] { Tensor z = v * 2; });
  expect_contains(e, "view");
  expect_contains(e, "add_");
  Tensor fresh = y.reshape({2, 2});
  sum(fresh * 2).backward();
  EXPECT_EQ(w.grad().sum().item(), 8);
}

// ---- once and twice through ----

TEST(AutogradGraph, SecondPassNeedsRetain) {
  Tensor w = leaf({3}), y = sum(w * w);
  y.backward(Tensor(), true);
  y.backward();
  EXPECT_TRUE(allclose(w.grad(), w.detach() * 4));
  expect_contains(error_of([&] { y.backward(); }), "retain_graph");
  Tensor z = sum(w + 1);  // keeps nothing, so it can run again
  z.backward();
  z.backward();
}

TEST(AutogradGraph, BackwardFreesWhatWasSaved) {
  Tensor w = leaf({1 << 18});
  Tensor y = sum(exp(w * 2));
  const int64_t before = memory_stats().bytes_in_use;
  y.backward();
  EXPECT_LE(memory_stats().bytes_in_use, before);  // the gradient came, exp's result and w went
}

TEST(AutogradGraph, GradDoesNotAccumulate) {
  Tensor w = leaf({3}), v = leaf({3}, 2);
  Tensors g = grad(sum(w * v), {w, v});
  EXPECT_TRUE(allclose(g[0], v.detach()));
  EXPECT_FALSE(w.grad().defined());
  expect_contains(error_of([&] { grad(sum(w * 2), {v}); }), "do not depend");
  EXPECT_FALSE(grad(sum(w * 2), {v}, {.allow_unused = true})[0].defined());
  Tensor mid = w * 2;
  EXPECT_TRUE(allclose(grad(sum(mid * mid), {mid})[0], mid.detach() * 2));  // with respect to a result
}

TEST(AutogradGraph, CotangentsAreChecked) {
  Tensor w = leaf({3}), y = w * 2;
  expect_contains(error_of([&] { y.backward(); }), "3 elements");
  error_of([&] { y.backward(ones({4})); }, ErrorCode::shape);
  expect_contains(error_of([&] { ones({1}).backward(); }), "requires a gradient");
  y.backward(tensor({1.0, 2.0, 3.0}));
  EXPECT_TRUE(array_equal(w.grad(), tensor({2.0, 4.0, 6.0})));
}

TEST(AutogradGraph, LeafAccumulatesIntoPresetGradient) {
  Tensor flat = zeros({6}), w = leaf({3});
  w.set_grad(flat[{slice(1, 4)}]);  // as a bucket of many gradients is laid out
  sum(w * 2).backward();
  sum(w * 3).backward();
  EXPECT_TRUE(array_equal(flat, tensor({0.0, 5.0, 5.0, 5.0, 0.0, 0.0})));
  EXPECT_THROW(w.set_grad(zeros({4})), Error);
}

TEST(AutogradGraph, OneTensorTwiceAndDiamonds) {
  Tensor w = leaf({3}), a = w + w, b = a * a, c = a + b;
  sum(b * c).backward();
  const Tensor v = w.detach() * 2;  // f = a^3 + a^4, a = 2 w
  EXPECT_TRUE(allclose(w.grad(), (v * v * 3 + v * v * v * 4) * 2));
}

TEST(AutogradGraph, DtypesOfGradientsAreThoseOfTheirTensors) {
  Tensor w = leaf({3}), h = leaf({3});
  Tensor half = h.detach().astype(f16).requires_grad_();
  sum(w * half + w.astype(f64)).backward();
  EXPECT_EQ(w.grad().dtype(), f32);
  EXPECT_EQ(half.grad().dtype(), f16);
}

// ---- size and threads ----

TEST(AutogradGraph, AMillionOpsRunAndFree) {
  Tensor x = leaf({1});
  {
    Tensor y = x;
    for (int i = 0; i < 1000000; ++i) y = y + 1;
    y.backward();
    EXPECT_EQ(x.grad().item(), 1);
  }
  {
    Tensor y = x;  // and one that never runs backwards
    for (int i = 0; i < 1000000; ++i) y = y + 1;
  }
}

TEST(AutogradGraph, ThreadsRunBackwardAtOnce) {
  Tensor shared = ones({64}) * 3;
  std::vector<std::thread> threads;
  std::vector<double> got(4);
  for (size_t t = 0; t < got.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        Tensor w = leaf({64});
        sum(w * shared * double(t + 1)).backward();
        got[t] = w.grad().sum().item();
      }
    });
  for (auto& t : threads) t.join();
  for (size_t t = 0; t < got.size(); ++t) EXPECT_EQ(got[t], 64 * 3.0 * double(t + 1));
}

TEST(AutogradGraph, ThreadsAccumulateIntoOneLeaf) {
  Tensor w = leaf({16});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) sum(w * 1).backward();
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(w.grad().sum().item(), 16 * 1000);
}

TEST(AutogradGraph, AGraphMadeOnOneThreadRunsOnAnother) {
  Tensor w = leaf({8}), y = sum(exp(w) * 2);
  std::thread([&] { y.backward(); }).join();
  EXPECT_TRUE(allclose(w.grad(), exp(w.detach()) * 2));
}

TEST(AutogradGraph, LoopLeaksNothing) {
  Tensor w = leaf({32}), x = ones({32});
  const auto round = [&] {
    Tensor y = sum(tanh(w * x) + exp(w * 0.1));
    y.backward();
    Tensor g = grad(sum(w * w * w), {w}, {.create_graph = true})[0];
    sum(g).backward();
    try {
      Tensor bad = w * ones({31});
    } catch (const Error&) {
    }
  };
  for (int i = 0; i < 50; ++i) round();
  const MemoryStats before = memory_stats();
  for (int i = 0; i < 2000; ++i) round();
  const MemoryStats after = memory_stats();
  EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
  EXPECT_EQ(after.allocations - after.frees, before.allocations - before.frees);
}

}  // namespace
}  // namespace keel
