#include <algorithm>

#include "ops/common.h"

namespace keel {
namespace {

/// Strides that let `x` be read in shape `to` without moving elements; false where there are none.
bool view_strides(const Shape& from, const Strides& st, const Shape& to, Strides& out) {
  out = Strides();
  out.resize(to.rank());
  if (to.numel() == 0) {
    out = contiguous_strides(to);
    return true;
  }
  int i = from.rank() - 1, j = to.rank() - 1;
  while (i >= 0 || j >= 0) {
    // One block: axes of `from` that are contiguous among themselves, against as many axes of `to`.
    int64_t have = 1, want = 1, step = 0;
    while (i >= 0 && from[i] == 1) --i;
    if (i < 0) {
      for (; j >= 0; --j) {
        if (to[j] != 1) return false;
        out[j] = 1;
      }
      return true;
    }
    step = st[i], have = from[i];
    int64_t reach = st[i] * from[i];
    --i;
    while (true) {
      while (j >= 0 && want < have) {
        out[j] = step * want;
        want *= to[j--];
      }
      while (j >= 0 && to[j] == 1) out[j--] = step * want;
      if (want == have) break;
      while (i >= 0 && from[i] == 1) --i;
      if (i < 0 || st[i] != reach) return false;
      have *= from[i], reach = st[i] * from[i], --i;
    }
  }
  return true;
}

Shape infer_shape(const Shape& wanted, const Spec& x) {
  Shape s = wanted;
  int hole = -1;
  int64_t known = 1;
  for (int i = 0; i < s.rank(); ++i) {
    if (s[i] == -1) {
      if (hole >= 0) fail(ErrorCode::value, "only one extent may be -1, got " + to_string(wanted), "the tensor has " + std::to_string(x.shape.numel()) + " elements; give all extents but one");
      hole = i;
    } else if (s[i] < 0) {
      fail(ErrorCode::value, "extent " + std::to_string(s[i]) + " in " + to_string(wanted) + " is negative");
    } else if (__builtin_mul_overflow(known, s[i], &known)) {
      fail(ErrorCode::value, "shape " + to_string(wanted) + " overflows");
    }
  }
  const int64_t n = x.shape.numel();
  if (hole >= 0) {
    if (known == 0 || n % known) fail(ErrorCode::shape, std::to_string(n) + " elements do not divide into " + to_string(wanted), "the other extents must divide the number of elements");
    s[hole] = n / known;
  } else if (known != n) {
    fail(ErrorCode::shape, "shape " + to_string(wanted) + " has " + std::to_string(known) + " elements, the tensor has " + std::to_string(n), "one extent may be -1 and then follows from the rest");
  }
  return s;
}

}  // namespace

KEEL_OP(reshape, ShapeParams) {
  def.doc("Another shape, same order of elements.").in("x", kinds::any).out("y").alias(0).promote(Promote::none).onnx("Reshape")
      .infer([](auto& p, Specs in) { return Spec{in[0].dtype, infer_shape(p.shape, in[0])}; })
      .view([](auto&, const Tensor& x, const Spec& out, ViewSpec& v) { return view_strides(x.shape(), x.strides(), out.shape, v.strides); })
      .saves()
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {reshape(a.g[0], a.in_specs[0].shape)}; });
}

KEEL_OP(permute, PermuteParams) {
  def.doc("The axes in another order.").in("x", kinds::any).out("y").alias(0).promote(Promote::none).onnx("Transpose")
      .infer([](auto& p, Specs in) {
        if (!(p.order.rank() == in[0].shape.rank()))
          fail(ErrorCode::shape, "order " + to_string(p.order) + " must name each of the " + std::to_string(in[0].shape.rank()) +
               " axes once", "transpose(x, a, b) swaps two axes and keeps the rest");
        check_axes(Axes(p.order), in[0]);
        Shape s;
        for (int64_t a : p.order) s.push_back(in[0].shape[int(a)]);
        return Spec{in[0].dtype, s};
      })
      .view([](auto& p, const Tensor& x, const Spec&, ViewSpec& v) {
        for (int64_t a : p.order) v.strides.push_back(x.strides()[int(a)]);
        return true;
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Dims back;
        back.resize(p.order.rank());
        for (int i = 0; i < p.order.rank(); ++i) back[int(p.order[i] < 0 ? p.order[i] + p.order.rank() : p.order[i])] = i;
        return {permute(a.g[0], back)};
      });
}

