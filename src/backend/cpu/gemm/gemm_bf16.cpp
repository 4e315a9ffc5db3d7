// Matrix products of bf16 by the instructions made for them, x86-64 only: AMX tiles (tdpbf16ps) and AVX-512 BF16 dot products (vdpbf16ps). Both take pairs of
// neighbours along k, so A and B are packed as pairs: A as blocks of 16 rows of 32 k (64 bytes a row), B as panels of 32 columns, [k / 2][32][2], both filled
// with zeros to whole blocks of 32 k and to whole panels.
//
// Numerics. Products of bf16 are exact in f32. vdpbf16ps adds each of them to its sum, the odd one of a pair before the even one; tdpbf16ps adds up 32 k, even
// and odd apart, from zero, adds these two sums and adds the result to C's. Every addition rounds to nearest, ties to even, whatever MXCSR says, and **subnormal
// inputs, products and sums count as zero**. An element's sum is one chain over the whole of k: blocks of k that are done one after the other take it up from
// memory where they left it. So a result depends on k and the instruction alone, not on m, n, batch, strides, packing, blocking or threads.
//
// Blocks: up to 512 x 512 of B in L2, a stripe of up to 32 rows of A x 512 in L1, sums of up to 512 x 512 of C in f32. Finished stripes go through the
// epilogue of the other products.
#include "backend/cpu/gemm/task.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // with sanitizers
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // the header's _mm512_undefined_epi32, GCC bug 105593
#endif
#include <immintrin.h>

#include <algorithm>
#include <utility>

#define KEEL_PAIRS __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define KEEL_TILES __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace keel::cpu {
namespace {

constexpr int64_t kStep = 32, kNr = 32;            // k of a block; columns of a panel
constexpr int64_t kUnit = 16 * kStep;              // elements of 16 packed rows or columns of one block
constexpr int64_t kDeep = 512, kWide = 512, kTall = 512;  // most of k, columns and rows at a time
constexpr int64_t kHeldLd = kWide + 16;            // rows of sums a power of two apart would compete for lines of L1
constexpr int64_t kStripe = 32 * kDeep, kBlock = kWide * kDeep, kHeld = (kTall + 32) * kHeldLd;

using Bits = uint16_t;

/// v[i], dword j goes to v[j], dword i.
KEEL_PAIRS inline void transpose(__m512i* v) {
  __m512i t[16];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512i *r = v + 4 * g, a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpacklo_epi32(r[2], r[3]),
                  c = _mm512_unpackhi_epi32(r[0], r[1]), d = _mm512_unpackhi_epi32(r[2], r[3]);
    t[g] = _mm512_unpacklo_epi64(a, b), t[4 + g] = _mm512_unpackhi_epi64(a, b);
    t[8 + g] = _mm512_unpacklo_epi64(c, d), t[12 + g] = _mm512_unpackhi_epi64(c, d);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {  // 128-bit part q of t[4 * j + g]: rows 4g to 4g + 3 at column 4q + j
    const __m512i *r = t + 4 * j, a = _mm512_shuffle_i32x4(r[0], r[1], 0x44), b = _mm512_shuffle_i32x4(r[0], r[1], 0xee),
                  c = _mm512_shuffle_i32x4(r[2], r[3], 0x44), d = _mm512_shuffle_i32x4(r[2], r[3], 0xee);
    v[j] = _mm512_shuffle_i32x4(a, c, 0x88), v[4 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[8 + j] = _mm512_shuffle_i32x4(b, d, 0x88), v[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

inline __mmask32 first(int64_t n) { return n >= 32 ? ~__mmask32(0) : n <= 0 ? 0 : (__mmask32(1) << n) - 1; }

/// 16 vectors of 32 k, one for each of `wn` rows `sw` apart that are contiguous along k; zeros behind `kn` and `wn`.
KEEL_PAIRS inline void load_rows(const Bits* p, int64_t sw, int64_t wn, int64_t kn, __m512i* v) {
  const __mmask32 mask = first(kn);
#pragma GCC unroll 16
  for (int w = 0; w < 16; ++w) {
    if (w < wn) {
      v[w] = _mm512_maskz_loadu_epi16(mask, p + w * sw);
      __builtin_prefetch(p + w * sw + 8 * kStep);
    } else {
      v[w] = _mm512_setzero_si512();
    }
  }
}

/// 16 vectors of 16 pairs, one for each pair of neighbours along k, which are `sk` apart; `wn` of the 16 lie side by side, the others are zeros.
KEEL_PAIRS inline void load_pairs(const Bits* p, int64_t sk, int64_t wn, int64_t kn, __m512i* v) {
  const __mmask16 mask = __mmask16(first(wn));
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    if (2 * i < kn) even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + 2 * i * sk));
    if (2 * i + 1 < kn) odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + (2 * i + 1) * sk));
    v[i] = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
  }
}

