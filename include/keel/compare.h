#pragma once
#include "keel/shape.h"

#pragma GCC visibility push(default)
namespace keel {

class Tensor;

struct CloseParams {
  [[no_unique_address]] ByName by_name = ByName();
  double rel = -1;  // negative: by dtype, see `allclose`
  double abs = -1;
  bool equal_nan = false;
};
/// Whether |a - b| <= abs + rel |b| for every pair of elements, a and b broadcast together; infinities must be equal, NaN counts as equal
/// to NaN only with `equal_nan`. Tolerances that are not given follow from the common dtype: f64 1e-9 and 1e-9, f32 1e-6 and 1e-7, f16 1e-3
/// and 1e-4, bf16 1e-2 and 1e-3, e4m3fn 0.125 and 0.0125, e5m2 0.25 and 0.025; integers and bools are compared exactly.
bool allclose(const Tensor& a, const Tensor& b, const CloseParams& p = {});
/// Whether shapes are the same and all elements are equal, after promotion to a common dtype; NaN differs from NaN, -0 equals 0.
bool array_equal(const Tensor& a, const Tensor& b);

}  // namespace keel
#pragma GCC visibility pop
