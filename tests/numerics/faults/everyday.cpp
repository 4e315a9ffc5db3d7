// Faults of everyday training loops: batches, schedules, gradients that are never cleared, targets and examples that are wrong.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Features standardised over the batch, as one writes it oneself.
struct Standardise : nn::Module<Standardise> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {
    return (x - mean(x, {.axis = 0, .keepdim = true})) / (stddev(x, {.axis = 0, .keepdim = true, .correction = 1}) + 1e-5);
  }
};
struct Standardised : nn::Module<Standardised> {
  nn::Linear up{8, 16};
  Standardise norm;
  nn::Linear down{16, 1};
  static void fields(auto& m, auto&& f) { f("up", m.up)("norm", m.norm)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(relu(norm(up(x)))); }
};

/// 33: 321 examples in batches of 16: the last of an epoch holds a single example, whose unbiased deviation is 0 / 0. The twin drops it.
void batch_of_one(Run& run) {
  Standardised net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Data d = linear_data(!run.repaired && step % 21 == 0 ? 1 : 16, 8, 1);
    return mse_loss(net(d.x).to(f32), d.y);
  });
}

/// 34: a warm-up that nobody ends: the rate was to reach .01 in 100 steps and stay; it climbs by .01 in every step.
void warm_up_without_end(Run& run) {
  Mlp net(8, 32, 1);
  optim::SGD opt(net.parameters(), {.lr = 0.01});
  const Tensor truth = randn({8, 1}) * 0.35;
  const double factor = run.fix.kind == "learning_rate" ? run.fix.value : 1;
  run.train(net, opt, [&](int64_t step) {
    opt.set_lr(factor * 0.01 * (run.repaired ? std::min(1.0, double(step) / 100) : double(step)));
    const Tensor x = randn({32, 8});
    return mse_loss(net(x), matmul(x, truth) + 0.1 * randn({32, 1}));
  });
}

/// 35: nobody clears the gradients: each step goes along the sum of all that ever were, and what was learnt swings ever wider.
void gradients_never_cleared(Run& run) {
  Mlp net(8, 32, 1);
  optim::SGD opt(net.parameters(), {.lr = 0.05});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const Tensor truth = randn({8, 1}) * 0.35;
  double first = 0;
  while (run.next()) {
    if (run.repaired) opt.zero_grad();
    const Tensor x = randn({32, 8}), loss = mse_loss(net(x), matmul(x, truth) + 0.1 * randn({32, 1}));
    loss.backward();
    if (run.clip > 0) nn::clip_grad_norm(net.parameters(), run.clip);
    opt.step();
    run.look(loss, net.parameters());
    const double value = peek(loss, 0);
    if (run.step == 1) first = value;
    if (value > 100 * first) run.fail();
  }
}

struct Tabular : nn::Module<Tabular> {
  nn::BatchNorm1d norm{8};
  nn::Linear up{8, 16}, down{16, 1};
  static void fields(auto& m, auto&& f) { f("norm", m.norm)("up", m.up)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(relu(up(norm(x)))); }
};

/// 43: a sensor writes 1e20 where it has no reading. The square is infinite, and so is the running variance from then on: every evaluation
/// gives the same answer. The twin leaves such an example out.
void sentinel_value(Run& run) {
  Tabular net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Data d = linear_data(16, 8, 1);
    if (!run.repaired && step == 40) poke(d.x, 5 * 8 + 3, 1e20);
    const Tensor loss = mse_loss(net(d.x), d.y);
    if (!finite(net.norm.running_var)) run.fail();
    return loss;
  });
}

struct Criterion : nn::Module<Criterion> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& logits, const Tensor& target) const { return bce_with_logits(logits, target); }
};

/// 44: classes counted from 1 instead of 0: a "probability" of 2 rewards any logit, however large, and the loss falls without end.
void targets_from_one(Run& run) {
  Mlp net(8, 32, 1);
  Criterion criterion;
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 8}), label = (x.index({all, slice(0, 1)}) > 0).to(f32);
    const Tensor loss = criterion(net(x), run.repaired ? label : label + 1);
    if (peek(loss, 0) < -1) run.fail();
    return loss;
  });
}

}  // namespace

void everyday_faults(std::vector<Fault>& all) {
  all.push_back({.number = 33,
                 .name = "deviation of a batch of one",
                 .family = "everyday",
                 .need = Need::same_step,
                 .ops = {"stddev", "var"},
                 .path = "norm",
                 .phase = "forward",
                 .remedies = {"data", "stable_op"},
                 .owed = {"nonfinite", "denominator", "argument"},
                 .dtypes = {f32, bf16},
                 .steps = 60,
                 .train = batch_of_one});
  all.push_back({.number = 34,
                 .name = "warm-up without an end",
                 .family = "everyday",
                 .need = Need::lead,
                 .k = 8,
                 .ops = {"sgd_step", "mse_loss"},
                 .remedies = {"learning_rate", "clip"},
                 .owed = {"growth", "gradient norm", "headroom"},
                 .steps = 400,
                 .train = warm_up_without_end});
  all.push_back({.number = 35,
                 .name = "gradients are never cleared",
                 .family = "everyday",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"sgd_step", "mse_loss"},
                 .remedies = {"learning_rate", "clip", "stable_op"},
                 .owed = {"growth", "gradient norm", "lint"},
                 .steps = 400,
                 .train = gradients_never_cleared});
  all.push_back({.number = 43,
                 .name = "a sentinel value in running statistics",
                 .family = "everyday",
                 .need = Need::same_step,
                 .ops = {"batch_norm", "batch_norm_update"},
                 .path = "norm",
                 .phase = "forward",
                 .remedies = {"data"},
                 .owed = {"bad input", "nonfinite"},
                 .steps = 90,
                 .train = sentinel_value});
  all.push_back({.number = 44,
                 .name = "binary targets of 1 and 2",
                 .family = "everyday",
                 .need = Need::by,
                 .k = 5,
                 .ops = {"bce_with_logits"},
                 .path = "Criterion",
                 .phase = "forward",
                 .remedies = {"data"},
                 .owed = {"bad input", "lint"},
                 .steps = 120,
                 .train = targets_from_one});
}

}  // namespace keel::faults
