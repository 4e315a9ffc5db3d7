// Safe arithmetic of f32 and f64: division, roots, logarithms and powers with a default, sanitize, clamps, and their gradients. Bound by memory
// but for log (vector polynomial) and pow and base 10 (libm).
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/safe.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/fused-inl.h"
#include "backend/cpu/loops/safe.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

/// a / b where b is no zero; `over` where a finite quotient lies beyond `top`.
template <class D>
struct Quotient {
  Vec<D> tol, top;
  HWY_INLINE Quotient(D d, const double* a) : tol(arg(d, a[1])), top(arg(d, a[2])) {}
};
template <class D, int operands>
struct DivSafe {
  static constexpr int kIn = operands, kOut = 1;
  Vec<D> otherwise;
  Quotient<D> by;
  HWY_INLINE DivSafe(D d, const double* a) : otherwise(arg(d, a[0])), by(d, a) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = within(d, x[1], by.tol);
    const Vec<D> q = hn::Div(x[0], hn::IfThenElse(bad, arg(d, 1), x[1]));
    const auto over = hn::And(hn::Gt(hn::Abs(q), by.top), finite(d, x[0]));
    y[0] = hn::IfThenElse(bad, kIn == 3 ? x[kIn - 1] : otherwise, hn::IfThenElse(over, hn::CopySign(by.top, q), q));
  }
};
template <class D>
using Div = DivSafe<D, 2>;
template <class D>
using DivFilled = DivSafe<D, 3>;
/// g / b and -(g / b) (a / b): b is never squared, which would overflow or vanish. Where one factor is 0 and the other overflowed, 0.
template <class D>
struct DivGrad {
  static constexpr int kIn = 3, kOut = 2;
  Quotient<D> by;
  HWY_INLINE DivGrad(D d, const double* a) : by(d, a) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = within(d, x[2], by.tol);
    const Vec<D> b = hn::IfThenElse(bad, arg(d, 1), x[2]), ga = hn::Div(x[0], b), q = hn::Div(x[1], b), p = hn::Mul(ga, q);
    const auto dead = hn::Or(bad, hn::And(hn::Gt(hn::Abs(q), by.top), finite(d, x[1])));
    const auto clash = hn::And(nan_by_bits(d, p), hn::Not(hn::Or(nan_by_bits(d, ga), nan_by_bits(d, q))));
    y[0] = hn::IfThenZeroElse(dead, ga);
    y[1] = hn::IfThenZeroElse(hn::Or(dead, clash), hn::Neg(p));
  }
};

template <class D>
struct Sanitize {
  static constexpr int kIn = 1, kOut = 1;
  Vec<D> nan, inf, neginf;
  HWY_INLINE Sanitize(D d, const double* a) : nan(arg(d, a[0])), inf(arg(d, a[1])), neginf(arg(d, a[2])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const Vec<D> odd = hn::IfThenElse(nan_by_bits(d, x[0]), nan, hn::IfThenElse(hn::Lt(x[0], hn::Zero(d)), neginf, inf));
    y[0] = hn::IfThenElse(finite(d, x[0]), x[0], odd);
  }
};
template <class D>
struct FiniteGrad {
  static constexpr int kIn = 2, kOut = 1;
  HWY_INLINE FiniteGrad(D, const double*) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const { y[0] = hn::IfThenElseZero(finite(d, x[1]), x[0]); }
};
template <class D>
struct ClampToZero {
  static constexpr int kIn = 1, kOut = 1;
  Vec<D> tol;
  HWY_INLINE ClampToZero(D d, const double* a) : tol(arg(d, a[0])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    y[0] = hn::IfThenZeroElse(hn::And(within(d, x[0], tol), finite(d, x[0])), x[0]);
  }
};
template <class D>
struct OutsideGrad {
  static constexpr int kIn = 2, kOut = 1;
  Vec<D> tol;
  HWY_INLINE OutsideGrad(D d, const double* a) : tol(arg(d, a[0])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    y[0] = hn::IfThenZeroElse(hn::And(within(d, x[1], tol), finite(d, x[1])), x[0]);
  }
};
template <class D>
struct ClampGrad {
  static constexpr int kIn = 4, kOut = 1;
  Vec<D> share;
  HWY_INLINE ClampGrad(D d, const double* a) : share(arg(d, a[0])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const Vec<D> part = hn::IfThenElseZero(hn::Ne(share, hn::Zero(d)), hn::Mul(x[0], share));
    const auto closed = hn::And(hn::Ge(x[1], x[2]), hn::Le(x[1], x[3]));
    const auto edge = hn::Or(hn::Eq(x[1], x[2]), hn::Eq(x[1], x[3]));
    y[0] = hn::IfThenElseZero(closed, hn::IfThenElse(edge, part, x[0]));
  }
};

