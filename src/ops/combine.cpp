// Joining, cutting, padding and repeating. Only concat and pad move elements of their own accord; pieces are views.
#include "keel/ops/combine.h"

#include "ops/common.h"

namespace keel {

extern OpDef op_concat, op_stack, op_split, op_chunk, op_pad, op_repeat;

namespace {

int from_front(int64_t axis, int rank) { return int(axis < 0 ? axis + rank : axis); }

/// start:stop along one axis, everything along the others.
Tensor narrow(const Tensor& x, int axis, int64_t start, int64_t stop) {
  SliceParams p;
  for (int i = 0; i < x.rank(); ++i)
    p.start.push_back(i == axis ? start : 0), p.stop.push_back(i == axis ? stop : x.shape()[i]), p.step.push_back(1);
  return slice_view(x, p);
}

SpecList pieces(const Spec& x, int axis, int64_t size) {
  SpecList out;
  const int64_t n = x.shape[axis];
  for (int64_t at = 0; at < n || at == 0; at += size) out.push_back({x.dtype, with_axis(x.shape, axis, n - at < size ? n - at : size)});
  return out;
}
Tensors cut(const Tensor& x, int axis, int64_t size) {
  Tensors out;
  const int64_t n = x.shape()[axis];
  for (int64_t at = 0; at < n || at == 0; at += size) out.push_back(narrow(x, axis, at, n - at < size ? n : at + size));
  return out;
}
int64_t chunk_size(int64_t n, int64_t count) { return n == 0 ? 1 : (n + count - 1) / count; }

void check_pad(const PadParams& p, const Shape& x) {
  if (!(p.before.rank() == x.rank() && p.after.rank() == x.rank()))
    fail(ErrorCode::shape, "before and after must have one entry an axis, " + std::to_string(x.rank()) + ", got " +
         std::to_string(p.before.rank()) + " and " + std::to_string(p.after.rank()));
  std::string wrong;
  for (int i = 0; i < x.rank(); ++i) {
    check_value(p.before[i] >= 0, "before", "at least 0", double(p.before[i]));
    check_value(p.after[i] >= 0, "after", "at least 0", double(p.after[i]));
    const int64_t most = p.mode == PadMode::reflect ? x[i] - 1 : p.mode == PadMode::replicate && x[i] == 0 ? 0 : INT64_MAX;
    if (p.before[i] > most || p.after[i] > most)
      wrong += (wrong.empty() ? "" : ", ") + ("axis " + std::to_string(i) + " of extent " + std::to_string(x[i]) + " by " +
                                              std::to_string(p.before[i]) + " and " + std::to_string(p.after[i]));
  }
  check_shape(wrong.empty(), std::string("cannot ") + (p.mode == PadMode::reflect ? "reflect " : "replicate ") + wrong,
              p.mode == PadMode::reflect ? "a reflection is shorter than the axis" : "the axis has no edge to repeat");
}

/// One axis padded, of public ops.
Tensor pad_axis(const Tensor& x, int axis, int64_t before, int64_t after, const PadParams& p) {
  const int64_t n = x.shape()[axis];
  Tensors parts;
  auto block = [&](int64_t count, bool front) {
    const Shape s = with_axis(x.shape(), axis, count);
    switch (p.mode) {
      case PadMode::constant: return full(s, p.value, {.dtype = x.dtype(), .device = x.device()});
      case PadMode::replicate: return expand(front ? narrow(x, axis, 0, 1) : narrow(x, axis, n - 1, n), s);
      default: return flip(front ? narrow(x, axis, 1, count + 1) : narrow(x, axis, n - 1 - count, n - 1), Axes(axis));
    }
  };
  if (before) parts.push_back(block(before, true));
  parts.push_back(x);
  if (after) parts.push_back(block(after, false));
  return concat(parts, {.axis = axis});
}
/// The gradient of `pad_axis` in modes that copy from the tensor.
Tensor unpad_axis(const Tensor& g, int axis, int64_t before, int64_t after, const PadParams& p) {
  const int64_t n = g.shape()[axis] - before - after;
  Tensor y = narrow(g, axis, before, before + n);
  auto add_at = [&](const Tensor& part, int64_t start) {
    SliceBackwardParams s{.shape = y.shape()};
    for (int i = 0; i < y.rank(); ++i)
      s.start.push_back(i == axis ? start : 0), s.stop.push_back(i == axis ? start + part.shape()[axis] : y.shape()[i]),
          s.step.push_back(1);
    y = add(y, slice_backward(part, s));
  };
  auto folded = [&](const Tensor& edge) {
    return p.mode == PadMode::replicate ? sum(edge, SumParams{.axis = axis, .keepdim = true, .dtype = edge.dtype()})
                                        : flip(edge, Axes(axis));
  };
  if (before) add_at(folded(narrow(g, axis, 0, before)), p.mode == PadMode::replicate ? 0 : 1);
  if (after) add_at(folded(narrow(g, axis, before + n, before + n + after)), p.mode == PadMode::replicate ? n - 1 : n - 1 - after);
  return y;
}

}  // namespace

KEEL_OP(concat, ConcatParams) {
  def.doc("Joins tensors along an existing axis.")
      .variadic("xs", kinds::any)
      .out("y")
      .primitive()
      .onnx("Concat")
      .infer([](auto& p, Specs in) {
        check_value(in.size() > 0 && in.has(0), "xs", "at least one tensor", 0);
        check_min_rank(in[0], 1, "xs[0]");
        const int axis = check_axis(p.axis, in[0]);
        int64_t total = 0;
        std::string differ;
        for (int i = 0; i < in.size(); ++i) {
          const Shape& s = in[i].shape;
          const std::string name = "xs[" + std::to_string(i) + "]";
          if (!(s.rank() == in[0].shape.rank()))
            fail(ErrorCode::shape, name + " has rank " + std::to_string(s.rank()) + ", xs[0] has rank " +
                 std::to_string(in[0].shape.rank()), "unsqueeze(x, axis) adds an axis; stack joins tensors of one shape along a new one");
          for (int k = 0; k < s.rank(); ++k)
            if (k != axis && s[k] != in[0].shape[k])
              differ += (differ.empty() ? "" : ", ") + ("axis " + std::to_string(k) + " of " + name + " (" +
                                                        std::to_string(in[0].shape[k]) + " vs " + std::to_string(s[k]) + ")");
          if (__builtin_add_overflow(total, s[axis], &total))
            fail(ErrorCode::value, "the extents along axis " + std::to_string(axis) + " overflow");
        }
        if (!differ.empty())
          fail(ErrorCode::shape, "extents differ from xs[0]'s: " + differ, "only axis " + std::to_string(axis) +
               ", along which to join, may differ");
        return Spec{in[0].dtype, with_axis(in[0].shape, axis, total)};
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        const int axis = from_front(p.axis, a.in_specs[0].shape.rank());
        Tensors grads;
        int64_t at = 0;
        for (int i = 0; i < a.in_specs.size(); ++i) {
          const int64_t n = a.in_specs[i].shape[axis];
          grads.push_back(a.needs[i] ? narrow(a.g[0], axis, at, at + n) : Tensor());
          at += n;
        }
        return grads;
      });
}

KEEL_OP(stack, ConcatParams) {
  def.doc("Joins tensors of one shape along a new axis.")
      .variadic("xs", kinds::any)
      .out("y")
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_value(in.size() > 0 && in.has(0), "xs", "at least one tensor", 0);
        const int axis = check_axis(p.axis, in[0].shape.rank() + 1);
        for (int i = 1; i < in.size(); ++i)
          if (!(in[i].shape == in[0].shape))
            fail(ErrorCode::shape, "xs[" + std::to_string(i) + "] has shape " + to_string(in[i].shape) + ", xs[0] has " +
                 to_string(in[0].shape), "concat joins along an existing axis");
        Shape s = in[0].shape;
        s.insert(axis, in.size());
        return Spec{in[0].dtype, s};
      })
      .decompose([](auto& p, Inputs in) {
        Tensors parts;
        for (int i = 0; i < in.size(); ++i) parts.push_back(unsqueeze(in[i], p.axis));
        return concat(parts, {.axis = from_front(p.axis, int(in[0].rank()) + 1)});
      });
}

