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

// Whether a masked load or store touches only what is under the mask; elsewhere tails go through a buffer.
inline constexpr bool kMaskedMemory = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;

// The first n elements, zeros behind.
template <class D, class S>
HWY_INLINE hn::Vec<D> load_some(D d, const S* p, int64_t n) {
  using T = hn::TFromD<D>;
  if constexpr (kMaskedMemory && std::is_same_v<S, T>) {
    return hn::MaskedLoad(hn::FirstN(d, size_t(n)), d, p);
  } else {
    HWY_ALIGN T buffer[HWY_LANES(T)] = {};
    for (int64_t i = 0; i < n; ++i) buffer[i] = T(p[i]);
    return hn::Load(d, buffer);
  }
}

// Where row r of a group of N rows begins: evenly spaced, or listed (the last group repeats its last valid row).
struct EvenRows {
  int64_t stride;
  HWY_INLINE int64_t group(int64_t n) const { return n * stride; }
  HWY_INLINE int64_t operator()(int r) const { return r * stride; }
};
struct ListedRows {
  const int64_t* offset;
  HWY_INLINE int64_t group(int64_t) const { return 0; }
  HWY_INLINE int64_t operator()(int r) const { return offset[r]; }
};

#if HWY_TARGET != HWY_SCALAR
// A vector of blocks: block b holds kSteps elements of row r + b * kSteps.
template <int kSteps, class D, class S, class Rows>
HWY_INLINE hn::Vec<D> load_blocks(D d, const S* p, const Rows& rows, int r) {
  constexpr int kN = int(hn::MaxLanes(D()));
  if constexpr (kN <= kSteps) {
    return load_wide(d, p + rows(r));
  } else {
    const hn::Half<D> dh;
    const auto lo = load_blocks<kSteps>(dh, p, rows, r), hi = load_blocks<kSteps>(dh, p, rows, r + kN / 2);
    return hn::Combine(d, hi, lo);
  }
}

// 4 x 4 of 32-bit elements inside each 128-bit block.
template <class D, class V>
HWY_INLINE void transpose_quads(D d, const V* r, V* out, int step) {
  const hn::RepartitionToWide<D> dw;
  const auto l01 = hn::BitCast(dw, hn::InterleaveLower(d, r[0], r[1])), l23 = hn::BitCast(dw, hn::InterleaveLower(d, r[2], r[3]));
  const auto u01 = hn::BitCast(dw, hn::InterleaveUpper(d, r[0], r[1])), u23 = hn::BitCast(dw, hn::InterleaveUpper(d, r[2], r[3]));
  out[0] = hn::BitCast(d, hn::InterleaveLower(dw, l01, l23)), out[step] = hn::BitCast(d, hn::InterleaveUpper(dw, l01, l23));
  out[2 * step] = hn::BitCast(d, hn::InterleaveLower(dw, u01, u23)), out[3 * step] = hn::BitCast(d, hn::InterleaveUpper(dw, u01, u23));
}
#endif

// out[s] = element s of each of N rows, for s < kSteps.
template <class T>
struct BlockTranspose {
  static constexpr int kN = HWY_LANES(T), kSteps = kN == 1 ? 1 : int(16 / sizeof(T));
  template <class V, class S, class Rows>
  static HWY_INLINE void run(const S* p, const Rows& rows, V* HWY_RESTRICT out) {
    const hn::ScalableTag<T> d;
#if HWY_TARGET == HWY_SCALAR
    out[0] = hn::Set(d, T(p[rows(0)]));
#else
    if constexpr (kSteps == 4) {
      V r[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) r[j] = load_blocks<4>(d, p, rows, j);
      transpose_quads(d, r, out, 1);
    } else {
      const V a = load_blocks<2>(d, p, rows, 0), b = load_blocks<2>(d, p, rows, 1);
      out[0] = hn::InterleaveLower(d, a, b), out[1] = hn::InterleaveUpper(d, a, b);
    }
#endif
  }
};

#if HWY_TARGET == HWY_AVX3
// The same, a whole line of each row at a time: for rows a multiple of 4 KiB apart, which evict one another from L1 between two visits.
template <class T>
struct LineTranspose : BlockTranspose<T> {};
template <>
struct LineTranspose<float> {
  static constexpr int kN = 16, kSteps = 16;
  template <class V, class S, class Rows>
  static HWY_INLINE void run(const S* p, const Rows& rows, V* HWY_RESTRICT out) {
    const hn::ScalableTag<float> d;
    V t[16];
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      V r[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) r[j] = load_wide(d, p + rows(4 * g + j));
      transpose_quads(d, r, t + g, 4);  // block b of t[4 * j + g]: rows 4g to 4g + 3 at step 4b + j
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512 a = _mm512_shuffle_f32x4(t[4 * j].raw, t[4 * j + 1].raw, 0x44),
                   b = _mm512_shuffle_f32x4(t[4 * j].raw, t[4 * j + 1].raw, 0xee);
      const __m512 c = _mm512_shuffle_f32x4(t[4 * j + 2].raw, t[4 * j + 3].raw, 0x44),
                   e = _mm512_shuffle_f32x4(t[4 * j + 2].raw, t[4 * j + 3].raw, 0xee);
      out[j] = V{_mm512_shuffle_f32x4(a, c, 0x88)}, out[4 + j] = V{_mm512_shuffle_f32x4(a, c, 0xdd)};
      out[8 + j] = V{_mm512_shuffle_f32x4(b, e, 0x88)}, out[12 + j] = V{_mm512_shuffle_f32x4(b, e, 0xdd)};
    }
  }
};
#else
template <class T>
using LineTranspose = BlockTranspose<T>;
#endif

