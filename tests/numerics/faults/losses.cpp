// Faults of losses written out by hand.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct SoftplusLoss : nn::Module<SoftplusLoss> {
  bool stable;
  explicit SoftplusLoss(bool s) : stable(s) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& z, const Tensor& y) const { return mean((stable ? softplus(z) : log(1 + exp(z))) - z * y); }
};

/// 5: log(1 + exp x): the bias climbs by 4 a step; exp is infinite beyond 88.7.
void softplus_by_hand(Run& run) {
  Mlp net(8, 32, 1);
  SoftplusLoss loss(run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  run.train(net, opt, [&](int64_t) {
    shift(net.down.bias, 4);
    const Tensor x = randn({32, 8});
    return loss(net(x), (x.index({all, slice(0, 1)}) > 0).to(f32));
  });
}

struct ClassLoss : nn::Module<ClassLoss> {
  bool stable;
  DType wide;
  double eps;  // in the logarithm
  ClassLoss(bool s, DType t, double e) : stable(s), wide(t), eps(e) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& z, const Tensor& y) const {
    if (stable) return nll_loss(log_softmax(z.to(wide)), y);
    const Tensor p = softmax(z.to(wide));
    return nll_loss(log(eps > 0 ? p + eps : p), y);
  }
};
void log_of_softmax(Run& run, double gap) {
  Mlp net(8, 32, 4);
  ClassLoss loss(run.repaired, run.repaired ? f32 : run.dtype(), run.epsilon(0, 0));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t) {
        const Tensor x = randn({32, 8});
        poke(net.down.bias, 0, peek(net.down.bias, 0) + gap);
        return loss(net(x), randint(1, 4, {32}));
      },
      f32);
}
/// 6, 7: log of softmax: the first class's logit climbs, the others' probabilities become 0 and their logarithm infinite.
void log_of_softmax_f32(Run& run) { log_of_softmax(run, 2.5); }
void log_of_softmax_f16(Run& run) { log_of_softmax(run, 0.5); }

struct BinaryLoss : nn::Module<BinaryLoss> {
  bool stable;
  explicit BinaryLoss(bool s) : stable(s) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& z, const Tensor& y) const {
    if (stable) return bce_with_logits(z, y);
    const Tensor p = sigmoid(z);
    return -mean(y * log(p) + (1 - y) * log(1 - p));
  }
};

/// 8: log(1 - sigmoid(x)): the logit climbs by .5 a step until 1 - p has no digit left.
void entropy_by_hand(Run& run) {
  Mlp net(8, 32, 1);
  BinaryLoss loss(run.repaired);
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    shift(net.down.bias, 0.5);
    const Tensor x = randn({32, 8});
    return loss(net(x), (x.index({all, slice(0, 1)}) > 0).to(f32));
  });
}

struct VocabularyLoss : nn::Module<VocabularyLoss> {
  bool stable;
  DType wide;
  VocabularyLoss(bool s, DType t) : stable(s), wide(t) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& logits, const Tensor& y) const {
    const Tensor z = logits.to(wide);
    if (stable) return cross_entropy(z, y);
    return mean(log(sum(exp(z), {.axis = -1})) - gather(z, y.unsqueeze(1), {.axis = 1}).squeeze(1));
  }
};

/// 19: the sum of exp over 80,000 words does not fit f16.
void large_vocabulary(Run& run) {
  nn::Linear head(4, 80000, {.bias = false});
  nn::init::normal(head.weight, {.std = 0.02});
  VocabularyLoss loss(run.repaired, run.dtype(f32));
  optim::SGD opt(head.parameters(), {.lr = 1e-2});
  run.train(
      head, opt,
      [&](int64_t) {
        return loss(head(randn({4, 4})), randint(0, 80000, {4}));
      },
      f32);
}

struct Likelihood : nn::Module<Likelihood> {
  bool in_logs;
  explicit Likelihood(bool l) : in_logs(l) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& z) const {  // [sequences, length] logits of the observed symbols
    return in_logs ? -mean(sum(-softplus(-z), {.axis = 1})) : -mean(prod(sigmoid(z), {.axis = 1}));
  }
};

/// 29: the likelihood of a sequence as a product: one more factor a step, each about .5; at 150 it is 0, and so is its gradient.
void product_underflows(Run& run) {
  nn::Linear net(8, 1, {.bias = false});
  scale(net.weight, 0.01);
  Likelihood loss(run.repaired);
  optim::SGD opt(net.parameters(), {.lr = 1e-6});
  run.train(net, opt, [&](int64_t step) {
    const Tensor l = loss(net(randn({4, step, 8})).squeeze(2));
    if (!run.repaired && peek(l, 0) == 0) run.fail();
    return l;
  });
}

}  // namespace

void loss_faults(std::vector<Fault>& all) {
  all.push_back({.number = 5,
                 .name = "log(1 + exp(x))",
                 .family = "losses",
                 .need = Need::lead,
                 .k = 12,
                 .ops = {"exp"},
                 .path = "SoftplusLoss",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .steps = 60,
                 .train = softplus_by_hand});
  all.push_back({.number = 6,
                 .name = "log(softmax(x))",
                 .family = "losses",
                 .need = Need::lead,
                 .k = 10,
                 .ops = {"log"},
                 .path = "ClassLoss",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .steps = 100,
                 .train = log_of_softmax_f32});
  all.push_back({.number = 7,
                 .name = "log(softmax(x)) in f16",
                 .family = "losses",
                 .need = Need::lead,
                 .k = 15,
                 .ops = {"log"},
                 .path = "ClassLoss",
                 .phase = "forward",
                 .remedies = {"stable_op", "dtype"},
                 .dtypes = {f16},
                 .steps = 80,
                 .train = log_of_softmax_f16});
  all.push_back({.number = 8,
                 .name = "log(1 - sigmoid(x))",
                 .family = "losses",
                 .need = Need::lead,
                 .k = 8,
                 .ops = {"sub", "log"},
                 .path = "BinaryLoss",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .steps = 80,
                 .train = entropy_by_hand});
  all.push_back({.number = 19,
                 .name = "log-sum-exp over a large vocabulary in f16",
                 .family = "losses",
                 .need = Need::same_step,
                 .ops = {"sum"},
                 .path = "VocabularyLoss",
                 .phase = "forward",
                 .remedies = {"stable_op", "dtype"},
                 .dtypes = {f16},
                 .steps = 4,
                 .train = large_vocabulary});
  all.push_back({.number = 29,
                 .name = "product of probabilities",
                 .family = "losses",
                 .need = Need::by,
                 .k = 126,
                 .ops = {"prod", "mul"},
                 .path = "Likelihood",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .steps = 200,
                 .train = product_underflows});
}

}  // namespace keel::faults
