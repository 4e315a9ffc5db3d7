// Faults of attention: logits that grow out of f16, and a row with nothing to attend to.
#include <cmath>
#include <limits>

#include "families.h"

namespace keel::faults {
namespace {

/// One head, written out. `normalised` gives queries and keys length sqrt(width) each.
struct Attention : nn::Module<Attention> {
  nn::Linear q, k, v, out;
  int64_t width;
  bool normalised = false;
  explicit Attention(int64_t w) : q(w, w), k(w, w), v(w, w), out(w, w), width(w) {}
  static void fields(auto& m, auto&& f) { f("q", m.q)("k", m.k)("v", m.v)("out", m.out); }
  Tensor forward(const Tensor& x) const { return forward(x, Tensor()); }
  Tensor forward(const Tensor& x, const Tensor& mask) const {  // mask: added to the logits
    Tensor a = q(x), b = k(x);
    if (normalised) a = rms_norm(a), b = rms_norm(b);
    Tensor logits = matmul(a, b.transpose(1, 2)) * (1 / std::sqrt(double(width)));
    if (mask.defined()) logits = logits + mask;
    return out(matmul(softmax(logits), v(x)));
  }
};

struct Block : nn::Module<Block> {
  Attention attn;
  nn::LayerNorm norm;
  nn::Linear head;
  Block(int64_t w, int64_t classes) : attn(w), norm(w), head(w, classes) {}
  static void fields(auto& m, auto&& f) { f("attn", m.attn)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const { return forward(x, Tensor()); }
  Tensor forward(const Tensor& x, const Tensor& mask) const { return head(norm(x + attn(x, mask))); }
};

/// 1: both W_q and W_k grow by 2 % a step; the logits, by 4 %, leave f16 after some 230 steps.
void logits_grow(Run& run) {
  Block net(32, 8);
  net.attn.normalised = run.repaired;
  const double growth = 1.02;
  scale(net.attn.q.weight, 3), scale(net.attn.k.weight, 3);
  optim::Adam opt(net.parameters(), {.lr = 1e-4});
  run.train(net, opt, [&](int64_t) {
    scale(net.attn.q.weight, growth), scale(net.attn.k.weight, growth);
    const Tensor x = randn({4, 12, 32});
    return cross_entropy(net(x), (x.index({all, all, 0}) > 0).to(i64));
  });
}

/// 25: at step 20 a batch holds an empty sequence; all its keys are masked by -inf, and softmax divides 0 by 0.
void masked_row(Run& run) {
  Block net(16, 4);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const double off = run.repaired ? -1e4 : -std::numeric_limits<double>::infinity();
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({4, 6, 16}), y = randint(0, 4, {4, 6});
    Tensor lengths = randint(2, 7, {4, 1, 1});
    if (step == 20) lengths[{1, 0, 0}] = 0;
    const Tensor mask = where(arange(6) < lengths, zeros({4, 1, 6}), off);
    return cross_entropy(net(x, mask), y);
  });
}

}  // namespace

void attention_faults(std::vector<Fault>& all) {
  all.push_back({.number = 1,
                 .name = "attention logits grow in f16",
                 .family = "attention",
                 .need = Need::lead,
                 .k = 20,
                 .ops = {"matmul", "mul"},
                 .path = "attn",
                 .phase = "forward",
                 .remedies = {"stable_op", "dtype", "learning_rate"},
                 .dtypes = {f16},
                 .steps = 300,
                 .train = logits_grow});
  all.push_back({.number = 25,
                 .name = "fully masked attention row",
                 .family = "attention",
                 .need = Need::same_step,
                 .ops = {"softmax"},
                 .path = "attn",
                 .phase = "forward",
                 .remedies = {"stable_op"},
                 .dtypes = {f32, bf16, f16},
                 .steps = 60,
                 .train = masked_row});
}

}  // namespace keel::faults
