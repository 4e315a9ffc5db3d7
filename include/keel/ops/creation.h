#pragma once
#include "keel/op.h"

#pragma GCC visibility push(default)
namespace keel {

struct FullParams {
  [[no_unique_address]] ByName by_name = ByName();
  Shape shape = {};
  Scalar value = 0;
  DType dtype = DType::none;
  Device device = cpu_device;
  static constexpr void fields(auto& p, auto&& f) {
    f("shape", p.shape, "extents of the result");
    f("value", p.value, "what every element is");
    f("dtype", p.dtype, "dtype of the result");
    f("device", p.device, "where the result lives");
  }
};
struct ArangeParams {
  [[no_unique_address]] ByName by_name = ByName();
  Scalar start = 0;
  Scalar stop = 0;
  Scalar step = 1;
  DType dtype = DType::none;
  Device device = cpu_device;
  static constexpr void fields(auto& p, auto&& f) {
    f("start", p.start, "first value");
    f("stop", p.stop, "end, not included");
    f("step", p.step, "distance between values; may be negative");
    f("dtype", p.dtype, "dtype of the result; i64 for integers, f32 for floats where not given");
    f("device", p.device, "where the result lives");
  }
};
struct LinspaceParams {
  [[no_unique_address]] ByName by_name = ByName();
  double start = 0;
  double stop = 1;
  int64_t count = 50;
  DType dtype = DType::none;
  Device device = cpu_device;
  static constexpr void fields(auto& p, auto&& f) {
    f("start", p.start, "first value");
    f("stop", p.stop, "last value, included");
    f("count", p.count, "how many values");
    f("dtype", p.dtype, "dtype of the result");
    f("device", p.device, "where the result lives");
  }
};
struct EyeParams {
  [[no_unique_address]] ByName by_name = ByName();
  int64_t rows = 0;
  int64_t columns = -1;
  DType dtype = DType::none;
  Device device = cpu_device;
  static constexpr void fields(auto& p, auto&& f) {
    f("rows", p.rows, "number of rows");
    f("columns", p.columns, "number of columns; -1 stands for as many as rows");
    f("dtype", p.dtype, "dtype of the result");
    f("device", p.device, "where the result lives");
  }
};

/// A number or a nested list of numbers, for `tensor({{1, 2}, {3, 4}})`.
class Literal {
 public:
  template <Arithmetic T>
  Literal(T v) : value_(v) {}
  Literal(std::initializer_list<Literal> l) : list_(l), n_(int64_t(l.size())) {}

 private:
  Scalar value_;
  std::initializer_list<Literal> list_;  // lives as long as the full expression that holds the literal
  int64_t n_ = -1;  // -1: a number
  friend struct LiteralReader;
};

/// A tensor with the values of a nested list; bools make bool, integers i64, floats f32 unless a dtype is given. Rows of unequal length: ShapeError.
Tensor tensor(const Literal& values, const TensorOptions& o = {});
Tensor tensor(std::initializer_list<Literal> values, const TensorOptions& o = {});
/// Elements are not set.
Tensor empty(const Shape& s, const TensorOptions& o = {});
Tensor full(const Shape& s, Scalar value, const TensorOptions& o = {});
Tensor zeros(const Shape& s, const TensorOptions& o = {});
Tensor ones(const Shape& s, const TensorOptions& o = {});
Tensor empty_like(const Tensor& x);
Tensor full_like(const Tensor& x, Scalar value);
Tensor zeros_like(const Tensor& x);
Tensor ones_like(const Tensor& x);
/// start, start + step, ... below stop. Integers give i64, floats f32, unless a dtype is given.
Tensor arange(Scalar stop, const TensorOptions& o = {});
Tensor arange(Scalar start, Scalar stop, const TensorOptions& o = {});
Tensor arange(Scalar start, Scalar stop, Scalar step, const TensorOptions& o = {});
/// `count` values from start to stop, both included.
Tensor linspace(double start, double stop, int64_t count, const TensorOptions& o = {});
/// Ones on the main diagonal.
Tensor eye(int64_t rows, const TensorOptions& o = {});
Tensor eye(int64_t rows, int64_t columns, const TensorOptions& o = {});

/// Borrows memory: the tensor reads and writes it, and `release(context)`, where given, is called when the last view goes. `bytes` counts from `data` to the end of the memory.
Tensor from_memory(void* data, int64_t bytes, DType t, const Shape& s, void* context = nullptr, void (*release)(void* context) = nullptr, bool readonly = false);
/// Borrows a std::span (or anything with data() and size()); its size must be that of the shape.
template <class Span>
  requires requires(Span s) { s.data(); s.size(); }
Tensor from_span(Span s, const Shape& shape) {
  using T = std::remove_reference_t<decltype(*s.data())>;
  static_assert(dtype_of<std::remove_cv_t<T>> != DType::none, "no dtype stands for this element type");
  return from_memory(const_cast<std::remove_cv_t<T>*>(s.data()), int64_t(s.size() * sizeof(T)), dtype_of<std::remove_cv_t<T>>, shape, nullptr, nullptr, std::is_const_v<T>);
}
template <class Span>
  requires requires(Span s) { s.data(); s.size(); }
Tensor from_span(Span s) { return from_span(s, Shape({int64_t(s.size())})); }

}  // namespace keel
#pragma GCC visibility pop
