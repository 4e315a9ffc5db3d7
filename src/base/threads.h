#pragma once
#include <mutex>

// WebAssembly has threads only where it is compiled with -pthread. Without them a program is one thread and there is nothing to lock.
#if defined(__wasm__) && !defined(_REENTRANT)
#define KEEL_THREADS 0
#else
#define KEEL_THREADS 1
#endif

namespace keel::base {

#if KEEL_THREADS
using Mutex = std::mutex;
#else
struct Mutex {
  void lock() {}
  void unlock() {}
};
#endif

}  // namespace keel::base
