#pragma once
// Convolution by cuDNN's graphs, where the library is found. Everything it refuses is left to the kernels of conv.cu.
#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// One convolution on channels-last memory; extents in the order n, c, h, w. Which of x, w and y is computed says `kind`.
struct Convolution {
  enum Kind : int32_t { forward, to_input, to_weight } kind = forward;
  DType dtype = DType::none;
  int64_t x[4] = {}, w[4] = {}, y[4] = {};
  int64_t stride[2] = {1, 1}, padding[2] = {}, dilation[2] = {1, 1};
  int64_t groups = 1;
  bool bias = false;  // forward only; of one value a channel
  bool any_order = false;
  bool tf32 = false;  // of f32: operands may be rounded to TF32
};
struct ConvolutionPlan;

/// The plan for a convolution on `device`, made at its first use and kept; null where cuDNN is missing or has no engine that repeats its
/// bits, unless they may come in any order.
const ConvolutionPlan* convolution_plan(const Convolution& c, int device);
/// Why there are none, or null.
const char* cudnn_refusal();
size_t workspace_of(const ConvolutionPlan& p);
KernelStatus run(const ConvolutionPlan& p, const void* x, const void* w, const void* bias, const void* y, void* workspace, int device,
                 cudaStream_t stream);

}  // namespace keel::cuda
