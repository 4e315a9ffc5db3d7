// Reductions of one contiguous block in a fixed order that no instruction set changes: element i goes to lane i % W (W = 64 for f32, 32 for
// f64); a lane adds 16 elements, then these sums; lanes are halved onto each other at the end. The error grows with 16 + n / (16 W) + log2
// W roundings at most, and blocks are combined pairwise by the caller.
#if defined(KEEL_CPU_LOOPS_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_REDUCE_INL_H_
#undef KEEL_CPU_LOOPS_REDUCE_INL_H_
#else
#define KEEL_CPU_LOOPS_REDUCE_INL_H_
#endif

#include "backend/cpu/loops/fetch.h"
#include "backend/cpu/loops/math-inl.h"
#include "backend/cpu/loops/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

template <class T>
inline constexpr int kReduceLanes = 256 / int(sizeof(T));

// A monoid: identity, step (takes an element in), join (two partial results).
struct SumOf {
  static constexpr double identity = 0;
  template <class D>
  static HWY_INLINE Vec<D> step(D, Vec<D> acc, Vec<D> x) {
    return hn::Add(acc, x);
  }
  template <class D>
  static HWY_INLINE Vec<D> join(D, Vec<D> a, Vec<D> b) {
    return hn::Add(a, b);
  }
  template <class T>
  static HWY_INLINE T join(T a, T b) {
    return a + b;
  }
};
struct SumAbsOf : SumOf {
  template <class D>
  static HWY_INLINE Vec<D> step(D, Vec<D> acc, Vec<D> x) {
    return hn::Add(acc, hn::Abs(x));
  }
};
struct SumSquareOf : SumOf {
  template <class D>
  static HWY_INLINE Vec<D> step(D d, Vec<D> acc, Vec<D> x) {
    return fma(d, x, x, acc);
  }
};
struct ProdOf {
  static constexpr double identity = 1;
  template <class D>
  static HWY_INLINE Vec<D> step(D, Vec<D> acc, Vec<D> x) {
    return hn::Mul(acc, x);
  }
  template <class D>
  static HWY_INLINE Vec<D> join(D, Vec<D> a, Vec<D> b) {
    return hn::Mul(a, b);
  }
  template <class T>
  static HWY_INLINE T join(T a, T b) {
    return a * b;
  }
};
struct MaxOf {  // a NaN, once taken in, stays
  static constexpr double identity = -__builtin_inf();
  template <class D>
  static HWY_INLINE Vec<D> step(D d, Vec<D> acc, Vec<D> x) {
#if KEEL_MASKED_MEMORY
    return hn::IfThenElse(is_nan(d, x), x, hn::Max(x, acc));
#else
    return hn::IfThenElse(is_nan(d, x), x, hn::IfThenElse(hn::Gt(x, acc), x, acc));
#endif
  }
  template <class D>
  static HWY_INLINE Vec<D> join(D d, Vec<D> a, Vec<D> b) {
    return step(d, a, b);
  }
  template <class T>
  static HWY_INLINE T join(T a, T b) {
    return b != b || b > a ? b : a;
  }
};
struct MinOf {
  static constexpr double identity = __builtin_inf();
  template <class D>
  static HWY_INLINE Vec<D> step(D d, Vec<D> acc, Vec<D> x) {
#if KEEL_MASKED_MEMORY
    return hn::IfThenElse(is_nan(d, x), x, hn::Min(x, acc));
#else
    return hn::IfThenElse(is_nan(d, x), x, hn::IfThenElse(hn::Lt(x, acc), x, acc));
#endif
  }
  template <class D>
  static HWY_INLINE Vec<D> join(D d, Vec<D> a, Vec<D> b) {
    return step(d, a, b);
  }
  template <class T>
  static HWY_INLINE T join(T a, T b) {
    return b != b || b < a ? b : a;
  }
};

/// Lanes of one vector halved onto each other, without memory: what is stored behind stores past the caches waits for them.
template <class M, class D>
HWY_INLINE Lane<D> fold_lanes([[maybe_unused]] D d, Vec<D> v) {
  [[maybe_unused]] constexpr size_t N = hn::MaxLanes(D());
#if HWY_TARGET != HWY_SCALAR
  if constexpr (N * sizeof(Lane<D>) > 16) {
    const hn::Half<D> h;
    return fold_lanes<M>(h, M::join(h, hn::LowerHalf(h, v), hn::UpperHalf(h, v)));
  } else if constexpr (N == 4) {
    const Vec<D> pair = M::join(d, v, hn::Shuffle1032(v));
    return hn::GetLane(M::join(d, pair, hn::Shuffle2301(pair)));
  } else if constexpr (N == 2) {
    return hn::GetLane(M::join(d, v, hn::Shuffle01(v)));
  } else
#endif
  {
    return hn::GetLane(v);
  }
}

