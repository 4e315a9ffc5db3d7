// Attention over one head of keys, once a Highway target. Keys (transposed) and values of the head are packed once into panels; queries go
// by in tiles of 64 rows, keys in tiles of 64. Forward: stripe by stripe the register tiles of the GEMM make scores, rows are exponentiated
// against a running maximum (exact rescaling by exp(old - new)) and multiplied by the values. Backward: probabilities are made again from
// the scores and lse, D = sum(g y) a row, then dV += P^T g, dP = g V^T, dS = P (dP - D) scale, dQ += dS K, dK += dS^T Q, all in cache.
// Tiles and stripes that causality hides are skipped. 16-bit operands are widened as they are copied. (Dao et al., FlashAttention, 2022;
// Rabe and Staats, 2021.)
#if defined(KEEL_ATTENTION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_ATTENTION_INL
#undef KEEL_ATTENTION_INL
#else
#define KEEL_ATTENTION_INL
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "backend/cpu/attention/task.h"
#include "backend/cpu/gemm/epilogue-inl.h"
#include "backend/cpu/gemm/kernel-inl.h"
#include "backend/cpu/gemm/pack-inl.h"
#include "backend/cpu/gemm/task.h"
#include "backend/cpu/loops/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

template <class T>
struct AttentionSizes {
  static constexpr int64_t kN = HWY_LANES(T), kNr = kNv * kN;
  static constexpr int64_t kScoreLd = kKeys + kN;  // odd in vectors, so that rows of a column do not share lines of L1
  int64_t dp, vp, sp;                              // widths and keys, rounded up to panels
  bool whole;                                      // the head's keys and values are packed at once, else a tile at a time
  explicit AttentionSizes(const AttentionArgs& a)
      : dp(round_up(a.d, kNr)), vp(round_up(a.dv, kNr)), sp(round_up(a.s, kKeys)), whole(query_tiles(a) > 1) {}
  // Elements of each part of the workspace.
  int64_t keys() const { return sp * dp + kN; }
  int64_t values() const { return sp * vp + kN; }
  static int64_t scores() { return kQueries * kScoreLd; }
  int64_t forward() const { return (whole ? sp : kKeys) * (dp + vp) + 2 * kN + scores() + kQueries * (dp + vp) + 2 * kQueries + 64; }
  int64_t backward() const { return 3 * keys() + 2 * values() + 2 * scores() + kQueries * (2 * dp + 2 * vp) + 2 * kQueries + 64; }
};

// Rows [r0, r1) of C (n columns) = alpha A B + beta C; A anywhere, B in panels of kNr columns `panel` apart with rows of ldb, which are
// read whole. At most kMr rows.
template <class T>
HWY_INLINE void stripe_product(int64_t rows, int64_t n, int64_t k, T alpha, const T* a, int64_t ars, int64_t acs, const T* b, int64_t ldb,
                               int64_t panel, T beta, T* c, int64_t ldc) {
  constexpr int64_t kNr = AttentionSizes<T>::kNr, kN = AttentionSizes<T>::kN;
  for (int64_t j = 0; j < n; j += kNr) {
    const int64_t cols = std::min(kNr, n - j);
    const TileArgs<T> g{k, a, ars, acs, b + j / kNr * panel, ldb, c + j, ldc, alpha, beta, cols};
    Tiles<T, Rows::strided, false>::get(rows, cols > kN ? 2 : 1)(g);
  }
}
// Stripes of nearly equal height, at most kMr.
HWY_INLINE int64_t stripe_count(int64_t rows) { return (rows + kMr - 1) / kMr; }
HWY_INLINE int64_t stripe_at(int64_t rows, int64_t i) {
  const int64_t n = stripe_count(rows);
  return i * (rows / n) + std::min(i, rows % n);
}

// Empty operands have no memory to point into.
template <class S>
HWY_INLINE const S* head_of(const HeadsView& v, int64_t b, int64_t h, int64_t row = 0) {
  return v.data ? static_cast<const S*>(v.data) + b * v.stride[0] + h * v.stride[1] + row * v.stride[2] : nullptr;
}

