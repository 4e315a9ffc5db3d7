// Hooks, functions of one's own, checkpoints, gradient checks.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "keel/keel.h"

namespace keel {
namespace {

Tensor leaf(const Shape& s, DType t = f32) { return sin(arange(s.numel(), {.dtype = f64}) + 0.5).reshape(s).astype(t).requires_grad_(); }

// ---- hooks ----

TEST(Hooks, TensorHookSeesTheCompleteGradientAndMayReplaceIt) {
  Tensor w = leaf({3});
  Tensor y = w * 2;
  int calls = 0;
  register_hook(y, [&](const Tensor& g) {
    ++calls;
    EXPECT_TRUE(array_equal(g, full({3}, 7)));  // 3 and 4 from two uses
    return g * 10;
  });
  sum(y * 3 + y * 4).backward();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(array_equal(w.grad(), full({3}, 140)));
}

TEST(Hooks, LeafHookRunsBeforeAccumulation) {
  Tensor w = leaf({3});
  const int64_t id = register_hook(w, [](const Tensor& g) { return g * 2; });
  sum(w * 1).backward();
  EXPECT_EQ(w.grad().sum().item(), 6);
  remove_hook(w, id);
  w.zero_grad();
  sum(w * 1).backward();
  EXPECT_EQ(w.grad().sum().item(), 3);
}

TEST(Hooks, UndefinedResultKeepsTheGradient) {
  Tensor w = leaf({3});
  register_hook(w, [](const Tensor&) { return Tensor(); });
  sum(w * 5).backward();
  EXPECT_EQ(w.grad().sum().item(), 15);
}

TEST(Hooks, PostAccumulateRunsOnceALeafIsComplete) {
  Tensor w = leaf({2}), v = leaf({2});
  std::vector<double> seen;
  register_post_accumulate_hook(w, [&](const Tensor& t) { seen.push_back(t.grad().sum().item()); });
  sum(w * 2 + w * 3 + v).backward();
  EXPECT_EQ(seen, std::vector<double>{10});
  EXPECT_THROW(register_post_accumulate_hook(w * 2, [](const Tensor&) {}), Error);
}

TEST(Hooks, NodeHookMayChangeInputGradients) {
  Tensor w = leaf({2}), v = leaf({2});
  Tensor y = w * v;
  const int64_t id = register_node_hook(y, [](Tensors& g) {
    ASSERT_EQ(g.size(), 2);
    g[1] = zeros({2});
  });
  sum(y).backward(Tensor(), true);
  EXPECT_TRUE(array_equal(v.grad(), zeros({2})));
  EXPECT_TRUE(array_equal(w.grad(), v.detach()));
  remove_hook(y, id);
  sum(y).backward();
  EXPECT_TRUE(array_equal(v.grad(), w.detach()));
}

TEST(Hooks, EndOfBackwardRunsOnceAtTheEnd) {
  Tensor w = leaf({2}), v = leaf({2});
  std::string order;
  register_hook(w, [&](const Tensor&) {
    order += "w";
    on_backward_end([&] { order += "E"; });
    return Tensor();
  });
  register_hook(v, [&](const Tensor&) { return order += "v", Tensor(); });
  sum(w * v).backward();
  EXPECT_EQ(order.size(), 3u);
  EXPECT_EQ(order.back(), 'E');
  EXPECT_THROW(on_backward_end([] {}), Error);
}

TEST(Hooks, AHookMayRemoveItself) {
  Tensor w = leaf({2});
  int64_t id = 0;
  int calls = 0;
  id = register_hook(w, [&](const Tensor&) {
    ++calls;
    remove_hook(w, id);
    return Tensor();
  });
  for (int i = 0; i < 3; ++i) sum(w * 2).backward();
  EXPECT_EQ(calls, 1);
}

TEST(Hooks, ReplacementOfAnotherShapeIsRefused) {
  Tensor w = leaf({2});
  register_hook(w, [](const Tensor&) { return zeros({3}); });
  EXPECT_THROW(sum(w * 2).backward(), Error);
  Tensor plain = ones({2});
  EXPECT_THROW(register_hook(plain, [](const Tensor& g) { return g; }), Error);
}

TEST(Hooks, BackwardInsideAHook) {
  Tensor w = leaf({2}), other = leaf({2});
  register_hook(w, [&](const Tensor&) {
    EnableGrad on;
    sum(other * 3).backward();
    return Tensor();
  });
  sum(w * 2).backward();
  EXPECT_EQ(other.grad().sum().item(), 6);
  EXPECT_EQ(w.grad().sum().item(), 4);
}

// ---- functions of one's own ----

struct Cube {
  static Tensor forward(FunctionContext& ctx, const Tensor& x) {
    ctx.save(x);
    return x * x * x;
  }
  static Tensors backward(FunctionContext& ctx, const Tensor& g) { return {3.0 * ctx.saved(0) * ctx.saved(0) * g}; }
};
struct ExpSaved {  // saves its own result
  static Tensor forward(FunctionContext& ctx, const Tensor& x) {
    Tensor y = exp(x);
    ctx.save(y);
    return y;
  }
  static Tensors backward(FunctionContext& ctx, const Tensor& g) { return {ctx.saved(0) * g}; }
};
struct SumAndDifference {
  static Tensors forward(FunctionContext&, const Tensor& a, const Tensor& b) { return {a + b, a - b}; }
  static Tensors backward(FunctionContext& ctx, const Tensors& g) {
    return {ctx.needs(0) ? g[0] + g[1] : Tensor(), ctx.needs(1) ? g[0] - g[1] : Tensor()};
  }
};
struct Identity {
  static Tensor forward(FunctionContext&, const Tensor& x) { return x; }
  static Tensors backward(FunctionContext&, const Tensor& g) { return {g * -1.0}; }
};
struct TooMany {
  static Tensor forward(FunctionContext&, const Tensor& x) { return x * 1; }
  static Tensors backward(FunctionContext&, const Tensor& g) { return {g, g}; }
};

TEST(Function, GradientsOfBothOrders) {
  Tensor x = leaf({4}, f64);
  gradcheck([](const Tensors& in) { return apply<Cube>(in[0]); }, {x});
  gradgradcheck([](const Tensors& in) { return apply<Cube>(in[0]); }, {x});
  gradcheck([](const Tensors& in) { return apply<ExpSaved>(in[0]); }, {x});
  gradgradcheck([](const Tensors& in) { return apply<ExpSaved>(in[0]); }, {x});
  Tensor y = leaf({4}, f64);
  gradcheck([](const Tensors& in) {
    Tensors r = apply<SumAndDifference>(in[0], in[1]);
    return r[0] * r[1];
  }, {x, y});
}

TEST(Function, OneOfTwoResultsUnused) {
  Tensor a = leaf({2}), b = ones({2});
  sum(apply<SumAndDifference>(a, b)[1]).backward();
  EXPECT_EQ(a.grad().sum().item(), 2);
}

TEST(Function, AnInputGivenBackIsAnotherTensor) {
  Tensor x = leaf({2});
  Tensor y = apply<Identity>(x);
  EXPECT_FALSE(y.is(x));
  EXPECT_TRUE(y.shares_storage(x));
  sum(y).backward();
  EXPECT_EQ(x.grad().sum().item(), -2);
}

TEST(Function, WrongCountAndWrittenSavesAreRefused) {
  Tensor x = leaf({2});
  EXPECT_THROW(sum(apply<TooMany>(x)).backward(), Error);
  Tensor h = x * 1, y = apply<Cube>(h);
  h.add_(1.0);
  EXPECT_THROW(sum(y).backward(), Error);
}

TEST(Function, ResultSavedByItselfDoesNotOwnItself) {
  const MemoryStats before = memory_stats();
  for (int i = 0; i < 100; ++i) {
    Tensor x = leaf({1024});
    Tensor y = apply<ExpSaved>(x);
  }
  EXPECT_EQ(memory_stats().bytes_in_use, before.bytes_in_use);
}

TEST(Hooks, OfANodeMayRemoveThemselves) {
  Tensor x = ones({3}).requires_grad_(), y = x * 2;
  int calls = 0;
  int64_t id = 0;
  id = register_node_hook(y, [&](Tensors&) { ++calls, remove_hook(y, id); });
  register_node_hook(y, [&](Tensors& g) { ++calls, g[0] = g[0] * 10; });
  sum(y).backward(Tensor(), true);
  sum(y).backward();
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(x.grad()[0].item(), 40);
}

// ---- checkpoint ----

TEST(Checkpoint, GradLeavesLeavesAlone) {
  Tensor x = (arange(4).astype(f32) + 1).requires_grad_(), w = full({4}, 3.0).requires_grad_();
  const auto f = [&](const Tensor& v) { return checkpoint([&](const Tensor& u) { return u * w; }, v * v) + v; };
  const Tensors g = grad(sum(checkpoint(f, x)), {x});
  EXPECT_TRUE(allclose(g[0], x.detach() * 6 + 1));
  EXPECT_FALSE(w.grad().defined());
  EXPECT_FALSE(x.grad().defined());
  sum(checkpoint(f, x)).backward();
  EXPECT_TRUE(allclose(x.grad(), g[0]));
  EXPECT_TRUE(allclose(w.grad(), square(x.detach())));
}

TEST(Checkpoint, SameGradientLessMemory) {
  const auto f = [](const Tensor& v) {
    Tensor y = v;
    for (int i = 0; i < 8; ++i) y = sin(y) * 1.01;
    return y;
  };
  Tensor a = leaf({1 << 16}), b = a.detach().clone().requires_grad_();
  const auto held = [](auto&& g) {
    const int64_t before = memory_stats().bytes_in_use;
    Tensor y = g();
    const int64_t n = memory_stats().bytes_in_use - before;
    sum(y).backward();
    return n;
  };
  const int64_t plain = held([&] { return f(a); }), thin = held([&] { return checkpoint(f, b); });
  EXPECT_LT(thin * 6, plain);
  EXPECT_TRUE(array_equal(a.grad(), b.grad()));
}

TEST(Checkpoint, ReachesParametersThatTheFunctionHolds) {
  Tensor w = leaf({3}), x = ones({3});
  checkpoint([&](const Tensor& v) { return v * w; }, x).sum().backward();
  EXPECT_TRUE(array_equal(w.grad(), ones({3})));
}

TEST(Checkpoint, KeepsAutocastAndWorksAfterItsGuardIsGone) {
  Tensor x = leaf({4});
  std::vector<DType> seen;
  Tensor y;
  {
    Autocast guard(bf16);
    y = checkpoint([&](const Tensor& v) {
      seen.push_back(autocast_dtype());
      return v * 2;
    }, x);
  }
  sum(y).backward();
  EXPECT_EQ(seen, (std::vector<DType>{bf16, bf16}));
}

TEST(Checkpoint, OutlivesAMonitorAndRunsUnderAnother) {
  Tensor x = leaf({4}), y;
  {
    Monitor gone;
    y = checkpoint([](const Tensor& v) { return exp(v); }, x);
  }
  Monitor m;
  sum(y).backward();
  bool seen = false;
  for (const auto& s : m.statistics()) seen |= s.op == "exp";
  EXPECT_TRUE(seen);
}

TEST(Checkpoint, SeveralInputsAndSecondDerivativeRefused) {
  Tensor a = leaf({3}), b = leaf({3});
  checkpoint([](const Tensor& p, const Tensor& q) { return p * q; }, a, b).sum().backward();
  EXPECT_TRUE(array_equal(a.grad(), b.detach()));
  Tensor y = checkpoint([](const Tensor& p) { return p * p; }, a).sum();
  EXPECT_THROW(grad(y, {a}, {.create_graph = true}), Error);
}

TEST(Checkpoint, InsideATrace) {
  Tensor w = leaf({4});
  const auto f = [&](const Tensors& in) {
    w.zero_grad();
    Tensor y = sum(checkpoint([&](const Tensor& v) { return exp(v * w); }, in[0]));
    y.backward();
    return Tensors{y.detach(), w.grad()};
  };
  const Tensor x = ones({4}), z = ones({4}) * 2;
  Graph g = trace(f, {x});
  const Tensors got = g.run({z}), want = f({z});
  EXPECT_TRUE(array_equal(got[0], want[0]));
  EXPECT_TRUE(array_equal(got[1], want[1]));
}

// ---- checks ----

struct WrongGradient {
  static Tensor forward(FunctionContext& ctx, const Tensor& x) {
    ctx.save(x);
    return x * x;
  }
  static Tensors backward(FunctionContext& ctx, const Tensor& g) { return {ctx.saved(0) * g * 2.001}; }
};

TEST(Gradcheck, FindsAWrongGradient) {
  Tensor x = leaf({3}, f64);
  EXPECT_TRUE(gradcheck([](const Tensors& in) { return in[0] * in[0]; }, {x}));
  EXPECT_THROW(gradcheck([](const Tensors& in) { return apply<WrongGradient>(in[0]); }, {x}), Error);
  EXPECT_FALSE(gradcheck([](const Tensors& in) { return apply<WrongGradient>(in[0]); }, {x}, {.raise = false}));
}

}  // namespace
}  // namespace keel
