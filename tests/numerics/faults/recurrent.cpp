// Faults of recurrent networks.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Cell : nn::Module<Cell> {
  nn::Linear input, hidden;
  Cell(int64_t in, int64_t w) : input(in, w), hidden(w, w, {.bias = false}) {}
  static void fields(auto& m, auto&& f) { f("input", m.input)("W_hh", m.hidden); }
  Tensor forward(const Tensor& x, const Tensor& h) const { return input(x) + hidden(h); }
};
struct Rnn : nn::Module<Rnn> {
  Cell cell{2, 8};
  nn::LayerNorm norm{8};
  nn::Linear head{8, 1};
  static void fields(auto& m, auto&& f) { f("cell", m.cell)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const {  // [length, batch, 2]
    Tensor h = zeros({x.size(1), 8});
    for (int64_t t = 0; t < x.size(0); ++t) h = cell(x[t], h);
    return head(norm(h));
  }
};

/// 20: a linear recurrence with factor 1.1 over sequences that lengthen by 8 a step: state and gradient grow like 1.1^length.
void recurrence_explodes(Run& run) {
  Rnn net;
  nn::init::zeros(net.cell.hidden.weight);
  for (int64_t i = 0; i < 8; ++i)
    poke(net.cell.hidden.weight, i * 8 + (i + 3) % 8, run.repaired ? 0.98 : 1.1);  // a permutation: orthogonal
  optim::SGD opt(net.parameters(), {.lr = 1e-5});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({8 * step, 2, 2}) * 0.1;
    return mse_loss(net(x), x.index({-1, all, slice(0, 1)}));
  });
}

}  // namespace

void recurrent_faults(std::vector<Fault>& all) {
  all.push_back({.number = 20,
                 .name = "exploding recurrence",
                 .family = "recurrent",
                 .need = Need::lead,
                 .k = 15,
                 .ops = {"linear", "matmul", "add"},
                 .path = "",
                 .remedies = {"clip", "stable_op"},
                 .steps = 130,
                 .train = recurrence_explodes});
}

}  // namespace keel::faults
