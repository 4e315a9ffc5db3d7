// Soft clamp and soft comparisons of f32 and f64 with their gradients. Every function takes exp of a negative number only, so that nothing
// overflows, and slopes are exp(-|z|) / (1 + exp(-|z|))^2, which is exact in both tails where s (1 - s) would round to 0.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/soft.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/fused-inl.h"
#include "backend/cpu/loops/safe.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class D>
HWY_INLINE Vec<D> num(D d, double v) {
  return arg(d, v);
}

/// The side of the middle decides which of two equal forms is taken: that in which nothing cancels. Below: base = lo, u = x - lo, v = x -
/// hi; above: base = hi, u = lo - x, v = hi - x.
template <class D>
struct Sides {
  Vec<D> base, u, v;
  hn::Mask<D> upper;
  HWY_INLINE Sides(D d, Vec<D> x, Vec<D> lo, Vec<D> hi) : upper(hn::Ge(x, hn::Add(hn::Mul(lo, num(d, 0.5)), hn::Mul(hi, num(d, 0.5))))) {
    base = hn::IfThenElse(upper, hi, lo);
    const Vec<D> p = hn::Sub(x, lo), q = hn::Sub(x, hi);
    u = hn::IfThenElse(upper, hn::Neg(p), p), v = hn::IfThenElse(upper, hn::Neg(q), q);
  }
};
template <class D, bool leaks>
struct SoftClampOf {
  static constexpr int kIn = 3, kOut = 1;
  Vec<D> beta, leak;
  HWY_INLINE SoftClampOf(D d, const double* a) : beta(arg(d, a[0])), leak(arg(d, a[1])) {}
  /// log(1 + exp(-beta |z|)) / beta.
  HWY_INLINE Vec<D> rest(D d, Vec<D> z) const {
    return hn::Div(math::log1p_of_share(d, math::exp_bounded(d, hn::Neg(hn::Abs(hn::Mul(beta, z))))), beta);
  }
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const Vec<D> zero = hn::Zero(d);
    const Sides<D> s(d, x[0], x[1], x[2]);
    const Vec<D> ru = rest(d, s.u), rv = rest(d, s.v);
    const Vec<D> su = hn::Add(at_least(d, s.u, zero), ru), sv = hn::Add(at_least(d, s.v, zero), rv);
    // su >= sv below and su <= sv above, but for rounding
    const Vec<D> diff = hn::Sub(su, sv), step = hn::IfThenElse(s.upper, at_most(d, diff, zero), at_least(d, diff, zero));
    Vec<D> f = hn::Add(s.base, step);
    f = at_most(d, at_least(d, f, x[1]), x[2]);
    if constexpr (leaks) {  // softplus(x - hi) - softplus(lo - x), which are sv and softplus(-u) below, softplus(-v) and su above
      const Vec<D> nu = hn::Add(at_least(d, hn::Neg(s.u), zero), ru), nv = hn::Add(at_least(d, hn::Neg(s.v), zero), rv);
      f = hn::Add(f, hn::Mul(leak, hn::Sub(hn::IfThenElse(s.upper, nv, sv), hn::IfThenElse(s.upper, su, nu))));
    }
    y[0] = f;
  }
};
template <class D>
using SoftClamp = SoftClampOf<D, false>;
template <class D>
using SoftClampLeaky = SoftClampOf<D, true>;
template <class T>
void soft_clamp(const void* const* in, void* const* out, int64_t n, const double* a) {
  return a[1] == 0 ? fused<T, SoftClamp>(in, out, n, a) : fused<T, SoftClampLeaky>(in, out, n, a);
}
/// sigmoid(beta (x - lo)) - sigmoid(beta (x - hi)), plus leak (sigmoid(beta (x - hi)) + sigmoid(beta (lo - x))).
template <class D>
struct SoftClampGrad {
  static constexpr int kIn = 4, kOut = 1;
  Vec<D> beta, leak;
  HWY_INLINE SoftClampGrad(D d, const double* a) : beta(arg(d, a[0])), leak(arg(d, a[1])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const Sides<D> s(d, x[1], x[2], x[3]);
    const Vec<D> su = math::sigmoid(d, hn::Mul(beta, s.u)), sv = math::sigmoid(d, hn::Mul(beta, s.v));
    const Vec<D> slope = hn::IfThenElse(s.upper, hn::Sub(sv, su), hn::Sub(su, sv));  // what is outside is 1 - slope
    y[0] = hn::Mul(x[0], hn::Add(slope, hn::Mul(leak, hn::Sub(num(d, 1), slope))));
  }
};

