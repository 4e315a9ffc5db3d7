// Chains that run as one kernel: what captured steps give equals what the steps give, to the bit.
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "backend/device_kernels.h"
#include "core/impl.h"
#include "device/fake/fusion.h"
#include "device/on_device.h"

namespace keel {
namespace {

void expect_same_bits(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.defined(), want.defined()) << what;
  if (!got.defined()) return;
  ASSERT_EQ(got.shape(), want.shape()) << what;
  ASSERT_EQ(got.dtype(), want.dtype()) << what;
  const Tensor a = got.detach().to(cpu_device).contiguous(), b = want.detach().to(cpu_device).contiguous();
  EXPECT_EQ(std::memcmp(a.impl()->data, b.impl()->data, size_t(a.size()) * size_of(a.dtype())), 0) << what << "\n" << a << "\n" << b;
}

class FusesOnDevice : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    if (!driver_of(d).fusion || !static_cast<const DeviceKernels*>(driver_of(d).kernels)->count) GTEST_SKIP() << "the device fuses nothing";
    fake_fusion_delay = 0;
  }
  /// Calls `step` until its kernels are there; false: some never are.
  static bool warm(const Compiled& step, const Tensors& in) {
    for (int i = 0; i < 600; ++i) {
      step(in);
      if (!step.captured() && i > 4) return false;
      if (step.captured() && step.report().find("being made") == std::string::npos) break;
      if (i > 4) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return step.report().find("not fused") == std::string::npos && step.report().find("no chains") == std::string::npos;
  }
  /// `f` on `in` as it is, and captured with its chains as kernels: the same bits.
  template <class F>
  void judge(const F& f, const Tensors& in, const std::string& what) {
    const Compiled g = compile(f);
    ASSERT_TRUE(warm(g, in)) << what << ": " << g.reason() << g.report();
    const Tensors got = g(in), want = detail::giving_tensors(f)(in);
    EXPECT_TRUE(g.captured()) << g.reason();
    ASSERT_EQ(got.size(), want.size());
    for (int64_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i], what + ", result " + std::to_string(i) + "\n" + g.report());
  }
  /// Values of all sizes and signs, with zeros, infinities and NaN among them.
  Tensor values(const Shape& s, DType t, uint32_t seed) const {
    std::mt19937 draw(seed);
    std::vector<float> v(size_t(s.numel()));
    for (float& x : v) {
      const uint32_t k = draw() % 64;
      x = float(int64_t(draw()) - (int64_t(1) << 31)) * 0x1p-30f;
      if (k == 0) x = 0;
      if (k == 1) x = -0.0f;
      if (k == 2) x = INFINITY;
      if (k == 3) x = NAN;
      if (k == 4) x *= 1e-39f;
      if (k == 5) x *= 60;
      if (k == 6) x *= 3e4f;
    }
    return cast(from_memory(v.data(), int64_t(v.size() * 4), f32, s).clone(), t).to(d);
  }
};

const DType kTypes[] = {f32, bf16, f16, f64};

TEST_F(FusesOnDevice, OneKernelForAChain) {
  const auto f = [](const Tensors& in) { return (tanh(in[0] * 2) + 1) * in[1]; };
  const Compiled g = compile(f);
  const Tensors in{values({4, 33}, f32, 1), values({4, 33}, f32, 2)};
  ASSERT_TRUE(warm(g, in)) << g.reason() << g.report();
  expect_same_bits(g(in)[0], f(in), "chain");
  EXPECT_EQ(g.report(), "4 ops run as 1 kernel, which saves 3 launches\n  mul, tanh, add, mul: f32[4, 33]\n");
  const int64_t before = fake_fusion_runs;
  g(in);
  if (d.type == DeviceType::webgpu) { EXPECT_EQ(fake_fusion_runs, before + 1); }
}

