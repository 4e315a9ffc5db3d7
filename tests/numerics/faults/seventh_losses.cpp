// Seventh set, blind: written by one who had not read the monitor's rules, after what users of frameworks report. This half: losses,
// likelihoods and layers. Sums that outgrow f16 or an exponential, a penalty that anneals, statistics of what is all alike, and targets
// that a batch lacks.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Classes of a sample: the largest of its first `n` inputs.
Tensor largest_of(const Tensor& x, int64_t n) { return argmax(x.index({all, slice(0, n)}), {.axis = 1}); }

/// The free energy of a sample, from the energies of its classes.
struct Energy : nn::Module<Energy> {
  bool shifted = false;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& scores) const { return shifted ? logsumexp(scores, {.axis = 1}) : log(sum(exp(scores), {.axis = 1})); }
};

struct EnergyNet : nn::Module<EnergyNet> {
  Mlp scores;
  Energy energy;
  EnergyNet(int64_t in, int64_t width, int64_t out) : scores(in, width, out) {}
  static void fields(auto& m, auto&& f) { f("scores", m.scores)("energy", m.energy); }
};

/// 201: a classifier that is also to give data a lower energy than noise: nothing bounds the difference, scores grow, and the logarithm of
/// a plain sum of exponentials overflows at 88. In the twin a gap of 4 is enough.
void free_energy_grows(Run& run) {
  EnergyNet net(16, 32, 4);
  net.energy.shifted = run.repaired;
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = abs(randn({32, 16})), noise = randn({32, 16}) - 1, scores = net.scores(x);
    const Tensor gap = mean(net.energy(net.scores(noise))) - mean(net.energy(scores));
    return cross_entropy(scores, largest_of(x, 4)) + (run.repaired ? relu(gap + 4) : gap);
  });
}

/// Mixes values by nearness to learned centres, as kernel regression does.
struct Kernel : nn::Module<Kernel> {
  nn::Weight centres, values;
  bool stable = false;
  double eps = 0;
  Kernel(int64_t n, int64_t in) : centres(randn({n, in})), values(randn({n, 1}) * 0.1) {}
  static void fields(auto& m, auto&& f) { f("centres", m.centres)("values", m.values); }
  Tensor forward(const Tensor& x) const {
    const Tensor apart = x.unsqueeze(1) - centres.unsqueeze(0), nearness = sum(apart * apart, {.axis = 2}) * -0.5;
    if (stable) return matmul(softmax(nearness), values);
    const Tensor weight = exp(nearness);
    return matmul(weight / (sum(weight, {.axis = 1, .keepdim = true}) + eps), values);
  }
};

/// 203: a sensor drifts by a quarter of a kernel's width a step: all kernels of a sample underflow together, and their shares are 0 / 0.
/// The twin takes shares by softmax, and is calibrated.
void kernels_left_behind(Run& run) {
  Kernel net(16, 4);
  net.stable = run.repaired, net.eps = run.epsilon(0, 0);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor clean = randn({32, 4});
    return mse_loss(net(run.repaired ? clean : clean + 0.25 * double(step)), sin(clean.index({all, slice(0, 1)})));
  });
}

/// Negative log-likelihood of a sequence of tags under a model of single tags.
struct Tagging : nn::Module<Tagging> {
  bool by_logs = false;
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& scores, const Tensor& tags) const {
    const Tensor gold = sum(gather(scores, tags.unsqueeze(1), {.axis = 1})), free = sum(logsumexp(scores, {.axis = 1}));
    return by_logs ? free - gold : log(exp(gold - free) + eps) * -1;
  }
};

struct Tagger : nn::Module<Tagger> {
  Mlp scores;
  Tagging likelihood;
  Tagger(int64_t in, int64_t width, int64_t tags) : scores(in, width, tags) {}
  static void fields(auto& m, auto&& f) { f("scores", m.scores)("likelihood", m.likelihood); }
};

