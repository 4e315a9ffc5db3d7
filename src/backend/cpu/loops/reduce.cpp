// Reductions of f32 and f64 blocks and columns. See reduce-inl.h for the order.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/reduce.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/reduce-inl.h"

#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

struct MaxAbsOf : MaxOf {
  static constexpr double identity = 0;
  template <class D>
  static HWY_INLINE Vec<D> step(D d, Vec<D> acc, Vec<D> x) {
    return MaxOf::step(d, acc, hn::Abs(x));
  }
};

struct DeviationOf : SumSquareOf {};

template <class M, class T>
void block(const void* x_, int64_t n, [[maybe_unused]] const void* shift_, void* out) {
  const T* x = static_cast<const T*>(x_);
  if constexpr (std::is_same_v<M, DeviationOf>) {
    const Vec<Tag<T>> shift = hn::Set(Tag<T>(), *static_cast<const T*>(shift_));
    *static_cast<T*>(out) = reduce_lanes<M, T>(
        n, [x, shift](int64_t i) HWY_ATTR { return hn::Sub(hn::LoadU(Tag<T>(), x + i), shift); },
        [x, shift](int64_t i, size_t count) HWY_ATTR { return hn::Sub(load_n(Tag<T>(), x + i, count), shift); });
  } else {
    *static_cast<T*>(out) = reduce_block<M, T>(x, n);
  }
}

template <class M, class T>
void columns(const void* x_, int64_t rows, int64_t stride, int64_t width, bool join, [[maybe_unused]] const void* shift_, void* out_) {
  constexpr bool kShift = std::is_same_v<M, DeviationOf>;
  [[maybe_unused]] const T* shift = static_cast<const T*>(shift_);
  const Tag<T> d;
  constexpr int64_t N = hn::MaxLanes(Tag<T>()),
                    K = 64 / int64_t(sizeof(T)) / N > 0 ? 64 / int64_t(sizeof(T)) / N : 1;  // a cache line at a time
  const T* x = static_cast<const T*>(x_);
  T* out = static_cast<T*>(out_);
  int64_t i = 0;
  for (; i + K * N <= width; i += K * N) {
    Vec<Tag<T>> acc[K];
    KEEL_UNROLL for (int64_t k = 0; k < K; ++k) acc[k] = hn::Set(d, T(M::identity));
    for (int64_t r = 0; r < rows; ++r) {
      KEEL_UNROLL for (int64_t k = 0; k < K; ++k) {
        Vec<Tag<T>> v = hn::LoadU(d, x + r * stride + i + k * N);
        if constexpr (kShift) v = hn::Sub(v, hn::LoadU(d, shift + i + k * N));
        acc[k] = M::step(d, acc[k], v);
      }
    }
    KEEL_UNROLL for (int64_t k = 0; k < K; ++k) {
      T* to = out + i + k * N;
      hn::StoreU(join ? M::join(d, hn::LoadU(d, to), acc[k]) : acc[k], d, to);
    }
  }
  for (; i < width; i += N) {
    const size_t n = size_t(width - i < N ? width - i : N);
    const bool whole = n == size_t(N);
    Vec<Tag<T>> acc = hn::Set(d, T(M::identity));
    Vec<Tag<T>> by = hn::Zero(d);
    if constexpr (kShift) by = whole ? hn::LoadU(d, shift + i) : load_n(d, shift + i, n);
    for (int64_t r = 0; r < rows; ++r) {
      Vec<Tag<T>> v = whole ? hn::LoadU(d, x + r * stride + i) : load_n(d, x + r * stride + i, n);
      if constexpr (kShift) v = hn::Sub(v, by);
      acc = M::step(d, acc, v);
    }
    if (join) acc = M::join(d, whole ? hn::LoadU(d, out + i) : load_n(d, out + i, n), acc);
    if (whole)
      hn::StoreU(acc, d, out + i);
    else
      store_n(acc, d, out + i, n);
  }
}

template <class M, class T>
void join(void* a_, const void* b_, int64_t n) {
  T* a = static_cast<T*>(a_);
  const T* b = static_cast<const T*>(b_);
  const Tag<T> d;
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(M::join(d, hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, a + i);
  for (; i < n; ++i) a[i] = M::join(a[i], b[i]);
}

template <class M, class T>
ReduceLoops loops_of() {
  return {block<M, T>, columns<M, T>, join<M, T>};
}
template <class T>
ReduceLoops find(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum: return loops_of<SumOf, T>();
    case ReduceOp::sum_abs: return loops_of<SumAbsOf, T>();
    case ReduceOp::sum_square: return loops_of<SumSquareOf, T>();
    case ReduceOp::sum_deviation: return loops_of<DeviationOf, T>();
    case ReduceOp::prod: return loops_of<ProdOf, T>();
    case ReduceOp::max: return loops_of<MaxOf, T>();
    case ReduceOp::min: return loops_of<MinOf, T>();
    case ReduceOp::max_abs: return loops_of<MaxAbsOf, T>();
    default: return {};
  }
}

