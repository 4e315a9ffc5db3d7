#pragma once
// Pooling loops in f32, f64 or i64, one row of results at a time.
#include <cstdint>

#include "keel/dtype.h"

namespace keel::cpu {

/// The windows of one row of results: rows [top, bottom) of the input; column j of the results sees columns [j step - pad, j step - pad +
/// kernel) clipped to [0, width).
struct PoolRow {
  int64_t top, bottom, kernel, step, pad, width, columns;
};

struct PoolLoops {
  /// Channels innermost: x is the image [height, width, channels], y the row [columns, channels]; indices (may be null) are places in the
  /// plane.
  void (*max_inner)(const PoolRow& r, const void* x, int64_t channels, void* y, int32_t* indices) = nullptr;
  void (*sum_inner)(const PoolRow& r, const void* x, int64_t channels, double scale, void* y) = nullptr;
  /// dx [height, width, channels] += g scale, spread over the windows.
  void (*spread_inner)(const PoolRow& r, const void* g, int64_t channels, double scale, void* dx) = nullptr;
  /// One plane: x is [height, width], y the row [columns].
  void (*max_plane)(const PoolRow& r, const void* x, void* y, int32_t* indices) = nullptr;
  void (*sum_plane)(const PoolRow& r, const void* x, double scale, void* y) = nullptr;
  void (*spread_plane)(const PoolRow& r, const void* g, double scale, void* dx) = nullptr;
  /// dx[index[i] * step + i % step] += g[i]: step = channels, or 1 in a plane. And the opposite, y[i] = x[...].
  void (*scatter)(const void* g, const int32_t* indices, int64_t n, int64_t step, void* dx) = nullptr;
  void (*pick)(const void* x, const int32_t* indices, int64_t n, int64_t step, void* y) = nullptr;
};
/// t is f32 or f64, or i64 for the maxima alone.
PoolLoops pool_loops(DType t);

}  // namespace keel::cpu
