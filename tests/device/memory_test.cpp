// What a captured step keeps of a device's memory, beside what the step itself takes at most.
#include <chrono>
#include <thread>

#include "backend/device_kernels.h"
#include "device/fake/fusion.h"
#include "device/on_device.h"
#include "support/training.h"

namespace keel {
namespace {

class StepMemory : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    if (!static_cast<const DeviceKernels*>(driver_of(d).kernels)->count) GTEST_SKIP() << "the device captures nothing";
    fake_fusion_delay = 0;
  }
};

struct Residual : nn::Module<Residual> {
  nn::Conv2d conv1, conv2, shortcut;
  nn::BatchNorm2d norm1, norm2, norm3;
  Residual(int64_t in, int64_t width, int64_t stride)
      : conv1(in, width, {.kernel = 3, .stride = stride, .padding = 1, .bias = false}),
        conv2(width, width, {.kernel = 3, .padding = 1, .bias = false}),
        shortcut(in, width, {.kernel = 1, .stride = stride, .bias = false}),
        norm1(width),
        norm2(width),
        norm3(width) {}
  static void fields(auto& m, auto&& f) {
    f("conv1", m.conv1)("conv2", m.conv2)("shortcut", m.shortcut)("norm1", m.norm1)("norm2", m.norm2)("norm3", m.norm3);
  }
  Tensor forward(const Tensor& x) const { return norm2.then_relu(conv2(norm1.then_relu(conv1(x))), norm3(shortcut(x))); }
};
/// Its tensors are of 1 to 3 MiB, larger ones wanted when smaller ones have been given: where segments do not merge, they fragment.
struct SmallResNet : nn::Module<SmallResNet> {
  nn::Conv2d stem{3, 16, {.kernel = 3, .padding = 1, .bias = false}};
  nn::BatchNorm2d norm{16};
  Residual block1{16, 32, 1}, block2{32, 64, 2}, block3{64, 128, 2};
  nn::Linear head{128, 10};
  static void fields(auto& m, auto&& f) {
    f("stem", m.stem)("norm", m.norm)("block1", m.block1)("block2", m.block2)("block3", m.block3)("head", m.head);
  }
  Tensor forward(const Tensor& x) const { return head(adaptive_avg_pool2d(block3(block2(block1(norm.then_relu(stem(x)))))).flatten(1)); }
};

TEST_F(StepMemory, OfACaptureIsThatOfTheStep) {
  constexpr int64_t kMiB = 1 << 20;
  release_cached_memory(d);
  const int64_t before = memory_stats(d).bytes_reserved;
  manual_seed(2);
  SmallResNet net;
  net.to(d);
  optim::SGD opt(net.parameters(), {.lr = 0.05, .momentum = 0.9});
  const Tensor x = randn({24, 3, 32, 32}).channels_last().to(d), y = randint(0, 10, {24}).to(d);
  const auto f = training_step(net, opt);
  const auto peak = [&](auto run) {
    reset_peak_memory(d);
    for (int i = 0; i < 2; ++i) run(Tensors{x, y});
    return memory_stats(d).peak_in_use;
  };
  f({x, y});
  const int64_t eager = peak(f);
  fake_fusion_delay = 2;  // captured without its chains, and anew when their kernels are there
  const Compiled step = compile(f, {.warm_up = 0});
  for (int i = 0; i < 600; ++i) {
    step({x, y});
    if (i > 5 && step.report().find("being made") == std::string::npos) break;
    if (i > 5) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  fake_fusion_delay = 0;
  ASSERT_TRUE(step.captured()) << step.reason();
  const int64_t captured = peak(step);
  // Copies of inputs and results.
  EXPECT_LT(captured, eager + eager / 64 + 2 * kMiB) << eager / kMiB << " MiB eager";
  // Beside it nothing of its size is kept: segments of 20 MiB stay that weights and the optimiser's state have a part of.
  EXPECT_LT(memory_stats(d).bytes_reserved - before, eager + 24 * kMiB) << eager / kMiB << " MiB eager";
}

}  // namespace
}  // namespace keel
