// Loss scaling by hand: a scaler that halves on overflow and skips the step.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Scaler {
  double scale = 65536;
  int64_t growth_interval = 2000, good = 0, skips = 0;
  /// Unscales the gradients and steps, unless one is not finite; then halves the scale.
  void step(optim::Optimizer& opt, const Tensors& weights) {
    bool sound = true;
    for (const Tensor& w : weights) sound &= finite(w.grad());
    if (!sound) {
      scale /= 2, good = 0, ++skips;
      return;
    }
    for (const Tensor& w : weights) {
      NoGrad off;
      w.grad().div_(scale);
    }
    opt.step();
    if (++good >= growth_interval) scale *= 2, good = 0;
  }
};

struct Amplifier : nn::Module<Amplifier> {
  double gain;
  explicit Amplifier(double g) : gain(g) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return x * gain; }
};
struct Loud : nn::Module<Loud> {
  nn::Linear up{8, 16};
  Amplifier amplifier;
  nn::Linear down{16, 1};
  explicit Loud(double gain) : amplifier(gain) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("amplifier", m.amplifier)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(amplifier(relu(up(x)))); }
};

/// 11: the forward pass overflows in every step, whatever the scale; the scaler halves it down to 1.
void scale_collapses(Run& run) {
  const DType t = run.dtype();
  Loud net(run.repaired ? 1 : 60000);
  net.to(t);
  optim::SGD opt(net.parameters(), {.lr = 1e-4});
  Scaler scaler{.scale = run.repaired ? 256.0 : 65536.0};
  while (run.next()) {
    opt.zero_grad();
    const Data d = linear_data(32, 8, 1);
    const Tensor loss = mean(square(net((d.x * 4).to(t)).to(f32) - d.y));
    (loss * scaler.scale).backward();
    scaler.step(opt, net.parameters());
    if (scaler.scale <= 1) run.fail();
  }
}

/// 12: the scale doubles after five good steps and overflows once in six: as it should.
void scale_breathes(Run& run) {
  Mlp net(8, 16, 1);
  net.to(f16);
  optim::SGD opt(net.parameters(), {.lr = 1e-4});
  Scaler scaler{.scale = 1 << 15, .growth_interval = 5};
  while (run.next()) {
    opt.zero_grad();
    const Data d = linear_data(32, 8, 1);
    const Tensor loss = mean(square(net(d.x.to(f16)).to(f32) - d.y));
    (loss * scaler.scale).backward();
    scaler.step(opt, net.parameters());
  }
}

}  // namespace

void scaling_faults(std::vector<Fault>& all) {
  all.push_back({.number = 11,
                 .name = "loss scale collapses",
                 .family = "scaling",
                 .need = Need::lead,
                 .k = 12,
                 .ops = {"mul"},
                 .path = "amplifier",
                 .phase = "forward",
                 .remedies = {"dtype", "stable_op"},
                 .dtypes = {f16},
                 .steps = 40,
                 .train = scale_collapses});
  all.push_back({.number = 12,
                 .name = "loss scale breathes (control)",
                 .family = "scaling",
                 .need = Need::control,
                 .dtypes = {f16},
                 .steps = 200,
                 .train = scale_breathes});
}

}  // namespace keel::faults
