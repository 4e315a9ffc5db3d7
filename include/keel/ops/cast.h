#pragma once
#include "keel/op.h"

namespace keel {

struct CastParams {
  [[no_unique_address]] ByName by_name = ByName();
  DType to = DType::none;
  static constexpr void fields(auto& p, auto&& f) { f("to", p.to, "dtype of the result"); }
};
/// `x` in another dtype; itself where it has it already. Floats round to nearest even; a float goes to an integer by truncation (out of range: the lowest value of i64, wrapped to the type); to bool: whether it is
/// not zero. Into fp8 finite values saturate.
Tensor cast(const Tensor& x, DType to);
/// A dense copy, in the order of axes that `x` has where it is dense, else row-major.
Tensor copy(const Tensor& x);

}  // namespace keel
