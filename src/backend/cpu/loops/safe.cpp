// Safe arithmetic of f32 and f64: division, roots, logarithms and powers with a default, sanitize, clamps, and their gradients. Bound by
// memory but for log and pow (vector polynomials) and base 10 (libm).
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/safe.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/fused-inl.h"
#include "backend/cpu/loops/safe.h"
#include "backend/cpu/loops/power-inl.h"

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

template <class D>
struct NormGrad {
  static constexpr int kIn = 3, kOut = 1;
  HWY_INLINE NormGrad(D, const double*) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto none = hn::Eq(x[2], hn::Zero(d));
    y[0] = hn::IfThenZeroElse(none, hn::Mul(x[0], hn::Div(x[1], hn::IfThenElse(none, arg(d, 1), x[2]))));
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

// x^y and its gradients, of f32 in f64 vectors. There is no power that the program could use where finite arguments give NaN (a negative
// base with a fraction), an infinity (0 with a negative exponent), or what rounds to one, of which `top` is the first number.
template <class F>
HWY_INLINE void each_wide(int64_t n, F f) {
  const WideTag d;
  const NarrowTag df;
  constexpr int64_t N = hn::MaxLanes(WideTag());
  int64_t i = 0;
  for (; i + N <= n; i += N)
    f(
        i, [=](const float* p) HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(df, p)); },
        [=](Vec<WideTag> v, float* p) HWY_ATTR { hn::StoreU(to_f32(df, v), df, p); });
  if (const size_t rest = size_t(n - i))
    f(
        i, [=](const float* p) HWY_ATTR { return hn::PromoteTo(d, load_n(df, p, rest)); },
        [=](Vec<WideTag> v, float* p) HWY_ATTR { store_n(to_f32(df, v), df, p, rest); });
}
HWY_INLINE hn::Mask<WideTag> no_power(Vec<WideTag> x, Vec<WideTag> y, Vec<WideTag> v, Vec<WideTag> top) {
  const WideTag d;
  const Vec<WideTag> rounded = hn::PromoteTo(d, to_f32(NarrowTag(), v));
  return hn::And(hn::And(finite(d, x), finite(d, y)), hn::Not(hn::Lt(hn::Abs(rounded), top)));
}
void pow_f32(const void* const* in, void* const* out, int64_t n, const double* args) {
  const WideTag d;
  const float *x = static_cast<const float*>(in[0]), *y = static_cast<const float*>(in[1]);
  float* z = static_cast<float*>(out[0]);
  const Vec<WideTag> otherwise = hn::Set(d, args[0]), top = hn::Set(d, args[1]);
  each_wide(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
    const Vec<WideTag> a = load(x + i), b = load(y + i), v = WidePow::call(d, a, b);
    store(hn::IfThenElse(no_power(a, b, v, top), otherwise, v), z + i);
  });
}
void pow_grad_f32(const void* const* in, void* const* out, int64_t n, const double* args) {
  const WideTag d;
  const float *g = static_cast<const float*>(in[0]), *x = static_cast<const float*>(in[1]), *y = static_cast<const float*>(in[2]);
  float *dx = static_cast<float*>(out[0]), *dy = static_cast<float*>(out[1]);
  const Vec<WideTag> top = hn::Set(d, args[1]), zero = hn::Zero(d), one = hn::Set(d, 1.0);
  each_wide(n, [&](int64_t i, auto load, auto store) HWY_ATTR {
    const Vec<WideTag> a = load(x + i), b = load(y + i), c = load(g + i), v = WidePow::call(d, a, b);
    const auto dead = no_power(a, b, v, top), still = hn::Or(dead, hn::Eq(b, zero));
    const auto none = hn::Or(dead, hn::Or(hn::Le(a, zero), hn::Eq(a, one)));
    const Vec<WideTag> da = hn::Mul(c, hn::Mul(b, WidePow::call(d, a, hn::Sub(b, one))));
    const Vec<WideTag> db = hn::Mul(c, hn::Mul(v, math::log(d, hn::IfThenElse(none, one, a))));
    store(hn::IfThenZeroElse(still, da), dx + i), store(hn::IfThenZeroElse(none, db), dy + i);
  });
}
// The same of f64.
HWY_INLINE hn::Mask<Tag<double>> no_long_power(Vec<Tag<double>> x, Vec<Tag<double>> y, Vec<Tag<double>> v, Vec<Tag<double>> top) {
  const Tag<double> d;
  return hn::And(hn::And(finite(d, x), finite(d, y)), hn::Not(hn::Lt(hn::Abs(v), top)));
}
template <class D>
struct LongPow {
  static constexpr int kIn = 2, kOut = 1;
  Vec<D> otherwise, top;
  HWY_INLINE LongPow(D d, const double* a) : otherwise(arg(d, a[0])), top(arg(d, a[1])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const Vec<D> v = long_pow(d, x[0], x[1]);
    y[0] = hn::IfThenElse(no_long_power(x[0], x[1], v, top), otherwise, v);
  }
};
template <class D>
struct LongPowGrad {
  static constexpr int kIn = 3, kOut = 2;
  Vec<D> top;
  HWY_INLINE LongPowGrad(D d, const double* a) : top(arg(d, a[1])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const Vec<D> g = x[0], a = x[1], b = x[2], zero = hn::Zero(d), one = arg(d, 1), v = long_pow(d, a, b);
    const auto dead = no_long_power(a, b, v, top), none = hn::Or(dead, hn::Or(hn::Le(a, zero), hn::Eq(a, one)));
    y[0] = hn::IfThenZeroElse(hn::Or(dead, hn::Eq(b, zero)), hn::Mul(g, hn::Mul(b, long_pow(d, a, hn::Sub(b, one)))));
    y[1] = hn::IfThenZeroElse(none, hn::Mul(g, hn::Mul(v, math::log(d, hn::IfThenElse(none, one, a)))));
  }
};

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
    case SafeOp::norm_grad: return fused<T, NormGrad>;
    case SafeOp::pow: return sizeof(T) == 4 ? pow_f32 : fused<double, LongPow>;
    case SafeOp::pow_grad: return sizeof(T) == 4 ? pow_grad_f32 : fused<double, LongPowGrad>;
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