// Copies rows [0, rows) of width n into rows of `ld`, widened, zeros behind.
template <class T, class S>
void copy_rows(const S* p, int64_t row_stride, int64_t stride, int64_t rows, int64_t n, T* HWY_RESTRICT out, int64_t ld) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  for (int64_t i = 0; i < rows; ++i) {
    T* to = out + i * ld;
    int64_t j = 0;
    if (n > 0) {
      const S* from = p + i * row_stride;
      if (stride == 1)
        for (; j + kN <= n; j += kN) hn::StoreU(load_wide(d, from + j), d, to + j);
      for (; j < n; ++j) to[j] = T(from[j * stride]);
    }
    for (; j < ld; ++j) to[j] = T(0);
  }
}
// The queries' rows of a tile: q, g or y.
template <class T, class S>
void copy_tile(const HeadsView& v, int64_t b, const QueryTile& q, int64_t n, T* out, int64_t ld) {
  for (int64_t r = 0; r < q.rows; r += q.span)
    copy_rows<T>(head_of<S>(v, b, q.head + r / q.span, q.i0), v.stride[2], v.stride[3], q.span, n, out + r * ld, ld);
}
template <class T>
struct TileRows {
  const T* p;
  int64_t ld;
};
// The same where they lie if they can be read in whole vectors, else copied to `buffer`. Rows a multiple of 4 KiB apart would compete for
// the same lines of L1.
template <class T, class S>
TileRows<T> tile_rows(const HeadsView& v, int64_t b, const QueryTile& q, int64_t n, T* buffer, int64_t ld) {
  if constexpr (std::is_same_v<S, T>)
    if (q.one_head() && v.stride[3] == 1 && n % AttentionSizes<T>::kN == 0 && v.stride[2] * int64_t(sizeof(T)) % 4096 != 0)
      return {head_of<S>(v, b, q.head, q.i0), v.stride[2]};
  copy_tile<T, S>(v, b, q, n, buffer, ld);
  return {buffer, ld};
}
HWY_INLINE int64_t row_step(const HeadsView& v) { return v.data ? v.stride[2] : 0; }
// Where row `row` of a head of a result lies.
template <class T>
HWY_INLINE T* result_row(const HeadsView& v, int64_t b, int64_t h, int64_t row) {
  return const_cast<T*>(head_of<T>(v, b, h, row));
}
// `rows` rows of n to `out`, `step` apart.
template <class T, class O>
void write_rows(const AttentionArgs& a, int result, const T* p, int64_t ld, int64_t rows, int64_t n, O* out, int64_t step) {
  if (n == 0 || rows == 0) return;
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  if (static_cast<const void*>(out) != p)  // else they were made there
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < n; j += kN) {
        const auto v = hn::LoadU(d, p + i * ld + j);
        n - j >= kN ? store_narrow(d, v, out + i * step + j) : store_some(d, v, out + i * step + j, n - j);
      }
  if (a.watch) a.watch(a.context, result, out, rows, n, step);
}
// The queries' rows of a tile of a result.
template <class T, class O>
void write_tile(const AttentionArgs& a, int result, const HeadsView& to, int64_t b, const QueryTile& q, const T* p, int64_t ld, int64_t n) {
  for (int64_t r = 0; r < q.rows; r += q.span)
    write_rows<T, O>(a, result, p + r * ld, ld, q.span, n, result_row<O>(to, b, q.head + r / q.span, q.i0), to.stride[2]);
}

template <class T, class M>
void add_mask_row(const M* m, int64_t stride, int64_t n, T* score) {
  if (stride == 1)
    for (int64_t j = 0; j < n; ++j) score[j] += T(m[j]);
  else
    for (int64_t j = 0; j < n; ++j) score[j] += T(m[j * stride]);
}
// The mask on the scores of query i against keys [j0, j0 + n).
template <class T>
void apply_mask(const AttentionArgs& a, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n, T* score) {
  constexpr T kHidden = -std::numeric_limits<T>::infinity();
  const int64_t st = a.mask.stride[3], at = b * a.mask.stride[0] + h * a.mask.stride[1] + i * a.mask.stride[2] + j0 * st;
  switch (a.mask_kind) {
    case MaskKind::none: break;
    case MaskKind::boolean: {
      const uint8_t* m = static_cast<const uint8_t*>(a.mask.data) + at;
      if (st == 1)
        for (int64_t j = 0; j < n; ++j) score[j] = m[j] ? score[j] : kHidden;
      else
        for (int64_t j = 0; j < n; ++j) score[j] = m[j * st] ? score[j] : kHidden;
      break;
    }
    case MaskKind::f32: add_mask_row(static_cast<const float*>(a.mask.data) + at, st, n, score); break;
    case MaskKind::f64: add_mask_row(static_cast<const double*>(a.mask.data) + at, st, n, score); break;
    case MaskKind::bf16: add_mask_row(static_cast<const bfloat16*>(a.mask.data) + at, st, n, score); break;
    case MaskKind::f16: add_mask_row(static_cast<const float16*>(a.mask.data) + at, st, n, score); break;
  }
}

