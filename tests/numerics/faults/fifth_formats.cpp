// Fifth set, formats and rules of update: a learned quantiser, a teacher and positions in bf16, long sums and squares in f16, and a centred
// second moment.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

/// A linear layer whose weights are rounded to 15 levels of a learned step. The rounding passes gradients as if it were not there.
struct Quantised : nn::Module<Quantised> {
  nn::Weight weight, step;
  bool by_logarithm = false;
  Quantised(int64_t in, int64_t out) : weight(randn({out, in}) * (1 / std::sqrt(double(in)))), step(full({1}, 0.05)) {}
  static void fields(auto& m, auto&& f) { f("weight", m.weight)("step", m.step); }
  Tensor forward(const Tensor& x) const {
    const Tensor s = by_logarithm ? exp(step) : Tensor(step), levels = clamp(weight / s, -7, 7);
    return linear(x, (levels + (round(levels) - levels).detach()) * s);
  }
};

struct QuantisedNet : nn::Module<QuantisedNet> {
  Quantised first;
  nn::Linear head;
  QuantisedNet(int64_t in, int64_t width, int64_t out) : first(in, width), head(width, out) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(relu(first(x))); }
};

/// 68: a penalty on the step of a quantiser, meant to make it fine, is stronger than what the loss pulls back with: the step goes to 0 and
/// through it, and every weight is clamped to a level of the wrong sign. The twin learns the step's logarithm, without the penalty.
void step_reaches_zero(Run& run) {
  QuantisedNet net(16, 32, 4);
  net.first.by_logarithm = run.repaired;
  if (run.repaired) net.first.step.detach().fill_(std::log(0.05));
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensor w = randn({16, 4}) * 0.25;
  const double penalty = run.repaired ? 0 : 20;
  run.train(net, opt, [&](int64_t) {
    if (!run.repaired && peek(net.first.step, 0) <= 0) run.fail();
    const Tensor x = randn({32, 16});
    return mse_loss(net(x), matmul(x, w)) + penalty * sum(net.first.step);
  });
}

/// 75: a teacher follows its student by a moving average, kept in the student's bf16: a thousandth of the difference is less than half a
/// unit in the last place of almost every weight, and the teacher stays what it was.
void teacher_stands_still(Run& run) {
  Mlp student(16, 32, 4);
  optim::Adam opt(student.parameters(), {.lr = 1e-3});
  const DType kept = run.dtype(f32);
  Tensors teacher, start;
  for (const Tensor& w : student.parameters()) teacher.push_back(w.detach().to(kept).clone()), start.push_back(w.detach().to(kept).clone());
  const Tensor map = randn({16, 4});
  run.train(
      student, opt,
      [&](int64_t step) {
        const Tensors weights = student.parameters();
        double moved = 0, all_of_them = 0;
        for (int64_t i = 0; i < weights.size(); ++i) {
          teacher[i].copy_(lerp(teacher[i], weights[i].detach().to(kept), 0.001));
          moved += sum((teacher[i] != start[i]).to(f32)).item(), all_of_them += double(teacher[i].size());
        }
        if (step == 100 && moved < 0.5 * all_of_them) run.fail();
        const Tensor x = randn({32, 16});
        return mse_loss(student(x), matmul(x, map));
      },
      f32);
}

/// Attention without softmax: relu of queries and keys, keys and values summed over the sequence first.
struct LinearAttention : nn::Module<LinearAttention> {
  nn::Linear q, k, v;
  bool averaged = false;
  explicit LinearAttention(int64_t w) : q(w, w), k(w, w), v(w, w) {}
  static void fields(auto& m, auto&& f) { f("q", m.q)("k", m.k)("v", m.v); }
  Tensor forward(const Tensor& x) const {
    Tensor keys = relu(k(x));
    if (averaged) keys = keys * (1 / double(x.shape()[1]));
    return matmul(relu(q(x)), matmul(keys.transpose(1, 2), v(x)));
  }
};

