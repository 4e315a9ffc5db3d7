#include <cmath>
#include <cstring>

#include "ops/common.h"

namespace keel {

KEEL_OP(full, FullParams) {
  def.doc("A tensor whose elements are all `value`.").out("y").primitive()
      .infer([](auto& p, Specs) {
        const DType t = p.dtype == DType::none ? f32 : p.dtype;
        check_result(p.shape, t);
        check_holds(t, p.value);
        return Spec{t, p.shape};
      })
      .no_oracle("creates constants");
}

namespace {
int64_t arange_count(const ArangeParams& p) {
  const bool integral = p.start.kind() != f64 && p.stop.kind() != f64 && p.step.kind() != f64;
  if (integral) {
    const int64_t step = p.step.to_int(), start = p.start.to_int(), stop = p.stop.to_int();
    if (step == 0) fail(ErrorCode::value, "step must not be 0", "a negative step counts down; full(shape, value) repeats a value");
    if (step > 0 ? stop <= start : stop >= start) return 0;
    const uint64_t span = step > 0 ? uint64_t(stop) - uint64_t(start) : uint64_t(start) - uint64_t(stop),
                   n = (span - 1) / (step > 0 ? uint64_t(step) : 0 - uint64_t(step)) + 1;
    if (n > uint64_t(1e15)) fail(ErrorCode::value, "the range has too many values");
    return int64_t(n);
  }
  const double n = std::ceil((p.stop.to_double() - p.start.to_double()) / p.step.to_double());
  if (p.step.to_double() == 0)
    fail(ErrorCode::value, "step must not be 0", "a negative step counts down; full(shape, value) repeats a value");
  if (std::isnan(n)) fail(ErrorCode::value, "start, stop and step do not say how many values there are", "none of them may be NaN, nor all infinite");
  if (n > 1e15) fail(ErrorCode::value, "the range has too many values");
  return n > 0 ? int64_t(n) : 0;
}
}  // namespace

KEEL_OP(arange, ArangeParams) {
  def.doc("start, start + step, ... below stop.").out("y").primitive()
      .infer([](auto& p, Specs) {
        const bool integral = p.start.kind() != f64 && p.stop.kind() != f64 && p.step.kind() != f64;
        const DType t = p.dtype != DType::none ? p.dtype : integral ? i64 : f32;
        const int64_t n = arange_count(p);
        check_result(Shape({n}), t);
        if (n > 0)
          check_holds(t, p.start), check_holds(t, integral ? Scalar(p.start.to_int() + (n - 1) * p.step.to_int())
                                                           : Scalar(p.start.to_double() + double(n - 1) * p.step.to_double()));
        return Spec{t, Shape({n})};
      })
      .no_oracle("creates constants");
}

KEEL_OP(linspace, LinspaceParams) {
  def.doc("`count` values from start to stop, both included.").out("y").primitive()
      .infer([](auto& p, Specs) {
        check_value(p.count >= 0, "count", "at least 0", double(p.count));
        const DType t = p.dtype == DType::none ? f32 : p.dtype;
        check_holds(t, p.start), check_holds(t, p.stop);
        return Spec{t, Shape({p.count})};
      })
      .no_oracle("creates constants");
}

KEEL_OP(eye, EyeParams) {
  def.doc("Ones on the main diagonal, zeros elsewhere.").out("y").primitive()
      .infer([](auto& p, Specs) {
        check_value(p.rows >= 0, "rows", "at least 0", double(p.rows));
        return Spec{p.dtype == DType::none ? f32 : p.dtype, Shape({p.rows, p.columns < 0 ? p.rows : p.columns})};
      })
      .no_oracle("creates constants");
}

namespace {
Tensor finish(Tensor t, const TensorOptions& o) {
  if (o.requires_grad) t.requires_grad_();
  return t;
}
}  // namespace

Tensor full(const Shape& s, Scalar v, const TensorOptions& o) {
  const DType t = o.dtype != DType::none ? o.dtype : v.kind() == f64 ? f32 : v.kind();
  return finish(call(op_full, FullParams{.shape = s, .value = v, .dtype = t, .device = o.device}), o);
}
Tensor empty(const Shape& s, const TensorOptions& o) { return finish(make_tensor(o.dtype == DType::none ? f32 : o.dtype, s, o.device), o); }
Tensor zeros(const Shape& s, const TensorOptions& o) { return finish(call(op_full, FullParams{.shape = s, .value = 0, .dtype = o.dtype == DType::none ? f32 : o.dtype, .device = o.device}), o); }
Tensor ones(const Shape& s, const TensorOptions& o) { return finish(call(op_full, FullParams{.shape = s, .value = 1, .dtype = o.dtype == DType::none ? f32 : o.dtype, .device = o.device}), o); }
Tensor empty_like(const Tensor& x) { return make_tensor(x.dtype(), x.shape(), x.device()); }
Tensor full_like(const Tensor& x, Scalar v) { return full(x.shape(), v, {.dtype = x.dtype(), .device = x.device()}); }
Tensor zeros_like(const Tensor& x) { return full_like(x, 0); }
Tensor ones_like(const Tensor& x) { return full_like(x, 1); }
Tensor arange(Scalar start, Scalar stop, Scalar step, const TensorOptions& o) {
  return finish(call(op_arange, ArangeParams{.start = start, .stop = stop, .step = step, .dtype = o.dtype, .device = o.device}), o);
}
Tensor arange(Scalar start, Scalar stop, const TensorOptions& o) { return arange(start, stop, 1, o); }
Tensor arange(Scalar stop, const TensorOptions& o) { return arange(0, stop, 1, o); }
Tensor linspace(double start, double stop, int64_t count, const TensorOptions& o) {
  return finish(call(op_linspace, LinspaceParams{.start = start, .stop = stop, .count = count, .dtype = o.dtype, .device = o.device}), o);
}
Tensor eye(int64_t rows, int64_t columns, const TensorOptions& o) { return finish(call(op_eye, EyeParams{.rows = rows, .columns = columns, .dtype = o.dtype, .device = o.device}), o); }
Tensor eye(int64_t rows, const TensorOptions& o) { return eye(rows, -1, o); }

Tensor from_memory(void* data, int64_t bytes, DType t, const Shape& s, void* context, void (*release)(void*), bool readonly) {
  check_extents(s, t);
  if (t == DType::none) raise(Error(ErrorCode::value, "no dtype given").op("from_memory"));
  if (s.numel() * int64_t(size_of(t)) > bytes)
    raise(Error(ErrorCode::shape, "shape " + to_string(s) + " of " + name_of(t) + " needs " + std::to_string(s.numel() * int64_t(size_of(t))) + " bytes, the memory has " + std::to_string(bytes)).op("from_memory"));
  return make_view(borrow_storage(data, size_t(bytes), readonly, context, release), t, s, contiguous_strides(s), 0);
}

/// Reads nested lists; the lists live only as long as the full expression that made them.
struct LiteralReader {
  Shape shape;
  bool floating = false, integral = false;

