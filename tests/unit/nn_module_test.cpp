// The module system: names, ties, state, copies, hooks, paths.
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "backend/kernel.h"
#include "core/scope.h"
#include "keel/keel.h"

namespace keel {
namespace {

struct Block : nn::Module<Block> {
  nn::Linear up, down;
  explicit Block(int64_t n) : up(n, 2 * n), down(2 * n, n) {}
  static void fields(auto& m, auto&& f) { f("mlp.c_fc", m.up)("mlp.c_proj", m.down); }
  Tensor forward(const Tensor& x) const { return x + down(relu(up(x))); }
};
struct Net : nn::Module<Net> {
  nn::Embedding tokens;
  nn::ModuleList<Block> blocks;
  nn::Sequential tail;
  std::optional<nn::Linear> extra;
  nn::Linear head;
  Tensor scale;
  Net()
      : tokens(10, 4),
        tail{nn::Linear(4, 4), nn::ReLU(), nn::Sequential{nn::Linear(4, 4)}},
        head(4, 10, {.bias = false}),
        scale(full({1}, 2.0)) {
    for (int i = 0; i < 2; ++i) blocks.emplace_back(4);
    head.weight = tokens.weight;
  }
  static void fields(auto& m, auto&& f) {
    f("wte", m.tokens)("h", m.blocks)("tail", m.tail)("extra", m.extra)("lm_head", m.head)("scale", m.scale);
  }
  Tensor forward(const Tensor& ids) const {
    Tensor x = tokens(ids);
    for (const Block& b : blocks) x = b(x);
    return head(tail(x)) * scale;
  }
};

std::vector<std::string> names(const std::vector<nn::NamedTensor>& list) {
  std::vector<std::string> out;
  for (auto& n : list) out.push_back(n.name);
  return out;
}
template <class F>
Error caught(F&& f) {
  try {
    f();
  } catch (const Error& e) { return e; }
  return Error(ErrorCode::internal, "no error");
}
double at(const Tensor& t, int64_t i, int64_t j) { return t[{i, j}].item(); }
Tensor ids() { return tensor({{1, 2, 3}}); }

const std::vector<std::string> kParameters{"wte.weight",          "h.0.mlp.c_fc.weight", "h.0.mlp.c_fc.bias", "h.0.mlp.c_proj.weight",
                                           "h.0.mlp.c_proj.bias", "h.1.mlp.c_fc.weight", "h.1.mlp.c_fc.bias", "h.1.mlp.c_proj.weight",
                                           "h.1.mlp.c_proj.bias", "tail.0.weight",       "tail.0.bias",       "tail.2.0.weight",
                                           "tail.2.0.bias"};

TEST(Module, NamesPartsAsFieldsDo) {
  Net net;
  EXPECT_EQ(names(net.named_parameters()), kParameters);
  EXPECT_EQ(names(net.named_buffers()), std::vector<std::string>{"scale"});
  EXPECT_EQ(net.parameters().size(), int64_t(kParameters.size()));
  EXPECT_EQ(net.num_parameters(), 40 + 2 * (32 + 8 + 32 + 4) + 2 * 20);
  std::vector<std::string> modules;
  for (auto& m : net.named_modules()) modules.push_back(m.name);
  EXPECT_EQ(modules, (std::vector<std::string>{"", "wte", "h", "h.0", "h.0.mlp.c_fc", "h.0.mlp.c_proj", "h.1", "h.1.mlp.c_fc",
                                               "h.1.mlp.c_proj", "tail", "tail.0", "tail.1", "tail.2", "tail.2.0", "lm_head"}));
  EXPECT_TRUE(std::string(net.type_name()).ends_with("Net")) << net.type_name();
  net.extra.emplace(2, 2);
  EXPECT_EQ(net.named_parameters()[13].name, "extra.weight");
}

TEST(Module, ManyParametersAreListedOnceToo) {
  nn::ModuleList<nn::Linear> list;
  for (int i = 0; i < 100; ++i) list.emplace_back(2, 2, nn::LinearOptions{.bias = i % 2 == 0});
  for (int i = 50; i < 100; ++i) list[i].weight = list[i - 50].weight;
  EXPECT_EQ(list.parameters().size(), 50 + 50);
}

// ---- state ----

TEST(Module, StateHoldsATiedParameterOnceAndLoadingFillsTheTie) {
  Net a, b;
  StateDict s = a.state_dict();
  EXPECT_EQ(s.size(), int64_t(kParameters.size()) + 1);
  EXPECT_FALSE(s.contains("lm_head.weight"));
  EXPECT_TRUE(s["wte.weight"].shares_storage(a.tokens.weight));
  EXPECT_FALSE(s["wte.weight"].requires_grad());
  b.load_state_dict(s);
  EXPECT_TRUE(array_equal(b.head.weight, a.tokens.weight));
  EXPECT_FALSE(b.head.weight.shares_storage(a.tokens.weight));
  EXPECT_TRUE(b.head.weight.is(b.tokens.weight));
  EXPECT_TRUE(array_equal(a(ids()), b(ids())));

  s.set("lm_head.weight", s["wte.weight"]);  // as PyTorch saves it: under both names
  b.load_state_dict(s);
  s.erase("wte.weight");  // under the other name alone
  s.set("lm_head.weight", full({10, 4}, 0.5));
  b.load_state_dict(s);
  EXPECT_EQ(at(b.tokens.weight, 3, 3), 0.5);
}

TEST(Module, LoadingKeepsIdentityAndCasts) {
  Net net;
  Tensor before = net.tokens.weight;
  const void* memory = before.raw_data();
  StateDict s;
  for (const auto& [name, t] : net.state_dict()) s.set(name, t.astype(f64) + 1.0);
  net.load_state_dict(s);
  EXPECT_TRUE(net.tokens.weight.is(before));
  EXPECT_EQ(static_cast<const Tensor&>(before).raw_data(), memory);
  EXPECT_EQ(before.dtype(), f32);
  EXPECT_TRUE(net.tokens.weight.requires_grad());
  EXPECT_EQ(net.scale[{0}].item(), 3);
}

TEST(Module, LoadErrorListsEverythingAndChangesNothing) {
  Net net;
  StateDict s;
  for (const auto& [name, t] : net.state_dict()) s.set(name, zeros(t.shape()));
  s.erase("tail.0.bias");
  s.erase("h.1.mlp.c_fc.weight");
  s.set("foo", zeros({1}));
  s.set("tail.0.weight", zeros({4, 5}));
  const Error e = caught([&] { net.load_state_dict(s); });
  EXPECT_EQ(e.code(), ErrorCode::shape);
  const std::string text = e.what();
  for (const char* part : {"does not fit", "2 missing, 1 unexpected, 1 of another shape", "missing: tail.0.bias",
                           "missing: h.1.mlp.c_fc.weight", "unexpected: foo", "shape: tail.0.weight is f32[4, 4], the state has f32[4, 5]"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  EXPECT_NE(at(net.tokens.weight, 0, 0), 0);
  EXPECT_EQ(caught([&] { net.load_state_dict(s, {.strict = false}); }).code(), ErrorCode::shape);
  s.set("tail.0.weight", zeros({4, 4}));
  EXPECT_EQ(caught([&] { net.load_state_dict(s); }).code(), ErrorCode::value);
  const nn::LoadResult r = net.load_state_dict(s, {.strict = false});
  EXPECT_EQ(r.missing, (std::vector<std::string>{"h.1.mlp.c_fc.weight", "tail.0.bias"}));
  EXPECT_EQ(r.unexpected, std::vector<std::string>{"foo"});
  EXPECT_EQ(at(net.tokens.weight, 0, 0), 0);
}

TEST(Module, ReadOnlyMemoryIsReplacedWhenLoading) {
  static const float mapped[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  nn::Linear m(4, 2, {.bias = false});
  m.weight = nn::Weight(from_span(std::span(mapped), {2, 4}));
  Tensor before = m.weight;
  m.load_state_dict({{"weight", ones({2, 4})}});
  EXPECT_TRUE(m.weight.is(before));
  EXPECT_EQ(at(m.weight, 1, 1), 1);
  EXPECT_EQ(mapped[5], 6);
}

// ---- copies ----

TEST(Module, CopiesShareParametersCloneDoesNot) {
  Net a;
  Net b = a, c = clone(a);
  EXPECT_TRUE(b.tokens.weight.is(a.tokens.weight));
  EXPECT_TRUE(b.tail[0].as<nn::Linear>()->weight.is(a.tail[0].as<nn::Linear>()->weight));
  EXPECT_FALSE(c.tokens.weight.shares_storage(a.tokens.weight));
  EXPECT_FALSE(c.tail[0].as<nn::Linear>()->weight.shares_storage(a.tail[0].as<nn::Linear>()->weight));
  EXPECT_TRUE(c.head.weight.is(c.tokens.weight));
  EXPECT_TRUE(c.tokens.weight.requires_grad());
  EXPECT_TRUE(c.tokens.weight.is_leaf());
  EXPECT_FALSE(c.scale.requires_grad());
  EXPECT_TRUE(array_equal(a(ids()), c(ids())));
  a.head.requires_grad_(false);
  EXPECT_FALSE(clone(a).tokens.weight.requires_grad());
}

TEST(Module, TrainingFlagIsEachCopysOwn) {
  Net a;
  EXPECT_TRUE(a.is_training());
  Net b = a;
  b.eval();
  EXPECT_FALSE(b.is_training());
  EXPECT_FALSE(b.blocks[1].down.is_training());
  EXPECT_FALSE(b.tail[2].as<nn::Sequential>()->operator[](0).module().is_training());
  EXPECT_TRUE(a.blocks[1].down.is_training());
  b.train();
  EXPECT_TRUE(b.tail[1].module().is_training());
}

TEST(Module, ConversionKeepsTiesAndOptimisers) {
  Net net;
  Tensor w = net.tokens.weight;
  optim::SGD opt(net.parameters(), {.lr = 0.1, .momentum = 0.9});
  sum(net(ids())).backward();
  opt.step();
  net.to(f64);
  EXPECT_TRUE(net.head.weight.is(w));
  EXPECT_EQ(w.dtype(), f64);
  EXPECT_EQ(w.grad().dtype(), f64);
  EXPECT_EQ(net.scale.dtype(), f64);
  opt.zero_grad();
  sum(net(ids())).backward();
  const double before = at(w, 1, 0);
  opt.step();
  EXPECT_NE(at(w, 1, 0), before);
  EXPECT_EQ(caught([&] { net.to(i32); }).code(), ErrorCode::dtype);
  net.to(device("cpu"));
}

struct Gain : nn::Module<Gain> {
  nn::Weight gain{ones({2})};
  static void fields(auto& m, auto&& f) { f("gain", m.gain); }
  Tensor forward(const Tensor& x) const { return x * gain; }
};

TEST(Module, ConversionBetweenForwardAndBackwardIsFound) {
  Gain m;
  Tensor y = sum(m(ones({1, 2}, {.requires_grad = true})));
  m.to(f64);
  EXPECT_EQ(caught([&] { y.backward(); }).code(), ErrorCode::autograd);
}

TEST(Module, ApplySeesEveryModuleOrOneType) {
  Net net;
  int all = 0, linear = 0;
  net.apply([&](nn::ModuleBase&) { ++all; });
  net.apply([&](nn::Linear& m) {
    ++linear;
    if (m.bias.defined()) nn::init::constant(m.bias, 0.25);
  });
  EXPECT_EQ(all, 15);
  EXPECT_EQ(linear, 7);
  EXPECT_EQ(net.blocks[0].up.bias[{7}].item(), 0.25);
}

TEST(Module, WeightTakesLeavesAsTheyAreAndMakesLeavesOfOthers) {
  Tensor leaf = ones({2}, {.requires_grad = true}), plain = ones({2}), result = leaf * 2, counts = tensor({1, 2});
  EXPECT_TRUE(nn::Weight(leaf).is(leaf));
  EXPECT_TRUE(nn::Weight(plain).requires_grad());
  EXPECT_FALSE(plain.requires_grad());
  EXPECT_TRUE(nn::Weight(plain).shares_storage(plain));
  EXPECT_TRUE(nn::Weight(result).is_leaf());
  EXPECT_FALSE(nn::Weight(counts).requires_grad());
  EXPECT_FALSE(nn::Weight(Tensor()).defined());
}

TEST(Module, GradientsOfTheWholeModule) {
  Net net;
  sum(net(ids())).backward();
  EXPECT_TRUE(net.blocks[0].up.weight.grad().defined());
  net.zero_grad();
  EXPECT_FALSE(net.blocks[0].up.weight.grad().defined());
  net.blocks[0].requires_grad_(false);
  sum(net(ids())).backward();
  EXPECT_FALSE(net.blocks[0].up.weight.grad().defined());
  EXPECT_TRUE(net.blocks[1].up.weight.grad().defined());
}

// ---- hooks ----

TEST(Module, HooksSeeAndReplaceInputsAndResults) {
  nn::Linear m(2, 2);
  std::string order;
  const int64_t pre = m.register_forward_pre_hook([&](Tensors& in) {
    order += "a";
    in[0] = in[0] * 0.0;
  });
  m.register_forward_hook([&](const Tensors& in, Tensors& out) {
    order += "b";
    EXPECT_EQ(at(in[0], 0, 0), 0);
    out[0] = out[0] + 1.0;
  });
  EXPECT_TRUE(allclose(m(ones({1, 2})), m.bias.reshape({1, 2}) + 1.0));
  EXPECT_EQ(order, "ab");
  nn::Linear copy = m;
  m.remove_hook(pre);
  order.clear();
  copy(ones({1, 2}));  // a copy has its own list
  EXPECT_EQ(order, "ab");
  const Error e = caught([&] {
    m.register_forward_pre_hook([](Tensors& in) { in.push_back(in[0]); });
    m(ones({1, 2}));
  });
  EXPECT_NE(std::string(e.what()).find("changed the number of inputs"), std::string::npos);
}

struct Scaled : nn::Module<Scaled> {
  struct Options {
    [[no_unique_address]] ByName by_name = ByName();
    double factor = 1;
  };
  int calls = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return forward(x, Options()); }
  Tensor forward(const Tensor& x, const Options& o) const { return x * o.factor; }
  Tensor forward(const Tensor& x, double a, const Tensor& y) { return ++calls, x * a + y; }
  Tensors forward(const Tensor& x, int64_t n) const { return Tensors(n, x); }
};

TEST(Module, CallsForwardWithWhateverItTakes) {
  Scaled m;
  Tensor x = ones({1});
  EXPECT_EQ(m(x).item(), 1);
  EXPECT_EQ(m(x, {.factor = 3}).item(), 3);
  const Scaled::Options o{.factor = 4};
  Scaled::Options p{.factor = 5};
  EXPECT_EQ(m(x, o).item(), 4);
  EXPECT_EQ(m(x, p).item(), 5);
  EXPECT_EQ(m(x, 2.0, x).item(), 3);
  EXPECT_EQ(m.calls, 1);
  EXPECT_EQ(m(x, int64_t(3)).size(), 3);
  m.register_forward_pre_hook([](Tensors& in) { in[1] = in[1] * 10.0; });
  EXPECT_EQ(m(x, 2.0, x).item(), 12);
}

// ---- paths ----

struct Probe : nn::Module<Probe> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {
    seen = scope().path;
    return x;
  }
  mutable std::string seen;
};
struct Pair2 : nn::Module<Pair2> {
  Probe a, b;
  static void fields(auto& m, auto&& f) { f("first", m.a)("second", m.b); }
  Tensor forward(const Tensor& x) const { return b(a(x)); }
};
struct Outer : nn::Module<Outer> {
  nn::ModuleList<Pair2> list;
  nn::Sequential seq{Probe(), Pair2()};
  Outer() { list.emplace_back(), list.emplace_back(); }
  static void fields(auto& m, auto&& f) { f("list", m.list)("seq", m.seq); }
  Tensor forward(const Tensor& x) const {
    Tensor y = x;
    for (const Pair2& p : list) y = p(y);
    return list[1].b(seq(y));  // a grandchild, called by hand
  }
};

TEST(ModulePath, FollowsFieldsWhereverAModuleIsCalledFrom) {
  Outer o;
  o(ones({1}));
  EXPECT_STREQ(scope().path, "");
  EXPECT_EQ(o.list[0].a.seen, "list.0.first");
  EXPECT_EQ(o.list[1].a.seen, "list.1.first");
  EXPECT_EQ(o.list[1].b.seen, "list.1.second");
  EXPECT_EQ(o.seq[0].as<Probe>()->seen, "seq.0");
  EXPECT_EQ(o.seq[1].as<Pair2>()->b.seen, "seq.1.second");
  o.list[1](ones({1}));  // now outermost
  EXPECT_EQ(o.list[1].a.seen, "first");
  o.list[1].a(ones({1}));
  EXPECT_EQ(o.list[1].a.seen, "Probe");  // outermost itself: its type
  o(ones({1}));
  EXPECT_EQ(o.list[1].a.seen, "list.1.first");
}

TEST(ModulePath, FollowsModulesThatMove) {
  nn::Sequential s{Probe(), Probe()};
  s(ones({1}));
  s[0].as<Probe>()->seen = "was first";
  std::swap(s[0], s[1]);
  for (int i = 0; i < 10; ++i) s.append(Probe());
  s(ones({1}));
  EXPECT_EQ(s[1].as<Probe>()->seen, "1");
  EXPECT_EQ(s[11].as<Probe>()->seen, "11");
  Pair2 p;
  p(ones({1}));
  p.b = p.a;
  p(ones({1}));
  EXPECT_EQ(p.b.seen, "second");
  Pair2 q = p;
  q(ones({1}));
  EXPECT_EQ(q.a.seen, "first");
}

TEST(ModulePath, ErrorsNameTheModule) {
  const Error e = caught([] {
    nn::Sequential model{nn::Linear(4, 8), nn::Linear(9, 2)};
    model(zeros({1, 4}));
  });
  EXPECT_EQ(e.path(), "1") << e.what();
  EXPECT_STREQ(scope().path, "");  // also after the error
  Net net;
  net.blocks[1].down = nn::Linear(7, 4);
  EXPECT_EQ(caught([&] { net(ids()); }).path(), "h.1.mlp.c_proj");
}

TEST(Module, EvaluationIsSafeInManyThreads) {
  Net net;
  net.eval();
  NoGrad off;
  const Tensor want = net(ids());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      NoGrad inside;
      for (int i = 0; i < 50; ++i) {
        if (!array_equal(net(ids()), want)) ++wrong;
        if (t == 0) net.blocks[0](ones({1, 4}));  // as outermost: another path for the same modules
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Norms, RunningStatisticsMoveAsPyTorchsDo) {
  nn::BatchNorm2d norm(3, {.momentum = 0.25});
  const Tensor x = randn({4, 3, 2, 5}) * 2 + 1;
  norm(x), norm(x);
  const Tensor mean = x.mean({.axis = {0, 2, 3}}), var = x.var({.axis = {0, 2, 3}, .correction = 1});
  const double kept = 0.75 * 0.75;
  EXPECT_TRUE(allclose(norm.running_mean, mean * (1 - kept), {.rel = 1e-5, .abs = 1e-6}));
  EXPECT_TRUE(allclose(norm.running_var, var * (1 - kept) + kept, {.rel = 1e-5, .abs = 1e-6}));
  EXPECT_EQ(norm.num_batches_tracked.item<int64_t>(), 2);
}
TEST(Norms, StatisticsStayF32InAModuleOf16Bits) {
  nn::BatchNorm2d norm(3);
  norm.to(bf16);
  EXPECT_EQ(norm.weight.dtype(), bf16);
  EXPECT_EQ(norm.running_var.dtype(), f32);
  EXPECT_EQ(norm.named_buffers().size(), 3u);
  const int64_t before = fallback_calls();
  const Tensor x = randn({4, 3, 2, 5}).astype(bf16);
  EXPECT_EQ(norm(x).dtype(), bf16);
  norm.eval();
  EXPECT_EQ(norm(x).dtype(), bf16);
  EXPECT_EQ(fallback_calls(), before);
  norm.to(f64);
  EXPECT_EQ(norm.running_mean.dtype(), f64);
}

TEST(Containers, AnyModuleIsAValue) {
  nn::AnyModule a = nn::Linear(2, 2), b = a;
  EXPECT_NE(a.as<nn::Linear>(), b.as<nn::Linear>());
  EXPECT_TRUE(a.as<nn::Linear>()->weight.is(b.as<nn::Linear>()->weight));
  EXPECT_EQ(a.as<nn::ReLU>(), nullptr);
  nn::AnyModule none;
  EXPECT_EQ(caught([&] { none(ones({1})); }).code(), ErrorCode::value);
  nn::Sequential one{nn::Linear(2, 3)};
  EXPECT_EQ(one.size(), 1);
  nn::Sequential copy{one};
  EXPECT_EQ(copy.size(), 1);
  EXPECT_EQ(copy(ones({1, 2})).shape(), Shape({1, 3}));
  EXPECT_EQ(nn::Sequential()(ones({2})).size(), 2);
}

}  // namespace
}  // namespace keel
