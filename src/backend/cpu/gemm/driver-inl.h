// One thread's rectangle of a GEMM, once a Highway target: blocks of columns (B packed, half of L2), then of k, then stripes of kMr rows
// (A packed, in L1) against all column panels. Memory traffic: B is read once a rectangle, A once a column block, C once a k block. Small
// or narrow operands are read where they lie (A: few column panels use it; B: few row stripes, or it fits in L1), and up to 8 rows stream
// B past partial sums (stream-inl.h). Which path runs cannot be seen in the result: each element is the same chain of FMAs (kernel-
// inl.h).
#if defined(KEEL_GEMM_DRIVER_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_GEMM_DRIVER_INL
#undef KEEL_GEMM_DRIVER_INL
#else
#define KEEL_GEMM_DRIVER_INL
#endif

#include <algorithm>
#include <type_traits>

#include "backend/cpu/gemm/epilogue-inl.h"
#include "backend/cpu/gemm/kernel-inl.h"
#include "backend/cpu/gemm/pack-inl.h"
#include "backend/cpu/gemm/task.h"
#include "backend/cpu/isa.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

template <class T>
struct Blocking {
  static constexpr int64_t kN = HWY_LANES(T), kNr = kNv * kN, kMost = kKBlockBytes / int64_t(sizeof(T));
  static constexpr int64_t kStripe = round_up(kMr * kMost + kN, 64);      // elements of packed A
  static constexpr int64_t kHeldRows = 32 * kMr, kHeldColumns = 8 * kNr;  // block of sums held in the working type where C has another
  static int64_t b_elements() { return round_up(std::max<int64_t>(l2_bytes() / 2 / int64_t(sizeof(T)), kNr * kMost), 64); }
  static int64_t columns(int64_t kc) { return std::max<int64_t>(b_elements() / std::max<int64_t>(kc, 1) / kNr, 1) * kNr; }
  static int64_t bytes(bool converts) {
    return (kStripe + b_elements() + kN + (converts ? kHeldRows * kHeldColumns : 0)) * int64_t(sizeof(T)) + 256;
  }
};

// Rows of stripe i of `count` nearly equal ones: a short last stripe would leave the FMA units waiting for its few accumulators.
HWY_INLINE int64_t stripe_begin(int64_t rows, int64_t count, int64_t i) { return i * (rows / count) + std::min(i, rows % count); }

// All rows against one column panel after the other: for A read in place and few rows. A panel of B is packed into the same L1-sized
// buffer each time.
template <class T>
void run_panels(const GemmTask& t, const T* a, const T* b, T* c, T* pb, int64_t kc_most, const T* bias, bool finish) {
  constexpr int64_t kN = HWY_LANES(T), kNr = kNv * kN;
  const int64_t stripes = (t.m + kMr - 1) / kMr;
  for (int64_t p = 0; p == 0 || p < t.k; p += kc_most) {
    TileArgs<T> g{};
    g.k = std::min(kc_most, t.k - p), g.alpha = T(t.alpha), g.beta = p ? T(1) : T(t.beta);
    g.ars = t.a_rs, g.acs = t.a_cs, g.b = pb, g.ldb = kNr, g.ldc = t.ldc;
    for (int64_t j = 0; j < t.n; j += kNr) {
      g.cols = std::min(kNr, t.n - j);
      pack_block<T, int(kNr)>(b + p * t.b_rs + j * t.b_cs, t.b_rs, t.b_cs, g.k, g.cols, pb);
      const int64_t nv = g.cols > kN ? 2 : 1;
      if (bias && p + kc_most >= t.k) g.bias = bias + j;
      for (int64_t s = 0; s < stripes; ++s) {
        const int64_t i = stripe_begin(t.m, stripes, s);
        g.a = a + i * t.a_rs + p * t.a_cs, g.c = c + i * t.ldc + j;
        Tiles<T, Rows::strided, false>::get(stripe_begin(t.m, stripes, s + 1) - i, nv)(g);
      }
      if (p + kc_most < t.k) continue;
      finish ? finish_block<T, T>(t, c + j, t.ldc, 0, t.m, j, g.cols) : show_block<T>(t, 0, t.m, j, g.cols);
    }
  }
}

