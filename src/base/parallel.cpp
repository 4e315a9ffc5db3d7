// The thread pool. A loop is split once, into as many ranges as there are threads; the caller takes the first and posts each other one into
// the slot of its worker, a single cache line that holds the range and a state word. A worker spins on its own word for about 20 us after
// its last range, then sleeps on a futex. A caller that has finished its own range runs what no worker has begun yet, so a late or sleeping
// worker costs its wake-up call, not the loop; which thread runs a range cannot change a result, because the ranges do not change. One loop
// at a time has the workers: a second caller, like a nested loop, runs its whole range itself instead of waiting.
#include "keel/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <new>
#include <tuple>
#include <utility>

#include "base/cpu_limit.h"
#include "base/env.h"
#include "base/fp_env.h"
#include "base/log.h"
#include "base/threads.h"

#if KEEL_THREADS
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace keel {
namespace {

constexpr int64_t kMaxThreads = 512;

thread_local constinit bool t_inside = false;
std::atomic<int64_t> g_target{0};  // threads asked for; 0 before the first question
std::atomic<const Executor*> g_executor{nullptr};

void run_range(detail::RangeFn fn, void* context, int64_t lo, int64_t hi) noexcept { fn(context, lo, hi); }

int64_t usable() {
  static const int64_t n = base::usable_cpus();
  return n;
}

int64_t default_threads() {
  for (const std::string& complaint : base::env_complaints()) base::log(LogLevel::warning, "environment", complaint);
  for (const char* name : {"KEEL_NUM_THREADS", "OMP_NUM_THREADS"})
    if (const auto n = base::env_int(name); n && *n > 0) return std::min(*n, kMaxThreads);
  return std::min(usable(), kMaxThreads);
}

// Marks this thread as inside a loop.
struct Inside {
  Inside() { t_inside = true; }
  ~Inside() { t_inside = false; }
};

#if KEEL_THREADS

constexpr int64_t kSpinNanoseconds = 20000;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

#if defined(__linux__)
void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}
void futex_wake(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}
#else
void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) { word.wait(expected); }
void futex_wake(std::atomic<uint32_t>& word) { word.notify_all(); }
#endif

enum State : uint32_t { kIdle, kPosted, kRunning };

// Caller: idle -> posted, posted -> idle to take the range back. Worker: posted -> running -> idle. Everything but the word belongs to
// whoever moved it last.
struct alignas(128) Slot {
  std::atomic<uint32_t> word{kIdle};
  std::atomic<bool> worker_sleeps{false}, caller_sleeps{false};
  detail::RangeFn fn = nullptr;
  void* context = nullptr;
  int64_t lo = 0, hi = 0;
};

Slot* g_slots[kMaxThreads];  // g_slots[i] belongs to worker i; written by the holder of g_busy
int64_t g_workers = 1;       // workers started, the caller counted as the first
std::atomic<bool> g_busy{false};
std::atomic<int64_t> g_spin{kSpinNanoseconds};

// Spins until `done()`, for at most `limit` nanoseconds.
template <class Done>
bool spin(int64_t limit, Done done) {
  if (done()) return true;
  if (limit <= 0) return false;
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() - start < std::chrono::nanoseconds(limit));
  return done();
}

void* work(void* argument) {
  Slot& slot = *static_cast<Slot*>(argument);
  const base::DefaultFpEnv env;
  t_inside = true;
  const auto posted = [&] { return slot.word.load(std::memory_order_acquire) == kPosted; };
  for (;;) {
    if (!spin(g_spin.load(std::memory_order_relaxed), posted)) {
      slot.worker_sleeps.store(true, std::memory_order_seq_cst);
      for (uint32_t w; (w = slot.word.load(std::memory_order_seq_cst)) != kPosted;) futex_wait(slot.word, w);
      slot.worker_sleeps.store(false, std::memory_order_relaxed);
    }
    uint32_t expected = kPosted;
    if (!slot.word.compare_exchange_strong(expected, kRunning, std::memory_order_acq_rel, std::memory_order_relaxed)) continue;
    run_range(slot.fn, slot.context, slot.lo, slot.hi);
    if (const unsigned seen = base::take_exceptions()) base::worker_exceptions.fetch_or(seen, std::memory_order_relaxed);
    slot.word.store(kIdle, std::memory_order_seq_cst);
    if (slot.caller_sleeps.load(std::memory_order_seq_cst)) futex_wake(slot.word);
  }
  return nullptr;
}

// A child of fork has no workers; what its parent's were doing is not its business.
void after_fork_in_child() {
  std::fill(g_slots, g_slots + kMaxThreads, nullptr);
  g_workers = 1;
  g_busy.store(false, std::memory_order_relaxed);
}

