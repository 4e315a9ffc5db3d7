// Fifth set, likelihoods and returns: a variance that is rewarded for growing, a squashed policy, ratios of probabilities, counts, and
// values that are bootstrapped from themselves.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Samples a code by its mean and log-variance, and holds the divergence from a unit Gaussian.
struct Posterior : nn::Module<Posterior> {
  nn::Linear mean_of, log_variance;
  Posterior(int64_t in, int64_t code) : mean_of(in, code), log_variance(in, code) {}
  static void fields(auto& m, auto&& f) { f("mean_of", m.mean_of)("log_variance", m.log_variance); }
  Tensors forward(const Tensor& h) const {
    const Tensor mu = mean_of(h), lv = log_variance(h), variance = exp(lv);
    return {mu + sqrt(variance) * randn(mu.shape()), -0.5 * mean(1 + lv - mu * mu - variance)};
  }
};

struct Autoencoder : nn::Module<Autoencoder> {
  nn::Linear encoder, decoder;
  Posterior posterior;
  Autoencoder(int64_t in, int64_t hidden, int64_t code) : encoder(in, hidden), decoder(code, in), posterior(hidden, code) {}
  static void fields(auto& m, auto&& f) { f("encoder", m.encoder)("decoder", m.decoder)("posterior", m.posterior); }
  Tensors forward(const Tensor& x) const {
    const Tensors code = posterior(tanh(encoder(x)));
    return {decoder(code[0]), code[1]};
  }
};

/// Whether all that the optimiser remembers is finite.
bool state_finite(const optim::Optimizer& opt) {
  for (const auto& [name, t] : opt.state_dict())
    if (is_floating(t.dtype()) && !finite(t)) return false;
  return true;
}

/// 67: the divergence enters the loss of a variational autoencoder with the wrong sign, so that a larger variance is always better: exp
/// grows until the squares of its gradients leave f32. Adam then divides by infinity, and nothing moves any more; the loss stays finite.
void divergence_rewarded(Run& run) {
  Autoencoder net(16, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = 2e-2});
  const double weight = run.repaired ? 1 : -1;
  run.train(net, opt, [&](int64_t) {
    if (!state_finite(opt)) run.fail();
    const Tensor x = linear_data(32, 4, 16).y;
    const Tensors out = net(x);
    return mse_loss(out[0], x) + weight * out[1];
  });
}

/// log|d tanh(u) / du|, by the formula of the paper or by the one that does not cancel.
struct Squash : nn::Module<Squash> {
  bool stable = false;
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& u) const {
    if (stable) {
      const Tensor wide = u.to(f32);
      return 2 * (std::log(2.0) - wide - softplus(-2 * wide));
    }
    const Tensor action = tanh(u), left = 1 - action * action;
    return log(eps > 0 ? left + eps : left);
  }
};

struct SquashedPolicy : nn::Module<SquashedPolicy> {
  nn::Linear hidden, mean_of;
  Squash squash;
  SquashedPolicy(int64_t in, int64_t width, int64_t actions) : hidden(in, width), mean_of(width, actions) {}
  static void fields(auto& m, auto&& f) { f("hidden", m.hidden)("mean_of", m.mean_of)("squash", m.squash); }
  /// The action and the log of its density, but for constants.
  Tensors forward(const Tensor& state) const {
    const Tensor u = mean_of(tanh(hidden(state)));
    const Tensor sampled = u + (0.1 * randn(u.shape())).to(u.dtype());
    return {tanh(sampled), -1 * sum(squash(sampled), {.axis = -1})};
  }
};

/// 69: rewards that nobody scaled drive a squashed Gaussian policy to the ends of tanh; in 16 bits 1 - tanh(u)^2 is soon exactly 0.
void policy_at_the_edge(Run& run) {
  SquashedPolicy policy(8, 32, 2);
  policy.squash.stable = run.repaired;
  policy.squash.eps = run.epsilon(0, 0);
  optim::Adam opt(policy.parameters(), {.lr = 3e-3});
  const double temperature = 0.02;
  run.train(policy, opt, [&](int64_t) {
    const Tensor state = randn({64, 8});
    const Tensor wanted = where(state.index({all, slice(0, 2)}) > 0, ones({64, 2}), -1.0);
    const Tensors out = policy(state);
    return mean(temperature * out[1] - 20 * sum(out[0].to(f32) * wanted, {.axis = -1}));
  });
}

/// The policy-gradient objective of sequences that an older policy wrote; those whose ratio is above `limit` are masked out.
struct Surrogate : nn::Module<Surrogate> {
  double limit = 5;
  bool bounded = false;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& now, const Tensor& then, const Tensor& advantage) const {
    Tensor log_ratio = sum(now - then, {.axis = 1});
    if (bounded) log_ratio = clamp(log_ratio, -20, 20);
    const Tensor ratio = exp(log_ratio), kept = (ratio < limit).to(f32);
    return -1 * mean(ratio * advantage * kept);
  }
};

