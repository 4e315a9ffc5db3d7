// Faults of data, and lanes that `where` hides.
#include <cmath>
#include <limits>

#include "families.h"

namespace keel::faults {
namespace {

/// 28: one value of one example is NaN at step 50, and infinite at every later tenth step.
void poisoned_batch(Run& run) {
  Mlp net(8, 16, 1);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Data d = linear_data(16, 8, 1);
    if (!run.repaired && step >= 50 && step % 10 == 0)
      poke(d.x, 3 * 8 + 2, step == 50 ? std::nan("") : std::numeric_limits<double>::infinity());
    return mse_loss(net(d.x), d.y);
  });
}

struct Gate : nn::Module<Gate> {
  bool twice;  // the argument is made harmless before the logarithm, too
  explicit Gate(bool t) : twice(t) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& h) const { return where(h > 0, log(twice ? where(h > 0, h, 1) : h), 0); }
};
struct LogNet : nn::Module<LogNet> {
  nn::Linear up{8, 16, {.bias = false}};
  Gate gate;
  nn::Linear down{16, 1};
  explicit LogNet(bool twice) : gate(twice) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("gate", m.gate)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(gate(square(up(x)))); }
};

/// 31: log behind a `where`: the value is hidden where the argument is 0, the gradient 0 / 0 is not. At step 20 an example is empty.
void masked_lane(Run& run) {
  LogNet net(run.repaired);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    Data d = linear_data(16, 8, 1);
    if (step >= 20) d.x[{3}] = 0;
    return mse_loss(net(d.x), d.y);
  });
}

}  // namespace

void data_faults(std::vector<Fault>& all) {
  all.push_back({.number = 28,
                 .name = "a batch with NaN",
                 .family = "data",
                 .need = Need::same_step,
                 .ops = {"linear", "matmul", "cast"},
                 .path = "up",
                 .remedies = {"data"},
                 .dtypes = {f32, bf16, f16},
                 .steps = 110,
                 .train = poisoned_batch});
  all.push_back({.number = 31,
                 .name = "NaN behind where()",
                 .family = "data",
                 .need = Need::same_step,
                 .ops = {"log", "div", "mul"},
                 .path = "gate",
                 .remedies = {"stable_op"},
                 .dtypes = {f32, bf16},
                 .steps = 60,
                 .train = masked_lane});
}

}  // namespace keel::faults
