// Sixth set, blind: written by one who had not read the monitor's rules. A weight's direction, the shape of a robust loss, frequencies,
// two bodies, a cooling gate, micro-batches, restarts; and three that come in one step: a power of a negative number, a batch of one
// sample, a logarithm of 1.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Classes of a sample: the largest of its first `n` inputs.
Tensor largest_of(const Tensor& x, int64_t n) { return argmax(x.index({all, slice(0, n)}), {.axis = 1}); }

/// Weights as a length and a direction for each unit.
struct Directed : nn::Module<Directed> {
  nn::Weight direction, length, bias;
  double eps = 0;
  Directed(int64_t in, int64_t out) : direction(randn({out, in})), length(full({out, 1}, 1.0)), bias(zeros({out})) {}
  static void fields(auto& m, auto&& f) { f("direction", m.direction)("length", m.length)("bias", m.bias); }
  Tensor forward(const Tensor& x) const {
    const Tensor norm = sqrt(sum(direction * direction, {.axis = 1, .keepdim = true}) + eps);
    return linear(x, length * (direction / norm), bias);
  }
};

struct DirectedNet : nn::Module<DirectedNet> {
  Directed first;
  nn::Linear head;
  DirectedNet(int64_t in, int64_t width, int64_t out) : first(in, width), head(width, out) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(relu(first(x))); }
};

/// 101: one unit of a weight-normalised layer is dead, and decay, meant for weights and not for directions, takes a fifth of its direction
/// in each step; the square of its norm underflows. The twin's decay spares directions.
void direction_vanishes(Run& run) {
  DirectedNet net(16, 32, 4);
  net.first.eps = run.epsilon(0, 1e-12);
  poke(net.first.bias, 0, -50);
  optim::SGD opt(net.parameters(), {.lr = 1e-2});
  const Tensor map = randn({16, 4}) * 0.25, all_but_first = full({32, 1}, 1.0);
  poke(all_but_first, 0, 0.8);
  run.train(net, opt, [&](int64_t) {
    if (!run.repaired) {
      const Tensor decayed = net.first.direction.detach() * all_but_first;
      for (int64_t i = 0; i < 16; ++i) poke(net.first.direction, i, peek(decayed, i));
    }
    const Tensor x = randn({32, 16});
    return mse_loss(net(x), matmul(x, map));
  });
}

/// The general robust loss, whose shape goes from squares at 2 to a logarithm at 0; learned.
struct Robust : nn::Module<Robust> {
  nn::Weight shape;
  double floor = 0;
  Robust() : shape(zeros({1})) {}
  static void fields(auto& m, auto&& f) { f("shape", m.shape); }
  Tensor forward(const Tensor& residual) const {
    const Tensor a = floor + (2 - floor) * sigmoid(shape);
    return mean((pow(residual * residual + 1, a / 2) - 1) * 2 / a);
  }
};

struct RobustNet : nn::Module<RobustNet> {
  nn::Linear first, head;
  Robust robust;
  RobustNet(int64_t in, int64_t width, int64_t out) : first(in, width), head(width, out) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head)("robust", m.robust); }
  Tensor forward(const Tensor& x, const Tensor& y) const { return robust(head(relu(first(x))) - y); }
};

/// 102: the shape of a robust loss is learned without the term that normalises its density, so smaller is always better: it goes to 0,
/// where power - 1 has one bit left and then none, whatever the residuals are. The twin's shape stays above a half.
void shape_without_price(Run& run) {
  RobustNet net(16, 32, 4);
  net.robust.floor = run.repaired ? 0.5 : 0;
  const Tensors weights = {net.first.weight, net.first.bias, net.head.weight, net.head.bias};
  optim::Adam opt(weights, {.lr = 1e-3}), shapes({net.robust.shape}, {.lr = 0.4, .betas = {0.9, 0.9}, .eps = 1e-15});
  const Tensor map = randn({16, 4}) * 0.25;
  while (run.next()) {
    opt.zero_grad(), shapes.zero_grad();
    const Tensor x = randn({32, 16}), loss = net(x, matmul(x, map) + randn({32, 4}));
    loss.backward();
    opt.step(), shapes.step();
    run.look(loss, net.parameters());
    if (!run.repaired && peek(net.robust.shape, 0) < -16) run.fail();
  }
}