template <class D>
struct Sqrt {
  static constexpr int kIn = 1, kOut = 1;
  Vec<D> otherwise;
  HWY_INLINE Sqrt(D d, const double* a) : otherwise(arg(d, a[0])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = hn::Lt(x[0], hn::Zero(d));
    y[0] = hn::IfThenElse(bad, otherwise, hn::Sqrt(hn::IfThenElse(bad, arg(d, 1), x[0])));
  }
};
template <class D>
struct SqrtGrad {
  static constexpr int kIn = 2, kOut = 1;
  HWY_INLINE SqrtGrad(D, const double*) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = hn::Le(x[1], hn::Zero(d));
    const Vec<D> root = hn::Sqrt(hn::IfThenElse(bad, arg(d, 1), x[1]));
    y[0] = hn::IfThenZeroElse(bad, hn::Div(hn::Mul(x[0], arg(d, 0.5)), root));
  }
};
template <class D>
struct Rsqrt {
  static constexpr int kIn = 1, kOut = 1;
  Vec<D> otherwise;
  HWY_INLINE Rsqrt(D d, const double* a) : otherwise(arg(d, a[0])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = hn::Le(x[0], hn::Zero(d));
    y[0] = hn::IfThenElse(bad, otherwise, hn::Div(arg(d, 1), hn::Sqrt(hn::IfThenElse(bad, arg(d, 1), x[0]))));
  }
};
template <class D>
struct RsqrtGrad {
  static constexpr int kIn = 2, kOut = 1;
  HWY_INLINE RsqrtGrad(D, const double*) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = hn::Le(x[1], hn::Zero(d));
    const Vec<D> v = hn::IfThenElse(bad, arg(d, 1), x[1]);
    y[0] = hn::IfThenZeroElse(bad, hn::Div(hn::Div(hn::Mul(x[0], arg(d, -0.5)), hn::Sqrt(v)), v));
  }
};

enum class Base { e, two, ten, other };
template <class D, Base base>
struct LogOf {
  static constexpr int kIn = 1, kOut = 1;
  Vec<D> otherwise, by;
  HWY_INLINE LogOf(D d, const double* a) : otherwise(arg(d, a[0])), by(arg(d, base == Base::other ? std::log(a[1]) : 1)) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = hn::Le(x[0], hn::Zero(d));
    const Vec<D> v = hn::IfThenElse(bad, arg(d, 1), x[0]);
    Vec<D> l;
    if constexpr (base == Base::two)
      l = math::log2(d, v);
    else if constexpr (base == Base::ten)
      l = per_lane(d, v, [](double one) { return std::log10(one); });
    else
      l = math::log(d, v);
    if constexpr (base == Base::other) l = hn::Div(l, by);
    y[0] = hn::IfThenElse(bad, otherwise, l);
  }
};
template <class D>
using LogE = LogOf<D, Base::e>;
template <class D>
using Log2 = LogOf<D, Base::two>;
template <class D>
using Log10 = LogOf<D, Base::ten>;
template <class D>
using LogAny = LogOf<D, Base::other>;
template <class T>
void log_by_base(const void* const* in, void* const* out, int64_t n, const double* a) {
  if (a[1] == 2) return fused<T, Log2>(in, out, n, a);
  if (a[1] == 10) return fused<T, Log10>(in, out, n, a);
  if (a[2] == 1) return fused<T, LogE>(in, out, n, a);
  fused<T, LogAny>(in, out, n, a);
}
template <class D>
struct LogGrad {
  static constexpr int kIn = 2, kOut = 1;
  Vec<D> by;
  HWY_INLINE LogGrad(D d, const double* a) : by(arg(d, a[2])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto bad = hn::Le(x[1], hn::Zero(d));
    y[0] = hn::IfThenZeroElse(bad, hn::Mul(hn::Div(x[0], hn::IfThenElse(bad, arg(d, 1), x[1])), by));
  }
};