TEST_F(FusesOnDevice, CanBeTurnedOff) {
  const auto f = [](const Tensors& in) { return tanh(in[0] * 2) + 1; };
  const Compiled g = compile(f, {.fuse = false});
  const Tensors in{values({4, 33}, f32, 1)};
  for (int i = 0; i < 5; ++i) expect_same_bits(g(in)[0], f(in), "chain");
  EXPECT_TRUE(g.captured());
  EXPECT_EQ(g.report(), "fusion is off\n");
}

/// While kernels are being made, and where they never are, the ops' own run.
TEST_F(FusesOnDevice, BeginsWithTheOpsOwnKernels) {
  if (d.type != DeviceType::webgpu) GTEST_SKIP() << "of the fake device";
  const auto f = [](const Tensors& in) { return tanh(in[0] * 2) + 1; };
  const Tensors in{values({4, 33}, f32, 1)};
  fake_fusion_delay = 3;
  const Compiled g = compile(f);
  for (int i = 0; i < 12; ++i) {
    const int64_t before = fake_fusion_runs;
    expect_same_bits(g(in)[0], f(in), "chain");
    EXPECT_EQ(g.captured(), i > 2) << i;
    EXPECT_EQ(fake_fusion_runs > before, i > 5) << i << g.report();
    if (i == 4) { EXPECT_EQ(g.report(), "0 ops run as 0 kernels, which saves 0 launches\n  mul, tanh, add: f32[4, 33] (being made)\n"); }
  }
  fake_fusion_delay = -1;
  const Compiled h = compile(f);
  for (int i = 0; i < 6; ++i) expect_same_bits(h(in)[0], f(in), "refused");
  EXPECT_TRUE(h.captured());
  EXPECT_NE(h.report().find("(not fused: the test refuses it)"), std::string::npos) << h.report();
  fake_fusion_delay = 0;
}

TEST_F(FusesOnDevice, Activations) {
  for (const DType t : kTypes)
    for (const Shape& s : {Shape{7, 64}, Shape{5, 33}, Shape{}}) {
      const Tensors in{values(s, t, 3), values(s, t, 4)};
      const std::string what = to_string(Spec{t, s});
      judge([](const Tensors& x) { return gelu(x[0] * 1.5) + x[1]; }, in, "gelu " + what);
      judge([](const Tensors& x) { return gelu(x[0] - x[1], {.approximate = Gelu::tanh}) * 2; }, in, "gelu tanh " + what);
      judge([](const Tensors& x) { return silu(x[0]) * x[1]; }, in, "swiglu " + what);
      judge([](const Tensors& x) { return tanh(sigmoid(x[0]) + relu(x[1])); }, in, "sigmoid relu tanh " + what);
      judge([](const Tensors& x) { return mish(softplus(x[0])) + hardswish(x[1]); }, in, "mish " + what);
      judge([](const Tensors& x) { return elu(x[0]) + selu(x[1]) * leaky_relu(x[0], {.slope = 0.2}); }, in, "elu " + what);
    }
}

TEST_F(FusesOnDevice, Functions) {
  for (const DType t : kTypes) {
    const Tensors in{values({3, 40}, t, 5), values({3, 40}, t, 6)};
    const std::string what = name_of(t);
    judge([](const Tensors& x) { return sqrt(abs(x[0])) + rsqrt(square(x[1]) + 1); }, in, "roots " + what);
    judge([](const Tensors& x) { return exp(neg(x[0])) - expm1(x[1] * 0.5); }, in, "exp " + what);
    judge([](const Tensors& x) { return log(abs(x[0])) + log1p(abs(x[1])) * log2(abs(x[0])); }, in, "log " + what);
    judge([](const Tensors& x) { return sin(x[0]) * cos(x[1]) + tan(x[0]); }, in, "sin " + what);
    judge([](const Tensors& x) { return sinh(x[0]) - cosh(x[1]) * erf(x[0]); }, in, "sinh " + what);
    judge([](const Tensors& x) { return floor(x[0]) + ceil(x[1]) - round(x[0]) * trunc(x[1]) + sign(x[0]); }, in, "floor " + what);
    judge([](const Tensors& x) { return x[0] / x[1] + reciprocal(x[0]) - pow(abs(x[1]), x[0]); }, in, "div " + what);
    judge([](const Tensors& x) { return maximum(x[0], x[1]) - minimum(x[0] * 2, x[1]); }, in, "maximum " + what);
    judge([](const Tensors& x) { return remainder(x[0], x[1]) + floor_divide(x[0], x[1]); }, in, "remainder " + what);
    judge([](const Tensors& x) { return where(logical_and(x[0] > x[1], x[0] != 0), x[0] * 2, x[1]); }, in, "where " + what);
    judge([](const Tensors& x) { return masked_fill(x[0] + 1, logical_not(isfinite(x[1])), -3) * 2; }, in, "masked_fill " + what);
    judge([](const Tensors& x) { return clamp(x[0] * 3, -1.0, 1.0) + lerp(x[0], x[1], 0.25); }, in, "clamp " + what);
  }
}

