// What is wrong with a program can be read off its trace; and networks that are put together well get no word.
#include "keel/lint.h"

#include <gtest/gtest.h>

#include "../../apps/keel/models.h"
#include "../../apps/keel/residual.h"
#include "keel/keel.h"

namespace keel {
namespace {

std::string rules(const std::vector<LintFinding>& all) {
  std::string text;
  for (const LintFinding& f : all) text += (text.empty() ? "" : "; ") + f.rule + " @ " + f.op;
  return text;
}
template <class F>
std::string found(F f) {
  return rules(lint(f));
}

TEST(Lint, SpeaksAboutWhatBreaks) {
  const Tensor x = randn({4, 8}), w = randn({8, 8});
  Tensor p = randn({4, 8});
  p.requires_grad_();
  EXPECT_EQ(found([&] { log(softmax(x)); }), "log of softmax @ log");
  EXPECT_EQ(found([&] { log(softmax(x).index({all, slice(0, 2)})); }), "log of softmax @ log");
  EXPECT_EQ(found([&] { log(1 + exp(matmul(x, w))); }), "softplus by hand @ exp");
  EXPECT_EQ(found([&] { log1p(exp(x)); }), "softplus by hand @ exp");
  EXPECT_EQ(found([&] { log(sum(exp(matmul(x, w)), {.axis = -1})); }), "logsumexp by hand @ exp");
  EXPECT_EQ(found([&] {
              const Tensor e = exp(x);
              e / sum(e, {.axis = -1, .keepdim = true});
            }),
            "softmax by hand @ exp");
  EXPECT_EQ(found([&] { log(1 - sigmoid(x)); }), "log of 1 - sigmoid @ sub");
  EXPECT_EQ(found([&] { log(sigmoid(x)); }), "log of sigmoid @ log");
  EXPECT_EQ(found([&] { mean(square(x)) - square(mean(x)); }), "one-pass variance @ sub");
  EXPECT_EQ(found([&] { sqrt(sum(square(p), {.axis = -1})); }), "norm by hand @ sqrt");
  EXPECT_EQ(found([&] { sqrt(sum(p * p, {.axis = -1})); }), "norm by hand @ sqrt");
  EXPECT_EQ(found([&] { x* rsqrt(mean(square(x), {.axis = -1, .keepdim = true})); }), "division by what may be 0 @ rsqrt");
  EXPECT_EQ(found([&] { x / (max(x) - min(x)); }), "division by what may be 0 @ div");
  EXPECT_EQ(found([&] { x / sqrt(sum(square(x))); }), "division by what may be 0 @ div");
  EXPECT_EQ(found([&] { x.to(f16) + 1e-8; }), "epsilon @ add");
  EXPECT_EQ(found([&] { x.to(f16) * 1e5; }), "number beyond the dtype @ mul");
  EXPECT_EQ(found([&] { sum(zeros({20000}, {.dtype = f16})); }), "sum in f16 @ sum");
}

TEST(Lint, IsSilentAboutTheRepairedForms) {
  const Tensor x = randn({4, 8}), w = randn({8, 8});
  Tensor p = randn({4, 8});
  p.requires_grad_();
  EXPECT_EQ(found([&] {
              log_softmax(x);
              softplus(matmul(x, w));
              logsumexp(x, {.axis = -1});
              const Tensor m = max(x, {.axis = -1, .keepdim = true}), e = exp(x - m);
              e / sum(e, {.axis = -1, .keepdim = true});
              log(sum(e, {.axis = -1}));
              var(x);
              sqrt(sum(square(p), {.axis = -1}) + 1e-6);
              norm_safe(p);
              x* rsqrt(mean(square(x), {.axis = -1, .keepdim = true}) + 1e-5);
              x / (max(x) - min(x) + 1e-6);
              x / maximum(sqrt(sum(square(x))), 1e-6);
              sum(square(x)) - square(sum(x - w.index({slice(0, 4)})));
              x.to(f16) + 1e-3;
              x.to(f16) * 100.0;
              x + 1e-8;
              masked_fill(x.to(f16), x > 0, -1e4);
              mean(zeros({20000}, {.dtype = f16}));
              mean(x.to(f16));
            }),
            "");
}

TEST(Lint, NamesPlaceAndRemedyOnce) {
  const Tensor x = randn({4, 8});
  const auto all = lint([&] {
    for (int i = 0; i < 3; ++i) log(softmax(x));
  });
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].count, 3);
  EXPECT_EQ(all[0].severity, Severity::warning);
  EXPECT_EQ(all[0].suggestion.kind, "stable_op");
  EXPECT_NE(all[0].suggestion.text.find("log_softmax"), std::string::npos);
  EXPECT_EQ(all[0].phase, "forward");
  EXPECT_FALSE(all[0].site.empty());
  EXPECT_FALSE(all[0].text.empty());
}