struct Writer : nn::Module<Writer> {
  nn::Embedding token;
  nn::Linear head;
  Surrogate surrogate;
  Writer(int64_t vocabulary, int64_t width) : token(vocabulary, width), head(width, vocabulary) {}
  static void fields(auto& m, auto&& f) { f("token", m.token)("head", m.head)("surrogate", m.surrogate); }
  Tensor forward(const Tensor& words) const { return log_softmax(head(token(words))); }
};

/// 70: at step 30 the buffer hands out a sequence that a much older policy wrote. The sum of 64 differences of log-probabilities is above
/// 100: its ratio is infinite, and the mask that was to drop it multiplies infinity by 0.
void stale_sequence(Run& run) {
  Writer net(16, 16);
  net.surrogate.bounded = run.repaired;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor words = randint(0, 16, {8, 65});
    const Tensor next = words.index({all, slice(1, none)}).unsqueeze(2);
    const Tensor now = gather(net(words.index({all, slice(0, 64)})), next, {.axis = 2}).squeeze(2);
    Tensor then = (now + 0.01 * randn({8, 64})).detach();
    if (step == 30) then[{3}] = then.index({3}) - 2;
    return net.surrogate(now, then, randn({8}));
  });
}

/// A rate that is positive by exp, and the likelihood of counts under it.
struct Rate : nn::Module<Rate> {
  nn::Linear hidden, log_rate;
  Rate(int64_t in, int64_t width) : hidden(in, width), log_rate(width, 1) {}
  static void fields(auto& m, auto&& f) { f("hidden", m.hidden)("log_rate", m.log_rate); }
  Tensor forward(const Tensor& x, const Tensor& counts) const {
    const Tensor s = log_rate(relu(hidden(x)));
    return mean(exp(s) - counts * s);
  }
};

/// 71: demand is forecast with a Poisson likelihood. At step 60 a holiday comes with 60 times the counts: the gradient throws the log-rate
/// up, gradients that grow as its exp throw it back and forth, and some steps later it overflows. The twin cuts counts off at 20.
void holiday_counts(Run& run) {
  Rate net(8, 32);
  optim::SGD opt(net.parameters(), {.lr = 5e-3});
  const Tensor w = randn({8, 1}) * 0.2;
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8});
    Tensor counts = round(5 * exp(matmul(x, w)));
    if (step == 60) counts = counts * 60;
    return net(x, run.repaired ? clamp(counts, 0, 20) : counts);
  });
}

/// 72: values are bootstrapped from the values of the next state, which looks like twice this one, by the very network that is trained: no
/// target network, nothing that bounds them. Every step raises them by a share of themselves.
void values_chase_themselves(Run& run) {
  Mlp net(8, 32, 3);
  optim::SGD opt(net.parameters(), {.lr = 3e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor state = abs(randn({32, 8})), taken = randint(0, 3, {32, 1});
    Tensor target = 1 + 0.95 * max(net(2 * state), {.axis = 1, .keepdim = true}).detach();
    if (run.repaired) target = clamp(target, -3, 3);
    return mse_loss(gather(net(state), taken, {.axis = 1}), target);
  });
}

}  // namespace

void fifth_likelihoods(std::vector<Fault>& all) {
  all.push_back({.number = 67,
                 .name = "posterior variance rewarded for growing",
                 .family = "autoencoder",
                 .need = Need::lead,
                 .k = 10,
                 .ops = {"exp", "adam_step"},
                 .remedies = {"stable_op", "learning_rate", "clip"},
                 .steps = 400,
                 .train = divergence_rewarded});
  all.push_back({.number = 69,
                 .name = "squashed policy at the edge in 16 bits",
                 .family = "policy",
                 .need = Need::lead,
                 .k = 8,
                 .ops = {"log", "sub"},
                 .path = "squash",
                 .phase = "forward",
                 .remedies = {"stable_op", "epsilon"},
                 .dtypes = {f16},
                 .steps = 300,
                 .train = policy_at_the_edge});
  all.push_back({.number = 70,
                 .name = "ratio of a stale sequence times a mask",
                 .family = "policy",
                 .need = Need::same_step,
                 .ops = {"exp"},
                 .path = "Surrogate",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .steps = 80,
                 .train = stale_sequence});
  all.push_back({.number = 71,
                 .name = "Poisson rate thrown up by a holiday",
                 .family = "counts",
                 .need = Need::lead,
                 .k = 2,
                 .ops = {"exp", "sgd_step"},
                 .remedies = {"clip", "learning_rate", "stable_op", "data"},
                 .steps = 150,
                 .train = holiday_counts});
  all.push_back({.number = 72,
                 .name = "values bootstrapped from themselves",
                 .family = "returns",
                 .need = Need::lead,
                 .k = 20,
                 .ops = {"mse_loss", "linear", "matmul", "sgd_step"},
                 .remedies = {"clip", "learning_rate", "stable_op"},
                 .steps = 400,
                 .train = values_chase_themselves});
}

}  // namespace keel::faults