KEEL_PAIRS inline void gather_rows(const Bits* p, int64_t sw, int64_t sk, int64_t wn, int64_t kn, __m512i* v) {
  alignas(64) Bits rows[kUnit] = {};
  for (int64_t w = 0; w < wn; ++w)
    for (int64_t k = 0; k < kn; ++k) rows[w * kStep + k] = p[w * sw + k * sk];
  for (int w = 0; w < 16; ++w) v[w] = _mm512_load_si512(rows + w * kStep);
}

/// `rows` of A, `kc` long, as [k block][16 rows][32 k]; more than 16 rows lie as two such units one after the other in each k block.
KEEL_PAIRS __attribute__((noinline)) void pack_a(const Bits* a, int64_t rs, int64_t cs, int64_t rows, int64_t kc, Bits* dst) {
  const int64_t units = (rows + 15) / 16, steps = (kc + kStep - 1) / kStep;
  if (cs == 1) {
    for (int64_t r = 0; r < 16 * units; ++r) {
      Bits* q = dst + r * kStep;  // a unit's rows follow those of the one before it
      for (int64_t s = 0; s < steps; ++s, q += units * kUnit)
        _mm512_store_si512(q, r < rows ? _mm512_maskz_loadu_epi16(first(kc - s * kStep), a + r * rs + s * kStep) : _mm512_setzero_si512());
    }
    return;
  }
  for (int64_t s = 0; s < steps; ++s)
    for (int64_t u = 0; u < units; ++u, dst += kUnit) {
      __m512i v[16];
      const Bits* p = a + 16 * u * rs + s * kStep * cs;
      const int64_t wn = std::min<int64_t>(rows - 16 * u, 16), kn = std::min(kc - s * kStep, kStep);
      if (rs == 1)
        load_pairs(p, cs, wn, kn, v), transpose(v);
      else
        gather_rows(p, rs, cs, wn, kn, v);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_store_si512(dst + i * kStep, v[i]);
    }
}

/// `kc` x `nc` of B into panels `stride` elements apart. Columns 16 to 31 of a panel that has none of them are not read, and need not be written.
KEEL_PAIRS __attribute__((noinline)) void pack_b(const Bits* b, int64_t rs, int64_t cs, int64_t kc, int64_t nc, Bits* dst, int64_t stride) {
  const int64_t steps = (kc + kStep - 1) / kStep;
  if (cs == 1) {  // two rows of B at a time, whole lines of both
    for (int64_t k = 0; k < steps * kStep; k += 2) {
      const Bits* p = b + k * rs;
      Bits* q = dst + k * kNr;
      for (int64_t j = 0; j < nc; j += kNr, q += stride) {
        const __mmask32 mask = first(nc - j);
        const __m512i even = k < kc ? _mm512_maskz_loadu_epi16(mask, p + j) : _mm512_setzero_si512(),
                      odd = k + 1 < kc ? _mm512_maskz_loadu_epi16(mask, p + rs + j) : _mm512_setzero_si512();
        const __m512i e0 = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(even)), e1 = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(even, 1));
        const __m512i o0 = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(odd)), o1 = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(odd, 1));
        _mm512_storeu_si512(q, _mm512_or_si512(e0, _mm512_slli_epi32(o0, 16)));
        _mm512_storeu_si512(q + kNr, _mm512_or_si512(e1, _mm512_slli_epi32(o1, 16)));
      }
    }
    return;
  }
  for (int64_t j = 0; j < nc; j += 16) {
    Bits* q = dst + j / kNr * stride + j % kNr * 2;
    for (int64_t s = 0; s < steps; ++s, q += kStep * kNr) {
      __m512i v[16];
      const Bits* p = b + j * cs + s * kStep * rs;
      const int64_t wn = std::min<int64_t>(nc - j, 16), kn = std::min(kc - s * kStep, kStep);
      rs == 1 ? load_rows(p, cs, wn, kn, v) : gather_rows(p, cs, rs, wn, kn, v);
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(q + i * 2 * kNr, v[i]);
    }
  }
}

