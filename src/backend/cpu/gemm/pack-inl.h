// Packing of A and B into panels p[k * W + w], W rows of A or columns of B side by side, once a Highway target. Sources are read along their contiguous axis: either
// a copy of W neighbours a step, or a transposition in registers of N rows of one vector (16 x 16 f32 on AVX-512, else blocks of 128 bits). Rows beyond the valid
// ones repeat the last valid row (or are zero); their products are never stored. 16-bit sources are widened on the way (exact).
#if defined(KEEL_GEMM_PACK_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_GEMM_PACK_INL
#undef KEEL_GEMM_PACK_INL
#else
#define KEEL_GEMM_PACK_INL
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "hwy/highway.h"
#include "keel/numerics/types.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class S>
HWY_INLINE hn::Vec<D> load_wide(D d, const S* p) {
  if constexpr (std::is_same_v<S, hn::TFromD<D>>) {
    return hn::LoadU(d, p);
  } else if constexpr (std::is_same_v<S, bfloat16>) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::Rebind<uint32_t, D> d32;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)))));
  } else {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
    HWY_ALIGN float buffer[HWY_LANES(float)];
    for (size_t i = 0; i < hn::Lanes(d); ++i) buffer[i] = float(p[i]);
    return hn::Load(d, buffer);
#else
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#endif
  }
}

// The first n elements, zeros behind.
template <class D, class S>
HWY_INLINE hn::Vec<D> load_some(D d, const S* p, int64_t n) {
  using T = hn::TFromD<D>;
  if constexpr (std::is_same_v<S, T>) {
    return hn::MaskedLoad(hn::FirstN(d, size_t(n)), d, p);
  } else {
    HWY_ALIGN T buffer[HWY_LANES(T)] = {};
    for (int64_t i = 0; i < n; ++i) buffer[i] = T(p[i]);
    return hn::Load(d, buffer);
  }
}

#if HWY_TARGET != HWY_SCALAR
// N rows of one step each: block b of the result holds kSteps elements of row off[b * kSteps].
template <int kSteps, class D, class S>
HWY_INLINE hn::Vec<D> load_blocks(D d, const S* p, const int64_t* off) {
  constexpr int kN = int(hn::MaxLanes(D()));
  if constexpr (kN <= kSteps) {
    return load_wide(d, p + off[0]);
  } else {
    const hn::Half<D> dh;
    const auto lo = load_blocks<kSteps>(dh, p, off), hi = load_blocks<kSteps>(dh, p, off + kN / 2);
    return hn::Combine(d, hi, lo);
  }
}
#endif

// out[s] = element s of each of N rows, for s < kSteps; row r starts at p + off[r].
template <class T>
struct Transpose {
  static constexpr int kN = HWY_LANES(T);
#if HWY_TARGET == HWY_AVX3
  static constexpr bool kWhole = sizeof(T) == 4;  // whole lines at a time: 16 rows a multiple of 4 KiB apart would evict one another from L1 between visits
#else
  static constexpr bool kWhole = false;
#endif
  static constexpr int kSteps = kWhole ? 16 : kN == 1 ? 1 : int(16 / sizeof(T));

  template <class V, class S>
  static HWY_INLINE void run(const S* p, const int64_t* off, V* HWY_RESTRICT out) {
    const hn::ScalableTag<T> d;
#if HWY_TARGET == HWY_SCALAR
    out[0] = hn::Set(d, T(p[off[0]]));
#else
    if constexpr (kWhole) {
      whole(p, off, out);
    } else if constexpr (kSteps == 4) {
      const hn::RepartitionToWide<decltype(d)> dw;
      V r[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) r[j] = load_blocks<4>(d, p, off + j);
      quad(d, dw, r, out, 1);
    } else {
      const V a = load_blocks<2>(d, p, off), b = load_blocks<2>(d, p, off + 1);
      out[0] = hn::InterleaveLower(d, a, b), out[1] = hn::InterleaveUpper(d, a, b);
    }
#endif
  }