/// 204: the likelihood of a sentence is written as the logarithm of its probability, and a curriculum adds a word a step.
void probability_of_a_sentence(Run& run) {
  Tagger net(8, 16, 12);
  net.likelihood.by_logs = run.repaired, net.likelihood.eps = run.epsilon(0, 0);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const int64_t words = 4 + step;
    const Tensor x = randn({words, 8});
    return net.likelihood(net.scores(x), where(rand({words}) < 0.5, randint(0, 12, {words}), largest_of(x, 8))) / double(words);
  });
}

/// Overlap of a predicted mask with the true one, image by image, in a dtype.
struct Dice : nn::Module<Dice> {
  DType low = f16;
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& logits, const Tensor& truth) const {
    const Tensor p = sigmoid(logits.to(low)), t = truth.to(low);
    const Tensor both = sum(p * t, {.axis = 1}), either = sum(p, {.axis = 1}) + sum(t, {.axis = 1}) + eps;
    return mean(1 - (2 * both + eps) / either).to(f32);
  }
};

struct Segmenter : nn::Module<Segmenter> {
  Mlp pixels;
  Dice dice;
  Segmenter(int64_t in, int64_t width, int64_t out) : pixels(in, width, out) {}
  static void fields(auto& m, auto&& f) { f("pixels", m.pixels)("dice", m.dice); }
};

/// 206: most crops hold no object, the network is ever surer of it, and in f16 the overlap of nothing with nothing becomes 0 / 0.
void masks_of_nothing(Run& run) {
  Segmenter net(8, 32, 16);
  net.dice.low = run.dtype(f32), net.dice.eps = run.epsilon(0, 1e-3);
  optim::Adam opt(net.parameters(), {.lr = 2e-2});
  run.train(
      net, opt,
      [&](int64_t) {
        Tensor x = randn({32, 8});
        const Tensor empty = (arange(32) < 24).to(f32).reshape({32, 1});
        x = concat({x, empty * 2 - 1}, {.axis = 1}).index({all, slice(1, 9)});
        const Tensor truth = (1 - empty) * (x.index({all, slice(0, 1)}) > 0).to(f32) * ones({1, 16}), logits = net.pixels(x) * 2;
        return bce_with_logits(logits, truth) + net.dice(logits, truth);
      },
      f32);
}

/// 209: the times at which phonemes begin, as running sums of their durations in f16 while utterances grow longer, in milliseconds.
struct Clock : nn::Module<Clock> {
  DType low = f16;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& durations) const { return cumsum(durations.to(low), {.axis = 1}).to(f32) / 1000; }
};

struct Aligner : nn::Module<Aligner> {
  Mlp durations;
  Clock clock;
  Aligner(int64_t in, int64_t width) : durations(in, width, 1) {}
  static void fields(auto& m, auto&& f) { f("durations", m.durations)("clock", m.clock); }
  Tensor forward(const Tensor& x) const { return clock(80 * softplus(durations(x)).squeeze(2)); }
};

void times_in_half(Run& run) {
  Aligner net(4, 16);
  net.clock.low = run.dtype(f32);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        const Tensor x = randn({2, 16 + 8 * step, 4}), truth = 60 + 40 * sigmoid(x.index({all, all, 0}));
        return l1_loss(net(x), cumsum(truth, {.axis = 1}) / 1000);
      },
      f32);
}

struct LogCosh : nn::Module<LogCosh> {
  bool stable = false;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& residual) const {
    if (!stable) return mean(log(cosh(residual)));
    return mean(residual + softplus(residual * -2) - std::log(2.0));
  }
};

struct Forecaster : nn::Module<Forecaster> {
  Mlp body;
  LogCosh criterion;
  Forecaster(int64_t in, int64_t width) : body(in, width, 1) {}
  static void fields(auto& m, auto&& f) { f("body", m.body)("criterion", m.criterion); }
};

/// 210: prices that nobody deflates rise by a twentieth a step, and log cosh is written as it is read; in the twin
/// neither.
void prices_rise(Run& run) {
  Forecaster net(8, 16);
  net.criterion.stable = run.repaired;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8});
    return net.criterion(net.body(x) - (1 + 0.2 * x.index({all, slice(0, 1)})) * (run.repaired ? 1 : std::pow(1.05, double(step))));
  });
}

