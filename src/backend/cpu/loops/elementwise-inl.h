// Drivers of the contiguous elementwise loops: full vectors, then one masked tail through the same function. An op is `template <class D>
// struct Op { Op(D, const double* args); V operator()(D, V...) }`.
#if defined(KEEL_CPU_LOOPS_ELEMENTWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_ELEMENTWISE_INL_H_
#undef KEEL_CPU_LOOPS_ELEMENTWISE_INL_H_
#else
#define KEEL_CPU_LOOPS_ELEMENTWISE_INL_H_
#endif

#include "backend/cpu/loops/loops.h"
#include "backend/cpu/loops/math-inl.h"

/// An op without parameters; `expression` uses d and x (and y, z).
#ifndef KEEL_LANES1
#define KEEL_LANES1(Name, expression)                                                         \
  template <class D>                                                                          \
  struct Name {                                                                               \
    HWY_INLINE Name(D, const double*) {}                                                      \
    HWY_INLINE Vec<D> operator()([[maybe_unused]] D d, Vec<D> x) const { return expression; } \
  };
#define KEEL_LANES2(Name, expression)                                                                   \
  template <class D>                                                                                    \
  struct Name {                                                                                         \
    HWY_INLINE Name(D, const double*) {}                                                                \
    HWY_INLINE Vec<D> operator()([[maybe_unused]] D d, Vec<D> x, Vec<D> y) const { return expression; } \
  };
#define KEEL_LANES3(Name, expression)                                                                             \
  template <class D>                                                                                              \
  struct Name {                                                                                                   \
    HWY_INLINE Name(D, const double*) {}                                                                          \
    HWY_INLINE Vec<D> operator()([[maybe_unused]] D d, Vec<D> x, Vec<D> y, Vec<D> z) const { return expression; } \
  };
#endif

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

template <class T, template <class> class Op>
void unary(const void* x_, void* y_, int64_t n, const double* args) {
  const Tag<T> d;
  const Op<Tag<T>> op(d, args);
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(op(d, hn::LoadU(d, x + i)), d, y + i);
  if (i < n) store_n(op(d, load_n(d, x + i, size_t(n - i))), d, y + i, size_t(n - i));
}

template <class T, template <class> class Op, BinaryMode mode>
void binary(const void* a_, const void* b_, void* y_, int64_t n, const double* args) {
  const Tag<T> d;
  const Op<Tag<T>> op(d, args);
  const T *a = static_cast<const T*>(a_), *b = static_cast<const T*>(b_);
  T* y = static_cast<T*>(y_);
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  constexpr bool kA = mode != BinaryMode::sv, kB = mode != BinaryMode::vs;
  const Vec<Tag<T>> a0 = kA ? hn::Zero(d) : hn::Set(d, n ? *a : T(0)), b0 = kB ? hn::Zero(d) : hn::Set(d, n ? *b : T(0));
  int64_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(op(d, kA ? hn::LoadU(d, a + i) : a0, kB ? hn::LoadU(d, b + i) : b0), d, y + i);
  if (const size_t rest = size_t(n - i)) store_n(op(d, kA ? load_n(d, a + i, rest) : a0, kB ? load_n(d, b + i, rest) : b0), d, y + i, rest);
}
template <class T, template <class> class Op>
BinaryLoop binary_of(BinaryMode mode) {
  return mode == BinaryMode::vv   ? binary<T, Op, BinaryMode::vv>
         : mode == BinaryMode::vs ? binary<T, Op, BinaryMode::vs>
                                  : binary<T, Op, BinaryMode::sv>;
}

template <class T, template <class> class Op>
void ternary(const void* a_, const void* b_, const void* c_, void* y_, int64_t n, const double* args) {
  const Tag<T> d;
  const Op<Tag<T>> op(d, args);
  const T *a = static_cast<const T*>(a_), *b = static_cast<const T*>(b_), *c = static_cast<const T*>(c_);
  T* y = static_cast<T*>(y_);
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(op(d, hn::LoadU(d, a + i), hn::LoadU(d, b + i), hn::LoadU(d, c + i)), d, y + i);
  if (const size_t rest = size_t(n - i))
    store_n(op(d, load_n(d, a + i, rest), load_n(d, b + i, rest), load_n(d, c + i, rest)), d, y + i, rest);
}

/// The same for functions that exist lane by lane in plain C++ only; the compiler may vectorise them.
template <class T, class R, class F>
void unary_plain(const void* x_, void* y_, int64_t n, const double*) {
  const T* x = static_cast<const T*>(x_);
  R* y = static_cast<R*>(y_);
  for (int64_t i = 0; i < n; ++i) y[i] = F::call(x[i]);
}
template <class T, class R, class F>
HWY_NOINLINE void binary_plain(const void* a_, const void* b_, void* y_, int64_t n, const double*) {
  const T *a = static_cast<const T*>(a_), *b = static_cast<const T*>(b_);
  R* y = static_cast<R*>(y_);
  for (int64_t i = 0; i < n; ++i) y[i] = F::call(a[i], b[i]);
}
/// One operand is a single element: it is spread over a block in L1, so that there is one loop a function, not three.
template <class T, class R, class F, bool a_is_one>
void binary_plain_spread(const void* a, const void* b, void* y, int64_t n, const double* args) {
  constexpr int64_t kBlock = 2048 / sizeof(T);
  T spread[kBlock];
  if (n == 0) return;
  const T one = *static_cast<const T*>(a_is_one ? a : b);
  for (int64_t i = 0; i < (n < kBlock ? n : kBlock); ++i) spread[i] = one;
  for (int64_t i = 0; i < n; i += kBlock) {
    const void* v = static_cast<const T*>(a_is_one ? b : a) + i;
    binary_plain<T, R, F>(a_is_one ? spread : v, a_is_one ? v : spread, static_cast<R*>(y) + i, n - i < kBlock ? n - i : kBlock, args);
  }
}
template <class T, class R, class F>
BinaryLoop binary_plain_of(BinaryMode mode) {
  return mode == BinaryMode::vv   ? binary_plain<T, R, F>
         : mode == BinaryMode::vs ? binary_plain_spread<T, R, F, false>
                                  : binary_plain_spread<T, R, F, true>;
}

/// x, or the bound that it lies beyond; a NaN stays, and a zero of either sign.
template <class D>
struct Between {
  Vec<D> lo, hi;
  HWY_INLINE Between(D d, const double* a) : lo(hn::Set(d, Lane<D>(a[0]))), hi(hn::Set(d, Lane<D>(a[1]))) {}
  HWY_INLINE Vec<D> operator()(D d, Vec<D> x) const { return at_most(d, at_least(d, x, lo), hi); }
};

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
