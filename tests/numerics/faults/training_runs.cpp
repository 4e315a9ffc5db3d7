// Faults of long runs and of half precision kept by hand: what was only named by somebody else before it was written here.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Pool : nn::Module<Pool> {
  bool stable;
  DType type;
  Pool(bool s, DType t) : stable(s), type(t) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {  // [batch, length, 4]
    if (stable) return mean(x, {.axis = 1});
    return (sum(x.to(type), {.axis = 1}) / double(x.size(1))).to(f32);
  }
};
struct Summary : nn::Module<Summary> {
  nn::Linear up{4, 8}, down{8, 1};
  Pool pool;
  Summary(bool stable, DType t) : pool(stable, t) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("pool", m.pool)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(pool(relu(up(x)))); }
};

/// 59: documents are averaged as a sum in f16 that is divided afterwards, and documents lengthen.
void sum_of_long_rows(Run& run) {
  Summary net(run.repaired, run.dtype());
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        const Tensor x = rand({2, 200 * step, 4}) * 10 + 5;
        return mse_loss(net(x), mean(x.index({all, all, slice(0, 1)}), {.axis = 1}) * 0.1);
      },
      f32);
}

struct Unit : nn::Module<Unit> {
  nn::Linear input{2, 8}, hidden{8, 8, {.bias = false}};
  static void fields(auto& m, auto&& f) { f("input", m.input)("hidden", m.hidden); }
  Tensor forward(const Tensor& x, const Tensor& h) const { return relu(input(x) + hidden(h)); }
};
struct Adder : nn::Module<Adder> {
  Unit cell;
  nn::Linear head{8, 1};
  static void fields(auto& m, auto&& f) { f("cell", m.cell)("head", m.head); }
  Tensor forward(const Tensor& x) const {  // [length, batch, 2]
    Tensor h = zeros({x.size(1), 8});
    for (int64_t t = 0; t < x.size(0); ++t) h = cell(x[t], h);
    return head(h);
  }
};

/// 60: a recurrence of relu that starts at the identity adds up sequences that lengthen, and nobody clips its gradient.
void recurrence_without_clipping(Run& run) {
  Adder net;
  net.cell.hidden.weight.detach().copy_(eye(8));
  if (run.repaired && run.clip == 0) run.clip = 0.1;
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = rand({20 + step, 8, 2});
    return mse_loss(net(x), sum(x.index({all, all, slice(0, 1)}), {.axis = 0}) * 0.1);
  });
}

/// 61: Adam by hand with f16 state: the squares of gradients near .001 are below the smallest number of f16, and an epsilon of 1e-7 is all
/// that a step is divided by.
void squares_vanish_in_f16(Run& run) {
  const DType state = run.dtype(f32);
  const double eps = run.epsilon(1e-7, 1e-8);
  nn::Linear net(8, 4);
  Tensors weights = net.parameters(), m, v;
  for (const Tensor& w : weights) m.push_back(zeros(w.shape(), {.dtype = state})), v.push_back(zeros(w.shape(), {.dtype = state}));
  double first = 0;
  while (run.next()) {
    net.zero_grad();
    const Data d = linear_data(16, 8, 4);
    const Tensor loss = 0.002 * mse_loss(net(d.x), d.y);
    loss.backward();
    NoGrad off;
    for (int i = 0; i < weights.size(); ++i) {
      const Tensor g = weights[i].grad().to(state);
      m[i] = 0.9 * m[i] + 0.1 * g, v[i] = 0.999 * v[i] + 0.001 * square(g);
      weights[i].sub_((1e-3 * m[i] / (sqrt(v[i]) + eps)).to(f32));
    }
    run.look(loss, weights);
    if (run.step == 1) first = peek(loss, 0);
    if (peek(loss, 0) > 100 * first) run.fail();
  }
}

struct ByChannel : nn::Module<ByChannel> {
  double eps;
  explicit ByChannel(double e) : eps(e) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {
    const Tensor spread = stddev(x, {.axis = 0, .keepdim = true});
    return (x - mean(x, {.axis = 0, .keepdim = true})) / (eps > 0 ? spread + eps : spread);
  }
};
struct Sensors : nn::Module<Sensors> {
  ByChannel norm;
  Mlp net{8, 16, 1};
  explicit Sensors(double e) : norm(e) {}
  static void fields(auto& m, auto&& f) { f("norm", m.norm)("net", m.net); }
  Tensor forward(const Tensor& x) const { return net(norm(x)); }
};

