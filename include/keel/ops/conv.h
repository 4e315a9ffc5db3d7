#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct Conv2dParams {
  [[no_unique_address]] ByName by_name = ByName();
  Pair stride = 1;
  Pair padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  static constexpr void fields(auto& p, auto&& f) {
    f("stride", p.stride, "step of the window, rows and columns");
    f("padding", p.padding, "zeros added on each side");
    f("dilation", p.dilation, "distance between the window's taps");
    f("groups", p.groups, "channels are split into so many groups that do not see each other");
  }
};
/// For the two gradients: `extent` is what the cotangent alone does not tell, rows and columns of the input (backward_input) or of the kernel (backward_weight).
struct Conv2dBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  Pair stride = 1;
  Pair padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  Pair extent = 1;
  static constexpr void fields(auto& p, auto&& f) {
    f("stride", p.stride, "step of the window");
    f("padding", p.padding, "zeros added on each side");
    f("dilation", p.dilation, "distance between the window's taps");
    f("groups", p.groups, "groups of channels");
    f("extent", p.extent, "rows and columns of the input, or of the kernel");
  }
};
/// Cross-correlation of x [n, c, h, w] with weight [out, c / groups, kh, kw], plus bias [out]. The result's channels are innermost in memory (channels-last), as is fastest for x.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Conv2dParams& p = {});
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