/// What soft_near and its gradient share: the difference d, the tolerance, and z = (tol - d) / T.
template <class D>
struct NearParts {
  Vec<D> rel, abs, temperature;
  bool own, normalized, detach;
  HWY_INLINE NearParts(D d, const double* a)
      : rel(arg(d, a[0])),
        abs(arg(d, a[1])),
        temperature(arg(d, a[2] == 0 ? 1 : a[2])),
        own(a[2] == 0),
        normalized(a[3] != 0),
        detach(a[4] != 0) {}
  struct Parts {
    Vec<D> distance, tol, z, at_zero;  // at_zero: tol / T
    hn::Mask<D> apart, equal;          // one infinity, or two of different sign
  };
  HWY_INLINE Parts parts(D d, Vec<D> a, Vec<D> b) const {
    Parts p;
    const Vec<D> inf = inf_of(d), x = hn::Abs(a), y = hn::Abs(b), size = hn::IfThenElse(hn::Gt(x, y), x, y);
    p.equal = hn::Eq(a, b);
    p.apart = hn::And(hn::Not(p.equal), hn::Or(hn::Eq(x, inf), hn::Eq(y, inf)));
    p.apart = hn::And(p.apart, hn::Not(hn::Or(nan_by_bits(d, a), nan_by_bits(d, b))));
    p.distance = hn::IfThenElse(p.equal, hn::Zero(d), hn::Abs(hn::Sub(a, b)));
    const Vec<D> scaled = hn::Mul(rel, hn::IfThenElse(hn::Eq(size, inf), hn::Zero(d), size));
    p.tol = hn::IfThenElse(hn::Gt(scaled, abs), scaled, abs);
    if (own) {
      const Vec<D> share = hn::Div(p.distance, p.tol);  // 0 / 0 where there is no tolerance and no distance
      p.z = hn::Mul(num(d, 4), hn::Sub(num(d, 1), hn::IfThenElse(hn::Eq(p.distance, hn::Zero(d)), hn::Zero(d), share)));
      p.at_zero = num(d, 4);
    } else {
      p.z = hn::Div(hn::Sub(p.tol, p.distance), temperature), p.at_zero = hn::Div(p.tol, temperature);
    }
    return p;
  }
};
template <class D>
struct SoftNear {
  static constexpr int kIn = 2, kOut = 1;
  NearParts<D> of;
  HWY_INLINE SoftNear(D d, const double* a) : of(d, a) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const auto p = of.parts(d, x[0], x[1]);
    Vec<D> s = math::sigmoid(d, p.z);
    if (of.normalized) s = hn::Div(s, math::sigmoid(d, p.at_zero));
    y[0] = hn::IfThenZeroElse(p.apart, s);
  }
};
/// s' = s (1 - s) / T over the value at equality: -s' is the slope along the distance, and s' (less what the divisor gains) that along the
/// tolerance, which grows with the larger of |a| and |b|; a tie gives half to each.
template <class D>
struct SoftNearGrad {
  static constexpr int kIn = 3, kOut = 2;
  NearParts<D> of;
  HWY_INLINE SoftNearGrad(D d, const double* a) : of(d, a) {}
  HWY_INLINE void operator()(D d, const Vec<D>* in, Vec<D>* y) const {
    const Vec<D> one = num(d, 1), zero = hn::Zero(d), a = in[1], b = in[2], x = hn::Abs(a), w = hn::Abs(b);
    const auto p = of.parts(d, a, b);
    const Vec<D> e = math::exp_bounded(d, hn::Neg(hn::Abs(p.z))), e1 = hn::Add(one, e), bell = hn::Div(hn::Div(e, e1), e1);
    const Vec<D> s = math::sigmoid(d, p.z), n = of.normalized ? math::sigmoid(d, p.at_zero) : one;
    const Vec<D> bent = hn::Div(bell, n);
    const auto none = hn::Le(p.tol, zero);
    Vec<D> along, grown;
    if (of.own) {
      const Vec<D> tol = hn::IfThenElse(none, one, p.tol), steep = hn::Div(hn::Mul(num(d, 4), bent), tol);
      along = hn::IfThenZeroElse(none, steep);
      // 0 where the slope has vanished or nothing lies between a and b: the other factor may be infinite
      const auto still = hn::Or(hn::Eq(bell, zero), hn::Eq(p.distance, zero));
      grown = hn::IfThenZeroElse(hn::Or(none, still), hn::Mul(steep, hn::Div(p.distance, tol)));
    } else {
      along = grown = hn::Div(bent, of.temperature);
      if (of.normalized) {  // s / n loses s n' / n^2 = (s / n) (1 - n) / T
        const Vec<D> m = math::exp_bounded(d, hn::Neg(p.at_zero)), left = hn::Div(m, hn::Add(one, m));
        grown = hn::Sub(grown, hn::Div(hn::Mul(hn::Div(s, n), left), of.temperature));
      }
    }
    const auto flat = hn::Or(hn::Or(p.apart, hn::Eq(x, inf_of(d))), hn::Eq(w, inf_of(d)));
    const Vec<D> step = hn::IfThenElse(hn::Gt(a, b), along, hn::IfThenElseZero(hn::Lt(a, b), hn::Neg(along)));
    Vec<D> ga = hn::Neg(step), gb = step;
    if (!of.detach) {
      const auto scaled = hn::Gt(hn::Mul(of.rel, hn::IfThenElse(hn::Gt(x, w), x, w)), of.abs);
      const Vec<D> rise = hn::IfThenElseZero(scaled, hn::Mul(of.rel, grown)), half = hn::Mul(rise, num(d, 0.5));
      const Vec<D> to_a = hn::IfThenElse(hn::Gt(x, w), rise, hn::IfThenZeroElse(hn::Lt(x, w), half));
      const Vec<D> to_b = hn::IfThenElse(hn::Lt(x, w), rise, hn::IfThenZeroElse(hn::Gt(x, w), half));
      ga = hn::Add(ga, hn::IfThenElse(hn::Lt(a, zero), hn::Neg(to_a), to_a)),
      gb = hn::Add(gb, hn::IfThenElse(hn::Lt(b, zero), hn::Neg(to_b), to_b));
    }
    y[0] = hn::IfThenZeroElse(flat, hn::Mul(in[0], ga)), y[1] = hn::IfThenZeroElse(flat, hn::Mul(in[0], gb));
  }
};

