// See optim.h. One driver takes full vectors, then one masked tail through the same body.
#include "backend/cpu/loops/optim.h"

#include <cmath>

#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/optim.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "backend/cpu/loops/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

template <class T>
using V = hn::Vec<Tag<T>>;

template <class T>
V<T> set(double x) { return hn::Set(Tag<T>(), T(x)); }

template <class T, int kLists>
HWY_INLINE bool all_finite(const V<T>* x, V<T> limit) {
  const Tag<T> d;
  const V<T> inf = hn::Inf(d);
  auto good = hn::Lt(hn::Abs(x[0]), limit);
  for (int k = 2; k < kLists; ++k) good = hn::And(good, hn::Lt(hn::Abs(x[k]), inf));
  return hn::AllTrue(d, good);
}
/// Tells the guard which of the first `count` elements in `x` are not finite though all that they were made of, which is still in memory, was.
template <class T, int kLists>
HWY_NOINLINE void hold(T* const* p, int64_t i, size_t count, V<T>* x, const StepScalars& s) {
  const Tag<T> d;
  const V<T> inf = hn::Inf(d);
  const auto finite = [&](V<T> v, V<T> limit) { return hn::Lt(hn::Abs(v), limit); };
  const auto here = hn::FirstN(d, count);
  V<T> old[kLists];
  auto kept = here, was_good = here;
  for (int k = 0; k < kLists; ++k) {
    old[k] = load_n(d, p[k] + i, count);
    was_good = hn::And(was_good, finite(old[k], inf));
    if (k != 1) kept = hn::And(kept, finite(x[k], k ? inf : set<T>(s.limit)));
  }
  const auto made = hn::AndNot(kept, was_good);
  uint32_t lists = 0;
  for (int k = 0; k < kLists; ++k)
    if (k != 1 && !hn::AllFalse(d, hn::AndNot(finite(x[k], k ? inf : set<T>(s.limit)), made))) lists |= 1u << k;
  if (lists) s.guard->note(s.tensor, int64_t(hn::CountTrue(d, made)), lists);
  for (int k = 0; s.guard->holds && k < kLists; ++k)
    if (k != 1) x[k] = hn::IfThenElse(kept, x[k], old[k]);
}

/// Calls body(x) on the lists' vectors at every place; x[k] may be changed, and all but x[1] are written back.
template <class T, int kLists, class Body>
HWY_INLINE void drive(void* const* list, int64_t n, const StepScalars& s, Body body) {
  const Tag<T> d;
  const bool guarded = s.guard != nullptr;
  const V<T> limit = set<T>(s.limit);
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  T* p[kLists];
  for (int k = 0; k < kLists; ++k) p[k] = static_cast<T*>(list[k]);
  V<T> x[kLists];
  int64_t i = 0;
  for (; i + N <= n; i += N) {
    for (int k = 0; k < kLists; ++k) x[k] = hn::LoadU(d, p[k] + i);
    body(x);
    if (guarded && !all_finite<T, kLists>(x, limit)) [[unlikely]]
      hold<T, kLists>(p, i, size_t(N), x, s);
    for (int k = 0; k < kLists; ++k)
      if (k != 1) hn::StoreU(x[k], d, p[k] + i);
  }
  if (i == n) return;
  const size_t rest = size_t(n - i);
  for (int k = 0; k < kLists; ++k) x[k] = load_n(d, p[k] + i, rest);
  body(x);
  if (guarded && !all_finite<T, kLists>(x, limit)) hold<T, kLists>(p, i, rest, x, s);
  for (int k = 0; k < kLists; ++k)
    if (k != 1) store_n(x[k], d, p[k] + i, rest);
}

