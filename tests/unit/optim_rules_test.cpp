// Optimisers: PyTorch's numbers, groups, state, the report of the first step.
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "core/impl.h"
#include "keel/keel.h"
#include "unit/test_data.h"

namespace keel {
namespace {

Tensor leaf(Tensor t) { return t.requires_grad_(), t; }
template <class O>
void one_step(O& opt, const Tensor& p, const Tensor& g) {
  Tensor(p).set_grad(g);
  opt.step();
}

// ---- KEEL_DATA/torch-optim: 1001 steps of a small network, by torch 1.13 in f64 ----

optim::Optimizer make_rule(std::string_view name, const Tensors& p) {
  if (name == "SGD") return optim::SGD(p, {.lr = 0.1});
  if (name == "SGD_wd") return optim::SGD(p, {.lr = 0.1, .weight_decay = 1e-2});
  if (name == "SGD_wd_momentum") return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-2});
  if (name == "SGD_wd_nesterov") return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-6, .nesterov = true});
  if (name == "SGD_dampening") return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .dampening = 0.3});
  if (name == "Adam") return optim::Adam(p, {.lr = 1});
  if (name == "Adam_wd") return optim::Adam(p, {.lr = 1, .weight_decay = 1e-2});
  if (name == "Adam_wd_amsgrad") return optim::Adam(p, {.lr = 1, .weight_decay = 1e-6, .amsgrad = true});
  if (name == "AdamW") return optim::AdamW(p, {.lr = 1});
  if (name == "AdamW_wd") return optim::AdamW(p, {.lr = 0.1, .weight_decay = 0.05});
  if (name == "RMSprop") return optim::RMSprop(p, {.lr = 0.1});
  if (name == "RMSprop_wd") return optim::RMSprop(p, {.lr = 0.1, .weight_decay = 1e-2});
  if (name == "RMSprop_wd_centered") return optim::RMSprop(p, {.lr = 0.1, .weight_decay = 1e-6, .centered = true});
  if (name == "RMSprop_wd_centered_momentum")
    return optim::RMSprop(p, {.lr = 0.1, .weight_decay = 1e-6, .momentum = 0.9, .centered = true});
  return {};
}

TEST(OptimRules, FollowTorchToTenDigits) {
  SKIP_WITHOUT_DATA();
  auto parsed = base::parse_json(slurp(data_dir() + "/torch-optim/optim_goldens_f64.json"));
  ASSERT_TRUE(parsed.ok());
  const base::JsonValue root = parsed.value().root();
  const Tensor x = tensor({{0.1, 0.2}, {0.3, 0.4}, {0.5, 0.6}}, {.dtype = f64});
  int rules = 0;
  for (base::JsonValue run = root["runs"].first(); run; run = run.next()) {
    nn::Sequential model{nn::Linear(2, 3), nn::Sigmoid(), nn::Linear(3, 1), nn::Sigmoid()};
    model.to(f64);
    Tensors params = model.parameters();
    optim::Optimizer opt = make_rule(run.key(), params);
    if (!opt.defined()) continue;
    ++rules;
    SCOPED_TRACE(std::string(run.key()));
    base::JsonValue init = run["init"].first();
    for (Tensor& p : params) {
      base::JsonValue v = init.first();
      for (int64_t i = 0; i < p.size(); ++i, v = v.next()) p.data<double>()[i] = v.as_double();
      init = init.next();
    }
    int64_t step = 0;
    base::JsonValue sample = run["samples"].first();
    for (base::JsonValue at = root["sampled_after_steps"].first(); at; at = at.next(), sample = sample.next()) {
      for (; step < at.as_int(); ++step) {
        opt.zero_grad();
        sum(model(x)).backward();
        opt.step();
      }
      base::JsonValue want = sample.first();
      for (const Tensor& p : params) {
        base::JsonValue v = want.first();
        for (int64_t i = 0; i < p.size(); ++i, v = v.next())
          ASSERT_NEAR(p.data<double>()[i], v.as_double(), 1e-10) << "after step " << step;
        want = want.next();
      }
    }
  }
  EXPECT_EQ(rules, 14);
}