/// 62: from step 40 on a sensor always says the same: its deviation over the batch is 0.
void constant_channel(Run& run) {
  Sensors net(run.epsilon(0, 1e-5));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    Data d = linear_data(16, 8, 1);
    if (step >= 40) d.x[{all, 3}] = 0.5;
    return mse_loss(net(d.x), d.y);
  });
}

struct Triplet : nn::Module<Triplet> {
  double eps;
  explicit Triplet(double e) : eps(e) {}
  static void fields(auto&, auto&&) {}
  Tensor apart(const Tensor& a, const Tensor& b) const {
    const Tensor squares = sum(square(a - b), {.axis = 1});
    return sqrt(eps > 0 ? squares + eps : squares);
  }
  Tensor forward(const Tensor& anchor, const Tensor& like, const Tensor& unlike) const {
    return mean(relu(apart(anchor, like) - apart(anchor, unlike) + 1));
  }
};
struct Ranker : nn::Module<Ranker> {
  Mlp net{8, 16, 4};
  Triplet triplet;
  explicit Ranker(double e) : triplet(e) {}
  static void fields(auto& m, auto&& f) { f("net", m.net)("triplet", m.triplet); }
  Tensor forward(const Tensor& a, const Tensor& b, const Tensor& c) const { return triplet(net(a), net(b), net(c)); }
};

/// 63: a triplet whose positive example was drawn to be the anchor itself.
void anchor_is_its_own_positive(Run& run) {
  Ranker net(run.epsilon(0, 1e-6));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor a = randn({16, 8}), b = a + 0.3 * randn({16, 8});
    if (step == 30) b[5].copy_(a[5]);
    return net(a, b, randn({16, 8}));
  });
}

struct Likelihood : nn::Module<Likelihood> {
  bool bounded;
  DType type;
  Likelihood(bool b, DType t) : bounded(b), type(t) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& centre, const Tensor& log_var, const Tensor& y) const {
    const Tensor s = (bounded ? maximum(log_var, -6.0) : log_var).to(type);
    return 0.5 * mean(exp(-s).to(f32) * square(y - centre) + s.to(f32));
  }
};
struct Forecast : nn::Module<Forecast> {
  nn::Linear centre{8, 2};
  nn::Weight log_var{zeros({2})};
  Likelihood likelihood;
  Forecast(bool bounded, DType t) : likelihood(bounded, t) {}
  static void fields(auto& m, auto&& f) { f("centre", m.centre)("log_var", m.log_var)("likelihood", m.likelihood); }
  Tensor forward(const Tensor& x, const Tensor& y) const { return likelihood(centre(x), log_var, y); }
};

/// 64: a learned variance of targets without noise: it falls with the error until exp(-log variance) leaves f16.
void variance_of_exact_targets(Run& run) {
  Forecast net(run.repaired, run.dtype());
  optim::Adam opt({{.params = net.centre.parameters(), .lr = 1e-3}, {.params = {net.log_var}}}, {.lr = 2e-2});
  const Tensor truth = randn({8, 2}) * 0.35;
  run.train(
      net, opt,
      [&](int64_t) {
        const Tensor x = randn({64, 8});
        return net(x, matmul(x, truth));
      },
      f32);
}

/// 65: gradients of ever more small batches are added up in f16, under a constant loss scale, and divided afterwards.
void gathered_before_divided(Run& run) {
  nn::Linear net(16, 1);
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  const DType type = run.dtype();
  const Tensor truth = randn({16, 1});
  while (run.next()) {
    opt.zero_grad();
    const int64_t batches = 1 + run.step / 3;
    const double by = run.loss_scale(2048, 2048);
    Tensors sums;
    for (const Tensor& w : net.parameters()) sums.push_back(zeros(w.shape(), {.dtype = type}));
    Tensor loss;
    for (int64_t k = 0; k < batches; ++k) {
      const Tensor x = randn({8, 16}), share = run.repaired ? full({}, by / 8 / double(batches)) : full({}, by);
      loss = mse_loss(net(x), matmul(x, truth) + 2);
      net.zero_grad();
      (loss * share).backward();
      NoGrad off;
      for (int i = 0; i < sums.size(); ++i) sums[i].add_(net.parameters()[i].grad().to(type));
    }
    NoGrad off;
    for (int i = 0; i < sums.size(); ++i) {
      if (!finite(sums[i])) run.fail();
      net.parameters()[i].grad().copy_(sums[i].to(f32) / (run.repaired ? by / 8 : by * double(batches)));
    }
    opt.step();
    run.look(loss, net.parameters());
  }
}

