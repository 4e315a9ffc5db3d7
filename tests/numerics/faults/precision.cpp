// Faults of narrow dtypes: growth out of range, gradients and updates that vanish, scales.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Feed : nn::Module<Feed> {
  nn::Linear wi, wo;
  explicit Feed(int64_t w) : wi(w, 2 * w), wo(2 * w, w) {}
  static void fields(auto& m, auto&& f) { f("wi", m.wi)("wo", m.wo); }
  Tensor forward(const Tensor& x) const { return wo(relu(wi(x))); }
};
struct Residual : nn::Module<Residual> {
  Feed mlp;
  nn::LayerNorm norm, last;
  nn::Linear head;
  explicit Residual(int64_t w) : mlp(w), norm(w), last(w), head(w, 4) {}
  static void fields(auto& m, auto&& f) { f("mlp", m.mlp)("norm", m.norm)("last", m.last)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(last(x + mlp(norm(x)))); }
};

/// 2: what a block adds to the residual stream grows by 5 % a step until f16 overflows.
void residual_grows(Run& run) {
  Residual net(32);
  scale(net.mlp.wo.weight, 8);
  optim::Adam opt(net.parameters(), {.lr = 1e-4});
  run.train(
      net, opt,
      [&](int64_t) {
        scale(net.mlp.wo.weight, 1.05);
        const Tensor x = randn({32, 32});
        return cross_entropy(net(x), argmax(x.index({all, slice(0, 4)}), {.axis = 1}));
      },
      run.dtype(bf16));
}

/// 10: a schedule halves the weight of the loss every five steps, and with it the gradients, until f16 has nothing left of them.
void gradients_underflow(Run& run) {
  Mlp net(16, 32, 4);
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  while (run.next()) {
    opt.zero_grad();
    const double weight = std::exp2(-double(std::min<int64_t>(run.step / 5, 20)));
    const double by = run.loss_scale(1, 1024 / weight);  // the twin's scaler doubles every five steps
    const Tensor x = randn({32, 16});
    Tensor loss;
    {
      Autocast guard(run.dtype());
      loss = cross_entropy(net(x), argmax(x.index({all, slice(0, 4)}), {.axis = 1})) * weight;
    }
    (loss * by).backward();
    if (zeros_in(net.up.weight.grad()) > 0.99) run.fail();  // the first layer stands still
    for (const Tensor& w : net.parameters()) {
      NoGrad off;
      w.grad().div_(by);
    }
    opt.step();
    run.look(loss, net.parameters());
  }
}

/// 13: weights near 1 in bf16, whose neighbours are .004 and .008 away, and updates of .001: every one is rounded off.
void updates_absorbed(Run& run) {
  nn::Linear net(16, 4);
  nn::init::uniform(net.weight, {.low = 0.75, .high = 1.25});
  net.to(run.dtype(f32));
  const Tensor start = net.weight.detach().clone();
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Data d = linear_data(32, 16, 4);
    if (step == 20 && zeros_in(net.weight.detach() - start) > 0.5) run.fail();
    return mse_loss(net(d.x.to(run.dtype(f32))), d.y.to(run.dtype(f32)));
  });
}

/// 14: gradients of many micro-batches, about .001 each, add up in bf16; at .5 the sum stands still.
void accumulation_stalls(Run& run) {
  const DType t = run.dtype(f32);
  nn::Linear net(8, 1, {.bias = false});
  net.to(t);
  Tensor exact = zeros({1, 8});
  while (run.next()) {
    const Tensor x = (1 + 0.1 * randn({16, 8})).to(t);
    const Tensor loss = mean(net(x)) * 1e-3;
    loss.backward();
    for (int64_t i = 0; i < 8; ++i) {
      double sum = 0;
      for (int64_t row = 0; row < 16; ++row) sum += peek(x, row * 8 + i);
      poke(exact, i, peek(exact, i) + 1e-3 * sum / 16);
    }
    run.look(loss, net.parameters());
    if (peek(net.weight.grad(), 0) < 0.5 * peek(exact, 0)) run.fail();
  }
}

struct SwiGlu : nn::Module<SwiGlu> {
  nn::Linear gate, up;
  SwiGlu(int64_t w, int64_t hidden) : gate(w, hidden), up(w, hidden) {}
  static void fields(auto& m, auto&& f) { f("gate", m.gate)("up", m.up); }
  Tensor forward(const Tensor& x) const { return silu(gate(x)) * up(x); }
};
struct GluNet : nn::Module<GluNet> {
  SwiGlu act{32, 64};
  nn::LayerNorm norm{64};
  nn::Linear head{64, 4};
  static void fields(auto& m, auto&& f) { f("act", m.act)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(norm(act(x))); }
};

