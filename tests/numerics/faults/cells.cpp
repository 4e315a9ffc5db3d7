// Written with the rules: a planted fault and its twin for each cell of the table of op families and mechanisms that had no rule.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

Tensor first_of(const Tensor& x, int64_t n) { return x.index({all, slice(0, n)}); }

struct Share : nn::Module<Share> {
  double bound = 1;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& p) const { return -mean(log1p(-(bound < 1 ? minimum(p, bound) : p))); }
};
struct Survival : nn::Module<Survival> {
  nn::Linear up{8, 16}, out{16, 1};
  nn::Weight drift{zeros({1})};
  Share share;
  static void fields(auto& m, auto&& f) { f("up", m.up)("out", m.out)("drift", m.drift)("share", m.share); }
  Tensor forward(const Tensor& x) const { return share(sigmoid(out(tanh(up(x))) + drift)); }
};
/// 111: log1p(-p) of a probability that comes near 1.
void survival_ends(Run& run) {
  Survival net;
  if (run.repaired) net.share.bound = 0.999;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    if (!run.repaired) shift(net.drift, 0.2);
    return net(randn({32, 8}));
  });
}

struct Power : nn::Module<Power> {
  nn::Weight exponent{full({4}, 0.5)};
  double eps = 0;
  static void fields(auto& m, auto&& f) { f("exponent", m.exponent); }
  Tensor forward(const Tensor& x) const { return pow(x + eps, exponent); }
};
struct Compressed : nn::Module<Compressed> {
  nn::Weight gain{full({4}, 1.0)};
  Power power;
  nn::Linear up{4, 16}, out{16, 1};
  static void fields(auto& m, auto&& f) { f("gain", m.gain)("power", m.power)("up", m.up)("out", m.out); }
  Tensor forward(const Tensor& x) const { return out(tanh(up(power(x * square(gain))))); }
};
/// 112: a learned power of energies that fade to 0: its slope in the exponent is a logarithm, that in the base has no end.
void learned_power_of_silence(Run& run) {
  Compressed net;
  net.power.eps = run.epsilon(0, 1e-6);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor energy = square(randn({32, 4}) + 3) * std::pow(0.4, double(step));
    return mse_loss(net(energy), ones({32, 1}));
  });
}

struct Normed : nn::Module<Normed> {
  nn::Conv2d conv{1, 4, {.kernel = 3, .padding = 1}};
  nn::BatchNorm2d norm;
  nn::Linear head{4, 2};
  explicit Normed(double eps) : norm(4, {.eps = eps}) {}
  static void fields(auto& m, auto&& f) { f("conv", m.conv)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(mean(relu(norm(conv(x))), {.axis = {2, 3}})); }
};
/// 113: batch norm with an epsilon of 0, of pictures that fade to black.
void batch_norm_without_epsilon(Run& run) {
  Normed net(run.epsilon(0, 1e-5));
  optim::SGD opt(net.parameters(), {.lr = 1e-2});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({8, 1, 6, 6}) * (step < 40 ? std::pow(0.8, double(step)) : run.repaired ? 1e-3 : 0.0);
    return cross_entropy(net(x), randint(0, 2, {8}));
  });
}

struct Pictures : nn::Module<Pictures> {
  nn::Conv2d first{1, 8, {.kernel = 3, .padding = 1}}, second{8, 8, {.kernel = 3, .padding = 1}};
  nn::Linear head{8, 2};
  static void fields(auto& m, auto&& f) { f("first", m.first)("second", m.second)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(mean(relu(second(relu(first(x)))), {.axis = {2, 3}})); }
};
/// 114: one step at a rate of 50 kills every relu of a convolution; the loss stays at that of a guess.
void convolution_dies(Run& run) {
  Pictures net;
  optim::SGD opt(net.parameters(), {.lr = 0.02});
  run.train(net, opt, [&](int64_t step) {
    const bool sound = run.repaired || run.fix.kind == "learning_rate";
    if (step == 20 && !sound) shift(net.first.bias, -50);
    if (step == 40 && !sound) run.fail();
    const Tensor y = randint(0, 2, {8});
    return cross_entropy(net(randn({8, 1, 6, 6}) + y.to(f32).reshape({8, 1, 1, 1})), y);
  });
}

