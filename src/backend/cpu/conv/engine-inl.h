// One thread's share of a convolution, once a Highway target. Source rows are read where they lie, or copied band by band (about 400 KB, in L2) into a buffer with
// zeros for the padding, widened to the computing type; then every panel of packed weights (streaming from L2 or L3) meets all pixels of the band. Memory traffic: the source is
// read once per share of the outputs, packed weights once a band, results written once.
#if defined(KEEL_CONV_ENGINE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KEEL_CONV_ENGINE_INL
#undef KEEL_CONV_ENGINE_INL
#else
#define KEEL_CONV_ENGINE_INL
#endif

#include <algorithm>
#include <type_traits>

#include "backend/cpu/conv/task.h"
#include "backend/cpu/conv/tile-inl.h"
#include "backend/cpu/conv/window-inl.h"
#include "backend/cpu/gemm/epilogue-inl.h"
#include "backend/cpu/gemm/pack-inl.h"
#include "backend/cpu/gemm/task.h"
#include "backend/cpu/loops/loops.h"
#include "backend/cpu/loops/stat_rows.h"

HWY_BEFORE_NAMESPACE();
namespace keel::cpu::HWY_NAMESPACE {

template <class T>
struct ConvSizing {
  static constexpr int64_t kN = HWY_LANES(T), kNr = kConvNv * kN;
  static constexpr int64_t kRows = 4096;  // scratch lists of a weight gradient, above the rows of a band
  static constexpr int64_t kWeightChannels = 4 * kConvRows;
  static constexpr int64_t kWeightPixels = 2048;  // a band of a weight gradient
  static int64_t panel_bytes(const ConvGrid& g) { return std::max<int64_t>(kWeightPixels, g.columns) * kNr * int64_t(sizeof(T)); }
  static int64_t band_bytes(const ConvGrid& g, int64_t channels, int64_t band) {
    return std::max<int64_t>(band, (g.dy1 - g.dy0 + 1) * buffer_columns(g) * channels * int64_t(sizeof(T)));
  }
  /// Segments that make_segments cuts, rounded up.
  static int64_t segments(const ConvGrid& g) {
    int64_t count = 0;
    for (int64_t t = 0; t < g.n_taps; ++t) count += (g.taps[t].columns * g.cg + kConvChain - 1) / kConvChain + 1;
    return round_up(count, 8);
  }
  static int64_t task_bytes(const ConvGrid& g) {
    return segments(g) * int64_t(sizeof(Segment)) + (2 * kGroups * kGroup * kNr + 64) * int64_t(sizeof(T)) +
           (g.copy ? band_bytes(g, pixel_pitch(g), conv_band()) : 0) + 256;
  }
  static int64_t weight_block(const ConvGrid& g) { return conv_joined(g) ? g.cg : std::min<int64_t>(kWeightChannels, g.cg); }
  static int64_t weight_task_bytes(const ConvGrid& g) {
    return 5 * kRows * 8 + panel_bytes(g) + (g.copy ? band_bytes(g, weight_block(g), kConvBand) : 0) + 256;
  }
  /// From pixel to pixel of a copied band: those of a tile, if a multiple of 2 KiB apart, would share their lines of L1.
  static int64_t pixel_pitch(const ConvGrid& g) {
    const bool shared = g.taps[0].columns == 1 && g.isx * g.cg * int64_t(sizeof(T)) % 2048 == 0;
    return g.cg + (shared ? 64 / int64_t(sizeof(T)) : 0);
  }
  /// Pixels between two pixels of the copied band: what the grid can touch.
  static int64_t buffer_columns(const ConvGrid& g) {
    return (std::max<int64_t>(g.columns, kGroup * (1 + g.pair)) - 1) * g.isx + g.dx1 - g.dx0 + 1;
  }
};

// Copies source rows [y0, y1) of one image (may lie outside), columns from g.dx0 on, channels [c, c + n) into dst,
// whose pixels are `pitch` apart: widened, zeros outside.
template <class T, class S>
HWY_NOINLINE void copy_band(const ConvGrid& g, int64_t image, int64_t y0, int64_t y1, int64_t columns, int64_t c, int64_t n,
                            int64_t pitch, T* HWY_RESTRICT dst) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  const int64_t left = std::clamp<int64_t>(-g.dx0, 0, columns),
                inside = std::clamp<int64_t>(g.w - std::max<int64_t>(g.dx0, 0), 0, columns - left);
  for (int64_t y = y0; y < y1; ++y, dst += columns * pitch) {
    if (y < 0 || y >= g.h) {
      std::memset(dst, 0, size_t(columns * pitch) * sizeof(T));
      continue;
    }
    std::memset(dst, 0, size_t(left * pitch) * sizeof(T));
    std::memset(dst + (left + inside) * pitch, 0, size_t((columns - left - inside) * pitch) * sizeof(T));
    if (inside == 0) continue;
    const S* src = static_cast<const S*>(g.src) + ((image * g.h + y) * g.w + std::max<int64_t>(g.dx0, 0)) * g.c + c;
    T* to = dst + left * pitch;
    const bool whole = n == g.c && n == pitch;
    const int64_t run = whole ? inside * n : n, runs = whole ? 1 : inside;
    for (int64_t r = 0; r < runs; ++r, src += g.c, to += pitch) {
      int64_t i = 0;
      for (; i + kN <= run; i += kN) hn::StoreU(load_wide(d, src + i), d, to + i);
      for (; i < run; ++i) to[i] = T(src[i]);
    }
  }
}

