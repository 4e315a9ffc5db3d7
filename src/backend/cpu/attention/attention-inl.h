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
    Tiles<T, false, false>::get(rows, cols > kN ? 2 : 1)(g);
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
template <class T, class O>
void write_rows(const AttentionArgs& a, int result, const T* p, int64_t ld, int64_t rows, int64_t n, void* base, int64_t row) {
  if (n == 0 || rows == 0) return;
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  O* out = static_cast<O*>(base) + row * n;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < n; j += kN) {
      const auto v = hn::LoadU(d, p + i * ld + j);
      n - j >= kN ? store_narrow(d, v, out + i * n + j) : store_some(d, v, out + i * n + j, n - j);
    }
  if (a.watch) a.watch(a.context, result, out, rows * n);
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

// Scores of rows [r0, r1), one stripe, against the first n keys from j0 on: scale q k^T, hidden entries -inf, also those that fill the last
// vector.
template <class T>
void make_scores(const AttentionArgs& a, const AttentionSizes<T>& z, int64_t b, const QueryTile& tile, int64_t r0, int64_t r1, int64_t j0,
                 int64_t n, const T* q, const T* keys, T* scores) {
  using Z = AttentionSizes<T>;
  constexpr T kHidden = -std::numeric_limits<T>::infinity();
  stripe_product<T>(r1 - r0, n, a.d, T(a.scale), q + r0 * z.dp, z.dp, 1, keys, Z::kNr, a.d * Z::kNr, T(0), scores + r0 * Z::kScoreLd,
                    Z::kScoreLd);
  for (int64_t r = r0; r < r1; ++r) {
    T* row = scores + r * Z::kScoreLd;
    const int64_t i = tile.i0 + r % tile.span;
    if (a.mask_kind != MaskKind::none) apply_mask(a, b, tile.head + r / tile.span, i, j0, n, row);
    for (int64_t j = std::clamp<int64_t>(visible(a, i) - j0, 0, n); j < round_up(n, Z::kN); ++j) row[j] = kHidden;
  }
}

