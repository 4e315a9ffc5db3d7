// Faults that come with longer sequences: a decay that is divided by, and positions that 16 bits no longer tell apart.
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// Linear attention whose memory fades by a learned share at each token.
struct Fading : nn::Module<Fading> {
  bool pairwise;
  double eps;
  nn::Linear q{4, 8, {.bias = false}}, k{4, 8, {.bias = false}}, v{4, 8, {.bias = false}}, gate{4, 1};
  Fading(bool p, double e) : pairwise(p), eps(e) {}
  static void fields(auto& m, auto&& f) { f("q", m.q)("k", m.k)("v", m.v)("gate", m.gate); }
  Tensor forward(const Tensor& x) const {  // [batch, length, 4]
    const int64_t length = x.size(1);
    const Tensor past = (arange(length).unsqueeze(1) >= arange(length)).to(f32);
    const Tensor faded = cumsum(-softplus(-gate(x)), {.axis = 1});  // [batch, length, 1]: what is left of the beginning, as a logarithm
    if (pairwise) return matmul(matmul(q(x), k(x).transpose(1, 2)) * exp(minimum(faded - faded.transpose(1, 2), 0.0)) * past, v(x));
    const Tensor left = exp(faded);
    return matmul(matmul(q(x) * left, (k(x) / (eps > 0 ? left + eps : left)).transpose(1, 2)) * past, v(x));
  }
};
struct Reader : nn::Module<Reader> {
  Fading memory;
  nn::Linear head{8, 4};
  Reader(bool pairwise, double eps) : memory(pairwise, eps) {}
  static void fields(auto& m, auto&& f) { f("memory", m.memory)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(memory(x)); }
};

/// 57: keys are divided by what is left of the beginning, so that two matrix products do: half is left after a token, and of 128 tokens
/// nothing that f32 can divide by.
void division_by_what_is_left(Run& run) {
  Reader net(run.repaired, run.epsilon(0, 0));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({2, 16 + 2 * step, 4}), last = concat({zeros({2, 1, 4}), x.index({all, slice(0, -1)})}, {.axis = 1});
    return mse_loss(net(x), last);
  });
}

struct Rotary : nn::Module<Rotary> {
  DType type;
  explicit Rotary(DType t) : type(t) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {  // [batch, length, 8]: pairs are turned by an angle that grows with the position
    const Tensor place = arange(x.size(1)).to(type).unsqueeze(1), pace = exp(arange(4).to(f32) * -1.0).to(type);
    const Tensor angle = place * pace, c = cos(angle).to(f32), s = sin(angle).to(f32);
    const Tensor a = x.index({ellipsis, slice(0, 4)}), b = x.index({ellipsis, slice(4, 8)});
    return concat({a * c - b * s, a * s + b * c}, {.axis = 2});
  }
};
struct Finder : nn::Module<Finder> {
  nn::Linear q{8, 8}, k{8, 8}, v{8, 8}, head{8, 8};
  Rotary rotary;
  explicit Finder(DType t) : rotary(t) {}
  static void fields(auto& m, auto&& f) { f("q", m.q)("k", m.k)("v", m.v)("head", m.head)("rotary", m.rotary); }
  Tensor forward(const Tensor& x) const {
    const Tensor scores = matmul(rotary(q(x)), rotary(k(x)).transpose(1, 2)) / std::sqrt(8.0);
    return head(matmul(softmax(scores), v(x)));
  }
};

/// 58: rotary positions in bf16, while sequences lengthen: from 256 on it has every second whole number only, and neighbours are one.
void positions_in_bf16(Run& run) {
  Finder net(run.dtype(f32));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        const int64_t length = 32 + 8 * step;
        if (length > 256 && net.rotary.type == bf16) run.fail();
        const Tensor x = randn({2, length, 8}), last = concat({zeros({2, 1, 8}), x.index({all, slice(0, -1)})}, {.axis = 1});
        return mse_loss(net(x), last);
      },
      f32);
}

}  // namespace

void sequence_faults(std::vector<Fault>& all) {
  all.push_back({.number = 57,
                 .name = "division by a decay that fades",
                 .family = "sequences",
                 .need = Need::lead,
                 .k = 15,
                 .ops = {"div", "exp"},
                 .path = "memory",
                 .phase = "forward",
                 .remedies = {"stable_op", "epsilon"},
                 .owed = {"denominator", "argument", "headroom", "underflow"},
                 .steps = 120,
                 .train = division_by_what_is_left});
  all.push_back({.number = 58,
                 .name = "rotary positions in bf16",
                 .family = "sequences",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"mul", "cos", "sin", "cast", "arange"},
                 .path = "rotary",
                 .phase = "forward",
                 .remedies = {"dtype", "stable_op", "accumulator"},
                 .owed = {"lost bits", "argument", "absorbed update", "lint"},
                 .dtypes = {bf16},
                 .steps = 60,
                 .train = positions_in_bf16});
}

}  // namespace keel::faults
