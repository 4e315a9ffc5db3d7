#include "core/allocator.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/philox.h"
#include "sanitized.h"

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace keel {
namespace {

// Allocates and fills, so that a test that reads back notices overlap.
struct Held {
  unsigned char* p;
  size_t bytes;
  unsigned char mark;
};
Held hold(size_t bytes, unsigned char mark) {
  auto* p = static_cast<unsigned char*>(cpu_allocate(bytes, "test"));
  if (p != nullptr) std::memset(p, mark, bytes);
  return {p, bytes, mark};
}
bool intact(const Held& h) {
  for (size_t i = 0; i<h.bytes; i += h.bytes> 4096 ? 509 : 1)
    if (h.p[i] != h.mark) return false;
  return h.bytes == 0 || h.p[h.bytes - 1] == h.mark;
}

TEST(Allocator, AlignedAndDisjointAtEverySize) {
  const MemoryStats before = memory_stats();
  std::vector<Held> held;
  for (size_t bytes : {size_t(0), size_t(1), size_t(63), size_t(64), size_t(65), size_t(511), size_t(512), size_t(513), size_t(1025),
                       size_t(4096), size_t(65535), size_t(65536), size_t(65537), size_t(100000), size_t(1) << 20, size_t(5000001)})
    for (int i = 0; i < 3; ++i) held.push_back(hold(bytes, static_cast<unsigned char>(held.size() + 1)));
  int64_t asked = 0;
  for (const Held& h : held) {
    ASSERT_NE(h.p, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(h.p) % 64, 0u);
    EXPECT_TRUE(intact(h));
    asked += static_cast<int64_t>(h.bytes);
  }
  const MemoryStats during = memory_stats();
  EXPECT_GE(during.bytes_in_use - before.bytes_in_use, asked);
  EXPECT_LE(during.bytes_in_use - before.bytes_in_use, asked + asked / 4 + 3 * 16 * 64);
  EXPECT_GE(during.bytes_reserved, during.bytes_in_use);
  EXPECT_EQ(during.allocations - before.allocations, int64_t(held.size()));
  for (const Held& h : held) cpu_free(h.p, h.bytes);
  const MemoryStats after = memory_stats();
  EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
  EXPECT_EQ(after.frees - before.frees, int64_t(held.size()));
  EXPECT_GE(after.peak_in_use, during.bytes_in_use - 300000);
  cpu_free(nullptr, 10);
}

TEST(Allocator, RandomLifetimesNeverOverlap) {
  const int64_t before = memory_stats().bytes_in_use;
  std::vector<Held> live;
  uint64_t seed = 0;
  for (int step = 0; step < 20000; ++step) {
    const auto r = base::philox(seed++, 0, 42);
    if (live.size() < 5 || (r[0] % 100 < 52 && live.size() < 300)) {
      const size_t bytes = r[1] % (uint32_t(1) << (r[2] % 23));
      live.push_back(hold(bytes, static_cast<unsigned char>(r[3])));
      ASSERT_NE(live.back().p, nullptr);
    } else {
      const size_t i = r[1] % live.size();
      ASSERT_TRUE(intact(live[i])) << "step " << step;
      cpu_free(live[i].p, live[i].bytes);
      live[i] = live.back();
      live.pop_back();
    }
    if (step == 10000) release_cached_memory();
  }
  for (const Held& h : live) {
    EXPECT_TRUE(intact(h));
    cpu_free(h.p, h.bytes);
  }
  EXPECT_EQ(memory_stats().bytes_in_use, before);
  release_cached_memory();
  if (!kSanitized) { EXPECT_LT(memory_stats().bytes_reserved - before, 1 << 20); }
}

TEST(Allocator, ThreadsShareAndGiveBack) {
  const MemoryStats before = memory_stats();
  std::mutex mutex;
  std::vector<Held> shared;
  std::atomic<int64_t> bad{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint64_t step = 0; step < 5000; ++step) {
        const auto r = base::philox(step, t, 7);
        const Held mine = hold(r[0] % (uint32_t(1) << (4 + r[1] % 15)), static_cast<unsigned char>(r[2]));
        Held other{};
        {
          const std::lock_guard lock(mutex);
          shared.push_back(mine);
          if (shared.size() > 50) other = std::exchange(shared[r[3] % shared.size()], shared.back()), shared.pop_back();
        }
        if (other.p != nullptr) bad += !intact(other), cpu_free(other.p, other.bytes);  // mostly of another thread
        if (step % 1000 == 0) release_cached_memory(), memory_stats(), memory_report(1);
      }
    });
  for (auto& t : threads) t.join();
  for (const Held& h : shared) bad += !intact(h), cpu_free(h.p, h.bytes);
  EXPECT_EQ(bad, 0);
  const MemoryStats after = memory_stats();
  EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
  EXPECT_EQ(after.allocations - before.allocations, 20000);
  EXPECT_EQ(after.frees - before.frees, 20000);
  release_cached_memory();
  if (!kSanitized) {
    EXPECT_LT(memory_stats().bytes_reserved - after.bytes_in_use, 2 << 20);  // ended threads kept nothing
  }
}

