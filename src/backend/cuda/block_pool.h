#pragma once
// The caching allocator of one device's memory: best fit in kept segments, with blocks split and merged. All work of a device is in one
// queue, so a freed block may be handed out at once for work that comes later. Knows no CUDA, so that tests have it on any machine.
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/cuda/block_plan.h"
#include "keel/memory.h"

namespace keel::cuda {

/// Where a pool gets its segments, and whom it asks about them.
struct PoolSource {
  void* (*take)(int device, size_t bytes) = nullptr;  // null: there is none
  void (*give)(int device, void* segment) = nullptr;
  /// Until no queued work uses what was given; null: none ever does.
  void (*wait)(int device) = nullptr;
  /// Whether work that was put off reads memory in [begin, end); null: none ever does.
  bool (*waits)(int device, const void* begin, const void* end) = nullptr;
};

class BlockPool {
 public:
  /// Memory of one recording, in use as long as the recording lives; or of a rehearsal, which is written down like a recording and never
  /// runs: its blocks overlap.
  class Arena;

  BlockPool() = default;
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  /// Before everything else.
  void begin(int device, const PoolSource& from);

  /// At least `bytes` bytes, 512-byte aligned, of `arena` or, without, for everybody; null where there are none. `tag` lives forever.
  void* take(size_t bytes, const char* tag, Arena* arena);
  void give(void* p);

  /// For a rehearsal.
  Arena* rehearse();
  /// What a rehearsal has shown: where its blocks should lie. `apart`: as of plan_blocks.
  BlockPlan plan_of(const Arena* rehearsal, size_t apart);
  /// For a recording whose blocks lie in one piece, as planned. A block that is not asked for in the order of the plan lies anywhere.
  Arena* open(const BlockPlan& plan);
  /// Everything in it becomes everybody's, what is still held as soon as it is given.
  void forget(Arena* a);

  MemoryStats stats();
  void reset_peak();
  void set_limit(int64_t bytes);
  /// Gives segments back that nobody uses; their bytes.
  int64_t release_cached();
  struct Held {
    std::string tag;
    int64_t bytes = 0, blocks = 0;
  };
  /// What is held, by tag; the most bytes first.
  std::vector<Held> held();

 private:
  static constexpr size_t kUnit = 512, kSmall = size_t(1) << 20, kSmallSegment = size_t(2) << 20, kSharedSegment = size_t(20) << 20;

  struct Home;
  struct Block {
    char* p;
    size_t bytes;
    bool small;
    enum : uint8_t { idle, ready, held } state = idle;
    Home* home = nullptr;                       // whose it is
    Block *before = nullptr, *after = nullptr;  // neighbours in the segment
    Block* below = nullptr;                     // in its pile, while ready
    const char* tag = nullptr;
    size_t life = 0;  // of a rehearsal: its index there
  };
  struct BySize {
    bool operator()(const Block* a, const Block* b) const { return a->bytes != b->bytes ? a->bytes < b->bytes : a->p < b->p; }
  };
  /// Free blocks of everybody, or of an arena.
  struct Home {
    std::set<Block*, BySize> idle[2];  // [small]
  };

  bool waits(const Block& b) const { return from_.waits && from_.waits(device_, b.p, b.p + b.bytes); }
  Block* take_ready(size_t bytes);
  bool sort_ready();
  Block* take_idle(Home& home, size_t bytes, bool small);
  Block* take_at(Arena& a, char* p, size_t bytes);
  void* take_rehearsed(Arena& a, size_t bytes, const char* tag);
  void end_rehearsal(Arena* a);
  Block* take_whole(size_t bytes, size_t most, bool small);
  Block* take_segment(size_t bytes, bool small);
  Block* new_segment(Home& home, size_t bytes, bool small);
  void cut(Block* b, size_t bytes, Home* rest);
  void put_idle(Block* b);
  int64_t drop_whole();
  void use(int64_t bytes);

  int device_ = 0;
  PoolSource from_;
  std::mutex mutex_;
  Home common_;
  std::unordered_map<const void*, Block*> blocks_;  // held or ready ones
  // Small blocks of everybody that were given last, by size: most are asked for again at once. Not merged until none fits.
  std::vector<Block*> ready_;
  int64_t ready_count_ = 0;
  MemoryStats stats_;
};

}  // namespace keel::cuda
