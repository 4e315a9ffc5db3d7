// A caching allocator of device memory: best fit in kept segments, with blocks split and merged. Requests of up to 1 MiB share segments
// of 2 MiB; up to 10 MiB, of 20 MiB; larger ones get segments of their own, in whole 2 MiB.
#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/cuda/runtime.h"

namespace keel::cuda {
namespace {

constexpr size_t kUnit = 512, kSmall = size_t(1) << 20, kSmallSegment = size_t(2) << 20, kMiddle = size_t(10) << 20,
                 kMiddleSegment = size_t(20) << 20;

struct Home;
struct Block {
  char* p;
  size_t bytes;
  bool small, free = true;
  Home* home = nullptr;  // whose segment it is in
  Block *before = nullptr, *after = nullptr;  // neighbours in the segment
  const char* tag = nullptr;
};
struct BySize {
  bool operator()(const Block* a, const Block* b) const { return a->bytes != b->bytes ? a->bytes < b->bytes : a->p < b->p; }
};

/// Who blocks are handed out to: everybody, or a recording, whose blocks go round among its own work alone. All of a recording's memory is
/// in use as long as it lives.
struct Home {
  std::set<Block*, BySize> idle[2];  // [small]
};
struct Pool {
  std::mutex mutex;
  Home common;
  std::unordered_map<void*, Block*> live;
  MemoryStats stats;