/// 115: a clock in f32 that is moved on by a thousandth a step, from 32,768 on: it stands still.
void clock_stands_still(Run& run) {
  Mlp net(2, 16, 1);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  Tensor clock = full({1}, run.repaired ? 0.0 : 32768.0);
  const Tensor start = clock.clone();
  while (run.next()) {
    opt.zero_grad();
    {
      NoGrad off;
      clock = clock + 1e-3;
    }
    const Tensor phase = sin((clock - start) * 6.28), x = randn({16, 1});
    const Tensor loss = mse_loss(net(concat({x, expand(phase.reshape({1, 1}), {16, 1})}, {.axis = 1})), x);
    loss.backward();
    opt.step();
    run.look(loss, net.parameters());
    if (run.step == 60 && peek(clock, 0) == peek(start, 0)) run.fail();
  }
}

/// 116: a rate of 1,000: the loss is a million times what it was first, and stays there.
void loss_stays_high(Run& run) {
  Mlp net(8, 32, 4);
  optim::SGD opt(net.parameters(), {.lr = run.repaired ? 0.1 : 1e3});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  double first = 0;
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8}), loss = cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
    if (step == 1) first = loss.item<double>();
    if (step == 40 && loss.item<double>() > 10 * first) run.fail();
    return loss;
  });
}

/// 117: cross entropy of what a softmax made: probabilities taken for logits.
void softmax_twice(Run& run) {
  Mlp net(8, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  const bool twice = !run.repaired;
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8}), y = net(x), loss = cross_entropy(twice ? softmax(y) : y, argmax(first_of(x, 4), {.axis = 1}));
    if (step == 200 && twice && loss.item<double>() > 0.7) run.fail();
    return loss;
  });
}

struct Binary : nn::Module<Binary> {
  nn::Linear up{8, 16}, out{16, 4};
  bool straight;
  explicit Binary(bool through) : straight(through) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("out", m.out); }
  Tensor forward(const Tensor& x) const {
    const Tensor h = tanh(up(x)), r = round(h);
    return out(straight ? h + (r - h).detach() : r);
  }
};
/// 118: codes are rounded, and nobody passes the gradient through: what comes before them learns nothing.
void rounding_cuts_off(Run& run) {
  Binary net(run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 8}), loss = cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
    loss.backward();
    if (run.step == 30 && zeros_in(net.up.weight.grad()) == 1) run.fail();
    opt.step();
    run.look(loss, net.parameters());
  }
}

/// 119: all weights start at the same number: the units of a layer stay one unit.
void units_start_alike(Run& run) {
  Mlp net(8, 16, 4);
  if (!run.repaired) {
    const auto same = [](const Tensor& w) { scale(w.detach(), 0), shift(w.detach(), 0.1); };
    same(net.up.weight), same(net.up.bias), same(net.down.weight);
  }
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    if (step == 60 && !run.repaired) run.fail();
    const Tensor x = randn({32, 8});
    return cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
  });
}

struct Deep : nn::Module<Deep> {
  nn::ModuleList<nn::Linear> layers;
  nn::Linear head{16, 2};
  bool bounded;
  explicit Deep(bool squash) : bounded(squash) {
    for (int k = 0; k < 16; ++k) layers.push_back(nn::Linear(16, 16));
  }
  static void fields(auto& m, auto&& f) { f("layers", m.layers)("head", m.head); }
  Tensor forward(Tensor x) const {
    for (const nn::Linear& l : layers) x = bounded ? sigmoid(l(x)) : x + 0.1 * tanh(l(x));
    return head(x);
  }
};
/// 120: sixteen sigmoids on top of each other: the gradient of the first layer is nothing beside that of the last.
void gradients_fade_with_depth(Run& run) {
  Deep net(!run.repaired);
  optim::SGD opt(net.parameters(), {.lr = 1e-2});
  run.train(net, opt, [&](int64_t step) {
    if (step == 40 && !run.repaired) run.fail();
    const Tensor x = randn({32, 16});
    return cross_entropy(net(x), (sum(x, {.axis = 1}) > 0).to(i64));
  });
}