// Taps [first, last) reach rows inside the image from grid row y; the others would meet zeros only.
struct TapRange {
  int64_t first, last;
  bool operator==(const TapRange&) const = default;
};
inline TapRange taps_inside(const ConvGrid& g, int64_t y) {
  TapRange r{0, g.n_taps};
  while (r.first < r.last && y * g.isy + g.taps[r.first].dy < 0) ++r.first;
  while (r.first < r.last && y * g.isy + g.taps[r.last - 1].dy >= g.h) --r.last;
  return r;
}

// Taps as runs from the first pixel of a grid point, cut so that no chain is much longer than kConvChain.
template <class T>
int64_t make_segments(const ConvGrid& g, TapRange taps, int64_t row_pitch, int64_t pixel_pitch, Segment* out) {
  int64_t count = 0, chain = 0;
  for (int64_t t = taps.first; t < taps.last; ++t) {
    const ConvTap& tap = g.taps[t];
    const int64_t length = tap.columns * g.cg, at = (tap.dy - g.dy0) * row_pitch + (tap.dx - g.dx0) * pixel_pitch;
    const int64_t parts = (length + kConvChain - 1) / kConvChain, step = (length + parts - 1) / std::max<int64_t>(parts, 1);
    for (int64_t p = 0; p < length; p += step) {
      const int64_t len = std::min(step, length - p);
      if (count && chain + len > kConvChain) out[count - 1].ends_chain = true, chain = 0;
      out[count++] = {at + p, len, false}, chain += len;
    }
  }
  return count;
}

/// Statistics of what grid rows [row, end) wrote, still in cache.
template <class O>
void watch_rows(const ConvTask& task, int64_t row, int64_t end, StatSlot::Part& part) {
  const ConvGrid& g = *task.grid;
  constexpr int64_t kNr = ConvSizing<std::conditional_t<std::is_same_v<O, double>, double, float>>::kNr;
  const DType t = dtype_of_elem(std::is_same_v<O, double>     ? Elem::f64
                                : std::is_same_v<O, float>    ? Elem::f32
                                : std::is_same_v<O, bfloat16> ? Elem::bf16
                                                              : Elem::f16);
  const int64_t first = task.panel0 * kNr, count = std::min(task.panel1 * kNr, g.og) - first;
  for (int64_t r = row; r < end; ++r) {
    const O* to = static_cast<const O*>(g.dst) + ((r / g.rows * g.oh + r % g.rows * g.osy + g.oy0) * g.ow + g.ox0) * g.o + g.o0 + first;
    stat_rows(t, to, g.columns, count, g.osx * g.o, part);
  }
}

