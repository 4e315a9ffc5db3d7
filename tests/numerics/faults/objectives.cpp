// Faults of objectives without a floor or a ceiling: critics, learned weights and scales, flows, importance weights, sampled choices.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Critic : nn::Module<Critic> {
  nn::Linear first{4, 32}, second{32, 32};
  nn::Weight head{randn({32, 1}) * 0.2};
  static void fields(auto& m, auto&& f) { f("first", m.first)("second", m.second)("head", m.head); }
  Tensor score(const Tensor& x) const { return matmul(relu(second(relu(first(x)))), head); }
  /// By how much the critic likes forged points more than real ones: what it is trained to make small.
  Tensor forward(const Tensor& real, const Tensor& forged) const { return mean(score(forged)) - mean(score(real)); }
};
struct Duel : nn::Module<Duel> {
  Mlp forger{4, 32, 4};
  Critic critic;
  static void fields(auto& m, auto&& f) { f("forger", m.forger)("critic", m.critic); }
};

/// 45: a Wasserstein critic whose weights nobody bounds: its scores may grow for ever, and do. Useless from a gap of 1,000 on.
void critic_without_bound(Run& run) {
  Duel duel;
  const double factor = run.fix.kind == "learning_rate" ? run.fix.value : 1;
  optim::Adam judge(duel.critic.parameters(), {.lr = 2e-3 * factor, .betas = {0.5, 0.9}});
  optim::Adam forge(duel.forger.parameters(), {.lr = 1e-4 * factor, .betas = {0.5, 0.9}});
  while (run.next()) {
    const Tensor real = randn({32, 4}) * 0.2 + 1, forged = duel.forger(randn({32, 4}));
    judge.zero_grad();
    const Tensor gap = duel.critic(real, forged.detach());
    gap.backward();
    if (run.clip > 0) nn::clip_grad_norm(duel.critic.parameters(), run.clip);
    judge.step();
    if (run.repaired)
      for (Tensor w : duel.critic.parameters()) w.detach().clamp_(-0.05, 0.05);
    forge.zero_grad();
    (-mean(duel.critic.score(forged))).backward();
    forge.step();
    run.look(gap, duel.parameters());
    if (peek(gap, 0) < -1000) run.fail();
  }
}

struct Weighing : nn::Module<Weighing> {
  bool bounded;
  nn::Weight spread{zeros({2})};
  explicit Weighing(bool b) : bounded(b) {}
  static void fields(auto& m, auto&& f) { f("spread", m.spread); }
  Tensor forward(const Tensor& task, int64_t i) const {
    const Tensor s = bounded ? maximum(spread[i], -4.0) : spread[i];
    return exp(-s) * task + s;
  }
};
struct TwoTasks : nn::Module<TwoTasks> {
  Mlp side{8, 32, 1}, size{8, 32, 1};
  Weighing weighing;
  explicit TwoTasks(bool bounded) : weighing(bounded) {}
  static void fields(auto& m, auto&& f) { f("side", m.side)("size", m.size)("weighing", m.weighing); }
};

/// 46: two tasks, each weighed by a learned exp(-s) with s added; one is a hinge, which is exactly 0 once every example is on its side.
/// Then nothing holds s back.
void weight_of_a_finished_task(Run& run) {
  TwoTasks net(run.repaired);
  optim::Adam opt({{.params = net.side.parameters()}, {.params = net.size.parameters()}, {.params = {net.weighing.spread}, .lr = 0.2}},
                  {.lr = 5e-3});
  const Tensor x = randn({48, 8}), side = where(x.index({all, slice(0, 1)}) > 0, 1.0, -1.0).to(f32);
  const Tensor size = x.index({all, slice(1, 2)});
  run.train(net, opt, [&](int64_t) {
    const Tensor hinge = mean(relu(1 - side * net.side(x))), square_error = mse_loss(net.size(x), size + 0.3 * randn({48, 1}));
    return net.weighing(hinge, 0) + net.weighing(square_error, 1);
  });
}

struct Trajectory : nn::Module<Trajectory> {
  bool bounded;
  explicit Trajectory(bool b) : bounded(b) {}
  static void fields(auto&, auto&&) {}
  /// [trajectories, moments] of the chosen actions' log-probabilities under the new policy and the old one, which chose at random.
  Tensor forward(const Tensor& now, double before) const {
    if (bounded) return mean(minimum(exp(now - before), 1.2));
    return mean(exp(sum(now - before, {.axis = 1})));
  }
};
struct Policy : nn::Module<Policy> {
  Mlp net{4, 32, 3};
  Trajectory weight;
  explicit Policy(bool bounded) : weight(bounded) {}
  static void fields(auto& m, auto&& f) { f("net", m.net)("weight", m.weight); }
  Tensor forward(const Tensor& seen, const Tensor& done) const {
    const Tensor p = log_softmax(net(seen));
    return -weight(gather(p, done.unsqueeze(2), {.axis = 2}).squeeze(2), -std::log(3.0));
  }
};

/// 47: a policy learns from what another did, weighed by how much likelier it has made whole trajectories: the product of 128 ratios.
void weight_of_a_trajectory(Run& run) {
  Policy net(run.repaired);
  if (run.clip == 0) run.clip = 1;
  optim::Adam opt(net.parameters(), {.lr = 3e-3});
  const Tensor wise = randn({4, 3});
  run.train(net, opt, [&](int64_t) {
    const Tensor seen = randn({8, 128, 4});
    return net(seen, argmax(matmul(seen, wise), {.axis = 2}));
  });
}

