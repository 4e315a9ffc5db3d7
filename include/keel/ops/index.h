#pragma once
#include "keel/op.h"

namespace keel {

struct IndexParams {
  [[no_unique_address]] ByName by_name = ByName();
  Dims axis = {};
  static constexpr void fields(auto& p, auto&& f) { f("axis", p.axis, "the axis that each index array runs over, ascending"); }
};

/// x[..., i0, ..., i1, ...]: integer arrays, broadcast together, in place of the named axes, as NumPy: the arrays' axes stand where the first of the named axes stood if those are neighbours, else first.
/// Negative entries count from the end; an entry out of range is IndexError.
Tensor index_get(const Tensor& x, const Tensors& arrays, const IndexParams& p);
/// `x` with `value`, broadcast, written where `index_get` would read. Repeated positions: the last one wins, or with `accumulate` all are added.
Tensor index_put(const Tensor& x, const Tensors& arrays, const Tensor& value, const IndexParams& p, bool accumulate = false);
/// Positions of the elements that are not zero: i64[count, rank].
Tensor nonzero(const Tensor& x);

}  // namespace keel
