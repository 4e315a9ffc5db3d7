// Fifth set, distances, graphs and slopes: transport whose kernel vanishes, distances by expansion, a node without neighbours, the slope
// of a gradient's norm, and a fractional power of silence.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// x, or x + eps where there is one.
Tensor guarded(const Tensor& x, double eps) { return eps > 0 ? x + eps : x; }

/// Entropic transport between two sets of points, five rounds of Sinkhorn's iteration on the kernel itself.
struct Transport : nn::Module<Transport> {
  double blur = 0.5, eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& a, const Tensor& b) const {
    const int64_t n = a.shape()[0];
    const Tensor cost = mean(square(a.unsqueeze(1) - b.unsqueeze(0)), {.axis = 2}), kernel = exp(cost * (-1 / blur));
    Tensor u = ones({n, 1}), v = ones({n, 1});
    for (int i = 0; i < 5; ++i) {
      u = (1.0 / double(n)) / guarded(matmul(kernel, v), eps);
      v = (1.0 / double(n)) / guarded(matmul(kernel.transpose(), u), eps);
    }
    return sum(u * kernel * v.transpose() * cost);
  }
};

struct TransportCritic : nn::Module<TransportCritic> {
  nn::Linear hidden, embed;
  Transport transport;
  bool normalised = false;
  TransportCritic(int64_t in, int64_t width, int64_t out) : hidden(in, width), embed(width, out) {}
  static void fields(auto& m, auto&& f) { f("hidden", m.hidden)("embed", m.embed)("transport", m.transport); }
  Tensor points(const Tensor& x) const {
    const Tensor e = embed(tanh(hidden(x)));
    return normalised ? rms_norm(e) : e;
  }
  Tensor forward(const Tensor& real, const Tensor& made) const { return transport(points(real), points(made)); }
};

/// 73: a critic pushes two sets of points apart, as far as it can. exp(-cost / blur) goes to 0 for all pairs of a point, and the scaling
/// divides by their sum: first the slope of that overflows, then the quotient. The twin normalises what it embeds.
void kernel_vanishes(Run& run) {
  TransportCritic critic(8, 32, 8);
  critic.normalised = run.repaired;
  critic.transport.eps = run.epsilon(0, 0);
  optim::Adam opt(critic.parameters(), {.lr = 2e-3});
  run.train(critic, opt, [&](int64_t) {
    const Tensor real = randn({16, 8}) + 1, made = randn({16, 8}) - 1;
    return -1 * critic(real, made);
  });
}

/// Distances between rows: |a|^2 + |b|^2 - 2 ab, or from the differences.
struct Distance : nn::Module<Distance> {
  bool direct = false;
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& a, const Tensor& b) const {
    if (direct) return sqrt(sum(square(a - b), {.axis = 1}) + 1e-6);
    const Tensor squared = sum(a * a, {.axis = 1}) + sum(b * b, {.axis = 1}) - 2 * sum(a * b, {.axis = 1});
    return sqrt(guarded(squared, eps));
  }
};

struct Descriptor : nn::Module<Descriptor> {
  nn::Linear embed;
  Distance distance;
  Descriptor(int64_t in, int64_t width) : embed(in, width, {.bias = false}) {}
  static void fields(auto& m, auto&& f) { f("embed", m.embed)("distance", m.distance); }
  Tensor forward(const Tensor& a, const Tensor& b) const { return distance(embed(a), embed(b)); }
};

/// 74: two views of a patch differ in what a descriptor learns to ignore. The better it gets, the more the expanded square of their
/// distance cancels; at last rounding makes it 0, where the root has no slope, or negative, where there is no root.
void expanded_distance(Run& run) {
  Descriptor net(16, 32);
  net.distance.direct = run.repaired;
  net.distance.eps = run.epsilon(0, 0);
  optim::Adam opt(net.parameters(), {.lr = 2e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor content = 5 * randn({32, 8}), other = 5 * randn({32, 8});
    const Tensor a = concat({content, randn({32, 8})}, {.axis = 1}), b = concat({content, randn({32, 8})}, {.axis = 1});
    const Tensor c = concat({other, randn({32, 8})}, {.axis = 1});
    return mean(relu(10 + net(a, b) - net(a, c))) + mean(net(a, b));
  });
}

/// Sum over neighbours, each way divided by the root of the degree.
struct GraphConv : nn::Module<GraphConv> {
  nn::Linear mix;
  bool self_loops = false;
  double eps = 0;
  GraphConv(int64_t in, int64_t out) : mix(in, out) {}
  static void fields(auto& m, auto&& f) { f("mix", m.mix); }
  Tensor forward(const Tensor& x, const Tensor& edges) const {
    const Tensor a = self_loops ? edges + eye(edges.shape()[0]) : edges;
    const Tensor d = rsqrt(guarded(sum(a, {.axis = 1, .keepdim = true}), eps));
    return matmul(d * a * d.transpose(), mix(x));
  }
};

struct GraphNet : nn::Module<GraphNet> {
  GraphConv first, second;
  GraphNet(int64_t in, int64_t width, int64_t classes) : first(in, width), second(width, classes) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("second", m.second); }
  Tensor forward(const Tensor& x, const Tensor& edges) const { return second(relu(first(x, edges)), edges); }
};

