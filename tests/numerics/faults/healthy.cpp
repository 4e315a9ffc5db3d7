// Runs in which nothing is wrong, though much in them looks odd: the monitor must not say a word.
#include "families.h"

#include <algorithm>
#include <cmath>

namespace keel::faults {
namespace {

/// Class = the largest of the first `classes` features.
Data class_data(int64_t rows, int64_t in, int64_t classes) {
  const Tensor x = randn({rows, in});
  return {x, argmax(x.index({all, slice(0, classes)}), {.axis = 1})};
}

void mlp(Run& run) {
  Mlp net(16, 32, 4);
  optim::AdamW opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Data d = class_data(32, 16, 4);
    return cross_entropy(net(d.x), d.y);
  });
}

/// 64 examples, learnt by heart: loss and gradients fall for the whole run.
void by_heart(Run& run) {
  Mlp net(16, 64, 4);
  optim::SGD opt(net.parameters(), {.lr = 0.1, .momentum = 0.9});
  const Data d = class_data(64, 16, 4);
  run.train(net, opt, [&](int64_t) { return cross_entropy(net(d.x), d.y); });
}

struct DropNet : nn::Module<DropNet> {
  nn::Linear up{16, 64}, down{64, 4};
  nn::Dropout drop{0.5};
  static void fields(auto& m, auto&& f) { f("up", m.up)("drop", m.drop)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(drop(relu(up(x)))); }
};
void dropout_half(Run& run) {
  DropNet net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Data d = class_data(32, 16, 4);
    return cross_entropy(net(d.x), d.y);
  });
}

void warm_up(Run& run) {
  Mlp net(16, 32, 4);
  optim::AdamW opt(net.parameters(), {.lr = 1e-2});
  optim::CosineAnnealing schedule(opt,
                                  {.total_steps = std::max<int64_t>(run.steps, 8), .warmup_steps = std::max<int64_t>(run.steps / 4, 2)});
  run.train(net, opt, [&](int64_t step) {
    if (step > 1) schedule.step();
    const Data d = class_data(32, 16, 4);
    return cross_entropy(net(d.x), d.y);
  });
}

/// The rate falls along a cosine and jumps back to its height every 200 steps.
void restarts(Run& run) {
  Mlp net(16, 32, 1);
  optim::SGD opt(net.parameters(), {.lr = 0.05, .momentum = 0.9});
  optim::LambdaLR schedule(opt, [](int64_t step) { return 0.5 + 0.5 * std::cos(3.14159265 * double(step % 200) / 200); });
  const Tensor truth = randn({16, 1}) * 0.25;
  run.train(net, opt, [&](int64_t) {
    schedule.step();
    const Tensor x = randn({32, 16});
    return mse_loss(net(x), matmul(x, truth) + 0.1 * randn({32, 1}));
  });
}

/// Policy gradient with rewards from a Student t distribution with 3 degrees of freedom, clipped as such runs are.
void heavy_tails(Run& run) {
  Mlp net(8, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.clip = 1;
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 8}), actions = randint(0, 4, {32, 1});
    const Tensor chi = sqrt(mean(square(randn({32, 3})), {.axis = 1}) + 1e-3), reward = randn({32}) / chi;
    return -mean(gather(log_softmax(net(x)), actions, {.axis = 1}).squeeze(1) * reward);
  });
}

struct Words : nn::Module<Words> {
  nn::Embedding table{2000, 16};
  nn::Linear out{16, 4};
  static void fields(auto& m, auto&& f) { f("table", m.table)("out", m.out); }
  Tensor forward(const Tensor& ids) const { return out(mean(table(ids), {.axis = 1})); }
};
/// 2,000 words of which a batch holds a hundred: most rows have no gradient in most steps.
void sparse_words(Run& run) {
  Words net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor ids = randint(0, 2000, {16, 6});
    return cross_entropy(net(ids), ids.index({all, 0}) % 4);
  });
}

/// Masks as they should be: -inf in some lanes of each row, logarithms hidden by `where` over a harmless argument.
void sound_masks(Run& run) {
  Mlp net(8, 16, 8);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({16, 8}), hide = (arange(8) >= randint(2, 9, {16, 1}));
    const Tensor p = softmax(masked_fill(net(x), hide, -std::numeric_limits<double>::infinity()));
    return -mean(where(hide, 0, log(where(hide, 1, p))));
  });
}

}  // namespace

const std::vector<Healthy>& healthy_runs() {
  static const std::vector<Healthy> list = [] {
    std::vector<Healthy> v = {{"MLP, AdamW", mlp},
                              {"MLP that learns 64 examples by heart", by_heart},
                              {"dropout .5", dropout_half},
                              {"warm-up and cosine", warm_up},
                              {"cosine restarts, momentum", restarts},
                              {"heavy-tailed rewards, clipped", heavy_tails},
                              {"sparse embeddings", sparse_words},
                              {"masks with -inf, guarded logarithms", sound_masks}};
    healthy_networks(v);
    healthy_more(v);
    return v;
  }();
  return list;
}

}  // namespace keel::faults
