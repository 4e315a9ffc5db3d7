#pragma once
#include <algorithm>

#include "backend/cpu/attention/attention.h"

// What attention.cpp (planning, threads) and the per-target code share. Not for other folders.
namespace keel::cpu {

inline constexpr int64_t kQueries = 64, kKeys = 64;  // a tile

/// One head of keys with its group of query heads. Of the queries, tiles [tile0, tile1) counted over the whole group; of the keys, where dk
/// and dv are made, tiles [key0, key1).
struct AttentionTask {
  const AttentionArgs* args;
  int64_t batch, kv_head, tile0, tile1, key0, key1;
  bool makes_dq, makes_dkv;
  char* workspace;
};
struct AttentionKernels {
  int64_t (*forward_bytes)(const AttentionArgs& a);
  int64_t (*backward_bytes)(const AttentionArgs& a);
  void (*forward)(const AttentionTask& t);
  void (*backward)(const AttentionTask& t);
};
const AttentionKernels& attention_kernels_f32();  // also 16-bit types
const AttentionKernels& attention_kernels_f64();

/// Row r of a tile is query i0 + r % span of head `head` + r / span. Short queries of several heads share a tile, so that decoding reads a
/// key once for its group.
struct QueryTile {
  int64_t head, i0, span, rows;
  bool one_head() const { return span == rows; }
};
inline int64_t query_tiles(const AttentionArgs& a) {
  const int64_t group = a.heads / a.kv_heads;
  if (a.t >= kQueries) return group * ((a.t + kQueries - 1) / kQueries);
  return a.t == 0 ? 0 : (group + kQueries / a.t - 1) / (kQueries / a.t);
}
inline QueryTile query_tile(const AttentionArgs& a, int64_t kv_head, int64_t tile) {
  const int64_t group = a.heads / a.kv_heads;
  if (a.t >= kQueries) {
    const int64_t per_head = (a.t + kQueries - 1) / kQueries, i0 = tile % per_head * kQueries, rows = std::min(kQueries, a.t - i0);
    return {kv_head * group + tile / per_head, i0, rows, rows};
  }
  const int64_t most = kQueries / a.t, head = tile * most, heads = std::min(most, group - head);
  return {kv_head * group + head, 0, a.t, heads * a.t};
}
inline int64_t key_tiles(const AttentionArgs& a) { return (a.s + kKeys - 1) / kKeys; }

}  // namespace keel::cpu
