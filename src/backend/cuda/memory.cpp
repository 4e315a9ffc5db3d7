// Device memory as the driver hands it out: a pool a device, of what cudaMalloc gives.
#include <algorithm>
#include <cstdio>
#include <unordered_set>

#include "backend/cuda/block_pool.h"
#include "backend/cuda/runtime.h"
#include "base/env.h"

namespace keel::cuda {
namespace {

void* take_segment(int device, size_t bytes) {
  void* p = nullptr;
  if (ready(device) == cudaSuccess && cudaMalloc(&p, bytes) == cudaSuccess) return p;
  cudaGetLastError();
  return nullptr;
}
void give_segment(int device, void* p) {
  use(device);
  cudaFree(p);
}
void wait_for_work(int device) {
  settle(device, nullptr, nullptr);
  cudaStreamSynchronize(queue_of(device));
}

constinit OnEachDevice<BlockPool> pools;

/// KEEL_DEVICE_POOL=0: outside of recordings every tensor has memory of its own, no longer than it is. For tools that look for uses of
/// memory that nobody wrote or that lies beyond an end, which a pool hides. KEEL_DEVICE_POOL=nan: as well, and it begins as NaN.
class Apart {
  const bool nan_ = base::env_string("KEEL_DEVICE_POOL") == "nan";
  std::mutex mutex_;
  std::unordered_set<void*> held_;

 public:
  void* take(int device, size_t bytes) {
    void* const p = take_segment(device, std::max<size_t>(bytes, 1));
    if (p && nan_) cudaMemset(p, 0xff, bytes), cudaDeviceSynchronize();
    const std::lock_guard lock(mutex_);
    if (p) held_.insert(p);
    return p;
  }
  /// Whether `p` was of these.
  bool give(int device, void* p) {
    {
      const std::lock_guard lock(mutex_);
      if (!held_.erase(p)) return false;
    }
    wait_for_work(device);
    give_segment(device, p);
    return true;
  }
};
/// Null where there is a pool.
Apart* apart() {
  static Apart* const all = [] {
    const std::string_view pool = base::env_string("KEEL_DEVICE_POOL");
    return pool == "0" || pool == "nan" ? new Apart : nullptr;
  }();
  return all;
}

}  // namespace

BlockPool& pool_of(int device) {
  return pools.at(device, [device](BlockPool& p) { p.begin(device, {take_segment, give_segment, wait_for_work, waits}); });
}

void* allocate(int device, size_t bytes, const char* tag) {
  BlockPool::Arena* const arena = arena_of(device);
  void* const p = apart() && !arena ? apart()->take(device, bytes) : pool_of(device).take(bytes, tag, arena);
  // What was freed keeps its values until work comes that writes there.
  if (p) settle(device, p, static_cast<char*>(p) + bytes), touches(device, p, static_cast<char*>(p) + bytes);
  return p;
}
void release(int device, void* p, size_t) {
  if (p && !(apart() && apart()->give(device, p))) pool_of(device).give(p);
}

MemoryStats memory_of(int device) { return pool_of(device).stats(); }
void reset_peak(int device) { pool_of(device).reset_peak(); }
void set_limit(int device, int64_t bytes) { pool_of(device).set_limit(bytes); }
int64_t release_cached(int device) { return pool_of(device).release_cached(); }

void memory_report(int device, size_t wanted, char* text, size_t room) {
  const std::vector<BlockPool::Held> held = pool_of(device).held();
  const MemoryStats s = pool_of(device).stats();
  size_t free_bytes = 0, total = 0;
  if (const cudaError_t e = ready(device)) {
    std::snprintf(text, room, "%s", text_of(e, "setting up the device"));
    return;
  }
  cudaMemGetInfo(&free_bytes, &total);
  const auto mib = [](auto n) { return double(n) / 0x1p20; };
  int n = std::snprintf(text, room, "wanted %.1f MiB; in use %.1f MiB, kept %.1f MiB, limit %s%.1f MiB, device %.1f of %.1f MiB free",
                        mib(wanted), mib(s.bytes_in_use), mib(s.bytes_reserved - s.bytes_in_use), s.limit ? "" : "none, ", mib(s.limit),
                        mib(free_bytes), mib(total));
  for (size_t i = 0; i < held.size() && i < 10 && n > 0 && size_t(n) < room; ++i)
    n += std::snprintf(text + n, room - size_t(n), "\n  %10.1f MiB in %lld blocks: %s", mib(held[i].bytes),
                       static_cast<long long>(held[i].blocks), held[i].tag.c_str());
}

}  // namespace keel::cuda