template <class S, class T, class O>
void run_conv_task(const ConvTask& task) {
  using Z = ConvSizing<T>;
  constexpr int64_t kN = Z::kN, kNr = Z::kNr;
  const ConvGrid& g = *task.grid;
  char* w = reinterpret_cast<char*>(round_up(reinterpret_cast<intptr_t>(task.workspace), 64));
  Segment* segments = reinterpret_cast<Segment*>(w);
  T* narrow = reinterpret_cast<T*>(w + Z::segments(g) * int64_t(sizeof(Segment)));  // one tile of results before conversion
  T* buffer = narrow + 2 * kGroups * kGroup * kNr + 64;
  const int64_t columns = Z::buffer_columns(g), span = g.dy1 - g.dy0;
  const int64_t pixel_pitch = g.copy ? Z::pixel_pitch(g) : g.c, row_pitch = (g.copy ? columns : g.w) * pixel_pitch;
  PixelTile<T> tile{};
  tile.ars = g.isx * pixel_pitch, tile.segments = segments, tile.n_segments = 0;
  // Groups of 7 pixels where they waste no more lanes than groups of 4.
  const bool wide =
      kWideGroup != 0 && !g.pair && g.columns >= kWideGroup && round_up(g.columns, std::max(kWideGroup, 1)) <= round_up(g.columns, kGroup);
  const int64_t group_pixels = wide ? kWideGroup : kGroup * (1 + g.pair), most_groups = wide ? 2 : kGroups, in_l2 = conv_band();
  HWY_ALIGN T held[2 * kGroups * kGroup * kNr];
  tile.held = held, tile.rows = std::min<int64_t>(g.columns, group_pixels);
  constexpr bool kConvert = !std::is_same_v<T, O>;
  O* const dst = static_cast<O*>(g.dst);
  const int64_t pixel_out = g.osx * g.o, groups = (g.columns + group_pixels - 1) / group_pixels;
  // Rows of a band: whole images while they fit, else a part of one.
  const int64_t row_bytes = columns * Z::pixel_pitch(g) * int64_t(sizeof(T)), image_bytes = ((g.rows - 1) * g.isy + span + 1) * row_bytes;
  const int64_t halo = (span + 1 - g.isy) * row_bytes;
  const int64_t images = std::max<int64_t>(in_l2 / std::max<int64_t>(image_bytes, 1), 0);
  const int64_t band = std::max<int64_t>((in_l2 - std::max<int64_t>(halo, 0)) / std::max<int64_t>(row_bytes * g.isy, 1), 1);
  StatSlot::Part part;
  TapRange keys[2 * 32 + 2];
  const bool clipped = g.dy0 < 0 || (g.rows - 1) * g.isy + g.dy1 >= g.h;
  bool built = false;

  for (int64_t row = task.row0; row < task.row1;) {
    const int64_t image0 = row / g.rows;
    int64_t end = images >= 1 ? (image0 + images) * g.rows : std::min(row + band, (image0 + 1) * g.rows);
    end = std::min(end, task.row1);
    // Where each image's part of the band begins in the buffer.
    const int64_t first_rows = std::min(end, (image0 + 1) * g.rows) - row;
    const int64_t first_size = ((first_rows - 1) * g.isy + span + 1) * row_pitch,
                  image_size = ((g.rows - 1) * g.isy + span + 1) * row_pitch;
    if (g.copy) {
      T* to = buffer;
      for (int64_t r = row; r < end;) {
        const int64_t y = r % g.rows, n = std::min(end - r, g.rows - y), y0 = y * g.isy + g.dy0, y1 = (y + n - 1) * g.isy + g.dy1 + 1;
        copy_band<T, S>(g, r / g.rows, y0, y1, columns, g.c0, g.cg, pixel_pitch, to);
        to += (y1 - y0) * row_pitch, r += n;
      }
    }
    // Rows that meet the same taps go together.
    int64_t n_keys = 0;
    for (int64_t r = row; r < end; ++r) {
      const TapRange inside = taps_inside(g, r % g.rows);
      if (std::find(keys, keys + n_keys, inside) == keys + n_keys) keys[n_keys++] = inside;
      if (!clipped) break;
    }
    built = built && !clipped;
    for (int64_t panel = task.panel0; panel < task.panel1; ++panel) {
      tile.cols = std::min(kNr, g.og - panel * kNr);
      const int64_t nv = tile.cols > kN ? 2 : 1, out0 = g.o0 + panel * kNr;
      T bias[kNr];
      if (g.bias) {
        for (int64_t j = 0; j < tile.cols; ++j) bias[j] = T(static_cast<const O*>(g.bias)[out0 + j]);
        tile.bias = bias;
      }
      for (int64_t key = 0; key < n_keys; ++key) {
        if (n_keys > 1 || !built) tile.n_segments = make_segments<T>(g, keys[key], row_pitch, pixel_pitch, segments), built = true;
        tile.b = static_cast<const T*>(g.panels) + panel * g.panel_k * kNr;
        for (int64_t t = 0; t < keys[key].first; ++t) tile.b += g.taps[t].columns * g.cg * kNr;
        const auto next = [&](int64_t r) {
          while (clipped && r < end && taps_inside(g, r % g.rows) != keys[key]) ++r;
          return r;
        };
        int64_t r = next(row), group = 0;
        O* to[kGroups];
        while (r < end) {
          int64_t ng = 0;
          for (; ng < most_groups && r < end; ++ng) {
            const int64_t image = r / g.rows, y = r % g.rows,
                          x = std::max<int64_t>(std::min(group * group_pixels, g.columns - group_pixels), 0);
            if (g.copy) {
              const int64_t in_image = image - image0, base = in_image ? first_size + (in_image - 1) * image_size : 0;
              tile.a[ng] = buffer + base + (in_image ? y : r - row) * g.isy * row_pitch + x * tile.ars;
            } else if constexpr (std::is_same_v<S, T>) {
              tile.a[ng] = static_cast<const T*>(g.src) + ((image * g.h + y * g.isy + g.dy0) * g.w + x * g.isx + g.dx0) * g.c + g.c0;
            }
            to[ng] = dst + ((image * g.oh + y * g.osy + g.oy0) * g.ow + x * g.osx + g.ox0) * g.o + out0;
            if (++group == groups) group = 0, r = next(r + 1);
          }
          if constexpr (kConvert) {
            for (int64_t i = 0; i < ng; ++i) tile.c[i] = narrow + i * group_pixels * kNr;
            tile.ldc = kNr;
          } else {
            for (int64_t i = 0; i < ng; ++i) tile.c[i] = to[i];
            tile.ldc = pixel_out;
          }
          get_pixel_tile<T>(wide, g.pair, ng, nv)(tile);
          if constexpr (kConvert) {
            const hn::ScalableTag<T> d;
            for (int64_t i = 0; i < ng; ++i)
              for (int64_t q = 0; q < tile.rows; ++q)
                for (int64_t j = 0; j < tile.cols; j += kN)
                  store_some(d, hn::LoadU(d, tile.c[i] + q * kNr + j), to[i] + q * pixel_out + j, std::min(kN, tile.cols - j));
          }
        }
      }
    }
    if (g.slot) watch_rows<O>(task, row, end, part);
    row = end;
  }
  if (g.slot) g.slot->merge(part);
}