TEST(Lint, RefusesARecordingInsideAnother) {
  EXPECT_THROW(lint([] { lint([] { ones({2}) + 1; }); }), Error);
  EXPECT_EQ(found([] { log(softmax(ones({2, 2}))); }), "log of softmax @ log");  // the one that failed left nothing behind
}

TEST(Lint, ChangesNoValue) {
  const Tensor x = randn({4, 8});
  Tensor y;
  lint([&] { y = softmax(x * 2); });
  EXPECT_TRUE(array_equal(y, softmax(x * 2)));
}

/// Attention written out, with a mask of -inf.
struct Attention : nn::Module<Attention> {
  nn::LayerNorm norm_a{32};
  nn::Linear q{32, 32}, k{32, 32}, v{32, 32}, out{32, 32};
  nn::RMSNorm norm_b{32};
  nn::Linear up{32, 64}, down{64, 32};
  static void fields(auto& m, auto&& f) {
    f("norm_a", m.norm_a)("q", m.q)("k", m.k)("v", m.v)("out", m.out)("norm_b", m.norm_b)("up", m.up)("down", m.down);
  }
  Tensor forward(const Tensor& x) const {
    const Tensor n = norm_a(x);
    const Tensor scores = matmul(q(n), k(n).transpose(1, 2)) * 0.176, future = arange(8).reshape({1, 8}) > arange(8).reshape({8, 1});
    const Tensor p = softmax(masked_fill(scores, future, -std::numeric_limits<double>::infinity()));
    const Tensor y = x + out(matmul(p, v(n)));
    return y + down(gelu(up(norm_b(y))));
  }
};
struct Masked : nn::Module<Masked> {
  nn::Embedding table{64, 32};
  Attention block;
  nn::Linear head{32, 64};
  static void fields(auto& m, auto&& f) { f("table", m.table)("block", m.block)("head", m.head); }
  Tensor forward(const Tensor& ids) const { return head(block(table(ids))); }
};

template <class Net>
void silent(Net& net, const Tensor& x, const Tensor& labels) {
  for (const DType t : {f32, bf16, f16}) {
    optim::AdamW opt(net.parameters(), {.lr = 1e-3});
    optim::GradScaler scaler({.init_scale = 256, .enabled = t == f16});
    const auto step = [&] {
      Tensor loss;
      {
        Autocast guard(t == f32 ? DType::none : t);
        const Tensor y = net(x);
        loss = cross_entropy(y.reshape({-1, y.size(-1)}), labels);
      }
      scaler.scale(loss).backward();
      scaler.unscale_(opt);
      nn::clip_grad_norm(net.parameters(), 1.0);
      scaler.step(opt);
      scaler.update();
      opt.zero_grad();
    };
    step();  // the optimiser's state is made before anybody records
    const auto all = lint(step);
    EXPECT_EQ(rules(all), "") << name_of(t);
  }
}

TEST(Lint, IsSilentAboutSoundNetworks) {
  auto mlp = app::mlp();
  silent(mlp, randn({8, 1, 28, 28}), randint(0, 10, {8}));
  app::LeNet cnn;
  silent(cnn, randn({2, 1, 28, 28}), randint(0, 10, {2}));
  app::ResNet18 deep(app::kCifar);
  silent(deep, randn({2, 3, 32, 32}), randint(0, 10, {2}));
  app::Gpt gpt({.context = 16, .layers = 2, .width = 32});
  silent(gpt, randint(0, 65, {2, 16}), randint(0, 65, {32}));
  Masked masked;
  silent(masked, randint(0, 64, {2, 8}), randint(0, 64, {16}));
}

}  // namespace
}  // namespace keel
