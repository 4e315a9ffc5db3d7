// Loops of mean and squared deviations. Bound by memory.
#include "backend/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loops/moments.cpp"
#include "hwy/foreach_target.h"

#include "backend/cpu/loops/columns-inl.h"
#include "backend/cpu/loops/moments.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace {

/// Squared deviations from the mean of n elements, by `sum` and `square`, the sums of x - shift and of its square. A square beyond all
/// numbers stays infinite as long as the sum is a number.
template <class D>
HWY_INLINE Vec<D> settle(D d, Vec<D> sum, Vec<D> square, Vec<D> mean) {
  const auto exact = at_least(d, hn::Sub(square, hn::Mul(sum, mean)), hn::Zero(d));
  return hn::IfThenElse(hn::Eq(square, inf_of(d)), hn::Add(square, hn::Sub(sum, sum)), exact);
}

/// At most kReduceBlock elements.
template <class T>
HWY_INLINE void block(const T* x, int64_t n, bool far, T* out) {
  constexpr int64_t W = kReduceLanes<T>;
  const Tag<T> d;
  const int64_t some = (n / 16 + W - 1) / W * W, head = n < W ? n : some < W ? W : some;
  const T about = reduce_block<SumOf>(x, head) / T(head);
  const auto shift = hn::Set(d, about);
  const bool near = far && !follows_streams();
  T sum, square;
  reduce_two_lanes<SumOf, SumSquareOf, T>(
      n,
      [&](int64_t i, auto load, auto& u, auto& v) HWY_ATTR {
        if (far) fetch_far(x + i, 8192);
        if (near) fetch_near(x + i);
        u = v = hn::Sub(load(x + i), shift);
      },
      [](int64_t) HWY_ATTR {}, sum, square);
  const T off = sum / T(n);
  out[0] = about, out[1] = off;
  out[2] = hn::GetLane(settle(d, hn::Set(d, sum), hn::Set(d, square), hn::Set(d, off)));
}
template <class T>
void row(const void* x_, int64_t n, bool far, void* out_) {
  const T* x = static_cast<const T*>(x_);
  T* out = static_cast<T*>(out_);
  if (n <= kReduceBlock) return block(x, n, far, out);
  Moments all;
  for (int64_t i = 0; i < n; i += kReduceBlock) {
    const int64_t m = n - i < kReduceBlock ? n - i : kReduceBlock;
    T own[kMomentValues];
    block(x + i, m, far, own);
    all.join(double(m), own);
  }
  out[0] = T(all.mean), out[1] = T(all.mean - double(out[0])), out[2] = T(all.square);
}

/// Beside columns [from, to) of rows r and r + 1 of a strip of w columns at x, as many lines of the two that follow, in the order in which
/// they lie and by one instruction, since the processor follows nothing else. A lambda that only fetches would be dropped as one without
/// effect.
template <class T>
struct PairAhead {
  const T* x;
  int64_t stride, w;
  HWY_INLINE void operator()(int64_t r, int64_t from, int64_t to) const {
    constexpr int64_t kLine = 64 / int64_t(sizeof(T));
    const T* next = x + (r + 2) * stride;
    for (int64_t at = 2 * from, end; at < 2 * to; at = end) {
      const bool second = at >= w;
      end = !second && 2 * to > w ? w : 2 * to;
      const T* p = next + at + (second ? stride - w : 0);
      for (int64_t k = at; k < end; k += kLine, p += kLine) fetch_soon(p);
    }
  }
};
template <class T>
void columns(const void* x_, int64_t rows, int64_t stride, int64_t width, bool far, void* out_, int64_t apart) {
  const T* x = static_cast<const T*>(x_);
  T *shift = static_cast<T*>(out_), *off = shift + apart, *square = off + apart;
  const bool near = far && !follows_streams();
  for (int64_t c0 = 0; c0 < width; c0 += kColumnTile, x += kColumnTile, shift += kColumnTile, off += kColumnTile, square += kColumnTile) {
    const int64_t w = width - c0 < kColumnTile ? width - c0 : kColumnTile, head = rows < kReduceGroup ? rows : kReduceGroup;
    const size_t ahead = size_t(stride * (1 + 8192 / (w * int64_t(sizeof(T))))) * sizeof(T);
    const auto fetch = [&](const T* p) HWY_ATTR {
      if (far) fetch_far(p, ahead);
      if (near) fetch_near(p);
    };
    const bool pairs = far && !near && 2 * w >= kColumnTile;
    const Tag<T> d;
    const auto n = hn::Set(d, T(rows)), some = hn::Set(d, T(head));
    const auto group = [&](int64_t g, bool join) HWY_ATTR {
      const int64_t many = rows - g < kReduceGroup ? rows - g : kReduceGroup;
      const T* first = x + g * stride;
      const auto add = [=](int64_t r, int64_t c, auto load, auto& v) HWY_ATTR {
        const auto from = hn::Sub(load(first + r * stride + c), load(shift + c));
        v[0] = hn::Add(v[0], from), v[1] = fma(Tag<T>(), from, from, v[1]);
      };
      if (pairs) return sum_pairs<2, T>(many, w, join, {off, square}, add, PairAhead<T>{first, stride, w});
      sum_columns<2, T>(many, w, join, far ? 1 : kRowsAtOnce, {off, square}, [&](int64_t r, int64_t c, auto load, auto& v) HWY_ATTR {
        fetch(first + r * stride + c);
        add(r, c, load, v);
      });
    };
    // The first rows are summed about the first of them, so that they are read once, and then put about their mean.
    each<T>(w, [&](int64_t c, auto load, auto store) HWY_ATTR { store(load(x + c), shift + c); });
    group(0, false);
    bool finite = true;
    each<T>(w, [&](int64_t c, auto load, auto store) HWY_ATTR {
      const auto sum = load(off + c), mean = hn::Div(sum, some), first = load(shift + c), about = hn::Add(first, mean);
      const auto short_of = hn::Sub(mean, hn::Sub(about, first)), rest = hn::Mul(some, short_of);
      const auto all = hn::Add(settle(d, sum, load(square + c), mean), hn::Mul(rest, short_of));
      finite = finite && hn::AllTrue(d, hn::IsFinite(all));
      store(about, shift + c), store(rest, off + c), store(all, square + c);
    });
    if (!finite) {  // numbers too far from the first row may not be from the mean
      sum_columns<1, T>(head, w, false, kRowsAtOnce, {shift},
                        [&](int64_t r, int64_t c, auto load, auto& v) HWY_ATTR { v[0] = hn::Add(v[0], load(x + r * stride + c)); });
      each<T>(w, [&](int64_t c, auto load, auto store) HWY_ATTR { store(hn::Div(load(shift + c), some), shift + c); });
      group(0, false);
    }
    for (int64_t g = kReduceGroup; g < rows; g += kReduceGroup) group(g, true);
    each<T>(w, [&](int64_t c, auto load, auto store) HWY_ATTR {
      const auto sum = load(off + c), mean = hn::Div(sum, n);
      store(settle(d, sum, load(square + c), mean), square + c);
      store(mean, off + c);
    });
  }
}
template <class T>
MomentLoops find() {
  return {row<T>, columns<T>};
}
}  // namespace
MomentLoops moments_find(DType t) { return t == DType::f32 ? find<float>() : find<double>(); }
}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace keel::cpu {
KEEL_SIMD_EXPORT(moments_find);
MomentLoops moment_loops(DType t) { return KEEL_SIMD(moments_find)(t); }
}  // namespace keel::cpu
#endif