// Keys that query i sees at most.
HWY_INLINE int64_t visible(const AttentionArgs& a, int64_t i) { return a.causal ? std::clamp<int64_t>(i + 1 + a.s - a.t, 0, a.s) : a.s; }
// Keys that any of the tile's rows before r1 sees, and the first row that sees key j.
HWY_INLINE int64_t seen_before(const AttentionArgs& a, const QueryTile& q, int64_t r1) {
  return visible(a, q.i0 + (q.one_head() ? r1 : q.span) - 1);
}
HWY_INLINE int64_t first_to_see(const AttentionArgs& a, const QueryTile& q, int64_t j) {
  return a.causal && q.one_head() ? std::clamp<int64_t>(j - (a.s - a.t) - q.i0, 0, q.rows) : 0;
}

// Scores of rows [r0, r1), one stripe, against the first n keys from j0 on: scale q k^T + mask. What causality hides is left in; rows are
// cut by `visible_in`.
template <class T>
void make_scores(const AttentionArgs& a, int64_t b, const QueryTile& tile, int64_t r0, int64_t r1, int64_t j0, int64_t n,
                 const TileRows<T>& q, const T* keys, T* scores) {
  using Z = AttentionSizes<T>;
  stripe_product<T>(r1 - r0, n, a.d, T(a.scale), q.p + r0 * q.ld, q.ld, 1, keys, Z::kNr, a.d * Z::kNr, T(0), scores + r0 * Z::kScoreLd,
                    Z::kScoreLd);
  if (a.mask_kind == MaskKind::none) return;
  for (int64_t r = r0; r < r1; ++r) apply_mask(a, b, tile.head + r / tile.span, tile.i0 + r % tile.span, j0, n, scores + r * Z::kScoreLd);
}
// Of n keys from j0 on, those that row r of the tile sees.
HWY_INLINE int64_t visible_in(const AttentionArgs& a, const QueryTile& tile, int64_t r, int64_t j0, int64_t n) {
  return a.causal ? std::clamp<int64_t>(visible(a, tile.i0 + (tile.one_head() ? r : r % tile.span)) - j0, 0, n) : n;
}
template <class T>
HWY_INLINE void clear_row(T* row, int64_t n) {
  if (n > 0) std::fill(row, row + n, T(0));
}
template <class T>
HWY_INLINE void scale_row(T* row, int64_t n, T by) {
  const hn::ScalableTag<T> d;
  const auto f = hn::Set(d, by);
  for (int64_t c = 0; c < n; c += AttentionSizes<T>::kN) hn::StoreU(hn::Mul(f, hn::LoadU(d, row + c)), d, row + c);
}

// A vector of a row of scores of which the first n count, maybe none. All rows of a stripe take the same steps, so that no branch depends
// on a row's length; and whole vectors are read and blended, since the stores of the product are not yet in L1.
template <bool kCut, class D, class T>
HWY_INLINE hn::Vec<D> load_scores(D d, const T* p, int64_t n) {
  const auto v = hn::LoadU(d, p);
  if constexpr (!kCut) return v;
  return hn::IfThenElse(hn::FirstN(d, size_t(std::max<int64_t>(n, 0))), v, hn::Set(d, -std::numeric_limits<T>::infinity()));
}