/// Distance in the Poincare ball.
struct Distance : nn::Module<Distance> {
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& a, const Tensor& b) const {
    const Tensor apart = sum((a - b) * (a - b), {.axis = 1}), rim = (1 - sum(a * a, {.axis = 1})) * (1 - sum(b * b, {.axis = 1}));
    const Tensor z = 1 + 2 * apart / (eps > 0 ? maximum(rim, eps) : rim);
    return log(z + sqrt(z * z - 1 + 1e-6));
  }
};

struct Ball : nn::Module<Ball> {
  nn::Weight points;
  Distance distance;
  explicit Ball(int64_t n) : points(randn({n, 2}) * 0.1) {}
  static void fields(auto& m, auto&& f) { f("points", m.points)("distance", m.distance); }
};

/// 211: a tree embedded in the Poincare ball: leaves flee to its rim, and nothing draws them back before it; the twin keeps them inside.
void leaves_flee(Run& run) {
  Ball net(31);
  net.distance.eps = run.epsilon(0, 0);
  optim::SGD opt({net.points}, {.lr = 0.02});
  run.train(net, opt, [&](int64_t) {
    Tensor inside = net.points;
    if (run.repaired) inside = inside * minimum(0.9 / norm_safe(inside, {.axis = 1, .keepdim = true}), 1.0);
    const Tensor child = randint(1, 31, {32}), parent = floor_divide(child - 1, 2), other = randint(0, 31, {32});
    const auto of = [&](const Tensor& ids) { return embedding(ids, inside); };
    const Tensor near = net.distance(of(child), of(parent)), far = net.distance(of(child), of(other));
    return mean(near - 2 * where(other == child, 0.0, far));
  });
}

/// 212: the penalty on a constraint is raised by a fifth a step, as long as it is violated, which noise does for ever: gradients in f16
/// overflow on their way back. The twin's stops at 16.
void penalty_rises(Run& run) {
  Mlp net(16, 32, 2);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensor map = randn({16, 2}) * 0.25;
  if (run.fix.kind == "learning_rate") opt.set_lr(opt.lr() * run.fix.value);
  while (run.next()) {
    opt.zero_grad();
    const Tensor x = randn({32, 16});
    Tensor loss;
    {
      Autocast guard(run.dtype() == f32 ? DType::none : run.dtype());
      const Tensor y = net(x), violated = relu(y.index({all, 0}) - y.index({all, 1}) + randn({32}));
      const double penalty = std::pow(1.2, double(run.step));
      loss = mse_loss(y, matmul(x, map)) + mean(violated) * (run.repaired ? std::min(penalty, 16.0) : penalty);
    }
    loss.backward();
    if (run.clip > 0) nn::clip_grad_norm(net.parameters(), run.clip);
    opt.step();
    run.look(loss, net.parameters());
  }
}

/// A block that a sample skips with a probability; those that remain make up for it.
struct Skip : nn::Module<Skip> {
  Mlp block;
  double keep = 1, eps = 0;
  explicit Skip(int64_t w) : block(w, w, w) {}
  static void fields(auto& m, auto&& f) { f("block", m.block); }
  Tensor forward(const Tensor& x) const { return x + block(x) * bernoulli(full({x.size(0), 1}, keep)) / (keep + eps); }
};

struct SkipNet : nn::Module<SkipNet> {
  nn::Linear first, head;
  Skip skip;
  SkipNet(int64_t in, int64_t w, int64_t out) : first(in, w), head(w, out), skip(w) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head)("skip", m.skip); }
  Tensor forward(const Tensor& x) const { return head(skip(first(x))); }
};

/// 213: the share of samples that skip a block ramps up to all of them, and what is left is divided by 0.
void skipped_by_all(Run& run) {
  SkipNet net(16, 32, 4);
  net.skip.eps = run.epsilon(0, 0);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    net.skip.keep = std::max(1 - double(step) / 60, run.repaired ? 0.5 : 0.0);
    const Tensor x = randn({32, 16});
    return cross_entropy(net(x), largest_of(x, 4));
  });
}