KEEL_OP(expand, ShapeParams) {
  def.doc("Axes of extent 1 repeated with stride 0.").in("x", kinds::any).out("y").alias(0).promote(Promote::none).onnx("Expand")
      .infer([](auto& p, Specs in) {
        Shape s = p.shape;
        const Shape& x = in[0].shape;
        if (s.rank() < x.rank())
          fail(ErrorCode::shape, "shape " + to_string(s) + " has fewer axes than " + to_string(x),
               "expand adds axes in front and repeats those of extent 1; reshape takes axes away");
        for (int i = 1; i <= s.rank(); ++i) {
          const int64_t have = i <= x.rank() ? x[-i] : 1;
          if (s[-i] == -1) s[-i] = have;
          if (!(s[-i] == have || have == 1))
            fail(ErrorCode::shape, "axis " + std::to_string(-i) + " of extent " + std::to_string(have) + " cannot become " +
                 std::to_string(s[-i]), "only axes of extent 1 repeat");
        }
        check_result(s, in[0].dtype);
        return Spec{in[0].dtype, s};
      })
      .view([](auto&, const Tensor& x, const Spec& out, ViewSpec& v) {
        const int extra = out.shape.rank() - int(x.rank());
        v.strides.resize(out.shape.rank());
        for (int i = extra; i < out.shape.rank(); ++i) v.strides[i] = x.shape()[i - extra] == 1 && out.shape[i] != 1 ? 0 : x.strides()[i - extra];
        return true;
      })
      .saves()
      .vjp([](auto&, const VjpArgs& a) -> Tensors { return {a.g[0]}; });  // conforming to the input's shape sums the repeated axes
}

namespace {
int64_t slice_length(int64_t start, int64_t stop, int64_t step) {
  if (step > 0) return stop > start ? (stop - start + step - 1) / step : 0;
  return start > stop ? (start - stop - step - 1) / -step : 0;
}
}  // namespace

KEEL_OP(slice_view, SliceParams) {
  def.doc("start:stop:step along every axis.").in("x", kinds::any).out("y").alias(0).promote(Promote::none)
      .infer([](auto& p, Specs in) {
        const Shape& x = in[0].shape;
        check_shape(p.start.rank() == x.rank() && p.stop.rank() == x.rank() && p.step.rank() == x.rank(), "start, stop and step must have one entry an axis");
        Shape s;
        for (int i = 0; i < x.rank(); ++i) {
          check_value(p.step[i] != 0, "step", "other than 0", 0);
          const int64_t n = slice_length(p.start[i], p.stop[i], p.step[i]), last = p.start[i] + (n - 1) * p.step[i];
          if (n > 0 && (p.start[i] < 0 || p.start[i] >= x[i] || last < 0 || last >= x[i]))
            fail(ErrorCode::index, "slice " + std::to_string(p.start[i]) + ":" + std::to_string(p.stop[i]) + " leaves axis " + std::to_string(i) + " of extent " + std::to_string(x[i]));
          s.push_back(n);
        }
        return Spec{in[0].dtype, s};
      })
      .view([](auto& p, const Tensor& x, const Spec& out, ViewSpec& v) {
        for (int i = 0; i < out.shape.rank(); ++i) {
          v.strides.push_back(x.strides()[i] * p.step[i]);
          if (out.shape[i] > 0) v.offset += p.start[i] * x.strides()[i];
        }
        return true;
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        return {slice_backward(a.g[0], {.shape = a.in_specs[0].shape, .start = p.start, .stop = p.stop, .step = p.step})};
      });
}

KEEL_OP(slice_backward, SliceBackwardParams) {
  def.doc("Zeros of `shape` with `g` written where the slice lies.").in("g", kinds::any).out("y").primitive().promote(Promote::none)
      .infer([](auto& p, Specs in) { return Spec{in[0].dtype, p.shape}; })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors { return {slice_view(a.g[0], {.start = p.start, .stop = p.stop, .step = p.step})}; });
}