// One row of scores to exp(score - top); updates the running maximum and sum; returns the factor of what was summed before.
template <class T>
HWY_INLINE T advance_row(T* score, int64_t n, T& top, T& sum) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  constexpr T kHidden = -std::numeric_limits<T>::infinity();
  auto most = hn::Set(d, top);
  for (int64_t j = 0; j < n; j += kN) most = hn::Max(most, hn::LoadU(d, score + j));
  const T now = hn::GetLane(hn::MaxOfLanes(d, most)), shift = now == kHidden ? T(0) : now;
  const auto by = hn::Set(d, shift);
  auto total = hn::Zero(d);
  for (int64_t j = 0; j < n; j += kN) {
    const auto e = math::exp(d, hn::Sub(hn::LoadU(d, score + j), by));
    hn::StoreU(e, d, score + j);
    total = hn::Add(total, e);
  }
  const T factor = top == kHidden ? T(0) : top == shift ? T(1) : hn::GetLane(math::exp(d, hn::Set(d, top - shift)));
  sum = sum * factor + hn::GetLane(hn::SumOfLanes(d, total)), top = now;
  return factor;
}
template <class T>
HWY_INLINE void scale_row(T* row, int64_t n, T by) {
  const hn::ScalableTag<T> d;
  const auto f = hn::Set(d, by);
  for (int64_t c = 0; c < n; c += AttentionSizes<T>::kN) hn::StoreU(hn::Mul(f, hn::LoadU(d, row + c)), d, row + c);
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
  T *values = keys + held * z.dp + Z::kN, *scores = values + held * z.vp + Z::kN, *q = scores + Z::scores();
  T *sums = q + kQueries * z.dp, *top = sums + kQueries * z.vp, *total = top + kQueries;
  const S *k = head_of<S>(a.k, task.batch, task.kv_head), *v = head_of<S>(a.v, task.batch, task.kv_head);
  if (z.whole) {
    pack_keys<T>(a, k, 0, a.s, keys);
    for (int64_t j = 0; j < a.s; j += kKeys) pack_values<T>(a, v, j, std::min(kKeys, a.s - j), values + j * z.vp);
  }
  for (int64_t n_tile = task.tile0; n_tile < task.tile1; ++n_tile) {
    const QueryTile tile = query_tile(a, task.kv_head, n_tile);
    const int64_t stripes = stripe_count(tile.rows);
    copy_tile<T, S>(a.q, task.batch, tile, a.d, q, z.dp);
    std::fill(top, top + tile.rows, -std::numeric_limits<T>::infinity());
    std::fill(total, total + tile.rows, T(0));
    std::fill(sums, sums + tile.rows * z.vp, T(0));
    const int64_t seen = seen_before(a, tile, tile.rows);
    for (int64_t j0 = 0; j0 < seen; j0 += kKeys) {
      const int64_t n = std::min(kKeys, a.s - j0);
      if (!z.whole) pack_keys<T>(a, k, j0, n, keys), pack_values<T>(a, v, j0, n, values);
      const T *k_tile = z.whole ? keys + j0 * a.d : keys, *v_tile = z.whole ? values + j0 * z.vp : values;
      for (int64_t s = 0; s < stripes; ++s) {
        const int64_t r0 = stripe_at(tile.rows, s), r1 = stripe_at(tile.rows, s + 1), ns = std::min(n, seen_before(a, tile, r1) - j0);
        if (ns <= 0) continue;
        make_scores(a, z, task.batch, tile, r0, r1, j0, ns, q, k_tile, scores);
        for (int64_t i = r0; i < r1; ++i) {
          const T factor = advance_row(scores + i * Z::kScoreLd, ns, top[i], total[i]);
          if (j0 > 0 && factor != T(1)) scale_row(sums + i * z.vp, z.vp, factor);
        }
        stripe_product<T>(r1 - r0, a.dv, ns, T(1), scores + r0 * Z::kScoreLd, Z::kScoreLd, 1, v_tile, Z::kNr, n * Z::kNr, T(1),
                          sums + r0 * z.vp, z.vp);
      }
    }
    const int64_t out = (task.batch * a.heads + tile.head) * a.t + tile.i0;
    for (int64_t i = 0; i < tile.rows; ++i) scale_row(sums + i * z.vp, z.vp, total[i] == T(0) ? T(0) : T(1) / total[i]);
    write_rows<T, S>(a, 0, sums, z.vp, tile.rows, a.dv, a.y, out);
    if (a.lse) {
      T* lse = static_cast<T*>(a.lse) + out;
      for (int64_t i = 0; i < tile.rows; ++i) lse[i] = total[i] == T(0) ? T(0) : top[i] + hn::GetLane(math::log(d, hn::Set(d, total[i])));
      if (a.watch) a.watch(a.context, 1, lse, tile.rows);
    }
  }
}