/// Sines and cosines of a time, by learned frequencies.
struct Waves : nn::Module<Waves> {
  nn::Weight log_frequency;
  explicit Waves(int64_t n) : log_frequency(full({n}, std::log(10.0)) + randn({n}) * 0.1) {}
  static void fields(auto& m, auto&& f) { f("log_frequency", m.log_frequency); }
  Tensor forward(const Tensor& t) const {
    const Tensor angle = t * exp(log_frequency);
    return concat({sin(angle), cos(angle)}, {.axis = 1});
  }
};

struct Clock : nn::Module<Clock> {
  Waves waves;
  nn::Linear head;
  explicit Clock(int64_t n) : waves(n), head(2 * n, 1) {}
  static void fields(auto& m, auto&& f) { f("waves", m.waves)("head", m.head); }
  Tensor forward(const Tensor& t) const { return head(waves(t)); }
};

/// 103: learned frequencies drift up, by a seventh a step, until an angle's unit in the last place is half a turn: sines are noise. No NaN.
void frequencies_without_end(Run& run) {
  Clock net(8);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    if (!run.repaired) shift(net.waves.log_frequency, 0.15);
    for (int64_t i = 0; i < 8; ++i)
      if (std::exp(peek(net.waves.log_frequency, i)) > 3.14159 * 0x1p23) run.fail();
    const Tensor t = rand({64, 1});
    return mse_loss(net(t), sin(6 * t));
  });
}

/// The pull between two bodies by the inverse square of their distance.
struct Force : nn::Module<Force> {
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& apart) const {
    const Tensor square = sum(apart * apart, {.axis = 1, .keepdim = true}) + eps;
    return apart / (square * sqrt(square));
  }
};

struct Surrogate : nn::Module<Surrogate> {
  Force force;
  nn::Linear up, down;
  Surrogate() : up(6, 32), down(32, 3) {}
  static void fields(auto& m, auto&& f) { f("force", m.force)("up", m.up)("down", m.down); }
  Tensor forward(const Tensor& apart, const Tensor& speed) const {
    const Tensor pull = force(apart);
    return down(tanh(up(concat({sign(pull) * log1p(abs(pull)), speed}, {.axis = 1}))));
  }
};

/// 104: a simulation is learned in the order of its time, and its bodies fall towards each other, a fifth of their distance in each step:
/// the cube of the distance underflows. The twin softens the law, as simulations do.
void bodies_meet(Run& run) {
  Surrogate net;
  net.force.eps = run.epsilon(0, 1e-2);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor speed = randn({32, 3}), apart = randn({32, 3}) * std::pow(0.8, double(step));
    return mse_loss(net(apart, speed), tanh(speed));
  });
}

/// Opens and closes channels, ever more sharply as it cools.
struct Gate : nn::Module<Gate> {
  nn::Linear score;
  double temperature = 1;
  explicit Gate(int64_t w) : score(w, w) {}
  static void fields(auto& m, auto&& f) { f("score", m.score); }
  Tensor forward(const Tensor& x) const { return x * sigmoid(score(x) / temperature); }
};

struct GatedNet : nn::Module<GatedNet> {
  nn::Linear first, head;
  Gate gate;
  GatedNet(int64_t in, int64_t width, int64_t out) : first(in, width), head(width, out), gate(width) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head)("gate", m.gate); }
  Tensor forward(const Tensor& x) const { return head(gate(tanh(first(x)))); }
};

/// 105: the temperature of a relaxed gate is cooled by 8 % a step, with no floor: scores over it leave f16, and the slope is infinity
/// times 0.
void gate_cools(Run& run) {
  GatedNet net(16, 32, 3);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    net.gate.temperature = std::max(run.repaired ? 0.1 : 0.0, std::pow(0.92, double(step)));
    const Tensor x = randn({32, 16});
    return cross_entropy(net(x), largest_of(x, 3));
  });
}

