#pragma once
// Stable sorting of 64-bit keys with positions: what sort, topk, permutation and all deterministic additions are made of.
#include "backend/cuda/kernel.h"

namespace keel::cuda {

/// Bits that hold the numbers 0 ... n - 1.
constexpr int bits_for(uint64_t n) {
  int b = 0;
  while (b < 64 && n > (uint64_t(1) << b)) ++b;
  return b;
}

/// Room for `n` keys and positions, twice, inside of a workspace.
struct SortRoom {
  uint64_t *keys, *other_keys;
  int64_t *order, *other_order;
  void* temporary;
  size_t temporary_bytes;

  SortRoom(void* space, int64_t n);
  /// Bytes of `space`; asks the device at hand.
  static size_t bytes(int64_t n);
  /// Sorts by bits [low, high) of the keys; keys and order then lead to the result.
  KernelStatus sort(int64_t n, int low, int high, cudaStream_t s);
};

}  // namespace keel::cuda
