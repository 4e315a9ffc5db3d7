#pragma once
#include <cmath>

#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct AttentionParams {
  [[no_unique_address]] ByName by_name = ByName();
  bool causal = false;
  double scale = 0;
  /// What `scale` stands for with heads of this width.
  double factor(int64_t width) const { return scale != 0 ? scale : 1 / std::sqrt(double(width > 0 ? width : 1)); }
  static constexpr void fields(auto& p, auto&& f) {
    f("causal", p.causal, "query i sees keys up to i (counted from the end where there are more keys than queries)");
    f("scale", p.scale, "factor of q k; 0 stands for 1 / sqrt(head width)");
  }
};
/// softmax(scale q k^T + mask) v for q [b, h, t, d], k and v [b, h_kv, s, d] with h a multiple of h_kv (grouped heads). `mask` broadcasts to [b, h, t, s]: bool (true takes part) or added. Tiled: memory is O(t d), not O(t s).
/// A row that sees nothing gives zeros.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionParams& p = {});
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const AttentionParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