struct LongReader : nn::Module<LongReader> {
  LinearAttention attn;
  nn::LayerNorm norm;
  nn::Linear head;
  LongReader(int64_t w, int64_t classes) : attn(w), norm(w), head(w, classes) {}
  static void fields(auto& m, auto&& f) { f("attn", m.attn)("norm", m.norm)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(norm(attn(x))); }
};

/// 77: sequences grow by 8 tokens a step; the sum over the sequence, which nothing divides, leaves f16.
void long_sums(Run& run) {
  LongReader net(32, 3);
  net.attn.averaged = run.repaired;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = 4 * (randn({2, 8 * step, 32}) + 0.5);
    return cross_entropy(net(x), (x.index({all, all, 0}) > 2).to(i64));
  });
}

/// The root mean square by hand, in the dtype of what comes in or in f32.
struct HandNorm : nn::Module<HandNorm> {
  bool wide = false;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& h) const {
    const Tensor x = wide ? h.to(f32) : h;
    return x * rsqrt(mean(x * x, {.axis = -1, .keepdim = true}) + 1e-5);
  }
};

struct Sensor : nn::Module<Sensor> {
  nn::Linear first, head;
  HandNorm norm;
  Sensor(int64_t in, int64_t width, int64_t out) : first(in, width), head(width, out) {}
  static void fields(auto& m, auto&& f) { f("first", m.first)("head", m.head)("norm", m.norm); }
  Tensor forward(const Tensor& x) const { return head(norm(first(x))); }
};

/// 78: the gain of a sensor drifts up by 3 % a step, for 200 steps. A norm follows, so nothing seems to care; but the norm squares in f16,
/// where 256 is the end, while the activations are still eight bits below the largest number. No NaN comes of it: 1 / sqrt(infinity) is 0,
/// and the sample has no features any more.
void square_in_half(Run& run) {
  Sensor net(16, 32, 3);
  net.norm.wide = run.repaired;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t step) {
    const Tensor x = randn({32, 16}), y = argmax(x.index({all, slice(0, 3)}), {.axis = 1});
    const Tensor logits = net(x * std::pow(1.03, double(std::min<int64_t>(step, 200))));
    if (any(all(logits == net.head.bias.to(logits.dtype()), {.axis = 1})).item() != 0) run.fail();
    return cross_entropy(logits, y);
  });
}

/// Rotates pairs of channels by angles that grow with the place in the sequence; places are held in `kept`.
struct Rotary : nn::Module<Rotary> {
  DType kept = bf16;
  static void fields(auto&, auto&&) {}
  Tensor angles(int64_t length, int64_t pairs) const {
    return outer(arange(length).to(kept), exp(arange(pairs).to(f32) * (-std::log(1e4) / double(pairs))).to(kept)).to(f32);
  }
  Tensor forward(const Tensor& x) const {
    const int64_t half = x.shape()[2] / 2;
    const Tensor t = angles(x.shape()[1], half), a = x.index({all, all, slice(0, half)}), b = x.index({all, all, slice(half, none)});
    return concat({a * cos(t) - b * sin(t), a * sin(t) + b * cos(t)}, {.axis = 2});
  }
};

struct RotaryReader : nn::Module<RotaryReader> {
  nn::Linear q, k, head;
  Rotary rope;
  RotaryReader(int64_t w, int64_t classes) : q(w, w), k(w, w), head(w, classes) {}
  static void fields(auto& m, auto&& f) { f("q", m.q)("k", m.k)("head", m.head)("rope", m.rope); }
  Tensor forward(const Tensor& x) const {
    const Tensor scores = matmul(rope(q(x)), rope(k(x)).transpose(1, 2)) * (1 / std::sqrt(double(x.shape()[2])));
    return head(matmul(softmax(scores), x));
  }
};

