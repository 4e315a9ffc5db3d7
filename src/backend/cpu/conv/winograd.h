#pragma once
#include <cstdint>

#include "backend/cpu/conv/conv.h"

// Convolutions of 3 x 3 windows, stride 1, by Winograd's F(2 x 2, 3 x 3): 16 products for 4 results where direct sums take 36 (Lavin and
// Gray 2016). What planning (winograd.cpp) and the per-target code (winograd.simd.cpp) share; conv.cpp calls the functions at the end.
namespace keel::cpu {

/// Most input or output channels, so that a product's sum is one chain of the GEMM.
inline constexpr int64_t kWinogradMost = 512;

/// Tiles [tile0, tile1), counted over all images [h, w, c]. A tile begins at (2 row - py, 2 column - px) of an image; values outside are 0.
struct WinogradTiles {
  int64_t h, w, c, rows, columns, py, px, tile0, tile1;
};

struct WinogradKernels {
  /// planes[16] = G w G^T for panels [panel0, panel1), `panel` columns each, of the packed B of k x lanes. The weight of (k, lane) is
  /// w[k k_stride + lane lane_stride + tap], or tap 8 - tap where `turned`.
  void (*weights)(const float* w, int64_t lanes, int64_t lane_stride, int64_t k, int64_t k_stride, bool turned, int64_t panel,
                  int64_t panel0, int64_t panel1, float* planes, int64_t plane);
  /// planes[16][tile][c] = B^T d B of 4 x 4 tiles d.
  void (*source)(const WinogradTiles& t, const float* images, float* planes, int64_t plane);
  /// planes[16][tile][c] = A g A^T of 2 x 2 tiles g.
  void (*cotangent)(const WinogradTiles& t, const float* images, float* planes, int64_t plane);
  /// 2 x 2 tiles of the images = A^T planes A + bias, which may be null.
  void (*result)(const WinogradTiles& t, const float* planes, int64_t plane, const float* bias, float* images);
  /// dw[o][c][3][3] = G^T planes G of planes[16][c][o], for o in [o0, o1).
  void (*weight_gradient)(const float* planes, int64_t plane, int64_t c, int64_t o, int64_t o0, int64_t o1, float* dw);
};
const WinogradKernels& winograd_kernels();

/// Whether the form is taken: f32 with enough channels and pixels for it to pay. Neither batch nor threads enter.
bool winograd_suits(Elem e, const ConvShape& s);

/// As the functions of conv.h, for shapes that suit. Numerics: a result is made from 4 x 4 pixels of which it meets 3 x 3; rounding errors
/// are relative to the largest of these, and an infinite pixel makes all 2 x 2 results of a tile NaN or infinite. Bits depend on neither
/// batch nor threads. A slot gets the statistics of the results, block by block, while they are in cache.
int64_t winograd_forward_workspace(const ConvShape& s);
void winograd_forward(const ConvShape& s, const float* x, const float* weight, const float* bias, float* y, StatSlot* slot,
                      void* workspace);
int64_t winograd_backward_input_workspace(const ConvShape& s);
void winograd_backward_input(const ConvShape& s, const float* g, const float* weight, float* dx, StatSlot* slot, void* workspace);
int64_t winograd_backward_weight_workspace(const ConvShape& s);
void winograd_backward_weight(const ConvShape& s, const float* g, const float* x, float* dweight, void* workspace);

}  // namespace keel::cpu
