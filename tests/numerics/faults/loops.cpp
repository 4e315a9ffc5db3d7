// Faults of what stands around a model: averages of weights, decay rates, schedules, order of clipping and unscaling, raw features,
// padding.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Share of elements that are what they were.
double unmoved(const Tensors& now, const Tensors& then) {
  int64_t same = 0, total = 0;
  for (int i = 0; i < now.size(); ++i)
    for (int64_t k = 0; k < now[i].size(); ++k) same += peek(now[i], k) == peek(then[i], k), ++total;
  return double(same) / double(total);
}
Tensors copies(const Tensors& of, DType t = f32) {
  Tensors list;
  for (const Tensor& w : of) list.push_back(w.detach().clone().to(t));
  return list;
}

/// 51: an average of the weights in bf16 that takes a thousandth of them at a step: it stays what it was at the start.
void average_in_bf16(Run& run) {
  Mlp net(8, 32, 1);
  optim::Adam opt(net.parameters(), {.lr = 3e-3});
  const Tensors weights = net.parameters();
  Tensors average = copies(weights, run.dtype(f32));
  const Tensors start = copies(average);
  const Tensor truth = randn({8, 1});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 8}), loss = mse_loss(net(x), matmul(x, truth));
    loss.backward();
    opt.step();
    {
      NoGrad off;
      for (int i = 0; i < weights.size(); ++i) average[i].mul_(0.999).add_(weights[i].to(average[i].dtype()) * 0.001);
    }
    run.look(loss, weights);
    if (run.step == 60 && unmoved(copies(average), start) > 0.5) run.fail();
  }
}

struct Words : nn::Module<Words> {
  nn::Embedding table{40, 8};
  nn::Linear head{8, 4};
  static void fields(auto& m, auto&& f) { f("table", m.table)("head", m.head); }
  Tensor forward(const Tensor& ids) const { return head(table(ids)); }
};

/// 52: Adam's two decay rates in the wrong order, .999 and .9. Words that occur in the first documents only get no gradient afterwards:
/// what divides their step fades in no time, what is divided does not, and they run away.
void decay_rates_in_wrong_order(Run& run) {
  Words net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3, .betas = run.repaired ? optim::Betas{0.9, 0.999} : optim::Betas{0.999, 0.9}});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  run.train(net, opt, [&](int64_t step) {
    const Tensor ids = randint(0, step <= 20 ? 40 : 24, {32});
    double largest = 0;
    for (int64_t i = 24 * 8; i < 40 * 8; ++i) largest = std::max(largest, std::abs(peek(net.table.weight, i)));
    if (largest > 20) run.fail();
    return cross_entropy(net(ids), remainder(ids, 4));
  });
}

/// 53: a polynomial schedule that is asked for steps beyond its end: a negative number to the power of .9, and the rate is NaN.
void schedule_beyond_its_end(Run& run) {
  Mlp net(8, 32, 1);
  optim::SGD opt(net.parameters(), {.lr = 0.05, .momentum = 0.9});
  const bool bounded = run.repaired;
  optim::LambdaLR schedule(opt, [bounded](int64_t step) {
    const double left = 1 - double(step) / 50;
    return std::pow(bounded ? std::max(left, 0.0) : left, 0.9);
  });
  const Tensor truth = randn({8, 1});
  run.train(net, opt, [&](int64_t step) {
    if (step > 1) schedule.step();
    if (!std::isfinite(opt.lr())) run.fail();
    const Tensor x = randn({32, 8});
    return mse_loss(net(x), matmul(x, truth));
  });
}

/// 54: gradients are clipped to 1 before they are divided by the loss scale of 16,384: what is left of them f32 weights do not feel.
void clipped_before_unscaled(Run& run) {
  Mlp net(8, 32, 1);
  optim::SGD opt(net.parameters(), {.lr = 5e-4});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  optim::GradScaler scaler({.init_scale = run.loss_scale(16384, 16384)});
  const Tensors weights = net.parameters(), start = copies(weights);
  const Tensor truth = randn({8, 1}) * 0.1;
  while (run.next()) {
    opt.zero_grad();
    Tensor loss;
    {
      Autocast guard(run.dtype());
      const Tensor x = randn({32, 8});
      loss = mse_loss(net(x), matmul(x, truth));
    }
    scaler.scale(loss).backward();
    if (run.repaired) scaler.unscale_(opt);
    nn::clip_grad_norm(weights, run.clip > 0 ? run.clip : 1.0);
    scaler.step(opt);
    scaler.update();
    run.look(loss, weights);
    if (run.step == 40 && unmoved(weights, start) > 0.5) run.fail();
  }
}

