// TF32 is asked for: products and convolutions of f32 lose digits then, as many as TF32 has not, and none otherwise.
#include "device/on_device.h"

namespace keel {
namespace {

class PrecisionOnDevice : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (!IsSkipped() && d.type != DeviceType::cuda) GTEST_SKIP() << "has no TF32";
  }
  void TearDown() override { set_float32_matmul_precision(MatmulPrecision::highest); }

  /// The largest error of the result and of both gradients, each beside its largest value.
  template <class F>
  static std::vector<double> errors(F f, const Tensor& a, const Tensor& b, Device where) {
    const auto run = [&](Device on, DType t) {
      const Tensor x = a.to(t).to(on).requires_grad_(), y = b.to(t).to(on).requires_grad_();
      const Tensor z = f(x, y);
      sum(square(z)).backward();
      return std::vector<Tensor>{z.detach(), x.grad(), y.grad()};
    };
    const std::vector<Tensor> want = run(cpu_device, f64), got = run(where, f32);
    std::vector<double> all;
    for (size_t i = 0; i < want.size(); ++i)
      all.push_back(max(abs(got[i].to(cpu_device).to(f64) - want[i])).item() / max(abs(want[i])).item());
    return all;
  }
  template <class F>
  void loses_digits_if_asked(F f, const Tensor& a, const Tensor& b) {
    for (const double e : errors(f, a, b, d)) EXPECT_LT(e, 1e-5);
    set_float32_matmul_precision(MatmulPrecision::high);
    for (const double e : errors(f, a, b, d)) {
      EXPECT_GT(e, 1e-5) << "kept all digits";
      EXPECT_LT(e, 5e-3);
    }
    {
      const DeterminismGuard level(Determinism::invariant);
      for (const double e : errors(f, a, b, d)) EXPECT_LT(e, 1e-5);
    }
    set_float32_matmul_precision(MatmulPrecision::highest);
    for (const double e : errors(f, a, b, d)) EXPECT_LT(e, 1e-5);
  }
};

TEST_F(PrecisionOnDevice, Products) {
  manual_seed(1);
  loses_digits_if_asked([](const Tensor& x, const Tensor& y) { return matmul(x, y); }, randn({256, 512}), randn({512, 384}));
  loses_digits_if_asked([](const Tensor& x, const Tensor& y) { return linear(x, y); }, randn({128, 256}), randn({320, 256}));
}
TEST_F(PrecisionOnDevice, Convolutions) {
  manual_seed(2);
  loses_digits_if_asked([](const Tensor& x, const Tensor& w) { return conv2d(x, w, {}, {.padding = {1, 1}}); },
                        randn({4, 64, 28, 28}).channels_last(), randn({64, 64, 3, 3}));
}

}  // namespace
}  // namespace keel
