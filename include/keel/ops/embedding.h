#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct EmbeddingParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t padding_index = -1;
  static constexpr void fields(auto& p, auto&& f) { f("padding_index", p.padding_index, "row that gets no gradient; -1 for none"); }
};
/// For the backward form.
struct EmbeddingBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t rows = 0;
  int64_t padding_index = -1;
  static constexpr void fields(auto& p, auto&& f) {
    f("rows", p.rows, "rows of the weight");
    f("padding_index", p.padding_index, "row that gets no gradient; -1 for none");
  }
};
/// Rows of weight [rows, width] picked by integer `ids`: shape of ids, then width. The gradient adds up repeated ids in a fixed order.
Tensor embedding(const Tensor& ids, const Tensor& weight, const EmbeddingParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
