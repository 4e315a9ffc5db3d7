#include <cmath>

#include "ops/cases.h"

using namespace keel;

KEEL_CASES(softmax) {
  for (const char* name : {"softmax", "log_softmax"})
    c.op(name)
        .torch(std::string("torch.") + name + "(x, dim=axis)")
        .sample(SoftmaxParams{}, {normal({4, 7})})
        .sample(SoftmaxParams{.axis = 0}, {normal({4, 3})})
        .sample(SoftmaxParams{.axis = 1}, {normal({2, 3, 4})})
        .sample(SoftmaxParams{.axis = -3}, {normal({2, 3, 2})})
        .sample(SoftmaxParams{}, {normal({})})
        .sample(SoftmaxParams{}, {normal({3, 0})})
        .sample(SoftmaxParams{}, {normal({0, 3})})
        .sample(SoftmaxParams{}, {values({2, 3}, {1000, 1001, 999, -1000, -1001, -999})})
        .sample(SoftmaxParams{}, {values({3, 3}, {-INFINITY, 1, 2, -INFINITY, -INFINITY, -INFINITY, INFINITY, 1, NAN})}, false)
        .sample(SoftmaxParams{}, {normal({33, 1031})}, false)
        .tolerance(bf16, 1.6e-2, 1e-2)
        .error(SoftmaxParams{.axis = 4}, {normal({2, 3})}, ErrorCode::index, "axis 4 is out of range [-2, 1]");
  c.op("softmax_backward")
      .sample(SoftmaxParams{}, {normal({4, 7}), between({4, 7}, 0, 1)})
      .sample(SoftmaxParams{.axis = 0}, {normal({4, 3}), between({4, 3}, 0, 1)})
      .sample(SoftmaxParams{}, {normal({3, 0}), normal({3, 0})})
      .tolerance(f32, 2e-6, 4e-6)
      .tolerance(bf16, 2e-2, 2e-2);
  c.op("log_softmax_backward")
      .sample(SoftmaxParams{}, {normal({4, 7}), between({4, 7}, -4, 0)})
      .sample(SoftmaxParams{.axis = 0}, {normal({4, 3}), between({4, 3}, -4, 0)})
      .sample(SoftmaxParams{}, {normal({3, 0}), normal({3, 0})})
      .tolerance(f32, 2e-6, 4e-6)
      .tolerance(bf16, 2e-2, 2e-2);
}

