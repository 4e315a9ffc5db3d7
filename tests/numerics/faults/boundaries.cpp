// Faults by what the mathematics says rather than by example: growth faster than any line, growth that scatters, ends that come nearer
// because what guards them fades, results of which nothing is left, sums that stand still wherever they are written, settings beyond what
// they may be.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// 83: descent on a quartic from where its slope is steeper than the rate allows: each step is the cube of the one before.
void faster_than_a_line(Run& run) {
  nn::Linear net(4, 4, {.bias = false});
  optim::SGD opt(net.parameters(), {.lr = run.repaired ? 1e-3 : 0.34});
  const Tensor truth = randn({4, 4});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({64, 4});
    return mean(square(square(net(x) - matmul(x, truth))));
  });
}

/// 84: a rate just beyond the curvature, with batches whose scale scatters: the loss climbs by a third of a bit a step and jumps about.
void growth_that_scatters(Run& run) {
  nn::Linear net(4, 1, {.bias = false});
  optim::SGD opt(net.parameters(), {.lr = 1.0});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const Tensor truth = randn({4, 1});
  run.train(net, opt, [&](int64_t) {
    const double s = std::exp2(2 * rand({}).item<double>() - 1);
    const Tensor x = randn({32, 4}) * s;
    return (run.repaired ? 0.05 : 1.2) * mse_loss(net(x), matmul(x, truth));
  });
}

/// 85: a loss scale that nobody adapts, while targets, and gradients with them, grow by 6 % a step: they leave f16.
void scale_that_stays(Run& run) {
  Mlp net(8, 16, 1);
  optim::SGD opt(net.parameters(), {.lr = 1e-6});
  const double scale = run.loss_scale(1024, 8);
  const Tensor truth = randn({8, 1});
  while (run.next()) {
    opt.zero_grad();
    Tensor loss;
    {
      Autocast guard(run.dtype());
      const Tensor x = randn({32, 8});
      loss = mse_loss(net(x), matmul(x, truth) * (run.repaired ? 1 : std::pow(1.06, double(run.step))));
    }
    (loss * scale).backward();
    for (const Tensor& w : net.parameters()) {
      NoGrad off;
      w.grad().mul_(1 / scale);
    }
    if (run.clip > 0) nn::clip_grad_norm(net.parameters(), run.clip);
    opt.step();
    run.look(loss, net.parameters());
  }
}

struct Annealed : nn::Module<Annealed> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x, double eps) const { return mean(-log(x + eps)); }
};
struct Counting : nn::Module<Counting> {
  nn::Linear line{4, 8};
  Annealed annealed;
  static void fields(auto& m, auto&& f) { f("line", m.line)("annealed", m.annealed); }
  Tensor forward(const Tensor& x, double eps) const { return annealed(relu(line(x)), eps); }
};
/// 86: an epsilon under a logarithm that is annealed to 0 over 80 steps, of values that may be 0.
void annealed_epsilon(Run& run) {
  Counting net;
  optim::SGD opt(net.parameters(), {.lr = 1e-4});
  run.clip = 1;
  run.train(net, opt, [&](int64_t step) {
    const double eps = 1e-2 * (1 - double(step) / 80);
    return net(randn({32, 4}), run.epsilon(eps, std::max(eps, 2e-3)));
  });
}

struct Fading : nn::Module<Fading> {
  nn::LayerNorm norm;
  nn::Linear head{8, 1};
  explicit Fading(double eps) : norm(8, {.eps = eps}) {}
  static void fields(auto& m, auto&& f) { f("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(norm(x)); }
};
/// 87: a layer norm whose epsilon is 0, and features that fade by a third a step.
void norm_without_epsilon(Run& run) {
  Fading net(run.epsilon(0, 1e-5));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8});
    return mse_loss(net(x * std::pow(run.repaired || run.fix.kind == "epsilon" ? 0.95 : 0.6, double(step))), x.index({all, slice(0, 1)}));
  });
}

double unmoved(const Tensor& now, const Tensor& then) {
  int64_t same = 0;
  for (int64_t k = 0; k < now.size(); ++k) same += peek(now, k) == peek(then, k);
  return double(same) / double(now.size());
}

/// 88: descent written by hand on weights in bf16: what is subtracted is less than half the distance to the next number.
void descent_by_hand_in_bf16(Run& run) {
  const DType t = run.dtype(f32);
  Tensor w = (ones({32, 8}) + 0.1 * randn({32, 8})).to(t).requires_grad_();
  const Tensor start = w.detach().clone(), truth = start.to(f32) + 1;
  while (run.next()) {
    w.zero_grad();
    const Tensor x = randn({16, 32}), loss = mse_loss(matmul(x, w.to(f32)), matmul(x, truth));
    loss.backward();
    {
      NoGrad off;
      w.sub_(1e-4 * w.grad());
    }
    run.look(loss, {w});
    if (run.step == 60 && unmoved(w.detach(), start) > 0.9) run.fail();
  }
}

