#pragma once
// What the rows of convolution and their kernels share.
#include "keel/ops/conv.h"

namespace keel {

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

/// The sizes of one convolution, as its kernels need them.
struct ConvSizes {
  int64_t n, c, h, w;  // input
  int64_t o, oh, ow;   // output
  int64_t kh, kw;      // window
  int64_t sh, sw, ph, pw, dh, dw, groups;
};
template <class P>
ConvSizes conv_sizes(const P& p, const Shape& x, const Shape& weight, const Shape& y) {
  return {x[0],      x[1],        x[2],        x[3],         y[1],         y[2],          y[3],          weight[2],
          weight[3], p.stride[0], p.stride[1], p.padding[0], p.padding[1], p.dilation[0], p.dilation[1], p.groups};
}

}  // namespace keel
