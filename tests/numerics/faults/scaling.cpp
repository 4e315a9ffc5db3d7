// Loss scaling: parameters in f32, the passes in f16, and a scale that halves where a gradient overflows.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Amplifier : nn::Module<Amplifier> {
  double gain;
  explicit Amplifier(double g) : gain(g) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return x * gain * gain; }
};
struct Loud : nn::Module<Loud> {
  nn::Linear up{8, 16};
  Amplifier amplifier;
  nn::Linear down{16, 1};
  explicit Loud(double gain) : amplifier(gain) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("amplifier", m.amplifier)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(amplifier(relu(up(x)))); }
};

/// Trains with a GradScaler until the scale is 1 or less, which is the failure.
template <class Net>
void train_scaled(Run& run, Net& net, double scale, int64_t growth_interval) {
  optim::SGD opt(net.parameters(), {.lr = 1e-4});
  optim::GradScaler scaler({.init_scale = scale, .growth_interval = growth_interval});
  while (run.next()) {
    opt.zero_grad();
    const Data d = linear_data(32, 8, 1);
    Tensor loss;
    {
      Autocast guard(run.dtype());
      loss = mse_loss(net(d.x).to(f32), d.y);
    }
    scaler.scale(loss).backward();
    scaler.step(opt);
    scaler.update();
    if (scaler.get_scale() <= 1) run.fail();
  }
  for (const Tensor& w : net.parameters()) run.weights_clean &= finite(w);
}

/// 11: the forward pass overflows in every step, whatever the scale; the scaler halves it down to 1 and never steps.
void scale_collapses(Run& run) {
  Loud net(run.repaired ? 1 : 600);
  train_scaled(run, net, run.repaired ? 256 : 65536, 2000);
}

/// 12: the scale doubles after five good steps and overflows once in six: as it should.
void scale_breathes(Run& run) {
  Mlp net(8, 16, 1);
  train_scaled(run, net, 1 << 17, 5);
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