// Rows of a stripe read where they lie. At a multiple of 4 KiB apart they share the same few lines of L1.
template <class T>
HWY_INLINE int64_t rows_in_place(int64_t stride) {
  return stride * int64_t(sizeof(T)) % 4096 == 0 ? std::min<int64_t>(kMr, 8) : kMr;
}

// Few rows of A against many columns of B that are contiguous along k: the product is made transposed, so that B, which is large, is read
// where it lies, and A is packed. The chain of each sum is the same.
template <class T>
HWY_NOINLINE void run_swapped(const GemmTask& t, const T* a, const T* b, T* c, T* pa, T* held, int64_t kc_most) {
  constexpr int64_t kN = HWY_LANES(T), kNr = kNv * kN;
  const int64_t mp = round_up(t.m, kNr), most = rows_in_place<T>(t.b_cs), stripes = (t.n + most - 1) / most;
  for (int64_t p = 0; p < t.k; p += kc_most)
    pack_block<T, int(kNr)>(a + p * t.a_cs, t.a_cs, t.a_rs, std::min(kc_most, t.k - p), t.m, pa + p * mp);
  TileArgs<T> g{};
  g.ars = t.b_cs, g.acs = 1, g.ldb = kNr, g.ahead = 16 * kNr, g.ldc = mp, g.alpha = T(t.alpha);
  for (int64_t s = 0; s < stripes; ++s) {
    const int64_t j = stripe_begin(t.n, stripes, s), rows = stripe_begin(t.n, stripes, s + 1) - j;
    for (int64_t p = 0; p < t.k; p += kc_most) {
      g.k = std::min(kc_most, t.k - p), g.beta = p ? T(1) : T(0), g.a = b + j * t.b_cs + p;
      for (int64_t i = 0; i < t.m; i += kNr) {
        g.cols = std::min(kNr, t.m - i), g.b = pa + p * mp + i * g.k, g.c = held + i;
        i == 0 ? prefetch_rows(g) : prefetch_nothing(g);
        Tiles<T, Rows::strided, false>::get(rows, g.cols > kN ? 2 : 1)(g);
      }
    }
    for (int64_t i = 0; i < t.m; ++i)
      for (int64_t r = 0; r < rows; ++r) c[i * t.ldc + j + r] = held[r * mp + i];
  }
}

