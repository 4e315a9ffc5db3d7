// A model whose weights are bf16 and whose learning rate is small: each update is less than half of the distance between neighbours, so
// that nothing moves. No NaN, no error, gradients as they should be, and a loss that stands still. The monitor says so within ten steps.
#include <keel/keel.h>

#include <cstdio>
using namespace keel;

/// The loss after 300 steps of Adam on weights of dtype `t`.
double fit(DType t, bool& warned) {
  manual_seed(2);
  const Tensor x = randn({64, 16}), truth = rand({16, 1}) + 0.5;
  const Tensor y = matmul(x, truth);
  Tensor w = (rand({16, 1}) * 0.5 + 1.0).astype(t);
  w.requires_grad_();
  optim::Adam opt({w}, {.lr = 1e-3});
  Monitor monitor;
  double loss = 0;
  for (int step = 0; step < 300; ++step) {
    monitor.step();
    for (const auto& f : monitor.news()) {
      if (f.severity == Severity::info) continue;
      std::printf("  %s\n", to_string(f).c_str());
      warned |= f.detector == "absorbed update";
    }
    Tensor error = mean(square(matmul(x, w.astype(f32)) - y));
    error.backward();
    opt.step();
    opt.zero_grad();
    loss = error.item();
  }
  return loss;
}

int main() {
  bool narrow_warned = false, wide_warned = false;
  std::puts("Weights in bf16:");
  const double narrow = fit(bf16, narrow_warned);
  std::printf("  loss %.4f\n", narrow);
  std::puts("Weights in f32:");
  const double wide = fit(f32, wide_warned);
  std::printf("  loss %.4f\n", wide);
  return narrow_warned && !wide_warned && wide < 0.5 * narrow ? 0 : 1;
}