// One group of at most N columns of a panel, from rows contiguous along k. Returns how far along k it came.
template <class T, int W, class Tr, class S, class Rows>
HWY_INLINE int64_t pack_group(const S* p, const Rows& rows, int64_t kc, T* HWY_RESTRICT dst) {
  const hn::ScalableTag<T> d;
  int64_t k = 0;
  // Each row is a stream of its own, too many for the processor to follow. Behind the rows' ends come the beginnings of the next group's.
  constexpr int64_t kLine = 64 / int64_t(sizeof(S)), kAhead = 8 * kLine;
  for (; k + Tr::kSteps <= kc; k += Tr::kSteps) {
    hn::Vec<decltype(d)> out[Tr::kSteps];
    if (k % kLine == 0) {
      const S* next = p + (k + kAhead < kc ? k + kAhead : k + rows.group(Tr::kN));
#pragma GCC unroll 16
      for (int r = 0; r < Tr::kN; ++r) __builtin_prefetch(next + rows(r));
    }
    Tr::run(p + k, rows, out);
#pragma GCC unroll 16
    for (int s = 0; s < Tr::kSteps; ++s) hn::StoreU(out[s], d, dst + (k + s) * W);
  }
  return k;
}

// dst[k * W + w] = p[w * sw + k * sk] for k < kc, w < W; rows w >= valid hold zero or a repeated row. Writes up to one vector behind the last element.
template <class T, int W, class S>
HWY_NOINLINE void pack_panel(const S* p, int64_t sw, int64_t sk, int64_t valid, int64_t kc, T* HWY_RESTRICT dst) {
  const hn::ScalableTag<T> d;
  constexpr int kN = HWY_LANES(T), kG = (W + kN - 1) / kN;
  int64_t off[kG * kN];
  int64_t k = 0;
  if (sw == 1 && sk != 1) {
    for (; k < kc; ++k) {
#pragma GCC unroll 4
      for (int g = 0; g < kG; ++g) {
        const int64_t left = valid - g * kN;
        hn::StoreU(left >= kN ? load_wide(d, p + k * sk + g * kN)
                   : left > 0 ? load_some(d, p + k * sk + g * kN, left)
                              : hn::Zero(d),
                   d, dst + k * W + g * kN);
      }
    }
    return;
  }
  for (int w = 0; w < kG * kN; ++w) off[w] = (w < valid ? w : valid - 1) * sw;
  if (sk == 1) {
    const bool lines = sw * int64_t(sizeof(S)) % 4096 == 0;
    if constexpr (W % kN == 0) {
      int64_t done = kc;
      for (int g = 0; g < kG; ++g) {
        if ((g + 1) * kN <= valid) {
          const EvenRows rows{sw};
          done = lines ? pack_group<T, W, LineTranspose<T>>(p + g * kN * sw, rows, kc, dst + g * kN)
                       : pack_group<T, W, BlockTranspose<T>>(p + g * kN * sw, rows, kc, dst + g * kN);
        } else {
          const int64_t d1 = pack_group<T, W, BlockTranspose<T>>(p, ListedRows{off + g * kN}, kc, dst + g * kN);
          done = d1 < done ? d1 : done;
        }
        k = g == 0 ? done : k < done ? k : done;
      }
    } else if constexpr (kG == 1) {
      k = lines ? pack_group<T, W, LineTranspose<T>>(p, ListedRows{off}, kc, dst)
                : pack_group<T, W, BlockTranspose<T>>(p, ListedRows{off}, kc, dst);
    } else {  // stores run past the panel's row, so all groups of one k are stored before the next k
      constexpr int kSteps = BlockTranspose<T>::kSteps;
      for (; k + kSteps <= kc; k += kSteps) {
        hn::Vec<decltype(d)> out[kG][kSteps];
#pragma GCC unroll 4
        for (int g = 0; g < kG; ++g) BlockTranspose<T>::run(p + k, ListedRows{off + g * kN}, out[g]);
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

// A block of B, kc x nc, into panels of W columns. Rows of B are read in runs of 8 x nc where columns are neighbours.
template <class T, int W, class S>
HWY_NOINLINE void pack_block(const S* b, int64_t rs, int64_t cs, int64_t kc, int64_t nc, T* HWY_RESTRICT dst) {
  if (cs != 1 || rs == 1) {
    for (int64_t j = 0; j < nc; j += W) pack_panel<T, W>(b + j * cs, cs, rs, nc - j < W ? nc - j : W, kc, dst + j * kc);
    return;
  }
  const hn::ScalableTag<T> d;
  constexpr int kN = HWY_LANES(T), kG = W / kN, kRun = 8;
  for (int64_t k = 0; k < kc; k += kRun) {
    const int64_t run = kc - k < kRun ? kc - k : kRun;
    int64_t j = 0;
    for (; j + W <= nc; j += W) {
      const S* p = b + k * rs + j;
      T* q = dst + j * kc + k * W;
      for (int64_t i = 0; i < run; ++i, p += rs, q += W)
#pragma GCC unroll 4
        for (int g = 0; g < kG; ++g) hn::StoreU(load_wide(d, p + g * kN), d, q + g * kN);
    }
    if (j < nc) pack_panel<T, W>(b + k * rs + j, cs, rs, nc - j, run, dst + j * kc + k * W);
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
