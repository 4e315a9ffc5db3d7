// Arithmetic of complex numbers in plain C++, one target: (re, im) pairs. Products by the schoolbook formula, quotients by Smith's scaling
// (R. L. Smith, CACM 5(8), 1962).
#include "backend/cpu/loops/loops.h"

namespace keel::cpu {

UnaryLoop unary_complex_loop(UnaryOp op, DType t);
BinaryLoop binary_complex_loop(BinaryOp op, DType t, BinaryMode mode);

namespace {

template <class T>
struct Complex {
  T re, im;
};
template <class T>
T magnitude(T x) {
  return x < 0 ? -x : x;
}
template <class T>
Complex<T> quotient(Complex<T> a, Complex<T> b) {
  if (magnitude(b.re) >= magnitude(b.im)) {
    if (b.re == 0 && b.im == 0) return {a.re / magnitude(b.re), a.im / magnitude(b.im)};
    const T r = b.im / b.re, d = 1 / (b.re + b.im * r);
    return {(a.re + a.im * r) * d, (a.im - a.re * r) * d};
  }
  const T r = b.re / b.im, d = 1 / (b.re * r + b.im);
  return {(a.re * r + a.im) * d, (a.im * r - a.re) * d};
}

template <class T, BinaryOp op>
void binary(const void* a_, const void* b_, void* y_, int64_t n, const double*) {
  const Complex<T>*a = static_cast<const Complex<T>*>(a_), *b = static_cast<const Complex<T>*>(b_);
  Complex<T>* y = static_cast<Complex<T>*>(y_);
  for (int64_t i = 0; i < n; ++i) {
    const Complex<T> u = a[i], v = b[i];
    if constexpr (op == BinaryOp::add)
      y[i] = {u.re + v.re, u.im + v.im};
    else if constexpr (op == BinaryOp::sub)
      y[i] = {u.re - v.re, u.im - v.im};
    else if constexpr (op == BinaryOp::mul)
      y[i] = {u.re * v.re - u.im * v.im, u.re * v.im + u.im * v.re};
    else
      y[i] = quotient(u, v);
  }
}
template <class T>
void negate(const void* x_, void* y_, int64_t n, const double*) {
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  for (int64_t i = 0; i < 2 * n; ++i) y[i] = -x[i];
}
template <class T>
BinaryLoop find(BinaryOp op) {
  switch (op) {
    case BinaryOp::add: return binary<T, BinaryOp::add>;
    case BinaryOp::sub: return binary<T, BinaryOp::sub>;
    case BinaryOp::mul: return binary<T, BinaryOp::mul>;
    case BinaryOp::div: return binary<T, BinaryOp::div>;
    default: return nullptr;
  }
}
}  // namespace

UnaryLoop unary_complex_loop(UnaryOp op, DType t) {
  if (op != UnaryOp::neg || !is_complex(t)) return nullptr;
  return t == DType::complex64 ? negate<float> : negate<double>;
}
BinaryLoop binary_complex_loop(BinaryOp op, DType t, BinaryMode mode) {
  if (!is_complex(t) || mode != BinaryMode::vv) return nullptr;
  return t == DType::complex64 ? find<float>(op) : find<double>(op);
}

}  // namespace keel::cpu
