#pragma once
// What kernels of the fake device get as their stream: they are functions of the test program, which knows how to reach the memory and
// whether the device records.
#include <cstddef>

namespace keel {

struct FakeQueue {
  /// The address that the host can use for an address of the device; the address itself where it is the host's.
  void* (*open)(void* p) = nullptr;
  bool (*recording)() = nullptr;
  /// Keeps `run(data)` for every replay, in order with all else that is recorded; `drop(data)` when the recording is forgotten.
  void (*keep)(void (*run)(void* data), void (*drop)(void* data), void* data) = nullptr;
};

}  // namespace keel
