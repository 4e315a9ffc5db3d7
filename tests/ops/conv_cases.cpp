#include "keel/ops/conv.h"
#include "ops/cases.h"

namespace {
using namespace keel;
using namespace keel::testing_cases;
using P = Conv2dParams;
using B = Conv2dBackwardParams;

OpCase& loosened(OpCase& o) {
  return o.tolerance(f32, 1e-5, 2e-5).tolerance(f64, 1e-13, 1e-13).tolerance(f16, 3e-3, 3e-3).tolerance(bf16, 2e-2, 2e-2);
}
}  // namespace

KEEL_CASES(conv) {
  loosened(c.op("conv2d"))
      .torch(
          "torch.nn.functional.conv2d(x, weight, bias, stride=tuple(stride), padding=tuple(padding), dilation=tuple(dilation), "
          "groups=groups)")
      .sample(P{}, {normal({2, 3, 6, 5}), normal({4, 3, 3, 2}), normal({4})})
      .sample(P{.padding = 1}, {normal({1, 2, 4, 4}), normal({3, 2, 3, 3}), absent()})
      .sample(P{.stride = 2, .padding = 1}, {normal({2, 2, 7, 6}), normal({3, 2, 3, 3}), normal({3})})
      .sample(P{.stride = {1, 2}, .padding = {0, 2}, .dilation = {2, 1}}, {normal({1, 2, 7, 5}), normal({2, 2, 3, 3}), normal({2})})
      .sample(P{.padding = 1, .groups = 2}, {normal({2, 4, 5, 5}), normal({6, 2, 3, 3}), normal({6})})
      .sample(P{.padding = 1, .groups = 3}, {normal({1, 3, 5, 4}), normal({3, 1, 3, 3}), absent()})
      .sample(P{}, {normal({2, 3, 4, 4}), normal({5, 3, 1, 1}), absent()})
      .sample(P{.stride = 2}, {normal({2, 3, 5, 4}), normal({5, 3, 1, 1}), absent()})
      .sample(P{.stride = 3, .padding = 2}, {normal({1, 2, 5, 5}), normal({2, 2, 2, 2}), absent()})
      .sample(P{}, {normal({0, 3, 4, 4}), normal({2, 3, 3, 3}), normal({2})})
      .sample(P{}, {normal({3, 1, 28, 28}), normal({6, 1, 5, 5}), normal({6})}, false)
      .sample(P{}, {normal({3, 6, 12, 12}), normal({16, 6, 5, 5}), normal({16})}, false)
      .sample(P{.padding = 1}, {normal({2, 40, 9, 9}), normal({37, 40, 3, 3}), normal({37})}, false)
      .sample(P{.stride = 2, .padding = 1}, {normal({2, 33, 9, 10}), normal({35, 33, 3, 3}), absent()}, false)
      .sample(P{.stride = 2, .padding = 3}, {normal({1, 3, 20, 20}), normal({33, 3, 7, 7}), absent()}, false)
      .sample(P{.padding = 2, .groups = 6}, {normal({2, 6, 7, 6}), normal({6, 1, 5, 5}), normal({6})}, false)
      .sample(P{.stride = 2, .padding = 1, .groups = 20}, {normal({2, 20, 9, 8}), normal({40, 1, 3, 3}), normal({40})}, false)
      .sample(P{.stride = 2, .padding = 3}, {normal({2, 1, 15, 14}), normal({5, 1, 7, 7}), normal({5})}, false)
      .sample(P{}, {normal({17, 2, 8, 8}), normal({6, 2, 3, 3}), normal({6})}, false)
      .sample(P{}, {normal({17, 6, 12, 12}), normal({16, 6, 5, 5}), normal({16})}, false)
      .sample(P{.padding = 2}, {normal({16, 1, 14, 14}), normal({6, 1, 5, 5}), absent()}, false)
      .sample(P{.stride = 2, .padding = 1}, {normal({18, 3, 9, 9}), normal({7, 3, 3, 3}), normal({7})}, false)
      .sample(P{.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}}, {normal({16, 3, 7, 6}), normal({5, 3, 3, 2}), absent()}, false)
      .sample(P{.padding = 1}, {normal({2, 3, 4, 3}), normal({4, 3, 1, 1}), normal({4})})
      .sample(P{.padding = 1}, {normal({2, 0, 4, 4}), normal({3, 0, 3, 3}), normal({3})})
      .sample(P{.padding = 1}, {normal({2, 3, 4, 4}), normal({0, 3, 3, 3}), absent()})
      .sample(P{.padding = 2}, {normal({2, 2, 0, 3}), normal({3, 2, 3, 3}), normal({3})})
      .sample(P{.padding = 2, .groups = 2}, {normal({1, 2, 0, 3}), normal({4, 1, 3, 3}), normal({4})})
      .error(P{}, {normal({2, 3, 6, 5}), normal({4, 2, 3, 3}), absent()}, ErrorCode::shape, "x has 3 channels, weight takes 2")
      .error(P{}, {normal({2, 6, 5, 3}), normal({4, 3, 3, 3}), absent()}, ErrorCode::shape, "permute(x, {0, 3, 1, 2})")
      .error(P{}, {normal({3, 6, 5}), normal({4, 3, 3, 3}), absent()}, ErrorCode::shape, "x")
      .error(P{}, {normal({2, 3, 2, 5}), normal({4, 3, 3, 3}), absent()}, ErrorCode::shape,
             "the window (3 rows) is larger than the padded input (2)")
      .error(P{.stride = 0}, {normal({2, 3, 6, 5}), normal({4, 3, 3, 3}), absent()}, ErrorCode::value, "stride must be at least 1")
      .error(P{.groups = 2}, {normal({2, 4, 6, 5}), normal({3, 2, 3, 3}), absent()}, ErrorCode::shape, "do not divide into 2 groups")
      .error(P{}, {normal({2, 3, 6, 5}), normal({4, 3, 3, 3}), normal({3})}, ErrorCode::shape, "bias must have shape [4], got [3]");
  loosened(c.op("conv2d_backward_input"))
      .sample(B{.extent = {6, 5}}, {normal({2, 4, 4, 4}), normal({4, 3, 3, 2})})
      .sample(B{.stride = 2, .padding = 1, .extent = {7, 6}}, {normal({2, 3, 4, 3}), normal({3, 2, 3, 3})})
      .sample(B{.stride = {1, 2}, .padding = {0, 2}, .dilation = {2, 1}, .extent = {7, 5}}, {normal({1, 2, 3, 4}), normal({2, 2, 3, 3})})
      .sample(B{.padding = 1, .groups = 2, .extent = 5}, {normal({2, 6, 5, 5}), normal({6, 2, 3, 3})})
      .sample(B{.stride = 2, .extent = {5, 4}}, {normal({2, 5, 3, 2}), normal({5, 3, 1, 1})})
      .sample(B{.extent = 12}, {normal({3, 16, 8, 8}), normal({16, 6, 5, 5})}, false)
      .sample(B{.stride = 2, .padding = 1, .extent = {9, 10}}, {normal({2, 35, 5, 5}), normal({35, 33, 3, 3})}, false)
      .sample(B{.padding = 2, .groups = 6, .extent = {7, 6}}, {normal({2, 6, 7, 6}), normal({6, 1, 5, 5})}, false)
      .sample(B{.stride = 2, .padding = 1, .groups = 20, .extent = {9, 8}}, {normal({2, 40, 5, 4}), normal({40, 1, 3, 3})}, false)
      .sample(B{.stride = 2, .padding = 3, .extent = {15, 14}}, {normal({2, 5, 8, 7}), normal({5, 1, 7, 7})}, false)
      .sample(B{.stride = 3, .padding = 1, .extent = {7, 8}}, {normal({2, 5, 3, 3}), normal({5, 3, 2, 2})}, false)
      .sample(B{.extent = 8}, {normal({17, 6, 6, 6}), normal({6, 5, 3, 3})}, false)
      .sample(B{.extent = 12}, {normal({17, 16, 8, 8}), normal({16, 6, 5, 5})}, false)
      .sample(B{.padding = 2, .extent = 14}, {normal({16, 6, 14, 14}), normal({6, 1, 5, 5})}, false)
      .sample(B{.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}, .extent = {7, 6}}, {normal({16, 5, 4, 8}), normal({5, 3, 3, 2})},
              false)
      .sample(B{.padding = 1, .extent = 4}, {normal({2, 3, 4, 4}), normal({3, 0, 3, 3})})
      .sample(B{.padding = 1, .extent = 4}, {normal({2, 0, 4, 4}), normal({0, 3, 3, 3})})
      .error(B{.extent = 6}, {normal({2, 4, 4, 4}), normal({4, 3, 2, 2})}, ErrorCode::shape, "the convolution's result has");
  loosened(c.op("conv2d_backward_weight"))
      .tolerance(f32, 1e-5, 1e-4)
      .sample(B{.extent = {3, 2}}, {normal({2, 4, 4, 4}), normal({2, 3, 6, 5})})
      .sample(B{.stride = 2, .padding = 1, .extent = 3}, {normal({2, 3, 4, 3}), normal({2, 2, 7, 6})})
      .sample(B{.stride = {1, 2}, .padding = {0, 2}, .dilation = {2, 1}, .extent = 3}, {normal({1, 2, 3, 4}), normal({1, 2, 7, 5})})
      .sample(B{.padding = 1, .groups = 2, .extent = 3}, {normal({2, 6, 5, 5}), normal({2, 4, 5, 5})})
      .sample(B{.stride = 2, .extent = 1}, {normal({2, 5, 3, 2}), normal({2, 3, 5, 4})})
      .sample(B{.extent = 5}, {normal({5, 6, 24, 24}), normal({5, 1, 28, 28})}, false)
      .sample(B{.extent = 5}, {normal({5, 16, 8, 8}), normal({5, 6, 12, 12})}, false)
      .sample(B{.stride = 2, .padding = 1, .extent = 3}, {normal({2, 35, 5, 5}), normal({2, 33, 9, 10})}, false)
      .sample(B{.padding = 2, .groups = 6, .extent = 5}, {normal({2, 6, 7, 6}), normal({2, 6, 7, 6})}, false)
      .sample(B{.stride = 2, .padding = 1, .groups = 20, .extent = 3}, {normal({2, 40, 5, 4}), normal({2, 20, 9, 8})}, false)
      .sample(B{.stride = 2, .padding = 3, .extent = 7}, {normal({2, 5, 8, 7}), normal({2, 1, 15, 14})}, false)
      .sample(B{.extent = 3}, {normal({17, 6, 6, 6}), normal({17, 2, 8, 8})}, false)
      .sample(B{.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}, .extent = {3, 2}}, {normal({16, 5, 4, 8}), normal({16, 3, 7, 6})},
              false)
      .sample(B{.extent = 5}, {normal({133, 3, 4, 4}), normal({133, 2, 8, 8})}, false)
      .sample(B{.padding = 1, .extent = 3}, {normal({2, 3, 4, 4}), normal({2, 0, 4, 4})})
      .sample(B{.padding = 1, .extent = 3}, {normal({0, 3, 4, 4}), normal({0, 2, 4, 4})})
      .error(B{.extent = 2}, {normal({2, 4, 4, 4}), normal({2, 3, 6, 5})}, ErrorCode::shape, "the convolution's result has");
}