template <class S, class T>
void run_weight_task(const ConvWeightTask& task) {
  using Z = ConvSizing<T>;
  constexpr int64_t kN = Z::kN, kNr = Z::kNr;
  const ConvGrid& g = *task.grid;
  char* w = reinterpret_cast<char*>(round_up(reinterpret_cast<intptr_t>(task.workspace), 64));
  int64_t* a_row = reinterpret_cast<int64_t*>(w);
  int64_t* b_row = a_row + Z::kRows;
  int64_t *y_row = b_row + Z::kRows, *a_inside = y_row + Z::kRows, *b_inside = a_inside + Z::kRows;
  T* g_buffer = reinterpret_cast<T*>(b_inside + Z::kRows);  // one panel of g, widened
  constexpr bool kConvert = !std::is_same_v<S, T>;
  T* buffer = g_buffer + Z::panel_bytes(g) / int64_t(sizeof(T));
  const bool joined = conv_joined(g);
  const int64_t columns = Z::buffer_columns(g), span = g.dy1 - g.dy0;
  const int64_t block = Z::weight_block(g), band_row = columns * block * int64_t(sizeof(T));
  // Bands as in run_conv_task; the shape alone decides, since the order of the sum follows.
  const int64_t image_bytes = ((g.rows - 1) * g.isy + span + 1) * columns * block * int64_t(sizeof(T));
  const int64_t most_rows = std::min<int64_t>(Z::kRows, std::max<int64_t>(Z::kWeightPixels / g.columns, 1));
  const int64_t images = std::min(kConvBand / std::max<int64_t>(image_bytes, 1), most_rows / g.rows);
  const int64_t halo = (span + 1 - g.isy) * band_row;
  const int64_t part = std::clamp<int64_t>((kConvBand - std::max<int64_t>(halo, 0)) / (band_row * g.isy), 1, most_rows);
  const int64_t total = g.n * g.rows;
  const bool clipped = g.dy0 < 0 || (g.rows - 1) * g.isy + g.dy1 >= g.h;
  for (int64_t c0 = task.channel0; c0 < task.channel1; c0 += block) {
    const int64_t cn = std::min(block, task.channel1 - c0), pixel_pitch = g.copy ? cn : g.c, row_pitch = g.copy ? columns * cn : g.w * g.c;
    for (int64_t row = 0; row < total;) {
      const int64_t image0 = row / g.rows;
      const int64_t end = std::min(images >= 1 ? (image0 + images) * g.rows : std::min(row + part, (image0 + 1) * g.rows), total);
      T* to = buffer;
      for (int64_t r = row; r < end;) {
        const int64_t y = r % g.rows, n = std::min(end - r, g.rows - y), y0 = y * g.isy + g.dy0, y1 = (y + n - 1) * g.isy + g.dy1 + 1,
                      image = r / g.rows;
        if (g.copy) copy_band<T, S>(g, image, y0, y1, columns, g.c0 + c0, cn, cn, to);
        for (int64_t i = 0; i < n; ++i) {
          a_row[r - row + i] =
              g.copy ? to - buffer + i * g.isy * row_pitch : ((image * g.h + y0 + i * g.isy) * g.w + g.dx0) * g.c + g.c0 + c0;
          b_row[r - row + i] = (r + i) * g.columns * g.o, y_row[r - row + i] = (y + i) * g.isy;
        }
        to += (y1 - y0) * row_pitch, r += n;
      }
      WeightTile<T> tile{};
      tile.a_row = a_row, tile.b_row = b_row, tile.rows = end - row, tile.columns = g.columns, tile.a_step = g.isx * pixel_pitch,
      tile.b_step = g.o;
      tile.ldc = task.ld, tile.add = row > 0;
      const T* a = buffer;
      if constexpr (!kConvert) {
        if (!g.copy) a = static_cast<const T*>(g.src);
      }
      for (int64_t panel = task.panel0; panel < task.panel1; ++panel) {
        tile.cols = std::min(kNr, g.og - panel * kNr);
        const int64_t nv = tile.cols > kN ? 2 : 1;
        if constexpr (kConvert) {
          const hn::ScalableTag<T> d;
          for (int64_t p = 0; p < (end - row) * g.columns; ++p) {
            const S* from = static_cast<const S*>(task.g) + (row * g.columns + p) * g.o + g.o0 + panel * kNr;
            for (int64_t j = 0; j < tile.cols; j += kN)
              hn::StoreU(load_some(d, from + j, std::min(kN, tile.cols - j)), d, g_buffer + p * kNr + j);
          }
          for (int64_t r = row; r < end; ++r) b_row[r - row] = (r - row) * g.columns * kNr;
          tile.b = g_buffer, tile.b_step = kNr;
        } else {
          tile.b = static_cast<const T*>(task.g) + g.o0 + panel * kNr;
        }
        if constexpr (std::is_same_v<S, float> && std::is_same_v<T, float>) {
          if (g.pair && g.o == g.og && g.taps[0].columns > 1) {
            int64_t tap_row[8], t = task.tap0, taken = task.tap1 - t;
            while (const PairWeightTileFn run = get_pair_weight_tile(taken, g.taps[0].columns)) {
              for (int64_t i = 0; i < taken; ++i) tap_row[i] = (g.taps[t + i].dy - g.dy0) * row_pitch;
              run({a, tile.b, a_row, b_row, tap_row, end - row, tile.columns, g.og,
                   static_cast<T*>(task.sums) + t * g.taps[0].columns * task.ld, task.ld, tile.add});
              t += taken, taken = task.tap1 - t;
              if (taken == 0) break;
            }
            if (t == task.tap1) continue;
          }
        }
        int64_t k0 = 0;  // rows of sums before this tap
        for (int64_t t = 0; t < task.tap0; ++t) k0 += g.taps[t].columns * g.cg;
        for (int64_t t = task.tap0; t < task.tap1; ++t) {
          const ConvTap& tap = g.taps[t];
          const int64_t run = joined ? tap.columns * g.cg : cn, first = k0 + (joined ? 0 : c0), tiles = (run + kConvRows - 1) / kConvRows;
          const T* at = a + (tap.dy - g.dy0) * row_pitch + (tap.dx - g.dx0) * pixel_pitch;
          if (clipped) {  // rows beyond the image meet zeros
            tile.a_row = a_inside, tile.b_row = b_inside, tile.rows = 0;
            for (int64_t i = 0; i < end - row; ++i)
              if (const int64_t y = y_row[i] + tap.dy; y >= 0 && y < g.h) a_inside[tile.rows] = a_row[i], b_inside[tile.rows++] = b_row[i];
          }
          for (int64_t i = 0; i < tiles; ++i) {
            const int64_t m0 = i * (run / tiles) + std::min(i, run % tiles), m1 = (i + 1) * (run / tiles) + std::min(i + 1, run % tiles);
            tile.a = at + m0, tile.c = static_cast<T*>(task.sums) + (first + m0) * task.ld + panel * kNr;
            get_weight_tile<T>(m1 - m0, nv)(tile);
          }
          k0 += tap.columns * g.cg;
        }
      }
      row = end;
    }
  }
}

