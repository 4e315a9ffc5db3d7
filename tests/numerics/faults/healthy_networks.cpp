// Healthy runs of larger families: transformer in three dtypes, CNN, LSTM, VAE, GAN, fp8.
#include <algorithm>
#include <cmath>

#include "families.h"

namespace keel::faults {
namespace {

struct Block : nn::Module<Block> {
  nn::LayerNorm norm1{32}, norm2{32};
  nn::Linear qkv{32, 96}, proj{32, 32}, up{32, 64}, down{64, 32};
  static void fields(auto& m, auto&& f) { f("norm1", m.norm1)("qkv", m.qkv)("proj", m.proj)("norm2", m.norm2)("up", m.up)("down", m.down); }
  Tensor forward(const Tensor& x) const {
    const auto [b, t, d] = x.shape().as<3>();
    const Tensor h = qkv(norm1(x)).reshape({b, t, 3, 2, d / 2}).permute({2, 0, 3, 1, 4});
    const Tensor z = x + proj(attention(h[0], h[1], h[2], {.causal = true}).transpose(1, 2).reshape({b, t, d}));
    return z + down(gelu(up(norm2(z))));
  }
};
struct Gpt : nn::Module<Gpt> {
  nn::Embedding tokens{16, 32}, positions{16, 32};
  Block first, second;
  nn::LayerNorm norm{32};
  nn::Linear head{32, 16, {.bias = false}};
  static void fields(auto& m, auto&& f) {
    f("tokens", m.tokens)("positions", m.positions)("first", m.first)("second", m.second)("norm", m.norm)("head", m.head);
  }
  Tensor forward(const Tensor& ids) const { return head(norm(second(first(tokens(ids) + positions(arange(ids.size(1))))))); }
};
/// Sequences that count upwards from a random start, with some noise.
Data counting() {
  const Tensor start = randint(0, 16, {4, 1}), clean = (start + arange(13)) % 16;
  const Tensor ids = where(rand({4, 13}) < 0.1, randint(0, 16, {4, 13}), clean);
  return {ids.index({all, slice(0, 12)}), ids.index({all, slice(1, 13)})};
}
void gpt(Run& run, DType t) {
  Gpt net;
  optim::AdamW opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Data d = counting();
    Autocast guard(t);
    return cross_entropy(net(d.x), d.y);
  });
}
void gpt_f32(Run& run) { gpt(run, DType::none); }
void gpt_bf16(Run& run) { gpt(run, bf16); }

void gpt_f16(Run& run) {
  Gpt net;
  optim::AdamW opt(net.parameters(), {.lr = 1e-3});
  const Tensors weights = net.parameters();
  optim::GradScaler scaler({.growth_interval = 500});
  while (run.next()) {
    opt.zero_grad();
    const Data d = counting();
    Tensor loss;
    {
      Autocast guard(f16);
      loss = cross_entropy(net(d.x), d.y);
    }
    scaler.scale(loss).backward();
    scaler.step(opt);
    scaler.update();
    for (const Tensor& w : weights)
      if (!finite(w)) run.fail();
  }
}

struct Cnn : nn::Module<Cnn> {
  nn::Conv2d conv1{1, 4, {.kernel = 3, .padding = 1}}, conv2{4, 8, {.kernel = 3, .padding = 1}};
  nn::BatchNorm2d norm{4};
  nn::Linear head{32, 2};
  static void fields(auto& m, auto&& f) { f("conv1", m.conv1)("norm", m.norm)("conv2", m.conv2)("head", m.head); }
  Tensor forward(const Tensor& x) const {
    const Tensor y = max_pool2d(relu(norm(conv1(x))), {.kernel = 2});
    return head(max_pool2d(relu(conv2(y)), {.kernel = 2}).flatten(1));
  }
};
/// Whether a stripe lies or stands.
void cnn(Run& run) {
  Cnn net;
  optim::SGD opt(net.parameters(), {.lr = 0.02, .momentum = 0.9});
  run.train(net, opt, [&](int64_t) {
    Tensor x = randn({8, 1, 8, 8}) * 0.5;
    const Tensor stands = randint(0, 2, {8});
    const Tensor stripe = ((arange(8) % 2) * 2 - 1).to(f32), s = stands.reshape({8, 1, 1, 1}).to(f32);
    x = x + s * stripe + (1 - s) * stripe.unsqueeze(1);
    return cross_entropy(net(x), stands);
  });
}