/// The first of n elements that `holds`; one does. Fetches what follows the n elements meanwhile.
template <class T, class F>
HWY_INLINE int64_t find_first(const T* x, int64_t n, F holds) {
  const Tag<T> d;
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) {
    for (int64_t k = 0; k < 4 * N; k += 64 / int64_t(sizeof(T)))
      __builtin_prefetch(reinterpret_cast<const void*>(uintptr_t(x + i) + uintptr_t(n + k) * sizeof(T)), 0, 3);
    const auto a = hn::Or(holds(hn::LoadU(d, x + i)), holds(hn::LoadU(d, x + i + N))),
               b = hn::Or(holds(hn::LoadU(d, x + i + 2 * N)), holds(hn::LoadU(d, x + i + 3 * N)));
    if (!hn::AllFalse(d, hn::Or(a, b))) break;
  }
  for (; i + N <= n; i += N)
    if (const intptr_t k = hn::FindFirstTrue(d, holds(hn::LoadU(d, x + i))); k >= 0) return i + k;
  return i + hn::FindFirstTrue(d, hn::And(holds(load_n(d, x + i, size_t(n - i))), hn::FirstN(d, size_t(n - i))));
}

/// Block by block: only a block that beats the best so far is searched.
template <bool largest, class T>
int64_t arg_float(const T* x, int64_t n) {
  int64_t best = 0;
  T value = x[0];
  for (int64_t i = 0; i < n; i += kReduceBlock) {
    const int64_t m = n - i < kReduceBlock ? n - i : kReduceBlock;
    const T v = reduce_block<std::conditional_t<largest, MaxOf, MinOf>, T>(x + i, m);
    if (v != v) return i + find_first(x + i, m, [](auto e) HWY_ATTR { return is_nan(Tag<T>(), e); });
    if (i > 0 && !(largest ? v > value : v < value)) continue;
    value = v;
    const auto wanted = hn::Set(Tag<T>(), v);
    best = i + find_first(x + i, m, [wanted](auto e) HWY_ATTR { return hn::Eq(e, wanted); });
  }
  return best;
}
}  // namespace

ReduceLoops reduce_float(ReduceOp op, DType t) { return t == DType::f32 ? find<float>(op) : find<double>(op); }
template <bool largest, class T>
void arg_row_of(const void* x_, int64_t n, int32_t index, void* best_, int32_t* at) {
  const T* x = static_cast<const T*>(x_);
  T* best = static_cast<T*>(best_);
  for (int64_t k = 0; k < n; ++k) {
    const bool take = (largest ? x[k] > best[k] : x[k] < best[k]) | ((x[k] != x[k]) & (best[k] == best[k]));
    best[k] = take ? x[k] : best[k], at[k] = take ? index : at[k];
  }
}
template <bool largest>
void arg_row_any(DType t, const void* x, int64_t n, int32_t index, void* best, int32_t* at) {
  switch (t) {
    case DType::f32: return arg_row_of<largest, float>(x, n, index, best, at);
    case DType::f64: return arg_row_of<largest, double>(x, n, index, best, at);
    case DType::u16: return arg_row_of<largest, uint16_t>(x, n, index, best, at);
    case DType::u32: return arg_row_of<largest, uint32_t>(x, n, index, best, at);
    case DType::u64: return arg_row_of<largest, uint64_t>(x, n, index, best, at);
    case DType::i8: return arg_row_of<largest, int8_t>(x, n, index, best, at);
    case DType::i16: return arg_row_of<largest, int16_t>(x, n, index, best, at);
    case DType::i32: return arg_row_of<largest, int32_t>(x, n, index, best, at);
    case DType::i64: return arg_row_of<largest, int64_t>(x, n, index, best, at);
    default: return arg_row_of<largest, uint8_t>(x, n, index, best, at);
  }
}
void arg_row_step(bool largest, DType t, const void* x, int64_t n, int32_t index, void* best, int32_t* at) {
  largest ? arg_row_any<true>(t, x, n, index, best, at) : arg_row_any<false>(t, x, n, index, best, at);
}
int64_t arg_extreme_float(bool largest, DType t, const void* x, int64_t n) {
  if (t == DType::f32)
    return largest ? arg_float<true>(static_cast<const float*>(x), n) : arg_float<false>(static_cast<const float*>(x), n);
  return largest ? arg_float<true>(static_cast<const double*>(x), n) : arg_float<false>(static_cast<const double*>(x), n);
}
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(reduce_float);
KEEL_SIMD_EXPORT(arg_extreme_float);
KEEL_SIMD_EXPORT(arg_row_step);
ReduceLoops reduce_int_loops(ReduceOp op, DType t);
int64_t arg_extreme_int(bool largest, DType t, const void* x, int64_t n);

DType reduce_acc(ReduceOp op, DType t) {
  if (op == ReduceOp::any || op == ReduceOp::all) return DType::boolean;
  if (is_inexact(t) || op == ReduceOp::max || op == ReduceOp::min || op == ReduceOp::max_abs) return t;
  return accumulate_dtype(t);
}
ReduceLoops reduce_loops(ReduceOp op, DType t) {
  if ((t == DType::f32 || t == DType::f64) && op != ReduceOp::any && op != ReduceOp::all) return KEEL_SIMD(reduce_float)(op, t);
  return reduce_int_loops(op, t);
}
void arg_row(bool largest, DType t, const void* x, int64_t n, int32_t index, void* best, int32_t* at) {
  KEEL_SIMD(arg_row_step)(largest, t, x, n, index, best, at);
}
int64_t arg_extreme(bool largest, DType t, const void* x, int64_t n) {
  return t == DType::f32 || t == DType::f64 ? KEEL_SIMD(arg_extreme_float)(largest, t, x, n) : arg_extreme_int(largest, t, x, n);
}
}  // namespace keel::cpu
#endif