TEST(Allocator, FreeAfterThreadLocalsAreGone) {
  struct Late {
    void* p = nullptr;
    ~Late() {
      cpu_free(p, 100);
      cpu_free(cpu_allocate(200, nullptr), 200);
    }
  };
  const int64_t before = memory_stats().bytes_in_use;
  std::thread([] {
    static thread_local Late late;  // constructed before this thread's cache, so destroyed after it
    late.p = cpu_allocate(100, nullptr);
  }).join();
  EXPECT_EQ(memory_stats().bytes_in_use, before);
}

#if defined(__linux__)
int64_t faults() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return u.ru_minflt;
}
TEST(Allocator, ALargeResultInALoopDoesNotFaultAgain) {
  if (kSanitized) GTEST_SKIP() << "blocks come from the C library here";
  const size_t bytes = 40'000'000;
  for (int i = 0; i < 3; ++i) cpu_free(hold(bytes, 1).p, bytes);
  const MemoryStats before = memory_stats();
  const int64_t start = faults();
  for (int i = 0; i < 20; ++i) cpu_free(hold(bytes, static_cast<unsigned char>(i)).p, bytes);
  EXPECT_LT(faults() - start, 20);
  EXPECT_EQ(memory_stats().cache_hits - before.cache_hits, 20);
  EXPECT_EQ(memory_stats().bytes_reserved, before.bytes_reserved);
  // Other sizes live on the same pages.
  const int64_t again = faults();
  for (int i = 0; i < 20; ++i) {
    const Held a = hold(bytes / 3, 1), b = hold(bytes / 2, 2);
    cpu_free(a.p, a.bytes), cpu_free(b.p, b.bytes);
  }
  EXPECT_LT(faults() - again, 20);
  EXPECT_EQ(memory_stats().bytes_reserved, before.bytes_reserved);
  EXPECT_GE(release_cached_memory(), int64_t(bytes));
  EXPECT_LT(memory_stats().bytes_reserved, before.bytes_reserved - int64_t(bytes) + 4096);
}

TEST(Allocator, WorksInAForkedChild) {
  const Held a = hold(1000, 3), b = hold(1000000, 4);
  const pid_t child = fork();
  if (child == 0) {
    bool ok = intact(a) && intact(b);
    cpu_free(a.p, a.bytes), cpu_free(b.p, b.bytes);
    for (size_t i = 0; i < 100; ++i) cpu_free(hold(i * 1000, 5).p, i * 1000);
    _exit(ok ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  cpu_free(a.p, a.bytes), cpu_free(b.p, b.bytes);
}
#endif

TEST(Allocator, LimitIsHard) {
  release_cached_memory();
  const int64_t base = memory_stats().bytes_reserved;
  for (const size_t bytes : {size_t(1000), size_t(50000), size_t(300000), size_t(3000000)}) {
    set_memory_limit(base + 10'000'000);
    std::vector<Held> held;
    for (;;) {
      const Held h = hold(bytes, 7);
      if (h.p == nullptr) break;
      held.push_back(h);
      ASSERT_LE(memory_stats().bytes_reserved, base + 10'000'000);
      ASSERT_LT(held.size(), 20000u);
    }
    EXPECT_GT(held.size() * bytes, 6'000'000u) << bytes;
    EXPECT_EQ(cpu_allocate(20'000'000, nullptr), nullptr);
    for (const Held& h : held) cpu_free(h.p, h.bytes);
    const Held whole = hold(8'000'000, 1);  // what is kept for reuse makes room
    EXPECT_NE(whole.p, nullptr) << bytes;
    cpu_free(whole.p, whole.bytes);
    set_memory_limit(0);
    release_cached_memory();
  }
}

TEST(Allocator, ImpossibleSizesAreRefused) {
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, size_t(1) << 62, size_t(1) << 50})
    EXPECT_EQ(cpu_allocate(bytes, nullptr), nullptr);
}

