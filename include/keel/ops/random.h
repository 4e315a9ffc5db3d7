#pragma once
#include "keel/op.h"
#include "keel/random.h"

#pragma GCC visibility push(default)
namespace keel {

struct UniformParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  double low = 0;
  double high = 1;
  DType dtype = DType::none;
  Device device = cpu_device;
  int64_t offset = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "extents of the result");
    f("low", p.low, "least value");
    f("high", p.high, "end of the values, not included");
    f("dtype", p.dtype, "dtype of the result; f32 where not given");
    f("device", p.device, "where the result lives");
    f("offset", p.offset, "where in the generator's stream the numbers begin");
  }
};
struct NormalParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  double mean = 0;
  double stddev = 1;
  DType dtype = DType::none;
  Device device = cpu_device;
  int64_t offset = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "extents of the result");
    f("mean", p.mean, "mean of the distribution");
    f("stddev", p.stddev, "its standard deviation");
    f("dtype", p.dtype, "dtype of the result; f32 where not given");
    f("device", p.device, "where the result lives");
    f("offset", p.offset, "where in the generator's stream the numbers begin");
  }
};
struct RandintParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  int64_t low = 0;
  int64_t high = 1;
  DType dtype = DType::none;
  Device device = cpu_device;
  int64_t offset = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "extents of the result");
    f("low", p.low, "least value");
    f("high", p.high, "end of the values, not included");
    f("dtype", p.dtype, "integer dtype of the result; i64 where not given");
    f("device", p.device, "where the result lives");
    f("offset", p.offset, "where in the generator's stream the numbers begin");
  }
};
struct PermutationParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t n = 0;
  DType dtype = DType::none;
  Device device = cpu_device;
  int64_t offset = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("n", p.n, "how many integers");
    f("dtype", p.dtype, "i64 or i32; i64 where not given");
    f("device", p.device, "where the result lives");
    f("offset", p.offset, "where in the generator's stream the numbers begin");
  }
};
struct BernoulliParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t offset = 0;
  static constexpr void fields(auto& p, auto&& f) { f("offset", p.offset, "where in the generator's stream the numbers begin"); }
};
struct MultinomialParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t count = 1;
  bool replacement = false;
  int64_t offset = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("count", p.count, "how many indices a row");
    f("replacement", p.replacement, "whether an index may come twice");
    f("offset", p.offset, "where in the generator's stream the numbers begin");
  }
};

struct DropoutParams {
  [[no_unique_address]] ByName by_name = ByName();
  double p = 0.5;
  int64_t offset = 0;
  static constexpr void fields(auto& q, auto&& f) {
    f("p", q.p, "probability that an element becomes 0, between 0 and 1");
    f("offset", q.offset, "where in the generator's stream the numbers begin");
  }
};

// Random tensors. All draw from `default_generator()`, by counter: the same seed gives the same numbers at any thread count and on every
// device. With w(i) word i of the stream from the op's offset on (Philox4x32-10, counter base + offset + i / 4, lane i % 4, key = seed),
// element i of the row-major result takes w(i), where it needs 64 bits w(2i) + 2^32 w(2i + 1):
//   uniform      u = (w >> 8) 2^-24, f64 (w64 >> 11) 2^-53, then low + u (high - low), kept below high; 16-bit floats round down
//   normal       Box-Muller on pairs: elements 2j, 2j + 1 are r cos(a), r sin(a) with r = sqrt(-2 log v), v = (w(2j) + 1/2) 2^-32,
//                a = 2 pi (w(2j + 1) >> 8) 2^-24; f64: the upper 52 bits of 64-bit words
//   randint      low + (w64 (high - low) >> 64): a bias below (high - low) 2^-64
//   bernoulli    uniform < p        dropout  dropped where w < p 2^32
//   permutation  the order of w(i) in the first n words, ties by words of a second n, then by i
/// Uniform in [0, 1).
Tensor rand(const Shape& s, const TensorOptions& o = {});
/// Normal with mean 0 and variance 1.
Tensor randn(const Shape& s, const TensorOptions& o = {});
Tensor uniform(const Shape& s, double low, double high, const TensorOptions& o = {});
Tensor normal(const Shape& s, double mean, double stddev, const TensorOptions& o = {});
/// Integers in [low, high), i64 unless an integer dtype that holds them is given.
Tensor randint(int64_t low, int64_t high, const Shape& s, const TensorOptions& o = {});
/// The integers 0..n-1 in random order, i64.
Tensor permutation(int64_t n, const TensorOptions& o = {});
/// 1 with probability p[i], else 0; dtype of p. A p outside [0, 1] is ValueError.
Tensor bernoulli(const Tensor& p);
/// `count` indices a row of weights [n] or [rows, n], drawn in proportion; without replacement unless asked. i64 [count] or [rows, count].
/// Weights are finite, not negative, and in every row as many are positive as are drawn (with replacement: one), else ValueError. Without
/// replacement the order is that of drawing one after another (an exponential race: the smallest -log(u) / weight first).
Tensor multinomial(const Tensor& weights, int64_t count, bool replacement = false);
/// Zeroes elements with probability p and scales the rest by 1 / (1 - p). The gradient draws the same numbers again, so nothing is kept for
/// it.
Tensor dropout(const Tensor& x, const DropoutParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
