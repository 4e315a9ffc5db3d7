#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct SortParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = -1;
  bool descending = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axis to sort along");
    f("descending", p.descending, "largest first");
  }
};
struct TopkParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t k = 1;
  int64_t axis = -1;
  bool largest = true;
  static constexpr void fields(auto& p, auto&& f) {
    f("k", p.k, "how many");
    f("axis", p.axis, "axis to choose along");
    f("largest", p.largest, "largest or smallest");
  }
};
struct Sorted {
  Tensor values, indices;  // indices: i64, along the axis
};
/// Stable; NaN sorts last in ascending order, first in descending.
Sorted sort(const Tensor& x, const SortParams& p = {});
/// The k largest (or smallest), best first; equal elements in order of their index.
Sorted topk(const Tensor& x, int64_t k, const TopkParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
