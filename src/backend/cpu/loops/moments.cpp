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

/// Beside p, which is at row r and column c of w of a strip that is read two rows at a time: a line of the two that follow, in the order in
/// which they lie, since the processor follows no other.
template <class T>
HWY_INLINE void fetch_pair(const T* p, int64_t r, int64_t c, int64_t w, int64_t stride) {
  const int64_t odd = r & 1, at = 2 * c + odd * (64 / int64_t(sizeof(T)));
  fetch_soon(p + (2 - odd) * stride - c + (at < w ? at : at - w + stride));
}
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
    const int64_t at_once = pairs ? 2 : far ? 1 : kRowsAtOnce;
    sum_columns<1, T>(head, w, false, far ? 1 : kRowsAtOnce, {shift}, [&](int64_t r, int64_t c, auto load, auto& v) HWY_ATTR {
      const T* p = x + r * stride + c;
      fetch(p);
      v[0] = hn::Add(v[0], load(p));
    });
    const Tag<T> d;
    const auto n = hn::Set(d, T(rows)), some = hn::Set(d, T(head));
    each<T>(w, [&](int64_t c, auto load, auto store) HWY_ATTR { store(hn::Div(load(shift + c), some), shift + c); });
    for (int64_t g = 0; g < rows; g += kReduceGroup)
      sum_columns<2, T>(rows - g < kReduceGroup ? rows - g : kReduceGroup, w, g > 0, at_once, {off, square},
                        [&](int64_t r, int64_t c, auto load, auto& v) HWY_ATTR {
                          const T* p = x + (g + r) * stride + c;
                          pairs ? fetch_pair(p, r, c, w, stride) : fetch(p);
                          const auto from = hn::Sub(load(p), load(shift + c));
                          v[0] = hn::Add(v[0], from), v[1] = fma(Tag<T>(), from, from, v[1]);
                        });
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