KEEL_OP(split, SplitSizeParams) {
  def.doc("Pieces of one size along an axis; views.")
      .in("x", kinds::any)
      .out("pieces")
      .promote(Promote::none)
      .onnx("Split")
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_min_rank(in[0], 1, "x");
        check_value(p.size > 0, "size", "positive", double(p.size));
        return pieces(in[0], check_axis(p.axis, in[0]), p.size);
      })
      .decompose([](auto& p, Inputs in) { return cut(in[0], from_front(p.axis, int(in[0].rank())), p.size); });
}

KEEL_OP(chunk, ChunkParams) {
  def.doc("At most `count` pieces of equal size along an axis; views.")
      .in("x", kinds::any)
      .out("pieces")
      .promote(Promote::none)
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        check_min_rank(in[0], 1, "x");
        check_value(p.count > 0, "count", "positive", double(p.count));
        const int axis = check_axis(p.axis, in[0]);
        return pieces(in[0], axis, chunk_size(in[0].shape[axis], p.count));
      })
      .decompose([](auto& p, Inputs in) {
        const int axis = from_front(p.axis, int(in[0].rank()));
        return cut(in[0], axis, chunk_size(in[0].shape()[axis], p.count));
      });
}

KEEL_OP(pad, PadParams) {
  def.doc("Elements added on both sides of axes: a constant, a reflection, or the edge repeated.")
      .in("x", kinds::any)
      .out("y")
      .onnx("Pad")
      .infer([](auto& p, Specs in) {
        check_pad(p, in[0].shape);
        Shape s = in[0].shape;
        for (int i = 0; i < s.rank(); ++i)
          if (__builtin_add_overflow(s[i], p.before[i], &s[i]) || __builtin_add_overflow(s[i], p.after[i], &s[i]))
            fail(ErrorCode::value, "the extent of axis " + std::to_string(i) + " overflows");
        check_result(s, in[0].dtype);
        if (p.mode == PadMode::constant) check_holds(in[0].dtype, p.value);
        return Spec{in[0].dtype, s};
      })
      .decompose([](auto& p, Inputs in) {
        Tensor y = in[0];
        for (int i = 0; i < y.rank(); ++i)
          if (p.before[i] || p.after[i]) y = pad_axis(y, i, p.before[i], p.after[i], p);
        return y.is(in[0]) ? copy(y) : y;
      })
      .saves()
      .vjp([](auto& p, const VjpArgs& a) -> Tensors {
        Tensor g = a.g[0];
        const Shape& x = a.in_specs[0].shape;
        if (p.mode == PadMode::constant) {
          SliceParams s;
          for (int i = 0; i < x.rank(); ++i) s.start.push_back(p.before[i]), s.stop.push_back(p.before[i] + x[i]), s.step.push_back(1);
          return {slice_view(g, s)};
        }
        for (int i = x.rank() - 1; i >= 0; --i)
          if (p.before[i] || p.after[i]) g = unpad_axis(g, i, p.before[i], p.after[i], p);
        return {g};
      });
}