TEST_F(FusesOnDevice, CastsAndIntegers) {
  for (const DType t : kTypes)
    for (const DType u : kTypes) {
      const Tensors in{values({3, 40}, t, 7), values({3, 40}, u, 8)};
      judge([&](const Tensors& x) { return cast(cast(x[0], u) * x[1], t) + x[0]; }, in, std::string(name_of(t)) + " and " + name_of(u));
    }
  const Tensor i = randint(-50, 50, {3, 40}).to(d), j = cast(randint(-9, 9, {3, 40}), i32).to(d);
  judge([](const Tensors& x) { return (x[0] + 3) * x[0] - abs(x[0]); }, {i}, "i64");
  judge([](const Tensors& x) { return remainder(x[0], x[1]) + floor_divide(x[0], x[1] * 2); }, {i, cast(j, i64)}, "i64 division");
  judge([](const Tensors& x) { return cast(x[1], f32) * cast(x[0], f32) + 0.5; }, {i, j}, "to f32");
  judge([](const Tensors& x) { return cast(cast(cast(x[0] * 3, u8), f16) + 1, i32) - x[1]; }, {j, j + 1}, "there and back");
  judge([](const Tensors& x) { return bitwise_and(x[0], x[1]) + bitwise_xor(bitwise_not(x[0]), x[1]); }, {j, j * 3}, "bits");
  judge([](const Tensors& x) { return cast(logical_xor(x[0] > 0, x[1] < 3), f32) * 2; }, {j, j + 1}, "bools");
}

TEST_F(FusesOnDevice, Layouts) {
  for (const DType t : {f32, bf16}) {
    const Tensor x = values({6, 40}, t, 9), y = values({40, 6}, t, 10), row = values({40}, t, 11), column = values({6, 1}, t, 12);
    judge([](const Tensors& v) { return gelu(v[0] + v[1]) * 2; }, {x, row}, "row");
    judge([](const Tensors& v) { return gelu(v[0] + v[1]) * v[2]; }, {x, column, row}, "column");
    judge([](const Tensors& v) { return gelu(v[0] + v[1].transpose(0, 1)) * 2; }, {x, y}, "transposed");
    judge([](const Tensors& v) { return gelu(v[0].transpose(0, 1) * 2) - 1; }, {y}, "both transposed");
    judge([](const Tensors& v) { return silu(v[0][{all, slice(1, 34)}]) * v[0][{all, slice(5, 38)}]; }, {x}, "cut");
    judge([](const Tensors& v) { return silu(v[0][{all, slice(0, 16)}]) * v[0][{all, slice(16, 32)}]; }, {x}, "halves");
    judge([](const Tensors& v) { return silu(v[0][{all, slice(0, 40, 3)}] + 1) * 2; }, {x}, "every third");
    judge([](const Tensors& v) { return (v[0] + 1) * v[1] + v[2]; }, {x, sum(x), mean(row)}, "numbers on the device");
    const Tensor image = values({2, 5, 4, 3}, t, 13), scale = values({5, 1, 1}, t, 14);
    judge([](const Tensors& v) { return relu(v[0] * v[1] + 1); }, {image, scale}, "channels");
    judge([](const Tensors& v) { return relu(v[0] * v[1] + 1); }, {channels_last(image), scale}, "channels last");
    judge([](const Tensors& v) { return v[0].expand({3, 6, 40}) * v[1] + 1; }, {x, row}, "expanded");
  }
}

