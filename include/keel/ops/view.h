#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct ShapeParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  static constexpr void fields(auto& p, auto&& f) { f("shape", p.shape, "extents of the result; one may be -1 and follows from the rest"); }
};
struct PermuteParams {
  [[no_unique_address]] ByName by_name = ByName();
  Dims order = {};
  static constexpr void fields(auto& p, auto&& f) { f("order", p.order, "axis i of the result is axis order[i] of the input"); }
};
struct AxisParams {
  [[no_unique_address]] ByName by_name = ByName();
  Axes axis = {};
  static constexpr void fields(auto& p, auto&& f) { f("axis", p.axis, "the axes"); }
};
struct SliceParams {
  [[no_unique_address]] ByName by_name = ByName();
  Dims start = {};
  Dims stop = {};
  Dims step = {};
  static constexpr void fields(auto& p, auto&& f) {
    f("start", p.start, "first index along each axis, counted from the front");
    f("stop", p.stop, "end along each axis, not included; -1 with a negative step means past the front");
    f("step", p.step, "step along each axis; may be negative");
  }
};
struct SliceBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  Dims start = {};
  Dims stop = {};
  Dims step = {};
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "extents of the result");
    f("start", p.start, "first index along each axis");
    f("stop", p.stop, "end along each axis, not included");
    f("step", p.step, "step along each axis");
  }
};

// Views: no element moves where the strides allow it.
/// Another shape, same order of elements; a copy where strides do not allow a view.
Tensor reshape(const Tensor& x, const Shape& shape);
/// Swaps the last two axes.
Tensor transpose(const Tensor& x);
Tensor transpose(const Tensor& x, int64_t a, int64_t b);
Tensor permute(const Tensor& x, const Dims& order);
/// Merges the axes first..last into one.
Tensor flatten(const Tensor& x, int64_t first = 0, int64_t last = -1);
/// Without axes of extent 1: all of them, or the one given (left alone where its extent is not 1).
Tensor squeeze(const Tensor& x);
Tensor squeeze(const Tensor& x, int64_t axis);
Tensor unsqueeze(const Tensor& x, int64_t axis);
/// Repeats axes of extent 1 with stride 0; -1 keeps an extent.
Tensor expand(const Tensor& x, const Shape& shape);
Tensor broadcast_to(const Tensor& x, const Shape& shape);
Tensor flip(const Tensor& x, const Axes& axes);
/// start:stop:step along every axis, already normalised; `x[{...}]` is the comfortable form.
Tensor slice_view(const Tensor& x, const SliceParams& p);
/// Zeros of `shape` with `g` written where the slice lies.
Tensor slice_backward(const Tensor& g, const SliceBackwardParams& p);

/// Whether two shapes broadcast.
bool can_broadcast(const Shape& a, const Shape& b);

}  // namespace keel
#pragma GCC visibility pop
