// Gradients of pools in the orders of memory that have kernels of their own, beside the same on the CPU.
#include "device/on_device.h"

namespace keel {
namespace {

class PoolsOnDevice : public DeviceTest {
 protected:
  struct Form {
    int64_t channels, h, w;
    Pool2dParams p;
  };
  static std::vector<Form> forms() {
    return {{16, 12, 12, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}},
            {16, 13, 7, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}},
            {8, 9, 11, {.kernel = {2, 2}}},
            {8, 10, 5, {.kernel = {3, 2}, .stride = {1, 1}}},
            {24, 11, 10, {.kernel = {2, 3}, .stride = {3, 4}}},
            {8, 7, 7, {.kernel = {7, 7}}},
            {16, 5, 5, {.kernel = {5, 5}, .stride = {3, 3}, .padding = {1, 1}}},
            {3, 7, 5, {.kernel = {3, 3}, .stride = {2, 1}, .padding = {1, 0}}},
            {8, 1, 1, {.kernel = {1, 1}}}};
  }
  template <class F>
  static Tensor gradient(F pool, const Tensor& x, const Tensor& g) {
    const Tensor in = x.detach().requires_grad_();
    sum(pool(in) * g).backward();
    return in.grad();
  }
  template <class F>
  void agree(const char* what, F pool_with) {
    for (const DType t : {f32, bf16, f16, f64})
      for (const Form& f : forms())
        for (const bool rows : {false, true}) {
          manual_seed(21);
          const auto pool = [&](const Tensor& x) { return pool_with(x, f.p); };
          Tensor x = randn({3, f.channels, f.h, f.w}).to(t);
          if (rows) x = x.channels_last();
          const Tensor g = randn(pool(x).shape()).to(t);
          const Tensor got = gradient(pool, x.to(d), g.to(d)).to(cpu_device).to(f64), want = gradient(pool, x, g).to(f64);
          const double bound = t == bf16 ? 1e-2 : t == f16 ? 2e-3 : t == f32 ? 1e-6 : 1e-14;
          EXPECT_LE(max(abs(got - want)).item(), bound * std::max(1.0, max(abs(want)).item()))
              << what << ", " << name_of(t) << ", " << to_string(x.shape()) << (rows ? ", channels last" : ", in planes");
        }
  }
};

TEST_F(PoolsOnDevice, LargestOfWindows) {
  agree("max_pool2d", [](const Tensor& x, const Pool2dParams& p) { return max_pool2d(x, p); });
}
TEST_F(PoolsOnDevice, MeansOfWindows) {
  agree("avg_pool2d", [](const Tensor& x, const Pool2dParams& p) { return avg_pool2d(x, p); });
}
TEST_F(PoolsOnDevice, MeansOfPlanes) {
  agree("adaptive_avg_pool2d", [](const Tensor& x, const Pool2dParams&) { return adaptive_avg_pool2d(x); });
}

}  // namespace
}  // namespace keel
