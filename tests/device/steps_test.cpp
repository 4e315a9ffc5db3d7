// Steps of optimisers over many parameters, as networks have them: of all sizes, some that vectors do not fit, some that lie in another
// order than their gradients.
#include "device/on_device.h"

namespace keel {
namespace {

class StepsOnDevice : public DeviceTest {
 protected:
  Tensors parameters(Device where, DType t) {
    manual_seed(31);
    Tensors all;
    for (const int64_t n : {1, 3, 4, 7, 255, 1023, 1024, 1025, 2047, 2052, 8192, 8193, 16390, 0, 300007}) {
      if (d.type == DeviceType::webgpu && n > 20000) continue;  // the fake one has little memory
      const Tensor base = randn({n + 1}).to(t).to(where);
      all.push_back(base[{slice(0, n)}].clone());
      all.push_back(base[{slice(1, n + 1)}].detach());  // begins inside a vector
      all.push_back(randn({n % 61 + 1, 5}).to(t).to(where).transpose().detach());
    }
    for (Tensor& p : all) p.requires_grad_();
    return all;
  }
  template <class Make>
  void steps_the_same(Make make, const std::string& what) {
    for (const DType t : {f32, f64, bf16, f16}) {
      const auto run = [&](Device where) {
        Tensors p = parameters(where, t);
        auto opt = make(p);
        for (int step = 0; step < 3; ++step) {
          manual_seed(100 + step);
          for (Tensor& one : p) sum(one * randn(one.shape()).to(t).to(where)).backward();
          opt.step();
          opt.zero_grad();
        }
        return p;
      };
      const Tensors before = parameters(cpu_device, t), want = run(cpu_device), got = run(d);
      const double bound = t == bf16 ? 8e-3 : t == f16 ? 1e-3 : t == f32 ? 2e-6 : 1e-13;
      for (int64_t i = 0; i < want.size(); ++i) {
        if (want[i].shape().numel() == 0) continue;
        const Tensor w = want[i].detach().to(f64), g = got[i].detach().to(cpu_device).to(f64);
        const std::string which = what + ", " + name_of(t) + ", parameter " + std::to_string(i);
        EXPECT_LE(max(abs(g - w)).item(), bound * std::max(1.0, max(abs(w)).item())) << which;
        EXPECT_GT(max(abs(w - before[i].detach().to(f64))).item(), 0) << which;
      }
    }
  }
};

TEST_F(StepsOnDevice, Adam) {
  steps_the_same([](const Tensors& p) { return optim::Adam(p, {.lr = 1e-2, .weight_decay = 0.1}); }, "Adam");
  steps_the_same([](const Tensors& p) { return optim::AdamW(p, {.lr = 1e-2, .amsgrad = true}); }, "AdamW with amsgrad");
  steps_the_same([](const Tensors& p) { return optim::AdamW(p, {.lr = 1e-2, .master_weights = true}); }, "AdamW with masters");
}
TEST_F(StepsOnDevice, Others) {
  steps_the_same([](const Tensors& p) { return optim::SGD(p, {.lr = 0.1}); }, "SGD");
  steps_the_same([](const Tensors& p) { return optim::SGD(p, {.lr = 0.1, .momentum = 0.9, .nesterov = true, .master_weights = true}); },
                 "SGD with momentum and masters");
  steps_the_same([](const Tensors& p) { return optim::RMSprop(p, {.lr = 1e-2, .momentum = 0.5, .centered = true}); }, "RMSprop");
}

}  // namespace
}  // namespace keel
