#pragma once
// What the indexing kernels share: reading and checking index arrays, and walking an indexed operand beside a plain one.
#include <atomic>
#include <cstring>

#include "backend/kernel.h"
#include "keel/parallel.h"
#include "op/index_shape.h"

namespace keel::cpu {

/// Visits the elements [lo, hi) of `shape`, row-major, as runs along its last axis: f(k, n, offsets), the run's first element, its length,
/// and the offset of each of the N operands there.
template <int N, class F>
void walk_runs(const Shape& shape, const Strides* const (&strides)[N], int64_t lo, int64_t hi, F&& f) {
  if (lo >= hi) return;
  const int last = shape.rank() - 1;
  int64_t at[kMaxRank] = {}, off[N] = {}, rest = lo;
  for (int i = last; i >= 0; --i) {
    at[i] = rest % shape[i], rest /= shape[i];
    for (int k = 0; k < N; ++k) off[k] += at[i] * (*strides[k])[i];
  }
  const int64_t width = last < 0 ? 1 : shape[last];
  for (int64_t k = lo; k < hi;) {
    const int64_t left = last < 0 ? 1 : width - at[last], n = left < hi - k ? left : hi - k;
    f(k, n, static_cast<const int64_t*>(off));
    k += n;
    if (k >= hi) return;
    // Only a whole run gets here: back to the row's begin, then one step of the axes above.
    for (int j = 0; j < N; ++j) off[j] -= at[last] * (*strides[j])[last];
    at[last] = 0;
    for (int i = last - 1; i >= 0; --i) {
      for (int j = 0; j < N; ++j) off[j] += (*strides[j])[i];
      if (++at[i] < shape[i]) break;
      for (int j = 0; j < N; ++j) off[j] -= at[i] * (*strides[j])[i];
      at[i] = 0;
    }
  }
}

/// The first position, in row-major order, whose index was bad; safe from several threads and the same at any number of them.
struct FirstBad {
  std::atomic<int64_t> at{INT64_MAX};
  void note(int64_t k) {
    for (int64_t old = at.load(std::memory_order_relaxed); k < old && !at.compare_exchange_weak(old, k, std::memory_order_relaxed);) {}
  }
  bool found() const { return at.load(std::memory_order_relaxed) != INT64_MAX; }
};

/// Calls f with the index type of `v`: int32_t{} or int64_t{}.
template <class F>
void with_index_type(const TensorView& v, F&& f) {
  if (v.dtype == i32)
    f(int32_t{});
  else
    f(int64_t{});
}

/// The element of `v` at row-major position `k` of the broadcast shape `b`.
inline int64_t index_at(const TensorView& v, const Shape& b, int64_t k) {
  int64_t off = 0;
  for (int i = b.rank() - 1; i >= 0; --i) {
    const int j = i - (b.rank() - v.rank());
    if (j >= 0 && v.dim(j) != 1) off += (k % b[i]) * v.stride(j);
    k /= b[i];
  }
  return v.dtype == i32 ? v.ptr<int32_t>()[off] : v.ptr<int64_t>()[off];
}

/// The broadcast shape of index arrays that infer has found to broadcast.
inline Shape broadcast_views(const TensorView* v, int n) {
  Shape b;
  for (int i = 0; i < n; ++i) {
    while (b.rank() < v[i].rank()) b.insert(0, 1);
    for (int k = 1; k <= v[i].rank(); ++k)
      if (v[i].dim(v[i].rank() - k) != 1) b[-k] = v[i].dim(v[i].rank() - k);
  }
  return b;
}
/// Strides of `v` broadcast to `b`.
inline Strides broadcast_strides(const TensorView& v, const Shape& b) {
  Strides s;
  s.resize(b.rank());
  for (int i = 1; i <= v.rank(); ++i) s[-i] = v.dim(v.rank() - i) == 1 ? 0 : v.stride(v.rank() - i);
  return s;
}

/// offsets[k] = sum over arrays of index * step, for every position k of the broadcast arrays; negative entries count from the end.
inline KernelStatus index_offsets(const TensorView* arrays, int n, const int64_t* extent, const int64_t* step, const int* axis,
                                  const Shape& b, int64_t* offsets) {
  const int64_t count = b.numel();
  for (int a = 0; a < n; ++a) {
    const TensorView& v = arrays[a];
    const Strides st = broadcast_strides(v, b);
    const Strides* const all[1] = {&st};
    FirstBad bad;
    with_index_type(v, [&](auto tag) {
      using I = decltype(tag);
      const int64_t inner = b.rank() ? st[-1] : 0, size = extent[a], by = step[a];
      parallel_for(0, count, 1 << 14, [&](int64_t lo, int64_t hi) {
        walk_runs(b, all, lo, hi, [&](int64_t k, int64_t m, const int64_t* off) {
          const I* p = v.ptr<I>() + off[0];
          bool wrong = false;
          for (int64_t i = 0; i < m; ++i) {
            int64_t x = p[i * inner];
            x += x < 0 ? size : 0;
            wrong |= uint64_t(x) >= uint64_t(size);
            offsets[k + i] = (a ? offsets[k + i] : 0) + x * by;
          }
          if (!wrong) return;
          for (int64_t i = 0; i < m; ++i)
            if (const int64_t x = p[i * inner]; x < -size || x >= size) return bad.note(k + i);
        });
      });
    });
    if (bad.found()) return KernelStatus::index_on(axis[a], index_at(v, b, bad.at), extent[a]);
  }
  return {};
}

/// An indexed operand p beside a plain one q of shape [outer..., arrays..., inner...]: p's element lies at an outer offset plus offsets[b]
/// plus an inner offset.
struct IndexWalk {
  struct Dim {
    int64_t n, p, q;
  };
  Dim outer[kMaxRank], inner[kMaxRank];
  int n_outer = 0, n_inner = 0;
  int64_t outer_count = 1, count = 0, rows = 1;  // rows: inner runs under one index
  int64_t run = 1, run_p = 1, run_q = 1;         // the innermost run
  int64_t* offsets = nullptr;                    // of p, one an index
  const int64_t* q_offsets = nullptr;            // of q; null where they are evenly spaced by q_step
  int64_t q_step = 0;

