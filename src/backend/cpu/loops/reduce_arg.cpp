// Where the largest or smallest element is: of a row of floats by blocks, of rows that lie side by side for any dtype.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/reduce_arg.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"

#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

/// The first of n elements that `holds`; one does.
template <class T, class F>
HWY_INLINE int64_t find_first(const T* x, int64_t n, F holds) {
  const Tag<T> d;
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) {
    const auto a = hn::Or(holds(hn::LoadU(d, x + i)), holds(hn::LoadU(d, x + i + N))),
               b = hn::Or(holds(hn::LoadU(d, x + i + 2 * N)), holds(hn::LoadU(d, x + i + 3 * N)));
    if (!hn::AllFalse(d, hn::Or(a, b))) break;
  }
  for (; i + N <= n; i += N)
    if (const intptr_t k = hn::FindFirstTrue(d, holds(hn::LoadU(d, x + i))); k >= 0) return i + k;
  return i + hn::FindFirstTrue(d, hn::And(holds(load_n(d, x + i, size_t(n - i))), hn::FirstN(d, size_t(n - i))));
}

/// Short rows: the extreme, then a search for it.
template <bool largest, class T>
HWY_INLINE int64_t arg_short(const T* x, int64_t n) {
  const T v = reduce_block<std::conditional_t<largest, MaxOf, MinOf>, T>(x, n);
  if (v != v) return find_first(x, n, [](auto e) HWY_ATTR { return is_nan(Tag<T>(), e); });
  const auto wanted = hn::Set(Tag<T>(), v);
  return find_first(x, n, [wanted](auto e) HWY_ATTR { return hn::Eq(e, wanted); });
}
/// Where v is better than `best`, or a NaN, and `best` is not NaN.
template <bool largest, class D>
HWY_INLINE auto beats(Vec<D> v, Vec<D> best) {
  return hn::AndNot(largest ? hn::Le(v, best) : hn::Ge(v, best), hn::Eq(best, best));
}
/// One look: every lane keeps its first extreme and where it was; no branch depends on what is read. `value` receives the extreme.
template <bool largest, class T>
HWY_INLINE int64_t arg_lanes(const T* x, int64_t n, T& value) {
  using D = Tag<T>;
  const D d;
  const IntTag<D> di;
  using Int = Lane<IntTag<D>>;
  constexpr int64_t N = hn::MaxLanes(D()), K = 4, kLine = 64 / int64_t(sizeof(T));
  Vec<D> best[K];
  Vec<IntTag<D>> at[K];
  KEEL_UNROLL for (int k = 0; k < K; ++k) best[k] = hn::LoadU(d, x + k * N), at[k] = hn::Iota(di, Int(k * N));
  const auto step = hn::Set(di, Int(K * N));
  auto here = hn::Add(hn::Iota(di, 0), step);
  const bool near = !follows_streams();
  int64_t i = K * N;
  for (; i + K * N <= n; i += K * N, here = hn::Add(here, step)) {
    for (int64_t k = 0; k < K * N; k += kLine) {
      fetch_far(x + i + k, 8192);
      if (near) fetch_near(x + i + k);
    }
    KEEL_UNROLL for (int k = 0; k < K; ++k) {
      const auto v = hn::LoadU(d, x + i + k * N);
      const auto take = beats<largest, D>(v, best[k]);
      best[k] = hn::IfThenElse(take, v, best[k]);
      at[k] = hn::IfThenElse(hn::RebindMask(di, take), hn::Add(here, hn::Set(di, Int(k * N))), at[k]);
    }
  }
  for (int k = 0; i < n; i += N, ++k) {
    const size_t count = size_t(n - i < N ? n - i : N);
    const auto v = count == size_t(N) ? hn::LoadU(d, x + i) : load_n(d, x + i, count);
    const auto take = hn::And(beats<largest, D>(v, best[k]), hn::FirstN(d, count));
    best[k] = hn::IfThenElse(take, v, best[k]), at[k] = hn::IfThenElse(hn::RebindMask(di, take), hn::Iota(di, Int(i)), at[k]);
  }
  using M = std::conditional_t<largest, MaxOf, MinOf>;
  const T v = fold_lanes<M>(d, M::join(d, M::join(d, best[0], best[1]), M::join(d, best[2], best[3])));
  const auto wanted = hn::Set(d, v);
  auto first = hn::Set(di, Int(n));
  KEEL_UNROLL for (int k = 0; k < K; ++k) {
    const auto is = v == v ? hn::Eq(best[k], wanted) : is_nan(d, best[k]);
    first = hn::Min(first, hn::IfThenElse(hn::RebindMask(di, is), at[k], first));
  }
  HWY_ALIGN Int lane[N];
  hn::Store(first, di, lane);
  Int index = lane[0];
  for (int64_t k = 1; k < N; ++k) index = lane[k] < index ? lane[k] : index;
  value = v;
  return index;
}
template <bool largest, class T>
int64_t arg_float(const T* x, int64_t n) {
  constexpr int64_t kPart = int64_t(1) << 24;  // indices of f32 are as wide as it
  if (n < 8 * int64_t(hn::MaxLanes(Tag<T>()))) return arg_short<largest>(x, n);
  int64_t best = 0;
  T value = x[0];
  for (int64_t i = 0; i < n; i += kPart) {
    const int64_t m = n - i < 2 * kPart ? n - i : kPart;  // none is short
    T v;
    const int64_t at = arg_lanes<largest>(x + i, m, v);
    if (i == 0 || ((largest ? v > value : v < value) | (v != v))) best = i + at, value = v;
    if (v != v || m > kPart) break;
  }
  return best;
}
}  // namespace