// Starts workers until there are `n` threads, as far as the system gives them. Needs g_busy.
int64_t ensure_workers(int64_t n) {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, after_fork_in_child); });
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // workers inherit it: a program's signal handlers run on the program's threads
  while (g_workers < n) {
    Slot* slot = new (std::nothrow) Slot;
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    const bool ok = slot != nullptr && pthread_create(&thread, &attributes, work, slot) == 0;
    pthread_attr_destroy(&attributes);
    if (!ok) {
      delete slot;
      break;
    }
#if defined(__linux__)
    char name[16];
    std::snprintf(name, sizeof name, "keel/%d", static_cast<int>(g_workers));
    pthread_setname_np(thread, name);
#endif
    g_slots[g_workers++] = slot;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return std::min(n, g_workers);
}

void run_on_pool(int64_t begin, int64_t end, int64_t chunk, int64_t tasks, detail::RangeFn fn, void* context) {
  const auto range_of = [&](int64_t i) { return std::pair(begin + i * chunk, i + 1 == tasks ? end : begin + (i + 1) * chunk); };
  const int64_t threads = g_workers >= tasks ? tasks : ensure_workers(tasks);
  for (int64_t i = 1; i < threads; ++i) {
    Slot& slot = *g_slots[i];
    slot.fn = fn, slot.context = context;
    std::tie(slot.lo, slot.hi) = range_of(i);
    slot.word.store(kPosted, std::memory_order_seq_cst);
    if (slot.worker_sleeps.load(std::memory_order_seq_cst)) futex_wake(slot.word);
  }
  run_range(fn, context, begin, range_of(0).second);
  for (int64_t i = threads; i < tasks; ++i) {  // only where the system refused threads
    const auto [lo, hi] = range_of(i);
    run_range(fn, context, lo, hi);
  }
  for (int64_t i = threads - 1; i > 0; --i) {
    Slot& slot = *g_slots[i];
    uint32_t expected = kPosted;
    if (slot.word.load(std::memory_order_relaxed) == kPosted &&
        slot.word.compare_exchange_strong(expected, kIdle, std::memory_order_acq_rel, std::memory_order_relaxed))
      run_range(fn, context, slot.lo, slot.hi);
  }
  for (int64_t i = 1; i < threads; ++i) {
    Slot& slot = *g_slots[i];
    if (spin(g_spin.load(std::memory_order_relaxed), [&] { return slot.word.load(std::memory_order_acquire) == kIdle; })) continue;
    slot.caller_sleeps.store(true, std::memory_order_seq_cst);
    for (uint32_t w; (w = slot.word.load(std::memory_order_seq_cst)) != kIdle;) futex_wait(slot.word, w);
    slot.caller_sleeps.store(false, std::memory_order_relaxed);
  }
}

#endif  // KEEL_THREADS

struct Split {
  detail::RangeFn fn;
  void* context;
  int64_t begin, end, chunk, tasks;
};

void run_injected(void* context, int64_t i) {
  const Split& s = *static_cast<Split*>(context);
  const base::DefaultFpEnv env;
  const bool was_inside = t_inside;
  t_inside = true;
  run_range(s.fn, s.context, s.begin + i * s.chunk, i + 1 == s.tasks ? s.end : s.begin + (i + 1) * s.chunk);
  t_inside = was_inside;
}

}  // namespace

int64_t num_threads() {
  int64_t n = g_target.load(std::memory_order_relaxed);
  if (n == 0) {
    int64_t expected = 0;
    n = default_threads();
    if (!g_target.compare_exchange_strong(expected, n, std::memory_order_relaxed)) n = expected;
#if KEEL_THREADS
    else
      g_spin.store(n <= usable() ? kSpinNanoseconds : 0, std::memory_order_relaxed);
#endif
  }
  return n;
}

void set_num_threads(int64_t n) {
  n = std::clamp<int64_t>(n, 1, kMaxThreads);
  g_target.store(n, std::memory_order_relaxed);
#if KEEL_THREADS
  // With more threads than processors, spinning would keep the others from running.
  g_spin.store(n <= usable() ? kSpinNanoseconds : 0, std::memory_order_relaxed);
#endif
}

void set_executor(const Executor* executor) { g_executor.store(executor, std::memory_order_release); }

void detail::parallel_run(int64_t begin, int64_t end, int64_t grain, RangeFn fn, void* context) {
  if (end <= begin) return;
  const base::DefaultFpEnv env;
  const int64_t length = end - begin;
  grain = std::max<int64_t>(grain, 1);
  if (length <= grain || t_inside) return run_range(fn, context, begin, end);
  const int64_t threads = num_threads();
  if (threads <= 1) return run_range(fn, context, begin, end);
  const int64_t chunk = std::max(grain, length / threads + (length % threads != 0)), tasks = length / chunk + (length % chunk != 0);
  if (const Executor* executor = g_executor.load(std::memory_order_acquire); executor != nullptr && executor->run != nullptr) {
    Split split{fn, context, begin, end, chunk, tasks};
    return executor->run(executor->self, tasks, run_injected, &split);
  }
#if KEEL_THREADS
  const Inside inside;
  if (tasks == 1 || g_busy.exchange(true, std::memory_order_acquire)) return run_range(fn, context, begin, end);
  run_on_pool(begin, end, chunk, tasks, fn, context);
  g_busy.store(false, std::memory_order_release);
#else
  run_range(fn, context, begin, end);
#endif
}

}  // namespace keel