// R rows of n scores, of which the first seen[r] count, to exp(score - top), 0 behind; updates the running maxima and sums. `factor`
// receives the factors of what was summed before. Rows go together to hide the latency of each one's two reductions.
template <bool kCut, int R, class T>
HWY_INLINE void advance_group(T* score, const int64_t* seen, int64_t n, T* top, T* sum, T* factor) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kN = HWY_LANES(T), kLd = AttentionSizes<T>::kScoreLd;
  constexpr T kHidden = -std::numeric_limits<T>::infinity();
  V most[R], total[R], by[R];
  T now[R], shift[R];
  KEEL_UNROLL
  for (int r = 0; r < R; ++r) most[r] = hn::Set(d, top[r]), total[r] = hn::Zero(d);
  for (int64_t j = 0; j < n; j += kN) {
    KEEL_UNROLL
    for (int r = 0; r < R; ++r) most[r] = hn::Max(most[r], load_scores<kCut>(d, score + r * kLd + j, seen[r] - j));
  }
  KEEL_UNROLL
  for (int r = 0; r < R; ++r) {
    now[r] = hn::GetLane(hn::MaxOfLanes(d, most[r]));
    shift[r] = now[r] == kHidden ? T(0) : now[r];
    by[r] = hn::Set(d, shift[r]);
  }
  for (int64_t j = 0; j < n; j += kN) {
    KEEL_UNROLL
    for (int r = 0; r < R; ++r) {
      const V e = math::exp(d, hn::Sub(load_scores<kCut>(d, score + r * kLd + j, seen[r] - j), by[r]));
      hn::StoreU(e, d, score + r * kLd + j);
      total[r] = hn::Add(total[r], e);
    }
  }
  KEEL_UNROLL
  for (int r = 0; r < R; ++r) {
    factor[r] = top[r] == kHidden ? T(0) : top[r] == shift[r] ? T(1) : hn::GetLane(math::exp(d, hn::Set(d, top[r] - shift[r])));
    sum[r] = sum[r] * factor[r] + hn::GetLane(hn::SumOfLanes(d, total[r])), top[r] = now[r];
  }
}
template <bool kCut, class T>
HWY_NOINLINE void advance_rows(const AttentionArgs& a, const QueryTile& tile, int64_t r0, int64_t r1, int64_t j0, int64_t n, T* scores,
                               T* top, T* total, T* sums, int64_t ld, int64_t width) {
  constexpr int kGroup = HWY_LANES(T) > 4 ? 4 : 1;
  int64_t seen[kGroup] = {};
  T factor[kGroup];
  for (int64_t i = r0; i < r1;) {
    const int64_t rows = r1 - i >= kGroup ? kGroup : 1;
    if (kCut)
      for (int64_t r = 0; r < rows; ++r) seen[r] = visible_in(a, tile, i + r, j0, n);
    T* s = scores + i * AttentionSizes<T>::kScoreLd;
    rows > 1 ? advance_group<kCut, kGroup>(s, seen, n, top + i, total + i, factor)
             : advance_group<kCut, 1>(s, seen, n, top + i, total + i, factor);
    for (int64_t r = 0; j0 > 0 && r < rows; ++r)
      if (factor[r] != T(1)) scale_row(sums + (i + r) * ld, width, factor[r]);
    i += rows;
  }
}
// Of a row's scores p and products g v in ds: the probabilities, and the slopes of the scores before scaling q k; 0 where nothing is seen.
template <bool kCut, class T>
HWY_NOINLINE void slope_rows(const AttentionArgs& a, const QueryTile& tile, int64_t r0, int64_t r1, int64_t j0, int64_t n, T* scores,
                             T* slopes, const T* lse, const T* dot) {
  using Z = AttentionSizes<T>;
  const hn::ScalableTag<T> d;
  const auto scale = hn::Set(d, T(a.scale));
  for (int64_t i = r0; i < r1; ++i) {
    T *p = scores + i * Z::kScoreLd, *ds = slopes + i * Z::kScoreLd;
    const auto shift = hn::Set(d, lse[i]), less = hn::Set(d, dot[i]);
    const int64_t seen = kCut ? visible_in(a, tile, i, j0, n) : n;
    for (int64_t j = 0; j < n; j += Z::kN) {
      const auto e = math::exp(d, hn::Sub(load_scores<kCut>(d, p + j, seen - j), shift));
      const auto slope = hn::Mul(hn::Mul(e, hn::Sub(hn::LoadU(d, ds + j), less)), scale);
      hn::StoreU(e, d, p + j);
      // Behind `seen` there may be memory that no product wrote.
      hn::StoreU(kCut ? hn::IfThenElseZero(hn::FirstN(d, size_t(std::max<int64_t>(seen - j, 0))), slope) : slope, d, ds + j);
    }
  }
}

