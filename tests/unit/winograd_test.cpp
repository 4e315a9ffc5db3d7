// What Winograd's form costs in accuracy, and that it can be switched off.
#include <gtest/gtest.h>

#include <cmath>

#include "keel/cpu.h"
#include "keel/keel.h"

namespace keel {
namespace {

struct Allowed {
  explicit Allowed(bool on) { allow_winograd(on); }
  ~Allowed() { allow_winograd(true); }
};

/// Root mean square of the errors of `got`, in units of the root mean square of `want`.
double error_of(const Tensor& got, const Tensor& want) {
  const Tensor d = got.to(f64) - want;
  return std::sqrt((d * d).sum().item() / (want * want).sum().item());
}
struct Errors {
  double forward, to_input, to_weight;
};
Errors errors(bool winograd, int64_t channels, int64_t size) {
  const Allowed allowed(winograd);
  manual_seed(5);
  const Tensor x = randn({2, channels, size, size}).channels_last(), w = randn({channels, channels, 3, 3}),
               g = randn({2, channels, size, size}).channels_last();
  const auto run = [&](DType t) {
    Tensor xt = x.to(t).clone(), wt = w.to(t).clone();
    xt.requires_grad_(), wt.requires_grad_();
    const Tensor y = conv2d(xt, wt, {.padding = 1});
    y.backward(g.to(t));
    return Tensors{y.detach(), xt.grad(), wt.grad()};
  };
  const Tensors got = run(f32), want = run(f64);
  return {error_of(got[0], want[0]), error_of(got[1], want[1]), error_of(got[2], want[2])};
}

TEST(Winograd, ErrorsAreAFewTimesThoseOfDirectSums) {
  for (const int64_t channels : {64, 256}) {
    const Errors direct = errors(false, channels, 16), tiles = errors(true, channels, 16);
    RecordProperty("channels", int(channels));
    std::printf("%3d channels, rms error of results / to the input / to the weights: direct %.2e %.2e %.2e, by tiles %.2e %.2e %.2e\n",
                int(channels), direct.forward, direct.to_input, direct.to_weight, tiles.forward, tiles.to_input, tiles.to_weight);
    EXPECT_LT(tiles.forward, 4 * direct.forward);
    EXPECT_LT(tiles.to_input, 4 * direct.to_input);
    EXPECT_LT(tiles.to_weight, 4 * direct.to_weight);
    EXPECT_NE(tiles.forward, direct.forward) << "the switch switches nothing";
  }
}

TEST(Winograd, SwitchedOffAnInfinitePixelStaysInItsWindow) {
  const Allowed off(false);
  Tensor x = zeros({1, 64, 16, 16}).channels_last();
  x[{0, 3, 7, 7}].fill_(INFINITY);
  const Tensor y = conv2d(x, ones({64, 64, 3, 3}), {.padding = 1});
  EXPECT_EQ(sum(isinf(y).to(f32)).item(), 64 * 9);
  EXPECT_EQ(sum(isnan(y).to(f32)).item(), 0);
}

}  // namespace
}  // namespace keel