TEST(OptimRules, MomentumBuffersStartWithTheGradient) {
  Tensor p = leaf(ones({3}));
  optim::SGD opt({p}, {.lr = 1, .momentum = 0.5, .dampening = 0.5});
  one_step(opt, p, full({3}, 0.25));
  EXPECT_EQ(to_string(p), "[0.75 0.75 0.75]");
  one_step(opt, p, full({3}, 0.25));  // 0.5 * 0.25 + 0.5 * 0.25
  EXPECT_EQ(to_string(p), "[0.5 0.5 0.5]");
}

TEST(OptimRules, MaximizeClimbs) {
  Tensor a = leaf(ones({2}, {.dtype = f64})), b = leaf(ones({2}, {.dtype = f64}));
  optim::AdamW down({a}, {.lr = 0.1, .weight_decay = 0}), up({b}, {.lr = 0.1, .weight_decay = 0, .maximize = true});
  one_step(down, a, tensor({1.0, -2.0}, {.dtype = f64}));
  one_step(up, b, tensor({-1.0, 2.0}, {.dtype = f64}));
  EXPECT_TRUE(array_equal(a, b));
  EXPECT_LT(a.data<double>()[0], 1);
}

// ---- how tensors lie in memory, dtypes, sizes ----

TEST(OptimRules, LayoutOfGradientsDoesNotMatter) {
  Tensor a = leaf(arange(0, 24, {.dtype = f32}).reshape({2, 3, 2, 2}).clone()), b = leaf(a.detach().clone());
  Tensor g = (arange(0, 24, {.dtype = f32}).reshape({2, 3, 2, 2}) - 11).square();
  optim::Adam one({a}, {.lr = 0.1, .amsgrad = true}), two({b}, {.lr = 0.1, .amsgrad = true});
  for (int i = 0; i < 3; ++i) {
    one_step(one, a, g * (i + 1));
    one_step(two, b, (g * (i + 1)).channels_last());
  }
  EXPECT_TRUE(array_equal(a, b));
}

TEST(OptimRules, ParametersThatAreViewsAreTrainedInPlace) {
  Tensor base = ones({4, 6}), column = base.transpose()[{slice(0, none, 2)}];
  Tensor p = leaf(column.detach());
  optim::SGD opt({p}, {.lr = 1, .momentum = 0.9});
  one_step(opt, p, ones({3, 4}));
  EXPECT_EQ(to_string(base[0]), "[0. 1. 0. 1. 0. 1.]");
}

TEST(OptimRules, SixteenBitParametersKeepStateInF32) {
  for (DType t : {bf16, f16}) {
    Tensor p = leaf(full({300}, 1.0, {.dtype = t})), q = leaf(full({300}, 1.0, {.dtype = f32}));
    optim::Adam narrow({p}, {.lr = 0.01}), wide({q}, {.lr = 0.01});
    for (int i = 0; i < 20; ++i) one_step(narrow, p, full({300}, 0.5, {.dtype = t})), one_step(wide, q, full({300}, 0.5, {.dtype = f32}));
    EXPECT_EQ(narrow.state_dict()["state.0.exp_avg"].dtype(), f32);
    EXPECT_TRUE(array_equal(narrow.state_dict()["state.0.exp_avg"], wide.state_dict()["state.0.exp_avg"]));
    EXPECT_NEAR(p.astype(f32)[{0}].item(), q[{0}].item(), t == bf16 ? 0.04 : 0.005);
  }
}

TEST(OptimRules, ThreadsDoNotChangeBits) {
  const int64_t threads = num_threads();
  Tensors result[2];
  for (int k = 0; k < 2; ++k) {
    set_num_threads(k == 0 ? 1 : 3);
    Tensors p{leaf(arange(0, 100003, {.dtype = f32}) * 1e-3), leaf(arange(0, 7, {.dtype = f32}).clone()),
              leaf(arange(0, 40000, {.dtype = f32}).reshape({200, 200}) * 1e-2)};
    for (Tensor& x : p) x = leaf(x.detach().clone());
    optim::AdamW opt(p, {.lr = 0.1});
    for (int i = 0; i < 3; ++i) {
      for (Tensor& x : p) x.set_grad(x.detach() * 0.3 - 1);
      const Tensor norm = nn::clip_grad_norm(p, 5.0);
      if (i == 0) result[k].push_back(norm);
      opt.step();
    }
    for (Tensor& x : p) result[k].push_back(x);
  }
  set_num_threads(threads);
  for (int64_t i = 0; i < result[0].size(); ++i) EXPECT_TRUE(array_equal(result[0][i], result[1][i])) << i;
}

