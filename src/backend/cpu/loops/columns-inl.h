// Sums of a few functions of every column of some rows, for loops that read them from memory: the rows are met in order, as they lie, with
// the sums of narrow rows in registers and those of wide ones in L1.
#if defined(KEEL_CPU_LOOPS_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_COLUMNS_INL_H_
#undef KEEL_CPU_LOOPS_COLUMNS_INL_H_
#else
#define KEEL_CPU_LOOPS_COLUMNS_INL_H_
#endif

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

/// Columns whose sums are held at a time.
inline constexpr int64_t kColumnTile = 1024;

/// K vectors of columns, the last of `count` elements: out[a][c] = (join ? out[a][c] : 0) + the sum over the rows.
template <int A, int K, class T, class F>
HWY_INLINE void sum_narrow(int64_t rows, size_t count, bool join, T* const (&out)[A], F f) {
  using D = Tag<T>;
  constexpr int64_t N = hn::MaxLanes(D());
  const auto whole = [](const T* p) HWY_ATTR { return hn::LoadU(D(), p); };
  const auto rest = [count](const T* p) HWY_ATTR { return count == size_t(N) ? hn::LoadU(D(), p) : load_n(D(), p, count); };
  Vec<D> v[K][A];
  KEEL_UNROLL for (int k = 0; k < K; ++k) { KEEL_UNROLL for (int a = 0; a < A; ++a) v[k][a] = hn::Zero(D()); }
  for (int64_t r = 0; r < rows; ++r) {
    KEEL_UNROLL for (int k = 0; k < K - 1; ++k) f(r, k * N, whole, v[k]);
    f(r, (K - 1) * N, rest, v[K - 1]);
  }
  KEEL_UNROLL for (int k = 0; k < K; ++k) {
    KEEL_UNROLL for (int a = 0; a < A; ++a) {
      T* to = out[a] + k * N;
      if (k < K - 1 || count == size_t(N))
        hn::StoreU(join ? hn::Add(hn::LoadU(D(), to), v[k][a]) : v[k][a], D(), to);
      else
        store_n(join ? hn::Add(load_n(D(), to, count), v[k][a]) : v[k][a], D(), to, count);
    }
  }
}
/// Columns [from, to) of the tile at c, R rows from `r` on, onto the sums in memory.
template <int A, int R, class T, class F>
HWY_INLINE void sum_wide(int64_t r, int64_t from, int64_t to, T (&acc)[A][kColumnTile], int64_t c, F f) {
  const auto onto = [&](auto begin) HWY_ATTR {
    each<T>(to - from, [&](int64_t at, auto load, auto store) HWY_ATTR {
      const int64_t i = from + at;
      Vec<Tag<T>> v[A];
      KEEL_UNROLL for (int a = 0; a < A; ++a) v[a] = begin(load, acc[a] + i);
      KEEL_UNROLL for (int k = 0; k < R; ++k) f(r + k, c + i, load, v);
      KEEL_UNROLL for (int a = 0; a < A; ++a) store(v[a], acc[a] + i);
    });
  };
  if (r)
    onto([](auto load, const T* at) HWY_ATTR { return load(at); });
  else
    onto([](auto, const T*) HWY_ATTR { return hn::Zero(Tag<T>()); });
}
/// out[a][c] = (join ? out[a][c] : 0) + the sum over the rows, in order. f(r, c, load, v) adds to the A vectors v what the vector at row r
/// and column c gives; load(p) is a whole vector or the masked rest. Rows go `at_once` at a time: kRowsAtOnce or 1.
template <int A, class T, class F>
HWY_INLINE void sum_columns(int64_t rows, int64_t width, bool join, int64_t at_once, T* const (&out)[A], F f) {
  constexpr int64_t N = hn::MaxLanes(Tag<T>());
  if (width <= 4 * N) {
    const size_t count = size_t(width - (width - 1) / N * N);
    switch ((width + N - 1) / N) {
      case 1: return sum_narrow<A, 1>(rows, count, join, out, f);
      case 2: return sum_narrow<A, 2>(rows, count, join, out, f);
      case 3: return sum_narrow<A, 3>(rows, count, join, out, f);
      case 4: return sum_narrow<A, 4>(rows, count, join, out, f);
      default: return;
    }
  }
  alignas(64) T acc[A][kColumnTile];
  for (int64_t c = 0; c < width; c += kColumnTile) {
    const int64_t w = width - c < kColumnTile ? width - c : kColumnTile;
    int64_t r = 0;
    if (at_once == kRowsAtOnce)
      for (; r + kRowsAtOnce <= rows; r += kRowsAtOnce) sum_wide<A, kRowsAtOnce>(r, 0, w, acc, c, f);
    for (; r < rows; ++r) sum_wide<A, 1>(r, 0, w, acc, c, f);
    for (int a = 0; a < A; ++a)
      each<T>(w, [&](int64_t i, auto load, auto store)
                     HWY_ATTR { store(join ? hn::Add(load(out[a] + c + i), load(acc[a] + i)) : load(acc[a] + i), out[a] + c + i); });
  }
}

/// The same for at most kColumnTile columns that come from memory in order, two rows at a time. Before a piece of both, ahead(r, from, to)
/// fetches as many lines that follow: asked for at once they come a tenth quicker than one beside each line that is read.
template <int A, class T, class F, class Ahead>
HWY_INLINE void sum_pairs(int64_t rows, int64_t w, bool join, T* const (&out)[A], F f, Ahead ahead) {
  constexpr int64_t kPiece = 2048 / int64_t(sizeof(T));
  alignas(64) T acc[A][kColumnTile];
  for (int64_t r = 0; r < rows; r += 2)
    for (int64_t from = 0; from < w; from += kPiece) {
      const int64_t to = w - from < kPiece ? w : from + kPiece;
      ahead(r, from, to);
      if (r + 2 <= rows)
        sum_wide<A, 2>(r, from, to, acc, 0, f);
      else
        sum_wide<A, 1>(r, from, to, acc, 0, f);
    }
  for (int a = 0; a < A; ++a)
    each<T>(w, [&](int64_t i, auto load, auto store)
                   HWY_ATTR { store(join ? hn::Add(load(out[a] + i), load(acc[a] + i)) : load(acc[a] + i), out[a] + i); });
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