// Keys from j0 on as panels [key panel][d][kNr], values as [panel][key][kNr].
template <class T, class S>
void pack_keys(const AttentionArgs& a, const S* k, int64_t j0, int64_t n, T* out) {
  if (n > 0 && a.d > 0) pack_block<T, int(AttentionSizes<T>::kNr)>(k + j0 * a.k.stride[2], a.k.stride[3], a.k.stride[2], a.d, n, out);
}
template <class T, class S>
void pack_values(const AttentionArgs& a, const S* v, int64_t j0, int64_t n, T* out) {
  if (n > 0 && a.dv > 0) pack_block<T, int(AttentionSizes<T>::kNr)>(v + j0 * a.v.stride[2], a.v.stride[2], a.v.stride[3], n, a.dv, out);
}

template <class S, class T>
void attention_forward_task(const AttentionTask& task) {
  using Z = AttentionSizes<T>;
  const hn::ScalableTag<T> d;
  const AttentionArgs& a = *task.args;
  const Z z(a);
  const int64_t held = z.whole ? z.sp : kKeys;
  T* keys = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(task.workspace), 64));
  T *values = keys + held * z.dp + Z::kN, *scores = values + held * z.vp + Z::kN, *q_buffer = scores + Z::scores();
  T *buffer = q_buffer + kQueries * z.dp, *top = buffer + kQueries * z.vp, *total = top + kQueries;
  const S *k = head_of<S>(a.k, task.batch, task.kv_head), *v = head_of<S>(a.v, task.batch, task.kv_head);
  if (z.whole) {
    pack_keys<T>(a, k, 0, a.s, keys);
    for (int64_t j = 0; j < a.s; j += kKeys) pack_values<T>(a, v, j, std::min(kKeys, a.s - j), values + j * z.vp);
  }
  for (int64_t n_tile = task.tile0; n_tile < task.tile1; ++n_tile) {
    const QueryTile tile = query_tile(a, task.kv_head, n_tile);
    const int64_t stripes = stripe_count(tile.rows), out = (task.batch * a.heads + tile.head) * a.t + tile.i0;
    const TileRows<T> q = tile_rows<T, S>(a.q, task.batch, tile, a.d, q_buffer, z.dp);
    const bool in_place = std::is_same_v<S, T> && a.dv % Z::kN == 0 && tile.one_head();
    T* const sums = in_place ? result_row<T>(a.y, task.batch, tile.head, tile.i0) : buffer;
    const int64_t ld = in_place ? row_step(a.y) : z.vp;
    const auto clear = [&](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; ++i) std::fill(sums + i * ld, sums + i * ld + (in_place ? a.dv : ld), T(0));
    };
    std::fill(top, top + kQueries, -std::numeric_limits<T>::infinity());
    std::fill(total, total + kQueries, T(0));
    const int64_t seen = seen_before(a, tile, tile.rows);
    if (seen <= 0) clear(0, tile.rows);
    for (int64_t j0 = 0; j0 < seen; j0 += kKeys) {
      const int64_t n = std::min(kKeys, a.s - j0);
      if (!z.whole) pack_keys<T>(a, k, j0, n, keys), pack_values<T>(a, v, j0, n, values);
      const T *k_tile = z.whole ? keys + j0 * a.d : keys, *v_tile = z.whole ? values + j0 * z.vp : values;
      for (int64_t s = 0; s < stripes; ++s) {
        const int64_t r0 = stripe_at(tile.rows, s), r1 = stripe_at(tile.rows, s + 1), ns = std::min(n, seen_before(a, tile, r1) - j0);
        if (ns <= 0) {
          if (j0 == 0) clear(r0, r1);
          continue;
        }
        make_scores(a, task.batch, tile, r0, r1, j0, ns, q, k_tile, scores);
        const bool cut = ns % Z::kN != 0 || visible_in(a, tile, r0, j0, ns) < ns || !tile.one_head();
        (cut ? advance_rows<true, T> : advance_rows<false, T>)(a, tile, r0, r1, j0, ns, scores, top, total, sums, ld, in_place ? a.dv : ld);
        stripe_product<T>(r1 - r0, a.dv, ns, T(1), scores + r0 * Z::kScoreLd, Z::kScoreLd, 1, v_tile, Z::kNr, n * Z::kNr, T(j0 > 0),
                          sums + r0 * ld, ld);
      }
    }
    for (int64_t i = 0; i < tile.rows; i += Z::kN) {
      const auto sum = hn::LoadU(d, total + i), one = hn::Set(d, T(1));
      const auto none = hn::Eq(sum, hn::Zero(d));
      if (a.lse) {
        const auto lse = hn::IfThenZeroElse(none, hn::Add(hn::LoadU(d, top + i), math::log(d, sum)));
        store_some(d, lse, static_cast<T*>(a.lse) + out + i, std::min(Z::kN, tile.rows - i));
      }
      hn::StoreU(hn::IfThenZeroElse(none, hn::Div(one, sum)), d, total + i);
    }
    for (int64_t i = 0; i < tile.rows; ++i) scale_row(sums + i * ld, in_place ? a.dv : ld, total[i]);
    write_tile<T, S>(a, 0, a.y, task.batch, tile, sums, ld, a.dv);
    if (a.lse && a.watch) a.watch(a.context, 1, static_cast<T*>(a.lse) + out, 1, tile.rows, tile.rows);
  }
}

