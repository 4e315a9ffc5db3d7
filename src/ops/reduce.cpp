// Reductions made of others: mean, var, stddev, norm, logsumexp. And those that are not: prod, max, min, any, all, argmax, argmin, cumsum.
#include <cmath>

#include "ops/common.h"

namespace keel {
namespace {

constexpr auto reduce_same = [](auto& p, Specs in) {
  return Spec{in[0].dtype, reduced_shape(in[0].shape, check_axes(p.axis, in[0]), p.keepdim)};
};

template <class P>
Def<P>& statistic(Def<P>& def, const char* doc) {
  return def.doc(doc)
      .in("x", kinds::floating)
      .out("y")
      .promote(Promote::to_float)
      .cast(Cast::fp32)
      .risk(Risk::accumulates)
      .fallback(Fallback::ok)
      .infer(reduce_same);
}

/// x minus its mean, in the dtype that accumulates.
Tensor centred(const Tensor& x, const Axes& axes) {
  const Tensor wide = acc(x);
  return sub(wide, mean(wide, {.axis = axes, .keepdim = true}));
}
double freedom(const Spec& x, const VarParams& p) { return std::max(0.0, double(reduced_count(x, p.axis)) - p.correction); }

}  // namespace

KEEL_OP(mean, MeanParams) {
  statistic(def, "Mean over axes; NaN over none.")
      .onnx("ReduceMean")
      .decompose([](auto& p, Inputs in) {
        const Tensor s = sum(acc(in[0]), {.axis = p.axis, .keepdim = p.keepdim});
        return like(div(s, reduced_count(impl(in[0]).spec, p.axis)), in[0]);
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Spec& x = a.in_specs[0];
        return {expand(unreduce(div(a.g[0], reduced_count(x, p.axis)), x, p.axis, p.keepdim), x.shape)};
      });
}

KEEL_OP(var, VarParams) {
  statistic(def, "Mean square distance from the mean over axes, in two passes.")
      .decompose([](auto& p, Inputs in) {
        const Tensor s = sum(square(centred(in[0], p.axis)), {.axis = p.axis, .keepdim = p.keepdim});
        return like(div(s, freedom(impl(in[0]).spec, p)), in[0]);
      })
      .saves(In{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor g = unreduce(acc(a.g[0]), a.in_specs[0], p.axis, p.keepdim);
        return {mul(centred(a.in[0], p.axis), div(mul(g, 2), freedom(a.in_specs[0], p)))};
      });
}

KEEL_OP(stddev, VarParams) {
  statistic(def, "Square root of the variance over axes; its gradient is 0 where it is 0.")
      .decompose([](auto& p, Inputs in) { return like(sqrt(var(acc(in[0]), p)), in[0]); })
      .saves(In{0}, Out{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensor y = acc(a.out[0]), flat = equal(y, 0);
        const Tensor g = unreduce(where(flat, 0, div(acc(a.g[0]), where(flat, 1, y))), a.in_specs[0], p.axis, p.keepdim);
        return {mul(centred(a.in[0], p.axis), div(g, freedom(a.in_specs[0], p)))};
      });
}

KEEL_OP(norm, NormParams) {
  statistic(def, "(sum of |x|^p)^(1/p) over axes; the largest |x| for p = inf. Its gradient is 0 where it is 0.")
      .infer([](auto& q, Specs in) {
        check_value(q.p > 0, "p", "positive", q.p);
        if (std::isinf(q.p) && reduced_count(in[0], q.axis) == 0) fail(ErrorCode::value, "an empty tensor has no largest element");
        return reduce_same(q, in);
      })
      .decompose([](auto& q, Inputs in) {
        const Tensor x = acc(in[0]);
        const SumParams s{.axis = q.axis, .keepdim = q.keepdim};
        Tensor y;
        if (std::isinf(q.p))
          y = max(abs(x), {.axis = q.axis, .keepdim = q.keepdim});
        else if (q.p == 1)
          y = sum(abs(x), s);
        else if (q.p == 2)
          y = sqrt(sum(square(x), s));
        else
          y = pow(sum(pow(abs(x), q.p), s), 1 / q.p);
        return like(y, in[0]);
      })
      .saves([](auto& q, Needs) { return q.p == 1 ? Saves(In{0}) : Saves(In{0}, Out{0}); })
      .vjp([](auto& q, const VjpArgs& a) -> Tensors {
        const Spec& s = a.in_specs[0];
        const Tensor x = acc(a.in[0]), g = unreduce(acc(a.g[0]), s, q.axis, q.keepdim);
        if (q.p == 1) return {mul(sign(x), g)};
        const Tensor y = unreduce(acc(a.out[0]), s, q.axis, q.keepdim);
        if (std::isinf(q.p)) {
          const Tensor hit = equal(abs(x), y);
          return {where(hit, mul(sign(x), div(g, sum(hit, {.axis = q.axis, .keepdim = true}))), 0)};
        }
        // sign(x) (|x| / y)^(p - 1): the quotient is at most 1, so that no power overflows
        const Tensor flat = equal(y, 0), share = div(x, where(flat, 1, y)), slope = where(flat, 0, g);
        if (q.p == 2) return {mul(share, slope)};
        const Tensor still = equal(share, 0);
        return {mul(where(still, 0, mul(sign(share), pow(abs(where(still, 1, share)), q.p - 1))), slope)};
      });
}

KEEL_OP(logsumexp, ReduceParams) {
  statistic(def, "log(sum(exp(x))) over axes, shifted by the maximum; -inf over none.")
      .risk(Risk::exp_range)
      .onnx("ReduceLogSumExp")
      .decompose([](auto& p, Inputs in) {
        const Tensor x = acc(in[0]);
        if (reduced_count(impl(x).spec, p.axis) == 0) return like(log(sum(x, {.axis = p.axis, .keepdim = p.keepdim})), in[0]);
        const Tensor top = max(x, {.axis = p.axis, .keepdim = true}), shift = where(isfinite(top), top, 0);
        const Tensor y = add(log(sum(exp(sub(x, shift)), {.axis = p.axis, .keepdim = true})), shift);
        return like(p.keepdim ? y : reshape(y, reduced_shape(x.shape(), check_axes(p.axis, impl(x).spec), false)), in[0]);
      })
      .saves(In{0}, Out{0})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Spec& s = a.in_specs[0];
        const Tensor y = unreduce(acc(a.out[0]), s, p.axis, p.keepdim), g = unreduce(acc(a.g[0]), s, p.axis, p.keepdim);
        return {mul(g, exp(sub(acc(a.in[0]), where(equal(y, -HUGE_VAL), 0, y))))};  // all -inf: no slope, and not -inf + inf
      });
}