template <class S, class T>
void pack_conv_weights(const void* weights, int64_t lanes, int64_t lane_stride, int64_t channels, int64_t k_stride, const int64_t* tap,
                       int64_t n_taps, int64_t panel0, int64_t panel1, bool pair, void* panels) {
  constexpr int64_t kN = ConvSizing<T>::kN, kNr = ConvSizing<T>::kNr;
  const S* w = static_cast<const S*>(weights);
  T* out = static_cast<T*>(panels);
  if (pair) {  // one channel; a lane stands twice
    for (int64_t panel = panel0; panel < panel1; ++panel)
      for (int64_t t = 0; t < n_taps; ++t)
        for (int64_t l = 0; l < kNr; ++l) {
          const int64_t lane = panel * kNr + l / 2;
          out[(panel * n_taps + t) * kNr + l] = lane < lanes ? T(w[lane * lane_stride + tap[t]]) : T(0);
        }
    return;
  }
  const int64_t panel_size = n_taps * channels * kNr;
  if (lane_stride == 1 || k_stride == 1) {  // windows of one tap
    for (int64_t panel = panel0; panel < panel1; ++panel)
      pack_panel<T, kNr>(w + panel * kNr * lane_stride, lane_stride, k_stride, std::min(kNr, lanes - panel * kNr), channels,
                         out + panel * panel_size);
    return;
  }
  const hn::ScalableTag<T> d;
  each_window<T, kNr>(w, lanes, lane_stride, channels, k_stride, panel0, panel1, [&](int64_t panel, int64_t c, const T* rows) HWY_ATTR {
    T* HWY_RESTRICT to = out + panel * panel_size + c * kNr;
    for (int64_t t = 0; t < n_taps; ++t, to += channels * kNr)
      for (int64_t l = 0; l < kNr; l += kN) hn::StoreU(hn::LoadU(d, rows + tap[t] * kNr + l), d, to + l);
  });
}

