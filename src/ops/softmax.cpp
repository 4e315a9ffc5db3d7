#include "keel/ops/softmax.h"

#include "ops/common.h"

namespace keel {
namespace {

constexpr auto along_axis = [](auto& p, Specs in) {
  check_axis(p.axis, in[0]);
  return in[0];
};
template <class P>
Def<P>& row_function(Def<P>& def, const char* doc) {
  return def.doc(doc).in("x", kinds::floating).out("y").promote(Promote::to_float).cast(Cast::fp32).risk(Risk::exp_range).infer(along_axis).saves(Out{0});
}
/// Moved so that the largest entry along the axis is 0.
Tensor shifted(const Tensor& x, int64_t axis) { return x.size() == 0 ? x : sub(x, max(x, {.axis = axis, .keepdim = true})); }

Tensor softmax_backward(const Tensor& g, const Tensor& y, const SoftmaxParams& p);
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, const SoftmaxParams& p);

}  // namespace

KEEL_OP(softmax, SoftmaxParams) {
  row_function(def, "exp(x) over its sum along an axis, shifted by the maximum.")
      .onnx("Softmax")
      .decompose([](auto& p, Inputs in) {
        const Tensor e = exp(shifted(acc(in[0]), p.axis));
        return like(div(e, sum(e, {.axis = p.axis, .keepdim = true})), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {softmax_backward(a.g[0], a.out[0], p)}; });
}
KEEL_OP(softmax_backward, SoftmaxParams) {
  def.doc("y (g - sum(g y)) along the axis, from y = softmax(x).")
      .in("g", kinds::floating)
      .in("y", kinds::floating)
      .out("dx")
      .infer(along_axis)
      .decompose([](auto& p, Inputs in) {
        const Tensor g = acc(in[0]), y = acc(in[1]);
        return like(mul(y, sub(g, sum(mul(g, y), {.axis = p.axis, .keepdim = true}))), in[0]);
      });
}

KEEL_OP(log_softmax, SoftmaxParams) {
  row_function(def, "x minus the logarithm of the sum of exp(x) along an axis.")
      .onnx("LogSoftmax")
      .decompose([](auto& p, Inputs in) {
        const Tensor s = shifted(acc(in[0]), p.axis);
        return like(sub(s, log(sum(exp(s), {.axis = p.axis, .keepdim = true}))), in[0]);
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {log_softmax_backward(a.g[0], a.out[0], p)}; });
}
KEEL_OP(log_softmax_backward, SoftmaxParams) {
  def.doc("g - exp(y) sum(g) along the axis, from y = log_softmax(x).")
      .in("g", kinds::floating)
      .in("y", kinds::floating)
      .out("dx")
      .infer(along_axis)
      .decompose([](auto& p, Inputs in) {
        const Tensor g = acc(in[0]);
        return like(sub(g, mul(exp(acc(in[1])), sum(g, {.axis = p.axis, .keepdim = true}))), in[0]);
      });
}

Tensor softmax(const Tensor& x, const SoftmaxParams& p) { return call(op_softmax, p, x); }
Tensor log_softmax(const Tensor& x, const SoftmaxParams& p) { return call(op_log_softmax, p, x); }
namespace {
Tensor softmax_backward(const Tensor& g, const Tensor& y, const SoftmaxParams& p) { return call(op_softmax_backward, p, g, y); }
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, const SoftmaxParams& p) { return call(op_log_softmax_backward, p, g, y); }
}  // namespace

}  // namespace keel
