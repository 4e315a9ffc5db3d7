// Losses. `none` keeps one loss an element (or a row); `sum` and `mean` give one number.
#include "keel/ops/loss.h"

#include "keel/ops/softmax.h"
#include "ops/common.h"

namespace keel {
namespace {

Tensor reduce(const Tensor& t, Reduction r) { return r == Reduction::none ? t : r == Reduction::sum ? sum(t) : mean(t); }
/// The gradient of each of `n` losses from that of the reduced one.
Tensor spread(const Tensor& g, Reduction r, int64_t n) { return r == Reduction::mean ? div(g, n) : g; }

// ---- element against element ----
constexpr auto pair_spec = [](auto& p, Specs in) {
  if (!(in[0].shape == in[1].shape))
    fail(ErrorCode::shape, "x and target must have the same shape, got " + to_string(in[0].shape) + " and " + to_string(in[1].shape),
         can_broadcast(in[0].shape, in[1].shape) ? "they would broadcast, which is seldom meant in a loss; reshape or expand one of them"
                                                 : "reshape one of them");
  return Spec{in[0].dtype, p.reduction == Reduction::none ? in[0].shape : Shape()};
};
template <class P>
Def<P>& pair_loss(Def<P>& def, const char* doc, const char* first) {
  return def.doc(doc)
      .in(first, kinds::floating)
      .in("target", kinds::floating)
      .out("loss")
      .promote(Promote::to_float)
      .cast(Cast::fp32)
      .risk(Risk::accumulates)
      .infer(pair_spec)
      .saves(In{0}, In{1});
}
/// Both gradients from d(loss)/dx = -d(loss)/dtarget = `slope`.
Tensors opposite(const VjpArgs& a, const Tensor& slope) { return {slope, a.needs[1] ? neg(slope) : Tensor()}; }

// ---- rows against classes ----
Shape without_axis(const Spec& s, int64_t axis) { return reduced_shape(s.shape, Axes(int64_t(check_axis(axis, s))), false); }

void check_class_target(const Spec& x, const Spec& target, int64_t axis, const char* role) {
  const Shape want = without_axis(x, axis);
  if (target.shape == want) return;
  std::string hint = "class indices have the shape of the " + std::string(role) + " without axis " + std::to_string(axis);
  if (target.shape == x.shape)
    hint += "; probabilities or one-hot rows must be floats";
  else if (x.shape.rank() > 1 && without_axis(x, 1) == target.shape)
    hint += "; axis = 1 takes the classes from axis 1";
  fail(ErrorCode::shape, "target must have shape " + to_string(want) + ", got " + to_string(target.shape), hint);
}
void check_classes(const Spec& x, int64_t axis, const char* role) {
  check_min_rank(x, 1, role);
  if (x.shape[check_axis(axis, x)] == 0) fail(ErrorCode::value, "there are no classes: axis " + std::to_string(axis) + " has extent 0");
}
int axis_of(const Spec& s, int64_t axis) { return int(axis < 0 ? axis + s.shape.rank() : axis); }

/// 0, 1, 2, ... along `axis` of a tensor of rank `rank`.
Tensor classes_along(int axis, int rank, int64_t classes, Device d) {
  Shape s;
  s.resize(rank, 1);
  s[axis] = classes;
  return reshape(arange(classes, {.device = d}), s);
}
/// The gradient of every row's own loss, with the class axis as extent 1; 0 for rows that do not count.
Tensor row_gradient(const Tensor& g, const Tensor& counted, Reduction r, int axis) {
  const Tensor one = r == Reduction::none ? unsqueeze(g, axis) : r == Reduction::mean ? div(g, sum(counted)) : g;
  return where(unsqueeze(counted, axis), one, 0);
}
Tensor reduce_counted(const Tensor& loss, const Tensor& counted, Reduction r) {
  return r == Reduction::mean ? div(sum(loss), sum(counted)) : reduce(loss, r);
}

Tensor nll_loss_backward(const Tensor& g, const Tensor& target, const NllBackwardParams& p);
Tensor cross_entropy_backward(const Tensor& g, const Tensor& logits, const Tensor& target, const Tensor& lse, const CrossEntropyParams& p);

Tensor smoothed(const Tensor& target, double smoothing, int64_t classes) {
  return smoothing == 0 ? target : add(mul(target, 1 - smoothing), smoothing / double(classes));
}

}  // namespace

KEEL_OP(nll_loss, NllParams) {
  def.doc("Minus the log-probability at the target class.")
      .in("log_probs", kinds::floating)
      .in("target", kPlaces)
      .alone()
      .out("loss")
      .primitive()
      .cast(Cast::fp32)
      .infer([](auto& p, Specs in) {
        check_classes(in[0], p.axis, "log_probs");
        check_class_target(in[0], in[1], p.axis, "log_probs");
        return Spec{in[0].dtype, p.reduction == Reduction::none ? in[1].shape : Shape()};
      })
      .saves(In{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Spec& x = a.in_specs[0];
        const int axis = axis_of(x, p.axis);
        return {nll_loss_backward(a.g[0], a.in[1],
                                  {.axis = axis, .ignore_index = p.ignore_index, .reduction = p.reduction, .classes = x.shape[axis]})};
      });
}
KEEL_OP(nll_loss_backward, NllBackwardParams) {
  def.doc("Minus the row's gradient at the target class, 0 elsewhere.")
      .in("g", kinds::floating)
      .in("target", kPlaces)
      .alone()
      .out("dx")
      .infer([](auto& p, Specs in) {
        Shape s = in[1].shape;
        s.insert(check_axis(p.axis, s.rank() + 1), p.classes);
        if (!(in[0].shape == (p.reduction == Reduction::none ? in[1].shape : Shape())))
          fail(ErrorCode::shape, "g has shape " + to_string(in[0].shape) + ", which is not that of the loss");
        return Spec{in[0].dtype, s};
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor target = cast(in[1], i64);
        const int rank = int(target.rank()) + 1, axis = int(p.axis < 0 ? p.axis + rank : p.axis);
        const Tensor g = row_gradient(acc(in[0]), not_equal(target, p.ignore_index), p.reduction, axis);
        return like(where(equal(unsqueeze(target, axis), classes_along(axis, rank, p.classes, target.device())), neg(g), 0), in[0]);
      });
}

KEEL_OP(cross_entropy, CrossEntropyParams) {
  def.doc("Minus log softmax(logits) at the target class, or minus the sum of target probabilities times log softmax(logits).")
      .in("logits", kinds::floating)
      .in("target", kPlaces | kinds::floating)
      .alone()
      .out("loss")
      .aux("lse")
      .risk(Risk::exp_range)
      .infer([](auto& p, Specs in) {
        check_classes(in[0], p.axis, "logits");
        check_value(p.label_smoothing >= 0 && p.label_smoothing <= 1, "label_smoothing", "in [0, 1]", p.label_smoothing);
        if (is_floating(in[1].dtype)) {
          if (!(in[0].shape == in[1].shape))
            fail(ErrorCode::shape, "target probabilities must have the shape of the logits, " + to_string(in[0].shape) + ", got " +
                 to_string(in[1].shape), "class indices must be integers, as in target.astype(i64)");
        } else {
          check_class_target(in[0], in[1], p.axis, "logits");
        }
        const Shape rows = without_axis(in[0], p.axis);
        SpecList out;  // Logits of 16 bits are read as they are; sums of them are none.
        out.push_back({accumulate_dtype(in[0].dtype), p.reduction == Reduction::none ? rows : Shape()});
        out.push_back({accumulate_dtype(in[0].dtype), rows});
        return out;
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Tensor x = acc(in[0]), log_probs = log_softmax(x, {.axis = p.axis}), lse = logsumexp(x, {.axis = p.axis});
        const double classes = double(x.shape()[axis_of(impl(x).spec, p.axis)]);
        if (is_floating(in[1].dtype())) {
          const Tensor loss = neg(sum(mul(smoothed(acc(in[1]), p.label_smoothing, int64_t(classes)), log_probs), {.axis = p.axis}));
          return {reduce(loss, p.reduction), lse};
        }
        const Tensor target = cast(in[1], i64), counted = not_equal(target, p.ignore_index);
        Tensor loss = nll_loss(log_probs, target, {.axis = p.axis, .ignore_index = p.ignore_index, .reduction = Reduction::none});
        if (p.label_smoothing != 0) {
          const Tensor even = where(counted, neg(sum(log_probs, {.axis = p.axis})), 0);
          loss = add(mul(loss, 1 - p.label_smoothing), mul(even, p.label_smoothing / classes));
        }
        return {reduce_counted(loss, counted, p.reduction), lse};
      })
      .saves(In{0}, In{1}, Out{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensors out(2);
        if (!is_floating(a.in_specs[1].dtype)) {
          // A gradient of this gradient must reach the logits through lse as well.
          const Tensor lse = scope().grad ? logsumexp(acc(a.in[0]), {.axis = p.axis}) : a.out[1];
          out[0] = cross_entropy_backward(a.g[0], a.in[0], a.in[1], lse, p);
          return out;
        }
        const Spec& s = a.in_specs[0];
        const int axis = axis_of(s, p.axis);
        const Tensor x = acc(a.in[0]), target = smoothed(acc(a.in[1]), p.label_smoothing, s.shape[axis]);
        Tensor g = spread(acc(a.g[0]), p.reduction, a.out_specs[1].shape.numel());
        if (p.reduction == Reduction::none) g = unsqueeze(g, axis);
        if (a.needs[0]) out[0] = mul(g, sub(mul(softmax(x, {.axis = axis}), sum(target, {.axis = axis, .keepdim = true})), target));
        if (a.needs[1]) out[1] = mul(mul(g, p.label_smoothing - 1), log_softmax(x, {.axis = axis}));
        return out;
      });
}
KEEL_OP(cross_entropy_backward, CrossEntropyParams) {
  def.doc("The row's gradient times (softmax(logits) - target), from lse = logsumexp(logits) and class indices.")
      .in("g", kinds::floating)
      .alone()
      .in("logits", kinds::floating)
      .in("target", kPlaces)
      .alone()
      .in("lse", kinds::floating)
      .alone()
      .out("dx")
      .infer([](auto& p, Specs in) {
        check_classes(in[1], p.axis, "logits");
        check_class_target(in[1], in[2], p.axis, "logits");
        check_same_shape(in[2], in[3], "target and lse");
        return in[1];
      })
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[1]), target = cast(in[2], i64);
        const int rank = int(x.rank()), axis = axis_of(impl(x).spec, p.axis);
        const int64_t classes = x.shape()[axis];
        const Tensor g = row_gradient(acc(in[0]), not_equal(target, p.ignore_index), p.reduction, axis);
        const double rest = p.label_smoothing / double(classes);
        const Tensor want = where(equal(unsqueeze(target, axis), classes_along(axis, rank, classes, target.device())),
                                  full(Shape(), 1 - p.label_smoothing + rest, {.dtype = x.dtype(), .device = x.device()}), rest);
        return like(mul(g, sub(exp(sub(x, unsqueeze(in[3], axis))), want)), in[1]);
      });
}