  Block* take_idle(int device, Home& home, size_t bytes, bool small);
  Block* adopt_segment(Home& home, size_t bytes, bool small);
  Block* new_segment(int device, Home& home, size_t bytes, bool small);
  int64_t drop_idle_segments(int device);
  void use_bytes(int64_t n) {
    stats.bytes_in_use += n;
    stats.peak_in_use = std::max(stats.peak_in_use, stats.bytes_in_use);
  }
};
thread_local Home* arena = nullptr;  // of this thread's recording
thread_local int arena_device = -1;

Pool& pool(int device) {
  static Pool* const all = new Pool[kMaxDevices];  // never destroyed: tensors may be freed while the program ends
  return all[device];
}

Block* Pool::take_idle(int device, Home& home, size_t bytes, bool small) {
  auto& idle = home.idle;
  Block want{nullptr, bytes, small};
  auto it = idle[small].lower_bound(&want);
  if (it == idle[small].end()) return nullptr;
  Block* b = *it;
  // Of blocks that fit alike one that no pass waits to look at: the longer passes wait, the more go in one launch.
  for (auto other = it; waits(device, b->p, b->p + bytes) && ++other != idle[small].end() && (*other)->bytes == b->bytes;)
    if (!waits(device, (*other)->p, (*other)->p + bytes)) b = *(it = other);
  if (!small && bytes < kMiddle ? false : !small && b->bytes - bytes > std::max(bytes, kMiddleSegment))
    return nullptr;  // a large block is not cut up for a much smaller one
  idle[small].erase(it);
  return b;
}

/// For a recording: a whole segment that nobody uses. Its work is done in the queue, where everybody's is.
Block* Pool::adopt_segment(Home& home, size_t bytes, bool small) {
  Block want{nullptr, bytes, small};
  for (auto it = common.idle[small].lower_bound(&want); it != common.idle[small].end(); ++it) {
    Block* b = *it;
    if (!small && b->bytes - bytes > std::max(bytes, kMiddleSegment)) break;
    if (b->before || b->after) continue;
    common.idle[small].erase(it);
    b->home = &home;
    use_bytes(int64_t(b->bytes));
    return b;
  }
  return nullptr;
}

Block* Pool::new_segment(int device, Home& home, size_t bytes, bool small) {
  const size_t size = small             ? kSmallSegment
                      : bytes < kMiddle ? kMiddleSegment
                                        : (bytes + kSmallSegment - 1) / kSmallSegment * kSmallSegment;
  const auto fits = [&] { return stats.limit == 0 || stats.bytes_reserved + int64_t(size) <= stats.limit; };
  void* p = nullptr;
  if (ready(device) != cudaSuccess) return cudaGetLastError(), nullptr;
  if (!fits() || cudaMalloc(&p, size) != cudaSuccess) {
    cudaGetLastError();
    drop_idle_segments(device);
    if (!fits() || cudaMalloc(&p, size) != cudaSuccess) return cudaGetLastError(), nullptr;
  }
  stats.bytes_reserved += int64_t(size);
  if (&home != &common) use_bytes(int64_t(size));
  return new Block{static_cast<char*>(p), size, small, true, &home};
}

int64_t Pool::drop_idle_segments(int device) {
  int64_t dropped = 0;
  bool waited = false;
  for (auto& set : common.idle)
    for (auto it = set.begin(); it != set.end();) {
      Block* b = *it;
      if (b->before || b->after) {
        ++it;
        continue;
      }
      if (!waited) settle(device, nullptr, nullptr), cudaStreamSynchronize(queue_of(device)), waited = true;
      cudaFree(b->p);
      dropped += int64_t(b->bytes);
      it = set.erase(it);
      delete b;
    }
  stats.bytes_reserved -= dropped;
  return dropped;
}

}  // namespace

void* allocate(int device, size_t bytes, const char* tag) {
  if (bytes > PTRDIFF_MAX / 2) return nullptr;
  const size_t rounded = std::max((bytes + kUnit - 1) / kUnit * kUnit, kUnit);
  const bool small = rounded <= kSmall;
  Pool& pool = cuda::pool(device);
  const std::lock_guard lock(pool.mutex);
  Home& home = arena && arena_device == device ? *arena : pool.common;
  Block* b = pool.take_idle(device, home, rounded, small);
  if (!b && &home != &pool.common) b = pool.adopt_segment(home, rounded, small);
  if (b)
    ++pool.stats.cache_hits;
  else if (!(b = pool.new_segment(device, home, rounded, small)))
    return nullptr;
  if (const size_t rest = b->bytes - rounded; rest >= (small ? kUnit : kSmall)) {
    Block* r = new Block{b->p + rounded, rest, small, true, &home};
    r->before = b, r->after = b->after;
    if (b->after) b->after->before = r;
    b->after = r, b->bytes = rounded;
    home.idle[small].insert(r);
  }
  // What was freed keeps its values until work comes that writes there.
  settle(device, b->p, b->p + b->bytes);
  b->free = false, b->tag = tag;
  pool.live.emplace(b->p, b);
  ++pool.stats.allocations;
  if (&home == &pool.common) pool.use_bytes(int64_t(b->bytes));
  return b->p;
}

void release(int device, void* p, size_t) {
  if (!p) return;
  Pool& pool = cuda::pool(device);
  const std::lock_guard lock(pool.mutex);
  const auto it = pool.live.find(p);
  if (it == pool.live.end()) __builtin_trap();
  Block* b = it->second;
  pool.live.erase(it);
  ++pool.stats.frees;
  if (b->home == &pool.common) pool.stats.bytes_in_use -= int64_t(b->bytes);
  b->free = true;
  auto& idle = b->home->idle[b->small];
  if (Block* n = b->after; n && n->free) {
    idle.erase(n);
    b->bytes += n->bytes, b->after = n->after;
    if (n->after) n->after->before = b;
    delete n;
  }
  if (Block* n = b->before; n && n->free) {
    idle.erase(n);
    n->bytes += b->bytes, n->after = b->after;
    if (b->after) b->after->before = n;
    delete b;
    b = n;
  }
  idle.insert(b);
}

void* open_arena(int device) {
  arena = new Home, arena_device = device;
  return arena;
}
void close_arena() { arena = nullptr, arena_device = -1; }
void forget_arena(int device, void* p) {
  auto* const home = static_cast<Home*>(p);
  Pool& pool = cuda::pool(device);
  const std::lock_guard lock(pool.mutex);
  for (const bool small : {false, true})
    for (Block* b : home->idle[small]) {
      b->home = &pool.common, pool.common.idle[small].insert(b);
      pool.stats.bytes_in_use -= int64_t(b->bytes);
    }
  for (auto& [address, b] : pool.live)
    if (b->home == home) b->home = &pool.common;
  delete home;
}

MemoryStats memory_of(int device) {
  Pool& pool = cuda::pool(device);
  const std::lock_guard lock(pool.mutex);
  return pool.stats;
}
void reset_peak(int device) {
  Pool& pool = cuda::pool(device);
  const std::lock_guard lock(pool.mutex);
  pool.stats.peak_in_use = pool.stats.bytes_in_use;
}
void set_limit(int device, int64_t bytes) {
  Pool& pool = cuda::pool(device);
  const std::lock_guard lock(pool.mutex);
  pool.stats.limit = std::max<int64_t>(bytes, 0);
}
int64_t release_cached(int device) {
  Pool& pool = cuda::pool(device);
  use(device);
  const std::lock_guard lock(pool.mutex);
  return pool.drop_idle_segments(device);
}

void memory_report(int device, size_t wanted, char* text, size_t room) {
  Pool& pool = cuda::pool(device);
  std::map<std::string, std::pair<int64_t, int64_t>> sums;  // bytes, blocks
  MemoryStats s;
  {
    const std::lock_guard lock(pool.mutex);
    s = pool.stats;
    for (const auto& [p, b] : pool.live) {
      auto& sum = sums[b->tag && *b->tag ? b->tag : "(outside of any module)"];
      sum.first += int64_t(b->bytes), ++sum.second;
    }
  }
  size_t free_bytes = 0, total = 0;
  if (const cudaError_t e = ready(device)) {
    std::snprintf(text, room, "%s", text_of(e, "setting up the device"));
    return;
  }
  cudaMemGetInfo(&free_bytes, &total);
  std::vector<std::pair<std::string, std::pair<int64_t, int64_t>>> order(sums.begin(), sums.end());
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.second.first > b.second.first; });
  const auto mib = [](auto n) { return double(n) / 0x1p20; };
  int n = std::snprintf(text, room, "wanted %.1f MiB; in use %.1f MiB, kept %.1f MiB, limit %s%.1f MiB, device %.1f of %.1f MiB free",
                        mib(wanted), mib(s.bytes_in_use), mib(s.bytes_reserved - s.bytes_in_use), s.limit ? "" : "none, ", mib(s.limit),
                        mib(free_bytes), mib(total));
  for (size_t i = 0; i < order.size() && i < 10 && n > 0 && size_t(n) < room; ++i)
    n += std::snprintf(text + n, room - size_t(n), "\n  %10.1f MiB in %lld blocks: %s", mib(order[i].second.first),
                       static_cast<long long>(order[i].second.second), order[i].first.c_str());
}

}  // namespace keel::cuda
