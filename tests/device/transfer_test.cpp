// Tensors on another device: copies there and back, views, printing, errors, memory, and a small network that learns the same there.
#include "device/on_device.h"

namespace keel {
namespace {

class OnDevice : public DeviceTest {};

void expect_equal(const Tensor& got, const Tensor& want) {
  ASSERT_EQ(got.shape(), want.shape());
  ASSERT_EQ(got.dtype(), want.dtype());
  EXPECT_EQ(to_string(got), to_string(want));
  EXPECT_EQ(all(equal(got.to(cpu_device), want.to(cpu_device))).item(), 1.0);
}

TEST_F(OnDevice, GoesThereAndBack) {
  for (const DType t : {f64, f32, f16, bf16, i64, i32, i16, i8, u8, DType::boolean}) {
    const Tensor x = arange(24).reshape({2, 3, 4}).astype(t), y = x.to(d);
    EXPECT_EQ(y.device(), d);
    expect_equal(y, x);
    expect_equal(y.to(cpu_device), x);
  }
  EXPECT_TRUE(Tensor(zeros({3}).to(d)).to(d).device() == d);
  expect_equal(zeros({0, 3}).to(d), zeros({0, 3}));
}

/// Every code of the 8-bit floats, ties and what lies beyond the largest, with the bits of the CPU.
TEST_F(OnDevice, CastsEightBitFloats) {
  const Tensor steps = arange(-4096, 4096, 1, {.dtype = f64});
  const Tensor x = concat({steps * 0x1p-18, steps * 0x1p-12, steps * 0x1p-6, steps * 16.0, tensor({INFINITY, -INFINITY, NAN}).to(f64)});
  for (const DType low : {f8e4m3fn, f8e5m2})
    for (const DType t : {f64, f32, f16, bf16})
      for (const bool saturate : {true, false}) {
        const Tensor from = x.to(t), here = cast(from, {.to = low, .saturate = saturate}),
                     there = cast(from.to(d), {.to = low, .saturate = saturate});
        const auto same = [](const Tensor& a, const Tensor& b) {
          const Tensor u = cast(a.to(cpu_device), f64), v = cast(b.to(cpu_device), f64);
          return all(logical_or(equal(u, v), logical_and(isnan(u), isnan(v)))).item() == 1;
        };
        EXPECT_TRUE(same(there, here)) << name_of(t) << " to " << name_of(low);
        EXPECT_TRUE(same(cast(there, t), cast(here, t))) << name_of(low) << " to " << name_of(t);
        const DType other = low == f8e5m2 ? f8e4m3fn : f8e5m2;
        EXPECT_TRUE(same(cast(there, other), cast(here, other))) << name_of(low) << " to " << name_of(other);
      }
}

TEST_F(OnDevice, ViewsKeepTheirValues) {
  const Tensor x = arange(24, {.dtype = f32}).reshape({2, 3, 4}), y = x.to(d);
  expect_equal(y.transpose(0, 2), x.transpose(0, 2));
  expect_equal(y[{slice(0, 2), 1}], x[{slice(0, 2), 1}]);
  expect_equal(y.flip({1}), x.flip({1}));
  expect_equal(x.transpose(0, 1).to(d), x.transpose(0, 1));
  const Tensor image = rand({2, 3, 4, 5}).channels_last();
  EXPECT_EQ(image.to(d).strides(), image.strides());
  expect_equal(image.to(d), image);
}

TEST_F(OnDevice, WritesReachTheView) {
  Tensor x = zeros({3, 4}).to(d);
  x[{slice(0, 3), 1}].fill_(2);
  x[{2}].copy_(ones({4}).to(d));
  x.add_(1);
  Tensor want = zeros({3, 4});
  want[{slice(0, 3), 1}].fill_(2);
  want[{2}].copy_(ones({4}));
  want.add_(1);
  expect_equal(x, want);
}

TEST_F(OnDevice, GradientsTravelBack) {
  Tensor x = randn({5}).requires_grad_();
  (x.to(d) * 3).to(cpu_device).sum().backward();
  expect_equal(x.grad(), full({5}, 3.0));
}

TEST_F(OnDevice, MixedDevicesAreRefused) {
  try {
    add(ones({2}), ones({2}).to(d));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::device);
    EXPECT_NE(std::string(e.what()).find("inputs are on different devices (cpu and " + to_string(d) + ")"), std::string::npos) << e.what();
  }
  EXPECT_THROW(ones({2}).to(d).data<float>(), Error);
}

TEST_F(OnDevice, MemoryIsCountedLimitedAndReported) {
  synchronize(d);
  const int64_t before = memory_stats(d).bytes_in_use;
  {
    const Tensor x = zeros({1 << 20}).to(d);
    EXPECT_EQ(memory_stats(d).bytes_in_use - before, 4 << 20);
    const Tensor y = x.clone();
    EXPECT_EQ(memory_stats(d).bytes_in_use - before, 8 << 20);
  }
  EXPECT_EQ(memory_stats(d).bytes_in_use, before);
  set_memory_limit(d, memory_stats(d).bytes_reserved + (64 << 20));
  try {
    empty({1 << 28}, {.device = d});
    ADD_FAILURE() << "the limit was ignored";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::memory);
    EXPECT_NE(std::string(e.what()).find("out of memory on " + to_string(d) + ": 1073741824 bytes wanted"), std::string::npos) << e.what();
  }
  set_memory_limit(d, 0);
}

TEST_F(OnDevice, ANetworkLearnsTheSame) {
  const auto losses = [&](Device where) {
    manual_seed(3);
    nn::Sequential net(nn::Linear(16, 32), nn::ReLU(), nn::Linear(32, 4));
    const Tensor x = randn({64, 16}), y = randint(0, 4, {64});
    net.to(where);
    const Tensor xd = x.to(where), yd = y.to(where);
    optim::Adam opt(net.parameters(), {.lr = 1e-2});
    std::vector<double> all;
    for (int i = 0; i < 20; ++i) {
      const Tensor loss = cross_entropy(net(xd), yd);
      opt.zero_grad();
      loss.backward();
      opt.step();
      all.push_back(loss.item());
    }
    return all;
  };
  const std::vector<double> here = losses(cpu_device), there = losses(d);
  for (size_t i = 0; i < here.size(); ++i) EXPECT_NEAR(there[i], here[i], 1e-4 * here[i]) << "step " << i;
  EXPECT_LT(there.back(), 0.8 * there.front());
}

}  // namespace
}  // namespace keel
