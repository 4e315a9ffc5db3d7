// The caching allocator of host memory. Three parts:
// - Small blocks (up to 64 KiB): 36 size classes, a free list of each in every thread, refilled from and spilled to one shared list of the
//   class; memory comes in slabs of 1 MiB, cut as needed.
// - Large blocks: address space is reserved in segments of 256 MiB and more, whose pages cost nothing until touched. Blocks carry a 64-byte
//   header with boundary tags, split and merge, and free ones hang in bins by size (two-level segregated fit, Masmano et al. 2004), so that
//   a freed 40 MB result serves the next op whatever its size, without a page fault. Each free block knows the hull of its pages that may
//   have been touched; giving them back is one madvise.
// - Test mode: guard zones around each block.
// `bytes_reserved` is live blocks + cut small blocks + touched hulls: what the limit bounds.
#include "core/allocator.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/threads.h"

#if defined(__SANITIZE_ADDRESS__)
#define KEEL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEL_ASAN 1
#endif
#endif
#if defined(KEEL_ASAN)
#include <sanitizer/asan_interface.h>
#define KEEL_HIDE(p, n) __asan_poison_memory_region(p, n)
#define KEEL_SHOW(p, n) __asan_unpoison_memory_region(p, n)
#else
#define KEEL_HIDE(p, n) (void)0
#define KEEL_SHOW(p, n) (void)0
#endif
#if defined(KEEL_ASAN) || !defined(__linux__)
#define KEEL_DIRECT_ALLOCATION 1
#endif
#if defined(__linux__)
#include <pthread.h>
#include <sys/mman.h>
#endif

namespace keel {
namespace {

constexpr size_t kAlign = 64, kSmallLimit = size_t(64) << 10;

std::atomic<int64_t> g_in_use{0}, g_reserved{0}, g_peak{0}, g_limit{0};
std::atomic<int64_t> g_allocations{0}, g_frees{0}, g_misses{0};

void count_in_use(int64_t delta) {
  const int64_t now = g_in_use.fetch_add(delta, std::memory_order_relaxed) + delta;
  for (int64_t old = g_peak.load(std::memory_order_relaxed);
       old < now && !g_peak.compare_exchange_weak(old, now, std::memory_order_relaxed);) {}
}

// Takes `bytes` of what the limit leaves; false where it leaves less.
bool reserve(int64_t bytes) {
  const int64_t limit = g_limit.load(std::memory_order_relaxed);
  const int64_t now = g_reserved.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (limit == 0 || bytes <= 0 || now <= limit) return true;
  g_reserved.fetch_sub(bytes, std::memory_order_relaxed);
  return false;
}

// ---- Large blocks ----

// In front of the bytes of each large block. Sizes are multiples of 64, so headers and bytes stay aligned.
struct alignas(64) Block {
  size_t size;                      // bytes after this header
  Block* before;                    // the block that ends where this one begins; null for the first of a segment
  Block *next, *prev;               // the other blocks of its bin, or the other live ones
  size_t touched_from, touched_to;  // of a free block: no byte outside has been touched
  const char* tag;
  bool free, last;  // last: the end mark of a segment

