// Attention in f16 whose scores grow by four percent a step: nothing is wrong until a score passes 65504. The monitor sees the headroom
// shrink, says when it will be gone and which product it is, and the run takes the advice in time.
#include <keel/keel.h>

#include <cmath>
#include <cstdio>
using namespace keel;

struct Head : nn::Module<Head> {
  nn::Linear query{32, 32}, key{32, 32}, value{32, 32};
  bool wide = false;  // scores in bf16
  static void fields(auto& m, auto&& f) { f("query", m.query)("key", m.key)("value", m.value); }
  Tensor forward(const Tensor& x) const {
    const DType t = wide ? bf16 : f16;
    const Tensor scores = matmul(query(x).astype(t), key(x).astype(t).transpose(-1, -2));
    return matmul(softmax(scores.astype(f32) / std::sqrt(32.0)), value(x));
  }
};

/// Trains until a value breaks or 400 steps are over; the step that broke, or 0.
int64_t fit(bool listen, int64_t& warned) {
  manual_seed(1);
  Head head;
  const Tensor x = randn({2, 16, 32}), target = randn({2, 16, 32});
  optim::SGD opt(head.parameters(), {.lr = 1e-3});
  Monitor monitor;
  for (int64_t step = 1; step <= 400; ++step) {
    monitor.step();
    for (const auto& f : monitor.news()) {
      if (f.severity == Severity::info) continue;
      std::printf("  %s\n", to_string(f).c_str());
      if (f.severity == Severity::fault) return step;
      if (f.detector != "headroom") continue;
      if (!warned) warned = step;
      if (listen && f.suggestion.kind == "dtype") head.wide = true;
    }
    mean(square(head(x) - target)).backward();
    opt.step();
    opt.zero_grad();
    NoGrad off;  // what a large learning rate without weight decay does to these two matrices, at a fixed pace
    for (Tensor w : {head.query.weight, head.key.weight}) w.mul_(1.02);
    if (monitor.findings().size()) return step;
  }
  return 0;
}

int main() {
  int64_t warned = 0, ignored = 0;
  std::puts("Nobody listens:");
  const int64_t broke = fit(false, warned);
  std::printf("  ... and at step %lld the scores are infinite; the warning came %lld steps before\n", static_cast<long long>(broke),
              static_cast<long long>(broke - warned));
  std::puts("Its advice is taken:");
  const int64_t again = fit(true, ignored);
  std::printf("  %s\n", again ? "broke all the same" : "400 steps, nothing broke");
  return warned > 0 && broke - warned >= 20 && again == 0 ? 0 : 1;
}