/// Softmax and norms of rows among elementwise ops, for every form that rows have.
TEST_F(FusesOnDevice, Rows) {
  for (const DType t : kTypes)
    for (const int64_t n : {64, 768, 8192, 16, 256, 2048, 12288}) {
      if ((t != f32 && n != 64 && n != 768 && n != 8192) || (d.type == DeviceType::webgpu && n > 1024)) continue;
      const Shape s{3, n};
      const auto tame = [&](uint32_t seed) { return clamp(masked_fill(values(s, t, seed), isnan(values(s, t, seed)), 1.5), -3e4, 3e4); };
      const Tensor x = tame(20), y = tame(21), mask = values(s, f32, 22) > -0.5, weight = tame(23)[{0}], bias = tame(24)[{1}];
      const std::string what = to_string(Spec{t, s});
      judge([](const Tensors& v) { return softmax(where(v[1], v[0] * 0.125, -1e4)); }, {x, mask}, "softmax " + what);
      judge([](const Tensors& v) { return log_softmax(v[0] * 0.5) * v[1] + 1; }, {x, y}, "log_softmax " + what);
      const auto norm = [](const Tensors& v) -> Tensors {
        const Tensor sum = v[0] + v[1];
        return {sum, layer_norm(sum, v[2], v[3])};
      };
      judge(norm, {x, y, weight, bias}, "layer_norm " + what);
      judge([](const Tensors& v) { return rms_norm(v[0] * v[1], v[2]) * 2; }, {x, y, weight}, "rms_norm " + what);
      judge([](const Tensors& v) { return gelu(layer_norm(v[0] - v[1])); }, {x, y}, "plain layer_norm " + what);
    }
  const Tensor x = values({4, 6, 64}, f32, 25), y = values({6, 4, 64}, f32, 26);
  judge([](const Tensors& v) { return softmax(v[0] * 2 + v[1].transpose(0, 1)) * v[0]; }, {x, y}, "transposed rows");
  judge([](const Tensors& v) { return softmax(v[0][{all, all, slice(3, 35)}] * 2); }, {x}, "cut rows");
  judge([](const Tensors& v) { return softmax(softmax(v[0] * 2) * v[0]); }, {x}, "twice");
}

/// Residual blocks, forward and backward pass: statistics of the norm are among what a kernel writes.
TEST_F(FusesOnDevice, ResidualBlocksTrainToTheSameBits) {
  for (const auto& [t, rows] : {std::pair<DType, int64_t>(f32, 16), std::pair<DType, int64_t>(bf16, 16),
                                std::pair<DType, int64_t>(f32, 1040), std::pair<DType, int64_t>(bf16, 1040)}) {
    std::vector<Tensor> seen[2];
    for (const bool compiled : {false, true}) {
      manual_seed(9);
      const auto leaf = [&](const Shape& s) { return Tensor(cast(randn(s) * 0.2, t).to(d)).requires_grad_(); };
      const Tensor a = leaf({64, 64}), b = leaf({64, 64}), scale = leaf({64}), shift = leaf({64});
      optim::SGD opt({a, b, scale, shift}, {.lr = 0.05, .momentum = 0.9});
      const auto f = [&](const Tensors& in) {
        opt.zero_grad();
        Tensor x = in[0];
        for (const Tensor& w : {a, b}) {
          x = x + matmul(gelu(x), w);
          x = x + layer_norm(x, scale, shift) * 0.5;
        }
        const Tensor loss = mean(square(softmax(x * 0.5) - 0.1));
        loss.backward();
        opt.step();
        return loss.detach();
      };
      const Compiled step = compile(f);
      for (int i = 0; i < 24; ++i) {
        const Tensor x = cast(randn({rows, 64}), t).to(d);
        seen[compiled].push_back((compiled ? step({x})[0] : f({x})).clone());
        if (compiled && i > 3 && step.report().find("being made") != std::string::npos)
          std::this_thread::sleep_for(std::chrono::milliseconds(200));
      }
      if (compiled) {
        EXPECT_TRUE(step.captured()) << step.reason();
        EXPECT_NE(step.report().find("add, layer_norm"), std::string::npos) << step.report();
        // On CUDA where it is asked for, and from as many rows on as the gradient takes in one reading.
        const char* asked = std::getenv("KEEL_FUSE");
        const bool there = d.type == DeviceType::webgpu || (rows > 1024 && asked && std::string_view(asked) == "all");
        EXPECT_EQ(step.report().find("layer_norm_backward, add") != std::string::npos, there) << step.report();
        EXPECT_EQ(step.report().find("not fused"), std::string::npos) << step.report();
      }
      for (const Tensor& p : {a, b, scale, shift}) seen[compiled].push_back(p);
    }
    for (size_t i = 0; i < seen[0].size(); ++i) expect_same_bits(seen[1][i], seen[0][i], std::string(name_of(t)) + " " + std::to_string(i));
  }
}

