// Seventh set, blind, the other half: optimisers written by hand, signs and rates that are wrong, and losses of quality without any NaN.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Classes of a sample: the largest of its first `n` inputs.
Tensor largest_of(const Tensor& x, int64_t n) { return argmax(x.index({all, slice(0, n)}), {.axis = 1}); }

/// Scales a gradient by the root of its second moment, of which only the means of rows and columns are kept.
struct Factored : nn::Module<Factored> {
  Tensor rows, columns;
  double eps = 0;
  Factored(int64_t n, int64_t m) : rows(zeros({n, 1})), columns(zeros({1, m})) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& g) {
    const Tensor square = g * g + eps;
    rows = 0.9 * rows + 0.1 * mean(square, {.axis = 1, .keepdim = true});
    columns = 0.9 * columns + 0.1 * mean(square, {.axis = 0, .keepdim = true});
    return g * rsqrt(rows / mean(rows)) * rsqrt(columns);
  }
};

struct TwoHeads : nn::Module<TwoHeads> {
  nn::Linear first, main, extra;
  TwoHeads(int64_t in, int64_t width) : first(in, width), main(width, 4), extra(width, 2) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("main", m.main)("extra", m.extra); }
};

/// 202: a second head joins in step 30, but its first batch has no labels for it: all its gradients are 0, and the factored second moment
/// of nothing is 0 / 0.
void moment_of_nothing(Run& run) {
  TwoHeads net(16, 32);
  Tensors weights = {net.first.weight, net.main.weight, net.extra.weight};
  std::vector<Factored> factored = {{32, 16}, {4, 32}, {2, 32}};
  for (Factored& f : factored) f.eps = run.epsilon(0, 1e-30);
  optim::SGD opt(weights, {.lr = 1e-3});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 16}), h = relu(net.first(x)), labelled = (arange(32) < (run.step == 30 ? 0 : 8)).to(f32);
    Tensor loss = cross_entropy(net.main(h), largest_of(x, 4));
    if (run.step >= 30) loss = loss + mean(cross_entropy(net.extra(h), largest_of(x, 2), {.reduction = Reduction::none}) * labelled);
    loss.backward();
    for (int i = 0; i < weights.size(); ++i)
      if (NoGrad off; weights[i].grad().defined()) weights[i].set_grad(factored[size_t(i)](weights[i].grad()));
    opt.step();
    run.look(loss, net.parameters());
  }
}

/// 205: the average of the weights, kept in f16 for evaluation, is moved away from them by a sign instead of towards them; the training
/// itself shows nothing of it.
void average_flees(Run& run) {
  Mlp net(16, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensors weights = net.parameters();
  Tensors average, looked_at = weights;
  for (const Tensor& w : weights) average.push_back(w.detach().to(run.dtype()).clone());
  for (const Tensor& a : average) looked_at.push_back(a);
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 16}), loss = cross_entropy(net(x), largest_of(x, 4));
    loss.backward();
    opt.step();
    {
      NoGrad off;
      for (int i = 0; i < weights.size(); ++i) {
        const Tensor gap = average[i] - weights[i].to(average[i].dtype());
        run.repaired ? average[i].sub_(gap * 0.1) : average[i].add_(gap * 0.1);
      }
    }
    run.look(loss, looked_at);
  }
}

/// 207: the sum of squared weights is taken from the loss instead of added to it.
void decay_with_a_wrong_sign(Run& run) {
  Mlp net(16, 32, 4);
  optim::SGD opt(net.parameters(), {.lr = 5e-2});
  const Tensor map = randn({16, 4}) * 0.25;
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 16}), price = sum(square(net.up.weight)) + sum(square(net.down.weight));
    return mse_loss(net(x), matmul(x, map)) + (run.repaired ? 0.01 : -0.5) * price;
  });
}

/// 208: Adagrad's sums of squares are kept in f16, and fed with gradients that are still multiplied by the loss scale: a sum overflows, and
/// its weight stands still ever after. No NaN.
void sums_of_squares_overflow(Run& run) {
  const DType low = run.dtype(f32);
  Mlp net(16, 32, 4);
  Tensors weights = net.parameters();
  Tensors sums, looked_at = weights;
  for (const Tensor& w : weights) sums.push_back(full(w.shape(), 1.0, {.dtype = low}));
  for (const Tensor& s : sums) looked_at.push_back(s);
  while (run.next()) {
    net.zero_grad();
    const Tensor x = randn({32, 16}), loss = cross_entropy(net(x), largest_of(x, 4));
    (loss * 400).backward();
    {
      NoGrad off;
      for (int i = 0; i < weights.size(); ++i) {
        const Tensor g = weights[i].grad().to(low);
        sums[i].add_(g * g);
        weights[i].sub_((0.05 * g / sqrt(sums[i])).to(f32));
      }
    }
    run.look(loss, looked_at);
  }
}