/// One stripe by one panel: c = (fresh ? 0 : c) + sums over `steps` blocks of k. Writes whole units of 16 columns.
struct TileArgs {
  const Bits *a, *b;
  int64_t steps;
  float* c;
  int64_t ldc;
  bool fresh;
};

// Tiles 0 to 3 are C, 4 and 5 rows of A, 6 and 7 columns of B. The barrier stands for the memory that tile loads read, of which g++ does not know.
template <int kRows, int kCols>
KEEL_TILES __attribute__((noinline)) void amx_tile(const TileArgs& t) {
  __asm__ volatile("" ::: "memory");
  const int64_t ldc = t.ldc * int64_t(sizeof(float));
  if (t.fresh) {
    _tile_zero(0);
    if constexpr (kCols == 2) _tile_zero(1);
    if constexpr (kRows == 2) _tile_zero(2);
    if constexpr (kRows == 2 && kCols == 2) _tile_zero(3);
  } else {
    _tile_loadd(0, t.c, ldc);
    if constexpr (kCols == 2) _tile_loadd(1, t.c + 16, ldc);
    if constexpr (kRows == 2) _tile_loadd(2, t.c + 16 * t.ldc, ldc);
    if constexpr (kRows == 2 && kCols == 2) _tile_loadd(3, t.c + 16 * t.ldc + 16, ldc);
  }
  const Bits *a = t.a, *b = t.b;
  for (int64_t s = 0; s < t.steps; ++s, a += kRows * kUnit, b += 2 * kUnit) {
    _tile_loadd(6, b, 128);
    _tile_loadd(4, a, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kCols == 2) {
      _tile_loadd(7, b + kNr, 128);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(5, a + kUnit, 64);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kRows == 2 && kCols == 2) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, t.c, ldc);
  if constexpr (kCols == 2) _tile_stored(1, t.c + 16, ldc);
  if constexpr (kRows == 2) _tile_stored(2, t.c + 16 * t.ldc, ldc);
  if constexpr (kRows == 2 && kCols == 2) _tile_stored(3, t.c + 16 * t.ldc + 16, ldc);
}

// The instruction itself: of its intrinsic with a broadcast operand, clang 16 crashes.
KEEL_PAIRS inline void add_products(__m512& sum, __m512i x, __m512i y) { __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y)); }