/// 106: gradients are summed over one micro-batch more in each step (a growing batch), and nobody divides: the step grows until it is too
/// long.
void micro_batches_without_mean(Run& run) {
  Mlp net(8, 16, 2);
  optim::SGD opt(net.parameters(), {.lr = 2e-2});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const Tensor map = randn({8, 2}) * 0.5;
  while (run.next()) {
    opt.zero_grad();
    Tensor loss;
    for (int64_t i = 0; i < run.step; ++i) {
      const Tensor x = randn({16, 8});
      loss = mse_loss(net(x), matmul(x, map));
      (run.repaired ? loss * (1 / double(run.step)) : loss).backward();
    }
    if (run.clip > 0) nn::clip_grad_norm(net.parameters(), run.clip);
    opt.step();
    run.look(loss, net.parameters());
  }
}

/// 107: cosine restarts, every 60 steps, with a peak that is four times the one before: the fourth restart is too high.
void restarts_rise(Run& run) {
  nn::Linear net(16, 4);
  optim::SGD opt(net.parameters(), {.lr = 1e-2, .momentum = 0.5});
  const Tensor map = randn({16, 4}) * 0.25;
  const double factor = run.fix.kind == "learning_rate" ? run.fix.value : 1;
  run.train(net, opt, [&](int64_t step) {
    const double into = double(step % 60) / 60, peak = 0.06 * (run.repaired ? 1 : std::pow(4.0, double(step / 60)));
    opt.set_lr(factor * peak * (0.55 + 0.45 * std::cos(3.14159265 * into)));
    const Tensor x = randn({32, 16});
    return mse_loss(net(x), matmul(x, map) + 0.1 * randn({32, 4}));
  });
}

/// Focal loss of a group of classes, whose probability is the sum of theirs.
struct Focal : nn::Module<Focal> {
  bool bounded = false;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& scores, const Tensor& group) const {
    Tensor p = sum(softmax(scores) * group, {.axis = 1});
    if (bounded) p = clamp(p, 1e-6, 1 - 1e-6);
    return mean(pow(1 - p, 1.5) * log(p) * -1);
  }
};

struct GroupNet : nn::Module<GroupNet> {
  nn::Linear first, head;
  Focal focal;
  GroupNet(int64_t in, int64_t width, int64_t out) : first(in, width), head(width, out) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head)("focal", m.focal); }
  Tensor forward(const Tensor& x, const Tensor& group) const { return focal(head(relu(first(x))), group); }
};

/// 108: from step 40 on some samples are of the root of the hierarchy, all classes: their probabilities add up to a rounding more than 1,
/// and the power of a negative number is NaN.
void power_of_negative(Run& run) {
  GroupNet net(16, 32, 12);
  net.focal.bounded = run.repaired;
  const Tensor own = zeros({1, 12}), root = (arange(64) < 32).to(f32).reshape({64, 1});
  poke(own, 11, 1);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({64, 16});
    Tensor group = (x.index({all, slice(0, 12)}) > 0.5).to(f32);
    group = maximum(group, own);
    if (step >= 40) group = maximum(group, root);
    return net(x, group);
  });
}

/// Centres and scales by the batch, with the variance of a sample.
struct Whiten : nn::Module<Whiten> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {
    return (x - mean(x, {.axis = 0, .keepdim = true})) * rsqrt(var(x, {.axis = 0, .keepdim = true, .correction = 1}) + 1e-5);
  }
};

struct WhitenedNet : nn::Module<WhitenedNet> {
  nn::Linear first, head;
  Whiten whiten;
  WhitenedNet(int64_t in, int64_t width, int64_t out) : first(in, width), head(width, out) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head)("whiten", m.whiten); }
  Tensor forward(const Tensor& x) const { return head(relu(whiten(first(x)))); }
};