/// Whether x^y, which rounds to v, has no value that the program could use: a negative base with a fraction, 0 with a negative exponent, or an
/// overflow, which `top` is the first number of.
HWY_INLINE bool no_power(double x, double y, double v, double top) {
  if (!std::isfinite(x) || !std::isfinite(y)) return false;
  return (x == 0 && y < 0) || (x < 0 && y != std::nearbyint(y)) || std::fabs(v) >= top;
}
template <class T>
void pow_plain(const void* const* in, void* const* out, int64_t n, const double* args) {
  const T *x = static_cast<const T*>(in[0]), *y = static_cast<const T*>(in[1]);
  T* z = static_cast<T*>(out[0]);
  for (int64_t i = 0; i < n; ++i) {
    const double v = std::pow(double(x[i]), double(y[i]));
    z[i] = T(no_power(double(x[i]), double(y[i]), double(T(v)), args[1]) ? args[0] : v);
  }
}
template <class T>
void pow_grad_plain(const void* const* in, void* const* out, int64_t n, const double* args) {
  const T *g = static_cast<const T*>(in[0]), *x = static_cast<const T*>(in[1]), *y = static_cast<const T*>(in[2]);
  T *dx = static_cast<T*>(out[0]), *dy = static_cast<T*>(out[1]);
  for (int64_t i = 0; i < n; ++i) {
    const double a = double(x[i]), b = double(y[i]), v = std::pow(a, b);
    const bool dead = no_power(a, b, double(T(v)), args[1]);
    dx[i] = dead || b == 0 ? T(0) : T(double(g[i]) * (b * std::pow(a, b - 1)));
    dy[i] = dead || a <= 0 || a == 1 ? T(0) : T(double(g[i]) * (v * std::log(a)));
  }
}

template <class T>
FusedLoop find(SafeOp op) {
  switch (op) {
    case SafeOp::div: return fused<T, Div>;
    case SafeOp::div_filled: return fused<T, DivFilled>;
    case SafeOp::div_grad: return fused<T, DivGrad>;
    case SafeOp::sanitize: return fused<T, Sanitize>;
    case SafeOp::finite_grad: return fused<T, FiniteGrad>;
    case SafeOp::clamp_to_zero: return fused<T, ClampToZero>;
    case SafeOp::outside_grad: return fused<T, OutsideGrad>;
    case SafeOp::clamp_grad: return fused<T, ClampGrad>;
    case SafeOp::sqrt: return fused<T, Sqrt>;
    case SafeOp::sqrt_grad: return fused<T, SqrtGrad>;
    case SafeOp::rsqrt: return fused<T, Rsqrt>;
    case SafeOp::rsqrt_grad: return fused<T, RsqrtGrad>;
    case SafeOp::log: return log_by_base<T>;
    case SafeOp::log_grad: return fused<T, LogGrad>;
    case SafeOp::pow: return pow_plain<T>;
    case SafeOp::pow_grad: return pow_grad_plain<T>;
  }
  return nullptr;
}
}  // namespace

FusedLoop safe_any(SafeOp op, DType t) { return t == DType::f64 ? find<double>(op) : find<float>(op); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(safe_any);
FusedLoop safe_loop(SafeOp op, DType t) { return KEEL_SIMD(safe_any)(op, t); }
}  // namespace keel::cpu
#endif
