#pragma once
#include "keel/nn/module.h"
#include "keel/ops/conv.h"
#include "keel/ops/pool.h"

#pragma GCC visibility push(default)
namespace keel::nn {

struct Conv2dOptions {
  [[no_unique_address]] ByName by_name = ByName();
  Pair kernel = 0;  // rows and columns of the window; must be given
  Pair stride = 1;
  Pair padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  bool bias = true;
};
/// Cross-correlation of x [n, in, h, w] with weight [out, in / groups, kh, kw], plus bias [out]. Both start uniform in +-1/sqrt(in / groups * kh * kw).
class Conv2d : public Module<Conv2d> {
 public:
  Conv2d(int64_t in, int64_t out, const Conv2dOptions& o);
  static void fields(auto& m, auto&& f) { f("weight", m.weight)("bias", m.bias); }
  Tensor forward(const Tensor& x) const;

  Weight weight, bias;

 private:
  Conv2dParams params_;
};

/// Largest element of each window.
class MaxPool2d : public Module<MaxPool2d> {
 public:
  explicit MaxPool2d(const Pool2dParams& p) : params_(p) {}
  explicit MaxPool2d(Pair kernel) : params_{.kernel = kernel} {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return max_pool2d(x, params_); }

 private:
  Pool2dParams params_;
};
/// Mean of each window, padding counted.
class AvgPool2d : public Module<AvgPool2d> {
 public:
  explicit AvgPool2d(const Pool2dParams& p) : params_(p) {}
  explicit AvgPool2d(Pair kernel) : params_{.kernel = kernel} {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return avg_pool2d(x, params_); }

 private:
  Pool2dParams params_;
};
/// Means over windows chosen so that the result has the given rows and columns.
class AdaptiveAvgPool2d : public Module<AdaptiveAvgPool2d> {
 public:
  explicit AdaptiveAvgPool2d(Pair size) : params_{.size = size} {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& x) const { return adaptive_avg_pool2d(x, params_); }

 private:
  AdaptivePool2dParams params_;
};

}  // namespace keel::nn
#pragma GCC visibility pop
