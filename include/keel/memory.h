#pragma once
#include <cstdint>

#include "keel/device.h"

#pragma GCC visibility push(default)
/// Host memory that tensors use: statistics, a hard limit, and the cache that keeps freed blocks for the next op.
namespace keel {

struct MemoryStats {
  int64_t bytes_in_use = 0;    ///< of live blocks, each rounded up to what it occupies
  int64_t bytes_reserved = 0;  ///< live blocks and freed ones that are kept
  int64_t peak_in_use = 0;     ///< largest `bytes_in_use` since the start or `reset_peak_memory`; of small blocks some KiB late
  int64_t limit = 0;           ///< 0: none
  int64_t allocations = 0;     ///< blocks handed out
  int64_t frees = 0;           ///< blocks given back
  int64_t cache_hits = 0;      ///< allocations that needed no new memory from the system
};

/// Statistics of all threads. Exact where no other thread allocates meanwhile.
MemoryStats memory_stats();

/// Sets the peak to what is in use now.
void reset_peak_memory();

/// Refuses allocations that would take `bytes_reserved` beyond `bytes`, after giving freed blocks back to the system first; 0 removes the
/// limit. An op that is refused raises an error of code `out_of_memory` that lists the largest live blocks.
void set_memory_limit(int64_t bytes);

/// Gives freed blocks back to the system, as far as whole pages are free; blocks that other threads keep for themselves stay. Returns the
/// bytes given back.
int64_t release_cached_memory();

/// The same for the memory of one device, whose cache is its library's; of the CPU, the functions above.
MemoryStats memory_stats(Device d);
void reset_peak_memory(Device d);
void set_memory_limit(Device d, int64_t bytes);
int64_t release_cached_memory(Device d);

}  // namespace keel
#pragma GCC visibility pop
