#include "layers/monitor/lint_rules.h"

#include <cmath>
#include <string_view>

#include "backend/float_bits.h"
#include "core/impl.h"
#include "layers/monitor/series.h"
#include "layers/monitor/suggest.h"

namespace keel {

extern OpDef op_abs, op_add, op_batch_norm_update, op_bce_with_logits, op_cast, op_cross_entropy, op_div, op_dropout, op_exp, op_gather,
    op_index_get, op_index_select, op_layer_norm, op_log, op_log1p, op_log2, op_log_softmax, op_max, op_mean, op_min, op_mul, op_nll_loss,
    op_norm, op_reciprocal, op_relu, op_rsqrt, op_sigmoid, op_softmax, op_sqrt, op_square, op_stddev, op_sub, op_sum, op_var;

namespace {

/// The number of that name among the parameters of a call; NaN: there is none.
double parameter_of(const OpDef& op, const void* params, const char* name) {
  struct Wish {
    std::string_view name;
    double value = NAN;
  } wish{name};
  FieldSink sink{&wish, [](void* to, const FieldInfo& info, void* member) {
                   Wish& w = *static_cast<Wish*>(to);
                   if (w.name != info.name) return;
                   if (info.kind == FieldKind::number) w.value = *static_cast<double*>(member);
                   if (info.kind == FieldKind::integer) w.value = double(*static_cast<int64_t*>(member));
                 }};
  op.params.visit(const_cast<void*>(params), sink);
  return wish.value;
}

/// The smallest power of ten whose power -3/2, the slope of its inverse root, is still a number of the format.
double least_epsilon(DType t) { return std::pow(10, std::ceil(std::log10(std::exp2(-2.0 / 3 * format_of(t).max2)))); }

struct Rules {
  const LintCall& c;
  const LintMakers& makers;
  const Callback<void(const LintWord&)>& say;

  const OpDef* op(int call) const { return call < 0 ? nullptr : makers.op(makers.of, call); }
  /// The call that made input `i` of `call`; casts do not count.
  int maker(int call, int i) const {
    if (call < 0) return -1;
    int m = makers.maker(makers.of, call, i);
    for (int hops = 0; op(m) == &op_cast && hops < 4; ++hops) m = makers.maker(makers.of, m, 0);
    return m;
  }
  bool sums(int call) const { return op(call) == &op_sum || op(call) == &op_mean; }
  bool squares(int call) const {
    if (op(call) == &op_square) return true;
    return op(call) == &op_mul && makers.twice(makers.of, call);
  }
  bool sums_squares(int call) const { return sums(call) && squares(maker(call, 0)); }
  /// Whether nothing keeps the argument of an exponential from being large: it was not shifted by a maximum, negated or bounded.
  bool unbounded_exp(int call) const {
    if (op(call) != &op_exp) return false;
    const OpDef* from = op(maker(call, 0));
    if (!from) return makers.exact;
    const std::string_view name = from->name;
    return name == "linear" || name == "matmul" || name == "mul" || name == "add" || name == "div" || name == "conv2d" ||
           name == "embedding" || name == "layer_norm" || name == "rms_norm" || name == "batch_norm" || name == "relu";
  }
  /// The exponential, not kept from being large, that is picked, weighed or summed to make the result of `call`; -1 for none.
  int exponential_in(int call, int depth = 4) const {
    const OpDef* o = op(call);
    if (!o || depth == 0) return -1;
    if (o == &op_exp) return unbounded_exp(call) ? call : -1;
    if (!sums(call) && o != &op_add && o != &op_mul && o != &op_gather && o != &op_index_get && o != &op_index_select) return -1;
    const int e = exponential_in(maker(call, 0), depth - 1);
    return e >= 0 || sums(call) ? e : exponential_in(maker(call, 1), depth - 1);
  }
  /// Results that are 0 for some finite inputs, where nothing was added.
  bool may_be_zero(int call) const {
    const OpDef* o = op(call);
    if (!o) return false;
    if (o == &op_var || o == &op_stddev || o == &op_norm || o == &op_relu) return true;
    if (o == &op_sqrt) return may_be_zero(maker(call, 0));
    if (o == &op_sub) return op(maker(call, 0)) == &op_max && op(maker(call, 1)) == &op_min;
    return sums_squares(call) || (sums(call) && op(maker(call, 0)) == &op_abs);
  }
  void tell(Severity severity, const char* rule, int call, double value, Suggestion to_do, const std::string& text) const {
    say({severity, rule, call, value, std::move(to_do), text});
  }

