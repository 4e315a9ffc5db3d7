// Faults of normalisation and distances: cancelling variances, vanishing denominators, gradients of roots at zero.
#include <cmath>
#include <limits>

#include "families.h"

namespace keel::faults {
namespace {

Tensor rows_mean(const Tensor& x) { return mean(x, {.axis = -1, .keepdim = true}); }

/// Layer norm as one writes it oneself.
struct Norm : nn::Module<Norm> {
  double eps;
  bool one_pass;     // E[x^2] - E[x]^2
  DType type = f32;  // it computes in
  explicit Norm(double e, bool in_one_pass = false) : eps(e), one_pass(in_one_pass) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& features) const {
    const Tensor x = features.to(type), m = rows_mean(x), c = x - m;
    Tensor v = one_pass ? rows_mean(square(x)) - square(m) : rows_mean(square(c));
    if (eps > 0) v = v + eps;
    return (c * rsqrt(v)).to(f32);
  }
};
struct Net : nn::Module<Net> {
  nn::Linear features;
  Norm norm;
  nn::Linear head;
  Net(int64_t in, int64_t width, const Norm& n, bool bias = true) : features(in, width, {.bias = bias}), norm(n), head(width, 1) {}
  static void fields(auto& m, auto&& f) { f("features", m.features)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(norm(features(x))); }
};

/// 3: features keep a deviation of .1 while their offset grows by half a step; the squares cancel and the variance becomes negative.
void variance_by_squares(Run& run) {
  Net net(16, 32, Norm(0, !run.repaired));
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  const Data d = linear_data(32, 16, 1);
  scale(net.features.weight, 0.17);
  double offset = 1;
  run.train(net, opt, [&](int64_t) {
    shift(net.features.bias, offset * 0.5), offset *= 1.5;
    return mse_loss(net(d.x), d.y);
  });
}

/// 4: inputs fade so that the features' variance halves a step, until it is 0 and rsqrt infinite.
void vanishing_variance(Run& run) {
  Net net(16, 32, Norm(run.epsilon(0, 1e-5)), false);
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  const Data d = linear_data(32, 16, 1);
  run.train(net, opt, [&](int64_t) {
    scale(d.x, std::sqrt(0.5));
    return mse_loss(net(d.x), d.y);
  });
}

struct Distance : nn::Module<Distance> {
  double eps;
  explicit Distance(double e) : eps(e) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& a, const Tensor& b) const {
    const Tensor s = sum(square(a - b), {.axis = -1});
    return sqrt(eps > 0 ? s + eps : s);
  }
};
struct Pairs : nn::Module<Pairs> {
  nn::Weight points{randn({8, 4})};
  Distance distance;
  explicit Pairs(double eps) : distance(eps) {}
  static void fields(auto& m, auto&& f) { f("points", m.points)("distance", m.distance); }
  Tensor forward(const Tensor& centre) const { return 0.5 * sum(square(distance(points, centre))); }
};

/// 15: pairs that a loss pulls together halve their distance a step; at 0 the gradient of the root is 0 / 0.
void root_at_zero(Run& run) {
  Pairs net(run.epsilon(0, 1e-8));
  optim::SGD opt(net.parameters(), {.lr = 0.5});
  const Tensor centre = zeros({4});
  run.train(net, opt, [&](int64_t) { return net(centre); });
}

struct RowNorm : nn::Module<RowNorm> {
  double eps;
  explicit RowNorm(double e) : eps(e) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {
    const Tensor s = sum(square(x), {.axis = -1, .keepdim = true});
    return sqrt(eps > 0 ? s + eps : s);
  }
};
struct Lengths : nn::Module<Lengths> {
  nn::Linear features{8, 16, {.bias = false}};
  RowNorm norm;
  explicit Lengths(double eps) : norm(eps) {}
  static void fields(auto& m, auto&& f) { f("features", m.features)("norm", m.norm); }
  Tensor forward(const Tensor& x) const { return norm(features(x)); }
};

/// 16: a row of padding at step 50: its norm is 0, and the gradient of the norm NaN.
void norm_of_zero_row(Run& run) {
  Lengths net(run.epsilon(0, 1e-6));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    Tensor x = randn({16, 8});
    if (step >= 50) x[{3}] = 0;
    return mean(square(net(x) - 1));
  });
}