#if defined(__linux__)
TEST(Allocator, MoreThanTheMachineHasIsRefused) {
  int policy = 0;
  if (std::FILE* f = std::fopen("/proc/sys/vm/overcommit_memory", "r")) {
    if (std::fscanf(f, "%d", &policy) != 1) policy = 0;
    std::fclose(f);
  }
  if (policy == 1) GTEST_SKIP() << "this system promises any amount";
  EXPECT_EQ(cpu_allocate(size_t(1) << 45, nullptr), nullptr);  // 32 TiB: to write them would end the process
}
#endif

TEST(Allocator, ReportNamesTheLargestHolders) {
  static const char kA[] = "model.layers.0.attn", kB[] = "model.head";
  std::vector<std::pair<void*, size_t>> held;
  for (int i = 0; i < 3; ++i) held.emplace_back(cpu_allocate(2 << 20, kA), 2 << 20);
  held.emplace_back(cpu_allocate(3 << 20, kB), 3 << 20);
  held.emplace_back(cpu_allocate(100000, nullptr), 100000);
  held.emplace_back(cpu_allocate(1000, "too.small"), 1000);
  set_memory_limit(int64_t(1) << 40);
  const std::string report = memory_report(size_t(5) << 30);
  set_memory_limit(0);
  EXPECT_EQ(report.find("wanted 5.00 GiB; in use "), 0u) << report;
  EXPECT_NE(report.find("limit 1024.00 GiB"), std::string::npos) << report;
  const size_t a = report.find("6.0 MiB in 3 blocks: model.layers.0.attn"), b = report.find("3.0 MiB in 1 block: model.head"),
               c = report.find("in 1 block: (outside of any module)");
  EXPECT_TRUE(a < b && b < c && c != std::string::npos) << report;
  EXPECT_EQ(report.find("too.small"), std::string::npos);
  for (const auto& [p, n] : held) cpu_free(p, n);
  for (int i = 0; i < 15; ++i) held[0] = {cpu_allocate(70000, nullptr), 70000}, cpu_free(held[0].first, held[0].second);
}

// Plants a fault beside a block in red-zone mode, and frees it.
void plant(ptrdiff_t offset, size_t freed_as) {
  set_red_zones(true);
  auto* p = static_cast<volatile unsigned char*>(cpu_allocate(100, "layer.fault"));
  if (offset != 50) p[offset] = 1;
  cpu_free(const_cast<unsigned char*>(p), freed_as);
}
TEST(AllocatorDeathTest, RedZonesCatchWritesOutside) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(plant(100, 100), "block of 100 bytes \\(layer.fault\\) was written past its end, 0 bytes away");
  EXPECT_DEATH(plant(131, 100), "past its end, 31 bytes away");
  EXPECT_DEATH(plant(-1, 100), "was written before its begin, 1 bytes away");
  EXPECT_DEATH(plant(50, 96), "was freed with another size, 4 bytes away");
}

TEST(Allocator, RedZonesPoisonFreshMemory) {
  const Held early = hold(1000, 1);
  set_red_zones(true);
  float* f = static_cast<float*>(cpu_allocate(400, nullptr));
  auto* d = static_cast<double*>(cpu_allocate(800000, nullptr));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(f) % 64, 0u);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(std::isnan(f[i]) && std::isnan(d[999 * i]));
  EXPECT_GE(check_red_zones(), 2u);
  cpu_free(early.p, early.bytes);  // blocks from before are freed as ever
  cpu_free(f, 400);
  set_red_zones(false);
  const Held plain = hold(1000, 1);
  cpu_free(d, 800000);
  EXPECT_EQ(check_red_zones(), 0u);
  cpu_free(plain.p, plain.bytes);
}

}  // namespace
}  // namespace keel