template <bool largest, class T>
HWY_INLINE void arg_rows_plain(const T* x, int64_t rows, int64_t stride, int64_t n, int32_t index, T* best, int32_t* at) {
  for (int64_t r = 0; r < rows; ++r, x += stride)
    for (int64_t k = 0; k < n; ++k) {
      const bool take = (largest ? x[k] > best[k] : x[k] < best[k]) | ((x[k] != x[k]) & (best[k] == best[k]));
      best[k] = take ? x[k] : best[k], at[k] = take ? index + int32_t(r) : at[k];
    }
}
template <bool largest, class T>
void arg_rows_of(const void* x_, int64_t rows, int64_t stride, int64_t n, int32_t index, void* best_, int32_t* at) {
  const T* x = static_cast<const T*>(x_);
  T* best = static_cast<T*>(best_);
  int64_t i = 0;
  if constexpr (std::is_same_v<T, float>) {  // indices as wide as elements
    const Tag<T> d;
    const IntTag<Tag<T>> di;
    constexpr int64_t N = hn::MaxLanes(Tag<T>());
    for (int64_t r = 0; r < rows; r += kRowsAtOnce) {
      const int64_t end = rows - r < kRowsAtOnce ? rows : r + kRowsAtOnce;
      for (i = 0; i + N <= n; i += N) {
        if (i * int64_t(sizeof(T)) % 64 == 0) {
          fetch_rows(x, end, stride, i);
          if (stride == n)
            for (int64_t q = r; q < end; ++q) fetch_far(x + q * stride + i, 16 * size_t(stride) * sizeof(T));
        }
        auto b = hn::LoadU(d, best + i);
        auto k = hn::LoadU(di, at + i);
        for (int64_t q = r; q < end; ++q) {
          const auto v = hn::LoadU(d, x + q * stride + i);
          const auto take = beats<largest, Tag<T>>(v, b);
          b = hn::IfThenElse(take, v, b), k = hn::IfThenElse(hn::RebindMask(di, take), hn::Set(di, index + int32_t(q)), k);
        }
        hn::StoreU(b, d, best + i), hn::StoreU(k, di, at + i);
      }
    }
  }
  arg_rows_plain<largest>(x + i, rows, stride, n - i, index, best + i, at + i);
}
template <bool largest>
void arg_rows_any(DType t, const void* x, int64_t rows, int64_t stride, int64_t n, int32_t index, void* best, int32_t* at) {
  switch (t) {
    case DType::f32: return arg_rows_of<largest, float>(x, rows, stride, n, index, best, at);
    case DType::f64: return arg_rows_of<largest, double>(x, rows, stride, n, index, best, at);
    case DType::u16: return arg_rows_of<largest, uint16_t>(x, rows, stride, n, index, best, at);
    case DType::u32: return arg_rows_of<largest, uint32_t>(x, rows, stride, n, index, best, at);
    case DType::u64: return arg_rows_of<largest, uint64_t>(x, rows, stride, n, index, best, at);
    case DType::i8: return arg_rows_of<largest, int8_t>(x, rows, stride, n, index, best, at);
    case DType::i16: return arg_rows_of<largest, int16_t>(x, rows, stride, n, index, best, at);
    case DType::i32: return arg_rows_of<largest, int32_t>(x, rows, stride, n, index, best, at);
    case DType::i64: return arg_rows_of<largest, int64_t>(x, rows, stride, n, index, best, at);
    default: return arg_rows_of<largest, uint8_t>(x, rows, stride, n, index, best, at);
  }
}
void arg_rows_step(bool largest, DType t, const void* x, int64_t rows, int64_t stride, int64_t n, int32_t index, void* best, int32_t* at) {
  largest ? arg_rows_any<true>(t, x, rows, stride, n, index, best, at) : arg_rows_any<false>(t, x, rows, stride, n, index, best, at);
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
KEEL_SIMD_EXPORT(arg_extreme_float);
KEEL_SIMD_EXPORT(arg_rows_step);
int64_t arg_extreme_int(bool largest, DType t, const void* x, int64_t n);

void arg_rows(bool largest, DType t, const void* x, int64_t rows, int64_t stride, int64_t n, int32_t index, void* best, int32_t* at) {
  KEEL_SIMD(arg_rows_step)(largest, t, x, rows, stride, n, index, best, at);
}
int64_t arg_extreme(bool largest, DType t, const void* x, int64_t n) {
  return t == DType::f32 || t == DType::f64 ? KEEL_SIMD(arg_extreme_float)(largest, t, x, n) : arg_extreme_int(largest, t, x, n);
}
}  // namespace keel::cpu
#endif
