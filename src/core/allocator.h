#pragma once
#include <keel/memory.h>

#include <cstddef>
#include <string>

namespace keel {

/// A block of at least `bytes` bytes, 64-byte aligned, contents undefined; null when the limit or the system refuses it. Zero bytes give a
/// block too. `tag` says who asked, in a string that lives forever (an interned module path) or null; it is kept for blocks larger than 64
/// KiB, for `memory_report`. Thread-safe; a pair of calls for a small block takes a few nanoseconds.
void* cpu_allocate(size_t bytes, const char* tag) noexcept;

/// Gives back a block of `cpu_allocate`, from any thread; `bytes` as then asked for. Null is ignored.
void cpu_free(void* p, size_t bytes) noexcept;

/// What an out-of-memory error prints: wanted, in use, the limit, and the tags that hold the most bytes in live blocks larger than 64 KiB.
std::string memory_report(size_t wanted);

/// Test mode, off by default: each block allocated from now on is filled with 0xff bytes, which is NaN in every floating type, and lies
/// between two guard zones. Freeing a block whose zones have changed, or with another size than it was allocated with, ends the program
/// with a report.
void set_red_zones(bool on);

/// Checks the zones of all live guarded blocks now; as freeing does. Returns how many were checked.
size_t check_red_zones();

}  // namespace keel
