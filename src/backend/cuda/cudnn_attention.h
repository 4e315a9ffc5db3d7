#pragma once
// Attention and its gradient by cuDNN's graphs, where the library is found. What it refuses is left to the kernels of attention.cu.
#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// Extents and strides in the order batch, heads, positions, width; the width has stride 1 everywhere.
struct AttentionShape {
  DType dtype = DType::none;
  bool backward = false, causal = false, lse = false;  // lse: forward only, whether it is wanted
  bool any_order = false;                              // backward: dq need not have the same bits in every run
  int64_t batch = 0, heads = 0, kv_heads = 0, t = 0, s = 0, d = 0, dv = 0;
  struct Steps {
    int64_t of[4] = {};
  } q, k, v, y, g, dq, dk, dv_;
};
struct AttentionPlan;

/// The plan for an attention on `device`, made at its first use and kept; null where cuDNN is missing or refuses.
const AttentionPlan* attention_plan(const AttentionShape& a, int device);
size_t workspace_of(const AttentionPlan& p);

struct AttentionOperands {
  const void *q = nullptr, *k = nullptr, *v = nullptr, *g = nullptr;
  void *y = nullptr, *lse = nullptr, *dq = nullptr, *dk = nullptr, *dv = nullptr;
  float scale = 1;
};
KernelStatus run(const AttentionPlan& p, const AttentionOperands& o, void* workspace, int device, cudaStream_t stream);

}  // namespace keel::cuda
