// NumPy's integer-array indexing, read and written. The gradient of reading is a sum in a fixed order, so it is a row of its own and not a
// scatter by atomics.
#include "keel/ops/index.h"

#include "op/index_shape.h"
#include "ops/common.h"

namespace keel {

extern OpDef op_index_get, op_index_put, op_index_get_backward, op_index_winners, op_index_write;

namespace {

int arrays_in(Specs in, int first) {
  int n = 0;
  while (in.has(first + n)) ++n;
  return n;
}

/// Checks the axes of `arrays` index arrays on a tensor of shape `x`.
IndexShape index_shape(const Dims& axes, int arrays, const Shape& x) {
  check_value(arrays > 0, "indices", "at least one array", arrays);
  if (arrays > x.rank())
    fail(ErrorCode::shape, std::to_string(arrays) + " index arrays for a tensor of rank " + std::to_string(x.rank()));
  if (!(axes.empty() || axes.rank() == arrays))
    fail(ErrorCode::shape, "axis names " + std::to_string(axes.rank()) + " axes, there are " + std::to_string(arrays) + " index arrays");
  int last = -1;
  for (int64_t a : axes) {
    const int i = check_axis(a, x.rank());
    if (i <= last) fail(ErrorCode::value, "axis must be ascending, got " + to_string(axes));
    last = i;
  }
  return IndexShape(axes, arrays, x.rank());
}
Shape indexed_shape(const Dims& axes, const Shape& x, Specs in, int first) {
  const IndexShape s = index_shape(axes, arrays_in(in, first), x);
  return s.result(x, broadcast_all(in, first));
}

void check_fits(const Spec& value, const Shape& target) {
  if (!(value.shape.rank() <= target.rank() && broadcast(value.shape, target) == target))
    fail(ErrorCode::shape, "a value of shape " + to_string(value.shape) + " does not fit into the indexed part, which has shape " +
         to_string(target));
}

Tensors list_of(const Tensor& x, const Tensors& more) {
  Tensors all{x};
  all.append(more.begin(), more.end());
  return all;
}
Tensors tail(Inputs in, int first) { return in.from(first).list(); }

Saves save_arrays(int first) {
  Saves s;
  for (int i = first; i < first + kMaxRank; ++i) s.add(In{i});
  return s;
}

Tensor index_get_backward(const Tensor& g, const Tensors& arrays, const Shape& shape, const Dims& axis) {
  return std::move(call_list(op_index_get_backward, IndexBackwardParams{.shape = shape, .axis = axis}, list_of(g, arrays))[0]);
}

/// `g` of the indexed part, zero where a later index wrote over the same position.
Tensor of_winners(const Tensor& g, const Tensors& arrays, const Shape& x, const Dims& axis) {
  const Tensor won = std::move(call_list(op_index_winners, IndexBackwardParams{.shape = x, .axis = axis}, arrays)[0]);
  const IndexShape s(axis, int(arrays.size()), x.rank());
  Shape aligned = won.shape();  // the arrays' axes, then as many of extent 1 as follow them in the result
  while (aligned.rank() < int(g.rank()) - s.at) aligned.push_back(1);
  return where(reshape(won, aligned), g, 0);
}

}  // namespace

KEEL_OP(index_get, IndexParams) {
  def.doc("Elements picked by integer arrays in place of the named axes.")
      .in("x", kinds::any)
      .variadic("indices", kinds::index)
      .alone()
      .out("y")
      .primitive()
      .infer([](auto& p, Specs in) {
        return Spec{in[0].dtype, indexed_shape(p.axis, in[0].shape, in, 1)};
      })
      .saves([](auto&, Needs) { return save_arrays(1); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {index_get_backward(a.g[0], tail(a.in, 1), a.in_specs[0].shape, p.axis)}; });
}

KEEL_OP(index_get_backward, IndexBackwardParams) {
  def.doc("Zeros of `shape` with `g` added where index_get read, in the order of the indices.")
      .in("g", kinds::any)
      .variadic("indices", kinds::index)
      .alone()
      .out("y")
      .cast(Cast::keep)
      .risk(Risk::accumulates)
      .infer([](auto& p, Specs in) {
        check_fits(in[0], indexed_shape(p.axis, p.shape, in, 1));
        return Spec{in[0].dtype, p.shape};
      })
      .decompose([](auto& p, Inputs in) {
        return index_put(full(p.shape, 0, {.dtype = in[0].dtype(), .device = in[0].device()}), tail(in, 1), in[0], {.axis = p.axis}, true);
      })
      .saves([](auto&, Needs) { return save_arrays(1); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {index_get(a.g[0], tail(a.in, 1), {.axis = p.axis})}; });
}

KEEL_OP(index_put, IndexPutParams) {
  def.doc("`x` with `value` written, or added, where index_get would read.")
      .in("x", kinds::any)
      .in("value", kinds::any)
      .variadic("indices", kinds::index)
      .alone()
      .out("y")
      .primitive()
      .infer([](auto& p, Specs in) {
        check_fits(in[1], indexed_shape(p.axis, in[0].shape, in, 2));
        return in[0];
      })
      .saves([](auto&, Needs) { return save_arrays(2); })
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const Tensors arrays = tail(a.in, 2);
        Tensor gx, gv;
        if (a.needs[0])
          gx = p.accumulate
                   ? a.g[0]
                   : index_put(a.g[0], arrays, full(Shape(), 0, {.dtype = a.g[0].dtype(), .device = a.g[0].device()}), {.axis = p.axis});
        if (a.needs[1]) {
          gv = index_get(a.g[0], arrays, {.axis = p.axis});
          if (!p.accumulate) gv = of_winners(gv, arrays, a.in_specs[0].shape, p.axis);
        }
        return {gx, gv};
      });
}

