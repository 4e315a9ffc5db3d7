// Faults of losses and heads that people copy from papers: temperatures, divergences, contrasts, margins.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Temper : nn::Module<Temper> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& z, double temperature) const { return softmax(z / temperature); }
};
struct Chooser : nn::Module<Chooser> {
  nn::Linear scores{8, 4};
  Temper temper;
  nn::Weight book{randn({4, 8})};
  static void fields(auto& m, auto&& f) { f("scores", m.scores)("temper", m.temper)("book", m.book); }
  Tensor forward(const Tensor& x, double temperature) const { return matmul(temper(scores(x), temperature), book); }
};

/// 36: a soft choice whose temperature falls from 1 to 0 in 120 steps: at the end every score is divided by 0.
void temperature_reaches_zero(Run& run) {
  Chooser net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8});
    return mse_loss(net(x, std::max(0.0, 1 - double(step) / 120) + run.epsilon(0, 0.1)).to(f32), x);
  });
}

struct Divergence : nn::Module<Divergence> {
  bool guarded;
  double eps;
  Divergence(bool g, double e) : guarded(g), eps(e) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& logits, const Tensor& p) const {
    const Tensor own = guarded ? where(p > 0, log(where(p > 0, p, 1)), 0) : log(eps > 0 ? p + eps : p);
    return mean(sum(p * (own - log_softmax(logits)), {.axis = -1}));
  }
};
struct Student : nn::Module<Student> {
  Mlp net{8, 32, 4};
  Divergence kl;
  Student(bool guarded, double eps) : kl(guarded, eps) {}
  static void fields(auto& m, auto&& f) { f("net", m.net)("kl", m.kl); }
  Tensor forward(const Tensor& x, const Tensor& p) const { return kl(net(x), p); }
};

/// 37: sum p (log p - log q) with smoothed targets, until at step 30 smoothing ends: 0 log 0.
void divergence_of_hard_targets(Run& run) {
  Student net(run.repaired, run.epsilon(0, 0));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 8}), label = argmax(x.index({all, slice(0, 4)}), {.axis = 1, .keepdim = true});
    const double smooth = step < 30 ? 0.1 : 0.0;
    return net(x, (arange(4) == label).to(f32) * (1 - smooth) + smooth / 4);
  });
}

struct Sampler : nn::Module<Sampler> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& mu, const Tensor& log_var) const { return mu + exp(0.5 * log_var) * randn(mu.shape()); }
};
struct GaussDivergence : nn::Module<GaussDivergence> {
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& mu, const Tensor& log_var) const {
    return -0.5 * sum(1 + log_var - square(mu) - exp(log_var), {.axis = 1});
  }
};
struct Vae : nn::Module<Vae> {
  nn::Linear encode{16, 32}, centre{32, 4}, spread{32, 4};
  Sampler sampler;
  GaussDivergence divergence;
  Mlp decode{4, 32, 16};
  double sign;
  explicit Vae(double s) : sign(s) {}
  static void fields(auto& m, auto&& f) {
    f("encode", m.encode)("centre", m.centre)("spread", m.spread)("sampler", m.sampler)("divergence", m.divergence)("decode", m.decode);
  }
  Tensor forward(const Tensor& x) const {
    const Tensor h = relu(encode(x)), mu = centre(h), log_var = spread(h);
    const Tensor image = bce_with_logits(decode(sampler(mu, log_var)), x, {.reduction = Reduction::none});
    return mean(sum(image, {.axis = 1}) + sign * divergence(mu, log_var));
  }
};

/// 38: the divergence of an autoencoder with the wrong sign: training itself drives the log-variance up, until exp overflows. Gradients are
/// clipped, as is usual; else Adam's second moment would overflow before and the training stand still.
void divergence_of_wrong_sign(Run& run) {
  Vae net(run.repaired ? 1 : -1);
  if (run.clip == 0) run.clip = 1;
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  const Tensor mix = randn({4, 16});
  run.train(net, opt, [&](int64_t) { return net((matmul(randn({32, 4}), mix) > 0).to(f32)); });
}