/// 121: weight decay of 0.5 at a rate of 0.5: a quarter of each weight is gone in each step.
void decay_eats_weights(Run& run) {
  Mlp net(8, 32, 4);
  optim::AdamW opt(net.parameters(), {.lr = 0.05, .weight_decay = run.repaired ? 0.01 : 8});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const double before = norm(net.up.weight.detach()).item<double>();
  run.train(net, opt, [&](int64_t step) {
    if (step == 40 && norm(net.up.weight.detach()).item<double>() < 0.5 * before) run.fail();
    const Tensor x = randn({32, 8});
    return cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
  });
}

struct Kernel : nn::Module<Kernel> {
  nn::Weight centres{randn({16, 8})};
  nn::Linear out{16, 1};
  double width;
  explicit Kernel(double w) : width(w) {}
  static void fields(auto& m, auto&& f) { f("centres", m.centres)("out", m.out); }
  Tensor forward(const Tensor& x) const { return out(exp(-sum(square(x.unsqueeze(1) - centres), {.axis = 2}) / (2 * width * width))); }
};
/// 122: kernels that are much narrower than their distances: every one is 0, and no centre learns.
void kernels_too_narrow(Run& run) {
  Kernel net(run.repaired ? 2 : 0.05);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 8}), loss = mse_loss(net(x), first_of(x, 1));
    loss.backward();
    if (run.step == 20 && zeros_in(net.centres.grad()) == 1) run.fail();
    opt.step();
    run.look(loss, net.parameters());
  }
}

struct Quantised : nn::Module<Quantised> {
  nn::Linear up{8, 16}, out{16, 4};
  double bound;
  explicit Quantised(double b) : bound(b) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("out", m.out); }
  Tensor forward(const Tensor& x) const {
    const Tensor h = up(x) * 20, q = cast(round(clamp(h, -bound, bound)), i8).to(f32);
    return out((h + (q - h).detach()) / 20);
  }
};
/// 123: activations that grow by 5 % a step are cast to 8 bits with a fixed scale and no bound: they come out with the wrong sign.
void eight_bits_wrap(Run& run) {
  Quantised net(run.repaired ? 127 : 1e9);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    if (!run.repaired) scale(net.up.weight.detach(), 1.05);
    if (step == 60 && !run.repaired) run.fail();
    const Tensor x = randn({32, 8});
    return cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
  });
}

struct Walk : nn::Module<Walk> {
  DType t;
  explicit Walk(DType dtype) : t(dtype) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& pace) const { return cumsum(pace.to(t), {.axis = 0}).to(f32); }
};
struct Walker : nn::Module<Walker> {
  nn::Linear pace{4, 1};
  Walk walk;
  explicit Walker(DType t) : walk(t) {}
  static void fields(auto& m, auto&& f) { f("pace", m.pace)("walk", m.walk); }
  Tensor forward(const Tensor& x) const { return walk(softplus(pace(x))); }
};
/// 124: places as a running sum of steps in bf16, of sequences that lengthen: the sum stands where it has 256 steps.
void places_stand_still(Run& run) {
  Walker net(run.dtype(f32));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        const Tensor x = randn({100 + 20 * step, 4}) * 0.1, y = net(x);
        if (!run.repaired && step == 40) run.fail();
        return mean(square(y / double(x.size(0)) - 0.5));
      },
      f32);
}

/// 125: losses that were scaled down to a billionth, with Adam's usual epsilon above every gradient.
void epsilon_above_all_gradients(Run& run) {
  Mlp net(8, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = 1e-3, .eps = run.epsilon(1e-2, 1e-16)});
  const double before = peek(net.up.weight.detach(), 0);
  run.train(net, opt, [&](int64_t step) {
    if (step == 60 && std::abs(peek(net.up.weight.detach(), 0) - before) < 1e-5) run.fail();
    const Tensor x = randn({32, 8});
    return cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1})) * 1e-9;
  });
}

/// 126: the rate is given as its logarithm's tenth: 1e-12, and Adam's steps are below the last digit of each weight.
void rate_below_the_last_digit(Run& run) {
  Mlp net(8, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = run.repaired ? 1e-3 : 1e-12});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  const Tensor before = net.up.weight.detach().clone();
  run.train(net, opt, [&](int64_t step) {
    if (step == 60 && peek(norm(net.up.weight.detach() - before), 0) < 1e-6) run.fail();
    const Tensor x = randn({32, 8});
    return cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
  });
}

