#include "layers/monitor/suggest.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "layers/monitor/series.h"

namespace keel {
std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

Suggestion suggest_epsilon(const OpDef& op, DType t, double mean) {
  const Format f = format_of(t);
  // Not below the normal numbers, nor where the gradient leaves the format: eps^-2 of a quotient, eps^(-3/2) / 2 of an inverse root.
  const std::string_view name = op.name;
  const double order = name == "div" || name == "reciprocal" ? 2.0 : 1.5, least = std::exp2(std::max(f.normal2, -f.max2 / order)),
               wanted = mean > 0 ? std::pow(10, std::round(std::log10(3e-4 * mean))) : 1e-6;
  double eps = std::max(std::min(wanted, 0.1), least);
  if (eps > wanted) eps = std::pow(10, std::ceil(std::log10(least)));
  return {"epsilon", eps, "add an epsilon of " + number(eps) + " to what " + op.name + " takes"};
}

Suggestion suggest_loss_scale(DType t, float high) {
  const double scale = std::exp2(std::floor(format_of(t).max2 - double(high)) - 2);
  return {"loss_scale", scale, "multiply the loss by " + number(scale) + " and divide the gradients by it"};
}

Suggestion suggest_for_cancellation(const OpDef& user) {
  const std::string_view name = user.name;
  if (name == "pow")
    return {"stable_op", 0,
            "an epsilon added to the base, or expm1 and log1p where 1 is subtracted: near 0 only rounding is left of the difference"};
  if (name == "rsqrt" || name == "sqrt" || name == "div" || name == "reciprocal")
    return {"stable_op", 0, "var: take the mean off first and square the rest, in two passes (layer_norm does)"};
  return {"stable_op", 0, "bce_with_logits: work on logits; log_sigmoid(-x) is log(1 - sigmoid(x)) without cancellation"};
}

Suggestion suggest_for(const OpDef& op, DType t, Phase phase, const Circumstances& how) {
  const std::string_view name = op.name;
  const bool narrow = is_inexact(t) && format_of(t).narrow;
  if (name == "exp" || name == "expm1" || name == "sinh" || name == "cosh")
    return {"stable_op", 0, "softplus, logsumexp or softmax instead of exp written out: they take the largest argument off first"};
  if (name == "log" || name == "log2") return {"stable_op", 0, "log_softmax, or log_safe: the argument was 0"};
  if (name == "log1p") return {"stable_op", 0, "a bound above -1 for what it takes: there log1p ends"};
  if (name == "batch_norm" || name == "layer_norm" || name == "rms_norm")
    return {"epsilon", 1e-5, "an epsilon of 1e-5: what has no variance is divided by it"};
  if (name == "softmax" || name == "log_softmax") return {"stable_op", 0, "softmax_safe: a row in which everything is masked gives zeros"};
  if (name == "var" || name == "stddev")
    return {"data", 0,
            "leave out a batch of so few values, or a norm that needs no batch: one value has no deviation, as count less correction is 0"};
  if (name == "pow")
    return {"stable_op", 0, "pow_safe, or an epsilon added to the base: a power below 1 has no slope at 0, one below 0 no value"};
  if (name == "prod") return {"stable_op", 0, "a sum of logarithms instead of a product"};
  if (name == "sqrt" || name == "rsqrt" || name == "norm") return {"stable_op", 0, "sqrt_safe or norm_safe: their gradient at 0 is 0"};
  if (name == "div" || name == "reciprocal")
    return phase == Phase::backward
               ? Suggestion{"stable_op", 0, "the op of the forward pass needs a safe form: sqrt_safe, log_safe, norm_safe or div_safe"}
               : Suggestion{"stable_op", 0, "div_safe: the denominator was 0"};
  if (name == "sum" && narrow) return {"stable_op", 0, "mean: divide by the number of terms before adding them up"};
  if (name == "cast" && narrow) return {"margin", 2, "scale by this step's largest value, or leave a margin of 2 bits"};
  // A constant takes its bits in every step: a wider format only moves the end, and gradients are multiplied by it as well.
  if (phase == Phase::forward && how.factor >= 6)
    return {"stable_op", 0,
            "a smaller number than " + number(std::exp2(double(how.factor))) + ", or a norm after it: it enlarges gradients as much"};
  if (narrow)
    return {"dtype", 0, std::string("bf16 has the range of f32; ") + name_of(t) + " ends at " + number(std::exp2(format_of(t).max2))};
  // Clipping bounds what an update adds, not what a recurrence makes of the weights that are there.
  if (phase == Phase::forward && how.calls >= 8)
    return {"stable_op", 0,
            "recurrent weights that start orthogonal and stay below 1 in norm, or a norm of the state in each of the " +
                std::to_string(how.calls) + " calls; clipping gradients does not change the forward pass"};
  return {"clip", 1, "clip the gradients' norm at 1, and look at the learning rate and at what multiplies itself"};
}

}  // namespace keel