  char* bytes() { return reinterpret_cast<char*>(this + 1); }
  Block* after() { return reinterpret_cast<Block*>(bytes() + size); }
  int64_t touched() const { return static_cast<int64_t>(touched_to - touched_from); }
};
static_assert(sizeof(Block) == 64);

struct List {
  Block* head = nullptr;
  void push(Block* b) {
    b->prev = nullptr, b->next = head;
    if (head != nullptr) head->prev = b;
    head = b;
  }
  void remove(Block* b) {
    (b->prev != nullptr ? b->prev->next : head) = b->next;
    if (b->next != nullptr) b->next->prev = b->prev;
  }
};

constinit base::Mutex g_large_mutex;
constinit List g_live;  // of large blocks

#if !defined(KEEL_DIRECT_ALLOCATION)

constexpr size_t kPage = 4096, kHugePage = size_t(2) << 20, kMinFree = 4096;  // a remainder shorter than kMinFree stays with its block
constexpr size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

constexpr int kFirstBits = 13, kBinRows = 64 - kFirstBits, kBinColumns = 8;

constinit List g_bins[kBinRows][kBinColumns];
constinit uint64_t g_rows = 0;  // bit i: row i has a block
constinit uint8_t g_columns[kBinRows] = {};
constinit size_t g_next_segment = size_t(256) << 20;

struct Bin {
  int row, column;
};
Bin bin_of(size_t size) {
  const int bits = std::max(static_cast<int>(std::bit_width(size)), kFirstBits);
  return {bits - kFirstBits, static_cast<int>(size >> (bits - 4)) & 7};
}

void insert_free(Block* b) {
  const auto [r, c] = bin_of(b->size);
  b->free = true;
  g_bins[r][c].push(b);
  g_rows |= uint64_t(1) << r, g_columns[r] = static_cast<uint8_t>(g_columns[r] | 1 << c);
}
void remove_free(Block* b) {
  const auto [r, c] = bin_of(b->size);
  g_bins[r][c].remove(b);
  b->free = false;
  if (g_bins[r][c].head != nullptr) return;
  g_columns[r] = static_cast<uint8_t>(g_columns[r] & ~(1 << c));
  if (g_columns[r] == 0) g_rows &= ~(uint64_t(1) << r);
}

// The smallest block of the first `most` in the bin of `size` that is large enough.
Block* fit_within_bin(size_t size, int most) {
  const auto [r, c] = bin_of(size);
  Block* best = nullptr;
  for (Block* b = g_bins[r][c].head; b != nullptr && most > 0; b = b->next, --most)
    if (b->size >= size && (best == nullptr || b->size < best->size)) best = b;
  return best;
}
Block* fit_above_bin(size_t size) {
  auto [r, c] = bin_of(size);
  if (const unsigned columns = g_columns[r] & (~0u << (c + 1)); columns != 0) return g_bins[r][std::countr_zero(columns)].head;
  const uint64_t rows = r + 1 < 64 ? g_rows & (~uint64_t(0) << (r + 1)) : 0;
  if (rows == 0) return nullptr;
  r = std::countr_zero(rows);
  return g_bins[r][std::countr_zero(unsigned(g_columns[r]))].head;
}

// `bytes` of zero pages aligned to a huge page; null where the system has no address space left, or refuses what it could never back with
// memory: better an error of this call than the end of the process when the pages are written.
char* map_aligned(size_t bytes) {
  void* p = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  const auto at = reinterpret_cast<uintptr_t>(p), start = round_up(at, kHugePage);
  if (start > at) munmap(p, start - at);
  if (at + kHugePage > start) munmap(reinterpret_cast<void*>(start + bytes), at + kHugePage - start);
  return reinterpret_cast<char*>(start);
}

Block* new_segment(size_t size) {
  if (size > (size_t(1) << 46)) return nullptr;
  const size_t least = round_up(size + 2 * sizeof(Block), kHugePage);
  char* p = nullptr;
  size_t bytes = std::max(least, g_next_segment);
  for (;; bytes = std::max(least, round_up(bytes / 2, kHugePage))) {  // less where address space is short
    if ((p = map_aligned(bytes)) != nullptr || bytes == least) break;
  }
  if (p == nullptr) return nullptr;
  g_next_segment = std::min(bytes * 2, size_t(8) << 30);
  madvise(p, bytes, MADV_HUGEPAGE);
  auto* first = reinterpret_cast<Block*>(p);
  *first = Block{bytes - 2 * sizeof(Block), nullptr, nullptr, nullptr, 0, 0, nullptr, false, false};
  *first->after() = Block{0, first, nullptr, nullptr, 0, 0, nullptr, false, true};
  insert_free(first);
  return first;
}

// Needs g_large_mutex.
int64_t release_large() {
  int64_t released = 0;
  for (auto& row : g_bins)
    for (auto& bin : row)
      for (Block *b = bin.head, *next = nullptr; b != nullptr; b = next) {
        next = b->next;
        if (b->before == nullptr && b->after()->last) {
          const int64_t touched = b->touched();
          remove_free(b);
          released += touched, g_reserved.fetch_sub(touched, std::memory_order_relaxed);
          munmap(b, b->size + 2 * sizeof(Block));
          continue;
        }
        if (b->touched() == 0) continue;
        const auto from = round_up(reinterpret_cast<uintptr_t>(b->bytes() + b->touched_from), kPage),
                   to = reinterpret_cast<uintptr_t>(b->bytes() + b->touched_to) / kPage * kPage;
        if (to > from) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
        released += b->touched(), g_reserved.fetch_sub(b->touched(), std::memory_order_relaxed);
        b->touched_from = b->touched_to = 0;
      }
  return released;
}

int64_t release_small();

// Needs g_large_mutex. Cuts `size` bytes off the front of a free block, as far as the limit allows.
bool take(Block* b, size_t size) {
  const bool split = b->size - size >= kMinFree + sizeof(Block);
  const size_t cut = size + sizeof(Block), kept = split ? size : b->size;
  const size_t rest_from = split ? std::max(b->touched_from, cut) - cut : 0, rest_to = split ? std::max(b->touched_to, cut) - cut : 0;
  if (!reserve(static_cast<int64_t>(kept + rest_to - rest_from) - b->touched())) return false;
  remove_free(b);
  if (split) {
    auto* rest = reinterpret_cast<Block*>(b->bytes() + size);
    *rest = Block{b->size - cut, b, nullptr, nullptr, rest_from, std::max(rest_from, rest_to), nullptr, false, false};
    b->size = size;
    rest->after()->before = rest;
    insert_free(rest);
  }
  return true;
}

void* large_allocate(size_t bytes, const char* tag) {
  const size_t size = round_up(bytes, kAlign);
  if (size < bytes || size > (size_t(1) << 46)) return nullptr;
  for (int attempt = 0; attempt < 2; ++attempt) {
    {
      const std::lock_guard lock(g_large_mutex);
      Block* b = fit_within_bin(size, 32);
      if (b == nullptr) b = fit_above_bin(size);
      if (b == nullptr) b = fit_within_bin(size, 1 << 20);
      bool fresh = b == nullptr;
      if (fresh) b = new_segment(size);
      if (b != nullptr) {
        const bool touched = b->touched() >= static_cast<int64_t>(size / 2);
        if (take(b, size)) {
          b->tag = tag;
          g_live.push(b);
          g_allocations.fetch_add(1, std::memory_order_relaxed);
          if (!touched) g_misses.fetch_add(1, std::memory_order_relaxed);
          count_in_use(static_cast<int64_t>(b->size));
          return b->bytes();
        }
      }
    }
    if (attempt == 0 && release_cached_memory() == 0) return nullptr;
  }
  return nullptr;
}

void large_free(void* p) {
  const std::lock_guard lock(g_large_mutex);
  Block* b = static_cast<Block*>(p) - 1;
  g_live.remove(b);
  g_frees.fetch_add(1, std::memory_order_relaxed);
  count_in_use(-static_cast<int64_t>(b->size));
  b->touched_from = 0, b->touched_to = b->size;
  int64_t grown = 0;
  if (Block* n = b->after(); n->free) {
    remove_free(n);
    const size_t shift = b->size + sizeof(Block);
    grown -= b->touched() + n->touched();
    if (n->touched() > 0)
      b->touched_to = shift + n->touched_to;
    else
      b->touched_to = b->size;
    b->size = shift + n->size;
    grown += b->touched();
  }
  if (Block* m = b->before; m != nullptr && m->free) {
    remove_free(m);
    const size_t shift = m->size + sizeof(Block);
    grown -= m->touched() + b->touched();
    if (m->touched() == 0) m->touched_from = shift;
    m->touched_to = shift + b->touched_to;
    m->size = shift + b->size;
    grown += m->touched();
    b = m;
  }
  b->after()->before = b;
  g_reserved.fetch_add(grown, std::memory_order_relaxed);
  insert_free(b);
}

// ---- Small blocks ----

constexpr int kClasses = 36;
constexpr size_t kSlab = size_t(1) << 20;

// 64, 128 ... 512, then four steps to each doubling.
constexpr int class_of(size_t bytes) {
  if (bytes <= 512) return static_cast<int>((bytes + 63 + (bytes == 0)) / 64) - 1;
  const size_t b = bytes - 1;
  const int w = static_cast<int>(std::bit_width(b));
  return 8 + (w - 10) * 4 + static_cast<int>((b >> (w - 3)) & 3);
}
constexpr size_t class_size(int c) { return c < 8 ? size_t(c + 1) * 64 : size_t(5 + (c & 3)) << (7 + (c - 8) / 4); }
constexpr bool classes_agree() {
  for (size_t b = 1; b <= kSmallLimit; b += b < 2048 ? 1 : 61) {
    const int c = class_of(b);
    if (class_size(c) < b || (c > 0 && class_size(c - 1) >= b)) return false;
  }
  return class_of(kSmallLimit) == kClasses - 1 && class_size(kClasses - 1) == kSmallLimit;
}
static_assert(classes_agree() && class_of(0) == 0);

// Free blocks that a thread keeps of one class before it gives half of them to the others.
constexpr int most_kept(int c) { return static_cast<int>(std::clamp<size_t>((size_t(128) << 10) / class_size(c), 4, 512)); }

struct Free {
  Free* next;
};

struct alignas(64) Slab {
  uint32_t cut;    // blocks handed out at least once
  uint32_t found;  // used while slabs are searched for free ones
};
Slab* slab_of(void* p) { return reinterpret_cast<Slab*>(reinterpret_cast<uintptr_t>(p) & ~(kSlab - 1)); }

struct alignas(64) Central {
  base::Mutex mutex;
  Free* list = nullptr;
  char *fresh = nullptr, *fresh_end = nullptr;  // the uncut rest of the current slab
};
constinit Central g_central[kClasses];

// Counters have one writer, their thread; others only read.
struct Counter {
  std::atomic<int64_t> value{0};
  void add(int64_t n) { value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  int64_t get() const { return value.load(std::memory_order_relaxed); }
};

struct Cache {
  Free* head[kClasses] = {};
  int32_t count[kClasses] = {};
  Counter in_use, allocations, frees;  // not yet in the global figures
  Cache *next = nullptr, *prev = nullptr;
};

constinit base::Mutex g_caches_mutex;
constinit Cache* g_caches = nullptr;

// Initial-exec: read straight off the thread pointer, also from a shared library; nine bytes of the loader's reserve.
[[gnu::tls_model("initial-exec")]] thread_local constinit Cache* t_cache = nullptr;
// This thread's cache has been given back; it allocates from the shared lists.
[[gnu::tls_model("initial-exec")]] thread_local constinit bool t_gone = false;

void publish(Cache& c) {
  count_in_use(c.in_use.get());
  g_allocations.fetch_add(c.allocations.get(), std::memory_order_relaxed);
  g_frees.fetch_add(c.frees.get(), std::memory_order_relaxed);
  for (Counter* k : {&c.in_use, &c.allocations, &c.frees}) k->value.store(0, std::memory_order_relaxed);
}

// Up to `want` free blocks of class `c` as a list; fewer, or none, where memory or the limit ends.
std::pair<Free*, int> central_take(int c, int want) {
  Central& central = g_central[c];
  const size_t size = class_size(c);
  const std::lock_guard lock(central.mutex);
  Free* list = nullptr;
  int n = 0;
  for (; n < want && central.list != nullptr; ++n) {
    Free* f = central.list;
    central.list = f->next;
    f->next = list, list = f;
  }
  if (n > 0) return {list, n};
  g_misses.fetch_add(1, std::memory_order_relaxed);
  if (central.fresh == central.fresh_end) {
    char* p = map_aligned(round_up(kSlab, kHugePage));
    if (p == nullptr) return {nullptr, 0};
    munmap(p + kSlab, kHugePage - kSlab);
    new (p) Slab{0, 0};
    central.fresh = p + sizeof(Slab);
    central.fresh_end = central.fresh + (kSlab - sizeof(Slab)) / size * size;
  }
  want = std::min(want, static_cast<int>(static_cast<size_t>(central.fresh_end - central.fresh) / size));
  if (!reserve(static_cast<int64_t>(size) * want)) {
    want = 1;
    if (!reserve(static_cast<int64_t>(size))) return {nullptr, 0};
  }
  slab_of(central.fresh)->cut += static_cast<uint32_t>(want);
  for (; n < want; ++n, central.fresh += size) {
    auto* f = reinterpret_cast<Free*>(central.fresh);
    f->next = list, list = f;
  }
  return {list, n};
}

void central_give(int c, Free* first, Free* last) {
  const std::lock_guard lock(g_central[c].mutex);
  last->next = g_central[c].list;
  g_central[c].list = first;
}

// Gives all but `keep` blocks of class `c` to the shared list.
void spill(Cache& cache, int c, int keep) {
  if (cache.count[c] <= keep) return;
  Free *first = cache.head[c], *last = first;
  for (int i = cache.count[c] - keep; i > 1; --i) last = last->next;
  cache.head[c] = last->next;
  cache.count[c] = keep;
  central_give(c, first, last);
}

struct CacheEnd {
  bool armed = false;
  ~CacheEnd() {
    Cache* c = std::exchange(t_cache, nullptr);
    t_gone = true;
    if (c == nullptr) return;
    for (int i = 0; i < kClasses; ++i) spill(*c, i, 0);
    const std::lock_guard lock(g_caches_mutex);
    publish(*c);
    (c->prev != nullptr ? c->prev->next : g_caches) = c->next;
    if (c->next != nullptr) c->next->prev = c->prev;
    delete c;
  }
};
thread_local CacheEnd t_cache_end;

void hold_locks_across_fork() {
  const auto lock = [] {
    g_caches_mutex.lock();
    for (auto& c : g_central) c.mutex.lock();
    g_large_mutex.lock();
  };
  const auto unlock = [] {
    g_large_mutex.unlock();
    for (auto& c : g_central) c.mutex.unlock();
    g_caches_mutex.unlock();
  };
  pthread_atfork(lock, unlock, unlock);
}

Cache* this_cache() {
  if (t_cache != nullptr || t_gone) return t_cache;
  static std::once_flag once;
  std::call_once(once, hold_locks_across_fork);
  auto* c = new (std::nothrow) Cache;
  if (c == nullptr) return nullptr;
  t_cache_end.armed = true;  // touching it registers the destructor of this thread
  const std::lock_guard lock(g_caches_mutex);
  c->next = g_caches;
  if (g_caches != nullptr) g_caches->prev = c;
  g_caches = c;
  return t_cache = c;
}

[[gnu::noinline]] void* small_allocate_slow(int c) {
  Cache* cache = this_cache();
  std::pair<Free*, int> got{nullptr, 0};
  const int want = cache != nullptr ? std::max(1, most_kept(c) / 2) : 1;
  for (int attempt = 0; attempt < 2; ++attempt) {
    got = central_take(c, want);
    if (got.second > 0 || (attempt == 0 && release_cached_memory() == 0)) break;
  }
  if (got.second == 0) return nullptr;
  Free* p = got.first;
  if (cache == nullptr) {
    count_in_use(static_cast<int64_t>(class_size(c)));
    g_allocations.fetch_add(1, std::memory_order_relaxed);
    return p;
  }
  cache->head[c] = p->next;
  cache->count[c] = got.second - 1;
  cache->in_use.add(static_cast<int64_t>(class_size(c)));
  cache->allocations.add(1);
  publish(*cache);
  return p;
}

inline void* small_allocate(size_t bytes) {
  const int c = class_of(bytes);
  Cache* cache = t_cache;
  if (cache == nullptr || cache->head[c] == nullptr) [[unlikely]]
    return small_allocate_slow(c);
  Free* p = cache->head[c];
  cache->head[c] = p->next;
  --cache->count[c];
  cache->in_use.add(static_cast<int64_t>(class_size(c)));
  cache->allocations.add(1);
  return p;
}

[[gnu::noinline]] void small_free_slow(Free* f, int c) {
  Cache* cache = this_cache();
  if (cache == nullptr) {
    central_give(c, f, f);
    count_in_use(-static_cast<int64_t>(class_size(c)));
    g_frees.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  f->next = cache->head[c];
  cache->head[c] = f;
  ++cache->count[c];
  cache->in_use.add(-static_cast<int64_t>(class_size(c)));
  cache->frees.add(1);
  if (cache->count[c] > most_kept(c)) spill(*cache, c, most_kept(c) / 2);
  publish(*cache);
}

inline void small_free(void* p, size_t bytes) {
  const int c = class_of(bytes);
  auto* f = static_cast<Free*>(p);
  Cache* cache = t_cache;
  if (cache == nullptr || cache->count[c] >= most_kept(c)) [[unlikely]]
    return small_free_slow(f, c);
  f->next = cache->head[c];
  cache->head[c] = f;
  ++cache->count[c];
  cache->in_use.add(-static_cast<int64_t>(class_size(c)));
  cache->frees.add(1);
}

// Unmaps slabs of which every cut block is in the shared list.
int64_t release_small() {
  int64_t released = 0;
  for (int c = 0; c < kClasses; ++c) {
    Central& central = g_central[c];
    const std::lock_guard lock(central.mutex);
    for (Free* f = central.list; f != nullptr; f = f->next) slab_of(f)->found = 0;
    for (Free* f = central.list; f != nullptr; f = f->next) ++slab_of(f)->found;
    std::vector<Slab*> empty;
    for (Free** at = &central.list; *at != nullptr;) {
      Slab* s = slab_of(*at);
      if (s->found < s->cut) {
        at = &(*at)->next;
        continue;
      }
      if (s->found == s->cut) empty.push_back(s), s->found = s->cut + 1;  // once each
      *at = (*at)->next;
    }
    for (Slab* s : empty) {
      const auto bytes = static_cast<int64_t>(class_size(c) * s->cut);
      if (central.fresh_end != nullptr && slab_of(central.fresh_end - 1) == s) central.fresh = central.fresh_end = nullptr;
      munmap(s, kSlab);
      g_reserved.fetch_sub(bytes, std::memory_order_relaxed);
      released += bytes;
    }
  }
  return released;
}

inline void* plain_allocate(size_t bytes, const char* tag) {
  return bytes <= kSmallLimit ? small_allocate(bytes) : large_allocate(bytes, tag);
}
inline void plain_free(void* p, size_t bytes) { bytes <= kSmallLimit ? small_free(p, bytes) : large_free(p); }

#else  // Every block from the C library: under AddressSanitizer, which then sees each of them, and where there is no mmap.

void* plain_allocate(size_t bytes, const char* tag) {
  void* p = nullptr;
  const auto size = static_cast<int64_t>(bytes);
  // AddressSanitizer would end the program where the C library refuses, hence a bound of our own.
  if (bytes > (size_t(1) << (sizeof(size_t) > 4 ? 38 : 30)) || !reserve(size)) return nullptr;
  if (posix_memalign(&p, kAlign, sizeof(Block) + bytes) != 0) {
    g_reserved.fetch_sub(size, std::memory_order_relaxed);
    return nullptr;
  }
  auto* b = static_cast<Block*>(p);
  *b = Block{bytes, nullptr, nullptr, nullptr, 0, 0, tag, false, false};
  if (bytes > kSmallLimit) {
    const std::lock_guard lock(g_large_mutex);
    g_live.push(b);
  } else {
    KEEL_HIDE(b, sizeof(Block));
  }
  g_allocations.fetch_add(1, std::memory_order_relaxed), g_misses.fetch_add(1, std::memory_order_relaxed);
  count_in_use(size);
  return b + 1;
}

void plain_free(void* p, size_t bytes) {
  Block* b = static_cast<Block*>(p) - 1;
  if (bytes > kSmallLimit) {
    const std::lock_guard lock(g_large_mutex);
    g_live.remove(b);
  } else {
    KEEL_SHOW(b, sizeof(Block));
  }
  g_frees.fetch_add(1, std::memory_order_relaxed);
  count_in_use(-static_cast<int64_t>(bytes));
  g_reserved.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  std::free(b);
}

#endif

// ---- Red zones ----

constexpr size_t kZone = 128;
constexpr unsigned char kGuard = 0xa5, kPoison = 0xff;

struct Guarded {
  size_t bytes;
  const char* tag;
};
struct Guards {
  base::Mutex mutex;
  bool on = false;
  std::unordered_map<void*, Guarded> blocks;
};
Guards& guards() {
  static Guards* const g = new Guards;  // never destroyed: tensors may be freed while the program ends
  return *g;
}
constinit std::atomic<bool> g_checked{false};  // zones are on, or guarded blocks are live

[[noreturn]] void die(const char* what, size_t at, const Guarded& g) {
  base::abort_with("red zone: block of " + std::to_string(g.bytes) + " bytes (" + (g.tag != nullptr ? g.tag : "no tag") + ") " + what +
                   ", " + std::to_string(at) + " bytes away");
}

void verify(const void* p, const Guarded& g) {
  const auto* b = static_cast<const unsigned char*>(p);
  for (size_t i = 1; i <= kZone; ++i)
    if (b[-static_cast<ptrdiff_t>(i)] != kGuard) die("was written before its begin", i, g);
  for (size_t i = 0; i < kZone; ++i)
    if (b[g.bytes + i] != kGuard) die("was written past its end", i, g);
}

void* guarded_allocate(size_t bytes, const char* tag) {
  Guards& g = guards();
  {
    const std::lock_guard lock(g.mutex);
    if (!g.on) return plain_allocate(bytes, tag);
  }
  if (bytes > PTRDIFF_MAX / 2) return nullptr;
  auto* raw = static_cast<unsigned char*>(plain_allocate(bytes + 2 * kZone, tag));
  if (raw == nullptr) return nullptr;
  std::memset(raw, kGuard, kZone);
  std::memset(raw + kZone, kPoison, bytes);
  std::memset(raw + kZone + bytes, kGuard, kZone);
  const std::lock_guard lock(g.mutex);
  g.blocks.emplace(raw + kZone, Guarded{bytes, tag});
  return raw + kZone;
}

void guarded_free(void* p, size_t bytes) {
  Guards& g = guards();
  Guarded block{};
  {
    const std::lock_guard lock(g.mutex);
    const auto it = g.blocks.find(p);
    if (it == g.blocks.end()) return plain_free(p, bytes);
    block = it->second;
    verify(p, block);
    if (bytes != block.bytes) die("was freed with another size", bytes > block.bytes ? bytes - block.bytes : block.bytes - bytes, block);
    g.blocks.erase(it);
    if (!g.on && g.blocks.empty()) g_checked.store(false, std::memory_order_relaxed);
  }
  plain_free(static_cast<unsigned char*>(p) - kZone, bytes + 2 * kZone);
}

std::string size_text(int64_t bytes) {
  char text[32];
  if (bytes < 1024)
    std::snprintf(text, sizeof text, "%lld B", static_cast<long long>(bytes));
  else if (bytes < (int64_t(1) << 20))
    std::snprintf(text, sizeof text, "%.1f KiB", static_cast<double>(bytes) / 0x1p10);
  else if (bytes < (int64_t(1) << 30))
    std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / 0x1p20);
  else
    std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / 0x1p30);
  return text;
}

}  // namespace

void* cpu_allocate(size_t bytes, const char* tag) noexcept {
  if (g_checked.load(std::memory_order_relaxed)) [[unlikely]]
    return guarded_allocate(bytes, tag);
  return plain_allocate(bytes, tag);
}

void cpu_free(void* p, size_t bytes) noexcept {
  if (p == nullptr) return;
  if (g_checked.load(std::memory_order_relaxed)) [[unlikely]]
    return guarded_free(p, bytes);
  plain_free(p, bytes);
}

MemoryStats memory_stats() {
  MemoryStats s;
#if !defined(KEEL_DIRECT_ALLOCATION)
  const std::lock_guard lock(g_caches_mutex);
  for (const Cache* c = g_caches; c != nullptr; c = c->next)
    s.bytes_in_use += c->in_use.get(), s.allocations += c->allocations.get(), s.frees += c->frees.get();
#endif
  s.bytes_in_use += g_in_use.load(std::memory_order_relaxed);
  s.bytes_reserved = g_reserved.load(std::memory_order_relaxed);
  s.peak_in_use = std::max(g_peak.load(std::memory_order_relaxed), s.bytes_in_use);
  s.limit = g_limit.load(std::memory_order_relaxed);
  s.allocations += g_allocations.load(std::memory_order_relaxed);
  s.frees += g_frees.load(std::memory_order_relaxed);
  s.cache_hits = s.allocations - g_misses.load(std::memory_order_relaxed);
  return s;
}

void reset_peak_memory() { g_peak.store(g_in_use.load(std::memory_order_relaxed), std::memory_order_relaxed); }

void set_memory_limit(int64_t bytes) { g_limit.store(std::max<int64_t>(bytes, 0), std::memory_order_relaxed); }

int64_t release_cached_memory() {
#if !defined(KEEL_DIRECT_ALLOCATION)
  if (t_cache != nullptr)
    for (int c = 0; c < kClasses; ++c) spill(*t_cache, c, 0);
  int64_t released = release_small();
  const std::lock_guard lock(g_large_mutex);
  released += release_large();
  return released;
#else
  return 0;
#endif
}

std::string memory_report(size_t wanted) {
  const MemoryStats s = memory_stats();
  struct Sum {
    int64_t bytes = 0, blocks = 0;
  };
  std::unordered_map<std::string, Sum> sums;
  {
    const std::lock_guard lock(g_large_mutex);
    for (const Block* b = g_live.head; b != nullptr; b = b->next) {
      Sum& sum = sums[b->tag != nullptr && *b->tag != '\0' ? b->tag : "(outside of any module)"];
      sum.bytes += static_cast<int64_t>(b->size), ++sum.blocks;
    }
  }
  std::vector<std::pair<std::string, Sum>> order(sums.begin(), sums.end());
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.second.bytes != b.second.bytes ? a.second.bytes > b.second.bytes : a.first < b.first;
  });
  std::string text = "wanted " + size_text(static_cast<int64_t>(std::min<uint64_t>(wanted, INT64_MAX))) + "; in use " +
                     size_text(s.bytes_in_use) + ", kept for reuse " + size_text(std::max<int64_t>(0, s.bytes_reserved - s.bytes_in_use)) +
                     (s.limit > 0 ? ", limit " + size_text(s.limit) : ", no limit set");
  constexpr size_t kMostLines = 10;
  for (size_t i = 0; i < std::min(order.size(), kMostLines); ++i)
    text += "\n    " + size_text(order[i].second.bytes) + " in " + std::to_string(order[i].second.blocks) +
            (order[i].second.blocks == 1 ? " block: " : " blocks: ") + order[i].first;
  if (order.size() > kMostLines) text += "\n    and " + std::to_string(order.size() - kMostLines) + " more";
  return text;
}

void set_red_zones(bool on) {
  Guards& g = guards();
  const std::lock_guard lock(g.mutex);
  g.on = on;
  g_checked.store(on || !g.blocks.empty(), std::memory_order_relaxed);
}

size_t check_red_zones() {
  Guards& g = guards();
  const std::lock_guard lock(g.mutex);
  for (const auto& [p, block] : g.blocks) verify(p, block);
  return g.blocks.size();
}

}  // namespace keel