struct Contrast : nn::Module<Contrast> {
  bool stable;
  DType type;
  Contrast(bool s, DType t) : stable(s), type(t) {}
  static void fields(auto&, auto&&) {}
  Tensor unit(const Tensor& x) const { return x * rsqrt(sum(square(x), {.axis = 1, .keepdim = true}) + 1e-6); }
  Tensor forward(const Tensor& a, const Tensor& b) const {
    const Tensor z = matmul(unit(a), unit(b).transpose()) / 0.05, target = arange(z.size(0)).unsqueeze(1);
    if (stable) return cross_entropy(z, target.squeeze(1));
    const Tensor e = exp(z.to(type));
    return -mean(log(gather(e, target, {.axis = 1}).squeeze(1) / sum(e, {.axis = 1})));
  }
};
struct TwoTowers : nn::Module<TwoTowers> {
  nn::Linear left{16, 64}, right{16, 64};
  Contrast contrast;
  TwoTowers(bool stable, DType t) : contrast(stable, t) {}
  static void fields(auto& m, auto&& f) { f("left", m.left)("right", m.right)("contrast", m.contrast); }
  Tensor forward(const Tensor& a, const Tensor& b) const { return contrast(left(a), right(b)); }
};

/// 39: exp(similarity / .05) in f16, written out: pairs that training brings together pass exp(11.09) at a similarity of .55.
void contrast_in_f16(Run& run) {
  TwoTowers net(run.repaired, run.dtype());
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t) {
        const Tensor a = randn({16, 16});
        return net(a, a + 0.1 * randn({16, 16})).to(f32);
      },
      f32);
}

struct Focal : nn::Module<Focal> {
  double eps;
  explicit Focal(double e) : eps(e) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& logits, const Tensor& y) const {
    const Tensor entropy = bce_with_logits(logits, y, {.reduction = Reduction::none}), miss = 1 - exp(-entropy);
    return mean(pow(eps > 0 ? miss + eps : miss, 0.5) * entropy);
  }
};
struct Detector : nn::Module<Detector> {
  Mlp net{8, 32, 1};
  Focal focal;
  explicit Detector(double eps) : focal(eps) {}
  static void fields(auto& m, auto&& f) { f("net", m.net)("focal", m.focal); }
  Tensor forward(const Tensor& x, const Tensor& y) const { return focal(net(x), y); }
};

/// 40: focal loss with gamma .5: an example that is certain has (1 - p) = 0, where the power has no slope.
void focal_at_zero(Run& run) {
  Detector net(run.epsilon(0, 1e-6));
  optim::Adam opt(net.parameters(), {.lr = 2e-2});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 8});
    return net(x, (x.index({all, slice(0, 1)}) > 0).to(f32));
  });
}

/// 41: gradients are clipped by a norm summed in f16. The loss scale doubles every ten steps, as a scaler does; the gradients fit, their
/// squares do not, and a gradient divided by an infinite norm is 0: training stands still.
void norm_of_gradients_overflows(Run& run) {
  Mlp net(8, 32, 1);
  optim::SGD opt(net.parameters(), {.lr = 1e-2});
  const DType type = run.dtype(f32);
  const Tensor truth = randn({8, 1});
  while (run.next()) {
    opt.zero_grad();
    const double by = run.loss_scale(8 * std::exp2(double(std::min<int64_t>(run.step / 10, 12))), 8);
    const Tensor x = randn({32, 8}), loss = mse_loss(net(x), matmul(x, truth));
    (loss * by).backward();
    {
      NoGrad off;
      Tensor total = zeros({}, {.dtype = type});
      for (const Tensor& w : net.parameters()) total = total + sum(square(w.grad().to(type)));
      const Tensor length = sqrt(total);
      if (!finite(length)) run.fail();
      const Tensor share = minimum(by / (length.to(f32) + 1e-6), 1.0) / by;
      for (const Tensor& w : net.parameters()) w.grad().mul_(share);
    }
    opt.step();
    run.look(loss, net.parameters());
  }
}

