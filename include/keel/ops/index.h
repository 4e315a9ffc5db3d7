#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct IndexParams {
  [[no_unique_address]] ByName by_name = ByName();
  Dims axis = {};
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "the axis that each index array runs over, ascending; none given: the first ones");
  }
};
struct IndexPutParams {
  [[no_unique_address]] ByName by_name = ByName();
  Dims axis = {};
  bool accumulate = false;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "the axis that each index array runs over, ascending; none given: the first ones");
    f("accumulate", p.accumulate, "add to what is there, in the order of the indices, instead of replacing it");
  }
};
/// Of the gradients of `index_get`, `gather` and `index_put`.
struct IndexBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  Dims axis = {};
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "shape of the tensor that was indexed");
    f("axis", p.axis, "the axis that each index array ran over");
  }
};

/// x[..., i0, ..., i1, ...]: integer arrays, broadcast together, in place of the named axes, as NumPy: the arrays' axes stand where the
/// first of the named axes stood if those are neighbours, else first. Negative entries count from the end; an entry out of range is
/// IndexError. The gradient adds up repeated positions in the order of the indices.
Tensor index_get(const Tensor& x, const Tensors& arrays, const IndexParams& p);
/// `x` with `value`, broadcast, written where `index_get` would read. Repeated positions: the last one wins (and alone gets a gradient), or
/// with `accumulate` all are added, in the order of the indices; 16- and 8-bit floats add up in f32.
Tensor index_put(const Tensor& x, const Tensors& arrays, const Tensor& value, const IndexParams& p, bool accumulate = false);
struct GatherParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = 0;
  static constexpr void fields(auto& p, auto&& f) { f("axis", p.axis, "axis that the index runs over"); }
};
/// y[i][j].. = x[i][index[i][j]].. along `axis`; index has the rank of x and is at most as long on other axes.
Tensor gather(const Tensor& x, const Tensor& index, const GatherParams& p = {});
/// Slices of `x` along `axis` picked by a 1-d index.
Tensor index_select(const Tensor& x, const Tensor& index, const GatherParams& p = {});
/// `x` with `source`, of the shape of `index`, added where `gather` with the same index would read; repeated positions add up in the order
/// of the index, 16-bit floats in f32.
Tensor scatter_add(const Tensor& x, const Tensor& index, const Tensor& source, const GatherParams& p = {});
/// Positions of the elements that are not zero, row-major: i64[count, rank]. NaN counts as not zero.
Tensor nonzero(const Tensor& x);

}  // namespace keel
#pragma GCC visibility pop
