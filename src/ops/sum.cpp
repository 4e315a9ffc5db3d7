#include "ops/common.h"

namespace keel {
namespace {
DType sum_dtype(const SumParams& p, DType t) { return p.dtype != DType::none ? p.dtype : is_inexact(t) ? t : accumulate_dtype(t); }
}  // namespace

KEEL_OP(sum, SumParams) {
  def.doc("Sum over axes.")
      .in("x", kinds::any)
      .out("y")
      .primitive()
      .onnx("ReduceSum")
      .cast(Cast::fp32)
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        return Spec{sum_dtype(p, in[0].dtype), reduced_shape(in[0].shape, check_axes(p.axis, in[0]), p.keepdim)};
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {expand(unreduce(a.g[0], a.in_specs[0], p.axis, p.keepdim), a.in_specs[0].shape)};
      });
}

Tensor sum(const Tensor& x, const SumParams& p) { return call(op_sum, p, x); }

}  // namespace keel
