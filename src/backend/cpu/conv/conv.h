#pragma once
#include <cstdint>

#include "backend/cpu/gemm/gemm.h"
#include "backend/stat_slot.h"

/// Two-dimensional convolution of the CPU backend and its gradients, as implicit matrix products: no im2col matrix is ever made. Images lie [n, h, w, c] dense, weights
/// [o, c / groups, kh, kw] dense. f64 in f64, all else in f32; 16-bit values are rounded once, when stored.
/// f32 images of many channels under 3 x 3 windows of stride 1 go through winograd.h, which says what then holds of rounding errors.
namespace keel::cpu {

struct ConvShape {
  int64_t n, c, h, w;  // input
  int64_t o, oh, ow;   // output
  int64_t kh, kw;      // window
  int64_t sh, sw, ph, pw, dh, dw, groups;
};

/// y = x * weight + bias; `bias` may be null, and so may `slot`, which receives the statistics of the result while it is in cache. Numerics: products are summed over (row, column, channel) of the window in rising order, in blocks whose length depends on
/// the window and the channels alone; taps in the padding above and below are left out. A pixel's bits do not depend on batch, image size (but for winograd.h) or threads.
int64_t conv_forward_workspace(Elem e, const ConvShape& s);
void conv_forward(Elem e, const ConvShape& s, const void* x, const void* weight, const void* bias, void* y, StatSlot* slot,
                  void* workspace);

/// dx from g, the gradient of y. A strided convolution falls into sh * sw phases, each a dense correlation of g. Same promise as forward.
int64_t conv_backward_input_workspace(Elem e, const ConvShape& s);
void conv_backward_input(Elem e, const ConvShape& s, const void* g, const void* weight, void* dx, StatSlot* slot, void* workspace);

/// dweight from g and x. The sum over pixels runs in an order that depends on the shape alone.
int64_t conv_backward_weight_workspace(Elem e, const ConvShape& s);
void conv_backward_weight(Elem e, const ConvShape& s, const void* g, const void* x, void* dweight, StatSlot* slot, void* workspace);

}  // namespace keel::cpu
