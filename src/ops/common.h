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

/// `s` with another extent along one axis.
inline Shape with_axis(Shape s, int axis, int64_t extent) {
  s[axis] = extent;
  return s;
}

}  // namespace keel