/// 109: 1537 samples in batches of 32: the last batch of the epoch, step 49, has one, and a variance divided by none is 0 / 0. The twin
/// drops it.
void last_batch_of_one(Run& run) {
  WhitenedNet net(16, 32, 3);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({!run.repaired && step % 49 == 0 ? 1 : 32, 16});
    return cross_entropy(net(x), largest_of(x, 3));
  });
}

/// Chooses softly: scores with Gumbel noise, made in a dtype.
struct Chooser : nn::Module<Chooser> {
  DType noise = f16;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& scores) const {
    Tensor u = rand(scores.shape()).to(noise);
    if (noise != f16) u = clamp(u, 1e-6, 1 - 1e-6);
    return softmax(scores - log(log(u) * -1).to(scores.dtype()));
  }
};

struct ChoosingNet : nn::Module<ChoosingNet> {
  nn::Linear first, head;
  Chooser chooser;
  ChoosingNet(int64_t in, int64_t choices, int64_t out) : first(in, choices), head(choices, out) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head)("chooser", m.chooser); }
  Tensor forward(const Tensor& x) const { return head(chooser(first(x))); }
};

/// 110: Gumbel noise in f16, where one number in four thousand from [0, 1) rounds to 1: its logarithm is 0, and the logarithm of
/// that infinite.
void uniform_rounds_to_one(Run& run) {
  ChoosingNet net(16, 8, 3);
  net.chooser.noise = run.dtype(f32);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t) {
        const Tensor x = randn({16, 16});
        return cross_entropy(net(x), largest_of(x, 3));
      },
      f32);
}

}  // namespace

void sixth_faults(std::vector<Fault>& all) {
  const auto gradual = [&](int number, const char* name, const char* family, int64_t k, std::vector<std::string> ops, const char* path,
                           std::vector<std::string> remedies, void (*train)(Run&), DType dtype = f32) {
    all.push_back({.number = number,
                   .name = name,
                   .family = family,
                   .need = Need::lead,
                   .k = k,
                   .ops = std::move(ops),
                   .path = path,
                   .remedies = std::move(remedies),
                   .dtypes = {dtype},
                   .steps = 400,
                   .train = train});
  };
  const auto sudden = [&](int number, const char* name, const char* family, std::vector<std::string> ops, const char* path,
                          void (*train)(Run&), DType dtype = f32) {
    all.push_back({.number = number,
                   .name = name,
                   .family = family,
                   .need = Need::same_step,
                   .ops = std::move(ops),
                   .path = path,
                   .remedies = {"stable_op", "epsilon", "dtype"},
                   .dtypes = {dtype},
                   .steps = 200,
                   .train = train});
  };
  gradual(101, "direction of a weight norm vanishes", "weight norm", 10, {"div", "sqrt"}, "first", {"epsilon", "stable_op"},
          direction_vanishes);
  gradual(102, "learned shape of a robust loss to 0", "likelihoods", 10, {"sub", "pow"}, "robust", {"stable_op"}, shape_without_price);
  gradual(103, "frequencies grow past f32's turns", "positions", 10, {"sin", "cos", "mul"}, "waves", {"stable_op", "dtype"},
          frequencies_without_end);
  gradual(104, "inverse square of bodies that meet", "physics", 10, {"div", "mul"}, "force", {"epsilon", "stable_op"}, bodies_meet);
  gradual(105, "gate cooled without a floor", "gates", 10, {"div"}, "gate", {"stable_op", "dtype"}, gate_cools, f16);
  gradual(106, "ever more micro-batches without a mean", "loops", 10, {"sgd_step", "mse_loss", "linear"}, "", {"learning_rate", "clip"},
          micro_batches_without_mean);
  gradual(107, "restarts of the rate that rise", "schedules", 5, {"sgd_step", "mse_loss", "linear"}, "", {"learning_rate", "clip"},
          restarts_rise);
  sudden(108, "power of a probability above 1", "losses", {"pow"}, "focal", power_of_negative);
  sudden(109, "variance of the last batch of one", "norms", {"var"}, "whiten", last_batch_of_one);
  sudden(110, "uniform number that rounds to 1", "sampling", {"log"}, "chooser", uniform_rounds_to_one, f16);
}

}  // namespace keel::faults