/// a + w (b - a), from the nearer end.
template <class T>
struct Lerp {
  V<T> weight;
  bool near_a;
  explicit Lerp(double w) : weight(set<T>(T(w) < T(0.5) ? w : T(1) - T(w))), near_a(T(w) < T(0.5)) {}
  HWY_INLINE V<T> operator()(V<T> a, V<T> b) const {
    const V<T> step = hn::Mul(weight, hn::Sub(b, a));
    return near_a ? hn::Add(a, step) : hn::Sub(b, step);
  }
};

/// The gradient as the rule takes it: turned for maximizing, weight decay added.
template <class T>
struct Gradient {
  V<T> sign, decay;
  bool decays;
  explicit Gradient(const StepScalars& s) : sign(set<T>(s.v[2])), decay(set<T>(s.v[1])), decays(s.decay) {}
  HWY_INLINE V<T> operator()(V<T> p, V<T> g) const {
    g = hn::Mul(g, sign);
    return decays ? hn::Add(g, hn::Mul(decay, p)) : g;
  }
};

template <class T>
void sgd(void* const* list, int64_t n, const StepScalars& s) {
  const Gradient<T> gradient(s);
  const V<T> lr = set<T>(s.v[0]);
  drive<T, 2>(list, n, s, [&](V<T>* x) { x[0] = hn::Add(x[0], hn::Mul(lr, gradient(x[0], x[1]))); });
}
template <class T>
void sgd_momentum(void* const* list, int64_t n, const StepScalars& s) {
  const Gradient<T> gradient(s);
  const V<T> lr = set<T>(s.v[0]), momentum = set<T>(s.v[3]), share = set<T>(s.v[4]);
  const bool first = s.first, nesterov = s.nesterov;
  drive<T, 3>(list, n, s, [&](V<T>* x) {
    V<T> g = gradient(x[0], x[1]);
    x[2] = first ? g : hn::Add(hn::Mul(x[2], momentum), hn::Mul(share, g));
    g = nesterov ? hn::Add(g, hn::Mul(momentum, x[2])) : x[2];
    x[0] = hn::Add(x[0], hn::Mul(lr, g));
  });
}

template <class T, bool kLargest>
void adam(void* const* list, int64_t n, const StepScalars& s) {
  const Gradient<T> gradient(s);
  const Lerp<T> lerp(s.v[3]);
  // m / (sqrt(v) / root + eps), with one division: both sides times root.
  const V<T> step = set<T>(s.v[0] * s.v[6]), eps = set<T>(s.v[7] * s.v[6]);
  const V<T> beta2 = set<T>(s.v[4]), share = set<T>(s.v[5]), shrink = set<T>(s.v[8]);
  drive<T, kLargest ? 5 : 4>(list, n, s, [&](V<T>* x) {
    x[0] = hn::Mul(x[0], shrink);
    const V<T> g = gradient(x[0], x[1]);
    x[2] = lerp(x[2], g);
    x[3] = hn::Add(hn::Mul(x[3], beta2), hn::Mul(hn::Mul(share, g), g));
    V<T> second = x[3];
    if constexpr (kLargest) second = x[4] = hn::IfThenElse(hn::Or(hn::Gt(x[3], x[4]), hn::Ne(x[3], x[3])), x[3], x[4]);  // a NaN moves in and stays
    const V<T> denominator = hn::Add(hn::Sqrt(second), eps);
    x[0] = hn::Add(x[0], hn::Div(hn::Mul(step, x[2]), denominator));
  });
}

