// Faults of memory: what was never written, and numbers too small for the hardware's fast path.
#include <cstring>
#include <random>

#include "families.h"

namespace keel::faults {
namespace {

struct Shifted : nn::Module<Shifted> {
  nn::Linear up{8, 64};
  Tensor table;  // one row an example of the batch
  nn::Linear down{64, 1};
  explicit Shifted(const Tensor& t) : table(t) {}
  static void fields(auto& m, auto&& f) { f("up", m.up)("table", m.table)("down", m.down); }
  Tensor forward(const Tensor& x) const { return down(up(x) + table); }
};

/// 27: a table that `empty` made and nobody filled. Fresh pages hold zeros, so the bits of memory that was used before are written here.
void never_written(Run& run) {
  Tensor table = zeros({16, 64}, {.dtype = run.dtype()});
  if (!run.repaired) {
    std::mt19937_64 bits(run.seed);
    auto* p = static_cast<unsigned char*>(table.raw_data());
    for (size_t i = 0; i < table.nbytes(); ++i) p[i] = static_cast<unsigned char>(bits());
  }
  Shifted net(table);
  optim::SGD opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Data d = linear_data(16, 8, 1);
    return mse_loss(net(d.x), d.y);
  });
}

/// 30: the momentum of a parameter whose gradient has ended decays below the normal numbers. Slow on some processors; no fault.
void momentum_decays(Run& run) {
  Mlp net(8, 16, 1);
  optim::SGD opt(net.parameters(), {.lr = 1e-3, .momentum = 0.7});
  run.train(net, opt, [&](int64_t step) {
    const Data d = linear_data(16, 8, 1);
    return mse_loss(net(d.x), d.y) * (step < 20 ? 1.0 : 0.0);
  });
}

}  // namespace

void memory_faults(std::vector<Fault>& all) {
  all.push_back({.number = 27,
                 .name = "memory that was never written",
                 .family = "memory",
                 .need = Need::same_step,
                 .ops = {"add"},
                 .remedies = {"data"},
                 .dtypes = {f32, bf16, f16},
                 .steps = 20,
                 .train = never_written});
  all.push_back({.number = 30,
                 .name = "momentum in subnormal numbers (control)",
                 .family = "memory",
                 .need = Need::control,
                 .steps = 300,
                 .train = momentum_decays});
}

}  // namespace keel::faults
