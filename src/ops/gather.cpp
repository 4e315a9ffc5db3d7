// Picking and adding along one axis: gather, index_select, scatter_add; and nonzero.
#include "keel/ops/index.h"

#include "ops/common.h"

namespace keel {

extern OpDef op_gather, op_gather_backward, op_index_select, op_scatter_add, op_nonzero;

namespace {

/// Checks that `index` fits `x` for an op along `axis`; collects every axis that does not.
void check_index(int64_t axis, const Shape& x, const Shape& index) {
  const int a = check_axis(axis, x.rank());
  if (index.rank() != x.rank())
    fail(ErrorCode::shape, "index must have the rank of x, " + std::to_string(x.rank()) + ", got " + to_string(index),
         "index_select takes whole rows or columns by a list of indices");
  std::string differ;
  for (int i = 0; i < x.rank(); ++i)
    if (i != a && index[i] > x[i])
      differ += (differ.empty() ? "" : ", ") +
                ("axis " + std::to_string(i) + " (" + std::to_string(index[i]) + " vs " + std::to_string(x[i]) + ")");
  check_shape(differ.empty(), "index is longer than x: " + differ, "only the axis that is indexed may be longer");
}

}  // namespace

KEEL_OP(gather, GatherParams) {
  def.doc("Elements along an axis picked by an index of the result's shape.")
      .in("x", kinds::any)
      .in("index", kinds::index)
      .alone()
      .out("y")
      .primitive()
      .onnx("GatherElements")
      .infer([](auto& p, Specs in) {
        check_index(p.axis, in[0].shape, in[1].shape);
        return Spec{in[0].dtype, in[1].shape};
      })
      .saves(In{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {call(op_gather_backward, IndexBackwardParams{.shape = a.in_specs[0].shape, .axis = {p.axis}}, a.g[0], a.in[1])};
      });
}

KEEL_OP(gather_backward, IndexBackwardParams) {
  def.doc("Zeros of `shape` with `g` added where gather read, in the order of the index.")
      .in("g", kinds::any)
      .in("index", kinds::index)
      .alone()
      .out("y")
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        if (p.axis.rank() != 1)
          fail(ErrorCode::shape, "axis must name one axis, got " + to_string(p.axis));
        check_index(p.axis[0], p.shape, in[1].shape);
        check_same_shape(in[0], in[1], "g and index");
        return Spec{in[0].dtype, p.shape};
      })
      .decompose([](auto& p, Inputs in) {
        return scatter_add(full(p.shape, 0, {.dtype = in[0].dtype(), .device = in[0].device()}), in[1], in[0], {.axis = p.axis[0]});
      })
      .saves(In{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {gather(a.g[0], a.in[1], {.axis = p.axis[0]})}; });
}

KEEL_OP(index_select, GatherParams) {
  def.doc("Slices along an axis picked by a 1-d index.")
      .in("x", kinds::any)
      .in("index", kinds::index)
      .alone()
      .out("y")
      .onnx("Gather")
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_min_rank(in[0], 1, "x");
        check_rank(in[1], 1, "index");
        return Spec{in[0].dtype, with_axis(in[0].shape, check_axis(p.axis, in[0]), in[1].shape[0])};
      })
      .decompose([](auto& p, Inputs in) { return index_get(in[0], {in[1]}, {.axis = {p.axis}}); });
}

KEEL_OP(scatter_add, GatherParams) {
  def.doc("`x` with `source` added along an axis at the index; repeated positions add up in the order of the index.")
      .in("x", kinds::numeric)
      .in("index", kinds::index)
      .alone()
      .in("source", kinds::numeric)
      .out("y")
      .primitive()
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_index(p.axis, in[0].shape, in[1].shape);
        check_same_shape(in[2], in[1], "source and index");
        return in[0];
      })
      .saves([](auto&, Needs n) {
        Saves s;
        if (n[2]) s.add(In{1});
        return s;
      })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {a.g[0], Tensor(), a.needs[2] ? gather(a.g[0], a.in[1], {.axis = p.axis}) : Tensor()};
      });
}

KEEL_OP(nonzero, NoParams) {
  def.doc("Positions of the elements that are not zero.")
      .in("x", kinds::any)
      .out("y")
      .primitive()
      .onnx("NonZero")
      .infer([](auto&, Specs in) {
        return Spec{i64, Shape({Extent::unknown, in[0].shape.rank()})};
      });
}

Tensor gather(const Tensor& x, const Tensor& index, const GatherParams& p) { return call(op_gather, p, x, index); }
Tensor index_select(const Tensor& x, const Tensor& index, const GatherParams& p) { return call(op_index_select, p, x, index); }
Tensor scatter_add(const Tensor& x, const Tensor& index, const Tensor& source, const GatherParams& p) {
  return call(op_scatter_add, p, x, index, source);
}
Tensor nonzero(const Tensor& x) { return call(op_nonzero, NoParams{}, x); }

}  // namespace keel
