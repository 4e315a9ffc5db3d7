// Faults of training on many machines, emulated on one.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Adds up what the ranks have, in the gradients' dtype, and divides by their number: before or after.
struct AllReduce : nn::Module<AllReduce> {
  bool divide_first;
  explicit AllReduce(bool d) : divide_first(d) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensors& ranks) const {
    const double n = ranks.size();
    const Tensor all = stack(ranks);
    return divide_first ? sum(all / n, {.axis = 0}) : sum(all, {.axis = 0}) / n;
  }
};

/// 26: 64 ranks add up their gradients in f16; the gradients grow by 5 % a step for 60 steps, and at 1024 a rank the sum overflows.
void sum_of_ranks(Run& run) {
  nn::Linear net(4, 1, {.bias = false});
  optim::SGD opt(net.parameters(), {.lr = 1e-7});
  const AllReduce all_reduce(run.repaired);
  double amplitude = 100;
  while (run.next()) {
    Tensors gradients;
    Tensor loss;
    if (run.step < 60) amplitude *= 1.05;
    for (int rank = 0; rank < 64; ++rank) {
      const Tensor x = 1 + 0.2 * randn({4, 4});
      loss = mean(net(x)) * amplitude;
      gradients.push_back(grad(loss, {net.weight})[0].to(f16));
    }
    NoGrad off;
    net.weight.set_grad(all_reduce(gradients).to(f32));
    opt.step();
    run.look(loss, net.parameters());
  }
}

/// 32: a processor turns one bit of an exponent in the result of a matrix product at step 50, once.
void bit_flips(Run& run) {
  Mlp net(8, 16, 1);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  if (!run.repaired)
    net.up.register_forward_hook([&run](const Tensors&, Tensors& out) {
      if (run.step == 50) poke(out[0], 37, std::ldexp(std::abs(peek(out[0], 37)) + 0.1, 40));
    });
  run.train(net, opt, [&](int64_t step) {
    if (!run.repaired && step == 60) run.failed = 50;
    const Data d = linear_data(16, 8, 1);
    return mse_loss(net(d.x), d.y);
  });
}

}  // namespace

void parallel_faults(std::vector<Fault>& all) {
  all.push_back({.number = 26,
                 .name = "all-reduce by SUM in f16",
                 .family = "parallel",
                 .need = Need::lead,
                 .k = 1,
                 .ops = {"sum"},
                 .path = "AllReduce",
                 .remedies = {"stable_op"},
                 .dtypes = {f16},
                 .steps = 110,
                 .train = sum_of_ranks});
  all.push_back({.number = 32,
                 .name = "a bit flips",
                 .family = "parallel",
                 .need = Need::after,
                 .k = 10,
                 .ops = {"linear", "matmul", "relu"},
                 .remedies = {"hardware"},
                 .steps = 70,
                 .train = bit_flips});
}

}  // namespace keel::faults
