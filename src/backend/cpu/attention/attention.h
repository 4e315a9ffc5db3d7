#pragma once
#include <cstdint>

#include "backend/cpu/gemm/gemm.h"

/// Tiled attention of the CPU backend: softmax(scale q k^T + mask) v for heads in groups, and its gradients. Memory is O((t + s) width) a
/// thread, never O(t s).
namespace keel::cpu {

enum class MaskKind : uint8_t { none, boolean, f32, f64, bf16, f16 };

/// A [b, h, rows, width] operand. Strides count elements.
struct HeadsView {
  const void* data = nullptr;
  int64_t stride[4] = {};
};

/// f64 in f64, all else in f32 with one rounding of each result. Keys go by in tiles of a fixed length from the first on, so a row's bits
/// depend on what it sees, not on batch, queries or threads; for the gradients the queries' tiles are part of the order. A row that sees
/// nothing gives zeros and lse 0.
struct AttentionArgs {
  Elem e = Elem::f32;
  int64_t b = 0, heads = 0, kv_heads = 0, t = 0, s = 0, d = 0, dv = 0;
  HeadsView q, k, v, mask;
  MaskKind mask_kind = MaskKind::none;
  bool causal = false;  // query i sees keys up to i + s - t
  double scale = 1;
  // Forward: y [b, heads, t, dv], of which rows are dense, and, unless null, lse [b, heads, t], dense. lse is f64 or f32.
  HeadsView y;
  void* lse = nullptr;
  // Backward: also g and y as inputs, lse as above; dq, dk, dv like y.
  HeadsView g, y_in, dq, dk, dv_out;
  // Sees each finished part of result `out` (y, lse; dq, dk, dv), `rows` rows of n `step` apart, in cache, on the thread that made it. May
  // be null.
  void (*watch)(void* context, int out, const void* p, int64_t rows, int64_t n, int64_t step) = nullptr;
  void* context = nullptr;
};

/// Bytes of scratch at the present thread count and ISA.
int64_t attention_workspace(const AttentionArgs& a);
void attention_forward(const AttentionArgs& a, void* workspace, int64_t workspace_bytes);
int64_t attention_backward_workspace(const AttentionArgs& a);
void attention_backward(const AttentionArgs& a, void* workspace, int64_t workspace_bytes);

}  // namespace keel::cpu