KEEL_OP(repeat, RepeatParams) {
  def.doc("The whole tensor repeated along each axis.")
      .in("x", kinds::any)
      .out("y")
      .promote(Promote::none)
      .onnx("Tile")
      .fallback(Fallback::ok)
      .infer([](auto& p, Specs in) {
        const Shape& x = in[0].shape;
        if (p.repeats.rank() < x.rank())
          fail(ErrorCode::shape, "repeats must have at least one entry an axis, " + std::to_string(x.rank()) + ", got " +
               std::to_string(p.repeats.rank()));
        Shape s;
        for (int i = 0; i < p.repeats.rank(); ++i) {
          check_value(p.repeats[i] >= 0, "repeats", "at least 0", double(p.repeats[i]));
          const int k = i - (p.repeats.rank() - x.rank());
          int64_t n = 0;
          if (__builtin_mul_overflow(k < 0 ? 1 : x[k], p.repeats[i], &n))
            fail(ErrorCode::value, "the extent of axis " + std::to_string(i) + " overflows");
          s.push_back(n);
        }
        check_result(s, in[0].dtype);
        return Spec{in[0].dtype, s};
      })
      .decompose([](auto& p, Inputs in) {
        // Axis by axis as [outer, 1, n, inner] expanded, so that the rank stays small; innermost first, where tensors are smallest.
        Shape s = in[0].shape();
        while (s.rank() < p.repeats.rank()) s.insert(0, 1);
        Tensor y = reshape(in[0], s);
        for (int i = s.rank() - 1; i >= 0; --i) {
          const int64_t r = p.repeats[i];
          if (r == 1) continue;
          int64_t outer = 1, inner = 1;
          for (int k = 0; k < i; ++k) outer *= s[k];
          for (int k = i + 1; k < s.rank(); ++k) inner *= s[k];
          const int64_t n = s[i];
          s[i] *= r;
          y = reshape(expand(reshape(y, {outer, 1, n, inner}), {outer, r, n, inner}), s);
        }
        return y.shares_storage(in[0]) ? copy(y) : y;
      });
}

