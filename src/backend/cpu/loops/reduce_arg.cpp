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
        if (stride > n && i * int64_t(sizeof(T)) % 64 == 0) fetch_rows(x, end, stride, i);
        auto b = hn::LoadU(d, best + i);
        auto k = hn::LoadU(di, at + i);
        for (int64_t q = r; q < end; ++q) {
          const auto v = hn::LoadU(d, x + q * stride + i);
          const auto take = hn::AndNot(largest ? hn::Le(v, b) : hn::Ge(v, b), hn::Eq(b, b));  // better or NaN, and the best is not NaN
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