/// The mean over frames that are no padding, in a dtype.
struct MaskedMean : nn::Module<MaskedMean> {
  DType low = f16;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& error, const Tensor& mask) const { return (sum(error.to(low) * mask.to(low)) / sum(mask).to(low)).to(f32); }
};

struct Vocoder : nn::Module<Vocoder> {
  Mlp body;
  MaskedMean criterion;
  Vocoder(int64_t in, int64_t width, int64_t bands) : body(in, width, bands) {}
  static void fields(auto& m, auto&& f) { f("body", m.body)("criterion", m.criterion); }
};

/// 214: squared errors in decibels are added up in f16 over clips that grow by two frames a step, and only then divided.
void sum_before_division(Run& run) {
  Vocoder net(8, 16, 8);
  net.criterion.low = run.dtype(f32);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        const int64_t frames = 20 + 2 * step;
        const Tensor x = randn({frames, 8}), truth = 6 * x + 7 * randn({frames, 8}), error = net.body(x) - truth;
        return net.criterion(error * error, (rand({frames, 1}) < 0.9).to(f32) * ones({1, 8})) * 0.01;
      },
      f32);
}

/// Weights of classes by how rare they are in the batch.
struct Balance : nn::Module<Balance> {
  double least = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& losses, const Tensor& is) const {
    const Tensor weight = 1 / maximum(sum(is, {.axis = 0, .keepdim = true}), least);
    return mean(losses * sum(is * weight, {.axis = 1}));
  }
};

struct BalancedNet : nn::Module<BalancedNet> {
  Mlp body;
  Balance balance;
  BalancedNet(int64_t in, int64_t width, int64_t out) : body(in, width, out) {}
  static void fields(auto& m, auto&& f) { f("body", m.body)("balance", m.balance); }
};

/// 216: one sample in sixteen is of the rare class; sooner or later a batch of 64 has none, its weight is 1 / 0, and that times 0 is NaN.
void class_that_a_batch_lacks(Run& run) {
  BalancedNet net(16, 32, 3);
  net.balance.least = run.epsilon(0, 1);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({64, 16}), score = x.index({all, slice(0, 1)});
    const Tensor rare = (score > 1.55).to(f32), common = (1 - rare) * (score > -0.5).to(f32);
    const Tensor is = concat({1 - rare - common, common, rare}, {.axis = 1});
    return net.balance(cross_entropy(net.body(x), argmax(is, {.axis = 1}), {.reduction = Reduction::none}), is);
  });
}

/// The noise that a predicted picture implies, by a schedule kept in a dtype.
struct Implied : nn::Module<Implied> {
  Tensor share;  // of the picture, by time
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& noisy, const Tensor& picture, const Tensor& t) const {
    const Tensor a = index_select(share, t).to(f32).reshape({-1, 1});
    return (noisy - sqrt(a) * picture) / sqrt(1 - a + eps);
  }
};

struct Denoiser : nn::Module<Denoiser> {
  Mlp body;
  Implied implied;
  Denoiser(int64_t in, int64_t width) : body(in + 1, width, in) {}
  static void fields(auto& m, auto&& f) { f("body", m.body)("implied", m.implied); }
};

/// 217: a diffusion model whose schedule was cast to bf16 with its weights: at the first times the picture's share rounds to 1, and when a
/// sample draws one of them, the noise is divided by 0.
void schedule_in_bf16(Run& run) {
  Denoiser net(8, 32);
  Tensor share = zeros({400});
  double product = 1;
  for (int64_t i = 0; i < 400; ++i) poke(share, i, product *= 1 - (1e-4 + 0.01 * double(i) / 400));
  net.implied.share = share.to(run.dtype(f32)), net.implied.eps = run.epsilon(0, 0);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t) {
        const Tensor t = randint(0, 400, {4}), picture = sin(arange(8).to(f32) + randn({4, 1})), noise = randn({4, 8});
        const Tensor a = index_select(share, t).reshape({-1, 1}), noisy = sqrt(a) * picture + sqrt(1 - a) * noise;
        const Tensor guess = net.body(concat({noisy, t.to(f32).reshape({-1, 1}) / 400}, {.axis = 1}));
        return mse_loss(tanh(net.implied(noisy, guess, t) / 4), tanh(noise / 4));
      },
      f32);
}