KEEL_OP(mse_loss, LossParams) {
  pair_loss(def, "(x - target)^2", "x")
      .decompose([](auto& p, Inputs in) { return like(reduce(square(sub(acc(in[0]), acc(in[1]))), p.reduction), in[0]); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor g = spread(mul(acc(a.g[0]), 2), p.reduction, a.in_specs[0].shape.numel());
        return opposite(a, mul(sub(acc(a.in[0]), acc(a.in[1])), g));
      });
}
KEEL_OP(l1_loss, LossParams) {
  pair_loss(def, "|x - target|", "x")
      .decompose([](auto& p, Inputs in) { return like(reduce(abs(sub(acc(in[0]), acc(in[1]))), p.reduction), in[0]); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return opposite(a, mul(sign(sub(a.in[0], a.in[1])), spread(acc(a.g[0]), p.reduction, a.in_specs[0].shape.numel())));
      });
}
KEEL_OP(bce_with_logits, LossParams) {
  pair_loss(def, "-(t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), stable for any logits.", "logits")
      .risk(Risk::exp_range)
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]);
        return like(reduce(add(sub(maximum(x, 0), mul(x, acc(in[1]))), log1p(exp(neg(abs(x))))), p.reduction), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor x = acc(a.in[0]), g = spread(acc(a.g[0]), p.reduction, a.in_specs[0].shape.numel());
        Tensors out(2);
        if (a.needs[0]) out[0] = mul(g, sub(sigmoid(x), acc(a.in[1])));
        if (a.needs[1]) out[1] = neg(mul(g, x));
        return out;
      });
}

Tensor nll_loss(const Tensor& log_probs, const Tensor& target, const NllParams& p) { return call(op_nll_loss, p, log_probs, target); }
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyParams& p) {
  return call(op_cross_entropy, p, logits, target);
}
Tensor mse_loss(const Tensor& x, const Tensor& target, const LossParams& p) { return call(op_mse_loss, p, x, target); }
Tensor l1_loss(const Tensor& x, const Tensor& target, const LossParams& p) { return call(op_l1_loss, p, x, target); }
Tensor bce_with_logits(const Tensor& logits, const Tensor& target, const LossParams& p) {
  return call(op_bce_with_logits, p, logits, target);
}
namespace {
Tensor nll_loss_backward(const Tensor& g, const Tensor& target, const NllBackwardParams& p) {
  return call(op_nll_loss_backward, p, g, target);
}
Tensor cross_entropy_backward(const Tensor& g, const Tensor& logits, const Tensor& target, const Tensor& lse, const CrossEntropyParams& p) {
  return call(op_cross_entropy_backward, p, g, logits, target, lse);
}
}  // namespace

}  // namespace keel
