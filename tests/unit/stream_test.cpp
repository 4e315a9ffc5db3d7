// Large results go past the caches on one thread and through them on many: the bits must agree.
#include <gtest/gtest.h>

#include "keel/keel.h"

namespace keel {
namespace {

constexpr int64_t kRows = 4303, kWidth = 1021;  // 17.6 MB of f32; neither is a multiple of anything

template <class F>
void same_bits(const char* name, F f) {
  const int64_t threads = num_threads();
  set_num_threads(1);
  const Tensors streamed = f();
  set_num_threads(7);
  const Tensors plain = f();
  set_num_threads(threads);
  ASSERT_EQ(streamed.size(), plain.size());
  for (int64_t i = 0; i < int64_t(plain.size()); ++i) EXPECT_TRUE(array_equal(streamed[i], plain[i])) << name << " " << i;
}

TEST(Stream, ElementwiseAndRows) {
  manual_seed(3);
  Tensor x = randn({kRows, kWidth}), g = randn({kRows, kWidth}), w = randn({kWidth}), b = randn({kWidth});
  same_bits("add", [&] { return Tensors{add(x, g), mul(x, w), exp(x), clamp(x, -1, 0.5), add(x.transpose(0, 1), g.transpose(0, 1))}; });
  for (Tensor* t : {&x, &w, &b}) t->requires_grad_();
  const auto both = [&](const char* name, const Tensors& in, auto f) {
    same_bits(name, [&] {
      const Tensor y = f();
      Tensors all = grad(Tensors{y}, in, {}, {g});
      all.push_back(y);
      return all;
    });
  };
  both("softmax", {x}, [&] { return softmax(x); });
  both("log_softmax", {x}, [&] { return log_softmax(x); });
  both("layer_norm", {x, w, b}, [&] { return layer_norm(x, w, b); });
  both("rms_norm", {x, w}, [&] { return rms_norm(x, w); });
  NoGrad off;
  const Tensor y = softmax(x);
  for (int64_t i : {int64_t(0), int64_t(1), kRows - 1}) EXPECT_TRUE(array_equal(y[i], softmax(x[i]))) << i;
}

TEST(Stream, BatchNorm) {
  manual_seed(4);
  for (int64_t channels : {3, 700}) {
    const int64_t side = channels == 3 ? 701 : 47;
    for (bool last : {false, true}) {
      Tensor x = randn({channels == 3 ? 3 : 3, channels, side, side}), g = randn(x.shape());
      Tensor w = randn({channels}), b = randn({channels});
      if (last) x = x.channels_last(), g = g.channels_last();
      for (Tensor* t : {&x, &w, &b}) t->requires_grad_();
      same_bits("batch_norm", [&] {
        const Tensor y = batch_norm(x, w, b).y;
        Tensors all = grad(Tensors{y}, {x, w, b}, {}, {g});
        all.push_back(y);
        return all;
      });
    }
  }
}

TEST(Stream, ArgmaxOfColumns) {
  manual_seed(5);
  Tensor x = randn({300, 777});
  x[{17, 5}] = std::nanf("");
  x[{200, 5}] = std::nanf("");
  x[{40, 6}] = 9;
  x[{41, 6}] = 9;
  const Tensor top = argmax(x, {.axis = 0}), low = argmin(x, {.axis = 0});
  EXPECT_EQ(top[5].item<int64_t>(), 17);
  EXPECT_EQ(low[5].item<int64_t>(), 17);
  EXPECT_EQ(top[6].item<int64_t>(), 40);
  const Tensor rows = x.transpose(0, 1).contiguous();
  EXPECT_TRUE(array_equal(top, argmax(rows, {.axis = 1})));
  EXPECT_TRUE(array_equal(low, argmin(rows, {.axis = 1})));
  const Tensor half = x.astype(bf16);
  EXPECT_TRUE(array_equal(argmax(half, {.axis = 0}), argmax(half.transpose(0, 1).contiguous(), {.axis = 1})));
  const Tensor v = randn({900, 3000});  // rows in chunks
  EXPECT_TRUE(array_equal(var(v, {.axis = 1})[{slice(700, 701)}], var(v[{slice(700, 701)}], {.axis = 1})));
}

}  // namespace
}  // namespace keel
