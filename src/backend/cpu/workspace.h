#pragma once
// Room in a kernel's workspace, in whole lines of the cache.
#include <cstddef>
#include <cstdint>

namespace keel::cpu {

constexpr size_t round_up(size_t bytes) { return (bytes + 63) & ~size_t(63); }

/// Gives out the workspace piece by piece; with a null base it measures.
struct Buffers {
  std::byte* base;
  size_t used = 0;
  template <class U>
  U* take(int64_t n) {
    std::byte* p = base ? base + used : nullptr;
    used += round_up(size_t(n) * sizeof(U));
    return reinterpret_cast<U*>(p);
  }
};

}  // namespace keel::cpu
