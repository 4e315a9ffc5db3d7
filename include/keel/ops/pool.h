#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct Pool2dParams {
  [[no_unique_address]] ByName by_name = ByName();
  Pair kernel = 2;
  Pair stride = 0;
  Pair padding = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("kernel", p.kernel, "extent of the window, rows and columns");
    f("stride", p.stride, "step of the window; 0 stands for the kernel's extent");
    f("padding", p.padding, "border on each side, at most half the kernel; counts as -inf for max, as zeros for avg");
  }
};
struct AdaptivePool2dParams {
  [[no_unique_address]] ByName by_name = ByName();
  Pair size = 1;
  static constexpr void fields(auto& p, auto&& f) { f("size", p.size, "rows and columns of the result"); }
};
/// For the backward form.
struct Pool2dBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  Pair kernel = 2;
  Pair stride = 0;
  Pair padding = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "extents of the input of the pool");
    f("kernel", p.kernel, "extent of the window, rows and columns");
    f("stride", p.stride, "step of the window; 0 stands for the kernel's extent");
    f("padding", p.padding, "border on each side");
  }
};
struct MaxPool2dBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  Pair kernel = 0;
  Pair stride = 0;
  Pair padding = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "extents of the input of the pool");
    f("kernel", p.kernel, "extent of the window that each index lies in, rows and columns; 0: they may lie anywhere");
    f("stride", p.stride, "step of the window; 0 stands for the kernel's extent");
    f("padding", p.padding, "border on each side");
  }
};
/// Largest element of each window of x [n, c, h, w]; NaN wins. The gradient goes to the first largest.
Tensor max_pool2d(const Tensor& x, const Pool2dParams& p = {});
/// Mean of each window, padding counted.
Tensor avg_pool2d(const Tensor& x, const Pool2dParams& p = {});
/// Mean over windows chosen so that the result has the given size.
Tensor adaptive_avg_pool2d(const Tensor& x, const AdaptivePool2dParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