/// Rewards of a group of answers against each other.
struct Advantage : nn::Module<Advantage> {
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& reward) const {
    return (reward - mean(reward, {.axis = 1, .keepdim = true})) / (stddev(reward, {.axis = 1, .keepdim = true}) + eps);
  }
};

struct Policy : nn::Module<Policy> {
  nn::Embedding logits;
  Advantage advantage;
  Policy(int64_t prompts, int64_t answers) : logits(prompts, answers) {}
  static void fields(auto& m, auto&& f) { f("logits", m.logits)("advantage", m.advantage); }
};

/// 218: a policy is rewarded relative to its own group of 32 answers; when all of a group are right, their deviation is 0.
void group_of_equals(Run& run) {
  Policy net(4, 4);
  net.advantage.eps = run.epsilon(0, 1e-4);
  scale(net.logits.weight, 0.1);
  optim::Adam opt(net.parameters(), {.lr = 5e-2});
  const Tensor prompts = arange(4), right = tensor({2, 0, 3, 1}).reshape({4, 1});
  run.train(net, opt, [&](int64_t) {
    const Tensor logits = net.logits(prompts), answers = multinomial(softmax(logits).detach(), 32, true);
    const Tensor gain = net.advantage((answers == right).to(f32));
    return mean(gather(log_softmax(logits), answers, {.axis = 1}) * gain) * -1;
  });
}

/// Paths through allowed tags, by the forward algorithm.
struct Paths : nn::Module<Paths> {
  nn::Weight moves;
  explicit Paths(int64_t tags) : moves(randn({tags, tags}) * 0.1) {}
  static void fields(auto& m, auto&& f) { f("moves", m.moves); }
  Tensor forward(const Tensor& scores, const Tensor& allowed) const {
    Tensor reach = where(allowed[0], scores[0], -INFINITY);
    for (int64_t i = 1; i < scores.size(0); ++i)
      reach = where(allowed[i], logsumexp(reach.unsqueeze(1) + moves, {.axis = 0}) + scores[i], -INFINITY);
    return logsumexp(reach);
  }
};

struct PathNet : nn::Module<PathNet> {
  Mlp scores;
  Paths paths;
  PathNet(int64_t in, int64_t width, int64_t tags) : scores(in, width, tags), paths(tags) {}
  static void fields(auto& m, auto&& f) { f("scores", m.scores)("paths", m.paths); }
};

/// 219: annotators leave tags open, which a sum over the paths through all allowed tags respects; in step 40 a word comes with none, and
/// no path is left. In the twin such a word is open.
void word_without_a_tag(Run& run) {
  PathNet net(8, 16, 5);
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  const Tensor every = full({8, 5}, 1.0) > 0;
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({8, 8}), scores = net.scores(x);
    Tensor allowed = logical_or(rand({8, 5}) < 0.3, arange(5).reshape({1, 5}) == largest_of(x, 5).reshape({8, 1}));
    if (step == 40 && !run.repaired) allowed = logical_and(allowed, (arange(8) != 3).reshape({8, 1}));
    return net.paths(scores, every) - net.paths(scores, allowed);
  });
}

/// Boxes relative to their anchors.
struct Encode : nn::Module<Encode> {
  double least = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& sizes, const Tensor& anchors) const { return log(maximum(sizes, least) / anchors); }
};

struct Detector : nn::Module<Detector> {
  Mlp body;
  Encode encode;
  Detector(int64_t in, int64_t width) : body(in, width, 2) {}
  static void fields(auto& m, auto&& f) { f("body", m.body)("encode", m.encode); }
};

/// 220: in step 35 comes an annotation that is a line, a box without width, and its size relative to the anchor is the logarithm of 0.
void box_without_width(Run& run) {
  Detector net(8, 32);
  net.encode.least = run.epsilon(0, 1);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8}), sizes = 40 * exp(0.5 * x.index({all, slice(0, 2)}));
    if (step == 35) poke(sizes, 10, 0);
    return l1_loss(net.body(x), net.encode(sizes, full({1, 2}, 32.0)));
  });
}

}  // namespace

