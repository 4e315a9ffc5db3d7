#pragma once
#include "keel/nn/linear.h"

#pragma GCC visibility push(default)
namespace keel::nn {

struct MultiheadAttentionOptions {
  [[no_unique_address]] ByName by_name = ByName();
  double dropout = 0;      // probability with which an attention weight is zeroed in training; above 0 the weights are held in memory
  bool bias = true;
  int64_t key_width = 0;   // width of the keys given; 0: that of the queries
  int64_t value_width = 0;
};
/// Attention in several heads over x [b, t, width]: projects queries, keys and values, attends in each head, joins and projects again. Parameters are named as PyTorch names them: `in_proj_weight` [3 width, width]
/// (or `q_proj_weight`, `k_proj_weight`, `v_proj_weight` where widths differ), `in_proj_bias`, `out_proj.weight`, `out_proj.bias`. The batch comes first.
class MultiheadAttention : public Module<MultiheadAttention> {
 public:
  struct Options {
    [[no_unique_address]] ByName by_name = ByName();
    bool causal = false;  // a query sees keys up to its own place
  };
  MultiheadAttention(int64_t width, int64_t heads, const MultiheadAttentionOptions& o = {});
  static void fields(auto& m, auto&& f) {
    f("in_proj_weight", m.in_proj_weight)("q_proj_weight", m.q_proj_weight)("k_proj_weight", m.k_proj_weight)("v_proj_weight", m.v_proj_weight)("in_proj_bias", m.in_proj_bias)("out_proj", m.out_proj);
  }
  /// Self-attention.
  Tensor forward(const Tensor& x) const { return forward(x, Options()); }
  Tensor forward(const Tensor& x, const Options& o) const;
  /// query [b, t, width], key [b, s, key_width], value [b, s, value_width] to [b, t, width].
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value) const { return forward(query, key, value, Tensor(), Options()); }
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value, const Options& o) const { return forward(query, key, value, Tensor(), o); }
  /// `mask` broadcasts to [b, heads, t, s]: bool (true takes part) or added to the scores.
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask) const { return forward(query, key, value, mask, Options()); }
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask, const Options& o) const;

  Weight in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias;
  Linear out_proj;

 private:
  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Options& o) const;
  int64_t width_, heads_;
  double dropout_;
};

}  // namespace keel::nn
#pragma GCC visibility pop
