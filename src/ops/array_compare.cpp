#include "keel/compare.h"

#include <cmath>

#include "keel/numerics/tolerances.h"
#include "keel/tensor_of.h"
#include "ops/common.h"

namespace keel {
namespace {

template <class T>
CloseParams defaults() {
  constexpr numerics::Tolerance t = numerics::tolerances<T>();
  return {.rel = t.rel, .abs = t.abs};
}
/// Default tolerances by dtype: those of the scalar core.
CloseParams tolerance_of(DType t) {
  switch (t) {
    case f64:
    case complex128: return defaults<double>();
    case f32:
    case complex64: return defaults<float>();
    case f16: return defaults<float16>();
    case bf16: return defaults<bfloat16>();
    case f8e4m3fn: return defaults<float8_e4m3fn>();
    case f8e5m2: return defaults<float8_e5m2>();
    default: return {.rel = 0, .abs = 0};
  }
}

/// Calls f(p, q) for pairs of elements of two dense tensors of one shape until it says false.
template <class F>
bool every(const Tensor& a, const Tensor& b, F&& f) {
  const size_t sa = size_of(a.dtype()), sb = size_of(b.dtype());
  const std::byte *p = impl(a).data, *q = impl(b).data;
  for (int64_t i = a.size(); i > 0; --i, p += sa, q += sb)
    if (!f(p, q)) return false;
  return true;
}

/// An integer of any dtype, with what tells u64 above the i64 range from a negative number.
bool same_integer(const std::byte* p, DType s, const std::byte* q, DType t) {
  const int64_t a = read_int(p, s), b = read_int(q, t);
  return a == b && ((s == u64) == (t == u64) || a >= 0);
}

bool defined_pair(const Tensor& a, const Tensor& b, const char* name) {
  if (!a.defined() || !b.defined())
    raise(Error(ErrorCode::value, std::string("'") + (a.defined() ? "b" : "a") + "' is an empty tensor")
              .op(name)
              .hint("a default-constructed Tensor has no value yet"));
  return true;
}

/// Both in their common dtype, dense; where there is none, as they are.
void bring_together(Tensor& a, Tensor& b) {
  const DType t = a.dtype() == b.dtype() ? a.dtype() : promote(a.dtype(), b.dtype());
  if (t != DType::none && is_inexact(t)) a = cast(a, t), b = cast(b, t);
  a = contiguous(a), b = contiguous(b);
}

}  // namespace

bool array_equal(const Tensor& left, const Tensor& right) {
  defined_pair(left, right, "array_equal");
  if (!(left.shape() == right.shape())) return false;
  ScopeGuard guard;
  scope().grad = false, scope().trace = nullptr, scope().monitor = nullptr;
  Tensor a = left, b = right;
  bring_together(a, b);
  const DType s = a.dtype(), t = b.dtype();
  if (!is_inexact(s) && !is_inexact(t))
    return every(a, b, [=](const std::byte* p, const std::byte* q) { return same_integer(p, s, q, t); });
  if (is_complex(s)) {
    const DType part = s == complex64 ? f32 : f64;
    const size_t half = size_of(part);
    return every(a, b, [=](const std::byte* p, const std::byte* q) {
      return read_double(p, part) == read_double(q, part) && read_double(p + half, part) == read_double(q + half, part);
    });
  }
  if (s == f32 && t == f32)
    return every(a, b, [](const std::byte* p, const std::byte* q) {
      return *reinterpret_cast<const float*>(p) == *reinterpret_cast<const float*>(q);
    });
  return every(a, b, [=](const std::byte* p, const std::byte* q) { return read_double(p, s) == read_double(q, t); });
}

bool allclose(const Tensor& left, const Tensor& right, const CloseParams& given) {
  defined_pair(left, right, "allclose");
  ScopeGuard guard;
  scope().grad = false, scope().trace = nullptr, scope().monitor = nullptr;
  if (!can_broadcast(left.shape(), right.shape()))
    raise(Error(ErrorCode::shape, "shapes " + to_string(left.shape()) + " and " + to_string(right.shape()) + " do not broadcast")
              .op("allclose")
              .arg("a", to_string(impl(left).spec))
              .arg("b", to_string(impl(right).spec)));
  Tensor a = left, b = right;
  if (!(a.shape() == b.shape())) {
    const Shape s = broadcast(a.shape(), b.shape());
    a = expand(a, s), b = expand(b, s);
  }
  bring_together(a, b);
  const DType s = a.dtype(), t = b.dtype();
  CloseParams tol = tolerance_of(is_inexact(s) ? s : t);
  if (given.rel >= 0) tol.rel = given.rel;
  if (given.abs >= 0) tol.abs = given.abs;
  auto near = [&](double x, double y) {
    if (std::isnan(x) || std::isnan(y)) return given.equal_nan && std::isnan(x) && std::isnan(y);
    if (std::isinf(x) || std::isinf(y)) return x == y;
    return std::fabs(x - y) <= tol.abs + tol.rel * std::fabs(y);
  };
  if (is_complex(s)) {
    const DType part = s == complex64 ? f32 : f64;
    const size_t half = size_of(part);
    return every(a, b, [&](const std::byte* p, const std::byte* q) {
      return near(read_double(p, part), read_double(q, part)) && near(read_double(p + half, part), read_double(q + half, part));
    });
  }
  if (!is_inexact(s) && !is_inexact(t) && tol.rel == 0 && tol.abs == 0)
    return every(a, b, [=](const std::byte* p, const std::byte* q) { return same_integer(p, s, q, t); });
  return every(a, b, [&](const std::byte* p, const std::byte* q) { return near(read_double(p, s), read_double(q, t)); });
}

void detail::refuse_tensor_of(const Tensor& t, DType dtype, int rank) {
  const std::string wanted = std::string("TensorOf<") + name_of(dtype) + ", " + std::to_string(rank) + ">";
  if (!t.defined()) raise(Error(ErrorCode::value, "an empty tensor has neither dtype nor rank").op(wanted).hint("a default-constructed Tensor has no value yet"));
  Error e(t.rank() != rank ? ErrorCode::shape : ErrorCode::dtype,
          t.rank() != rank ? "needs rank " + std::to_string(rank) + ", got " + to_string(impl(t).spec)
                           : std::string("needs dtype ") + name_of(dtype) + ", got " + name_of(t.dtype()));
  e.op(wanted).arg("x", to_string(impl(t).spec));
  if (t.rank() == rank) e.hint(std::string("x.to(") + name_of(dtype) + ") converts");
  else e.hint("flatten, reshape or an integer index changes the rank");
  raise(e);
}

}  // namespace keel