template <int kRows, int kVectors>
KEEL_PAIRS __attribute__((noinline)) void dot_tile(const TileArgs& t) {
  __m512 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) acc[i][v] = t.fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(t.c + i * t.ldc + 16 * v);
  const Bits *a = t.a, *b = t.b;
  for (int64_t s = 0; s < t.steps; ++s, a += kUnit - kStep) {
#pragma GCC unroll 1
    for (int k = 0; k < kStep; k += 2, a += 2, b += 2 * kNr) {
      __m512i x[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        x[v] = _mm512_loadu_si512(b + v * kNr);
        __builtin_prefetch(b + v * kNr + 32 * kNr);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        int pair;
        __builtin_memcpy(&pair, a + i * kStep, 4);
        const __m512i y = _mm512_set1_epi32(pair);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) add_products(acc[i][v], y, x[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(t.c + i * t.ldc + 16 * v, acc[i][v]);
}

struct Tiles {
  static constexpr int64_t kMr = 32;
  KEEL_TILES static void begin() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, zero[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } const config;
    static_assert(sizeof config == 64);
    __asm__ volatile("" ::"r"(&config) : "memory");
    _tile_loadconfig(&config);
  }
  KEEL_TILES static void end() { _tile_release(); }
  static void tile(const TileArgs& t, int64_t rows, int64_t cols) {
    if (rows > 16)
      cols > 16 ? amx_tile<2, 2>(t) : amx_tile<2, 1>(t);
    else
      cols > 16 ? amx_tile<1, 2>(t) : amx_tile<1, 1>(t);
  }
};

struct Dots {
  static constexpr int64_t kMr = 14;
  static void begin() {}
  static void end() {}
  template <int... I>
  static void pick(const TileArgs& t, int64_t rows, int64_t cols, std::integer_sequence<int, I...>) {
    static constexpr void (*kOne[])(const TileArgs&) = {&dot_tile<I + 1, 1>...};
    static constexpr void (*kTwo[])(const TileArgs&) = {&dot_tile<I + 1, 2>...};
    (cols > 16 ? kTwo : kOne)[rows - 1](t);
  }
  static void tile(const TileArgs& t, int64_t rows, int64_t cols) { pick(t, rows, cols, std::make_integer_sequence<int, kMr>()); }
};

int64_t begin_of(int64_t rows, int64_t count, int64_t i, int64_t mr) { return mr == 32 ? std::min(i * mr, rows) : i * (rows / count) + std::min(i, rows % count); }

template <class E>
void run_task(Elem out, const GemmTask& t) {
  float* const held = reinterpret_cast<float*>(round_up(reinterpret_cast<intptr_t>(t.workspace), 64));
  Bits *const pb = reinterpret_cast<Bits*>(held + kHeld), *const pa = pb + kBlock;
  const Bits *a = static_cast<const Bits*>(t.a), *b = static_cast<const Bits*>(t.b);
  const int64_t parts = std::max<int64_t>((t.k + kDeep - 1) / kDeep, 1), deep = std::max(round_up((t.k + parts - 1) / parts, kStep), kStep);
  E::begin();
  for (int64_t jc = 0; jc < t.n; jc += kWide) {
    const int64_t nc = std::min(kWide, t.n - jc), ld = round_up(nc, kNr) + 16;
    for (int64_t ic = 0; ic < t.m; ic += kTall) {
      const int64_t mc = std::min(kTall, t.m - ic), stripes = (mc + E::kMr - 1) / E::kMr;
      for (int64_t p = 0; p == 0 || p < t.k; p += deep) {
        const int64_t kc = std::min(deep, t.k - p), steps = (kc + kStep - 1) / kStep;
        const bool last = p + deep >= t.k;
        const Bits* panels = pb;
        int64_t stride = steps * kStep * kNr;
        if (t.packed_b) {
          stride = round_up(t.k, kStep) * kNr;
          panels = reinterpret_cast<const Bits*>(t.packed_b) + (t.col0 + jc) / kNr * stride + p * kNr;
        } else if (kc > 0) {
          pack_b(b + p * t.b_rs + jc * t.b_cs, t.b_rs, t.b_cs, kc, nc, pb, stride);
        }
        for (int64_t s = 0; s < stripes; ++s) {
          const int64_t i = begin_of(mc, stripes, s, E::kMr), rows = begin_of(mc, stripes, s + 1, E::kMr) - i;
          float* const sums = held + (deep >= t.k ? 0 : i * ld);
          if (kc > 0) pack_a(a + (ic + i) * t.a_rs + p * t.a_cs, t.a_rs, t.a_cs, rows, kc, pa);
          TileArgs g{pa, panels, steps, sums, ld, p == 0};
          for (int64_t j = 0; j < nc; j += kNr, g.b += stride, g.c += kNr) E::tile(g, rows, nc - j);
          if (!last) continue;
          if (t.alpha != 1)
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t j = 0; j < nc; ++j) sums[r * ld + j] *= float(t.alpha);
          gemm_finish_half(out, t, sums, ld, ic + i, rows, jc, nc);
        }
      }
    }
  }
  E::end();
}

GemmShape shape(int64_t mr) {
  return {mr, kNr, kHeld * int64_t(sizeof(float)) + (kBlock + kStripe) * int64_t(sizeof(Bits)) + 128, kStep};
}

}  // namespace

GemmShape gemm_shape_bf16(bool tiles) { return shape(tiles ? Tiles::kMr : Dots::kMr); }
void gemm_task_bf16(bool tiles, Elem out, const GemmTask& t) { tiles ? run_task<Tiles>(out, t) : run_task<Dots>(out, t); }
void gemm_pack_b_bf16(int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
  if (k > 0 && n > 0) pack_b(static_cast<const Bits*>(b), rs, cs, k, n, static_cast<Bits*>(packed), round_up(k, kStep) * kNr);
}

}  // namespace keel::cpu
#endif
