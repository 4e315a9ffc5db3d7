#pragma once
#include "keel/nn/module.h"
#include "keel/ops/loss.h"

#pragma GCC visibility push(default)
// Losses as modules: loss(prediction, target), with the params of their ops.
namespace keel::nn {
namespace detail {
template <class P, Tensor (*f)(const Tensor&, const Tensor&, const P&), class Self>
class Loss : public Module<Self> {
 public:
  explicit Loss(const P& p = {}) : params_(p) {}
  static void fields(auto&, auto&&) {}
  Tensor forward(const Tensor& prediction, const Tensor& target) const { return f(prediction, target, params_); }

 private:
  P params_;
};
}  // namespace detail

/// From logits, with class indices or probabilities as targets; classes lie on the last axis.
struct CrossEntropyLoss : detail::Loss<CrossEntropyParams, cross_entropy, CrossEntropyLoss> { using Loss::Loss; };
/// From log-probabilities, with class indices.
struct NLLLoss : detail::Loss<NllParams, nll_loss, NLLLoss> { using Loss::Loss; };
struct MSELoss : detail::Loss<LossParams, mse_loss, MSELoss> { using Loss::Loss; };
struct L1Loss : detail::Loss<LossParams, l1_loss, L1Loss> { using Loss::Loss; };
struct BCEWithLogitsLoss : detail::Loss<LossParams, bce_with_logits, BCEWithLogitsLoss> { using Loss::Loss; };

}  // namespace keel::nn
#pragma GCC visibility pop