TEST(OptimRules, AStepKeepsTiesAndRecordsNoGradient) {
  Tensor p = leaf(ones({3}));
  Tensor loss = sum(p * p);
  loss.backward();
  optim::SGD opt({p}, {.lr = 0.1});
  opt.step();
  EXPECT_TRUE(p.is_leaf());
  EXPECT_TRUE(p.requires_grad());
  opt.zero_grad();
  EXPECT_FALSE(p.grad().defined());
  const float before = p.data<float>()[0];
  opt.step();  // no gradient: nothing happens
  EXPECT_EQ(p.data<float>()[0], before);
}

TEST(OptimRules, AStepBetweenForwardAndBackwardIsFound) {
  Tensor p = leaf(ones({3}));
  optim::SGD opt({p}, {.lr = 0.1});
  Tensor loss = sum(p * p);
  one_step(opt, p, ones({3}));
  try {
    loss.backward();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::autograd);
    EXPECT_NE(std::string(e.what()).find("SGD"), std::string::npos) << e.what();
  }
}

// ---- groups ----

TEST(OptimGroups, HaveSettingsOfTheirOwn) {
  Tensors params{leaf(ones({2, 2})), leaf(ones({2})), leaf(ones({3, 1}))};
  auto [matrices, vectors] = optim::split_by_rank(params);
  EXPECT_EQ(matrices.size(), 2);
  EXPECT_EQ(vectors.size(), 1);
  optim::AdamW opt({{.params = matrices, .weight_decay = 0.1}, {.params = vectors, .weight_decay = 0.0}},
                   {.lr = 1e-3, .betas = {0.9, 0.99}});
  EXPECT_EQ(opt.groups(), 2);
  EXPECT_EQ(opt.get(0, "weight_decay"), 0.1);
  EXPECT_EQ(opt.get(1, "weight_decay"), 0.0);
  EXPECT_EQ(opt.get(1, "beta2"), 0.99);
  EXPECT_EQ(opt.lr(1), 1e-3);
  Tensor extra = leaf(ones({5}));
  opt.add_param_group({.params = {extra}, .lr = 0.5, .betas = {0.8, 0.9}});
  EXPECT_EQ(opt.groups(), 3);
  EXPECT_EQ(opt.get(2, "beta1"), 0.8);
  EXPECT_EQ(opt.get(2, "weight_decay"), 1e-2);  // the optimiser's own
  opt.set_lr(0.25);
  EXPECT_EQ(opt.lr(2), 0.25);
  opt.set(0, "weight_decay", 0.3);
  EXPECT_EQ(opt.get(0, "weight_decay"), 0.3);
  EXPECT_EQ(opt.parameters().size(), 4);
}

TEST(OptimGroups, MistakesAreRefused) {
  auto message = [](auto f) -> std::string {
    try {
      f();
    } catch (const Error& e) { return e.what(); }
    return "no error";
  };
  Tensor p = leaf(ones({2}));
  EXPECT_NE(message([&] { optim::Adam({}, {.lr = 1}); }).find("got no parameters"), std::string::npos);
  EXPECT_NE(message([&] { optim::Adam({p, p}, {.lr = 1}); }).find("parameter 1 is given twice"), std::string::npos);
  EXPECT_NE(message([&] { optim::SGD({p}, {.lr = -1}); }).find("lr must not be negative"), std::string::npos);
  EXPECT_NE(message([&] { optim::SGD({p}, {.nesterov = true}); }).find("nesterov needs a momentum"), std::string::npos);
  EXPECT_NE(message([&] { optim::Adam({p}, {.betas = {0.9, 1.0}}); }).find("betas must be in [0, 1)"), std::string::npos);
  EXPECT_NE(message([&] { optim::Adam({p * 2}); }).find("is a result, not a leaf"), std::string::npos);
  EXPECT_NE(message([&] { optim::Adam({p}).set(0, "momentum", 1); }).find("no setting 'momentum'"), std::string::npos);
  EXPECT_NE(message([&] { optim::Adam({p}).lr(1); }).find("group 1 is out of range [0, 0]"), std::string::npos);
  EXPECT_NE(message([&] { optim::Optimizer().step(); }).find("empty Optimizer"), std::string::npos);
}

// ---- state ----

