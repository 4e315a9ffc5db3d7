#include "keel/ops/sort.h"

#include "keel/ops/index.h"
#include "ops/common.h"

namespace keel {

extern OpDef op_sort, op_topk, op_gather_backward;

namespace {
/// The gradient of values that were picked at `indices` along an axis.
Tensor put_back(const Tensor& g, const Tensor& indices, const Shape& x, int64_t axis) {
  return call(op_gather_backward, IndexBackwardParams{.shape = x, .axis = {axis}}, g, indices);
}

Sorted pair_of(Tensors t) { return {std::move(t[0]), std::move(t[1])}; }
}  // namespace

KEEL_OP(sort, SortParams) {
  def.doc("Values in order along an axis, and where they came from; stable.")
      .in("x", kinds::ordered)
      .out("values")
      .out("indices")
      .primitive()
      .infer([](auto& p, Specs in) -> SpecList {
        check_axis(p.axis, in[0]);
        return {in[0], Spec{i64, in[0].shape}};
      })
      .saves(Out{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {put_back(a.g[0], a.out[1], a.in_specs[0].shape, p.axis)}; });
}

KEEL_OP(topk, TopkParams) {
  def.doc("The k largest or smallest values along an axis, best first, and where they came from.")
      .in("x", kinds::ordered)
      .out("values")
      .out("indices")
      .onnx("TopK")
      .infer([](auto& p, Specs in) -> SpecList {
        const int axis = check_axis(p.axis, in[0]);
        const int64_t n = in[0].shape.rank() ? in[0].shape[axis] : 1;
        check_value(p.k >= 0 && p.k <= n, "k", "between 0 and the axis's extent " + std::to_string(n), double(p.k));
        const Shape s = in[0].shape.rank() ? with_axis(in[0].shape, axis, p.k) : p.k == 1 ? Shape() : Shape({0});
        return {Spec{in[0].dtype, s}, Spec{i64, s}};
      })
      .decompose([](auto& p, Inputs in) -> Tensors {
        const Sorted all = sort(in[0], {.axis = p.axis, .descending = p.largest});
        SliceParams s;
        const int64_t rank = in[0].rank();
        if (rank == 0)
          return p.k == 1 ? Tensors{all.values, all.indices}
                          : Tensors{reshape(all.values, {1})[{slice(0, 0)}], reshape(all.indices, {1})[{slice(0, 0)}]};
        for (int i = 0; i < rank; ++i)
          s.start.push_back(0), s.stop.push_back(i == (p.axis < 0 ? p.axis + rank : p.axis) ? p.k : in[0].shape()[i]), s.step.push_back(1);
        return {slice_view(all.values, s), slice_view(all.indices, s)};
      })
      .saves(Out{1})
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        if (a.in_specs[0].shape.rank() == 0) return {p.k == 1 ? a.g[0] : full(Shape(), 0, {.dtype = a.in_specs[0].dtype, .device = a.g[0].device()})};
        return {put_back(a.g[0], a.out[1], a.in_specs[0].shape, p.axis)};
      });
}

Sorted sort(const Tensor& x, const SortParams& p) { return pair_of(call_all(op_sort, p, x)); }
Sorted topk(const Tensor& x, int64_t k, const TopkParams& p) {
  TopkParams q = p;
  q.k = k;
  return pair_of(call_all(op_topk, q, x));
}

}  // namespace keel