template <class T, bool kCentered, bool kMomentum>
void rmsprop(void* const* list, int64_t n, const StepScalars& s) {
  const Gradient<T> gradient(s);
  const Lerp<T> lerp(s.v[4]);
  const V<T> lr = set<T>(s.v[0]), alpha = set<T>(s.v[3]), share = set<T>(s.v[4]), eps = set<T>(s.v[5]), momentum = set<T>(s.v[6]);
  drive<T, 3 + kCentered + kMomentum>(list, n, s, [&](V<T>* x) {
    const V<T> g = gradient(x[0], x[1]);
    x[2] = hn::Add(hn::Mul(x[2], alpha), hn::Mul(hn::Mul(share, g), g));
    V<T> square = x[2];
    if constexpr (kCentered) x[3] = lerp(x[3], g), square = hn::Sub(square, hn::Mul(x[3], x[3])), square = hn::IfThenZeroElse(hn::Lt(square, hn::Zero(Tag<T>())), square);
    const V<T> denominator = hn::Add(hn::Sqrt(square), eps);
    if constexpr (kMomentum) {
      V<T>& buffer = x[3 + kCentered];
      buffer = hn::Add(hn::Mul(buffer, momentum), hn::Div(g, denominator));
      x[0] = hn::Add(x[0], hn::Mul(lr, buffer));
    } else {
      x[0] = hn::Add(x[0], hn::Div(hn::Mul(lr, g), denominator));
    }
  });
}

template <class T>
void ema(void* const* list, int64_t n, const StepScalars& s) {
  const Lerp<T> lerp(s.v[0]);
  drive<T, 2>(list, n, s, [&](V<T>* x) { x[0] = lerp(x[0], x[1]); });
}
template <class T>
void scale(void* const* list, int64_t n, const StepScalars& s) {
  const V<T> factor = set<T>(s.v[0]);
  drive<T, 1>(list, n, s, [&](V<T>* x) { x[0] = hn::Mul(x[0], factor); });
}

template <class T>
StepLoop find(StepRule rule) {
  switch (rule) {
    case StepRule::sgd: return sgd<T>;
    case StepRule::sgd_momentum: return sgd_momentum<T>;
    case StepRule::adam: return adam<T, false>;
    case StepRule::amsgrad: return adam<T, true>;
    case StepRule::rmsprop: return rmsprop<T, false, false>;
    case StepRule::rmsprop_momentum: return rmsprop<T, false, true>;
    case StepRule::rmsprop_centered: return rmsprop<T, true, false>;
    case StepRule::rmsprop_centered_momentum: return rmsprop<T, true, true>;
    case StepRule::ema: return ema<T>;
    case StepRule::scale: return scale<T>;
  }
  return nullptr;
}

constexpr int kSums = 8;

template <class T, class F>
HWY_INLINE double fold(const T* x, int64_t n, F f) {
  double sum[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (int k = 0; k < kSums; ++k) sum[k] = f(sum[k], double(x[i + k]));
  for (int k = 0; i < n; ++i, ++k) sum[k] = f(sum[k], double(x[i]));
  for (int width = kSums / 2; width; width /= 2)
    for (int k = 0; k < width; ++k) sum[k] += sum[k + width];
  return sum[0];
}
template <class T>
double norm_of(NormKind kind, const T* x, int64_t n) {
  if (kind == NormKind::squares) return fold(x, n, [](double s, double v) { return s + v * v; });
  if (kind == NormKind::magnitudes) return fold(x, n, [](double s, double v) { return s + (v < 0 ? -v : v); });
  T largest = 0;
  bool nan = false;
  for (int64_t i = 0; i < n; ++i) {
    const T v = x[i] < 0 ? -x[i] : x[i];
    nan |= v != v;
    largest = v > largest ? v : largest;
  }
  return nan ? NAN : double(largest);
}

}  // namespace

StepLoop find_step(StepRule rule, DType t) { return t == f64 ? find<double>(rule) : find<float>(rule); }
double find_norm(NormKind kind, DType t, const void* x, int64_t n) { return t == f64 ? norm_of(kind, static_cast<const double*>(x), n) : norm_of(kind, static_cast<const float*>(x), n); }

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(find_step);
KEEL_SIMD_EXPORT(find_norm);
StepLoop step_loop(StepRule rule, DType t) { return KEEL_SIMD(find_step)(rule, t); }
double norm_partial(NormKind kind, DType t, const void* x, int64_t n) { return KEEL_SIMD(find_norm)(kind, t, x, n); }
}  // namespace keel::cpu
#endif