/// 89: an average of weights in bf16, by `lerp`.
void average_by_lerp(Run& run) {
  Mlp net(8, 32, 1);
  optim::Adam opt(net.parameters(), {.lr = 3e-3});
  Tensor average = net.up.weight.detach().clone().to(run.dtype(f32));
  const Tensor start = average.clone(), truth = randn({8, 1});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 8}), loss = mse_loss(net(x), matmul(x, truth));
    loss.backward();
    opt.step();
    {
      NoGrad off;
      average = lerp(average, net.up.weight.detach().to(average.dtype()), 0.001);
    }
    run.look(loss, net.parameters());
    if (run.step == 60 && unmoved(average, start) > 0.5) run.fail();
  }
}

/// 90: a rate that falls along a line and is not held at 0: from step 50 on each step climbs.
void rate_below_zero(Run& run) {
  Mlp net(8, 32, 1);
  optim::SGD opt(net.parameters(), {.lr = 0.1});
  const bool held = run.repaired;
  optim::LambdaLR schedule(opt, [held](int64_t step) { return std::max(held ? 0.0 : -9.0, 1 - double(step) / 50); });
  const Tensor truth = randn({8, 1});
  double first = 0;
  run.train(net, opt, [&](int64_t step) {
    if (step > 1) schedule.step();
    const Tensor x = randn({32, 8}), loss = mse_loss(net(x), matmul(x, truth));
    if (step == 1) first = loss.item<double>();
    if (step > 50 && loss.item<double>() > 10 * first) run.fail();
    return loss;
  });
}

struct Looking : nn::Module<Looking> {
  nn::Linear qkv{16, 48}, head{16, 4};
  static void fields(auto& m, auto&& f) { f("qkv", m.qkv)("head", m.head); }
  Tensor forward(const Tensor& x) const {  // [batch, length, 16]
    const auto [b, t, d] = x.shape().as<3>();
    const Tensor h = qkv(x).reshape({b, t, 3, 2, d / 2}).permute({2, 0, 3, 1, 4});
    return head(attention(h[0], h[1], h[2]).transpose(1, 2).reshape({b, t, d}));
  }
};
/// 91: attention as one op, while the weights of queries and keys grow by 4 % a step: each row looks at one key only, and learns nothing.
void attention_collapses(Run& run) {
  Looking net;
  optim::Adam opt(net.parameters(), {.lr = 1e-4});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({4, 16, 16});
    if (!run.repaired) scale(net.qkv.weight.detach().index({slice(0, 32)}), 1.04);
    if (step == 150 && !run.repaired) run.fail();
    return cross_entropy(net(x).reshape({64, 4}), argmax(x.index({all, all, slice(0, 4)}), {.axis = 2}).reshape({64}));
  });
}

struct Gate : nn::Module<Gate> {
  double temperature;
  explicit Gate(double t) : temperature(t) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return softmax(x / temperature); }
};
struct Mixed : nn::Module<Mixed> {
  nn::Linear score{8, 4}, experts{8, 4};
  Gate gate;
  explicit Mixed(double t) : gate(t) {}
  static void fields(auto& m, auto&& f) { f("score", m.score)("gate", m.gate)("experts", m.experts); }
  Tensor forward(const Tensor& x) const { return sum(gate(score(x)) * experts(x), {.axis = 1, .keepdim = true}); }
};
/// 92: a softmax over scores divided by 1e-4: every row is 1 at one place and 0 elsewhere, and no gradient reaches the scores.
void gate_without_slope(Run& run) {
  Mixed net(run.repaired ? 1 : 1e-5);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({64, 8}), loss = mse_loss(net(x), x.index({all, slice(0, 1)}));
    loss.backward();
    if (run.step == 40 && zeros_in(net.score.weight.grad()) > 0.9) run.fail();
    opt.step();
    run.look(loss, net.parameters());
  }
}

struct Positions : nn::Module<Positions> {
  nn::Linear up{1, 16}, down{16, 1};
  static void fields(auto& m, auto&& f) { f("up", m.up)("down", m.down); }
  Tensor forward(const Tensor& t) const { return down(tanh(up(t))); }
};
/// 93: positions up to 2,000 in bf16, which has 256 numbers in a row: neighbours become one.
void positions_in_bf16(Run& run) {
  Positions net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        const Tensor t = arange(2000).to(run.dtype(f32));
        if (step == 20 && peek(t, 1001) == peek(t, 1000)) run.fail();
        const Tensor x = (t / 2000).to(f32).unsqueeze(1);
        return mse_loss(net(x), sin(6 * x));
      },
      f32);
}