KEEL_CASES(class_loss) {
  constexpr Reduction none = Reduction::none, total = Reduction::sum;
  const Arg ignoring = values({5}, {0, -100, 2, 2, -100}, i64);
  c.op("cross_entropy")
      .torch(
          "torch.nn.functional.cross_entropy(logits.movedim(axis, 1) if logits.ndim > 1 else logits, target if not "
          "target.is_floating_point() or target.ndim < 2 else target.movedim(axis, 1), "
          "label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction)")
      .sample(CrossEntropyParams{}, {normal({5, 4}), integers({5}, 0, 4)})
      .sample(CrossEntropyParams{.reduction = none}, {normal({5, 4}), integers({5}, 0, 4, i32)})
      .sample(CrossEntropyParams{.reduction = total}, {normal({5, 4}), integers({5}, 0, 4, u8)})
      .sample(CrossEntropyParams{.label_smoothing = 0.2}, {normal({5, 4}), ignoring})
      .sample(CrossEntropyParams{.label_smoothing = 0.2, .reduction = none}, {normal({5, 4}), ignoring})
      .sample(CrossEntropyParams{.ignore_index = 2}, {normal({5, 4}), integers({5}, 0, 4)})
      .sample(CrossEntropyParams{.ignore_index = 1}, {normal({1500, 3}), integers({1500}, 0, 3)}, false)
      .sample(CrossEntropyParams{.axis = 1}, {normal({2, 3, 2, 2}), integers({2, 2, 2}, 0, 3)})
      .sample(CrossEntropyParams{.axis = 1, .label_smoothing = 0.1, .reduction = none}, {normal({2, 3, 2}), integers({2, 2}, 0, 3)})
      .sample(CrossEntropyParams{}, {normal({4}), integers({}, 0, 4)})
      .sample(CrossEntropyParams{}, {values({2, 3}, {1000, -1000, 0, -2000, 5, 2000}), integers({2}, 0, 3)})
      .sample(CrossEntropyParams{}, {normal({2, 3}), values({2}, {-100}, i64)}, false)
      .sample(CrossEntropyParams{}, {normal({0, 3}), integers({0}, 0, 3)}, false)
      .sample(CrossEntropyParams{.reduction = total}, {normal({0, 3}), integers({0}, 0, 3)}, false)
      .sample(CrossEntropyParams{}, {normal({9, 517}), integers({9}, 0, 517)}, false)
      .sample(CrossEntropyParams{}, {normal({5, 4}), between({5, 4}, 0, 1)})
      .sample(CrossEntropyParams{.label_smoothing = 0.3, .reduction = none}, {normal({5, 4}), between({5, 4}, 0, 1)})
      .sample(CrossEntropyParams{.axis = 1, .reduction = total}, {normal({2, 3, 2}), between({2, 3, 2}, 0, 1)})
      .tolerance(f32, 2e-6, 4e-6)
      .error(CrossEntropyParams{}, {normal({5, 4}), integers({5}, 4, 5)}, ErrorCode::index, "target 4 is out of range [0, 3]")
      .error(CrossEntropyParams{}, {normal({5, 4}), integers({5}, -1, 0)}, ErrorCode::index, "target -1 is out of range [0, 3]")
      .error(CrossEntropyParams{}, {normal({5, 4}), integers({4}, 0, 3)}, ErrorCode::shape, "target must have shape [5], got [4]")
      .error(CrossEntropyParams{}, {normal({5, 4}), integers({5, 4}, 0, 3)}, ErrorCode::shape, "one-hot rows must be floats")
      .error(CrossEntropyParams{}, {normal({2, 3, 4, 4}), integers({2, 4, 4}, 0, 3)}, ErrorCode::shape,
             "axis = 1 takes the classes from axis 1")
      .error(CrossEntropyParams{}, {normal({5, 4}), normal({5})}, ErrorCode::shape, "class indices must be integers")
      .error(CrossEntropyParams{}, {normal({}), integers({}, 0, 3)}, ErrorCode::shape, "at least rank 1")
      .error(CrossEntropyParams{.label_smoothing = 1.5}, {normal({5, 4}), integers({5}, 0, 4)}, ErrorCode::value,
             "label_smoothing must be in [0, 1], got 1.5")
      .error(CrossEntropyParams{}, {normal({5, 0}), integers({5}, 0, 4)}, ErrorCode::value, "there are no classes")
      .error(CrossEntropyParams{.axis = 2}, {normal({5, 4}), integers({5}, 0, 4)}, ErrorCode::index, "axis 2 is out of range");
  c.op("cross_entropy_backward")
      .sample(CrossEntropyParams{}, {normal({}), normal({5, 4}), integers({5}, 0, 4), between({5}, 1, 2)})
      .sample(CrossEntropyParams{.label_smoothing = 0.2, .reduction = none}, {normal({5}), normal({5, 4}), ignoring, between({5}, 1, 2)})
      .sample(CrossEntropyParams{.axis = 1, .reduction = total},
              {normal({}), normal({2, 3, 2}), integers({2, 2}, 0, 3, u8), between({2, 2}, 1, 2)})
      .sample(CrossEntropyParams{}, {normal({}), normal({5, 4}), ignoring, between({5}, 1, 2)})
      .sample(CrossEntropyParams{.ignore_index = 1}, {normal({}), normal({300, 3}), integers({300}, 0, 3), between({300}, 1, 2)})
      .sample(CrossEntropyParams{.axis = 1, .ignore_index = 1},
              {normal({}), normal({2, 3, 2}), integers({2, 2}, 0, 3), between({2, 2}, 1, 2)})
      .sample(CrossEntropyParams{}, {normal({}), normal({4}), integers({}, 0, 4), between({}, 1, 2)});
  c.op("nll_loss")
      .torch(
          "torch.nn.functional.nll_loss(log_probs.movedim(axis, 1) if log_probs.ndim > 1 else log_probs, target, "
          "ignore_index=ignore_index, reduction=reduction)")
      .sample(NllParams{}, {normal({5, 4}), integers({5}, 0, 4)})
      .sample(NllParams{.reduction = none}, {normal({5, 4}), ignoring})
      .sample(NllParams{}, {normal({5, 4}), ignoring})
      .sample(NllParams{.axis = 1, .reduction = total}, {normal({2, 3, 2, 2}), integers({2, 2, 2}, 0, 3, u8)})
      .sample(NllParams{}, {normal({4}), integers({}, 0, 4, i32)})
      .sample(NllParams{}, {normal({0, 3}), integers({0}, 0, 3)}, false)
      .error(NllParams{}, {normal({5, 4}), integers({5}, 4, 5)}, ErrorCode::index, "target 4 is out of range [0, 3]")
      .error(NllParams{}, {normal({5, 4}), normal({5})}, ErrorCode::dtype, "'target' has dtype f32")
      .error(NllParams{}, {normal({5, 4}), integers({4}, 0, 3)}, ErrorCode::shape, "target must have shape [5], got [4]");
  c.op("nll_loss_backward")
      .sample(NllBackwardParams{.classes = 4}, {normal({}), integers({5}, 0, 4)})
      .sample(NllBackwardParams{.reduction = none, .classes = 4}, {normal({5}), ignoring})
      .sample(NllBackwardParams{.axis = 1, .reduction = total, .classes = 3}, {normal({}), integers({2, 2}, 0, 3)});
}

KEEL_CASES(pair_loss) {
  for (const char* name : {"mse_loss", "l1_loss", "bce_with_logits"}) {
    const bool bce = std::string(name) == "bce_with_logits";
    const auto target = [&](Shape s) { return bce ? between(s, 0, 1) : normal(s); };
    c.op(name)
        .torch(std::string("torch.nn.functional.") + (bce ? "binary_cross_entropy_with_logits(logits" : std::string(name) + "(x") +
               ", target, reduction=reduction)")
        .sample(LossParams{}, {normal({3, 4}), target({3, 4})})
        .sample(LossParams{.reduction = Reduction::none}, {normal({3, 4}), target({3, 4})})
        .sample(LossParams{.reduction = Reduction::sum}, {normal({3, 4}), target({3, 4})})
        .sample(LossParams{}, {normal({}), target({})})
        .sample(LossParams{}, {normal({0, 2}), target({0, 2})}, false)
        .sample(LossParams{.reduction = Reduction::none}, {values({4}, {100, -100, 300, -300}), target({4})})
        .sample(LossParams{}, {normal({65, 130}), target({65, 130})}, false)
        .tolerance(f32, 2e-6, 2e-6)
        .error(LossParams{}, {normal({3, 1}), target({3})}, ErrorCode::shape, "x and target must have the same shape, got [3, 1] and [3]")
        .error(LossParams{}, {normal({3, 1}), target({3})}, ErrorCode::shape, "seldom meant");
  }
}