TEST_F(FusesOnDevice, SeveralResults) {
  judge(
      [](const Tensors& x) -> Tensors {
        const Tensor a = exp(x[0]), b = a + x[1], c = cast(b * a, bf16);
        return {c, sum(a), b > 1, b.detach()};
      },
      {values({9, 21}, f32, 15), values({9, 21}, f32, 16)}, "results");
}

/// Adam written out with ops in place.
TEST_F(FusesOnDevice, AdamByHand) {
  for (const DType t : {f32, bf16}) {
    Tensors end[2];
    int64_t chains = 0;
    for (const bool compiled : {false, true}) {
      manual_seed(5);
      Tensor w = cast(randn({13, 17}), t).to(d), m = zeros({13, 17}, {.dtype = t, .device = d}),
             v = zeros({13, 17}, {.dtype = t, .device = d});
      const auto f = [&](const Tensors& in) {
        const Tensor g = w * 0.01 + in[0];
        m.mul_(0.9).add_(g * 0.1);
        v.mul_(0.99).add_(square(g) * 0.01);
        w.sub_(m / (sqrt(v) + 1e-6) * 0.05);
        return sum(w);
      };
      const Compiled step = compile(f);
      if (compiled) {
        manual_seed(5);
        const Tensor w0 = w.clone(), m0 = m.clone(), v0 = v.clone();
        ASSERT_TRUE(warm(step, {w0})) << step.reason() << step.report();
        w.copy_(w0), m.copy_(m0), v.copy_(v0);
        chains = step.replays();
      }
      manual_seed(6);
      for (int i = 0; i < 12; ++i) {
        const Tensor g = cast(randn({13, 17}), t).to(d);
        end[compiled].push_back((compiled ? step({g})[0] : f({g})).clone());
      }
      if (compiled) {
        EXPECT_EQ(step.replays(), chains + 12);
        EXPECT_NE(step.report().find("assign"), std::string::npos) << step.report();
      }
      end[compiled].push_back(w), end[compiled].push_back(m), end[compiled].push_back(v);
    }
    for (int64_t i = 0; i < end[0].size(); ++i) expect_same_bits(end[1][i], end[0][i], std::string(name_of(t)) + " " + std::to_string(i));
  }
}