/// The W lanes of a block as vectors.
template <class M, class T>
struct Lanes {
  using D = Tag<T>;
  static constexpr int N = int(hn::MaxLanes(D())), K = kReduceLanes<T> / N;
  Vec<D> v[K];
  HWY_INLINE void clear() {
    const D d;
    KEEL_UNROLL for (int k = 0; k < K; ++k) v[k] = hn::Set(d, T(M::identity));
  }
  HWY_INLINE void join(const Lanes& o) {
    const D d;
    KEEL_UNROLL for (int k = 0; k < K; ++k) v[k] = M::join(d, v[k], o.v[k]);
  }
  template <int half = K / 2>
  HWY_INLINE T fold() {
    const D d;
    if constexpr (half == 0) {
      return fold_lanes<M>(d, v[0]);
    } else {
      KEEL_UNROLL for (int k = 0; k < half; ++k) v[k] = M::join(d, v[k], v[k + half]);
      return fold<half / 2>();
    }
  }
};

/// Reduces f(0), f(1), ... f(n - 1), where `at(i)` gives the vector of elements i, i + 1, ..., and `tail(i, count)` the first `count` of
/// them; the block's result.
template <class M, class T, class At, class TailAt>
HWY_INLINE T reduce_lanes(int64_t n, At at, TailAt tail) {
  const Tag<T> d;
  using L = Lanes<M, T>;
  constexpr int64_t W = kReduceLanes<T>;
  L low, high;
  low.clear(), high.clear();
  const bool deep = n > 16 * W;
  const int64_t full = n / W * W;
  int64_t i = 0;
  while (i < full) {
    const int64_t end = full - i < 16 * W ? full : i + 16 * W;
    L own;
    own.clear();
    for (; i < end; i += W) { KEEL_UNROLL for (int k = 0; k < L::K; ++k) own.v[k] = M::step(d, own.v[k], at(i + k * L::N)); }
    if (deep && end % (16 * W) == 0)
      high.join(own);
    else
      low = own;
  }
  if (i < n) {
    L own = low;  // in memory, where `low` stays in registers
    for (int k = 0; k < L::K && i < n; ++k, i += L::N) {
      if (i + L::N <= n) {
        own.v[k] = M::step(d, own.v[k], at(i));
      } else {
        const auto in = hn::FirstN(d, size_t(n - i));
        own.v[k] = hn::IfThenElse(in, M::step(d, own.v[k], tail(i, size_t(n - i))), own.v[k]);
      }
    }
    low = own;
  }
  if (deep) {
    high.join(low);
    return high.fold();
  }
  return low.fold();
}

/// One block from memory.
template <class M, class T>
HWY_INLINE T reduce_block(const T* x, int64_t n) {
  return reduce_lanes<M, T>(
      n, [x](int64_t i) HWY_ATTR { return hn::LoadU(Tag<T>(), x + i); },
      [x](int64_t i, size_t count) HWY_ATTR { return load_n(Tag<T>(), x + i, count); });
}

/// Results of blocks joined pairwise, as a binary counter does: the tree depends on the number of blocks only, and any aligned run of 2^k
/// blocks is one of its nodes.
template <class M, class T>
struct PairwiseTree {
  T node[48];
  int64_t count = 0;
  HWY_INLINE void add(T v) {
    int at = 0;
    for (int64_t c = count; c & 1; c >>= 1) ++at;
    for (int k = 0; k < at; ++k) v = M::join(node[k], v);
    node[at] = v, ++count;
  }
  HWY_INLINE T result() const {
    bool any = false;
    T v = T(M::identity);
    for (int k = 0; k < 48 && (count >> k); ++k)
      if ((count >> k) & 1) v = any ? M::join(node[k], v) : node[k], any = true;
    return v;
  }
};

/// A row of any length: what at(i) and tail(i, count) give, in blocks joined pairwise.
template <class M, class T, class At, class TailAt>
HWY_INLINE T reduce_long(int64_t n, At at, TailAt tail) {
  if (n <= kReduceBlock) return reduce_lanes<M, T>(n, at, tail);
  PairwiseTree<M, T> tree;
  for (int64_t b = 0; b < n; b += kReduceBlock) {
    const int64_t m = n - b < kReduceBlock ? n - b : kReduceBlock;
    tree.add(reduce_lanes<M, T>(
        m, [&](int64_t i) HWY_ATTR { return at(b + i); }, [&](int64_t i, size_t count) HWY_ATTR { return tail(b + i, count); }));
  }
  return tree.result();
}

