#include <cmath>

#include "ops/cases.h"

using namespace keel;

KEEL_CASES(pool) {
  for (const char* name : {"max_pool2d", "avg_pool2d"})
    c.op(name)
        .torch(std::string("torch.nn.functional.") + name +
               "(x, tuple(kernel), tuple(s or k for s, k in zip(stride, kernel)), tuple(padding))")
        .sample(Pool2dParams{}, {normal({2, 3, 4, 6})})
        .sample(Pool2dParams{.kernel = 3, .stride = 2, .padding = 1}, {normal({1, 2, 5, 6})})
        .sample(Pool2dParams{.kernel = {2, 3}, .stride = {1, 2}}, {normal({1, 2, 4, 5})})
        .sample(Pool2dParams{.kernel = {1, 4}, .stride = 1, .padding = {0, 2}}, {normal({1, 2, 3, 5})})
        .sample(Pool2dParams{.kernel = 2, .stride = 3}, {normal({1, 2, 7, 6})})
        .sample(Pool2dParams{}, {normal({0, 3, 4, 4})})
        .sample(Pool2dParams{}, {special({1, 2, 8, 8})}, false)
        .sample(Pool2dParams{.kernel = 3, .stride = 2, .padding = 1}, {normal({3, 19, 17, 23})}, false)
        .tolerance(f32, 2e-6, 2e-6)
        .error(Pool2dParams{}, {normal({3, 4, 4})}, ErrorCode::shape, "x must have rank 4")
        .error(Pool2dParams{.kernel = 5}, {normal({1, 1, 4, 8})}, ErrorCode::shape, "a window of 5 rows does not fit into 4 with padding 0")
        .error(Pool2dParams{.kernel = 0}, {normal({1, 1, 4, 8})}, ErrorCode::value, "kernel must be at least 1, got 0")
        .error(Pool2dParams{.padding = 2}, {normal({1, 1, 4, 8})}, ErrorCode::value,
               "padding must be at least 0 and at most half the kernel, got 2")
        .error(Pool2dParams{.padding = 1}, {normal({1, 1, 0, 8})}, ErrorCode::shape, "x [1, 1, 0, 8] has no rows")
        .error(Pool2dParams{.stride = -1}, {normal({1, 1, 4, 8})}, ErrorCode::value, "stride must be positive");
  c.op("max_pool2d").only(set_of(i32, i64, u8, u64)).sample(Pool2dParams{}, {integers({1, 2, 4, 6}, -9, 9, DType::none)});
  c.op("max_pool2d_backward")
      .sample(MaxPool2dBackwardParams{.shape = {2, 1, 3, 4}}, {normal({2, 1, 2, 3}), integers({2, 1, 2, 3}, 0, 12, i32)})
      .sample(MaxPool2dBackwardParams{.shape = {0, 1, 3, 4}}, {normal({0, 1, 2, 3}), integers({0, 1, 2, 3}, 0, 12, i32)})
      .sample(MaxPool2dBackwardParams{.shape = {3, 19, 17, 23}}, {normal({3, 19, 8, 11}), integers({3, 19, 8, 11}, 0, 391, i32)}, false)
      .sample(MaxPool2dBackwardParams{.shape = {1, 2, 4, 5}, .kernel = 2, .stride = 2, .padding = {0, 1}},
              {normal({1, 2, 2, 3}), values({1, 2, 2, 3}, {0, 6, 4, 10, 17, 14, 5, 2, 9, 15, 11, 19}, i32)})
      .tolerance(f32, 2e-6, 2e-6)
      .error(MaxPool2dBackwardParams{.shape = {1, 1, 2, 2}}, {normal({1, 1, 1, 1}), integers({1, 1, 1, 1}, 4, 5, i32)}, ErrorCode::index,
             "index 4 is out of range [0, 3]")
      .error(MaxPool2dBackwardParams{.shape = {1, 2, 2, 2}}, {normal({1, 1, 1, 1}), integers({1, 1, 1, 1}, 0, 1, i32)}, ErrorCode::shape,
             "does not belong");
  c.op("max_pool2d_pick")
      .sample({normal({2, 1, 3, 4}), integers({2, 1, 2, 3}, 0, 12, i32)})
      .error({normal({1, 1, 2, 2}), integers({1, 1, 1, 1}, -1, 0, i32)}, ErrorCode::index, "index -1 is out of range [0, 3]");
  c.op("avg_pool2d_backward")
      .sample(Pool2dBackwardParams{.shape = {2, 3, 4, 6}}, {normal({2, 3, 2, 3})})
      .sample(Pool2dBackwardParams{.shape = {1, 2, 5, 6}, .kernel = 3, .stride = 2, .padding = 1}, {normal({1, 2, 3, 3})})
      .sample(Pool2dBackwardParams{.shape = {1, 2, 7, 6}, .kernel = 2, .stride = 3}, {normal({1, 2, 2, 2})})
      .sample(Pool2dBackwardParams{.shape = {3, 19, 17, 23}, .kernel = 3, .stride = 2, .padding = 1}, {normal({3, 19, 9, 12})}, false)
      .error(Pool2dBackwardParams{.shape = {2, 3, 4, 6}}, {normal({2, 3, 2, 2})}, ErrorCode::shape, "g must have shape [2, 3, 2, 3]");
  c.op("adaptive_avg_pool2d")
      .torch("torch.nn.functional.adaptive_avg_pool2d(x, tuple(size))")
      .sample(AdaptivePool2dParams{}, {normal({2, 3, 4, 5})})
      .sample(AdaptivePool2dParams{.size = {2, 3}}, {normal({1, 2, 4, 6})})
      .sample(AdaptivePool2dParams{.size = {3, 4}}, {normal({1, 2, 5, 7})})
      .sample(AdaptivePool2dParams{.size = {5, 2}}, {normal({1, 2, 3, 7})})
      .sample(AdaptivePool2dParams{.size = 7}, {normal({2, 3, 10, 13})}, false)
      .error(AdaptivePool2dParams{.size = 0}, {normal({1, 1, 4, 8})}, ErrorCode::value, "size must be at least 1")
      .error(AdaptivePool2dParams{}, {normal({1, 1, 0, 8})}, ErrorCode::shape, "no elements to average");
}