namespace {
constexpr auto extreme_spec = [](auto& p, Specs in) {
  if (reduced_count(in[0], p.axis) == 0)
    fail(ErrorCode::value,
         "an empty reduction has no result: shape " + to_string(in[0].shape) + " over axes " + to_string(check_axes(p.axis, in[0])),
         "check x.size() first; sum of nothing is 0 and prod 1, but nothing is the largest of no elements");
  return reduce_same(p, in);
};
/// Equal extremes share the gradient evenly.
constexpr auto extreme_slope = [](auto& p, const VjpArgs& a) -> Tensors {
  const Spec& s = a.in_specs[0];
  const Tensor hit = equal(a.in[0], unreduce(a.out[0], s, p.axis, p.keepdim));
  const Tensor count = sum(hit, {.axis = p.axis, .keepdim = true});
  return {where(hit, div(unreduce(a.g[0], s, p.axis, p.keepdim), count), 0)};
};
}  // namespace

KEEL_OP(max, ReduceParams) {
  def.doc("Largest element over axes; NaN where there is one.")
      .in("x", kinds::ordered)
      .out("y")
      .primitive()
      .onnx("ReduceMax")
      .infer(extreme_spec)
      .saves(In{0}, Out{0})
      .vjp(extreme_slope);
}
KEEL_OP(min, ReduceParams) {
  def.doc("Smallest element over axes; NaN where there is one.")
      .in("x", kinds::ordered)
      .out("y")
      .primitive()
      .onnx("ReduceMin")
      .infer(extreme_spec)
      .saves(In{0}, Out{0})
      .vjp(extreme_slope);
}