struct Single : nn::Module<Single> {
  nn::Linear up{8, 16}, out;
  bool one;
  explicit Single(bool alone) : out(16, alone ? 1 : 2), one(alone) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("out", m.out); }
  Tensor forward(const Tensor& x) const { return softmax(out(tanh(up(x)))); }
};
/// 127: a softmax over one choice: it is 1 for every example.
void softmax_over_one(Run& run) {
  Single net(!run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 8}), y = net(x), loss = mse_loss(y.index({all, slice(0, 1)}), (first_of(x, 1) > 0).to(f32));
    loss.backward();
    if (run.step == 20 && zeros_in(net.up.weight.grad()) == 1) run.fail();
    opt.step();
    run.look(loss, net.parameters());
  }
}

struct NarrowInput : nn::Module<NarrowInput> {
  nn::Linear inner{16, 32};
  double scale_by;
  explicit NarrowInput(double s) : scale_by(s) {}
  static void fields(auto& m, auto&& f) { f("inner", m.inner); }
  Tensor forward(const Tensor& x) const { return inner(cast(x * scale_by, f8e4m3fn).to(f32) / scale_by); }
};
struct NarrowNet : nn::Module<NarrowNet> {
  NarrowInput input;
  nn::Linear head{32, 4};
  explicit NarrowNet(double s) : input(s) {}
  static void fields(auto& m, auto&& f) { f("input", m.input)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(relu(input(x))); }
};
/// 128: a scale for 8 bits that divides where it should multiply: nearly all of the input becomes 0.
void fp8_scale_upside_down(Run& run) {
  NarrowNet net(run.repaired || run.fix.kind == "dtype" ? 64 : 1.0 / 2048);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    if (step == 20 && net.input.scale_by < 1) run.fail();
    const Tensor x = randn({32, 16});
    return cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
  });
}

struct Unscaled : nn::Module<Unscaled> {
  nn::Linear qkv{64, 192}, head{64, 4};
  double factor;
  explicit Unscaled(double f) : factor(f) {}
  static void fields(auto& m, auto&& f) { f("qkv", m.qkv)("head", m.head); }
  Tensor forward(const Tensor& x) const {  // [batch, length, 64]
    const Tensor h = qkv(x), q = h.index({all, all, slice(0, 64)}), k = h.index({all, all, slice(64, 128)}),
                 v = h.index({all, all, slice(128, 192)});
    return head(matmul(softmax(matmul(q, k.transpose(1, 2)) * factor), v));
  }
};
/// 129: logits that are multiplied by the width of a head where they should be divided by its root.
void attention_unscaled(Run& run) {
  Unscaled net(run.repaired ? 0.125 : 64);
  optim::Adam opt(net.parameters(), {.lr = 1e-4});
  run.train(net, opt, [&](int64_t step) {
    if (step == 60 && !run.repaired) run.fail();
    const Tensor x = randn({4, 12, 64});
    return cross_entropy(net(x).reshape({48, 4}), argmax(x.index({all, all, slice(0, 4)}), {.axis = 2}).reshape({48}));
  });
}

struct Stack : nn::Module<Stack> {
  nn::ModuleList<nn::Linear> layers;
  nn::Linear head{16, 2};
  explicit Stack(double gain) {
    for (int k = 0; k < 16; ++k) {
      layers.push_back(nn::Linear(16, 16));
      scale(layers[k].weight.detach(), gain);
    }
  }
  static void fields(auto& m, auto&& f) { f("layers", m.layers)("head", m.head); }
  Tensor forward(Tensor x) const {
    for (const nn::Linear& l : layers) x = relu(l(x));
    return head(x);
  }
};
/// 130: weights of sixteen layers that start ten times too large: each layer multiplies, and the first step writes 1e20.
void layers_multiply(Run& run) {
  Stack net(run.repaired ? 1.7 : 30);
  optim::SGD opt(net.parameters(), {.lr = 1e-6});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 16});
    return cross_entropy(net(x), (sum(x, {.axis = 1}) > 0).to(i64));
  });
}