 private:
#if HWY_TARGET != HWY_SCALAR
  // 4 x 4 inside each 128-bit block.
  template <class D, class DW, class V>
  static HWY_INLINE void quad(D d, DW dw, const V* r, V* out, int step) {
    const auto l01 = hn::BitCast(dw, hn::InterleaveLower(d, r[0], r[1])), l23 = hn::BitCast(dw, hn::InterleaveLower(d, r[2], r[3]));
    const auto u01 = hn::BitCast(dw, hn::InterleaveUpper(d, r[0], r[1])), u23 = hn::BitCast(dw, hn::InterleaveUpper(d, r[2], r[3]));
    out[0] = hn::BitCast(d, hn::InterleaveLower(dw, l01, l23)), out[step] = hn::BitCast(d, hn::InterleaveUpper(dw, l01, l23));
    out[2 * step] = hn::BitCast(d, hn::InterleaveLower(dw, u01, u23)), out[3 * step] = hn::BitCast(d, hn::InterleaveUpper(dw, u01, u23));
  }
#endif
#if HWY_TARGET == HWY_AVX3
  template <class V, class S>
  static HWY_INLINE void whole(const S* p, const int64_t* off, V* HWY_RESTRICT out) {
    const hn::ScalableTag<T> d;
    const hn::RepartitionToWide<decltype(d)> dw;
    V t[16];
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      V r[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) r[j] = load_wide(d, p + off[4 * g + j]);
      quad(d, dw, r, t + g, 4);  // block b of t[4 * j + g]: rows 4g..4g+3 at step 4b + j
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512 a = _mm512_shuffle_f32x4(t[4 * j].raw, t[4 * j + 1].raw, 0x44), b = _mm512_shuffle_f32x4(t[4 * j].raw, t[4 * j + 1].raw, 0xee);
      const __m512 c = _mm512_shuffle_f32x4(t[4 * j + 2].raw, t[4 * j + 3].raw, 0x44), e = _mm512_shuffle_f32x4(t[4 * j + 2].raw, t[4 * j + 3].raw, 0xee);
      out[j] = V{_mm512_shuffle_f32x4(a, c, 0x88)}, out[4 + j] = V{_mm512_shuffle_f32x4(a, c, 0xdd)};
      out[8 + j] = V{_mm512_shuffle_f32x4(b, e, 0x88)}, out[12 + j] = V{_mm512_shuffle_f32x4(b, e, 0xdd)};
    }
  }
#endif
};

// dst[k * W + w] = p[w * sw + k * sk] for k < kc, w < W; rows w >= valid hold anything finite or a repeated row. Writes up to one vector behind the last element.
template <class T, int W, class S>
HWY_NOINLINE void pack_panel(const S* p, int64_t sw, int64_t sk, int64_t valid, int64_t kc, T* HWY_RESTRICT dst) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  using Tr = Transpose<T>;
  constexpr int kN = HWY_LANES(T), kG = (W + kN - 1) / kN, kSteps = Tr::kSteps;
  int64_t off[kG * kN];
  for (int w = 0; w < kG * kN; ++w) off[w] = (w < valid ? w : valid - 1) * sw;
  int64_t k = 0;
  if (sw == 1 && sk != 1) {
    for (; k < kc; ++k) {
#pragma GCC unroll 4
      for (int g = 0; g < kG; ++g) {
        const int64_t left = valid - g * kN;
        hn::StoreU(left >= kN ? load_wide(d, p + k * sk + g * kN) : left > 0 ? load_some(d, p + k * sk + g * kN, left) : hn::Zero(d), d, dst + k * W + g * kN);
      }
    }
    return;
  }
  if (sk == 1) {
    if constexpr (W % kN == 0 || kG == 1) {
      for (int g = 0; g < kG; ++g) {
        for (k = 0; k + kSteps <= kc; k += kSteps) {
          V out[kSteps];
          Tr::run(p + k, off + g * kN, out);
#pragma GCC unroll 16
          for (int s = 0; s < kSteps; ++s) hn::StoreU(out[s], d, dst + (k + s) * W + g * kN);
        }
      }
    } else {
      for (; k + kSteps <= kc; k += kSteps) {
        V out[kG][kSteps];
#pragma GCC unroll 4
        for (int g = 0; g < kG; ++g) Tr::run(p + k, off + g * kN, out[g]);
#pragma GCC unroll 16
        for (int s = 0; s < kSteps; ++s)
#pragma GCC unroll 4
          for (int g = 0; g < kG; ++g) hn::StoreU(out[g][s], d, dst + (k + s) * W + g * kN);
      }
    }
  }
  for (; k < kc; ++k)
    for (int w = 0; w < W; ++w) dst[k * W + w] = T(p[off[w] + k * sk]);
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