struct Lstm : nn::Module<Lstm> {
  nn::Linear input{4, 64}, hidden{16, 64, {.bias = false}}, head{16, 1};
  static void fields(auto& m, auto&& f) { f("input", m.input)("hidden", m.hidden)("head", m.head); }
  Tensor forward(const Tensor& x) const {  // [length, batch, 4]
    Tensor h = zeros({x.size(1), 16}), c = h;
    for (int64_t t = 0; t < x.size(0); ++t) {
      const Tensors g = chunk(input(x[t]) + hidden(h), 4, {.axis = 1});
      c = sigmoid(g[0]) * c + sigmoid(g[1]) * tanh(g[2]);
      h = sigmoid(g[3]) * tanh(c);
    }
    return head(h);
  }
};
void lstm(Run& run) {
  Lstm net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.clip = 1;
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({8, 8, 4});
    return mse_loss(net(x), mean(x.index({all, all, slice(0, 1)}), {.axis = 0}));
  });
}

struct Vae : nn::Module<Vae> {
  nn::Linear encode{16, 32}, centre{32, 4}, spread{32, 4};
  Mlp decode{4, 32, 16};
  static void fields(auto& m, auto&& f) { f("encode", m.encode)("centre", m.centre)("spread", m.spread)("decode", m.decode); }
  Tensor forward(const Tensor& x) const {  // the negative evidence bound
    const Tensor h = relu(encode(x)), mu = centre(h), log_var = spread(h);
    const Tensor z = mu + exp(0.5 * log_var) * randn(mu.shape());
    const Tensor divergence = -0.5 * sum(1 + log_var - square(mu) - exp(log_var), {.axis = 1});
    return mean(sum(square(decode(z) - x), {.axis = 1}) + divergence);
  }
};
void vae(Run& run) {
  Vae net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensor mix = randn({4, 16}) * 0.5;
  run.train(net, opt, [&](int64_t) { return net(matmul(randn({32, 4}), mix) + 0.1 * randn({32, 16})); });
}

void gan(Run& run) {
  Mlp generator(4, 32, 2), critic(2, 32, 1);
  optim::Adam g(generator.parameters(), {.lr = 1e-3, .betas = {0.5, 0.999}}), c(critic.parameters(), {.lr = 1e-3, .betas = {0.5, 0.999}});
  const Tensor yes = ones({32, 1}), no = zeros({32, 1});
  while (run.next()) {
    const Tensor real = randn({32, 2}) * 0.5 + 1, fake = generator(randn({32, 4}));
    c.zero_grad();
    (bce_with_logits(critic(real), yes) + bce_with_logits(critic(fake.detach()), no)).backward();
    c.step();
    g.zero_grad();
    const Tensor loss = bce_with_logits(critic(fake), yes);
    loss.backward();
    g.step();
    run.look(loss, generator.parameters());
  }
}

struct NarrowLinear : nn::Module<NarrowLinear> {
  nn::Linear inner{16, 32};
  static void fields(auto& m, auto&& f) { f("inner", m.inner); }
  Tensor forward(const Tensor& x) const {
    const Tensor s = 448 / max(abs(x.detach()));
    return inner(cast(x * s, f8e4m3fn).to(f32) / s);
  }
};
struct NarrowNet : nn::Module<NarrowNet> {
  NarrowLinear input;
  nn::Linear head{32, 4};
  static void fields(auto& m, auto&& f) { f("input", m.input)("head", m.head); }
  Tensor forward(const Tensor& x) const { return head(relu(input(x))); }
};
/// A layer whose input is f8e4m3fn, scaled by what it holds now.
void fp8(Run& run) {
  NarrowNet net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  run.train(net, opt, [&](int64_t) {
    const Tensor x = randn({32, 16});
    return cross_entropy(net(x), argmax(x.index({all, slice(0, 4)}), {.axis = 1}));
  });
}

}  // namespace

void healthy_networks(std::vector<Healthy>& list) {
  for (const Healthy& h : std::initializer_list<Healthy>{{"tiny GPT, f32", gpt_f32},
                                                         {"tiny GPT, bf16 autocast", gpt_bf16},
                                                         {"tiny GPT, f16 autocast, GradScaler", gpt_f16},
                                                         {"CNN with batch norm", cnn},
                                                         {"LSTM cell from ops, clipped", lstm},
                                                         {"VAE", vae},
                                                         {"GAN", gan},
                                                         {"fp8 input with current scaling", fp8}})
    list.push_back(h);
}

}  // namespace keel::faults