Tensor reshape(const Tensor& x, const Shape& s) { return call(op_reshape, ShapeParams{.shape = s}, x); }
Tensor permute(const Tensor& x, const Dims& order) { return call(op_permute, PermuteParams{.order = order}, x); }
Tensor expand(const Tensor& x, const Shape& s) { return call(op_expand, ShapeParams{.shape = s}, x); }
Tensor broadcast_to(const Tensor& x, const Shape& s) { return expand(x, s); }
Tensor slice_view(const Tensor& x, const SliceParams& p) { return call(op_slice_view, p, x); }
Tensor slice_backward(const Tensor& g, const SliceBackwardParams& p) { return call(op_slice_backward, p, g); }

namespace {
/// A frame for functions that are several ops or check before the first one, so that errors name what was called.
int checked_axis(const char* op, const Tensor& x, int64_t axis, int extra = 0) {
  const int rank = int(x.rank()) + extra;
  if (axis < -rank || axis >= rank)
    raise(Error(ErrorCode::index, "axis " + std::to_string(axis) + " is out of range [" + std::to_string(-rank) + ", " + std::to_string(rank - 1) + "]").op(op).arg("x", to_string(impl(x).spec)).hint("negative axes count from the end").path(scope().path));
  return int(axis < 0 ? axis + rank : axis);
}
}  // namespace

Tensor transpose(const Tensor& x, int64_t a, int64_t b) {
  const int i = checked_axis("transpose", x, a), j = checked_axis("transpose", x, b);
  Dims order;
  for (int k = 0; k < x.rank(); ++k) order.push_back(k == i ? j : k == j ? i : k);
  return permute(x, order);
}
Tensor transpose(const Tensor& x) {
  if (x.rank() < 2) raise(Error(ErrorCode::shape, "needs at least two axes").op("transpose").arg("x", to_string(impl(x).spec)).hint("unsqueeze(x, 0) makes a row, unsqueeze(x, 1) a column").path(scope().path));
  return transpose(x, -2, -1);
}
Tensor flatten(const Tensor& x, int64_t first, int64_t last) {
  if (x.rank() == 0) return reshape(x, {1});
  const int a = checked_axis("flatten", x, first), b = checked_axis("flatten", x, last);
  if (a > b) raise(Error(ErrorCode::value, "first axis " + std::to_string(first) + " lies after last axis " + std::to_string(last)).op("flatten").arg("x", to_string(impl(x).spec)));
  Shape s;
  for (int i = 0; i < x.rank(); ++i) {
    if (i > a && i <= b) s[s.rank() - 1] *= x.shape()[i];
    else s.push_back(x.shape()[i]);
  }
  return reshape(x, s);
}
Tensor squeeze(const Tensor& x) {
  Shape s;
  for (int64_t e : x.shape())
    if (e != 1) s.push_back(e);
  return reshape(x, s);
}
Tensor squeeze(const Tensor& x, int64_t axis) {
  Shape s = x.shape();
  const int a = checked_axis("squeeze", x, axis);
  if (s[a] != 1) return x;
  s.erase(a);
  return reshape(x, s);
}
Tensor unsqueeze(const Tensor& x, int64_t axis) {
  Shape s = x.shape();
  s.insert(checked_axis("unsqueeze", x, axis, 1), 1);
  return reshape(x, s);
}
Tensor flip(const Tensor& x, const Axes& axes) {
  SliceParams p;
  p.start.resize(int(x.rank()), 0), p.stop = Dims(x.shape()), p.step.resize(int(x.rank()), 1);
  for (int64_t a : axes) {
    const int i = checked_axis("flip", x, a);
    if (p.step[i] < 0)
      raise(Error(ErrorCode::value, "axis " + std::to_string(a) + " is given twice")
                .op("flip")
                .arg("x", to_string(impl(x).spec))
                .hint("negative axes count from the end: -1 and " + std::to_string(x.rank() - 1) + " are the same"));
    p.start[i] = x.shape()[i] - 1, p.stop[i] = -1, p.step[i] = -1;
  }
  return slice_view(x, p);
}

bool can_broadcast(const Shape& a, const Shape& b) {
  for (int i = 1; i <= std::min(a.rank(), b.rank()); ++i)
    if (a[-i] != b[-i] && a[-i] != 1 && b[-i] != 1) return false;
  return true;
}

}  // namespace keel