template <class S, class T, class O>
void run_task(const GemmTask& t) {
  using B = Blocking<T>;
  constexpr bool kPlain = std::is_same_v<S, T>, kDirectC = std::is_same_v<O, T>;
  constexpr int64_t kN = B::kN, kNr = B::kNr;
  const int64_t kc_most = std::max<int64_t>(k_block(t.k, sizeof(T)), 1);
  const S *a = static_cast<const S*>(t.a), *b = static_cast<const S*>(t.b);
  O* c = static_cast<O*>(t.c);
  const GemmEpilogue& e = *t.epilogue;
  bool finish = !kDirectC || e.bias || e.act != Act::none || e.pre || e.on_block;

  if constexpr (kPlain && kDirectC) {
    if (!t.packed_b && t.m <= 8 && t.k > 0) {
      bool done = true;
      const bool far = t.k * t.n * int64_t(sizeof(T)) > 65536;
      if (t.b_rs == 1 && t.b_cs != 1 && (t.m <= 4 || far)) {
        gemm_stream(GemmStream::transposed, t, a, b, c, static_cast<T*>(nullptr), kc_most);
      } else if (t.b_cs == 1 && far) {
        T* const sums = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(t.workspace), 64));
        gemm_stream(GemmStream::wide, t, a, b, c, sums, kc_most);
      } else if (t.b_cs == 1 && t.m <= 4) {
        gemm_stream(GemmStream::rows, t, a, b, c, static_cast<T*>(nullptr), kc_most);
      } else {
        done = false;
      }
      if (done) {
        if (finish) finish_block<T, O>(t, c, t.ldc, 0, t.m, 0, t.n);
        return;
      }
    }
  }

  if constexpr (kPlain && kDirectC) {
    if (!t.packed_b && t.m > 8 && t.m <= 64 && t.n >= 4 * t.m && t.b_rs == 1 && t.b_cs != 1 && t.beta == 0 &&
        t.k * t.n * int64_t(sizeof(T)) > 65536 && round_up(t.m, kNr) * t.k + kN <= B::b_elements()) {
      T* const held = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(t.workspace), 64));
      run_swapped<T>(t, a, b, c, held + B::kStripe, held, kc_most);
      if (finish) finish_block<T, O>(t, c, t.ldc, 0, t.m, 0, t.n);
      return;
    }
  }

  // A bias that is all there is to do is added by the last tile.
  const T* bias = nullptr;
  if constexpr (kDirectC)
    if (e.act == Act::none && !e.pre && t.k > 0) {
      if (e.bias) bias = static_cast<const T*>(e.bias) + t.bias_offset;
      finish = false;
    }

  char* w = reinterpret_cast<char*>(round_up(reinterpret_cast<intptr_t>(t.workspace), 64));
  T* const pa = reinterpret_cast<T*>(w);
  T* const pb = pa + B::kStripe;
  T* const held = pb + B::b_elements() + kN;

  // Rows a multiple of 4 KiB apart would compete for the same lines of L1.
  const bool direct_a =
      kPlain && ((t.a_cs == 1 && (t.a_rs * int64_t(sizeof(T)) % 4096 != 0 || t.k * int64_t(sizeof(T)) <= 256 || t.n <= 4 * kNr)) ||
                 (t.a_rs == 1 && t.n <= 2 * kNr));
  // So is a B of whole panels and short rows that stays in L2: the tiles prefetch it from there as they would its panels.
  const bool by_panels = direct_a && t.m <= 512 && t.k > 96;
  const bool near_b = !by_panels && t.m <= 1024 && t.n % kNr == 0 && t.b_rs * int64_t(sizeof(T)) <= 1536 &&
                      kc_most * t.n * int64_t(sizeof(T)) <= l2_bytes() / 2;
  const bool direct_b =
      kPlain && !t.packed_b && t.b_cs == 1 && (t.m <= kMr || t.k * t.n * int64_t(sizeof(T)) <= 24576 || near_b);
  if constexpr (kPlain && kDirectC) {
    if (by_panels && !direct_b && !t.packed_b) return run_panels<T>(t, a, b, c, pb, kc_most, bias, finish);
  }
  const int64_t most = direct_a && t.a_cs == 1 ? rows_in_place<T>(t.a_rs) : kMr;
  int64_t nc_most = direct_b || t.packed_b ? t.n : B::columns(kc_most), mc_most = t.m;
  if (t.packed_b) nc_most = std::max<int64_t>(B::columns(kc_most), kNr);
  if constexpr (!kDirectC) nc_most = std::min(nc_most, B::kHeldColumns), mc_most = std::min(mc_most, B::kHeldRows);

  for (int64_t jc = 0; jc < t.n; jc += nc_most) {
    const int64_t nc = std::min(nc_most, t.n - jc);
    for (int64_t ic = 0; ic < t.m; ic += mc_most) {
      const int64_t mc = std::min(mc_most, t.m - ic), stripes = (mc + most - 1) / most;
      for (int64_t p = 0; p == 0 || p < t.k; p += kc_most) {
        const int64_t kc = std::min(kc_most, t.k - p);
        const bool first = p == 0, last = p + kc >= t.k;
        const T* panels = nullptr;
        if (t.packed_b) {
          panels = reinterpret_cast<const T*>(t.packed_b) + p * t.packed_n + (t.col0 + jc) * kc;
        } else if (!direct_b) {
          pack_block<T, int(kNr)>(b + p * t.b_rs + jc * t.b_cs, t.b_rs, t.b_cs, kc, nc, pb);
          panels = pb;
        }
        for (int64_t s = 0; s < stripes; ++s) {
          const int64_t i = stripe_begin(mc, stripes, s), rows = stripe_begin(mc, stripes, s + 1) - i;
          TileArgs<T> g{};
          g.k = kc, g.alpha = T(t.alpha);
          const T* shift = last && bias ? bias + jc : nullptr;
          g.beta = !first ? T(1) : kDirectC ? T(t.beta) : T(0);
          if constexpr (kPlain) g.a = a + (ic + i) * t.a_rs + p * t.a_cs, g.ars = t.a_rs, g.acs = t.a_cs;
          // Rows that lie side by side are packed by the first tile on its way, where whole vectors of them can be read.
          const bool packing = kPlain && !direct_a && t.a_rs == 1 && nc >= 2 * kNr && ic + i + round_up(rows, kN) <= t.m;
          if (packing) {
            g.pack = pa;
          } else if (!direct_a) {
            pack_panel<T, kMr>(a + (ic + i) * t.a_rs + p * t.a_cs, t.a_rs, t.a_cs, rows, kc, pa);
            g.a = pa;
          }
          T* out;
          if constexpr (kDirectC)
            out = c + (ic + i) * t.ldc + jc, g.ldc = t.ldc;
          else
            out = held + i * nc_most, g.ldc = nc_most;
          const auto full = direct_a ? Tiles<T, Rows::strided, false>::get(rows, 2) : Tiles<T, Rows::packed, false>::get(rows, 2);
          if (direct_a && t.a_cs == 1 && jc == 0 && s == 0) prefetch_rows(g);
          if constexpr (kPlain)  // the end of the next stripe's row of a transposed A; its beginning came with this stripe
            if (!direct_a && t.a_rs == 1 && s + 1 < stripes)
              g.line = a + (ic + stripe_begin(mc, stripes, s + 2) - 1) * t.a_rs + p * t.a_cs, g.step = t.a_cs,
              g.run = t.a_cs * (64 / int64_t(sizeof(T)));
          int64_t j = 0;
          const auto place = [&] {
            g.c = out + j, g.bias = shift ? shift + j : nullptr;
            if (j) prefetch_nothing(g);
            if constexpr (kPlain)  // the last panel fetches the rows of the next stripe
              if (direct_a && t.a_cs == 1 && j + kNr >= nc && s + 1 < stripes)
                g.line = a + (ic + stripe_begin(mc, stripes, s + 1)) * t.a_rs + p, g.step = t.a_rs, g.run = 64 / int64_t(sizeof(T));
          };
          if constexpr (kPlain)
            if (packing) {
              g.b = direct_b ? b + p * t.b_rs + jc : panels, g.ldb = direct_b ? t.b_rs : kNr, g.ahead = 16 * g.ldb, g.cols = kNr;
              place(), Tiles<T, Rows::packing, false>::whole(rows)(g);
              j = kNr, g.a = pa;
            }
          if (direct_b) {
            if constexpr (kPlain) g.b = b + p * t.b_rs + jc + j, g.ldb = t.b_rs, g.ahead = near_b ? 16 * t.b_rs : 0;
            for (g.cols = kNr; j + kNr <= nc; j += kNr, g.b += kNr) place(), full(g);
          } else {
            g.b = panels + j * kc, g.ldb = kNr, g.ahead = (rows >= 8 ? 16 : 64) * kNr;
            for (g.cols = kNr; j + kNr <= nc; j += kNr, g.b += kNr * kc) place(), full(g);
          }
          if (j < nc) {
            place(), g.cols = nc - j;
            const int64_t nv = g.cols > kN ? 2 : 1;
            if (direct_b) {
              if constexpr (kPlain) g.a = a + (ic + i) * t.a_rs + p * t.a_cs;
              Tiles<T, Rows::strided, true>::get(rows, nv)(g);
            } else {
              (direct_a ? Tiles<T, Rows::strided, false>::get(rows, nv) : Tiles<T, Rows::packed, false>::get(rows, nv))(g);
            }
          }
          if (last) finish ? finish_block<T, O>(t, out, g.ldc, ic + i, rows, jc, nc) : show_block<O>(t, ic + i, rows, jc, nc);
        }
      }
    }
  }
}

template <class S, class T>
void pack_whole_b(int64_t k, int64_t n, const void* b, int64_t rs, int64_t cs, void* packed) {
  constexpr int64_t kNr = Blocking<T>::kNr;
  const int64_t kc_most = k_block(k, sizeof(T)), wide = round_up(n, kNr);
  for (int64_t p = 0; p < k; p += kc_most) {
    const int64_t kc = std::min(kc_most, k - p);
    pack_block<T, int(kNr)>(static_cast<const S*>(b) + p * rs, rs, cs, kc, n, static_cast<T*>(packed) + p * wide);
  }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