template <class T>
HWY_INLINE void add_run(const T* HWY_RESTRICT from, T* HWY_RESTRICT to, int64_t n) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = HWY_LANES(T);
  int64_t i = 0;
  for (; i + kN <= n; i += kN) hn::StoreU(hn::Add(hn::LoadU(d, to + i), hn::LoadU(d, from + i)), d, to + i);
  if (i == n) return;
  store_n(hn::Add(load_n(d, to + i, size_t(n - i)), load_n(d, from + i, size_t(n - i))), d, to + i, size_t(n - i));
}
// Pixels in order, and for each pixel its window rows in order, whose columns lie side by side in the image where the dilation is 1.
template <class T>
void spread_columns(const ConvSpread& task) {
  const ConvShape& s = *task.shape;
  const T* from = static_cast<const T*>(task.columns);
  T* image = static_cast<T*>(task.image);
  const int64_t row = s.kw * s.c;
  for (int64_t y = task.row0; y < task.row1; ++y) {
    const int64_t y0 = y * s.sh - s.ph;
    for (int64_t x = 0; x < s.ow; ++x, from += s.kh * row) {
      const int64_t x0 = x * s.sw - s.pw;
      for (int64_t i = 0; i < s.kh; ++i) {
        const int64_t yy = y0 + i * s.dh;
        if (yy < 0 || yy >= s.h) continue;
        const T* taps = from + i * row;
        if (s.dw == 1) {
          const int64_t j0 = std::max<int64_t>(0, -x0), j1 = std::min(s.kw, s.w - x0);
          if (j0 < j1) add_run(taps + j0 * s.c, image + (yy * s.w + x0 + j0) * s.c, (j1 - j0) * s.c);
          continue;
        }
        for (int64_t j = 0; j < s.kw; ++j)
          if (const int64_t xx = x0 + j * s.dw; xx >= 0 && xx < s.w) add_run(taps + j * s.c, image + (yy * s.w + xx) * s.c, s.c);
      }
    }
  }
}

template <class T, class O>
void scatter_weights(const void* sums, int64_t ld, int64_t cg, int64_t taps, int64_t o0, int64_t o1, void* dweight) {
  const hn::ScalableTag<T> d;
  constexpr int64_t kN = ConvSizing<T>::kN;
  const T* s = static_cast<const T*>(sums);
  HWY_ALIGN T rows[kConvTaps * kN];
  const int64_t together = windows_together(taps);
  for (int64_t o = o0; o < o1; o += kN)
    for (int64_t c0 = 0; c0 < cg; c0 += together) {
      const int64_t c1 = std::min(c0 + together, cg);
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t c = c0; c < c1; ++c)
          hn::Store(hn::LoadU(d, s + (t * cg + c) * ld + o), d, rows + ((c - c0) * taps + t) * kN);  // rows of sums are whole vectors
      put_windows(rows, (c1 - c0) * taps, std::min(kN, o1 - o), static_cast<O*>(dweight) + (o * cg + c0) * taps, cg * taps);
    }
}

}  // namespace keel::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