TEST(OptimState, RoundTripContinuesBitForBit) {
  auto train = [](optim::Optimizer& opt, Tensors& p, int from, int to) {
    for (int i = from; i < to; ++i) {
      for (Tensor& x : p) x.set_grad(x.detach() * 0.5 + i);
      opt.step();
    }
  };
  auto make = [](Tensors& p) {
    return optim::AdamW({{.params = {p[0]}, .weight_decay = 0.1}, {.params = {p[1]}}}, {.lr = 0.05, .amsgrad = true});
  };
  Tensors a{leaf(ones({3, 2})), leaf(zeros({4}))};
  optim::AdamW first = make(a);
  train(first, a, 0, 5);
  first.set_lr(1, 0.01);
  StateDict saved;
  for (const auto& [name, t] : first.state_dict()) saved.set(name, t.clone());
  EXPECT_EQ(saved.at(0).name, "state.0.step");
  EXPECT_EQ(saved["state.1.step"].item(), 5);
  EXPECT_EQ(saved["param_groups.1.betas"].shape(), Shape({2}));
  EXPECT_EQ(saved["param_groups.1.params"].item<int64_t>(), 1);
  Tensors b{leaf(a[0].detach().clone()), leaf(a[1].detach().clone())};
  optim::AdamW second = make(b);
  second.load_state_dict(saved);
  EXPECT_EQ(second.lr(1), 0.01);
  train(first, a, 5, 9), train(second, b, 5, 9);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(array_equal(a[i], b[i]));
}

