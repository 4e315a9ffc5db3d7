// Activations in f8e4m3fn with a scale that is taken from the past: values grow by a tenth a step, the scale is fitted once every 32 steps,
// and in between the cast saturates. Nothing is NaN; the largest values are just all the same. The monitor warns when the room is used up.
#include <keel/keel.h>

#include <cmath>
#include <cstdio>
using namespace keel;

struct Quantised {
  int64_t every;     // steps between two looks at the largest value
  double margin;     // powers of two to leave free
  double scale = 1;
  Tensor forward(const Tensor& x, int64_t step) {
    if (step % every == 0) scale = 448 / std::exp2(margin) / max(abs(x)).item();
    return cast(x * scale, f8e4m3fn).astype(f32) / scale;
  }
};

/// Largest relative error of the largest value over 96 steps.
double run(Quantised q, int& warnings) {
  manual_seed(4);
  const Tensor base = randn({1024});
  Monitor monitor;
  double worst = 0;
  for (int64_t step = 0; step < 96; ++step) {
    monitor.step();
    const Tensor x = base * std::pow(1.1, double(step));
    const double top = max(abs(x)).item(), kept = max(abs(q.forward(x, step))).item();
    worst = std::max(worst, std::abs(kept - top) / top);
    for (const auto& f : monitor.news()) {
      if (f.severity == Severity::info) continue;
      std::printf("  %s\n", to_string(f).c_str());
      ++warnings;
    }
  }
  return worst;
}

int main() {
  int stale = 0, fresh = 0;
  std::puts("The scale is looked at every 32 steps:");
  const double bad = run({.every = 32, .margin = 0}, stale);
  std::printf("  the largest value lost up to %.0f %%\n", bad * 100);
  std::puts("The scale of the step itself, with one bit to spare:");
  const double good = run({.every = 1, .margin = 1}, fresh);
  std::printf("  the largest value lost up to %.0f %%\n", good * 100);
  return stale > 0 && fresh == 0 && bad > 0.5 && good < 0.07 ? 0 : 1;
}
