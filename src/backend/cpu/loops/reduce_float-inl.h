// Reductions of f32 or f64 blocks and columns. See reduce-inl.h for the order.
#if defined(KEEL_CPU_LOOPS_REDUCE_FLOAT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CPU_LOOPS_REDUCE_FLOAT_INL_H_
#undef KEEL_CPU_LOOPS_REDUCE_FLOAT_INL_H_
#else
#define KEEL_CPU_LOOPS_REDUCE_FLOAT_INL_H_
#endif

#include <type_traits>

#include "backend/cpu/loops/each-inl.h"
#include "backend/cpu/loops/reduce-inl.h"

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
void block(const void* x_, int64_t n, [[maybe_unused]] const void* shift_, void* out, bool far) {
  const T* x = static_cast<const T*>(x_);
  const bool near = far && !follows_streams();
  const auto load = [x, far, near](int64_t i) HWY_ATTR {
    constexpr int64_t kLine = 64 / int64_t(sizeof(T));
    if (int64_t(hn::MaxLanes(Tag<T>())) == kLine || i % kLine == 0) {
      if (far) fetch_far(x + i, 8192);
      if (near) fetch_near(x + i);
    }
    return hn::LoadU(Tag<T>(), x + i);
  };
  if constexpr (std::is_same_v<M, DeviationOf>) {
    const Vec<Tag<T>> shift = hn::Set(Tag<T>(), *static_cast<const T*>(shift_));
    *static_cast<T*>(out) = reduce_lanes<M, T>(
        n, [load, shift](int64_t i) HWY_ATTR { return hn::Sub(load(i), shift); },
        [x, shift](int64_t i, size_t count) HWY_ATTR { return hn::Sub(load_n(Tag<T>(), x + i, count), shift); });
  } else {
    *static_cast<T*>(out) = reduce_lanes<M, T>(n, load, [x](int64_t i, size_t count) HWY_ATTR { return load_n(Tag<T>(), x + i, count); });
  }
}

/// acc[i] = (first ? identity : acc[i]) stepped through R rows. `next`: the rows that follow are fetched to L1; `far`: what lies so many
/// bytes after each row, to L2, where it is not 0.
template <class M, class T, int R>
HWY_INLINE void step_rows(const T* x, int64_t stride, int64_t width, const T* shift, bool first, T* acc, bool next, size_t far) {
  constexpr bool kShift = std::is_same_v<M, DeviationOf>;
  const Tag<T> d;
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  each<T>(width, [&](int64_t i, auto load, auto store) HWY_ATTR {
    if (next && i % kLine == 0) fetch_rows(x, R, stride, i);
    if (far && i % kLine == 0)
      for (int r = 0; r < R; ++r) fetch_far(x + r * stride + i, far);
    Vec<Tag<T>> v = hn::Set(d, T(M::identity)), by = hn::Zero(d);
    if (!first) v = load(acc + i);
    if constexpr (kShift) by = load(shift + i);
    KEEL_UNROLL for (int r = 0; r < R; ++r) {
      const Vec<Tag<T>> e = load(x + r * stride + i);
      v = M::step(d, v, kShift ? hn::Sub(e, by) : e);
    }
    store(v, acc + i);
  });
}

template <class M, class T>
void columns(const void* x_, int64_t rows, int64_t stride, int64_t width, bool join, const void* shift_, void* out_, bool far) {
  constexpr int64_t kTile = 1024;
  const bool alone = follows_streams();
  const Tag<T> d;
  alignas(64) T acc[kTile];
  for (int64_t c = 0; c < width; c += kTile) {
    const T *x = static_cast<const T*>(x_) + c, *shift = shift_ ? static_cast<const T*>(shift_) + c : nullptr;
    T *out = static_cast<T*>(out_) + c, *to = join ? acc : out;
    const int64_t w = width - c < kTile ? width - c : kTile;
    int64_t r = 0;
    if (alone && far && 2 * w >= kTile) {  // as it lies in memory, and 8 KiB of the strip ahead
      const size_t row = size_t(stride) * sizeof(T), ahead = row * (1 + 8192 / (size_t(w) * sizeof(T)));
      for (; r < rows; ++r) step_rows<M, T, 1>(x + r * stride, stride, w, shift, r == 0, to, false, ahead);
    }
    if (alone)
      for (; r + 2 * kRowsAtOnce <= rows; r += 2 * kRowsAtOnce)
        step_rows<M, T, 2 * kRowsAtOnce>(x + r * stride, stride, w, shift, r == 0, to, false, 0);
    for (; r + kRowsAtOnce <= rows; r += kRowsAtOnce)
      step_rows<M, T, kRowsAtOnce>(x + r * stride, stride, w, shift, r == 0, to, !alone && (far || stride > width),
                                   !alone && far ? 16 * size_t(stride) * sizeof(T) : 0);
    for (; r < rows || r == 0; ++r) {
      if (rows == 0)
        each<T>(w, [&](int64_t i, auto, auto store) HWY_ATTR { store(hn::Set(d, T(M::identity)), to + i); });
      else
        step_rows<M, T, 1>(x + r * stride, stride, w, shift, r == 0, to, false, 0);
    }
    if (join) each<T>(w, [&](int64_t i, auto load, auto store) HWY_ATTR { store(M::join(d, load(out + i), load(acc + i)), out + i); });
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
ReduceLoops find_reduce(ReduceOp op) {
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
}  // namespace
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
