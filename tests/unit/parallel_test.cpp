#include <keel/parallel.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu_limit.h"
#include "base/env.h"
#include "sanitized.h"

#if defined(__linux__)
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace keel {
namespace {

// Restores the thread count.
struct Threads {
  explicit Threads(int64_t n) : before(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int64_t before;
};

using Ranges = std::vector<std::pair<int64_t, int64_t>>;
Ranges ranges_of(int64_t begin, int64_t end, int64_t grain) {
  std::mutex mutex;
  Ranges r;
  parallel_for(begin, end, grain, [&](int64_t lo, int64_t hi) {
    const std::lock_guard lock(mutex);
    r.emplace_back(lo, hi);
  });
  std::sort(r.begin(), r.end());
  return r;
}

TEST(Parallel, CoversEachIndexOnce) {
  for (int64_t threads : {1, 2, 3, 7, 16}) {
    const Threads scope(threads);
    for (int64_t n : {0, 1, 2, 3, 5, 8, 15, 16, 17, 100, 1001})
      for (int64_t grain : {-1, 0, 1, 2, 7, 64, 5000}) {
        int64_t at = -3;
        const Ranges r = ranges_of(-3, n - 3, grain);
        for (const auto& [lo, hi] : r) {
          ASSERT_EQ(lo, at);
          ASSERT_GT(hi, lo);
          ASSERT_TRUE(hi == n - 3 || hi - lo >= grain);
          at = hi;
        }
        ASSERT_EQ(at, n - 3);
        ASSERT_LE(int64_t(r.size()), threads);
      }
  }
  EXPECT_TRUE(ranges_of(5, 2, 1).empty());
}

TEST(Parallel, SplitDependsOnTheThreadCountOnly) {
  const Threads scope(4);
  const Ranges first = ranges_of(0, 1003, 10);
  EXPECT_EQ(first.size(), 4u);
  for (int i = 0; i < 200; ++i) ASSERT_EQ(ranges_of(0, 1003, 10), first);
}

TEST(Parallel, ReallyUsesSeveralThreads) {
  const Threads scope(2);
  std::atomic<int> met{0};
  bool both = false;
  for (int attempt = 0; attempt < 100 && !both; ++attempt) {  // the two halves wait for each other, for at most a while
    met = 0;
    std::atomic<int> saw{0};
    parallel_for(0, 2, [&](int64_t, int64_t) {
      ++met;
      const auto start = std::chrono::steady_clock::now();
      while (met < 2 && std::chrono::steady_clock::now() - start < std::chrono::milliseconds(500)) std::this_thread::yield();
      saw += met == 2;
    });
    both = saw == 2;
  }
  EXPECT_TRUE(both);
}

TEST(Parallel, NestedLoopsRunOnTheirThread) {
  const Threads scope(4);
  std::atomic<int64_t> calls{0}, sum{0};
  std::atomic<bool> moved{false};
  parallel_for(0, 8, [&](int64_t lo, int64_t hi) {
    const auto outer = std::this_thread::get_id();
    for (int64_t i = lo; i < hi; ++i)
      parallel_for(0, 100, [&](int64_t a, int64_t b) {
        ++calls;
        sum += b - a;
        if (std::this_thread::get_id() != outer) moved = true;
      });
  });
  EXPECT_EQ(calls, 8);
  EXPECT_EQ(sum, 800);
  EXPECT_FALSE(moved);
}

TEST(Parallel, CallersFromSeveralThreadsDoNotWaitForEachOther) {
  const Threads scope(3);
  std::vector<std::thread> callers;
  std::atomic<int64_t> wrong{0};
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      std::vector<int> v(1000);
      for (int round = 0; round < 500; ++round) {
        parallel_for(0, 1000, 10, [&](int64_t lo, int64_t hi) {
          for (int64_t i = lo; i < hi; ++i) v[size_t(i)] += int(i);
        });
        if (round % 50 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // let workers fall asleep
      }
      for (int i = 0; i < 1000; ++i) wrong += v[size_t(i)] != 500 * i;
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Parallel, ThreadCountMayChangeWhileOthersLoop) {
  const Threads scope(2);
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (int64_t n = 1; !stop; n = n % 5 + 1) set_num_threads(n), std::this_thread::yield();
  });
  for (int round = 0; round < 2000; ++round) {
    std::atomic<int64_t> sum{0};
    parallel_for(0, 100, [&](int64_t lo, int64_t hi) { sum += hi - lo; });
    ASSERT_EQ(sum, 100);
  }
  stop = true;
  changer.join();
}

TEST(Parallel, ThreadCountIsClamped) {
  const Threads scope(2);
  set_num_threads(-4);
  EXPECT_EQ(num_threads(), 1);
  set_num_threads(int64_t(1) << 40);
  EXPECT_GE(num_threads(), 64);
  EXPECT_LT(num_threads(), 1 << 20);
}

TEST(Parallel, RunsOnAnInjectedExecutor) {
  const Threads scope(3);
  struct Host {
    std::atomic<int64_t> runs{0}, tasks{0};
  } host;
  const Executor executor{[](void* self, int64_t tasks, Executor::Task task, void* context) {
                            auto& h = *static_cast<Host*>(self);
                            ++h.runs;
                            h.tasks += tasks;
                            std::vector<std::thread> threads;
                            for (int64_t i = tasks - 1; i >= 0; --i) threads.emplace_back(task, context, i);
                            for (auto& t : threads) t.join();
                          },
                          &host};
  set_executor(&executor);
  const Ranges r = ranges_of(0, 10, 1);
  std::atomic<int64_t> inner{0};
  parallel_for(0, 3, [&](int64_t, int64_t) { parallel_for(0, 9, [&](int64_t, int64_t) { ++inner; }); });  // nested: one range each
  set_executor(nullptr);
  EXPECT_EQ(r, (Ranges{{0, 4}, {4, 8}, {8, 10}}));
  EXPECT_EQ(host.runs, 2);
  EXPECT_EQ(host.tasks, 6);
  EXPECT_EQ(inner, 3);
  ranges_of(0, 10, 1);
  EXPECT_EQ(host.runs, 2);
}

#if defined(__SSE__)
TEST(Parallel, SubnormalsSurviveAHostThatFlushesThem) {
  const Threads scope(2);
  const unsigned before = _mm_getcsr();
  _mm_setcsr(0x1f80 | 0x8040 | 0x6000);  // flush to zero, subnormals are zero, round towards zero
  volatile float tiny = 1e-39f, one = 1.0f, ulp = 0x1.8p-24f;
  std::atomic<int> kept{0}, rounded{0};
  const auto body = [&](int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; ++i) kept += tiny * 0.5f > 0, rounded += one + ulp > 1.0f;
  };
  parallel_for(0, 2, body);
  parallel_for(0, 1, body);
  const unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  EXPECT_EQ(kept, 3);
  EXPECT_EQ(rounded, 3);
  EXPECT_EQ(after & ~0x3fu, 0x1f80u | 0x8040u | 0x6000u);
}
#endif

#if defined(__linux__)
TEST(Parallel, WorksInAForkedChild) {
  if (kThreadSanitized) GTEST_SKIP() << "ThreadSanitizer does not start threads after a fork";
  const Threads scope(3);
  ranges_of(0, 100, 1);
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int64_t> sum{0};
    for (int i = 0; i < 50; ++i) parallel_for(0, 100, [&](int64_t lo, int64_t hi) { sum += hi - lo; });
    _exit(sum == 5000 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(ranges_of(0, 100, 1).size(), 3u);
}

void put(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

TEST(CpuLimit, ReadsCgroupQuotas) {
  std::string dir = ::testing::TempDir() + "keel_cgroup_XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  for (const char* sub : {"/a", "/a/b", "/cpu", "/cpu/x", "/cpu/x/y"}) mkdir((dir + sub).c_str(), 0700);
  EXPECT_EQ(base::cgroup_quota("0::/a/b\n", dir), 0);
  put(dir + "/a/cpu.max", "max 100000\n");
  EXPECT_EQ(base::cgroup_quota("0::/a/b\n", dir), 0);
  put(dir + "/a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(base::cgroup_quota("0::/a/b\n", dir), 4);
  put(dir + "/a/cpu.max", "350000 100000\n");  // a parent may be tighter
  EXPECT_EQ(base::cgroup_quota("0::/a/b\n", dir), 3);
  put(dir + "/cpu.max", "50000 100000\n");  // half a processor counts as one
  EXPECT_EQ(base::cgroup_quota("0::/a/b\n", dir), 1);
  EXPECT_EQ(base::cgroup_quota("0::/\n", dir), 1);
  put(dir + "/cpu/x/cpu.cfs_quota_us", "200000\n");
  put(dir + "/cpu/x/cpu.cfs_period_us", "100000\n");
  put(dir + "/cpu/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(base::cgroup_quota("12:memory:/m\n3:cpu,cpuacct:/x/y\n", dir), 2);
  EXPECT_EQ(base::cgroup_quota("12:cpuset:/x\n", dir), 0);
  for (const char* text : {"", "nonsense", "0::", ":::", "0::/../../..\n\n\n"})
    EXPECT_LE(base::cgroup_quota(text, dir + "/none"), 0) << text;
  EXPECT_GE(base::usable_cpus(), 1);
}

// The default is read once, so each setting needs its own process: this test binary again, printing the count.
int64_t threads_under(const std::string& environment) {
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return -1;
  const std::string command = "env -u KEEL_NUM_THREADS -u OMP_NUM_THREADS -u GTEST_TOTAL_SHARDS -u GTEST_SHARD_INDEX " + environment +
                              " KEEL_TEST_PRINT_THREADS=1 '" + self +
                              "' --gtest_filter=CpuLimit.Print 2>/dev/null | sed -n 's/^threads //p'";
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  char line[64] = {};
  if (!pipe || std::fgets(line, sizeof line, pipe.get()) == nullptr) return -1;
  return std::atoll(line);
}
TEST(CpuLimit, Print) {
  if (std::getenv("KEEL_TEST_PRINT_THREADS") == nullptr) return;  // helper of the next test
  std::printf("threads %lld\n", static_cast<long long>(num_threads()));
}
TEST(CpuLimit, EnvironmentSetsTheDefault) {
  EXPECT_EQ(threads_under("KEEL_NUM_THREADS=5 OMP_NUM_THREADS=3"), 5);
  EXPECT_EQ(threads_under("OMP_NUM_THREADS=3,2"), 3);
  EXPECT_EQ(threads_under("KEEL_NUM_THREADS=zero OMP_NUM_THREADS=4"), 4);
  EXPECT_EQ(threads_under("KEEL_NUM_THREADS=0"), base::usable_cpus());
  EXPECT_EQ(threads_under(""), base::usable_cpus());
}
#endif

TEST(Env, AValueThatAVariableCannotHaveIsTold) {
  const auto said_with = [](const char* name, const char* value) {
    const std::string before(base::env_string(name));
    setenv(name, value, 1);
    const auto all = base::env_complaints();
    before.empty() ? unsetenv(name) : setenv(name, before.c_str(), 1);
    std::string text;
    for (const std::string& line : all)
      if (line.starts_with(name)) text += line;
    return text;
  };
  EXPECT_EQ(said_with("KEEL_NUM_THREADS", "abc"), "KEEL_NUM_THREADS=abc is not a whole number, and is ignored");
  EXPECT_EQ(said_with("KEEL_FUSE", "none"), "KEEL_FUSE=none is not 0, 1 or all, and is ignored");
  for (const char* good : {"", "0", "2", "4,2"}) EXPECT_EQ(said_with("KEEL_NUM_THREADS", good), "");
  for (const char* good : {"", "0", "1", "nan"}) EXPECT_EQ(said_with("KEEL_DEVICE_POOL", good), "");
}

TEST(Env, LeadingInt) {
  EXPECT_EQ(base::leading_int("12"), 12);
  EXPECT_EQ(base::leading_int(" 7,3"), 7);
  EXPECT_EQ(base::leading_int("0\n"), 0);
  for (const char* bad : {"", " ", "x", "-1", "3x", "99999999999999999999"}) EXPECT_FALSE(base::leading_int(bad)) << bad;
}

}  // namespace
}  // namespace keel
