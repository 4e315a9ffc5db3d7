// Whole networks on another device: they learn as on the CPU, with no call left to the CPU where the device has kernels; and errors that
// queued work finds.
#include "backend/kernel.h"
#include "device/on_device.h"
#include "op/scope.h"

namespace keel {
namespace {

class TrainsOnDevice : public DeviceTest {
 protected:
  /// Trains `make()` on (x, y) here and there.
  template <class Make>
  void learns_the_same(Make make, const Tensor& x, const Tensor& y, double clip = 0) {
    const auto losses = [&](Device where) {
      manual_seed(3);
      auto net = make();
      net.to(where);
      const Tensor xd = x.to(where), yd = y.to(where);
      optim::AdamW opt(net.parameters(), {.lr = 3e-3});
      std::vector<double> all;
      for (int i = 0; i < 12; ++i) {
        const Tensor loss = cross_entropy(net(xd), yd);
        opt.zero_grad();
        loss.backward();
        if (clip > 0) nn::clip_grad_norm(net.parameters(), clip);
        opt.step();
        all.push_back(loss.item());
      }
      return all;
    };
    const std::vector<double> here = losses(cpu_device);
    const std::vector<FallbackCount> before = fallback_report();
    const int64_t calls = fallback_calls();
    const std::vector<double> there = losses(d);
    for (size_t i = 0; i < here.size(); ++i) EXPECT_NEAR(there[i], here[i], 2e-3 * here[i]) << "step " << i;
    EXPECT_LT(there.back(), 0.9 * there.front());
    if (d.type != DeviceType::cuda) return;
    std::string which;
    for (const FallbackCount& f : fallback_report()) {
      int64_t old = 0;
      for (const FallbackCount& b : before)
        if (std::string_view(b.op) == f.op) old = b.calls;
      if (f.calls > old) which += " " + std::string(f.op);
    }
    EXPECT_EQ(fallback_calls(), calls) << "left to the CPU or decomposed:" << which;
  }
};

struct Convnet : nn::Module<Convnet> {
  nn::Conv2d conv1{1, 6, {.kernel = 5}}, conv2{6, 16, {.kernel = 5}};
  nn::BatchNorm2d norm{16};
  nn::Dropout drop{0.1};
  nn::Linear fc1{256, 32}, fc2{32, 10};
  static void fields(auto& m, auto&& f) {
    f("conv1", m.conv1)("conv2", m.conv2)("norm", m.norm)("drop", m.drop)("fc1", m.fc1)("fc2", m.fc2);
  }
  Tensor forward(const Tensor& image) const {
    const Tensor x = max_pool2d(relu(conv1(image)), {.kernel = 2}), y = max_pool2d(relu(norm(conv2(x))), {.kernel = 2});
    return fc2(drop(relu(fc1(y.flatten(1)))));
  }
};
struct Transformer : nn::Module<Transformer> {
  nn::Embedding tokens{17, 32}, positions{12, 32};
  nn::LayerNorm norm1{32}, norm2{32};
  nn::Linear qkv{32, 96}, proj{32, 32}, up{32, 64}, down{64, 32}, head{32, 17};
  static void fields(auto& m, auto&& f) {
    f("tokens", m.tokens)("positions", m.positions)("norm1", m.norm1)("norm2", m.norm2)("qkv", m.qkv)("proj", m.proj)("up", m.up)(
        "down", m.down)("head", m.head);
  }
  Tensor forward(const Tensor& ids) const {
    const Tensor x = tokens(ids) + positions(arange(ids.shape()[1], {.device = ids.device()}));
    const auto [b, t, w] = x.shape().as<3>();
    const auto h = qkv(norm1(x)).reshape({b, t, 3, 4, 8}).permute({2, 0, 3, 1, 4});
    const Tensor z = x + proj(attention(h[0], h[1], h[2], {.causal = true}).transpose(1, 2).reshape({b, t, w}));
    return head(z + down(gelu(up(norm2(z))))).reshape({b * t, 17});
  }
};

TEST_F(TrainsOnDevice, Perceptron) {
  const auto make = [] { return nn::Sequential(nn::Flatten(), nn::Linear(64, 32), nn::ReLU(), nn::Linear(32, 10)); };
  learns_the_same(make, randn({48, 8, 8}), randint(0, 10, {48}));
}
TEST_F(TrainsOnDevice, ConvolutionalNetwork) {
  learns_the_same([] { return Convnet(); }, randn({24, 1, 28, 28}), randint(0, 10, {24}));
}
TEST_F(TrainsOnDevice, Transformer) {
  learns_the_same([] { return Transformer(); }, randint(0, 17, {6, 12}), randint(0, 17, {72}), 1.0);
}

/// Autocast and loss scaling with everything on the device: the same losses, the same scales after the same overflows, and weights that
/// these never reach.
TEST_F(TrainsOnDevice, MixedPrecision) {
  for (const DType low : {bf16, f16}) {
    const auto train = [&](Device where) {
      manual_seed(5);
      nn::Sequential net(nn::Linear(16, 32), nn::ReLU(), nn::LayerNorm(32), nn::Linear(32, 4));
      const Tensor x = randn({32, 16}).to(where), y = randint(0, 4, {32}).to(where);
      net.to(where);
      optim::AdamW opt(net.parameters(), {.lr = 1e-2});
      optim::GradScaler scaler({.init_scale = 1024, .growth_interval = 3});
      std::vector<double> losses, scales;
      for (int i = 0; i < 10; ++i) {
        opt.zero_grad();
        Tensor loss;
        {
          Autocast guard(low);
          loss = cross_entropy(net(x), y);
        }
        scaler.scale(i == 4 ? loss * INFINITY : loss).backward();
        if (i % 2) scaler.unscale_(opt), nn::clip_grad_norm(net.parameters(), 1.0);
        scaler.step(opt);
        EXPECT_EQ(scaler.found_inf(opt).device(), where);
        scaler.update();
        losses.push_back(loss.item()), scales.push_back(scaler.get_scale());
      }
      for (const Tensor& p : net.parameters()) EXPECT_EQ(all(isfinite(p.detach().to(cpu_device))).item(), 1.0);
      EXPECT_EQ(opt.state_dict().find("state.0.step")->to(cpu_device).item(), 9);
      return std::pair(losses, scales);
    };
    const auto here = train(cpu_device), there = train(d);
    EXPECT_EQ(here.second, there.second);
    EXPECT_EQ(here.second, (std::vector<double>{1024, 1024, 2048, 2048, 1024, 1024, 1024, 2048, 2048, 2048}));
    for (size_t i = 0; i < here.first.size(); ++i) EXPECT_NEAR(there.first[i], here.first[i], 0.02 * here.first[i]) << "step " << i;
    EXPECT_LT(there.first.back(), 0.8 * there.first.front());
  }
}

TEST_F(TrainsOnDevice, ErrorsInDataNameTheCall) {
  const Tensor weight = randn({5, 3}).to(d), ids = tensor({1, 7, 9}).to(d);
  try {
    embedding(ids, weight);
    synchronize(d);
    FAIL() << "id 7 of 5 was taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::index);
    EXPECT_EQ(e.op(), "embedding");
    EXPECT_NE(std::string(e.what()).find("id 7 is out of range [0, 4]"), std::string::npos) << e.what();
  }
  synchronize(d);  // told once
  EXPECT_EQ(embedding(tensor({1}).to(d), weight).shape(), Shape({1, 3}));
  try {
    const Tensor far = index_select(weight, tensor({5}).to(d));
    far.to(cpu_device);
    FAIL() << "index 5 of 5 was taken";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("index 5 is out of range [-5, 4] on axis 0"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace keel