struct Gain : nn::Module<Gain> {
  bool in_logarithms;
  double eps;
  nn::Weight scale;
  Gain(bool l, double e) : in_logarithms(l), eps(e), scale(l ? zeros({4}) : ones({4})) {}
  static void fields(auto& m, auto&& f) { f("scale", m.scale); }
  Tensor forward(const Tensor& x) const {
    if (in_logarithms) return x * exp(-scale);
    return eps > 0 ? x / (abs(scale) + eps) : x / scale;
  }
};
struct Calibrated : nn::Module<Calibrated> {
  nn::Linear mix{8, 4};
  Gain gain;
  Calibrated(bool l, double e) : gain(l, e) {}
  static void fields(auto& m, auto&& f) { f("mix", m.mix)("gain", m.gain); }
  Tensor forward(const Tensor& x) const { return gain(mix(x)); }
};

/// 48: outputs are divided by a learned scale, and the targets ask for a gain of 1,000: the scale walks towards 0 in equal
/// steps and past it, and the answer has the wrong sign.
void learned_scale_passes_zero(Run& run) {
  Calibrated net(run.repaired, run.epsilon(0, 0));
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const Tensor truth = randn({8, 4}) * 350;
  run.train(net, opt, [&](int64_t) {
    for (int64_t i = 0; i < 4 && !net.gain.in_logarithms; ++i)
      if (net.gain.eps == 0 && peek(net.gain.scale, i) <= 0) run.fail();
    const Tensor x = randn({32, 8});
    return mse_loss(net(x), matmul(x, truth));
  });
}

struct Flow : nn::Module<Flow> {
  bool stable;
  nn::Weight scale{ones({32})}, shift{zeros({32})};
  explicit Flow(bool s) : stable(s) {}
  static void fields(auto& m, auto&& f) { f("scale", m.scale)("shift", m.shift); }
  Tensor forward(const Tensor& x) const {
    const Tensor volume = stable ? sum(log(abs(scale))) : log(abs(prod(scale)));
    return 0.5 * mean(sum(square(x * scale + shift), {.axis = 1})) - volume;
  }
};

/// 49: the volume of a flow as the logarithm of a product of 32 scales, which data of deviation .02 drive up to 50 each.
void volume_of_a_flow(Run& run) {
  Flow flow(run.repaired);
  optim::Adam opt(flow.parameters(), {.lr = 0.1});
  run.train(flow, opt, [&](int64_t) { return flow(randn({64, 32}) * 0.02); });
}

struct Gumbel : nn::Module<Gumbel> {
  bool bounded;
  DType type;
  Gumbel(bool b, DType t) : bounded(b), type(t) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& scores) const {
    Tensor u = rand(scores.shape()).to(type);
    if (bounded) u = clamp(u, 1e-3, 0.998);
    return softmax((scores.to(type) - log(-log(u))) / 0.7).to(f32);
  }
};
struct Sampled : nn::Module<Sampled> {
  nn::Linear scores{8, 8};
  Gumbel gumbel;
  nn::Weight book{randn({8, 8})};
  Sampled(bool bounded, DType t) : gumbel(bounded, t) {}
  static void fields(auto& m, auto&& f) { f("scores", m.scores)("gumbel", m.gumbel)("book", m.book); }
  Tensor forward(const Tensor& x) const { return matmul(gumbel(scores(x)), book); }
};

/// 50: a sampled choice with noise -log(-log u) in f16, where one u in 4,000 is rounded to 1.
void noise_of_a_choice(Run& run) {
  Sampled net(run.repaired, run.dtype());
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t) {
        const Tensor x = randn({32, 8});
        return mse_loss(net(x), x);
      },
      f32);
}

}  // namespace

void objective_faults(std::vector<Fault>& all) {
  all.push_back({.number = 45,
                 .name = "a critic without a bound",
                 .family = "objectives",
                 .need = Need::lead,
                 .k = 20,
                 .ops = {"matmul", "mean", "sub"},
                 .path = "Critic",
                 .remedies = {"stable_op"},
                 .owed = {"growth", "headroom", "gradient norm"},
                 .steps = 2000,
                 .train = critic_without_bound});
  all.push_back({.number = 46,
                 .name = "learned weight of a finished task",
                 .family = "objectives",
                 .need = Need::lead,
                 .k = 20,
                 .ops = {"exp", "mul"},
                 .path = "Weighing",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .owed = {"argument", "headroom", "growth"},
                 .steps = 2000,
                 .train = weight_of_a_finished_task});
  all.push_back({.number = 47,
                 .name = "importance weight of a trajectory",
                 .family = "objectives",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"exp", "sum"},
                 .path = "weight",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .owed = {"argument", "headroom", "growth"},
                 .steps = 400,
                 .train = weight_of_a_trajectory});
  all.push_back({.number = 48,
                 .name = "a learned scale passes 0",
                 .family = "objectives",
                 .need = Need::lead,
                 .k = 8,
                 .ops = {"div"},
                 .path = "gain",
                 .remedies = {"stable_op", "epsilon"},
                 .owed = {"denominator", "argument"},
                 .steps = 300,
                 .train = learned_scale_passes_zero});
  all.push_back({.number = 49,
                 .name = "a flow's volume as a product",
                 .family = "objectives",
                 .need = Need::lead,
                 .k = 10,
                 .ops = {"prod"},
                 .path = "Flow",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .owed = {"headroom", "growth", "lint"},
                 .steps = 400,
                 .train = volume_of_a_flow});
  all.push_back({.number = 50,
                 .name = "Gumbel noise of f16",
                 .family = "objectives",
                 .need = Need::same_step,
                 .ops = {"log"},
                 .path = "gumbel",
                 .phase = "forward",
                 .remedies = {"stable_op", "epsilon", "dtype"},
                 .owed = {"argument", "nonfinite", "lint"},
                 .dtypes = {f16},
                 .steps = 120,
                 .train = noise_of_a_choice});
}

}  // namespace keel::faults