struct Margin : nn::Module<Margin> {
  double eps;
  nn::Weight centres{randn({3, 8})};
  explicit Margin(double e) : eps(e) {}
  static void fields(auto& m, auto&& f) { f("centres", m.centres); }
  Tensor unit(const Tensor& x) const { return x * rsqrt(sum(square(x), {.axis = 1, .keepdim = true}) + 1e-12); }
  Tensor forward(const Tensor& features, const Tensor& y) const {
    const Tensor cosine = matmul(unit(features), unit(centres).transpose()), rest = 1 - square(cosine);
    const Tensor sine = sqrt(eps > 0 ? rest + eps : rest), other = cosine * std::cos(0.5) - sine * std::sin(0.5);
    return cross_entropy(4 * where(arange(3) == y.unsqueeze(1), other, cosine), y);
  }
};
struct Faces : nn::Module<Faces> {
  Mlp net{8, 32, 8};
  Margin margin;
  explicit Faces(double eps) : margin(eps) {}
  static void fields(auto& m, auto&& f) { f("net", m.net)("margin", m.margin); }
  Tensor forward(const Tensor& x, const Tensor& y) const { return margin(net(x), y); }
};

/// 42: an angular margin needs the sine of an angle that training makes 0: sqrt(1 - cos^2) has no slope there, and rounding makes it NaN.
void sine_at_zero(Run& run) {
  Faces net(run.epsilon(0, 1e-5));
  optim::Adam opt(net.parameters(), {.lr = 1e-2});
  const Tensor people = randn({3, 8});
  run.train(net, opt, [&](int64_t) {
    const Tensor y = randint(0, 3, {48});
    return net(index_select(people, y, {.axis = 0}) + 0.01 * randn({48, 8}), y);
  });
}

}  // namespace

void everyday_loss_faults(std::vector<Fault>& all) {
  all.push_back({.number = 36,
                 .name = "temperature that anneals to 0",
                 .family = "everyday losses",
                 .need = Need::lead,
                 .k = 8,
                 .ops = {"div"},
                 .path = "temper",
                 .phase = "forward",
                 .remedies = {"epsilon", "stable_op"},
                 .owed = {"denominator"},
                 .dtypes = {f32, bf16},
                 .steps = 240,
                 .train = temperature_reaches_zero});
  all.push_back({.number = 37,
                 .name = "KL divergence of hard targets",
                 .family = "everyday losses",
                 .need = Need::same_step,
                 .ops = {"log"},
                 .path = "kl",
                 .phase = "forward",
                 .remedies = {"stable_op", "epsilon"},
                 .owed = {"argument", "nonfinite"},
                 .steps = 70,
                 .train = divergence_of_hard_targets});
  all.push_back({.number = 38,
                 .name = "log-variance driven up by a wrong sign",
                 .family = "everyday losses",
                 .need = Need::lead,
                 .k = 10,
                 .ops = {"exp"},
                 .path = "divergence",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .owed = {"argument", "headroom", "growth"},
                 .steps = 400,
                 .train = divergence_of_wrong_sign});
  all.push_back({.number = 39,
                 .name = "contrastive exp in f16",
                 .family = "everyday losses",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"exp", "sum"},
                 .path = "contrast",
                 .phase = "forward",
                 .remedies = {"stable_op", "dtype"},
                 .owed = {"argument", "headroom", "lint"},
                 .dtypes = {f16},
                 .steps = 300,
                 .train = contrast_in_f16});
  all.push_back({.number = 40,
                 .name = "focal loss of a certain example",
                 .family = "everyday losses",
                 .need = Need::lead,
                 .k = 8,
                 .ops = {"pow", "sub"},
                 .path = "focal",
                 .remedies = {"epsilon", "stable_op"},
                 .owed = {"argument", "denominator", "lost bits", "lint"},
                 .steps = 600,
                 .train = focal_at_zero});
  all.push_back({.number = 41,
                 .name = "gradient norm that f16 cannot hold",
                 .family = "everyday losses",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"square", "sum", "add"},
                 .remedies = {"dtype", "loss_scale", "accumulator", "stable_op"},
                 .owed = {"headroom"},
                 .dtypes = {f16},
                 .steps = 140,
                 .train = norm_of_gradients_overflows});
  all.push_back({.number = 42,
                 .name = "sine of an angle of 0",
                 .family = "everyday losses",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"sqrt", "sub"},
                 .path = "margin",
                 .remedies = {"epsilon", "stable_op"},
                 .owed = {"argument", "denominator", "lost bits", "lint"},
                 .steps = 1500,
                 .train = sine_at_zero});
}

}  // namespace keel::faults
