#pragma once
// Where the blocks of a recording go, once it is known which are needed when. Knows no CUDA.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace keel::cuda {

/// A block: its bytes, and when it was taken and given, on a clock that counts both.
struct BlockLife {
  static constexpr int64_t kLasts = INT64_MAX;
  size_t bytes = 0;
  int64_t taken = 0, given = kLasts;
};

/// Places in one piece, of blocks in the order in which they are taken.
struct BlockPlan {
  std::vector<size_t> at;
  size_t bytes = 0;    // of the piece
  bool apart = false;  // no two blocks share memory
};

/// Blocks that are needed at the same time lie apart; in all little more than the most that is needed at once. Where all of them take no
/// more than `apart` bytes together, no two share memory.
BlockPlan plan_blocks(const std::vector<BlockLife>& lives, size_t apart);

}  // namespace keel::cuda