  /// A factor that changes nothing: next to 1 as the dtype has it.
  void factor(const LintCall::Number& n) const {
    const Format f = format_of(n.dtype);
    const double from_one = std::abs(n.given - 1);
    if (from_one == 0 || from_one > std::exp2(-f.digits - 1)) return;
    tell(Severity::warning, "factor next to 1", c.call, n.given, {"accumulator", 0, "keep what is multiplied, an average perhaps, in f32"},
         std::string(c.op->name) + " by " + number(n.given) + " leaves every " + name_of(n.dtype) +
             " number as it is: the change is less than " + "half the distance to the next");
  }

  void numbers() const {
    if (c.op == &op_mul || c.op == &op_div)
      for (int i = c.op == &op_div; i < 2; ++i)
        if (c.numbers[i].dtype != DType::none) factor(c.numbers[i]);
    for (const LintCall::Number& n : c.numbers) {
      if (n.dtype == DType::none || n.given == 0 || !std::isfinite(n.given)) continue;
      const Format f = format_of(n.dtype);
      if (n.used == 0) {
        const double eps = least_epsilon(n.dtype);
        tell(Severity::warning, "epsilon", c.call, n.given, {"epsilon", eps, "use " + number(eps) + ", or compute in f32"},
             std::string("the number ") + number(n.given) + " given to " + c.op->name + " is 0 in " + name_of(n.dtype) +
                 ", whose smallest number is " + number(std::exp2(f.tiny2)));
      } else if (!std::isfinite(n.used) && (c.op == &op_add || c.op == &op_sub || c.op == &op_mul || c.op == &op_div)) {
        tell(Severity::warning, "number beyond the dtype", c.call, n.given,
             {"dtype", 0, "f32, or a number that " + std::string(name_of(n.dtype)) + " has"},
             std::string("the number ") + number(n.given) + " given to " + c.op->name + " is infinite in " + name_of(n.dtype) +
                 ", whose largest number is " + number(std::exp2(f.max2)));
      }
    }
    if (has_risk(c.op->risk, Risk::divides) && is_inexact(c.in)) {
      const double eps = parameter_of(*c.op, c.params, "eps");
      if (c.recording && eps < 1e-30)
        tell(Severity::warning, "epsilon", c.call, eps, {"epsilon", 1e-5, "use 1e-5"},
             "epsilon " + number(eps) + " of " + c.op->name + ": what has no variance is divided by 0");
      else if (format_of(c.in).narrow && eps < std::exp2(format_of(c.in).tiny2))
        tell(Severity::warning, "epsilon", c.call, eps, {"epsilon", 1e-5, "use 1e-5"},
             std::string("epsilon ") + number(eps) + " of " + c.op->name + " is below the smallest " + name_of(c.in) +
                 ": a row without variance gets a factor beyond its range");
    }
  }

  /// Losses that take logits, and are given what a softmax or sigmoid made of them: these are all between 0 and 1.
  void probabilities() const {
    const OpDef* from = op(maker(c.call, 0));
    const bool logits = c.op == &op_cross_entropy || c.op == &op_log_softmax || c.op == &op_bce_with_logits,
               many = c.op != &op_bce_with_logits;
    if (logits && (from == &op_softmax || (from == &op_sigmoid && !many)))
      tell(Severity::warning, "probabilities as logits", c.call, 0,
           {"stable_op", 0, std::string("the input of ") + from->name + " itself: " + c.op->name + " does that part"},
           std::string(c.op->name) + " is given the result of " + from->name + ", probabilities, for logits: these differ by 1 at most, " +
               "so that the result is never sure of anything and gradients are small");
    if (c.op == &op_nll_loss && (from == &op_softmax || from == &op_sigmoid))
      tell(Severity::warning, "probabilities as logits", c.call, 0,
           {"stable_op", 0, "log_softmax before it, or cross_entropy on the logits"},
           std::string("nll_loss is given the result of ") + from->name + ", probabilities, for their logarithms");
  }

