// The random ops: their words against Philox, their mappings against the formulas in keel/ops/random.h computed apart, and their
// statistics. Seeds are fixed, so a bound either holds or it does not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/isa.h"
#include "base/philox.h"
#include "keel/keel.h"

namespace keel {
namespace {

uint32_t word(uint64_t seed, uint64_t begin, int64_t i) { return base::philox(begin + uint64_t(i) / 4, 0, seed)[size_t(i % 4)]; }
uint64_t word64(uint64_t seed, uint64_t begin, int64_t i) {
  return word(seed, begin, 2 * i) | uint64_t(word(seed, begin, 2 * i + 1)) << 32;
}

TEST(Random, FirstWordsArePublishedVectors) {
  // philox4x32-10 of counter 0 and key 0 (random123, kat_vectors).
  const uint32_t want[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  manual_seed(0);
  const Tensor u = rand({4});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(double(u[{i}].item<float>()) * 0x1p24, double(want[i] >> 8));
  manual_seed(0);
  const Tensor d = rand({2}, {.dtype = f64});
  for (int i = 0; i < 2; ++i) EXPECT_EQ(d[{i}].item() * 0x1p53, double((want[2 * i] | uint64_t(want[2 * i + 1]) << 32) >> 11));
}

TEST(Random, StreamGoesOnWhereItStopped) {
  Generator::State s = {.seed = 0x123456789abcdef0, .base = 0xfffffffffffffffe, .offset = 0};
  default_generator().set_state(s);
  const Tensor a = rand({5}), b = rand({9});  // 2 blocks, then 3, across the end of the counter's low half
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(double(a[{i}].item<float>()) * 0x1p24, double(word(s.seed, s.base, i) >> 8));
  for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(double(b[{i}].item<float>()) * 0x1p24, double(word(s.seed, s.base + 2, i) >> 8));
  EXPECT_EQ(default_generator().state().offset, 5);
  default_generator().set_state(s);
  EXPECT_TRUE(array_equal(rand({5}), a));
}

TEST(Random, UniformStaysBelowHigh) {
  manual_seed(3);
  for (DType t : {f32, f64, f16, bf16}) {
    const Tensor u = rand({1 << 18}, {.dtype = t}).to(f64);
    EXPECT_LT(max(u).item(), 1) << name_of(t);
    EXPECT_GE(min(u).item(), 0) << name_of(t);
    const Tensor v = uniform({1 << 18}, -3, -2, {.dtype = t}).to(f64);
    EXPECT_LT(max(v).item(), -2) << name_of(t);
    EXPECT_GE(min(v).item(), -3) << name_of(t);
  }
  const Tensor x = (manual_seed(9), rand({256})), y = (manual_seed(9), rand({256}, {.dtype = bf16})),
               z = (manual_seed(9), rand({256}, {.dtype = f16}));
  for (int64_t i = 0; i < 256; ++i) {
    const double v = x[{i}].item(), step = std::exp2(std::floor(std::log2(v)));
    EXPECT_EQ(y[{i}].item(), std::floor(v / step * 0x1p7) * step * 0x1p-7);
    EXPECT_EQ(z[{i}].item(), std::floor(v / step * 0x1p10) * step * 0x1p-10);
  }
}

TEST(Random, NormalIsBoxMuller) {
  const uint64_t seed = 77;
  manual_seed(seed);
  const Tensor z = randn({1001});
  const uint64_t begin = uint64_t(default_generator().state().offset);
  const Tensor d = normal({999}, 3, 2, {.dtype = f64});
  for (int64_t i = 0; i < z.size(); ++i) {
    const int64_t j = i / 2;
    const double r = std::sqrt(-2 * std::log((word(seed, 0, 2 * j) + 0.5) * 0x1p-32)),
                 a = 2 * M_PI * double(word(seed, 0, 2 * j + 1) >> 8) * 0x1p-24;
    EXPECT_NEAR(z[{i}].item(), i % 2 ? r * std::sin(a) : r * std::cos(a), 3e-6 + 2e-7 / r) << i;
  }
  for (int64_t i = 0; i < d.size(); ++i) {
    const int64_t j = i / 2;
    const long double u = ((long double)(word64(seed, begin, 2 * j) >> 12) + 0.5L) * 0x1p-52L,
                      a = 2 * 3.14159265358979323846264L * (long double)(word64(seed, begin, 2 * j + 1) >> 12) * 0x1p-52L;
    const long double r = std::sqrt(-2 * std::log(u));
    EXPECT_NEAR(d[{i}].item(), double(3 + 2 * (i % 2 ? r * std::sin(a) : r * std::cos(a))), 3e-15) << i;
  }
}

/// Kolmogorov and Smirnov: sqrt(n) times the largest distance between the sample's and the distribution's function; above 1.95 once in a
/// thousand.
template <class F>
double ks(const Tensor& sample, F cdf) {
  const Tensor s = sort(sample.to(f64)).values;
  const double n = double(s.size());
  const double* p = s.data<double>();
  double worst = 0;
  for (int64_t i = 0; i < s.size(); ++i) {
    const double f = cdf(p[i]);
    worst = std::max({worst, f - double(i) / n, double(i + 1) / n - f});
  }
  return worst * std::sqrt(n);
}
double phi(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

TEST(Random, Distributions) {
  manual_seed(2024);
  const int64_t n = 1000000;
  EXPECT_LT(ks(rand({n}), [](double x) { return x; }), 1.95);
  EXPECT_LT(ks(rand({n}, {.dtype = f64}), [](double x) { return x; }), 1.95);
  EXPECT_LT(ks(randn({n}), phi), 1.95);
  EXPECT_LT(ks(normal({n}, -1, 3, {.dtype = f64}), [](double x) { return phi((x + 1) / 3); }), 1.95);
  const Tensor z = randn({n}).to(f64);
  EXPECT_NEAR(mean(z).item(), 0, 4e-3);
  EXPECT_NEAR(mean(z * z).item(), 1, 6e-3);
  EXPECT_NEAR(mean(z * z * z).item(), 0, 2e-2);
  EXPECT_NEAR(mean(z * z * z * z).item(), 3, 5e-2);
  EXPECT_NEAR(mean(z[{slice(none, none, 2)}] * z[{slice(1, none, 2)}]).item(), 0, 6e-3);  // the two of a pair
  EXPECT_GT(max(z).item(), 4);
}

TEST(Random, Randint) {
  manual_seed(5);
  const Tensor r = randint(-3, 4, {700000});
  EXPECT_EQ(r.dtype(), i64);
  for (int v = -3; v <= 3; ++v) EXPECT_NEAR(double(sum((r == v).to(i64)).item()), 100000, 5 * std::sqrt(700000.0 / 7 * 6 / 7));
  EXPECT_EQ(min(r).item(), -3);
  EXPECT_EQ(max(r).item(), 3);
  manual_seed(5);
  const uint64_t range = 1000;
  const Tensor w = randint(10, 1010, {50});
  for (int64_t i = 0; i < 50; ++i)
    EXPECT_EQ(w[{i}].item<int64_t>(), 10 + int64_t((static_cast<unsigned __int128>(word64(5, 0, i)) * range) >> 64));
  EXPECT_EQ(max(randint(0, 200, {1000}, {.dtype = u8})).item<int64_t>() < 200, true);
}

TEST(Random, Permutation) {
  manual_seed(11);
  const Tensor p = permutation(100000);
  EXPECT_TRUE(array_equal(sort(p).values, arange(100000)));
  // Position of element 0 of three, 6 orders equally often.
  int64_t counts[6] = {};
  for (int k = 0; k < 6000; ++k) {
    const Tensor q = permutation(3);
    const int64_t a = q[{0}].item<int64_t>(), b = q[{1}].item<int64_t>();
    ++counts[2 * a + (b > 3 - a - b)];
  }
  for (int64_t c : counts) EXPECT_NEAR(double(c), 1000, 150);
  // With 10^5 words of 32 bits one pair or so is equal; ties are ordered by other words, so the order still depends on nothing but the
  // seed.
  manual_seed(11);
  EXPECT_TRUE(array_equal(permutation(100000), p));
  EXPECT_FALSE(array_equal(permutation(100000), p));
}

TEST(Random, Bernoulli) {
  manual_seed(1);
  const Tensor p = tensor({0.0, 0.25, 0.9, 1.0}).reshape({4, 1}).expand({4, 100000});
  const Tensor m = mean(bernoulli(p), {.axis = 1});
  EXPECT_EQ(m[{0}].item(), 0);
  EXPECT_EQ(m[{3}].item(), 1);
  EXPECT_NEAR(m[{1}].item(), 0.25, 0.007);
  EXPECT_NEAR(m[{2}].item(), 0.9, 0.005);
}

TEST(Random, Multinomial) {
  manual_seed(4);
  const Tensor w = tensor({1.0, 0.0, 3.0, 6.0});
  const Tensor with = multinomial(w, 100000, true);
  EXPECT_NEAR(double(sum((with == 0).to(i64)).item()), 10000, 500);
  EXPECT_EQ(sum((with == 1).to(i64)).item(), 0);
  EXPECT_NEAR(double(sum((with == 3).to(i64)).item()), 60000, 800);
  const Tensor rows = w.reshape({1, 4}).expand({20000, 4});
  const Tensor pairs = multinomial(rows, 2);
  EXPECT_EQ(pairs.shape(), Shape({20000, 2}));
  const Tensor first = pairs[{all, 0}], second = pairs[{all, 1}];
  EXPECT_EQ(sum((first == second).to(i64)).item(), 0);
  EXPECT_NEAR(double(sum((first == 3).to(i64)).item()), 12000, 400);
  // P(second = 0) = 0.3 * 1/7 + 0.6 * 1/4
  EXPECT_NEAR(double(sum((second == 0).to(i64)).item()), 20000 * (0.3 / 7 + 0.15), 300);
  EXPECT_TRUE(array_equal(sort(multinomial(w, 3)).values, tensor({0, 2, 3})));
}

TEST(Random, Dropout) {
  manual_seed(8);
  Tensor x = ones({1000, 100}, {.requires_grad = true});
  Tensor y = dropout(x, {.p = 0.2});
  EXPECT_NEAR(mean(y).item(), 1, 0.01);
  EXPECT_NEAR(mean((y == 0).to(f32)).item(), 0.2, 0.006);
  EXPECT_EQ(max(y).item(), double(float(1 / 0.8)));
  sum(y).backward();
  EXPECT_TRUE(array_equal(x.grad(), y));
  const Tensor odd = tensor({NAN, INFINITY, 1.0});
  EXPECT_TRUE(array_equal(dropout(odd, {.p = 1}), zeros({3})));
  EXPECT_TRUE(allclose(dropout(odd, {.p = 0}), odd, {.rel = 0, .abs = 0, .equal_nan = true}));
  for (DType t : {f64, f16, bf16}) {
    manual_seed(8);
    EXPECT_TRUE(array_equal(dropout(ones({1000, 100}, {.dtype = t}), {.p = 0.2}) == 0, y == 0)) << name_of(t);
  }
}

Tensor everything(uint64_t seed) {
  manual_seed(seed);
  const int64_t n = 30001;
  Tensors all;
  for (DType t : {f32, f64, f16, bf16}) all.push_back(rand({n}, {.dtype = t}).to(f64)), all.push_back(randn({n}, {.dtype = t}).to(f64));
  all.push_back(randint(-1000000, 1000000, {n}).to(f64)), all.push_back(permutation(n).to(f64)),
      all.push_back(dropout(full({n}, 3.0)).to(f64));
  all.push_back(multinomial(rand({n}), 1000).to(f64)), all.push_back(multinomial(rand({50}), 1000, true).to(f64)),
      all.push_back(bernoulli(rand({n})).to(f64));
  return concat(all);
}

TEST(Random, SameAtEveryThreadCountAndInstructionSet) {
  const int64_t threads = num_threads();
  const Tensor first = everything(6);
  for (int64_t t : {1, 2, 5}) {
    set_num_threads(t);
    EXPECT_TRUE(array_equal(everything(6), first)) << t << " threads";
  }
  set_num_threads(threads);
  const cpu::Isa best = cpu::active_isa();
  for (cpu::Isa isa : {cpu::Isa::scalar, cpu::Isa::avx2}) {
    cpu::set_isa_for_tests(isa);
    EXPECT_TRUE(array_equal(everything(6), first)) << "instruction set " << int(isa);
  }
  cpu::set_isa_for_tests(best);
  EXPECT_FALSE(array_equal(everything(7), first));
}

}  // namespace
}  // namespace keel
