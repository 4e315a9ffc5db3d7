// Healthy runs of further kinds, written after the rules: a noise predictor, a mixture of experts, towers with a learned scale, and a loop
// that gathers gradients over several batches.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct NoisePredictor : nn::Module<NoisePredictor> {
  nn::Linear time{16, 32}, up{8, 32}, middle{32, 32}, down{32, 8};
  nn::LayerNorm norm{32};
  static void fields(auto& m, auto&& f) { f("time", m.time)("up", m.up)("middle", m.middle)("norm", m.norm)("down", m.down); }
  Tensor forward(const Tensor& x, const Tensor& t) const {  // t [batch, 1] in 0 .. 1
    const Tensor angles = t * exp(arange(8).to(f32) * 0.9), e = concat({sin(angles), cos(angles)}, {.axis = 1});
    return down(silu(middle(silu(norm(up(x) + time(e))))));
  }
};
/// Denoising diffusion on points of a ring: the noise of a random level is to be told from the sum.
void diffusion(Run& run) {
  NoisePredictor net;
  optim::AdamW opt(net.parameters(), {.lr = 1e-3});
  const Tensor lift = randn({2, 8});
  run.clip = 1;
  run.train(net, opt, [&](int64_t) {
    const Tensor angle = rand({32, 1}) * 6.2832, clean = matmul(concat({cos(angle), sin(angle)}, {.axis = 1}), lift);
    const Tensor t = rand({32, 1}), kept = square(cos(t * 1.5708)), noise = randn({32, 8});  // the cosine schedule: near 0 at the end
    return mse_loss(net(sqrt(kept) * clean + sqrt(1 - kept) * noise, t), noise);
  });
}

struct Experts : nn::Module<Experts> {
  nn::Linear gate{16, 4, {.bias = false}}, head{32, 4};
  nn::Weight up{randn({4, 16, 32}) * 0.2};
  static void fields(auto& m, auto&& f) { f("gate", m.gate)("up", m.up)("head", m.head); }
  /// The second result is the loss that spreads examples over experts.
  std::pair<Tensor, Tensor> forward(const Tensor& x) const {
    const Tensor p = softmax(gate(x)), best = argmax(p, {.axis = 1, .keepdim = true}), chosen = (arange(4) == best).to(f32);
    const Tensor weight = p * chosen, all = relu(matmul(x.unsqueeze(0), up));  // [experts, batch, 32]
    const Tensor mixed = sum(all * weight.transpose().unsqueeze(2), {.axis = 0});
    return {head(mixed), 4 * sum(mean(p, {.axis = 0}) * mean(chosen, {.axis = 0}))};
  }
};
/// A mixture of four experts with one chosen for each example, and a loss that balances them.
void mixture_of_experts(Run& run) {
  Experts net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 16});
    const auto [logits, balance] = net(x);
    return cross_entropy(logits, argmax(x.index({all, slice(0, 4)}), {.axis = 1})) + 0.01 * balance;
  });
}

struct Towers : nn::Module<Towers> {
  nn::Linear left{16, 32}, right{16, 32};
  nn::Weight log_scale{full({}, 2.66)};
  static void fields(auto& m, auto&& f) { f("left", m.left)("right", m.right)("log_scale", m.log_scale); }
  static Tensor unit(const Tensor& x) { return x * rsqrt(sum(square(x), {.axis = 1, .keepdim = true}) + 1e-6); }
  Tensor forward(const Tensor& a, const Tensor& b) const {
    const Tensor z = matmul(unit(left(a)), unit(right(b)).transpose()) * minimum(exp(log_scale), 100.0), own = arange(z.size(0));
    return 0.5 * (cross_entropy(z, own) + cross_entropy(z.transpose(), own));
  }
};
/// Two towers whose pairs are to be alike: similarities with a learned scale that is kept below 100.
void contrastive(Run& run) {
  Towers net;
  optim::AdamW opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor a = randn({16, 16});
    return net(a, a + 0.3 * randn({16, 16}));
  });
}

/// Gradients of four batches, divided by four, in buffers that are filled with zeros in place; the rate rises and falls once; and a choice
/// whose temperature falls along a line, down to .1.
void gathered(Run& run) {
  Mlp net(16, 32, 4);
  optim::SGD opt(net.parameters(), {.lr = 0.05, .momentum = 0.9});
  const double half = std::max(1.0, double(run.steps) / 2);
  while (run.next()) {
    const double along = double(run.step) / half, temperature = std::max(0.1, 1 - double(run.step) / 200);
    opt.set_lr(0.1 * std::max(0.02, along < 1 ? along : 2 - along));
    for (const Tensor& w : net.parameters()) {
      NoGrad off;
      if (w.grad().defined()) w.grad().mul_(0);
    }
    Tensor loss;
    for (int k = 0; k < 4; ++k) {
      const Tensor x = randn({8, 16});
      loss = cross_entropy(net(x) / temperature, argmax(x.index({all, slice(0, 4)}), {.axis = 1})) / 4;
      loss.backward();
    }
    nn::clip_grad_norm(net.parameters(), 5);
    opt.step();
    run.look(loss, net.parameters());
  }
}

}  // namespace

void healthy_more(std::vector<Healthy>& list) {
  for (const Healthy& h : std::initializer_list<Healthy>{{"noise predictor of a diffusion", diffusion},
                                                         {"mixture of experts", mixture_of_experts},
                                                         {"contrastive towers, learned scale", contrastive},
                                                         {"gathered gradients, one cycle, annealing", gathered}})
    list.push_back(h);
}

}  // namespace keel::faults