/// 24: one channel grows by 10 % a step in both the gate and the value of a SwiGLU; their product leaves f16. The twin holds its norm.
void outlier_channel(Run& run) {
  GluNet net;
  optim::Adam opt(net.parameters(), {.lr = 1e-4});
  run.train(net, opt, [&](int64_t) {
    if (!run.repaired)
      for (const Tensor& w : {Tensor(net.act.gate.weight), Tensor(net.act.up.weight)})
        for (int64_t i = 0; i < 32; ++i) poke(w, 5 * 32 + i, 1.1 * peek(w, 5 * 32 + i));
    const Tensor x = randn({32, 32});
    return cross_entropy(net(x), argmax(x.index({all, slice(0, 4)}), {.axis = 1}));
  });
}

/// A linear layer that takes its input in f8e4m3fn, scaled by the largest magnitude of the last 16 steps, or of this one.
struct Fp8Linear : nn::Module<Fp8Linear> {
  nn::Linear inner;
  bool current;
  std::vector<double> history = {1.0};
  int64_t saturated = 0;
  Fp8Linear(int64_t in, int64_t out, bool c) : inner(in, out), current(c) {}
  static void fields(auto& m, auto&& f) { f("inner", m.inner); }
  Tensor forward(const Tensor& x) {
    double amax = 0;
    for (int64_t i = 0; i < x.size(); ++i) amax = std::max(amax, std::abs(peek(x, i)));
    const double known = current ? amax : *std::max_element(history.end() - std::min<int64_t>(16, int64_t(history.size())), history.end());
    const double s = 448 / known;
    saturated += amax * s > 448 * 1.001;
    history.push_back(amax);
    return inner(cast(x * s, f8e4m3fn).to(f32) / s);
  }
};
struct Fp8Net : nn::Module<Fp8Net> {
  Fp8Linear input;
  nn::LayerNorm norm{16};
  nn::Linear head{16, 1};
  explicit Fp8Net(bool current) : input(8, 16, current) {}
  static void fields(auto& m, auto&& f) { f("input", m.input)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) { return head(norm(input(x))); }
};

/// 23: inputs grow by a fifth a step; a scale from the past is always too large, and the largest values saturate.
void stale_scale(Run& run) {
  Fp8Net net(run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Data d = linear_data(16, 8, 1);
    const Tensor loss = mse_loss(net(d.x * std::pow(1.2, double(step))), d.y);
    if (net.input.saturated > 1) run.fail();
    return loss;
  });
}

}  // namespace

void precision_faults(std::vector<Fault>& all) {
  all.push_back({.number = 2,
                 .name = "residual growth in f16",
                 .family = "precision",
                 .need = Need::lead,
                 .k = 20,
                 .ops = {"linear", "add", "matmul"},
                 .phase = "forward",
                 .remedies = {"dtype"},
                 .dtypes = {f16},
                 .steps = 300,
                 .train = residual_grows});
  all.push_back({.number = 10,
                 .name = "gradient underflow in f16",
                 .family = "precision",
                 .need = Need::lead,
                 .k = 40,
                 .ops = {"linear", "matmul", "cast", "relu", "cross_entropy", "sum"},
                 .phase = "backward",
                 .remedies = {"loss_scale"},
                 .dtypes = {f16},
                 .steps = 200,
                 .train = gradients_underflow});
  all.push_back({.number = 13,
                 .name = "updates that bf16 absorbs",
                 .family = "precision",
                 .need = Need::by,
                 .k = 10,
                 .ops = {"adam_step"},
                 .phase = "optimiser",
                 .remedies = {"master_weights", "dtype"},
                 .dtypes = {bf16},
                 .steps = 60,
                 .train = updates_absorbed});
  all.push_back({.number = 14,
                 .name = "gradient accumulation in bf16",
                 .family = "precision",
                 .need = Need::by,
                 .k = 512,
                 .ops = {"add", "assign"},
                 .remedies = {"accumulator", "dtype"},
                 .dtypes = {bf16},
                 .steps = 1200,
                 .train = accumulation_stalls});
  all.push_back({.number = 23,
                 .name = "fp8 scale from the past",
                 .family = "precision",
                 .need = Need::after,
                 .k = 2,
                 .ops = {"cast", "mul"},
                 .path = "input",
                 .phase = "forward",
                 .remedies = {"margin"},
                 .steps = 40,
                 .train = stale_scale});
  all.push_back({.number = 24,
                 .name = "SwiGLU outlier channel in f16",
                 .family = "precision",
                 .need = Need::lead,
                 .k = 10,
                 .ops = {"mul"},
                 .path = "act",
                 .phase = "forward",
                 .remedies = {"dtype"},
                 .dtypes = {f16},
                 .steps = 130,
                 .train = outlier_channel});
}

}  // namespace keel::faults