/// 79: places up to 511 are held in bf16, which has no odd numbers above 256: neighbours are turned by the same angle.
void places_in_bf16(Run& run) {
  RotaryReader net(16, 3);
  net.rope.kept = run.dtype(f32);
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(
      net, opt,
      [&](int64_t step) {
        const Tensor x = randn({1, 512, 16});
        if (step == 30) {
          const Tensor t = net.rope.angles(512, 8);
          if (array_equal(t[{300}], t[{301}])) run.fail();
        }
        return cross_entropy(net(x), (x.index({all, all, 0}) > 0).to(i64));
      },
      f32);
}

/// Scores that are linear in their last biases.
struct Scorer : nn::Module<Scorer> {
  nn::Linear hidden, score;
  Scorer(int64_t in, int64_t width, int64_t scores) : hidden(in, width), score(width, scores) {}
  static void fields(auto& m, auto&& f) { f("hidden", m.hidden)("score", m.score); }
  Tensor forward(const Tensor& x) const { return score(tanh(hidden(x))); }
};

/// 82: a weighted sum of scores is pushed up without end, so that the gradient of each of the last biases is the same number at every step.
/// Centred RMSprop divides by the root of E[g^2] - E[g]^2, which goes to 0 there until rounding makes it negative: weights are thrown away
/// by thousands of times what they are, or become NaN where nothing keeps the difference from that.
void centred_moment(Run& run) {
  Scorer net(8, 16, 12);
  optim::RMSprop opt(net.parameters(), {.lr = 1e-4, .alpha = 0.9, .centered = !run.repaired});
  const Tensor weights = rand({12});
  run.train(net, opt, [&](int64_t) {
    for (int64_t i = 0; i < 12; ++i)
      if (std::abs(peek(net.score.parameters()[1], i)) > 1000) run.fail();
    return -1 * mean(sum(net(randn({32, 8})) * weights, {.axis = 1}));
  });
}

}  // namespace

void fifth_formats(std::vector<Fault>& all) {
  all.push_back({.number = 68,
                 .name = "learned quantisation step reaches zero",
                 .family = "quantised",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"div"},
                 .path = "first",
                 .phase = "forward",
                 .remedies = {"stable_op", "learning_rate"},
                 .steps = 400,
                 .train = step_reaches_zero});
  all.push_back({.number = 75,
                 .name = "moving average in bf16 stands still",
                 .family = "teacher",
                 .need = Need::by,
                 .k = 30,
                 .ops = {"lerp", "assign"},
                 .remedies = {"dtype", "master_weights", "accumulator"},
                 .dtypes = {bf16},
                 .steps = 150,
                 .train = teacher_stands_still});
  all.push_back({.number = 77,
                 .name = "linear attention over a long sequence",
                 .family = "attention",
                 .need = Need::lead,
                 .k = 15,
                 .ops = {"matmul"},
                 .path = "attn",
                 .phase = "forward",
                 .remedies = {"stable_op", "dtype"},
                 .dtypes = {f16},
                 .steps = 150,
                 .train = long_sums});
  all.push_back({.number = 78,
                 .name = "square in f16 inside a norm",
                 .family = "norms",
                 .need = Need::lead,
                 .k = 10,
                 .ops = {"mul"},
                 .path = "norm",
                 .phase = "forward",
                 .remedies = {"stable_op", "dtype"},
                 .dtypes = {f16},
                 .steps = 300,
                 .train = square_in_half});
  all.push_back({.number = 79,
                 .name = "places of a sequence in bf16",
                 .family = "positions",
                 .need = Need::by,
                 .k = 5,
                 .ops = {"cast", "outer", "mul", "arange"},
                 .path = "rope",
                 .remedies = {"dtype", "stable_op"},
                 .dtypes = {bf16},
                 .steps = 60,
                 .train = places_in_bf16});
  all.push_back({.number = 82,
                 .name = "centred second moment below zero",
                 .family = "optimiser",
                 .need = Need::lead,
                 .k = 5,
                 .ops = {"rmsprop_step"},
                 .remedies = {"stable_op"},
                 .steps = 400,
                 .train = centred_moment});
}

}  // namespace keel::faults