KEEL_OP(index_winners, IndexBackwardParams) {
  def.doc("Whether no later index names the same position.")
      .variadic("indices", kinds::index)
      .alone()
      .out("won")
      .primitive()
      .infer([](auto& p, Specs in) {
        index_shape(p.axis, arrays_in(in, 0), p.shape);
        return Spec{DType::boolean, broadcast_all(in)};
      });
}

KEEL_OP(index_write, IndexPutParams) {
  def.doc("Writes `value` into the memory of `x` where index_get would read.")
      .in("x", kinds::any)
      .alone()
      .written()
      .in("value", kinds::any)
      .alone()
      .variadic("indices", kinds::index)
      .alone()
      .out("y")
      .alias(0)
      .primitive()
      .promote(Promote::none)
      .no_oracle("writes in place")
      .infer([](auto& p, Specs in) {
        if (in[0].dtype != in[1].dtype)
          fail(ErrorCode::dtype, std::string("the value's dtype ") + name_of(in[1].dtype) + " differs from " + name_of(in[0].dtype));
        check_fits(in[1], indexed_shape(p.axis, in[0].shape, in, 2));
        return in[0];
      });
}

Tensor index_get(const Tensor& x, const Tensors& arrays, const IndexParams& p) {
  return std::move(call_list(op_index_get, p, list_of(x, arrays))[0]);
}
Tensor index_put(const Tensor& x, const Tensors& arrays, const Tensor& value, const IndexParams& p, bool accumulate) {
  Tensors all{x, value};
  all.append(arrays.begin(), arrays.end());
  return std::move(call_list(op_index_put, IndexPutParams{.axis = p.axis, .accumulate = accumulate}, all)[0]);
}
void index_write(Tensor& x, const Tensors& arrays, const Tensor& value, const Dims& axis) {
  Tensors all{x, value};
  all.append(arrays.begin(), arrays.end());
  call_list(op_index_write, IndexPutParams{.axis = axis}, all);
}

}  // namespace keel