Tensor concat(const Tensors& xs, const ConcatParams& p) { return std::move(call_list(op_concat, p, xs)[0]); }
Tensor stack(const Tensors& xs, const ConcatParams& p) { return std::move(call_list(op_stack, p, xs)[0]); }
Tensors split(const Tensor& x, int64_t size, const SplitParams& p) {
  return call_all(op_split, SplitSizeParams{.size = size, .axis = p.axis}, x);
}
Tensors split(const Tensor& x, std::initializer_list<int64_t> sizes, const SplitParams& p) {
  auto refuse = [&](ErrorCode code, const std::string& message, std::string_view hint) {
    raise(Error(code, message).op("split").arg("x", x.defined() ? to_string(impl(x).spec) : "an empty tensor").hint(hint).path(scope().path));
  };
  if (!x.defined()) refuse(ErrorCode::value, "'x' is an empty tensor", "a default-constructed Tensor has no value yet");
  if (p.axis < -x.rank() || p.axis >= x.rank())
    refuse(ErrorCode::index,
           "axis " + std::to_string(p.axis) + " is out of range [" + std::to_string(-x.rank()) + ", " + std::to_string(x.rank() - 1) + "]",
           "negative axes count from the end");
  const int axis = from_front(p.axis, int(x.rank()));
  int64_t total = 0;
  for (int64_t n : sizes) {
    if (n < 0) refuse(ErrorCode::value, "sizes must be at least 0, got " + std::to_string(n), "split(x, n) cuts into pieces of n");
    total += n;
  }
  if (total != x.shape()[axis])
    refuse(ErrorCode::shape, "sizes add up to " + std::to_string(total) + ", axis " + std::to_string(axis) + " has extent " +
                                 std::to_string(x.shape()[axis]),
           "split(x, n) cuts into pieces of n, the last one shorter; chunk(x, n) into n pieces");
  Tensors out;
  int64_t at = 0;
  for (int64_t n : sizes) out.push_back(narrow(x, axis, at, at + n)), at += n;
  return out;
}
Tensors chunk(const Tensor& x, int64_t count, const SplitParams& p) {
  return call_all(op_chunk, ChunkParams{.count = count, .axis = p.axis}, x);
}
Tensor pad(const Tensor& x, const PadParams& p) { return call(op_pad, p, x); }
Tensor repeat(const Tensor& x, const Dims& repeats) { return call(op_repeat, RepeatParams{.repeats = repeats}, x); }

}  // namespace keel