struct Times : nn::Module<Times> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& t) const {
    const Tensor d = t - mean(t, {.axis = 0, .keepdim = true});
    return d / (sqrt(mean(square(d), {.axis = 0, .keepdim = true})) + 1e-5);
  }
};
struct Clock : nn::Module<Clock> {
  Times times;
  Mlp net{1, 16, 1};
  static void fields(auto& m, auto&& f) { f("times", m.times)("net", m.net); }
  Tensor forward(const Tensor& t) const { return net(times(t)); }
};
/// 94: seconds since 1970 in f32, which are 128 apart, of a span of ten minutes.
void seconds_since_1970(Run& run) {
  Clock net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor s = rand({64, 1}) * 600, t = run.repaired ? s : s + 1.7e9;
    if (step == 20 && !run.repaired) run.fail();
    return mse_loss(net(t), s / 300 - 1);
  });
}

struct Slope : nn::Module<Slope> {
  double h;
  explicit Slope(double step) : h(step) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const nn::Linear& line, const Tensor& x) const { return mean(square((tanh(line(x + h)) - tanh(line(x))) / h)); }
};
struct Smooth : nn::Module<Smooth> {
  nn::Linear line{8, 4};
  Slope slope;
  explicit Smooth(double h) : slope(h) {}
  static void fields(auto& m, auto&& f) { f("line", m.line)("slope", m.slope); }
  Tensor forward(const Tensor& x, const Tensor& y) const { return mse_loss(tanh(line(x)), y) + 0.1 * slope(line, x); }
};
/// 95: a slope by finite differences of 1e-7 in f32: all of the difference is rounding.
void finite_differences(Run& run) {
  Smooth net(run.epsilon(1e-7, 1e-2));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    if (step == 20 && !run.repaired) run.fail();
    const Tensor x = randn({32, 8});
    return net(x, tanh(x.index({all, slice(0, 4)})));
  });
}

/// 96: f16 without any loss scale, where gradients were below its smallest number from the start.
void gradients_below_f16(Run& run) {
  Mlp net(16, 64, 8);
  optim::SGD opt(net.parameters(), {.lr = 1e5});
  const double scale = run.loss_scale(1, 1 << 24);
  const Tensor truth = randn({16, 8});
  while (run.next()) {
    opt.zero_grad();
    Tensor loss;
    {
      Autocast guard(run.dtype());
      const Tensor x = randn({64, 16});
      loss = mse_loss(net(x), matmul(x, truth)) * 1e-8;
    }
    (loss * scale).backward();
    for (const Tensor& w : net.parameters()) {
      NoGrad off;
      w.grad().mul_(1 / scale);
    }
    if (run.step == 20 && zeros_in(net.up.weight.grad()) > 0.5) run.fail();
    opt.step();
    run.look(loss, net.parameters());
  }
}

/// 97: a rate that is wrong by powers of ten: the loss is a thousand times as large after each step.
void rate_wrong_from_the_start(Run& run) {
  nn::Linear net(16, 1);
  optim::SGD opt(net.parameters(), {.lr = run.repaired ? 0.01 : 15});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const Tensor truth = randn({16, 1});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 16});
    return mse_loss(net(x), matmul(x, truth));
  });
}

struct Chain : nn::Module<Chain> {
  nn::Weight step_logits{zeros({4, 4})}, seen_logits{zeros({4, 16})};
  bool scaled;
  explicit Chain(bool s) : scaled(s) {}
  static void fields(auto& m, auto&& f) { f("step_logits", m.step_logits)("seen_logits", m.seen_logits); }
  Tensor forward(const Tensor& ids) const {  // [length, batch]
    const Tensor steps = softmax(step_logits), seen = softmax(seen_logits).transpose();
    Tensor alpha = full({ids.size(1), 4}, 0.25), total = zeros({});
    for (int64_t t = 0; t < ids.size(0); ++t) {
      alpha = matmul(alpha, steps) * seen.index({ids[t]});
      if (scaled) {
        const Tensor s = sum(alpha, {.axis = 1, .keepdim = true});
        total = total - mean(log(s)), alpha = alpha / s;
      }
    }
    return scaled ? total : -mean(log(sum(alpha, {.axis = 1})));
  }
};
/// 98: the likelihood of a hidden chain as a product over sequences that lengthen.
void likelihood_of_a_chain(Run& run) {
  Chain net(run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) { return net(randint(0, 16, {4 + step, 8})) / double(4 + step); });
}

/// 99: Adam at a rate of 3: each step moves weights by more than they are.
void steps_longer_than_weights(Run& run) {
  Mlp net(8, 32, 1);
  optim::Adam opt(net.parameters(), {.lr = run.repaired ? 1e-3 : 3});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const Tensor truth = randn({8, 1});
  double first = 0;
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8}), loss = mse_loss(net(x), matmul(x, truth));
    if (step == 1) first = loss.item<double>();
    if (step == 20 && loss.item<double>() > 100 * first) run.fail();
    return loss;
  });
}