  void measure(const Literal* l, int64_t n, int depth) {
    if (depth == shape.rank()) shape.push_back(n);
    else if (shape[depth] != n)
      raise(Error(ErrorCode::shape, "rows of different length (" + std::to_string(shape[depth]) + " vs " + std::to_string(n) + ") at depth " + std::to_string(depth)).op("tensor").hint("all lists of one depth must be equally long; pad the short ones"));
    for (int64_t i = 0; i < n; ++i) {
      if (l[i].n_ >= 0) {
        measure(l[i].list_.begin(), l[i].n_, depth + 1);
      } else {
        if (shape.rank() != depth + 1) raise(Error(ErrorCode::shape, "a number stands where a list is expected, at depth " + std::to_string(depth + 1)).op("tensor").hint("the elements of a list are all numbers or all lists"));
        kind(l[i]);
      }
    }
  }
  void kind(const Literal& l) {
    floating |= l.value_.kind() == f64;
    integral |= l.value_.kind() != f64 && l.value_.kind() != DType::boolean;
  }
  static void write(std::byte* at, DType t, Scalar v) {
    check_holds(t, v, "tensor");
    write_scalar(at, t, v);
  }
  static void fill(const Literal* l, int64_t n, std::byte*& at, DType t) {
    for (int64_t i = 0; i < n; ++i) {
      if (l[i].n_ >= 0) fill(l[i].list_.begin(), l[i].n_, at, t);
      else
        write(at, t, l[i].value_), at += size_of(t);
    }
  }
  Tensor read(const Literal* l, int64_t n, const TensorOptions& o) {
    measure(l, n, 0);
    const DType t = o.dtype != DType::none ? o.dtype : floating || shape.numel() == 0 ? f32 : integral ? i64 : DType::boolean;
    Tensor x = make_tensor(t, shape);
    std::byte* at = impl(x).data;
    fill(l, n, at, t);
    return finish(x.to(o.device), o);
  }
  Tensor read(const Literal& v, const TensorOptions& o) {
    if (v.n_ >= 0) return read(v.list_.begin(), v.n_, o);
    kind(v);
    const DType t = o.dtype != DType::none ? o.dtype : floating ? f32 : integral ? i64 : DType::boolean;
    Tensor x = make_tensor(t, Shape());
    write(impl(x).data, t, v.value_);
    return finish(x.to(o.device), o);
  }
};
Tensor tensor(const Literal& v, const TensorOptions& o) { return LiteralReader().read(v, o); }
Tensor tensor(std::initializer_list<Literal> v, const TensorOptions& o) { return LiteralReader().read(v.begin(), int64_t(v.size()), o); }

}  // namespace keel
