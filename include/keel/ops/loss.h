#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

enum class Reduction : int32_t { none, mean, sum };
inline const char* const* enum_names(Reduction) {
  static const char* const names[] = {"none", "mean", "sum", nullptr};
  return names;
}
struct CrossEntropyParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = -1;
  double label_smoothing = 0;
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axis of the classes");
    f("label_smoothing", p.label_smoothing, "share of the target spread evenly over all classes");
    f("ignore_index", p.ignore_index, "targets with this index do not count");
    f("reduction", p.reduction, "mean over counted targets, sum, or none");
  }
};
struct NllParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = -1;
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axis of the classes");
    f("ignore_index", p.ignore_index, "targets with this index do not count");
    f("reduction", p.reduction, "mean over counted targets, sum, or none");
  }
};
struct LossParams {
  [[no_unique_address]] ByName by_name = ByName();
  Reduction reduction = Reduction::mean;
  static constexpr void fields(auto& p, auto&& f) { f("reduction", p.reduction, "mean, sum, or none"); }
};
/// For the backward form.
struct NllBackwardParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t axis = -1;
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
  int64_t classes = 0;
  static constexpr void fields(auto& p, auto&& f) {
    f("axis", p.axis, "axis of the classes");
    f("ignore_index", p.ignore_index, "targets with this index do not count");
    f("reduction", p.reduction, "how the loss was reduced");
    f("classes", p.classes, "extent of the class axis");
  }
};
/// -log softmax(logits) at the target, stable for any logits. `target` holds class indices (shape of the logits without the class axis) or probabilities (shape of the logits).
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyParams& p = {});
/// The same from log-probabilities, with class indices.
Tensor nll_loss(const Tensor& log_probs, const Tensor& target, const NllParams& p = {});
Tensor mse_loss(const Tensor& x, const Tensor& target, const LossParams& p = {});
Tensor l1_loss(const Tensor& x, const Tensor& target, const LossParams& p = {});
/// -(t log s(x) + (1 - t) log(1 - s(x))) as max(x, 0) - x t + log1p(exp(-|x|)).
Tensor bce_with_logits(const Tensor& logits, const Tensor& target, const LossParams& p = {});

}  // namespace keel
#pragma GCC visibility pop
