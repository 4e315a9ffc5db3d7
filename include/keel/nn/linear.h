#pragma once
#include "keel/nn/module.h"

#pragma GCC visibility push(default)
namespace keel::nn {

struct LinearOptions {
  [[no_unique_address]] ByName by_name = ByName();
  bool bias = true;
};
/// x [.., in] times the transpose of weight [out, in], plus bias [out]. Both start uniform in +-1/sqrt(in).
class Linear : public Module<Linear> {
 public:
  Linear(int64_t in, int64_t out, const LinearOptions& o = {});
  static void fields(auto& m, auto&& f) { f("weight", m.weight)("bias", m.bias); }
  Tensor forward(const Tensor& x) const;
  /// down(gelu(forward(x))) with gelu in its tanh form: the inner layers of a transformer block. One op on devices that have kernels for it;
  /// the parts on the CPU, and where hooks look at what the layers give.
  Tensor gelu_then(const Linear& down, const Tensor& x) const;

  Weight weight, bias;
};

/// Gives back what it gets.
class Identity : public Module<Identity> {
 public:
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return x; }
};

/// Merges the axes first..last into one; by default all but the batch.
class Flatten : public Module<Flatten> {
 public:
  explicit Flatten(int64_t first = 1, int64_t last = -1) : first_(first), last_(last) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return x.flatten(first_, last_); }

 private:
  int64_t first_, last_;
};

/// In training, zeroes each element with probability `p` and scales the rest by 1 / (1 - p); else gives back what it gets.
class Dropout : public Module<Dropout> {
 public:
  explicit Dropout(double p = 0.5);
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const;
  double p() const { return p_; }

 private:
  double p_;
};

struct EmbeddingOptions {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t padding_index = -1;  // row that starts at zero and gets no gradient; -1 for none
};
/// A row of weight [rows, width] for each integer id. Rows start normal with variance 1.
class Embedding : public Module<Embedding> {
 public:
  Embedding(int64_t rows, int64_t width, const EmbeddingOptions& o = {});
  static void fields(auto& m, auto&& f) { f("weight", m.weight); }
  Tensor forward(const Tensor& ids) const;

  Weight weight;

 private:
  int64_t padding_index_;
};

}  // namespace keel::nn
#pragma GCC visibility pop
