#pragma once
// Pieces that rows share.
#include "core/impl.h"
#include "keel/ops/cast.h"
#include "keel/ops/creation.h"
#include "keel/ops/elementwise.h"
#include "keel/ops/reduce.h"
#include "keel/ops/view.h"
#include "op/checks.h"
#include "op/scope.h"

namespace keel {

/// Same dtype and shape as input 0.
inline constexpr auto same_as_first = [](auto&, Specs in) { return in[0]; };
/// The broadcast shape of all inputs, dtype of input 0.
inline constexpr auto broadcast_same = [](auto&, Specs in) { return Spec{in[0].dtype, broadcast_all(in)}; };
/// The broadcast shape of all inputs, bool.
inline constexpr auto broadcast_bool = [](auto&, Specs in) { return Spec{DType::boolean, broadcast_all(in)}; };
/// Shape of input 0, bool.
inline constexpr auto bool_like_first = [](auto&, Specs in) { return Spec{DType::boolean, in[0].shape}; };

/// Integers that say a place: a class, a token. Not u64, which has no common dtype with signed ones.
inline constexpr DTypeSet kPlaces = kinds::signed_integer | set_of(u8, u16, u32);

// Decompositions of functions on floats compute in the dtype that accumulates the input's, so that a 16-bit result is rounded once.
/// `x` in the dtype in which its sums are kept.
inline Tensor acc(const Tensor& x) { return accumulate_dtype(x.dtype()) == x.dtype() ? x : cast(x, accumulate_dtype(x.dtype())); }
/// `y` in the dtype of `x`.
inline Tensor like(const Tensor& y, const Tensor& x) { return cast(y, x.dtype()); }

/// An optional input; an undefined tensor where it is absent.
inline Tensor given(const Inputs& in, int i) { return in.has(i) ? in[i] : Tensor(); }
/// `t`, the result of a reduction of `x` over `axes`, with the reduced axes put back as extent 1.
inline Tensor unreduce(const Tensor& t, const Spec& x, const Axes& axes, bool keepdim) {
  return keepdim ? t : reshape(t, reduced_shape(x.shape, check_axes(axes, x), true));
}
/// How many elements of `x` go into one result of a reduction over `axes`.
inline int64_t reduced_count(const Spec& x, const Axes& axes) {
  int64_t n = 1;
  for (int64_t a : check_axes(axes, x)) n *= x.shape[int(a)];
  return n;
}

/// `s` with another extent along one axis.
inline Shape with_axis(Shape s, int axis, int64_t extent) {
  s[axis] = extent;
  return s;
}

}  // namespace keel
