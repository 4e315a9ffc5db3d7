#pragma once
#include "keel/op.h"
#include "keel/random.h"

#pragma GCC visibility push(default)
namespace keel {

// Random tensors. All draw from `default_generator()`, by counter: the same seed gives the same numbers at any thread count and on every device.
struct DropoutParams {
  [[no_unique_address]] ByName by_name = ByName();
  double p = 0.5;
  int64_t offset = 0;
  static constexpr void fields(auto& q, auto&& f) {
    f("p", q.p, "probability that an element becomes 0");
    f("offset", q.offset, "where in the generator's stream the numbers begin");
  }
};
/// Uniform in [0, 1).
Tensor rand(const Shape& s, const TensorOptions& o = {});
/// Normal with mean 0 and variance 1.
Tensor randn(const Shape& s, const TensorOptions& o = {});
Tensor uniform(const Shape& s, double low, double high, const TensorOptions& o = {});
Tensor normal(const Shape& s, double mean, double stddev, const TensorOptions& o = {});
/// Integers in [low, high), i64.
Tensor randint(int64_t low, int64_t high, const Shape& s, const TensorOptions& o = {});
/// The integers 0..n-1 in random order, i64.
Tensor permutation(int64_t n, const TensorOptions& o = {});
/// 1 with probability p[i], else 0; dtype of p.
Tensor bernoulli(const Tensor& p);
/// `count` indices a row of weights [n] or [rows, n], drawn in proportion; without replacement unless asked. i64 [count] or [rows, count].
Tensor multinomial(const Tensor& weights, int64_t count, bool replacement = false);
/// Zeroes elements with probability p and scales the rest by 1 / (1 - p).
Tensor dropout(const Tensor& x, const DropoutParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
