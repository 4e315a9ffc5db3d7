// A device for tests: its memory has addresses that the host cannot read or write, and it has no kernels, so that every op goes through decompositions and the
// CPU. It stands in for webgpu; built as libkeel_webgpu.so.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "backend/device_kernels.h"
#include "keel/version.h"

namespace keel {
namespace {

constexpr size_t kRoom = size_t(1) << 30;

/// One file, mapped twice: `closed` is what tensors see, `open` is what copies use.
struct Memory {
  std::mutex mutex;
  char *closed = nullptr, *open = nullptr;
  std::multimap<size_t, char*> idle;
  size_t used = 0;
  MemoryStats stats;
  Memory() {
    const int file = memfd_create("fake device", 0);
    if (file < 0 || ftruncate(file, off_t(kRoom)) != 0) std::abort();
    closed = static_cast<char*>(mmap(nullptr, kRoom, PROT_NONE, MAP_SHARED, file, 0));
    open = static_cast<char*>(mmap(nullptr, kRoom, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    if (closed == MAP_FAILED || open == MAP_FAILED) std::abort();
  }
  static size_t rounded(size_t n) { return (n + 511) / 512 * 512; }
};
Memory& memory() {
  static Memory* const m = new Memory;
  return *m;
}

void* allocate(int, size_t bytes, const char*) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const size_t n = Memory::rounded(bytes);
  if (m.stats.limit && m.stats.bytes_in_use + int64_t(n) > m.stats.limit) return nullptr;
  char* p = nullptr;
  if (const auto it = m.idle.find(n); it != m.idle.end()) {
    p = it->second;
    m.idle.erase(it);
  } else {
    if (n > kRoom - m.used) return nullptr;
    p = m.closed + m.used;
    m.used += n;
  }
  m.stats.bytes_in_use += int64_t(n), ++m.stats.allocations;
  m.stats.peak_in_use = std::max(m.stats.peak_in_use, m.stats.bytes_in_use), m.stats.bytes_reserved = int64_t(m.used);
  return p;
}
void release(int, void* p, size_t bytes) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const size_t n = Memory::rounded(bytes);
  m.idle.emplace(n, static_cast<char*>(p));
  m.stats.bytes_in_use -= int64_t(n), ++m.stats.frees;
}
/// The address that the host can use for a device address.
char* opened(const void* p) {
  Memory& m = memory();
  const auto* c = static_cast<const char*>(p);
  if (c < m.closed || c >= m.closed + kRoom) std::abort();
  return m.open + (c - m.closed);
}
const char* copy(int, void* to, const void* from, size_t bytes, CopyWay way) {
  std::memcpy(way == CopyWay::to_host ? static_cast<char*>(to) : opened(to),
              way == CopyWay::to_device ? static_cast<const char*>(from) : opened(from), bytes);
  return nullptr;
}

/// Copies beside the queue are made as late as can be: what does not wait for them sees what was there before.
struct Uploads {
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };
  std::mutex mutex;
  std::vector<Copy> copies;
  size_t made = 0;
};
Uploads& uploads() {
  static Uploads* const u = new Uploads;
  return *u;
}
const char* upload(int, void* to, const void* from, size_t bytes, uint64_t* ticket) {
  Uploads& u = uploads();
  const std::lock_guard lock(u.mutex);
  std::memset(opened(to), 0xa5, bytes);
  u.copies.push_back({to, from, bytes});
  *ticket = u.copies.size();
  return nullptr;
}
const char* finish(int, uint64_t ticket) {
  Uploads& u = uploads();
  const std::lock_guard lock(u.mutex);
  if (ticket == 0 || ticket > u.copies.size()) return "there was no such copy";
  for (; u.made < ticket; ++u.made) std::memcpy(opened(u.copies[u.made].to), u.copies[u.made].from, u.copies[u.made].bytes);
  return nullptr;
}

}  // namespace
}  // namespace keel

extern "C" __attribute__((visibility("default"))) const keel::DeviceDriver* keel_webgpu_driver() {
  using namespace keel;
  static DeviceKernels none;
  static DeviceDriver d;
  d.count = 1, d.build = build_id(), d.name = "webgpu";
  d.allocate = allocate, d.free = release, d.copy = copy;
  d.synchronize = [](int) -> const char* { return nullptr; };
  d.pin = [](size_t bytes) { return std::malloc(bytes); }, d.unpin = [](void* p) { std::free(p); };
  d.upload = upload, d.join = finish, d.await = finish;
  d.stream = [](int) -> void* { return nullptr; };
  d.memory = [](int) {
    const std::lock_guard lock(memory().mutex);
    return memory().stats;
  };
  d.reset_peak = [](int) {};
  d.set_limit = [](int, int64_t bytes) { memory().stats.limit = bytes; };
  d.release_cached = [](int) -> int64_t { return 0; };
  d.memory_report = [](int, size_t, char* text, size_t) { text[0] = 0; };
  d.describe = [](int, char* text, size_t room) { std::strncpy(text, "a device for tests", room); };
  d.kernels = &none;
  return &d;
}
