#pragma once
#include "backend/cpu/conv/conv.h"
#include "backend/cpu/isa.h"
#include "keel/dtype.h"

// What conv.cpp (planning, threads) and the per-target code share. Not for other folders.
namespace keel::cpu {

/// Most taps of a window.
inline constexpr int64_t kConvTaps = 1024;

/// A stretch of input channels that one output pixel meets: at row `dy`, columns from `dx` on.
struct ConvTap {
  int64_t dy, dx;
  int64_t columns;  // neighbouring columns joined into one run
};

/// Rows of a correlation: dst(y * osy + oy0, x * osx + ox0) = sum over taps of src(y * isy + dy, x * isx + dx) * packed weights, for grid
/// rows and columns y, x.
struct ConvGrid {
  const void* src;
  int64_t n, h, w, c, c0, cg;       // source images; the channels used: cg from c0 on
  int64_t rows, columns, isy, isx;  // the grid in each image and its step in the source
  int64_t dy0, dy1, dx0, dx1;       // least and largest offset of any tap
  const ConvTap* taps;
  int64_t n_taps;
  bool pair;  // one input channel and few outputs: two pixels share a vector
  bool copy;  // whether source rows must be copied (padding, conversion, bad strides)
  void* dst;
  int64_t oh, ow, o, o0, og;  // destination images; the channels written: og from o0 on
  int64_t osy, osx, oy0, ox0;
  const void* panels;  // packed weights: panels of `nr` outputs, [taps in order][columns][cg][nr]
  int64_t panel_k;     // from panel to panel, in rows of `nr`
  int64_t k;           // products an output
  const void* bias;
  StatSlot* slot;  // statistics of what is written, or null
};

/// One thread's share: grid rows [row0, row1) counted over all images, outputs [panel0, panel1) in panels.
struct ConvTask {
  const ConvGrid* grid;
  int64_t row0, row1, panel0, panel1;
  char* workspace;
};

/// Sums dw[k][o] over pixels for a range of rows of k: dw = sum over grid pixels of src(tap, channel) * g(pixel, output).
struct ConvWeightTask {
  const ConvGrid* grid;        // dst unused; `src` is x
  const void* g;               // [n, rows, columns, o]
  int64_t channel0, channel1;  // of cg; all of them where taps join columns
  int64_t panel0, panel1;
  int64_t tap0, tap1;  // of the grid's taps
  void* sums;          // [k][outputs padded] in the computing type
  int64_t ld;
  char* workspace;
};

/// Adds columns [pixel][tap][channel] of output rows [row0, row1) of one image onto its input gradient, dense [h, w, c] in the computing
/// type.
struct ConvSpread {
  const ConvShape* shape;
  const void* columns;
  void* image;
  int64_t row0, row1;
};

/// What one target does for one computing type. `in` is the type of images, weights and results.
struct ConvKernels {
  int64_t (*panel)();           // outputs a panel
  int64_t (*group)();           // fewest columns a grid may have without a copy; twice that where pixels are paired
  int64_t (*paired_outputs)();  // most outputs with which pixels are paired
  int64_t (*task_bytes)(const ConvGrid& g);
  int64_t (*weight_task_bytes)(const ConvGrid& g);
  int64_t (*weight_channels)();  // channels a share of a weight gradient should be a multiple of
  void (*task)(Elem in, const ConvTask& t);
  void (*weight_task)(Elem in, const ConvWeightTask& t);
  /// Panels [panel0, panel1) of packed weights: lane l, channel k, tap t is w[l * lane_stride + k * k_stride + tap[t]].
  void (*pack)(Elem in, const void* w, int64_t lanes, int64_t lane_stride, int64_t channels, int64_t k_stride, const int64_t* tap,
               int64_t n_taps, int64_t panel0, int64_t panel1, bool pair, void* panels);
  /// dweight[(o * cg + c) * taps + t] = sums[(t * cg + c) * ld + o] for o in [o0, o1).
  void (*scatter)(Elem in, const void* sums, int64_t ld, int64_t cg, int64_t taps, int64_t o0, int64_t o1, void* dweight);
  void (*spread)(const ConvSpread& t);
};
/// Grid rows of a depthwise convolution; weights [tap][channels padded to panel() / 2] in the computing type. The grid's cg, og and
/// panels are unused, its taps single.
void conv_depthwise(Elem e, const ConvGrid& g, const void* weights, int64_t row0, int64_t row1);
/// Sums of channels [c0, c1), [tap][channels padded to panel() / 2]; c0 a multiple of that.
void conv_depthwise_weight(Elem e, const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums);
void conv_depthwise_f64(const ConvGrid& g, const void* weights, int64_t row0, int64_t row1);
void conv_depthwise_half(Elem e, const ConvGrid& g, const void* weights, int64_t row0, int64_t row1);
void conv_depthwise_weight_half(Elem e, const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums);
void conv_depthwise_weight_f64(const ConvShape& s, const void* x, const void* g, int64_t c0, int64_t c1, void* sums);

const ConvKernels& conv_kernels_f32();  // also 16-bit types
const ConvKernels& conv_kernels_f64();

/// Bytes of a source band that a task copies at once, in L2. For a weight gradient a constant, since the order of its sums follows.
inline constexpr int64_t kConvBand = 384 << 10;
inline int64_t conv_band() { return l2_bytes() / 2 > kConvBand ? l2_bytes() / 2 : kConvBand; }

/// Whether a weight gradient takes all channels of a tap, or of its joined columns, at once: else blocks of channels.
inline bool conv_joined(const ConvGrid& g) { return g.taps[0].columns > 1 || g.n_taps == 1; }

/// Largest number of products summed in one chain before the chains themselves are added.
inline constexpr int64_t kConvChain = 512;

constexpr DType dtype_of_elem(Elem e) { return e == Elem::f64 ? f64 : e == Elem::f32 ? f32 : e == Elem::bf16 ? bf16 : f16; }

}  // namespace keel::cpu