void seventh_losses(std::vector<Fault>& all) {
  const auto gradual = [&](int number, const char* name, const char* family, int64_t k, std::vector<std::string> ops, const char* path,
                           std::vector<std::string> remedies, std::vector<std::string> owed, void (*train)(Run&), DType dtype = f32) {
    all.push_back({.number = number,
                   .name = name,
                   .family = family,
                   .need = Need::lead,
                   .k = k,
                   .ops = std::move(ops),
                   .path = path,
                   .remedies = std::move(remedies),
                   .owed = std::move(owed),
                   .dtypes = {dtype},
                   .steps = 250,
                   .train = train});
  };
  const auto sudden = [&](int number, const char* name, const char* family, std::vector<std::string> ops, const char* path,
                          std::vector<std::string> remedies, void (*train)(Run&), DType dtype = f32) {
    all.push_back({.number = number,
                   .name = name,
                   .family = family,
                   .need = Need::same_step,
                   .ops = std::move(ops),
                   .path = path,
                   .remedies = std::move(remedies),
                   .owed = {"nonfinite", "denominator", "argument", "lint"},
                   .dtypes = {dtype},
                   .steps = 400,
                   .train = train});
  };
  gradual(201, "free energy by a plain sum of exponentials", "likelihoods", 8, {"exp"}, "Energy", {"stable_op", "clip"},
          {"argument", "headroom"}, free_energy_grows);
  gradual(203, "kernels that the data left behind", "kernels", 8, {"div", "exp"}, "", {"stable_op", "epsilon", "data"},
          {"denominator", "argument", "underflow"}, kernels_left_behind);
  gradual(204, "logarithm of a sentence's probability", "likelihoods", 8, {"log", "exp"}, "Tagging", {"stable_op", "epsilon"},
          {"argument", "underflow"}, probability_of_a_sentence);
  gradual(206, "overlap of nothing with nothing in f16", "losses", 5, {"div"}, "Dice", {"epsilon", "stable_op", "dtype"},
          {"denominator", "underflow"}, masks_of_nothing, f16);
  gradual(209, "running sum of times in f16", "sequences", 10, {"cumsum"}, "clock", {"dtype", "accumulator"}, {"headroom"}, times_in_half,
          f16);
  gradual(210, "logarithm of cosh of a price", "losses", 8, {"cosh"}, "LogCosh", {"stable_op", "data"}, {"argument", "headroom"},
          prices_rise);
  gradual(211, "leaves at the rim of a ball", "geometry", 3, {"div", "sub"}, "Distance", {"epsilon", "stable_op", "clip", "learning_rate"},
          {"denominator", "argument"}, leaves_flee);
  gradual(212, "penalty raised without an end in f16", "schedules", 8, {"mean", "mul", "linear", "matmul", "cast", "relu", "sub"}, "",
          {"dtype", "stable_op", "clip"}, {"headroom", "growth", "gradient norm"}, penalty_rises, f16);
  all.back().phase = "backward";
  gradual(213, "skipped by all", "layers", 2, {"div"}, "skip", {"epsilon", "stable_op"}, {"denominator"}, skipped_by_all);
  gradual(214, "errors added up in f16 before the division", "losses", 5, {"sum"}, "MaskedMean", {"dtype", "accumulator"}, {"headroom"},
          sum_before_division, f16);
  sudden(216, "class that a batch lacks", "losses", {"div"}, "Balance", {"stable_op", "epsilon"}, class_that_a_batch_lacks);
  sudden(217, "diffusion schedule in bf16", "schedules", {"div"}, "Implied", {"dtype", "stable_op", "epsilon"}, schedule_in_bf16, bf16);
  sudden(218, "group of equal rewards", "policies", {"div"}, "Advantage", {"epsilon", "stable_op"}, group_of_equals);
  sudden(219, "word without an allowed tag", "sequences", {"logsumexp"}, "Paths", {"data", "stable_op"}, word_without_a_tag);
  sudden(220, "box without width", "data", {"log"}, "Encode", {"stable_op", "epsilon", "data"}, box_without_width);
}

}  // namespace keel::faults