struct Share : nn::Module<Share> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& w, const Tensor& x) const {
    return sum(w * x, {.axis = 1, .keepdim = true}) / sum(w, {.axis = 1, .keepdim = true});
  }
};
/// 100: a weighted mean whose weights may be negative: their sum, which scatters, drifts through 0.
void weights_that_sum_to_zero(Run& run) {
  Mlp net(4, 8, 1);
  Share share;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const double centre = run.repaired ? 1 : 1 - double(step) / 60;
    const Tensor x = randn({16, 4}), w = centre + 0.02 * randn({16, 4});
    const Tensor y = share(w, x);
    if (step == 60 && !run.repaired) run.fail();
    return mse_loss(net(x), clamp(y, -3, 3));
  });
}

}  // namespace

void boundary_faults(std::vector<Fault>& all) {
  const auto row = [&](int number, const char* name, Need need, int64_t k, std::vector<std::string> ops, std::string path,
                       std::vector<std::string> remedies, DType t, int64_t steps, void (*train)(Run&)) {
    all.push_back({.number = number,
                   .name = name,
                   .family = "boundaries",
                   .need = need,
                   .k = k,
                   .ops = std::move(ops),
                   .path = std::move(path),
                   .remedies = std::move(remedies),
                   .dtypes = {t},
                   .steps = steps,
                   .train = train});
  };
  row(83, "growth faster than a line", Need::lead, 1, {"linear", "sub", "square", "sgd_step", "mean", "mul", "matmul", "sum", "div"}, "",
      {"clip", "learning_rate"}, f32, 60, faster_than_a_line);
  row(84, "growth that scatters", Need::lead, 10, {"linear", "sgd_step", "mse_loss", "mul", "matmul"}, "", {"clip", "learning_rate"}, f32,
      900, growth_that_scatters);
  row(85, "loss scale that stays", Need::lead, 5, {"matmul", "cast", "mul", "linear", "sum", "relu_backward"}, "",
      {"loss_scale", "dtype", "clip"}, f16, 200, scale_that_stays);
  row(86, "annealed epsilon", Need::lead, 8, {"log", "add", "div"}, "annealed", {"epsilon", "stable_op"}, f32, 120, annealed_epsilon);
  row(87, "layer norm without epsilon", Need::lead, 15, {"layer_norm", "mul"}, "norm", {"epsilon"}, f32, 300, norm_without_epsilon);
  row(88, "descent by hand in bf16", Need::by, 30, {"sub"}, "", {"master_weights", "accumulator", "dtype"}, bf16, 80,
      descent_by_hand_in_bf16);
  row(89, "average by lerp in bf16", Need::by, 30, {"lerp"}, "", {"master_weights", "accumulator", "dtype"}, bf16, 80, average_by_lerp);
  row(90, "rate below zero", Need::by, 55, {"sgd_step"}, "", {"stable_op", "learning_rate"}, f32, 300, rate_below_zero);
  row(91, "attention collapses", Need::lead, 20, {"attention"}, "", {"stable_op", "dtype"}, f32, 160, attention_collapses);
  row(92, "gate without slope", Need::by, 10, {"softmax"}, "gate", {"stable_op", "data"}, f32, 60, gate_without_slope);
  row(93, "positions in bf16", Need::by, 1, {"cast"}, "", {"dtype"}, bf16, 40, positions_in_bf16);
  row(94, "seconds since 1970", Need::by, 3, {"sub"}, "times", {"stable_op", "data"}, f32, 40, seconds_since_1970);
  row(95, "finite differences", Need::by, 3, {"sub", "div"}, "slope", {"stable_op", "epsilon"}, f32, 40, finite_differences);
  row(96, "gradients below f16 from the start", Need::by, 10, {"matmul", "cast", "mul", "linear", "sum", "relu_backward"}, "",
      {"loss_scale", "dtype"}, f16, 40, gradients_below_f16);
  row(97, "rate wrong from the start", Need::lead, 2, {"linear", "sgd_step", "mse_loss", "matmul", "mul"}, "", {"learning_rate", "clip"},
      f32, 60, rate_wrong_from_the_start);
  row(98, "likelihood of a chain", Need::lead, 5, {"mul", "matmul", "log", "sum"}, "", {"stable_op", "epsilon"}, f32, 120,
      likelihood_of_a_chain);
  row(99, "steps longer than weights", Need::by, 8, {"adam_step"}, "", {"learning_rate"}, f32, 60, steps_longer_than_weights);
  row(100, "weights that sum to zero", Need::lead, 4, {"div", "sum"}, "", {"epsilon", "stable_op"}, f32, 90, weights_that_sum_to_zero);
}

}  // namespace keel::faults