struct Counts : nn::Module<Counts> {
  bool bounded;
  explicit Counts(bool b) : bounded(b) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& z, const Tensor& y) const { return mean(exp(bounded ? minimum(z, 20.0) : z) - y * z); }
};
struct Poisson : nn::Module<Poisson> {
  nn::Linear line{4, 1};
  Counts counts;
  explicit Poisson(bool b) : counts(b) {}
  static void fields(auto& m, auto&& f) { f("line", m.line)("counts", m.counts); }
  Tensor forward(const Tensor& x, const Tensor& y) const { return counts(line(x), y); }
};

/// 66: counts as exp of a linear score, while one feature, a running total, grows by 6 % a step. The twin divides by its mean, and keeps
/// scores below 20.
void counts_of_a_drifting_feature(Run& run) {
  Poisson net(run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-4});
  net.line.weight.detach().copy_(full({1, 4}, 0.3));
  run.clip = run.clip > 0 ? run.clip : 1;
  run.train(net, opt, [&](int64_t step) {
    Tensor x = randn({32, 4});
    x[{all, 2}] = rand({32}) * (run.repaired ? 1.0 : std::pow(1.06, double(step)));
    return net(x, exp(0.3 * x.index({all, slice(0, 1)})));
  });
}

}  // namespace

void training_run_faults(std::vector<Fault>& all) {
  const auto row = [&](int number, const char* name, Need need, int64_t k, std::vector<std::string> ops, std::string path,
                       std::vector<std::string> remedies, std::vector<std::string> owed, DType t, int64_t steps, void (*train)(Run&)) {
    all.push_back({.number = number,
                   .name = name,
                   .family = "long runs",
                   .need = need,
                   .k = k,
                   .ops = std::move(ops),
                   .path = std::move(path),
                   .remedies = std::move(remedies),
                   .owed = std::move(owed),
                   .dtypes = {t},
                   .steps = steps,
                   .train = train});
  };
  row(59, "mean of long rows as a sum in f16", Need::lead, 10, {"sum"}, "pool", {"stable_op", "dtype"}, {"headroom", "lint"}, f16, 120,
      sum_of_long_rows);
  row(60, "recurrence that nobody clips", Need::lead, 1, {"linear", "matmul", "add", "relu", "sgd_step", "mse_loss"}, "",
      {"clip", "learning_rate", "stable_op"}, {"headroom", "growth", "gradient norm"}, f32, 500, recurrence_without_clipping);
  row(61, "squares that vanish in f16", Need::by, 3, {"square", "mul", "sqrt", "add", "div"}, "", {"epsilon", "dtype", "stable_op"},
      {"underflow", "denominator", "lint"}, f16, 120, squares_vanish_in_f16);
  row(62, "a channel that is constant", Need::same_step, 0, {"div", "stddev"}, "norm", {"epsilon", "stable_op", "data"},
      {"nonfinite", "denominator"}, f32, 80, constant_channel);
  row(63, "an anchor that is its own positive", Need::same_step, 0, {"sqrt"}, "triplet", {"epsilon", "stable_op"},
      {"nonfinite", "argument"}, f32, 60, anchor_is_its_own_positive);
  row(64, "learned variance of exact targets", Need::lead, 8, {"exp"}, "likelihood", {"stable_op", "dtype"}, {"argument", "headroom"}, f16,
      3000, variance_of_exact_targets);
  row(65, "gradients gathered before they are divided", Need::lead, 5, {"add"}, "", {"stable_op", "dtype", "loss_scale", "accumulator"},
      {"headroom"}, f16, 400, gathered_before_divided);
  row(66, "counts of a feature that drifts", Need::lead, 5, {"exp", "linear"}, "counts", {"stable_op"}, {"argument", "headroom"}, f32, 300,
      counts_of_a_drifting_feature);
}

}  // namespace keel::faults
