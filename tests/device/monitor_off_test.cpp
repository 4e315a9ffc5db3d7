// Without a monitor the device does the same work as if there were none: before one lived, and after.
#include <dlfcn.h>

#include "backend/device_kernels.h"
#include "device/on_device.h"

namespace keel {
namespace {

struct Net : nn::Module<Net> {
  nn::Conv2d conv{3, 8, {.kernel = 3, .padding = 1}};
  nn::BatchNorm2d norm{8};
  nn::Linear up{8, 32}, down{32, 5};
  nn::LayerNorm last{32};
  static void fields(auto& m, auto&& f) { f("conv", m.conv)("norm", m.norm)("up", m.up)("last", m.last)("down", m.down); }
  Tensor forward(const Tensor& x) { return down(gelu(last(up(mean(relu(norm(conv(x))), {.axis = {2, 3}}))))); }
};

class MonitorOff : public DeviceTest {
 protected:
  void train(int steps, Monitor* m = nullptr) {
    if (!net_) {
      manual_seed(3);
      net_ = std::make_unique<Net>(), net_->to(d);
      opt_ = optim::AdamW(net_->parameters(), {.lr = 1e-3});
      x_ = randn({4, 3, 8, 8}).to(d), y_ = randint(0, 5, {4}).to(d);
    }
    for (int i = 0; i < steps; ++i) {
      if (m) m->step();
      opt_.zero_grad();
      cross_entropy((*net_)(x_), y_).backward();
      nn::clip_grad_norm(net_->parameters(), 1.0);
      opt_.step();
    }
    synchronize(d);
  }

 private:
  std::unique_ptr<Net> net_;
  optim::Optimizer opt_;
  Tensor x_, y_;
};

/// Counts what a monitor asks of the device's boards, while it lives.
struct Asked {
  explicit Asked(Device d)
      : kernels(const_cast<DeviceKernels*>(static_cast<const DeviceKernels*>(driver_of(d).kernels))),
        driver(const_cast<DeviceDriver*>(&driver_of(d))),
        kernels_before(*kernels),
        driver_before(*driver) {
    count = 0, was = &kernels_before, was_driver = &driver_before;
    kernels->observe = [](int i, int n, const TensorView* x, BoardSlot* const* to, Look look) {
      return ++count, was->observe(i, n, x, to, look);
    };
    kernels->forbid = [](int i, const BoardSlot* b, int n, const uint32_t* s, const float* also, float* word) {
      return ++count, was->forbid(i, b, n, s, also, word);
    };
    kernels->gather = [](int i, int n, const Gather* what) { return ++count, was->gather(i, n, what); };
    driver->collect = [](int i, void* to, void* from, size_t n, uint64_t* ticket) {
      return ++count, was_driver->collect(i, to, from, n, ticket);
    };
  }
  ~Asked() { *kernels = kernels_before, *driver = driver_before; }
  DeviceKernels* kernels;
  DeviceDriver* driver;
  DeviceKernels kernels_before;
  DeviceDriver driver_before;
  static inline int count;
  static inline const DeviceKernels* was;
  static inline const DeviceDriver* was_driver;
};

TEST_F(MonitorOff, AsksNothing) {
  const Asked asked(d);
  train(2);
  EXPECT_EQ(Asked::count, 0);
  const int64_t bytes = memory_stats(d).bytes_in_use;
  {
    Monitor m;
    train(3, &m);
    EXPECT_GT(Asked::count, 3);
    m.pause();
    const int before = Asked::count;
    train(1);
    EXPECT_EQ(Asked::count, before);
    m.resume();
    train(1, &m);
    EXPECT_GT(Asked::count, before);
  }
  Asked::count = 0;
  train(2);
  EXPECT_EQ(Asked::count, 0);
  EXPECT_EQ(memory_stats(d).bytes_in_use, bytes);
}

/// Kernels by name and shape of launch, in order, as the kernel trace saw them:
///   CUDA_INJECTION64_PATH=build/cuda/libkeel_kernel_trace.so keel_test_device --gtest_filter='MonitorOff*'
TEST_F(MonitorOff, SameKernelTrace) {
  const char* const path = std::getenv("CUDA_INJECTION64_PATH");
  void* const library = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : nullptr;
  using Take = void (*)(void (*)(void*, const char*), void*);
  const auto take = library ? reinterpret_cast<Take>(dlsym(library, "keel_kernel_trace_take")) : nullptr;
  if (!take) GTEST_SKIP() << "no kernel trace is loaded";
  const auto trace = [&](int steps, Monitor* m) {
    synchronize(d);
    std::vector<std::string> names;
    const auto add = [](void* to, const char* text) {
      if (to) static_cast<std::vector<std::string>*>(to)->emplace_back(text);
    };
    take(add, nullptr);
    train(steps, m);
    take(add, &names);
    return names;
  };
  trace(3, nullptr);  // libraries choose their kernels, caches fill
  const auto before = trace(3, nullptr);
  EXPECT_GT(before.size(), 60u);
  std::vector<std::string> on, paused;
  {
    Monitor m;
    train(3, &m);
    on = trace(3, &m);
    m.pause();
    paused = trace(3, nullptr);
  }
  const auto after = trace(3, nullptr);
  EXPECT_NE(on, before);
  EXPECT_EQ(paused, before);
  EXPECT_EQ(after, before);
  std::printf("%zu launches and copies in 3 steps without a monitor, %zu with one\n", before.size(), on.size());
}

}  // namespace
}  // namespace keel