namespace {
constexpr auto truth_spec = [](auto& p, Specs in) {
  return Spec{DType::boolean, reduced_shape(in[0].shape, check_axes(p.axis, in[0]), p.keepdim)};
};
constexpr auto index_spec = [](auto& p, Specs in) {
  if (p.axis.size() > 1) fail(ErrorCode::value, "takes one axis or none, got " + to_string(p.axis));
  extreme_spec(p, in);
  return Spec{i64, reduced_shape(in[0].shape, check_axes(p.axis, in[0]), p.keepdim)};
};
}  // namespace

KEEL_OP(any, AllParams) {
  def.doc("Whether any element over axes is not zero.").in("x", kinds::ordered | kinds::fp8).out("y").primitive().infer(truth_spec);
}
KEEL_OP(all, AllParams) {
  def.doc("Whether all elements over axes are not zero.").in("x", kinds::ordered | kinds::fp8).out("y").primitive().infer(truth_spec);
}
KEEL_OP(argmax, ArgParams) {
  def.doc("Index of the first largest element along an axis, or of the flattened tensor; the first NaN wins.")
      .in("x", kinds::ordered)
      .out("y")
      .primitive()
      .infer(index_spec);
}
KEEL_OP(argmin, ArgParams) {
  def.doc("Index of the first smallest element along an axis, or of the flattened tensor; the first NaN wins.")
      .in("x", kinds::ordered)
      .out("y")
      .primitive()
      .infer(index_spec);
}

KEEL_OP(cumsum, CumsumParams) {
  def.doc("Sum of all elements up to each one along an axis.")
      .in("x", kinds::ordered)
      .out("y")
      .primitive()
      .cast(Cast::fp32)
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_axis(p.axis, in[0]);
        return Spec{is_inexact(in[0].dtype) ? in[0].dtype : accumulate_dtype(in[0].dtype), in[0].shape};
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        if (a.in_specs[0].shape.rank() == 0) return {a.g[0]};
        return {flip(cumsum(flip(a.g[0], p.axis), p), p.axis)};
      });
}

Tensor mean(const Tensor& x, const MeanParams& p) { return call(op_mean, p, x); }
Tensor mean(const Tensor& x, const Axes& axes) { return mean(x, MeanParams{.axis = axes}); }
Tensor var(const Tensor& x, const VarParams& p) { return call(op_var, p, x); }
Tensor stddev(const Tensor& x, const VarParams& p) { return call(op_stddev, p, x); }
Tensor norm(const Tensor& x, const NormParams& p) { return call(op_norm, p, x); }
Tensor logsumexp(const Tensor& x, const ReduceParams& p) { return call(op_logsumexp, p, x); }
Tensor max(const Tensor& x, const ReduceParams& p) { return call(op_max, p, x); }
Tensor min(const Tensor& x, const ReduceParams& p) { return call(op_min, p, x); }
Tensor any(const Tensor& x, const AllParams& p) { return call(op_any, p, x); }
Tensor All::operator()(const Tensor& x) const { return call(op_all, AllParams{}, x); }
Tensor All::operator()(const Tensor& x, const AllParams& p) const { return call(op_all, p, x); }
Tensor argmax(const Tensor& x, const ArgParams& p) { return call(op_argmax, p, x); }
Tensor argmin(const Tensor& x, const ArgParams& p) { return call(op_argmin, p, x); }
Tensor cumsum(const Tensor& x, const CumsumParams& p) { return call(op_cumsum, p, x); }

}  // namespace keel