  /// Shares that were mixed up with what they leave.
  void shares() const {
    if (c.op == &op_dropout)
      if (const double p = parameter_of(*c.op, c.params, "p"); p > 0.95)
        tell(Severity::warning, "share", c.call, p,
             {"stable_op", 0, "a share below 1, such as 0.1: of what is dropped, not of what is kept"},
             "dropout drops " + number(100 * p) + " % of the values" +
                 (p < 1 ? " and multiplies what is left by " + number(1 / (1 - p)) : std::string(": nothing comes through")));
    if (c.op == &op_batch_norm_update)
      if (const double share = parameter_of(*c.op, c.params, "momentum"); share > 0.9 || share < 0)
        tell(Severity::warning, "share", c.call, share, {"stable_op", 0, "a momentum of 0.1: the share of the batch, not of the past"},
             "running statistics take " + number(100 * share) + " % of each batch, and forget what was before");
  }

  /// One value has no rivals, and no deviation from itself.
  void alone() const {
    if (!c.shape || c.shape->rank() == 0 || !c.recording) return;
    const int rank = c.shape->rank();
    int64_t width = 1;
    if (c.op == &op_cross_entropy) {
      width = rank > 1 ? (*c.shape)[1] : (*c.shape)[0];
    } else if (c.op == &op_layer_norm) {
      for (int k = 1; k <= int(parameter_of(*c.op, c.params, "axes")) && k <= rank; ++k) width *= (*c.shape)[-k];
    } else {
      const double axis = parameter_of(*c.op, c.params, "axis");
      width = axis == axis ? (*c.shape)[int(axis)] : 2;
    }
    if (width != 1 || c.in_elements < 2) return;
    tell(Severity::warning, "one value", c.call, 1,
         {"stable_op", 0, c.op == &op_layer_norm ? "the axis that holds the features" : "a sigmoid, or the axis that holds the choices"},
         std::string(c.op->name) + " along an axis of length 1 gives the same for any input, and no gradient passes");
  }

  void logarithms() const {
    const int a = maker(c.call, 0);
    if (op(a) == &op_softmax)
      tell(Severity::warning, "log of softmax", c.call, 0, {"stable_op", 0, "log_softmax (or cross_entropy on the logits)"},
           "log of softmax: where logits differ by more than " + number(-0.6931 * format_of(c.in).tiny2) +
               " the probability is 0 and its logarithm -inf");
    if (op(a) == &op_sigmoid)
      tell(Severity::info, "log of sigmoid", c.call, 0, {"stable_op", 0, "-softplus(-x), or bce_with_logits: work on logits"},
           "log of sigmoid: below " + number(0.6931 * format_of(c.in).tiny2) + " the probability is 0 and its logarithm -inf");
    if (op(a) == &op_sub && op(maker(a, 1)) == &op_sigmoid)
      tell(Severity::info, "log of 1 - sigmoid", a, 0, suggest_for_cancellation(op_log),
           "log of 1 - sigmoid: from " + number(0.6931 * format_of(c.in).digits) + " on nothing is left of the difference");
    if (op(a) == &op_add || op(a) == &op_sum)
      for (int i = 0; i < (op(a) == &op_add ? 2 : 1); ++i)
        if (const int e = maker(a, i); unbounded_exp(e))
          tell(Severity::info, op(a) == &op_add ? "softplus by hand" : "logsumexp by hand", e, 0,
               {"stable_op", 0, op(a) == &op_add ? "softplus" : "logsumexp: it takes the largest argument off first"},
               std::string("log of ") + op(a)->name + " of exp: arguments above " + number(0.6931 * format_of(c.in).max2) +
                   " overflow, though the result is small");
    if (c.op == &op_log1p && unbounded_exp(a))
      tell(Severity::info, "softplus by hand", a, 0, {"stable_op", 0, "softplus"},
           "log1p of exp: arguments above " + number(0.6931 * format_of(c.in).max2) + " overflow, though the result is small");
  }

