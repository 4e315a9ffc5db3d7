// A network that another framework trained: its weights, through Keel's readers and layers, must classify the 10,000 test images as torch
// did.
#include <gtest/gtest.h>

#include <cmath>

#include "keel/keel.h"
#include "unit/test_data.h"

namespace keel {
namespace {

struct BurnNet : nn::Module<BurnNet> {
  nn::Conv2d conv1{1, 8, {.kernel = 3}}, conv2{8, 16, {.kernel = 3}}, conv3{16, 24, {.kernel = 3}};
  nn::BatchNorm2d norm1{24};
  nn::Linear fc1{24 * 22 * 22, 32}, fc2{32, 10};
  nn::BatchNorm1d norm2{10};
  static void fields(auto& m, auto&& f) {
    f("conv1", m.conv1)("conv2", m.conv2)("conv3", m.conv3)("norm1", m.norm1)("fc1", m.fc1)("fc2", m.fc2)("norm2", m.norm2);
  }
  Tensor forward(const Tensor& image) const {  // f32[n, 1, 28, 28] -> log-probabilities f32[n, 10]
    const Tensor x = norm1(relu(conv3(relu(conv2(relu(conv1(image)))))));
    return log_softmax(norm2(fc2(relu(fc1(x.flatten(1))))), {.axis = 1});
  }
};

TEST(BurnMnist, WeightsOfAnotherFrameworkReachItsAccuracy) {
  SKIP_WITHOUT_DATA();
  NoGrad off;
  BurnNet net;
  const nn::LoadResult loaded = net.load_state_dict(load(data_dir() + "/burn-mnist/mnist.safetensors"));
  EXPECT_TRUE(loaded.missing.empty() && loaded.unexpected.empty());
  net.eval();
  const Tensor golden = load(data_dir() + "/burn-mnist/t10k_logprobs_safetensors_torch1.13.npy")["arr_0"];
  ASSERT_EQ(golden.shape(), Shape({10000, 10}));
  const data::Dataset images = data::mnist(data_dir() + "/mnist", {.train = false, .mean = 0.1307, .stddev = 0.3081});
  int64_t hits = 0, at = 0;
  double worst = 0;
  for (const auto& [x, y] : data::Loader(images, {.batch_size = 500})) {
    const Tensor p = net(x), expected = golden[{slice(at, at + 500)}];
    hits += sum(argmax(p, {.axis = 1}) == y).item<int64_t>();
    worst = std::max(worst, max(abs(p - expected)).item());
    at += 500;
  }
  EXPECT_EQ(hits, 9917);
  EXPECT_LT(worst, 2e-4);  // log-probabilities down to -20; each is a sum of 11,616 products
}

}  // namespace
}  // namespace keel