/// 131: gradients are filled with zeros after the backward pass and before the step.
void cleared_too_late(Run& run) {
  Mlp net(8, 32, 4);
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  while (run.next()) {
    const Tensor x = randn({32, 8}), loss = cross_entropy(net(x), argmax(first_of(x, 4), {.axis = 1}));
    if (run.repaired) opt.zero_grad();
    loss.backward();
    if (!run.repaired) {
      NoGrad off;
      for (const Tensor& w : net.parameters()) w.grad().mul_(0);
    }
    opt.step();
    run.look(loss, net.parameters());
    if (run.step == 40 && !run.repaired) run.fail();
  }
}

}  // namespace

void cell_faults(std::vector<Fault>& all) {
  const auto row = [&](int number, const char* name, Need need, int64_t k, std::vector<std::string> ops, std::string path,
                       std::vector<std::string> remedies, int64_t steps, void (*train)(Run&), DType t = f32) {
    all.push_back({.number = number,
                   .name = name,
                   .family = "cells",
                   .need = need,
                   .k = k,
                   .ops = std::move(ops),
                   .path = std::move(path),
                   .remedies = std::move(remedies),
                   .dtypes = {t},
                   .steps = steps,
                   .train = train});
  };
  row(111, "log1p comes to -1", Need::lead, 10, {"log1p"}, "share", {"stable_op"}, 200, survival_ends);
  row(112, "learned power of silence", Need::lead, 8, {"pow"}, "power", {"epsilon", "stable_op"}, 200, learned_power_of_silence);
  row(113, "batch norm without epsilon", Need::lead, 10, {"batch_norm"}, "norm", {"epsilon"}, 60, batch_norm_without_epsilon);
  row(114, "convolution dies", Need::by, 26, {"relu"}, "", {"stable_op", "learning_rate"}, 60, convolution_dies);
  row(115, "clock stands still", Need::by, 20, {"add"}, "", {"accumulator"}, 80, clock_stands_still);
  row(116, "loss stays high", Need::by, 15, {"sgd_step", "cross_entropy", "linear"}, "", {"learning_rate"}, 60, loss_stays_high);
  row(117, "softmax twice", Need::by, 1, {"cross_entropy", "softmax"}, "", {"stable_op"}, 220, softmax_twice);
  row(118, "rounding cuts off", Need::by, 10, {"round"}, "", {"stable_op"}, 60, rounding_cuts_off);
  row(119, "units start alike", Need::by, 30, {"linear"}, "up", {"stable_op"}, 80, units_start_alike);
  row(120, "gradients fade with depth", Need::by, 12, {"linear", "sigmoid"}, "", {"stable_op"}, 60, gradients_fade_with_depth);
  row(121, "decay eats weights", Need::by, 2, {"adam_step"}, "", {"learning_rate"}, 60, decay_eats_weights);
  row(122, "kernels too narrow", Need::by, 8, {"exp"}, "", {"stable_op"}, 40, kernels_too_narrow);
  row(123, "eight bits wrap", Need::lead, 10, {"cast"}, "", {"stable_op"}, 80, eight_bits_wrap);
  row(124, "places stand still", Need::lead, 10, {"cumsum"}, "walk", {"accumulator"}, 60, places_stand_still, bf16);
  row(125, "epsilon above all gradients", Need::by, 20, {"adam_step"}, "", {"epsilon"}, 80, epsilon_above_all_gradients);
  row(126, "rate below the last digit", Need::by, 20, {"adam_step"}, "", {"learning_rate"}, 80, rate_below_the_last_digit);
  row(127, "softmax over one choice", Need::by, 1, {"softmax"}, "", {"stable_op"}, 40, softmax_over_one);
  row(128, "scale for 8 bits upside down", Need::by, 5, {"cast"}, "input", {"dtype", "margin", "stable_op"}, 40, fp8_scale_upside_down);
  row(129, "attention unscaled", Need::by, 40, {"softmax"}, "", {"stable_op"}, 80, attention_unscaled);
  row(130, "layers multiply", Need::by, 1, {"linear"}, "", {"stable_op", "data"}, 40, layers_multiply);
  row(131, "cleared too late", Need::by, 10, {"adam_step"}, "", {"stable_op"}, 60, cleared_too_late);
}

}  // namespace keel::faults