template <class D>
HWY_INLINE Vec<D> difference(D d, Vec<D> a, Vec<D> b) {
  return hn::IfThenElse(hn::Eq(a, b), hn::Zero(d), hn::Sub(a, b));
}
template <class D>
struct SoftCompare {
  static constexpr int kIn = 2, kOut = 1;
  Vec<D> temperature;
  HWY_INLINE SoftCompare(D d, const double* a) : temperature(arg(d, a[0])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    y[0] = math::tanh(d, hn::Div(difference(d, x[0], x[1]), temperature));
  }
};
/// (1 - tanh(u)^2) / T = 4 e / (1 + e)^2 / T with e = exp(-2 |u|).
template <class D>
struct SoftCompareGrad {
  static constexpr int kIn = 3, kOut = 2;
  Vec<D> temperature;
  HWY_INLINE SoftCompareGrad(D d, const double* a) : temperature(arg(d, a[0])) {}
  HWY_INLINE void operator()(D d, const Vec<D>* x, Vec<D>* y) const {
    const Vec<D> one = num(d, 1), u = hn::Div(difference(d, x[1], x[2]), temperature);
    const Vec<D> e = math::exp_bounded(d, hn::Mul(num(d, -2), hn::Abs(u))), e1 = hn::Add(one, e);
    const Vec<D> slope = hn::Div(hn::Mul(num(d, 4), hn::Div(hn::Div(e, e1), e1)), temperature);
    const auto flat = hn::Or(hn::Eq(hn::Abs(x[1]), inf_of(d)), hn::Eq(hn::Abs(x[2]), inf_of(d)));
    const Vec<D> g = hn::IfThenZeroElse(flat, hn::Mul(x[0], slope));
    y[0] = g, y[1] = hn::Neg(g);
  }
};

template <class T>
FusedLoop find(SoftOp op) {
  switch (op) {
    case SoftOp::soft_clamp: return soft_clamp<T>;
    case SoftOp::soft_clamp_grad: return fused<T, SoftClampGrad>;
    case SoftOp::soft_near: return fused<T, SoftNear>;
    case SoftOp::soft_near_grad: return fused<T, SoftNearGrad>;
    case SoftOp::soft_compare: return fused<T, SoftCompare>;
    case SoftOp::soft_compare_grad: return fused<T, SoftCompareGrad>;
  }
  return nullptr;
}
}  // namespace

FusedLoop soft_any(SoftOp op, DType t) { return t == DType::f64 ? find<double>(op) : find<float>(op); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(soft_any);
FusedLoop soft_loop(SoftOp op, DType t) { return KEEL_SIMD(soft_any)(op, t); }
}  // namespace keel::cpu
#endif