struct Cosine : nn::Module<Cosine> {
  bool apart;  // normalise both sides on their own, with an epsilon under the root
  explicit Cosine(bool a) : apart(a) {}
  static void fields(auto&, auto&&) {}
  Tensor length(const Tensor& a) const {
    const Tensor s = sum(square(a), {.axis = -1, .keepdim = true});
    return sqrt(apart ? s + 1e-6 : s);
  }
  Tensor forward(const Tensor& a, const Tensor& b) const {
    if (apart) return sum(a / length(a) * (b / length(b)), {.axis = -1});
    return sum(a * b, {.axis = -1}) / maximum(length(a) * length(b), double(std::numeric_limits<float>::min())).squeeze(-1);
  }
};
struct Twins : nn::Module<Twins> {
  nn::Linear features{8, 16, {.bias = false}};
  Cosine cosine;
  explicit Twins(bool apart) : cosine(apart) {}
  static void fields(auto& m, auto&& f) { f("features", m.features)("cosine", m.cosine); }
  Tensor forward(const Tensor& a, const Tensor& b) const { return cosine(features(a), features(b)); }
};

/// 17: cosine similarity with an epsilon that is the smallest normal number, and at step 30 a row of zeros.
void cosine_of_zero(Run& run) {
  Twins net(run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    Tensor a = randn({16, 8}), b = a + 0.3 * randn({16, 8});
    if (step >= 30) a[{5}] = 0;
    return mean(1 - net(a, b));
  });
}

/// 18: an epsilon that f16 cannot hold; nothing happens until, at step 30, a row is constant. A sound one also leaves the gradient, which
/// holds its power -3/2, below 65504.
void epsilon_too_small(Run& run) {
  Net net(16, 32, Norm(run.epsilon(1e-12, 1e-3)), false);
  net.norm.type = run.dtype();
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        Data d = linear_data(32, 16, 1);
        if (step >= 30) d.x[{7}] = 0;  // an empty example: all features equal
        return mse_loss(net(d.x), d.y);
      },
      f32);
}

}  // namespace

void norm_faults(std::vector<Fault>& all) {
  all.push_back({.number = 3,
                 .name = "variance by E[x^2] - E[x]^2",
                 .family = "norms",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"sub"},
                 .path = "norm",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .steps = 40,
                 .train = variance_by_squares});
  all.push_back({.number = 4,
                 .name = "division by a vanishing variance",
                 .family = "norms",
                 .need = Need::lead,
                 .k = 40,
                 .ops = {"rsqrt"},
                 .path = "norm",
                 .phase = "forward",
                 .remedies = {"epsilon"},
                 .dtypes = {f32},
                 .steps = 300,
                 .train = vanishing_variance});
  all.push_back({.number = 15,
                 .name = "gradient of sqrt at 0",
                 .family = "norms",
                 .need = Need::lead,
                 .k = 40,
                 .ops = {"sqrt"},
                 .path = "distance",
                 .phase = "",
                 .remedies = {"epsilon", "stable_op"},
                 .dtypes = {f32},
                 .steps = 160,
                 .train = root_at_zero});
  all.push_back({.number = 16,
                 .name = "gradient of the norm of a zero row",
                 .family = "norms",
                 .need = Need::same_step,
                 .ops = {"sqrt", "div", "mul"},
                 .path = "norm",
                 .phase = "",
                 .remedies = {"epsilon", "stable_op"},
                 .dtypes = {f32, bf16, f16},
                 .steps = 110,
                 .train = norm_of_zero_row});
  all.push_back({.number = 17,
                 .name = "cosine similarity of a zero vector",
                 .family = "norms",
                 .need = Need::same_step,
                 .ops = {"sqrt", "div", "mul"},
                 .path = "cosine",
                 .phase = "",
                 .remedies = {"epsilon", "stable_op"},
                 .steps = 70,
                 .train = cosine_of_zero});
  all.push_back({.number = 18,
                 .name = "layer norm whose epsilon f16 cannot hold",
                 .family = "norms",
                 .need = Need::by,
                 .k = 1,
                 .ops = {"add", "rsqrt"},
                 .path = "norm",
                 .phase = "forward",
                 .remedies = {"epsilon"},
                 .dtypes = {f16},
                 .steps = 70,
                 .train = epsilon_too_small});
}

}  // namespace keel::faults
