// Faults of optimisers: epsilons, rates, and second moments that no longer fit the gradient.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// 9: Adam with all state in f16 and the usual epsilon, which f16 rounds to 0; a parameter without gradient becomes 0 / 0.
void epsilon_of_adam(Run& run) {
  const DType state = run.dtype();
  const double eps = run.epsilon(1e-8, 1e-4);
  nn::Linear net(8, 4);
  Tensors weights = net.parameters(), m, v;
  for (const Tensor& w : weights) m.push_back(zeros(w.shape(), {.dtype = state})), v.push_back(zeros(w.shape(), {.dtype = state}));
  while (run.next()) {
    net.zero_grad();
    Data d = linear_data(16, 8, 4);
    d.x[{all, 2}] = 0;  // a feature that never occurs
    const Tensor loss = mse_loss(net(d.x), d.y);
    loss.backward();
    NoGrad off;
    for (int i = 0; i < weights.size(); ++i) {
      const Tensor g = weights[i].grad().to(state);
      m[i] = 0.9 * m[i] + 0.1 * g, v[i] = 0.99 * v[i] + 0.01 * square(g);
      weights[i].sub_((0.01 * m[i] / (sqrt(v[i]) + eps)).to(f32));
    }
    run.look(loss, weights);
  }
}

/// 21: gradient descent on a quadratic with a rate 1.25 times the largest stable one: the error turns round and grows by half a step.
void rate_too_high(Run& run) {
  nn::Linear net(16, 1, {.bias = false});
  optim::SGD opt(net.parameters(), {.lr = run.repaired ? 0.25 : 1.25});  // the largest curvature is 2
  const Tensor x = 4 * eye(16), y = randn({16, 1});
  run.train(net, opt, [&](int64_t) { return mse_loss(net(x), y); });
}

/// 22: Adam has followed small gradients for 120 steps when a weight on the loss makes them 30 times as large: what it divides by is stale,
/// its steps are too long for the curvature that there is now, and the loss itself shoots up.
void stale_moment(Run& run) {
  nn::Linear net(16, 1, {.bias = false});
  optim::Adam opt(net.parameters(), {.lr = 0.02});
  const Tensor truth = randn({16, 1}) * 0.25;
  net.weight.detach().copy_(truth.transpose());
  if (run.repaired) run.clip = 0.03;
  double before = 0;
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({64, 16}), loss = mse_loss(net(x), matmul(x, truth) + 0.01 * randn({64, 1}));
    const double value = peek(loss, 0);
    if (step <= 120 && step > 80) before = std::max(before, value);
    if (step > 120 && value > 8 * before) run.fail();
    return step > 120 ? loss * 30 : loss;
  });
}

}  // namespace

void optimiser_faults(std::vector<Fault>& all) {
  all.push_back({.number = 9,
                 .name = "Adam's epsilon in f16 state",
                 .family = "optimiser",
                 .need = Need::by,
                 .k = 1,
                 .ops = {"add", "div"},
                 .remedies = {"epsilon", "dtype"},
                 .dtypes = {f16},
                 .steps = 40,
                 .train = epsilon_of_adam});
  all.push_back({.number = 21,
                 .name = "learning rate beyond the curvature",
                 .family = "optimiser",
                 .need = Need::lead,
                 .k = 90,
                 .ops = {"sgd_step", "mse_loss"},
                 .remedies = {"learning_rate", "clip"},
                 .dtypes = {f32, bf16},
                 .steps = 240,
                 .train = rate_too_high});
  all.push_back({.number = 22,
                 .name = "Adam's second moment is stale",
                 .family = "optimiser",
                 .need = Need::lead,
                 .k = 1,
                 .ops = {"adam_step"},
                 .phase = "optimiser",
                 .remedies = {"clip", "learning_rate"},
                 .steps = 200,
                 .train = stale_moment});
}

}  // namespace keel::faults