TEST(OptimState, OneErrorListsAllThatDoesNotFit) {
  Tensor p = leaf(ones({2})), q = leaf(ones({3}));
  optim::Adam opt({p, q});
  one_step(opt, p, ones({2}));
  one_step(opt, q, ones({3}));
  StateDict s = opt.state_dict();
  s.set("state.0.exp_avg", zeros({7}));
  s.erase("state.1.exp_avg_sq");
  s.set("state.2.step", zeros({}));
  try {
    opt.load_state_dict(s);
    FAIL();
  } catch (const Error& e) {
    const std::string text = e.what();
    for (const char* part : {"state.0.exp_avg is f32[7], expected [2]", "missing: state.1.exp_avg_sq", "unexpected: state.2.step"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

TEST(OptimState, LrIsReadAtTheStep) {
  Tensor p = leaf(zeros({1}));
  optim::SGD opt({p}, {.lr = 1});
  Tensor lr = opt.state_dict()["param_groups.0.lr"];  // the very tensor that the step op takes
  lr.fill_(0.5);
  one_step(opt, p, ones({1}));
  EXPECT_EQ(p.item(), -0.5);
}

// ---- masters of 16-bit parameters ----

template <class Make>
void expect_master_is_the_f32_run(Make make) {
  for (const DType low : {bf16, f16}) {
    const Tensor start = (randn({7, 5}) * 0.5).astype(low);
    Tensor p = leaf(start.clone()), q = leaf(start.astype(f32)), other = leaf(ones({3})), same = leaf(ones({3}));
    auto opt = make(Tensors{p, other}, true), plain = make(Tensors{q, same}, false);
    for (int i = 0; i < 6; ++i) {
      const Tensor g = (randn({7, 5}) * 0.01).astype(low), h = randn({3});
      p.set_grad(g), q.set_grad(g.astype(f32)), other.set_grad(h), same.set_grad(h);
      opt.step(), plain.step();
      ASSERT_TRUE(array_equal(opt.state_dict()["state.0.master"], q)) << name_of(low) << ", step " << i;
      ASSERT_TRUE(array_equal(p, q.astype(low))) << name_of(low) << ", step " << i;
      ASSERT_TRUE(array_equal(other, same));
    }
    EXPECT_FALSE(opt.state_dict().contains("state.1.master"));  // an f32 parameter is its own
  }
}
TEST(OptimMaster, StepsAsF32DoesAndRoundsOnce) {
  expect_master_is_the_f32_run(
      [](const Tensors& p, bool m) { return optim::SGD(p, {.lr = 0.01, .weight_decay = 0.1, .master_weights = m}); });
  expect_master_is_the_f32_run(
      [](const Tensors& p, bool m) { return optim::SGD(p, {.lr = 0.01, .momentum = 0.9, .nesterov = true, .master_weights = m}); });
  expect_master_is_the_f32_run(
      [](const Tensors& p, bool m) { return optim::AdamW(p, {.lr = 1e-3, .amsgrad = true, .master_weights = m}); });
  expect_master_is_the_f32_run(
      [](const Tensors& p, bool m) { return optim::RMSprop(p, {.lr = 1e-3, .momentum = 0.5, .centered = true, .master_weights = m}); });
}
TEST(OptimMaster, KeepsUpdatesThatThePlainParameterLoses) {
  Tensor p = leaf(ones({4}, {.dtype = bf16})), q = leaf(ones({4}, {.dtype = bf16}));
  optim::SGD with({p}, {.lr = 1e-4, .master_weights = true}), without({q}, {.lr = 1e-4});
  for (int i = 0; i < 1000; ++i) one_step(with, p, ones({4}, {.dtype = bf16})), one_step(without, q, ones({4}, {.dtype = bf16}));
  EXPECT_NEAR(p[0].astype(f32).item(), 0.9, 0.004);
  EXPECT_EQ(q[0].astype(f32).item(), 1);  // each update is less than half the distance to the next number
}
TEST(OptimMaster, BeginsWithAllDigitsOfWeightsThatWereCastAfterwards) {
  for (const DType low : {bf16, f16}) {
    nn::Linear net(16, 8), wide = nn::clone(net);
    const Tensor start = net.weight.detach().clone();
    optim::AdamW opt(net.parameters(), {.lr = 1e-6, .weight_decay = 0, .master_weights = true}),
        plain(wide.parameters(), {.lr = 1e-6, .weight_decay = 0});
    net.to(low);
    {
      NoGrad off;
      net.weight[{0, 0}].fill_(3);  // written since: that counts
      wide.weight[{0, 0}].fill_(3);
    }
    for (int i = 0; i < 3; ++i) {
      const Tensor g = randn({8, 16}).astype(low), h = randn({8}).astype(low);
      net.weight.set_grad(g), net.bias.set_grad(h), wide.weight.set_grad(g.astype(f32)), wide.bias.set_grad(h.astype(f32));
      opt.step(), plain.step();
    }
    ASSERT_FALSE(array_equal(start.astype(low).astype(f32), start));
    EXPECT_TRUE(array_equal(opt.state_dict()["state.0.master"], wide.weight)) << name_of(low);
    EXPECT_TRUE(array_equal(net.weight, wide.weight.detach().astype(low))) << name_of(low);
  }
}
TEST(OptimMaster, IsPartOfTheState) {
  const auto make = [](const Tensor& p) { return optim::AdamW({p}, {.lr = 1e-4, .master_weights = true}); };
  Tensor p = leaf(ones({5}, {.dtype = bf16}));
  optim::AdamW first = make(p);
  for (int i = 0; i < 5; ++i) one_step(first, p, ones({5}, {.dtype = bf16}));
  StateDict saved;
  for (const auto& [name, t] : first.state_dict()) saved.set(name, t.clone());
  Tensor q = leaf(p.detach().clone());
  optim::AdamW second = make(q);
  second.load_state_dict(saved);
  for (int i = 0; i < 20; ++i) one_step(first, p, ones({5}, {.dtype = bf16})), one_step(second, q, ones({5}, {.dtype = bf16}));
  EXPECT_TRUE(array_equal(first.state_dict()["state.0.master"], second.state_dict()["state.0.master"]));
  saved.erase("state.0.master");
  EXPECT_THROW(second.load_state_dict(saved), Error);
}

// ---- the report of the first step ----

struct Two : nn::Module<Two> {
  nn::Linear used{2, 2}, idle{2, 2};
  static void fields(auto& m, auto&& f) { f("used", m.used)("idle", m.idle); }
  Tensor forward(const Tensor& x) const { return used(x); }
};

TEST(OptimReport, NamesWhatIsForgotten) {
  std::string log;
  set_log_sink([](void* to, const LogRecord& r) {
    if (r.topic == "optim") *static_cast<std::string*>(to) += std::string(r.text) + "\n";
  }, &log);
  set_log_level(LogLevel::warning);
  Two net;
  optim::SGD opt({net.used.weight, net.idle.weight}, {.lr = 0.1});
  for (int i = 0; i < 2; ++i) {
    opt.zero_grad();
    sum(net(ones({1, 2}))).backward();
    opt.step();
  }
  set_log_sink(nullptr);
  set_log_level(LogLevel::off);
  EXPECT_EQ(opt.untrained(), std::vector<std::string>{"used.bias"});
  ASSERT_EQ(opt.without_gradient().size(), 1u);
  EXPECT_EQ(log,
            "SGD, first step: parameters with a gradient that no optimiser trains: used.bias\nSGD, first step: parameters to train that "
            "got no gradient: " +
                opt.without_gradient()[0] + "\n");
}

TEST(OptimReport, SilentWhereAllIsTrained) {
  Two net;
  net.idle.requires_grad_(false);
  optim::SGD opt(net.parameters(), {.lr = 0.1});
  sum(net(ones({1, 2}))).backward();
  opt.step();
  EXPECT_TRUE(opt.untrained().empty());
  EXPECT_TRUE(opt.without_gradient().empty());
}

// ---- clipping ----

TEST(Clip, ScalesAllGradientsTogether) {
  Tensor a = leaf(zeros({2})), b = leaf(zeros({1})), c = leaf(zeros({4}));
  a.set_grad(tensor({3.0, 0.0})), b.set_grad(tensor({4.0}));
  EXPECT_EQ(nn::clip_grad_norm({a, b, c}, 10.0).item(), 5);
  EXPECT_EQ(a.grad()[{0}].item(), 3);
  EXPECT_EQ(nn::clip_grad_norm({a, b, c}, 1.0).item(), 5);
  EXPECT_NEAR(a.grad()[{0}].item(), 0.6, 1e-6);
  EXPECT_NEAR(b.grad()[{0}].item(), 0.8, 1e-6);
  a.set_grad(tensor({3.0, -7.0})), b.set_grad(tensor({4.0}));
  EXPECT_EQ(nn::clip_grad_norm({a, b}, 100.0, {.p = INFINITY}).item(), 7);
  EXPECT_EQ(nn::clip_grad_norm({a, b}, 100.0, {.p = 1}).item(), 14);
  EXPECT_NEAR(nn::clip_grad_norm({a, b}, 100.0, {.p = 3}).item(), std::cbrt(27.0 + 343 + 64), 1e-5);
  nn::clip_grad_value({a, b, c}, 3.5);
  EXPECT_EQ(to_string(a.grad()), "[ 3.  -3.5]");
  EXPECT_EQ(nn::clip_grad_norm({c}, 1.0).item(), 0);
}

TEST(Clip, NormNeitherOverflowsNorHidesNaN) {
  Tensor a = leaf(zeros({3}));
  a.set_grad(full({3}, 1e30));
  EXPECT_NEAR(nn::clip_grad_norm({a}, 1.0).item() / (std::sqrt(3.0) * 1e30), 1, 1e-6);
  EXPECT_NEAR(a.grad()[{0}].item(), 1 / std::sqrt(3.0), 1e-6);
  a.set_grad(tensor({1.0, NAN, 2.0}));
  EXPECT_TRUE(std::isnan(nn::clip_grad_norm({a}, 1.0, {.p = INFINITY}).item()));
  a.set_grad(tensor({1.0, NAN, 2.0}));
  try {
    nn::clip_grad_norm({a}, 1.0, {.error_if_nonfinite = true});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::numeric);
  }
  EXPECT_EQ(a.grad()[{0}].item(), 1);  // nothing was scaled
}

// ---- averages ----

TEST(Ema, FollowsTheFormula) {
  Tensor p = leaf(tensor({1.0, 2.0}, {.dtype = f64}));
  optim::Ema ema({p}, {.decay = 0.9});
  Tensor(p.detach()).fill_(0);
  ema.update();
  EXPECT_NEAR(ema.averages()[0].data<double>()[1], 1.8, 1e-15);
  ema.update();
  EXPECT_NEAR(ema.averages()[0].data<double>()[0], 0.81, 1e-15);
  ema.swap();
  EXPECT_NEAR(p.data<double>()[0], 0.81, 1e-15);
  EXPECT_EQ(ema.averages()[0].data<double>()[0], 0);
  ema.swap();
  EXPECT_EQ(p.data<double>()[0], 0);
  StateDict saved = ema.state_dict();
  optim::Ema other({p}, {.decay = 0.5});
  other.load_state_dict(saved);
  EXPECT_EQ(other.decay(), 0.9);
  EXPECT_TRUE(array_equal(other.averages()[0], ema.averages()[0]));
}

}  // namespace
}  // namespace keel
