// A layer that normalises by hand, without an epsilon, while its features collapse to a constant: the variance halves every few steps until
// it is 0 and the output 0 / 0. The monitor watches the denominator, not the output, and proposes an epsilon from what it measured.
#include <keel/keel.h>

#include <cmath>
#include <cstdio>
using namespace keel;

struct Normalise : nn::Module<Normalise> {
  double eps = 0;
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const {
    const Tensor centred = x - mean(x, {.axis = {-1}, .keepdim = true});
    return centred / sqrt(mean(square(centred), {.axis = {-1}, .keepdim = true}) + eps);
  }
};

struct Outcome {
  int64_t warned = 0, broke = 0;
  double epsilon = 0;
};

Outcome run(double eps) {
  manual_seed(0);
  Normalise layer;
  layer.eps = eps;
  const Tensor features = randn({8, 32});
  Monitor monitor;
  Outcome out;
  for (int64_t step = 1; step <= 300 && !out.broke; ++step) {
    monitor.step();
    Tensor x = features * std::pow(0.7, double(step));  // the layer before it forgets its input
    x.requires_grad_();
    sum(layer(x)).backward();
    for (const auto& f : monitor.news()) {
      if (f.severity == Severity::info) continue;
      std::printf("  %s\n", to_string(f).c_str());
      if (f.severity == Severity::fault) out.broke = step;
      else if (!out.warned) out.warned = step;
      if (f.suggestion.kind == "epsilon" && out.epsilon == 0) out.epsilon = f.suggestion.value;
    }
  }
  return out;
}

int main() {
  std::puts("Without an epsilon:");
  const Outcome bare = run(0);
  std::printf("  broke at step %lld, %lld steps after the first warning\n", static_cast<long long>(bare.broke),
              static_cast<long long>(bare.broke - bare.warned));
  const double eps = bare.epsilon > 0 ? bare.epsilon : 1e-5;
  std::printf("With an epsilon of %g:\n", eps);
  const Outcome guarded = run(eps);
  std::printf("  %s\n", guarded.broke ? "broke all the same" : "300 steps, nothing broke");
  return bare.broke > 0 && bare.warned > 0 && bare.broke - bare.warned >= 20 && guarded.broke == 0 ? 0 : 1;
}