  void divisions() const {
    const int b = maker(c.call, c.op == &op_div ? 1 : 0);
    if (c.op == &op_div && (op(b) == &op_sum || op(b) == &op_add))
      if (const int e = exponential_in(b); e >= 0 && exponential_in(maker(c.call, 0)) >= 0) {
        // In f16 it takes an argument of 11 only.
        tell(format_of(c.in).narrow ? Severity::warning : Severity::info, "softmax by hand", e, 0,
             {"stable_op", 0, "softmax: it takes the largest argument off first"},
             "exp over its sum: arguments above " + number(0.6931 * format_of(c.in).max2) + " make NaN of a probability");
        return;
      }
    if (!may_be_zero(b)) return;
    const double eps = std::max(1e-6, least_epsilon(c.in));
    tell(Severity::info, "division by what may be 0", c.call, 0,
         {"epsilon", eps, "add " + number(eps) + " to the variance or sum of squares, or use div_safe, normalize_safe or a norm layer"},
         std::string(c.op->name) + " divides by the result of " + op(b)->name + ", which is 0 for inputs that are all the same or all 0");
  }

  void all() const {
    if (c.phase == Phase::backward) return;
    numbers();
    probabilities();
    shares();
    if (c.op == &op_softmax || c.op == &op_log_softmax || c.op == &op_cross_entropy || c.op == &op_layer_norm) alone();
    if (c.op == &op_log || c.op == &op_log2 || c.op == &op_log1p) logarithms();
    if (c.op == &op_div || c.op == &op_rsqrt || c.op == &op_reciprocal) divisions();
    if (c.op == &op_sub)
      if (const int a = maker(c.call, 0), b = maker(c.call, 1);
          sums_squares(a) && squares(b) && sums(maker(b, 0)) && maker(maker(a, 0), 0) == maker(maker(b, 0), 0))
        tell(Severity::info, "one-pass variance", c.call, 0, suggest_for_cancellation(op_sqrt),
             "mean of squares less square of mean: where the mean is large against the deviation, nothing is left of the difference");
    if (c.op == &op_sqrt && c.recording && may_be_zero(maker(c.call, 0)))
      tell(Severity::info, sums_squares(maker(c.call, 0)) ? "norm by hand" : "root of what may be 0", c.call, 0,
           {"stable_op", 0, "norm_safe or sqrt_safe, or an epsilon under the root"},
           sums_squares(maker(c.call, 0)) ? "the root of a sum of squares has no finite gradient where all of them are 0"
                                          : "the gradient of a root is infinite at 0");
    if (c.op == &op_sum && c.out == DType::f16 && c.out_elements && c.in_elements / c.out_elements >= 16384) {
      const auto terms = double(c.in_elements / c.out_elements);
      tell(Severity::info, "sum in f16", c.call, terms, {"stable_op", 0, "mean, or a sum in f32"},
           "a sum of " + number(terms) + " f16 numbers is infinite where their mean exceeds " + number(65504 / terms));
    }
  }
};

}  // namespace

void lint_rules(const LintCall& c, const LintMakers& makers, const Callback<void(const LintWord&)>& say) { Rules{c, makers, say}.all(); }

void find_numbers(const Call& c, LintCall::Number (&numbers)[2]) {
  const Frame* f = c.scope.frame;
  if (!f || f->op != &c.op || !f->inputs) return;
  for (int i = 0; i < 2 && i < f->n_inputs && i < c.in.size(); ++i) {
    if (!f->inputs[i]->defined() || !c.in[i].defined() || !impl(*f->inputs[i]).weak || !impl(c.in[i]).weak) continue;
    const TensorImpl &given = impl(*f->inputs[i]), &used = impl(c.in[i]);
    if (!is_inexact(used.spec.dtype) || is_complex(used.spec.dtype) || is_complex(given.spec.dtype)) continue;
    numbers[i] = {is_inexact(given.spec.dtype) ? read_double(given.data, given.spec.dtype) : double(read_int(given.data, given.spec.dtype)),
                  read_double(used.data, used.spec.dtype), used.spec.dtype};
  }
}

}  // namespace keel