  static size_t workspace(int64_t count) { return size_t(count) * 16; }

  /// `x`: shape and strides of the indexed operand. `q`: strides of the plain one for the result's shape, 0 where it broadcasts. `space`
  /// has `workspace(count)` bytes.
  KernelStatus prepare(const IndexShape& s, const TensorView& x, const TensorView* arrays, const Shape& b, const Strides& q, void* space) {
    count = b.numel(), offsets = static_cast<int64_t*>(space);
    int64_t extent[kMaxRank], step[kMaxRank];
    for (int a = 0; a < s.n; ++a) extent[a] = x.dim(s.axis[a]), step[a] = x.stride(s.axis[a]);
    if (KernelStatus st = index_offsets(arrays, s.n, extent, step, s.axis, b, offsets); st.code) return st;
    int seen = 0, at = 0;
    for (int i = 0; i <= x.rank(); ++i) {
      if (seen == s.at) at += b.rank(), seen = -1;
      if (i == x.rank() || s.indexed[i]) continue;
      const Dim d{x.dim(i), x.stride(i), q[at++]};
      if (seen >= 0)
        add(outer, n_outer, d), outer_count *= d.n, ++seen;
      else
        add(inner, n_inner, d);
    }
    if (n_inner > 0) run = inner[n_inner - 1].n, run_p = inner[n_inner - 1].p, run_q = inner[n_inner - 1].q, --n_inner;
    for (int i = 0; i < n_inner; ++i) rows *= inner[i].n;
    place_q(b, q, s.at);
    return {};
  }
  bool empty() const { return outer_count == 0 || count == 0 || rows == 0 || run == 0; }
  int64_t q_at(int64_t b) const { return q_offsets ? q_offsets[b] : b * q_step; }

  static void offset_of(const Dim* d, int n, int64_t k, int64_t& p, int64_t& q) {
    for (int i = n - 1; i >= 0; --i) p += k % d[i].n * d[i].p, q += k % d[i].n * d[i].q, k /= d[i].n;
  }