template <class S, class T>
void attention_backward_task(const AttentionTask& task) {
  using Z = AttentionSizes<T>;
  const hn::ScalableTag<T> d;
  const AttentionArgs& a = *task.args;
  const Z z(a);
  T* keys = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(task.workspace), 64));
  T *key_rows = keys + z.keys(), *dk = key_rows + z.keys(), *values = dk + z.keys(), *dv = values + z.values(), *scores = dv + z.values();
  T *slopes = scores + Z::scores(), *q = slopes + Z::scores(), *dq = q + kQueries * z.dp, *g = dq + kQueries * z.dp,
    *y = g + kQueries * z.vp;
  T *lse = y + kQueries * z.vp, *dot = lse + kQueries;
  const S *k = head_of<S>(a.k, task.batch, task.kv_head), *v = head_of<S>(a.v, task.batch, task.kv_head);
  const int64_t from = task.makes_dq ? 0 : task.key0 * kKeys, to = task.makes_dq ? a.s : std::min(task.key1 * kKeys, a.s);
  pack_keys<T>(a, k, from, to - from, keys + from * a.d);
  if (to > from && a.dv > 0)
    pack_block<T, int(Z::kNr)>(v + from * a.v.stride[2], a.v.stride[3], a.v.stride[2], a.dv, to - from, values + from * a.dv);
  if (task.makes_dq && to > from) copy_rows<T>(k, a.k.stride[2], a.k.stride[3], a.s, a.d, key_rows, z.dp);
  if (task.makes_dkv) std::fill(dk + from * z.dp, dk + to * z.dp, T(0)), std::fill(dv + from * z.vp, dv + to * z.vp, T(0));
  for (int64_t n_tile = task.tile0; n_tile < task.tile1; ++n_tile) {
    const QueryTile tile = query_tile(a, task.kv_head, n_tile);
    const int64_t stripes = stripe_count(tile.rows), out = (task.batch * a.heads + tile.head) * a.t + tile.i0;
    copy_tile<T, S>(a.q, task.batch, tile, a.d, q, z.dp);
    copy_tile<T, S>(a.g, task.batch, tile, a.dv, g, z.vp);
    copy_tile<T, S>(a.y_in, task.batch, tile, a.dv, y, z.vp);
    std::fill(dq, dq + tile.rows * z.dp, T(0));
    for (int64_t i = 0; i < tile.rows; ++i) {
      auto sum = hn::Zero(d);
      for (int64_t c = 0; c < z.vp; c += Z::kN) sum = hn::MulAdd(hn::LoadU(d, g + i * z.vp + c), hn::LoadU(d, y + i * z.vp + c), sum);
      dot[i] = hn::GetLane(hn::SumOfLanes(d, sum)), lse[i] = static_cast<const T*>(a.lse)[out + i];
    }
    const int64_t seen = std::min(seen_before(a, tile, tile.rows), to);
    for (int64_t j0 = from; j0 < seen; j0 += kKeys) {
      const int64_t n = std::min(kKeys, a.s - j0);
      for (int64_t s = 0; s < stripes; ++s) {
        const int64_t r0 = stripe_at(tile.rows, s), r1 = stripe_at(tile.rows, s + 1);
        const int64_t ns = std::clamp<int64_t>(seen_before(a, tile, r1) - j0, 0, n), filled = round_up(ns, Z::kN);
        if (ns > 0) {
          make_scores(a, z, task.batch, tile, r0, r1, j0, ns, q, keys + j0 * a.d, scores);
          stripe_product<T>(r1 - r0, ns, a.dv, T(1), g + r0 * z.vp, z.vp, 1, values + j0 * a.dv, Z::kNr, a.dv * Z::kNr, T(0),
                            slopes + r0 * Z::kScoreLd, Z::kScoreLd);
        }
        const auto scale = hn::Set(d, T(a.scale));
        for (int64_t i = r0; i < r1; ++i) {
          T *p = scores + i * Z::kScoreLd, *ds = slopes + i * Z::kScoreLd;
          const auto shift = hn::Set(d, lse[i]), less = hn::Set(d, dot[i]);
          for (int64_t j = 0; j < filled; j += Z::kN) {
            const auto e = math::exp(d, hn::Sub(hn::LoadU(d, p + j), shift));
            hn::StoreU(e, d, p + j);
            hn::StoreU(hn::Mul(hn::Mul(e, hn::Sub(hn::LoadU(d, ds + j), less)), scale), d, ds + j);
          }
          for (int64_t j = ns; j < n; ++j) p[j] = ds[j] = T(0);
        }
        if (task.makes_dq && ns > 0)
          stripe_product<T>(r1 - r0, a.d, ns, T(1), slopes + r0 * Z::kScoreLd, Z::kScoreLd, 1, key_rows + j0 * z.dp, z.dp, Z::kNr, T(1),
                            dq + r0 * z.dp, z.dp);
      }
      if (!task.makes_dkv) continue;
      for (int64_t s = 0; s < stripe_count(n); ++s) {
        const int64_t c0 = stripe_at(n, s), c1 = stripe_at(n, s + 1), r0 = first_to_see(a, tile, j0 + c0), rows = tile.rows - r0;
        if (rows <= 0) continue;
        stripe_product<T>(c1 - c0, a.dv, rows, T(1), scores + r0 * Z::kScoreLd + c0, 1, Z::kScoreLd, g + r0 * z.vp, z.vp, Z::kNr, T(1),
                          dv + (j0 + c0) * z.vp, z.vp);
        stripe_product<T>(c1 - c0, a.d, rows, T(1), slopes + r0 * Z::kScoreLd + c0, 1, Z::kScoreLd, q + r0 * z.dp, z.dp, Z::kNr, T(1),
                          dk + (j0 + c0) * z.dp, z.dp);
      }
    }
    if (task.makes_dq) write_rows<T, S>(a, 0, dq, z.dp, tile.rows, a.d, a.dq, out);
  }
  if (!task.makes_dkv) return;
  const int64_t row = (task.batch * a.kv_heads + task.kv_head) * a.s + from;
  write_rows<T, S>(a, 1, dk + from * z.dp, z.dp, to - from, a.d, a.dk, row);
  write_rows<T, S>(a, 2, dv + from * z.vp, z.vp, to - from, a.dv, a.dv_out, row);
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