/// 76: at step 40 the sampled graph holds a node without neighbours: the root of its degree divides by 0, and infinity meets the zeros of
/// its row.
void isolated_node(Run& run) {
  GraphNet net(8, 16, 3);
  net.first.self_loops = net.second.self_loops = run.repaired;
  net.first.eps = net.second.eps = run.epsilon(0, 0);
  optim::Adam opt(net.parameters(), {.lr = 5e-3});
  run.train(net, opt, [&](int64_t step) {
    const int64_t n = 24;
    const Tensor chosen = (rand({n, n}) < 0.1).to(f32), place = arange(n);
    const Tensor ring = ((place.unsqueeze(0) - place.unsqueeze(1)) % n == 1).to(f32);
    Tensor edges = minimum(chosen + chosen.transpose() + ring + ring.transpose(), 1) * (1 - eye(n));
    if (step == 40) edges = edges * (place != 7).to(f32) * (place != 7).to(f32).unsqueeze(1);
    const Tensor x = randn({n, 8});
    return cross_entropy(net(x, edges), (x.index({all, 0}) > 0).to(i64));
  });
}

/// (|g| - 1)^2 for the gradient g of a critic at each sample.
struct SlopePenalty : nn::Module<SlopePenalty> {
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& g) const { return mean(square(sqrt(guarded(sum(g * g, {.axis = 1}), eps)) - 1)); }
};

struct Critic : nn::Module<Critic> {
  nn::Linear up, down;
  SlopePenalty penalty;
  Critic(int64_t in, int64_t width) : up(in, width, {.bias = false}), down(width, 1, {.bias = false}) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("down", m.down)("penalty", m.penalty); }
  Tensor forward(const Tensor& x) const { return down(relu(up(x))); }
};

/// 80: Wasserstein critic with a penalty on its slope. At step 35 a real and a made sample are both blank, so that all units rest, the
/// slope is exactly 0, and the second backward pass divides by its norm.
void slope_of_a_blank(Run& run) {
  Critic critic(12, 24);
  critic.penalty.eps = run.epsilon(0, 1e-8);
  optim::Adam opt(critic.parameters(), {.lr = 1e-3});
  run.train(critic, opt, [&](int64_t step) {
    Tensor real = randn({16, 12}) + 0.5, made = randn({16, 12});
    if (step == 35) real[{5}] = 0, made[{5}] = 0;
    Tensor between = lerp(made, real, rand({16, 1})).detach();
    between.requires_grad_();
    const Tensor slope = grad(sum(critic(between)), {between}, {.create_graph = true})[0];
    return mean(critic(made)) - mean(critic(real)) + 10 * critic.penalty(slope);
  });
}

/// Energies to a fractional power, near to how loud they sound.
struct Compress : nn::Module<Compress> {
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& energy) const { return pow(guarded(energy, eps), 0.3); }
};

struct Listener : nn::Module<Listener> {
  nn::Linear filters, head;
  Compress compress;
  Listener(int64_t samples, int64_t bands, int64_t classes) : filters(samples, bands, {.bias = false}), head(bands, classes) {}
  static void fields(auto& m, auto&& f) { f("filters", m.filters)("head", m.head)("compress", m.compress); }
  Tensor forward(const Tensor& x) const { return head(compress(square(filters(x)))); }
};

/// 81: at step 45 a frame of digital silence: its energies are 0, where the slope of x^0.3 is infinite.
void power_of_silence(Run& run) {
  Listener net(24, 16, 3);
  net.compress.eps = run.epsilon(0, 1e-5);
  optim::Adam opt(net.parameters(), {.lr = 2e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor y = randint(0, 3, {32});
    Tensor x = randn({32, 24}) * (1 + y.to(f32)).unsqueeze(1);
    if (step == 45) x[{9}] = 0;
    return cross_entropy(net(x), y);
  });
}

}  // namespace

void fifth_geometry(std::vector<Fault>& all) {
  all.push_back({.number = 73,
                 .name = "transport kernel underflows",
                 .family = "transport",
                 .need = Need::lead,
                 .k = 8,
                 .ops = {"div", "exp"},
                 .path = "transport",
                 .remedies = {"stable_op", "epsilon"},
                 .steps = 300,
                 .train = kernel_vanishes});
  all.push_back({.number = 74,
                 .name = "expanded distance turns negative",
                 .family = "metric",
                 .need = Need::lead,
                 .k = 6,
                 .ops = {"sqrt", "sub"},
                 .path = "distance",
                 .remedies = {"stable_op", "epsilon"},
                 .steps = 400,
                 .train = expanded_distance});
  all.push_back({.number = 76,
                 .name = "node without neighbours",
                 .family = "graph",
                 .need = Need::same_step,
                 .ops = {"rsqrt"},
                 .path = "first",
                 .phase = "forward",
                 .remedies = {"stable_op", "epsilon", "data"},
                 .steps = 100,
                 .train = isolated_node});
  all.push_back({.number = 80,
                 .name = "slope penalty of a blank sample",
                 .family = "adversarial",
                 .need = Need::same_step,
                 .ops = {"sqrt"},
                 .path = "SlopePenalty",
                 .phase = "backward",
                 .remedies = {"stable_op", "epsilon"},
                 .steps = 90,
                 .train = slope_of_a_blank});
  all.push_back({.number = 81,
                 .name = "fractional power of silence",
                 .family = "audio",
                 .need = Need::same_step,
                 .ops = {"pow"},
                 .path = "compress",
                 .phase = "backward",
                 .remedies = {"stable_op", "epsilon"},
                 .steps = 110,
                 .train = power_of_silence});
}

}  // namespace keel::faults