  /// Calls f(p, q, n, step_p, step_q) on runs, for outer positions [o0, o1), indices [b0, b1), where `filtered` only those whose offset
  /// lies in [p0, p1), and the part [r0, r1) of the innermost run.
  template <bool filtered, class F>
  void each(int64_t o0, int64_t o1, int64_t b0, int64_t b1, int64_t r0, int64_t r1, F&& f, int64_t p0 = 0, int64_t p1 = 0) const {
    for (int64_t o = o0; o < o1; ++o) {
      int64_t po = 0, qo = 0;
      offset_of(outer, n_outer, o, po, qo);
      if (rows == 1 && r1 - r0 == 1 && !q_offsets) {
        po += r0 * run_p, qo += r0 * run_q;
        for (int64_t b = b0; b < b1; ++b)
          if (!filtered || (offsets[b] >= p0 && offsets[b] < p1)) f(po + offsets[b], qo + b * q_step, int64_t(1), int64_t(1), int64_t(1));
        continue;
      }
      for (int64_t b = b0; b < b1; ++b) {
        if (filtered && (offsets[b] < p0 || offsets[b] >= p1)) continue;
        const int64_t pb = po + offsets[b], qb = qo + q_at(b);
        for (int64_t k = 0; k < rows; ++k) {
          int64_t p = pb, q = qb;
          offset_of(inner, n_inner, k, p, q);
          f(p + r0 * run_p, q + r0 * run_q, r1 - r0, run_p, run_q);
        }
      }
    }
  }

  /// All of it in parallel, in any order: for reading.
  template <class F>
  void run_any_order(F&& f) const {
    const int64_t row = rows * run, total = outer_count * count;
    if (empty()) return;
    if (total < 2 * num_threads() && rows == 1) {  // few long runs
      for (int64_t t = 0; t < total; ++t)
        parallel_for(0, run, 1 << 14,
                     [&](int64_t lo, int64_t hi) { each<false>(t / count, t / count + 1, t % count, t % count + 1, lo, hi, f); });
      return;
    }
    parallel_for(0, total, 1 + (1 << 14) / row, [&](int64_t lo, int64_t hi) {
      for (int64_t t = lo; t < hi;) {
        const int64_t o = t / count, b0 = t % count, b1 = b0 + (hi - t) < count ? b0 + (hi - t) : count;
        each<false>(o, o + 1, b0, b1, 0, run, f);
        t += b1 - b0;
      }
    });
  }
  /// All of it in parallel, every element of p in the order of the indices: for writing. Threads own disjoint parts of p: outer positions,
  /// columns of the run, or ranges of offsets.
  template <class F>
  void run_in_order(F&& f) const {
    if (empty()) return;
    const int64_t work = outer_count * count * rows * run, threads = num_threads();
    if (threads == 1 || work < (1 << 14)) return each<false>(0, outer_count, 0, count, 0, run, f);
    if (outer_count >= 4 * threads) {
      parallel_for(0, outer_count, 1 + (1 << 14) / (count * rows * run),
                   [&](int64_t lo, int64_t hi) { each<false>(lo, hi, 0, count, 0, run, f); });
    } else if (run >= 64 * threads) {
      parallel_for(0, run, 64, [&](int64_t lo, int64_t hi) { each<false>(0, outer_count, 0, count, lo, hi, f); });
    } else {
      int64_t least = INT64_MAX, most = INT64_MIN;
      for (int64_t b = 0; b < count; ++b) least = offsets[b] < least ? offsets[b] : least, most = offsets[b] > most ? offsets[b] : most;
      const int64_t span = most - least + 1, part = (span + threads - 1) / threads;
      parallel_for(0, threads, 1, [&](int64_t lo, int64_t hi) {
        for (int64_t t = lo; t < hi; ++t) each<true>(0, outer_count, 0, count, 0, run, f, least + t * part, least + (t + 1) * part);
      });
    }
  }

 private:
  static void add(Dim* d, int& n, const Dim& x) {
    if (x.n == 1) return;
    if (n && d[n - 1].p == x.p * x.n && d[n - 1].q == x.q * x.n)
      d[n - 1] = {d[n - 1].n * x.n, x.p, x.q};
    else
      d[n++] = x;
  }
  void place_q(const Shape& b, const Strides& q, int at) {
    Dim d[kMaxRank];
    int n = 0;
    for (int i = 0; i < b.rank(); ++i) add(d, n, {b[i], 0, q[at + i]});
    if (n <= 1) {
      q_step = n ? d[0].q : 0;
      return;
    }
    int64_t* to = offsets + count;
    for (int64_t k = 0; k < count; ++k) {
      int64_t p = 0, o = 0;
      offset_of(d, n, k, p, o);
      to[k] = o;
    }
    q_offsets = to;
  }
};

}  // namespace keel::cpu
