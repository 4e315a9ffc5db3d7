// var and batch_norm in one pass about a shift, against two passes in f64.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "isa_scope.h"
#include "keel/keel.h"

namespace keel {
namespace {

/// Relative error of var(x) along `axis`, the largest of all results.
double worst(const Tensor& x, int64_t axis) {
  const Tensor wide = x.astype(f64), mean = wide.mean({.axis = {axis}, .keepdim = true});
  const Tensor exact = square(wide - mean).mean({.axis = {axis}});
  return max(abs(var(x, {.axis = {axis}}).astype(f64) - exact) / exact).item<double>();
}
Tensor uneven(int64_t rows, int64_t width, double offset) { return randn({rows, width}) * 3.0 + offset; }

TEST(Variance, EveryExtent) {
  NoGrad off;
  manual_seed(11);
  for (double offset : {0.0, 1e4})
    for (int64_t n : {2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 600, 1024, 4095, 4097, 9000})
      for (int64_t other : {1, 3, 17, 64, 65}) {
        EXPECT_LT(worst(uneven(other, n, offset), 1), 3e-6) << n << " " << other;
        EXPECT_LT(worst(uneven(n, other, offset), 0), 3e-6) << n << " " << other;
      }
  EXPECT_LT(worst(uneven(40, 2500, 0), 0), 3e-6);
  EXPECT_LT(worst(uneven(300, 2500, 0), 0), 3e-6);
}

TEST(Variance, TheFirstElementsLieFarAway) {
  NoGrad off;
  manual_seed(12);
  for (int64_t n : {300, 1024, 5000})
    for (int64_t far : {1, 16, 64}) {
      Tensor x = randn({n, 20});
      x[{slice(0, far)}] = 1e6;
      EXPECT_LT(worst(x, 0), 2e-5) << n << " " << far;
      EXPECT_LT(worst(x.transpose(0, 1).contiguous(), 1), 2e-5) << n << " " << far;
    }
}

TEST(Variance, WhatIsNoNumberStays) {
  NoGrad off;
  const float inf = std::numeric_limits<float>::infinity();
  for (int64_t axis : {0, 1}) {
    const auto one = [&](double v, int64_t at) {
      Tensor x = ones({300, 300});
      if (axis == 0)
        x[{at, 7}] = v;
      else
        x[{7, at}] = v;
      return var(x, {.axis = {axis}});
    };
    for (int64_t at : {0, 100, 299}) {
      EXPECT_EQ(one(1e20, at)[7].item<float>(), inf) << at;
      EXPECT_TRUE(std::isnan(one(inf, at)[7].item<float>())) << at;
      EXPECT_TRUE(std::isnan(one(std::nan(""), at)[7].item<float>())) << at;
      EXPECT_EQ(one(1, at)[7].item<float>(), 0) << at;
      EXPECT_EQ(one(1e20, at)[8].item<float>(), 0) << at;
    }
    Tensor ends = ones({300, 300});  // farther from each other than any number, not from their mean
    ends[{0}] = 3e38, ends[{1}] = -3e38;
    EXPECT_EQ(var(axis == 0 ? ends : ends.transpose(0, 1).contiguous(), {.axis = {axis}})[7].item<float>(), inf);
    const Tensor same = full({777, 777}, 0.1);
    EXPECT_GE(min(var(same, {.axis = {axis}})).item<float>(), 0);
    EXPECT_LT(max(var(same, {.axis = {axis}})).item<float>(), 1e-14);
  }
}

TEST(Variance, BitsOfNoThreadAndNoInstructionSet) {
  NoGrad off;
  manual_seed(13);
  const cpu::IsaScope scope;
  const int64_t threads = num_threads();
  const Tensor x = randn({1100, 70}), wide = randn({300, 1500}), whole = randn({40000}), image = randn({3, 70, 19, 19});
  const auto all = [&] {
    Tensors out{var(x, {.axis = {0}}), var(x, {.axis = {1}}), var(wide, {.axis = {0}}), stddev(wide, {.axis = {1}}), var(whole)};
    for (const Tensor& i : {image, image.channels_last()}) {
      const auto r = batch_norm(i, ones({70}), zeros({70}));
      for (const Tensor& t : {r.y, r.mean, r.var}) out.push_back(t);
    }
    for (const Tensor& t : {x, wide}) out.push_back(max(t, {.axis = {0}})), out.push_back(sum(t, {.axis = {0}}));
    return out;
  };
  const Tensors first = all();
  for (cpu::Isa isa : {cpu::Isa::avx512, cpu::Isa::avx2, cpu::Isa::scalar})
    for (int64_t n : {1, 3}) {
      cpu::set_isa_for_tests(isa), set_num_threads(n);
      const Tensors again = all();
      for (int64_t i = 0; i < first.size(); ++i) EXPECT_TRUE(array_equal(again[i], first[i])) << cpu::isa_name(isa) << " " << n << " " << i;
    }
  set_num_threads(threads);
}

}  // namespace
}  // namespace keel