/// A monoid that takes nothing in.
struct NoneOf : SumOf {
  template <class D>
  static HWY_INLINE Vec<D> step(D, Vec<D> acc, Vec<D>) {
    return acc;
  }
};
/// Two reductions in one pass over a block, each in the order of reduce_lanes: f(i, load, u, v) makes what A and B take in, with load(p) a
/// whole vector or the masked rest; beside(i) is called for every W / 2 elements of whole W.
template <class A, class B, class T, class F, class Beside>
HWY_INLINE void reduce_two_lanes(int64_t n, F f, Beside beside, T& out_a, T& out_b) {
  using D = Tag<T>;
  constexpr int64_t W = kReduceLanes<T>;
  const D d;
  const auto whole = [](const T* p) HWY_ATTR { return hn::LoadU(D(), p); };
  using LA = Lanes<A, T>;
  using LB = Lanes<B, T>;
  LA a, high_a;
  LB b, high_b;
  a.clear(), b.clear(), high_a.clear(), high_b.clear();
  const bool deep = n > 16 * W;
  const int64_t full = n / W * W;
  int64_t i = 0;
  while (i < full) {
    const int64_t end = full - i < 16 * W ? full : i + 16 * W;
    LA own_a;
    LB own_b;
    own_a.clear(), own_b.clear();
    for (; i < end; i += W) {
      KEEL_UNROLL for (int half = 0; half < LA::K; half += LA::K / 2) {
        KEEL_UNROLL for (int k = half; k < half + LA::K / 2; ++k) {
          Vec<D> u, v;
          f(i + k * LA::N, whole, u, v);
          own_a.v[k] = A::step(d, own_a.v[k], u), own_b.v[k] = B::step(d, own_b.v[k], v);
        }
        beside(i + half * LA::N);
      }
    }
    if (deep && end % (16 * W) == 0)
      high_a.join(own_a), high_b.join(own_b);
    else
      a = own_a, b = own_b;
  }
  if (i < n) {
    LA own_a = a;
    LB own_b = b;
    for (int k = 0; k < LA::K && i < n; ++k, i += LA::N) {
      Vec<D> u, v;
      if (i + LA::N <= n) {
        f(i, whole, u, v);
        own_a.v[k] = A::step(d, own_a.v[k], u), own_b.v[k] = B::step(d, own_b.v[k], v);
      } else {
        const size_t count = size_t(n - i);
        f(
            i, [count](const T* p) HWY_ATTR { return load_n(D(), p, count); }, u, v);
        const auto in = hn::FirstN(d, count);
        own_a.v[k] = hn::IfThenElse(in, A::step(d, own_a.v[k], u), own_a.v[k]);
        own_b.v[k] = hn::IfThenElse(in, B::step(d, own_b.v[k], v), own_b.v[k]);
      }
    }
    a = own_a, b = own_b;
  }
  if (deep) high_a.join(a), high_b.join(b);
  out_a = deep ? high_a.fold() : a.fold(), out_b = deep ? high_b.fold() : b.fold();
}
/// The same for any length, as reduce_long does it.
template <class A, class B, class T, class F, class Beside>
HWY_INLINE void reduce_two(int64_t n, F f, Beside beside, T& a, T& b) {
  if (n <= kReduceBlock) return reduce_two_lanes<A, B, T>(n, f, beside, a, b);
  PairwiseTree<A, T> tree_a;
  PairwiseTree<B, T> tree_b;
  for (int64_t at = 0; at < n; at += kReduceBlock) {
    const int64_t m = n - at < kReduceBlock ? n - at : kReduceBlock;
    reduce_two_lanes<A, B, T>(
        m, [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR { f(at + i, load, u, v); }, [&](int64_t i) HWY_ATTR { beside(at + i); }, a,
        b);
    tree_a.add(a), tree_b.add(b);
  }
  a = tree_a.result(), b = tree_b.result();
}

/// Rows that a loop over columns takes at a time: the memory of each is read in order, and few enough for the processor to follow.
inline constexpr int64_t kRowsAtOnce = 4;

/// Fetches the line of element i of `kRowsAtOnce` rows from `row` on, which need not exist.
template <class T>
HWY_INLINE void fetch_rows(const T* x, int64_t row, int64_t stride, int64_t i) {
  for (int64_t r = row; r < row + kRowsAtOnce; ++r)
    __builtin_prefetch(reinterpret_cast<const void*>(uintptr_t(x) + uintptr_t(r * stride + i) * sizeof(T)), 0, 3);
}

/// Fetches what comes `kSoon` after p, which need not exist.
inline constexpr size_t kSoon = 2048;
template <class T>
HWY_INLINE void fetch_soon(const T* p) {
  __builtin_prefetch(reinterpret_cast<const void*>(uintptr_t(p) + kSoon), 0, 3);
}
/// Fetches what comes `bytes` after p, which need not exist, to L2.
template <class T>
HWY_INLINE void fetch_far(const T* p, size_t bytes) {
  __builtin_prefetch(reinterpret_cast<const void*>(uintptr_t(p) + bytes), 0, 2);
}
/// Fetches what comes 1 KiB after p, which need not exist, from L2 to L1.
template <class T>
HWY_INLINE void fetch_near(const T* p) {
  __builtin_prefetch(reinterpret_cast<const void*>(uintptr_t(p) + 1024), 0, 3);
}
/// A row from memory.
template <class M, class T>
HWY_NOINLINE T reduce_row(const T* x, int64_t n) {
  return reduce_long<M, T>(
      n, [x](int64_t i) HWY_ATTR { return hn::LoadU(Tag<T>(), x + i); },
      [x](int64_t i, size_t count) HWY_ATTR { return load_n(Tag<T>(), x + i, count); });
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
