#pragma once

namespace keel {

/// Memory that work reads, or writes, too.
struct MemoryUse {
  const void *begin, *end;
  bool written;
};

}  // namespace keel