template <class S, class T>
void attention_backward_task(const AttentionTask& task) {
  using Z = AttentionSizes<T>;
  const hn::ScalableTag<T> d;
  const AttentionArgs& a = *task.args;
  const Z z(a);
  constexpr bool kInPlace = std::is_same_v<S, T>;
  T* keys = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(task.workspace), 64));
  T *key_rows = keys + z.keys(), *dk = key_rows + z.keys(), *values = dk + z.keys(), *dv = values + z.values(), *scores = dv + z.values();
  T *slopes = scores + Z::scores(), *q_buffer = slopes + Z::scores(), *dq_buffer = q_buffer + kQueries * z.dp;
  T *g_buffer = dq_buffer + kQueries * z.dp, *y_buffer = g_buffer + kQueries * z.vp, *lse = y_buffer + kQueries * z.vp,
    *dot = lse + kQueries;
  const S *k = head_of<S>(a.k, task.batch, task.kv_head), *v = head_of<S>(a.v, task.batch, task.kv_head);
  const int64_t from = task.makes_dq ? 0 : task.key0 * kKeys, to = task.makes_dq ? a.s : std::min(task.key1 * kKeys, a.s);
  const int64_t dk_ld = kInPlace ? row_step(a.dk) : z.dp, dv_ld = kInPlace ? row_step(a.dv_out) : z.vp;
  if (kInPlace) dk = result_row<T>(a.dk, task.batch, task.kv_head, 0), dv = result_row<T>(a.dv_out, task.batch, task.kv_head, 0);
  pack_keys<T>(a, k, from, to - from, keys + from * a.d);
  if (to > from && a.dv > 0)
    pack_block<T, int(Z::kNr)>(v + from * a.v.stride[2], a.v.stride[3], a.v.stride[2], a.dv, to - from, values + from * a.dv);
  TileRows<T> k_rows{key_rows, z.dp};
  if (task.makes_dq && to > from) k_rows = tile_rows<T, S>(a.k, task.batch, {task.kv_head, 0, a.s, a.s}, a.d, key_rows, z.dp);
  const auto clear = [&](int64_t lo, int64_t hi) {
    for (int64_t j = lo; j < hi; ++j) clear_row(dk + j * dk_ld, kInPlace ? a.d : z.dp), clear_row(dv + j * dv_ld, kInPlace ? a.dv : z.vp);
  };
  if (task.makes_dkv && task.tile0 == task.tile1) clear(from, to);
  for (int64_t n_tile = task.tile0; n_tile < task.tile1; ++n_tile) {
    const QueryTile tile = query_tile(a, task.kv_head, n_tile);
    const int64_t stripes = stripe_count(tile.rows), out = (task.batch * a.heads + tile.head) * a.t + tile.i0;
    const TileRows<T> q = tile_rows<T, S>(a.q, task.batch, tile, a.d, q_buffer, z.dp);
    const TileRows<T> g = tile_rows<T, S>(a.g, task.batch, tile, a.dv, g_buffer, z.vp);
    const TileRows<T> y = tile_rows<T, S>(a.y_in, task.batch, tile, a.dv, y_buffer, z.vp);
    const bool dq_in_place = kInPlace && task.makes_dq && tile.one_head();
    T* const dq = dq_in_place ? result_row<T>(a.dq, task.batch, tile.head, tile.i0) : dq_buffer;
    const int64_t dq_ld = dq_in_place ? row_step(a.dq) : z.dp;
    const auto clear_dq = [&](int64_t lo, int64_t hi) {
      for (int64_t i = lo; i < hi; ++i) clear_row(dq + i * dq_ld, dq_in_place ? a.d : z.dp);
    };
    for (int64_t i = 0; i < tile.rows; ++i) {
      auto sum = hn::Zero(d);
      for (int64_t c = 0; c < a.dv; c += Z::kN) sum = hn::MulAdd(hn::LoadU(d, g.p + i * g.ld + c), hn::LoadU(d, y.p + i * y.ld + c), sum);
      dot[i] = hn::GetLane(hn::SumOfLanes(d, sum)), lse[i] = static_cast<const T*>(a.lse)[out + i];
    }
    const int64_t seen = std::min(seen_before(a, tile, tile.rows), to);
    if (task.makes_dq && seen <= from) clear_dq(0, tile.rows);
    if (task.makes_dkv && n_tile == task.tile0) clear(std::min(to, from + round_up(std::max<int64_t>(seen - from, 0), kKeys)), to);
    for (int64_t j0 = from; j0 < seen; j0 += kKeys) {
      const int64_t n = std::min(kKeys, a.s - j0);
      for (int64_t s = 0; s < stripes; ++s) {
        const int64_t r0 = stripe_at(tile.rows, s), r1 = stripe_at(tile.rows, s + 1);
        const int64_t ns = std::clamp<int64_t>(seen_before(a, tile, r1) - j0, 0, n);
        if (ns > 0) {
          make_scores(a, task.batch, tile, r0, r1, j0, ns, q, keys + j0 * a.d, scores);
          stripe_product<T>(r1 - r0, ns, a.dv, T(1), g.p + r0 * g.ld, g.ld, 1, values + j0 * a.dv, Z::kNr, a.dv * Z::kNr, T(0),
                            slopes + r0 * Z::kScoreLd, Z::kScoreLd);
        }
        const bool cut = ns % Z::kN != 0 || visible_in(a, tile, r0, j0, ns) < ns || !tile.one_head();
        (cut ? slope_rows<true, T> : slope_rows<false, T>)(a, tile, r0, r1, j0, ns, scores, slopes, lse, dot);
        for (int64_t i = r0; i < r1; ++i)  // keys that later rows see
          for (int64_t j = round_up(ns, Z::kN); j < n; j += Z::kN)
            hn::StoreU(hn::Zero(d), d, scores + i * Z::kScoreLd + j), hn::StoreU(hn::Zero(d), d, slopes + i * Z::kScoreLd + j);
        if (!task.makes_dq) continue;
        if (ns > 0)
          stripe_product<T>(r1 - r0, a.d, ns, T(1), slopes + r0 * Z::kScoreLd, Z::kScoreLd, 1, k_rows.p + j0 * k_rows.ld, k_rows.ld, Z::kNr,
                            T(j0 > 0), dq + r0 * dq_ld, dq_ld);
        else if (j0 == 0)
          clear_dq(r0, r1);
      }
      if (!task.makes_dkv) continue;
      const T beta = n_tile == task.tile0 ? T(0) : T(1);
      for (int64_t s = 0; s < stripe_count(n); ++s) {
        const int64_t c0 = stripe_at(n, s), c1 = stripe_at(n, s + 1), r0 = first_to_see(a, tile, j0 + c0), rows = tile.rows - r0;
        if (rows <= 0) {
          if (beta == T(0)) clear(j0 + c0, j0 + c1);
          continue;
        }
        stripe_product<T>(c1 - c0, a.dv, rows, T(1), scores + r0 * Z::kScoreLd + c0, 1, Z::kScoreLd, g.p + r0 * g.ld, g.ld, Z::kNr, beta,
                          dv + (j0 + c0) * dv_ld, dv_ld);
        stripe_product<T>(c1 - c0, a.d, rows, T(1), slopes + r0 * Z::kScoreLd + c0, 1, Z::kScoreLd, q.p + r0 * q.ld, q.ld, Z::kNr, beta,
                          dk + (j0 + c0) * dk_ld, dk_ld);
      }
    }
    if (task.makes_dq) write_tile<T, S>(a, 0, a.dq, task.batch, tile, dq, dq_ld, a.d);
  }
  if (!task.makes_dkv) return;
  write_rows<T, S>(a, 1, dk + from * dk_ld, dk_ld, to - from, a.d, result_row<S>(a.dk, task.batch, task.kv_head, from), a.dk.stride[2]);
  write_rows<T, S>(a, 2, dv + from * dv_ld, dv_ld, to - from, a.dv, result_row<S>(a.dv_out, task.batch, task.kv_head, from),
                   a.dv_out.stride[2]);
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