struct Prices : nn::Module<Prices> {
  nn::Linear up{8, 32};
  nn::Sigmoid act;
  nn::Linear down{32, 1};
  static void fields(auto& m, auto&& f) { f("up", m.up)("act", m.act)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(act(up(x))); }
};

/// 55: features in the hundred thousands that nobody scaled: every sigmoid is exactly 0 or 1, its slope 0, and the first layer never
/// learns.
void features_never_scaled(Run& run) {
  Prices net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  while (run.next()) {
    opt.zero_grad();
    const Data d = linear_data(32, 8, 1);
    const Tensor loss = mse_loss(net(run.repaired ? d.x : 200000 * d.x), d.y);
    loss.backward();
    if (run.clip > 0) nn::clip_grad_norm(net.parameters(), run.clip);
    opt.step();
    run.look(loss, net.parameters());
    if (run.step == 20 && zeros_in(net.up.weight.grad()) > 0.9) run.fail();
  }
}

struct Tagger : nn::Module<Tagger> {
  nn::Embedding table{16, 8};
  nn::Linear head{8, 4};
  nn::CrossEntropyLoss criterion;
  static void fields(auto& m, auto&& f) { f("table", m.table)("head", m.head)("criterion", m.criterion); }
  Tensor forward(const Tensor& ids, const Tensor& tags) const { return criterion(head(table(ids)), tags); }
};

/// 56: one batch holds padding only: the mean over no targets.
void batch_of_padding(Run& run) {
  Tagger net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const int64_t kept = step == 40 ? (run.repaired ? 1 : 0) : 3 + step % 9;
    const Tensor ids = randint(0, 16, {4, 12}), counts = (arange(12) < kept).expand({4, 12});
    return net(ids, where(counts, remainder(ids, 4), -100));
  });
}

}  // namespace

void loop_faults(std::vector<Fault>& all) {
  all.push_back({.number = 51,
                 .name = "average of weights in bf16",
                 .family = "loops",
                 .need = Need::by,
                 .k = 30,
                 .ops = {"mul", "add"},
                 .remedies = {"accumulator", "master_weights", "dtype", "stable_op"},
                 .owed = {"absorbed update"},
                 .dtypes = {bf16},
                 .steps = 120,
                 .train = average_in_bf16});
  all.push_back({.number = 52,
                 .name = "Adam's decay rates in wrong order",
                 .family = "loops",
                 .need = Need::lead,
                 .k = 30,
                 .ops = {"adam_step"},
                 .phase = "optimiser",
                 .remedies = {"stable_op", "learning_rate"},
                 .owed = {"adam", "growth", "lint"},
                 .steps = 900,
                 .train = decay_rates_in_wrong_order});
  all.push_back({.number = 53,
                 .name = "schedule beyond its end",
                 .family = "loops",
                 .need = Need::same_step,
                 .ops = {"sgd_step"},
                 .phase = "optimiser",
                 .remedies = {"learning_rate", "stable_op", "data"},
                 .owed = {"nonfinite", "lint", "bad input"},
                 .steps = 90,
                 .train = schedule_beyond_its_end});
  all.push_back({.number = 54,
                 .name = "clipped before unscaled",
                 .family = "loops",
                 .need = Need::by,
                 .k = 20,
                 .ops = {"sgd_step", "clip_norm"},
                 .remedies = {"stable_op", "learning_rate", "clip"},
                 .owed = {"absorbed update", "underflow", "lint"},
                 .dtypes = {f16},
                 .steps = 90,
                 .train = clipped_before_unscaled});
  all.push_back({.number = 55,
                 .name = "features that nobody scaled",
                 .family = "loops",
                 .need = Need::by,
                 .k = 10,
                 .ops = {"sigmoid", "sigmoid_backward", "mul"},
                 .path = "act",
                 .remedies = {"data", "stable_op"},
                 .owed = {"underflow", "argument", "saturation", "bad input"},
                 .steps = 60,
                 .train = features_never_scaled});
  all.push_back({.number = 56,
                 .name = "a batch of padding only",
                 .family = "loops",
                 .need = Need::same_step,
                 .ops = {"cross_entropy"},
                 .path = "criterion",
                 .phase = "forward",
                 .remedies = {"data", "stable_op"},
                 .owed = {"nonfinite", "denominator", "bad input"},
                 .steps = 90,
                 .train = batch_of_padding});
}

}  // namespace keel::faults