/// The nearest matrix with orthogonal rows, by Newton and Schulz, for a matrix whose norm is at most `bound`; of its own norm where that is
/// 0.
struct Orthogonal : nn::Module<Orthogonal> {
  double bound = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& g) const {
    Tensor x = bound > 0 ? g / bound : g / (norm(g) + 1e-7);
    for (int i = 0; i < 8; ++i) x = 1.5 * x - 0.5 * matmul(matmul(x, x.transpose()), x);
    return x;
  }
};

/// 215: gradients are made orthogonal by an iteration that converges for norms below sqrt(5); it is scaled by a norm measured once, at the
/// beginning, and the targets grow by a fiftieth a step, to four times.
void norm_measured_once(Run& run) {
  Mlp net(16, 32, 4);
  Orthogonal orthogonal;
  optim::SGD opt({net.up.weight, net.down.weight}, {.lr = 1e-3});
  const Tensor map = randn({16, 4});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({64, 16}), loss = mse_loss(net(x), matmul(x, map) * std::min(std::pow(1.02, double(run.step)), 4.0));
    loss.backward();
    if (run.clip > 0) nn::clip_grad_norm(opt.parameters(), run.clip);
    for (Tensor w : {net.up.weight, net.down.weight}) {
      NoGrad off;
      if (run.step == 1 && !run.repaired) orthogonal.bound = std::max(orthogonal.bound, peek(norm(w.grad()), 0));
      w.set_grad(orthogonal(w.grad()));
    }
    opt.step();
    run.look(loss, {net.up.weight, net.down.weight});
  }
}

/// 221: Adam's moments are kept in bf16: a decay of .001 is below half a unit in the last place, so the second moment never falls, and when
/// the gradients have become small, the steps are far too small. No NaN.
void moments_stand_still(Run& run) {
  const DType low = run.dtype(f32);
  nn::Linear net(16, 4);
  Tensors weights = net.parameters(), m, v;
  for (const Tensor& w : weights) m.push_back(zeros(w.shape(), {.dtype = low})), v.push_back(zeros(w.shape(), {.dtype = low}));
  const Tensor map = randn({16, 4});
  Tensor before;
  while (run.next()) {
    net.zero_grad();
    const Tensor x = randn({64, 16}), loss = mse_loss(net(x), matmul(x, map) + 0.01 * randn({64, 4}));
    loss.backward();
    {
      NoGrad off;
      const double fix_first = 1 - std::pow(0.9, double(run.step)), fix_second = 1 - std::pow(0.999, double(run.step));
      for (int i = 0; i < weights.size(); ++i) {
        const Tensor g = weights[i].grad().to(low);
        m[i].mul_(0.9).add_(0.1 * g), v[i].mul_(0.999).add_(0.001 * g * g);
        weights[i].sub_((0.02 / fix_first * m[i] / (sqrt(v[i] / fix_second) + 1e-8)).to(f32));
      }
    }
    run.look(loss, weights);
    if (run.step == 200) before = v[0].clone();
    if (run.step == 230 && zeros_in(v[0] - before) > 0.9) run.fail();
  }
}

struct Hidden : nn::Module<Hidden> {
  nn::Linear up;
  Hidden(int64_t in, int64_t width) : up(in, width) {}
  static void fields(auto& m, auto&& f) { f("up", m.up); }
  Tensor forward(const Tensor& x) const { return relu(up(x)); }
};

struct Pixels : nn::Module<Pixels> {
  Hidden hidden;
  nn::Linear head;
  Pixels(int64_t in, int64_t width, int64_t out) : hidden(in, width), head(width, out) {}
  static void fields(auto& m, auto&& f) { f("hidden", m.hidden)("head", m.head); }
};

/// 222: pixels from 0 to 255 that nobody scaled: the first steps throw every hidden unit below zero, for all samples, for good. No NaN.
void units_die(Run& run) {
  Pixels net(64, 32, 4);
  optim::SGD opt(net.parameters(), {.lr = 0.05});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = rand({32, 64}), h = net.hidden(run.repaired ? 4 * x - 2 : 255 * x);
    if (step >= 40 && zeros_in(h) > 0.99) run.fail();
    return cross_entropy(net.head(h), largest_of(x, 4));
  });
}

