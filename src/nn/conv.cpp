#include "keel/nn/conv.h"

#include <algorithm>

#include "keel/error.h"
#include "nn/layers.h"

namespace keel::nn {

Conv2d::Conv2d(int64_t in, int64_t out, const Conv2dOptions& o) : params_{.stride = o.stride, .padding = o.padding, .dilation = o.dilation, .groups = o.groups} {
  require_positive("Conv2d", "in", in), require_positive("Conv2d", "out", out), require_positive("Conv2d", "groups", o.groups);
  require_positive("Conv2d", "kernel", std::min(o.kernel[0], o.kernel[1]));
  if (in % o.groups || out % o.groups)
    raise(Error(ErrorCode::value, "in (" + std::to_string(in) + ") and out (" + std::to_string(out) + ") must be multiples of groups (" + std::to_string(o.groups) + ")").op("Conv2d").hint("each group maps in / groups channels to out / groups; groups = in is a depthwise convolution"));
  const int64_t fan_in = in / o.groups * o.kernel[0] * o.kernel[1];
  weight = fan_in_uniform({out, in / o.groups, o.kernel[0], o.kernel[1]}, fan_in);
  if (o.bias) bias = fan_in_uniform({out}, fan_in);
}
Tensor Conv2d::forward(const Tensor& x) const { return bias.defined() ? conv2d(x, weight, bias, params_) : conv2d(x, weight, params_); }

}  // namespace keel::nn
