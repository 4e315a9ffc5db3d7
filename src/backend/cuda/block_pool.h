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
  /// Memory that goes round among the work of one recording, and is in use as long as the recording lives.
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

  /// An arena whose blocks lie in one piece of `room` bytes as long as they find room there. In segments of their own they would not merge:
  /// what many small ones left would not serve a larger one.
  Arena* open(size_t room);
  /// Whether what is taken from now on is held to the end. It comes from the other end of the piece: gradients that lie between what
  /// passes would keep that from merging.
  void lasting(Arena* a, bool on);
  /// Nothing more will be taken from it. What it never handed out becomes everybody's.
  void close(Arena* a);
  /// Everything in it becomes everybody's, what is still held as soon as it is given.
  void forget(Arena* a);

  /// Begins to count the blocks that are taken from now on ...
  void count();
  /// ... and says how many bytes of them were held at once, at most.
  size_t counted();

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
    uint64_t count = 0;  // in which it is counted
  };
  struct BySize {
    bool operator()(const Block* a, const Block* b) const { return a->bytes != b->bytes ? a->bytes < b->bytes : a->p < b->p; }
  };
  /// Free blocks of everybody, or of an arena.
  struct Home {
    std::set<Block*, BySize> idle[2];  // [small]
    size_t shared = kSharedSegment;    // bytes of a segment for blocks, not small, of less than half of that
  };

  bool waits(const Block& b) const { return from_.waits && from_.waits(device_, b.p, b.p + b.bytes); }
  Block* take_ready(size_t bytes);
  bool sort_ready();
  Block* take_idle(Home& home, size_t bytes, bool small);
  Block* take_last(Arena& a, size_t bytes);
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
  uint64_t count_ = 0;  // the number of the one that is on; 0: none
  uint64_t counts_ = 0;
  size_t now_ = 0, most_ = 0;
};

}  // namespace keel::cuda