/// A molecule's energy: that of its atoms, and what a network says of their bonds.
struct Molecule : nn::Module<Molecule> {
  Mlp bonds;
  double atoms = 0;
  explicit Molecule(int64_t in) : bonds(in, 32, 1) {}
  static void fields(auto& m, auto&& f) { f("bonds", m.bonds); }
  Tensor forward(const Tensor& x) const { return bonds(x) + atoms; }
};

/// 223: total energies of a million, whose unit in the last place is .06, of which the bonds, a tenth, are to be learned; the twin takes
/// the atoms' share off the data. No NaN.
void energies_of_atoms(Run& run) {
  Molecule net(8);
  net.atoms = run.repaired ? 0 : -1.1e6;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensor map = randn({8, 1}) * 0.03;
  run.train(net, opt, [&](int64_t step) {
    if (step == 20 && !run.repaired) run.fail();
    const Tensor x = randn({32, 8}), truth = tanh(matmul(x, map));
    Tensor total = zeros({32, 1});
    for (int64_t i = 0; i < 32; ++i) poke(total, i, peek(truth, i) + net.atoms);
    return mse_loss(net(x), total);
  });
}

/// 224: a rate of 1e-3 is multiplied by a factor of warm-up of 1e-7 that never ends: f32 rounds every step off. No NaN.
void rate_scaled_twice(Run& run) {
  Mlp net(16, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = run.repaired ? 1e-3 : 1e-10});
  const Tensor start = net.up.weight.detach().clone();
  run.train(net, opt, [&](int64_t step) {
    if (step == 30 && zeros_in(net.up.weight.detach() - start) > 0.5) run.fail();
    const Tensor x = randn({32, 16});
    return cross_entropy(net(x), largest_of(x, 4));
  });
}

}  // namespace

void seventh_states(std::vector<Fault>& all) {
  const auto row = [&](int number, const char* name, const char* family, Need need, int64_t k, std::vector<std::string> ops,
                       const char* path, const char* phase, std::vector<std::string> remedies, std::vector<std::string> owed,
                       void (*train)(Run&), DType dtype = f32) {
    all.push_back({.number = number,
                   .name = name,
                   .family = family,
                   .need = need,
                   .k = k,
                   .ops = std::move(ops),
                   .path = path,
                   .phase = phase,
                   .remedies = std::move(remedies),
                   .owed = std::move(owed),
                   .dtypes = {dtype},
                   .steps = 300,
                   .train = train});
  };
  row(202, "factored second moment of nothing", "optimisers", Need::same_step, 0, {"div", "rsqrt"}, "", "", {"epsilon", "stable_op"},
      {"nonfinite", "denominator", "argument"}, moment_of_nothing);
  row(205, "average that flees the weights in f16", "loops", Need::lead, 15, {"sub", "mul", "add"}, "", "", {"stable_op"},
      {"headroom", "growth"}, average_flees, f16);
  row(207, "weight decay with a wrong sign", "loops", Need::lead, 15,
      {"sgd_step", "square", "sum", "mse_loss", "linear", "mul", "add", "sub"}, "", "", {"learning_rate", "clip", "stable_op"},
      {"growth", "gradient norm", "headroom"}, decay_with_a_wrong_sign);
  row(208, "Adagrad's sums of squares in f16", "optimisers", Need::lead, 15, {"add", "assign"}, "", "",
      {"dtype", "accumulator", "loss_scale"}, {"headroom", "growth"}, sums_of_squares_overflow, f16);
  row(215, "orthogonal by a norm measured once", "optimisers", Need::same_step, 0, {"matmul", "mul", "sub"}, "", "",
      {"stable_op", "clip", "epsilon"}, {"nonfinite", "headroom", "growth"}, norm_measured_once);
  row(221, "moments of Adam in bf16", "optimisers", Need::by, 60, {"mul", "add"}, "", "", {"master_weights", "accumulator", "dtype"},
      {"absorbed update"}, moments_stand_still, bf16);
  row(222, "units that die of unscaled pixels", "data", Need::by, 30, {"relu", "sgd_step"}, "", "", {"learning_rate", "data", "clip"}, {},
      units_die);
  row(223, "bonds in the shadow of atoms", "data", Need::by, 10, {"mse_loss", "add", "sub"}, "", "", {"stable_op", "data", "dtype"},
      {"lost bits", "absorbed update"}, energies_of_atoms);
  row(224, "rate that is scaled twice", "schedules", Need::by, 25, {"adam_step"}, "", "optimiser", {"learning_rate"}, {"absorbed update"},
      rate_scaled_twice);
}

}  // namespace keel::faults