/// A gated network with a loss written out: forward and backward pass.
TEST_F(FusesOnDevice, TrainsToTheSameBits) {
  for (const DType t : {f32, bf16, f16}) {
    std::vector<Tensor> seen[2];
    for (const bool compiled : {false, true}) {
      manual_seed(8);
      const auto leaf = [&](const Shape& s) { return Tensor(cast(randn(s) * 0.2, t).to(d)).requires_grad_(); };
      const Tensor up = leaf({24, 40}), gate = leaf({24, 40}), down = leaf({40, 24}), bias = leaf({40});
      optim::SGD opt({up, gate, down, bias}, {.lr = 0.05, .momentum = 0.9});
      const auto f = [&](const Tensors& in) {
        opt.zero_grad();
        const Tensor h = silu(matmul(in[0], gate) + bias) * (gelu(matmul(in[0], up)) + 0.1);
        const Tensor e = matmul(h, down) - in[0], loss = mean(square(e) * sigmoid(e) + abs(e) * 0.1);
        loss.backward();
        opt.step();
        return loss.detach();
      };
      const Compiled step = compile(f);
      for (int i = 0; i < 40; ++i) {
        const Tensor x = cast(randn({16, 24}), t).to(d);
        seen[compiled].push_back((compiled ? step({x})[0] : f({x})).clone());
        if (compiled && i > 3 && step.report().find("being made") != std::string::npos)
          std::this_thread::sleep_for(std::chrono::milliseconds(200));
      }
      if (compiled) {
        EXPECT_TRUE(step.captured()) << step.reason();
        EXPECT_NE(step.report().find("silu"), std::string::npos) << step.report();
        EXPECT_EQ(step.report().find("not fused"), std::string::npos) << step.report();
      }
      for (const Tensor& p : {up, gate, down, bias}) seen[compiled].push_back(p);
    }
    for (size_t i = 0; i < seen[0].size(); ++i) expect_same_bits(seen[1][i], seen[0][i], std::string(name_of(t)) + " " + std::to_string(i));
  }
}

/// Programs drawn at random, with writes, views and reductions among the ops.
TEST_F(FusesOnDevice, RandomPrograms) {
  const uint32_t many = d.type == DeviceType::webgpu ? 60 : 12;
  for (uint32_t seed = 0; seed < many; ++seed) {
    const DType t = kTypes[seed % 3];
    Tensors seen[2];
    for (const bool compiled : {false, true}) {
      manual_seed(seed);
      const auto some = [&](const Shape& s) { return cast(randn(s), t).to(d); };
      const Tensor held[] = {some({5, 16}), some({5, 16}), some({16})};
      const auto f = [&](const Tensors& in) {
        std::mt19937 draw(seed);
        const auto pick = [&](size_t n) { return size_t(draw() % n); };
        std::vector<Tensor> v{in[0], held[0], held[1]};
        const auto any = [&] { return v[pick(v.size())]; };
        for (int i = 0; i < 16; ++i) {
          switch (pick(10)) {
            case 0: v.push_back(any() + any()); break;
            case 1: v.push_back(any() * 0.5 - held[2]); break;
            case 2: v.push_back(sigmoid(any())); break;
            case 3: Tensor(held[pick(2)]).mul_(0.5).add_(any() * 0.25); break;
            case 4: v.push_back(any().flip({1})); break;
            case 5: v.push_back(tanh(any() - mean(any(), {.axis = 0}))); break;
            case 6: Tensor(held[pick(2)]).copy_(any()); break;
            case 7: v.push_back(where(any() > 0, any(), gelu(any()))); break;
            case 8: v.push_back(softmax(any())); break;
            case 9: v.push_back(layer_norm(any(), held[2])); break;
            default: v.push_back(any().clone()), v.back().mul_(any()); break;
          }
        }
        return Tensors{v.back() + 0, any() + 0};
      };
      const Compiled g = compile(f);
      for (int i = 0; i < 7; ++i) {
        const Tensor x = some({5, 16});
        for (const Tensor& y : compiled ? g({x}) : f({x})) seen[compiled].push_back(y.clone());
        if (compiled && i > 3 && d.type != DeviceType::webgpu && g.report().find("being made") != std::string::npos)
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
      }
      if (compiled) { EXPECT_TRUE(g.captured()) << seed << ": " << g.reason(); }
      for (const Tensor& h : held) seen[compiled].push_back(h);
    }
    for (int64_t i = 0; i < seen[0].size(); ++i)
      expect_same_bits(seen[1][i], seen[0][i], "seed " + std::to_string(seed) + ", " + std::to_string(i));
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace keel
