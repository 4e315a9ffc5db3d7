// Sizes at which kernels of a device take another way: rows of language models' logits, gradients of norms and sums over many rows.
#include "device/on_device.h"

namespace keel {
namespace {

class LongRowsOnDevice : public DeviceTest {
 protected:
  static void expect_near(const Tensor& got, const Tensor& want, double bound, const std::string& what) {
    const Tensor g = got.to(cpu_device).to(f64), w = want.to(cpu_device).to(f64);
    ASSERT_EQ(g.shape(), w.shape()) << what;
    ASSERT_EQ(all(isfinite(g)).item(), 1.0) << what;
    const double unit = std::max(max(abs(w)).item(), 1e-6);
    EXPECT_LE(max(abs(g - w)).item() / unit, bound) << what << ", of the largest value " << unit;
  }
};

TEST_F(LongRowsOnDevice, CrossEntropy) {
  for (const DType t : {bf16, f16, f32})
    for (const int64_t n : {2048, 5000, 8200})
      for (const double smoothing : {0.0, 0.1})
        for (const Reduction r : {Reduction::mean, Reduction::none}) {
          manual_seed(11);
          const Tensor x = (randn({7, n}) * 4 + 30).to(t);
          Tensor y = randint(0, n, {7});
          y[{2}] = -100;
          const CrossEntropyParams p{.label_smoothing = smoothing, .reduction = r};
          const auto run = [&](const Tensor& logits, const Tensor& target) {
            const Tensor in = logits.detach().requires_grad_(), loss = cross_entropy(in, target, p);
            loss.sum().backward();
            return std::pair(loss.detach(), in.grad());
          };
          const auto want = run(x.to(f64), y), got = run(x.to(d), y.to(d)), again = run(x.to(d), y.to(d));
          const std::string what = std::string(name_of(t)) + ", " + std::to_string(n) + " classes, smoothing " + std::to_string(smoothing);
          EXPECT_EQ(got.first.dtype(), f32);
          expect_near(got.first, want.first, 2e-6, "loss, " + what);
          expect_near(got.second, want.second, t == bf16 ? 5e-3 : t == f16 ? 1e-3 : 1e-5, "gradient, " + what);
          EXPECT_EQ(all(equal(got.second.to(cpu_device), again.second.to(cpu_device))).item(), 1.0) << what;
        }
}

/// Masked classes, and rows that hold a NaN.
TEST_F(LongRowsOnDevice, CrossEntropyOfSpecialValues) {
  Tensor x = randn({4, 4096});
  x[{0, slice(0, 4000)}].fill_(-INFINITY);
  x[{1, 17}].fill_(NAN);
  const Tensor y = tensor({4090, 3, 3, 3});
  const Tensor want = cross_entropy(x.to(bf16).to(f64), y, {.reduction = Reduction::none}),
               got = cross_entropy(x.to(bf16).to(d), y.to(d), {.reduction = Reduction::none}).to(cpu_device);
  for (int64_t i = 0; i < 4; ++i) {
    if (std::isnan(want[{i}].item()))
      EXPECT_TRUE(std::isnan(got[{i}].item())) << i;
    else
      EXPECT_NEAR(got[{i}].item(), want[{i}].item(), 1e-5 * std::abs(want[{i}].item())) << i;
  }
}

TEST_F(LongRowsOnDevice, GradientsOfNorms) {
  for (const DType t : {bf16, f16, f32})
    for (const int64_t n : {64, 256, 264, 768, 1000, 1024}) {
      manual_seed(12);
      const Tensor x = (randn({1100, n}) + 0.5).to(t), w = (randn({n}) + 1).to(t), b = randn({n}).to(t), g = randn({1100, n}).to(t);
      const auto run = [&](Device where, DType as, bool centered) {
        Tensors in;
        for (const Tensor& v : {x, w, b}) in.push_back(v.to(as).to(where).requires_grad_());
        const Tensor y = centered ? layer_norm(in[0], in[1], in[2]) : rms_norm(in[0], in[1]);
        sum(y * g.to(as).to(where)).backward();
        return Tensors{in[0].grad(), in[1].grad(), centered ? in[2].grad() : Tensor()};
      };
      for (const bool centered : {true, false}) {
        const Tensors want = run(cpu_device, f64, centered), got = run(d, t, centered), again = run(d, t, centered);
        for (int i = 0; i < (centered ? 3 : 2); ++i) {
          const std::string what =
              std::string(name_of(t)) + ", rows of " + std::to_string(n) + ", gradient of operand " + std::to_string(i);
          expect_near(got[i], want[i], t == bf16 ? 1e-2 : t == f16 ? 2e-3 : 1e-5, what);
          EXPECT_EQ(all(equal(got[i].to(cpu_device), again[i].to(cpu_device))).item(), 1.0) << what;
        }
      }
    }
}

TEST_F(LongRowsOnDevice, SumsOverRows) {
  for (const DType t : {bf16, f16, f32})
    for (const int64_t n : {32, 64, 768, 1000, 2304}) {
      manual_seed(13);
      const Tensor x = randn({2, 700, n}).to(t);
      const double bound = t == bf16 ? 5e-3 : t == f16 ? 1e-3 : 1e-5;
      const std::string what = std::string(name_of(t)) + ", " + std::to_string(n) + " columns";
      expect_near(sum(x.to(d), {.axis = {0, 1}}), sum(x.to(f64), {.axis = {0, 1}}), bound, what);
      expect_near(sum(x.to(d).reshape({1400, n}), {.axis = 0, .keepdim = true}),
                  sum(x.to(f64).reshape({1400, n}), {.axis = 0, .keepdim = true}), bound, what);
      expect_near(sum(x.to(d), {.axis = 1}), sum(x.to(f64), {.axis = 1}), bound, what);
    }
}

/// Lengths at which a warp or a block holds a row.
TEST_F(LongRowsOnDevice, RowsOfThousands) {
  for (const DType t : {f32, bf16, f16})
    for (const int64_t n : {136, 264, 768, 1028, 2048, 2056, 3000, 4096, 4104, 8192, 12288, 16392})
      for (const int64_t rows : {1, 5, 1200}) {
        if (rows * n > 5'000'000) continue;
        manual_seed(15);
        const Tensor x = (randn({rows, n}) * 4 + 3).to(t), w = (randn({n}) + 1).to(t), b = randn({n}).to(t);
        const double bound = t == bf16 ? 8e-3 : t == f16 ? 1e-3 : 1e-5;
        const std::string what = std::string(name_of(t)) + ", " + std::to_string(rows) + " rows of " + std::to_string(n);
        const Tensor there = x.to(d), wide = x.to(f64);
        expect_near(softmax(there), softmax(wide), bound, "softmax, " + what);
        expect_near(log_softmax(there), log_softmax(wide), bound, "log_softmax, " + what);
        expect_near(layer_norm(there, w.to(d), b.to(d)), layer_norm(wide, w.to(f64), b.to(f64)), bound, "layer_norm, " + what);
        expect_near(layer_norm(there), layer_norm(wide), bound, "plain layer_norm, " + what);
        expect_near(rms_norm(there, w.to(d)), rms_norm(wide, w.to(f64)), bound, "rms_norm, " + what);
        // What a row gives does not depend on the rows beside it.
        const Tensor last = softmax(there)[{rows - 1}].to(cpu_device), alone = softmax(there[{slice(rows - 1, rows)}])[{0}].to(cpu_device);
        EXPECT_EQ(all(equal(last, alone)).item(), 1.0) << what;
      }
  Tensor x = randn({4, 4096});
  x[{0}].fill_(-INFINITY);
  x[{1, slice(0, 4000)}].fill_(-INFINITY);
  x[{2, 17}].fill_(NAN);
  const Tensor got = softmax(x.to(d)).to(cpu_device), safe = softmax_safe(x.to(d)).to(cpu_device),
               log_got = log_softmax(x.to(d)).to(cpu_device);
  EXPECT_TRUE(std::isnan(got[{0, 9}].item()) && std::isnan(got[{2, 9}].item()) && std::isnan(log_got[{2, 4000}].item()));
  EXPECT_EQ(sum(safe[{0}]).item(), 0.0);
  expect_near(got[{1}], softmax(x.to(f64))[{1}], 1e-5, "masked");
  expect_near(got[{3}], softmax(x.to(f64))[{3}], 1e-5, "beside a NaN");
}

/// As softmax below: work for the whole device.
TEST_F(LongRowsOnDevice, NormsOfAFewRows) {
  for (const DType t : {f32, bf16, f16, f64})
    for (const int64_t n : {70000, 100003}) {
      manual_seed(16);
      const Tensor x = (randn({3, n}) * 2 + 5).to(t), w = (randn({n}) + 1).to(t), b = randn({n}).to(t);
      const double bound = t == bf16 ? 8e-3 : t == f16 ? 1e-3 : t == f32 ? 1e-5 : 1e-12;
      const std::string what = std::string(name_of(t)) + ", rows of " + std::to_string(n);
      expect_near(layer_norm(x.to(d), w.to(d), b.to(d)), layer_norm(x.to(f64), w.to(f64), b.to(f64)), bound, "layer_norm, " + what);
      expect_near(rms_norm(x.to(d), w.to(d)), rms_norm(x.to(f64), w.to(f64)), bound, "rms_norm, " + what);
      const Tensor in = x.to(d).requires_grad_(), wide = x.to(f64).requires_grad_();
      sum(square(layer_norm(in, w.to(d)))).backward(), sum(square(layer_norm(wide, w.to(f64)))).backward();
      expect_near(in.grad(), wide.grad(), t == bf16 ? 2e-2 : t == f16 ? 4e-3 : bound * 10, "gradient, " + what);
    }
}

/// One row of a million, as a sampler has it, is work for the whole device.
TEST_F(LongRowsOnDevice, SoftmaxOfAFewRows) {
  for (const DType t : {f32, bf16, f16, f64})
    for (const int64_t rows : {1, 3}) {
      manual_seed(14);
      Tensor x = randn({rows, 100003}) * 3;
      x[{0, slice(0, 70000)}].fill_(-INFINITY);
      x = x.to(t);
      const double bound = t == bf16 ? 5e-3 : t == f16 ? 1e-3 : t == f32 ? 1e-5 : 1e-12;
      const std::string what = std::string(name_of(t)) + ", " + std::to_string(rows) + " rows";
      const Tensor got = softmax(x.to(d)), want = softmax(x.to(f64));
      if (t != f16) expect_near(got, want, bound, what);  // shares of a millionth are subnormal there
      EXPECT_NEAR(sum(got.to(f64)).item(), double(rows), t == f32 || t == f64 ? 1e-4 : 0.1) << what;
      const Tensor log_got = log_softmax(x.to(d)).to(cpu_device), log_want = log_softmax(x.to(f64));
      expect_near(log_got[{all, slice(70000, 100003)}], log_want[{all, slice(70000, 100003)}], bound, "log, " + what);
      EXPECT_EQ(all(equal(got.to(cpu_device), softmax(x.to(d)).to(cpu_device))).item(), 1.0) << what;
    }
  const Tensor none = full({1, 70000}, -INFINITY),
               broken = where(arange(70000).reshape({1, 70000}).to(f32) < 5, full({1}, NAN), ones({1, 70000}));
  EXPECT_EQ(sum(softmax_safe(none.to(d)).to(cpu_device)).item(), 0.0);
  EXPECT_TRUE(std::isnan(softmax(none.to(d)).to(cpu_device)[{0, 9}].item()));
  EXPECT_TRUE(std::isnan(softmax(broken.to(d)).to(cpu_device)[{0, 69999}].item()));
}

/// Lengths at which a part of a row is kept in registers, in more of them, or read again; and what one launch leaves behind for the next.
TEST_F(LongRowsOnDevice, RowsOfMillions) {
  struct Form {
    DType t;
    int64_t rows, n;
  };
  for (const auto& [t, rows, n] : {Form{f32, 1, 1'000'000}, Form{f32, 1, 2'000'000}, Form{f32, 1, 2'300'004}, Form{f32, 8, 80'000},
                                   Form{f32, 1, 33'000}, Form{f32, 5, 40'001}, Form{bf16, 1, 1'000'000}, Form{bf16, 2, 2'000'000},
                                   Form{f16, 1, 300'000}, Form{f64, 1, 400'000}, Form{f64, 1, 700'000}}) {
    manual_seed(17);
    const Tensor x = (randn({rows, n}) * 2 - 3).to(t), w = (randn({n}) + 1).to(t), b = randn({n}).to(t), there = x.to(d), wide = x.to(f64);
    const double bound = t == bf16 ? 8e-3 : t == f16 ? 1e-3 : t == f32 ? 1e-5 : 1e-12;
    const std::string what = std::string(name_of(t)) + ", " + std::to_string(rows) + " rows of " + std::to_string(n);
    const Tensor shares = softmax(there);
    if (t != f16) expect_near(shares, softmax(wide), bound, "softmax, " + what);  // subnormal there
    expect_near(log_softmax(there), log_softmax(wide), bound, "log_softmax, " + what);
    const Tensor normal = layer_norm(there, w.to(d), b.to(d));
    expect_near(normal, layer_norm(wide, w.to(f64), b.to(f64)), bound, "layer_norm, " + what);
    expect_near(layer_norm(there), layer_norm(wide), bound, "plain layer_norm, " + what);
    expect_near(rms_norm(there, w.to(d)), rms_norm(wide, w.to(f64)), bound, "rms_norm, " + what);
    for (int again = 0; again < 20; ++again) {
      EXPECT_EQ(all(equal(softmax(there), shares)).item(), 1.0) << what;
      EXPECT_EQ(all(equal(layer_norm(there, w.to(d), b.to(d)), normal)).item(), 1.0) << what;
    }
  }
}

/// Parts that hold nothing but -inf, beside one whose exponentials would overflow if they counted from 0.
TEST_F(LongRowsOnDevice, PartsThatAreMasked) {
  Tensor x = full({1, 1'000'000}, -INFINITY);
  x[{0, slice(500'000, 500'010)}].copy_(arange(10).to(f32) * 0.5 - 200.0);
  const Tensor got = softmax(x.to(d)).to(cpu_device), log_got = log_softmax(x.to(d)).to(cpu_device);
  expect_near(got, softmax(x.to(f64)), 1e-6, "masked");
  EXPECT_EQ(all(equal(softmax_safe(x.to(d)).to(cpu_device), got)).item(), 1.0);
  expect_near(log_got[{all, slice(500'000, 500'010)}], log_softmax(x.to(f64))[{all, slice(500'000, 500'010)}], 1e-6, "log");
  const double masked = log_got[{0, 0}].item();
  EXPECT_EQ(masked, -INFINITY);
  x[{0, 999'999}].fill_(NAN);
  EXPECT_TRUE(std::isnan(softmax(x.to(d)).to(cpu_device)[{0, 500'000}].item()));
  x[{0, 999'999}].fill_(INFINITY);
  EXPECT_TRUE(std::isnan(softmax(x.to(d)).to(cpu_device)[{0, 999'999}].item()));
}

/// Grids of several sizes meet in turns, also in a recording.
TEST_F(LongRowsOnDevice, ManyMeetings) {
  manual_seed(18);
  const Tensor one = randn({1, 1'000'000}).to(d), three = randn({3, 100'000}).to(d), odd = randn({2, 70'001}).to(d);
  const auto step = [&](const Tensors&) {
    return Tensors{softmax(layer_norm(one)), layer_norm(softmax(three)), log_softmax(odd), softmax(three)};
  };
  const Tensors want = step({});
  const Compiled recorded = compile(step);
  for (int i = 0; i < 30; ++i) {
    const Tensors got = i % 3 == 2 ? step({}) : recorded({});
    for (int64_t k = 0; k < want.size(); ++k) ASSERT_EQ(all(equal(got[k], want[k])).item(), 1.0) << "run " << i << ", result " << k;
  }
}

}  // namespace
}  // namespace keel
