// Requests of up to 1 MiB share segments of 2 MiB; below 10 MiB, of 20 MiB; larger ones get segments of their own, in whole 2 MiB.
#include "backend/cuda/block_pool.h"

#include <algorithm>
#include <map>
#include <utility>

namespace keel::cuda {

namespace {
constexpr size_t whole(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }
}  // namespace

class BlockPool::Arena : public BlockPool::Home {
 public:
  bool rehearses = false;
  // Of a recording.
  BlockPlan plan;
  size_t asked = 0;  // blocks so far
  char* piece = nullptr;
  // Of a rehearsal.
  std::vector<BlockLife> lives;
  int64_t clock = 0, held = 0;
  std::vector<Block*> pieces;  // blocks begin in the last one, a unit after each other
  size_t used = 0;             // of it
  bool forgotten = false;
};

void BlockPool::begin(int device, const PoolSource& from) {
  device_ = device, from_ = from;
  ready_.resize(kSmall / kUnit + 1);
}
/// Segments stay with their source.
BlockPool::~BlockPool() {
  for (const auto& [address, b] : blocks_) delete b;
  for (const auto& idle : common_.idle)
    for (const Block* b : idle) delete b;
}

void BlockPool::use(int64_t bytes) {
  stats_.bytes_in_use += bytes;
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.bytes_in_use);
}

/// Of the blocks of just this size one that no pass waits to look at, else the one that was given last: the longer passes wait, the more go
/// in one launch.
BlockPool::Block* BlockPool::take_ready(size_t bytes) {
  Block** at = &ready_[bytes / kUnit];
  if (!*at) return nullptr;
  for (Block** other = at; waits(**at) && *other; other = &(*other)->below)
    if (!waits(**other)) at = other;
  Block* const b = *at;
  *at = b->below, b->below = nullptr;
  --ready_count_;
  return b;
}

/// Puts the blocks that are ready among the idle ones, where they merge; false where there were none.
bool BlockPool::sort_ready() {
  if (ready_count_ == 0) return false;
  for (Block*& pile : ready_)
    while (Block* b = pile) {
      pile = std::exchange(b->below, nullptr);
      blocks_.erase(b->p);
      put_idle(b);
    }
  ready_count_ = 0;
  return true;
}

BlockPool::Block* BlockPool::take_idle(Home& home, size_t bytes, bool small) {
  auto& idle = home.idle[small];
  Block want{nullptr, bytes, small};
  auto it = idle.lower_bound(&want);
  if (it == idle.end()) return nullptr;
  Block* b = *it;
  for (auto other = it; waits(*b) && ++other != idle.end() && (*other)->bytes == b->bytes;)
    if (!waits(**other)) b = *(it = other);
  const bool shared = small || bytes < kSharedSegment / 2 || &home != &common_;
  if (!shared && b->bytes - bytes > std::max(bytes, kSharedSegment)) return nullptr;  // a large block is not cut up for a much smaller one
  idle.erase(it);
  return b;
}

/// The block of the arena at `p`; null where that is not idle.
BlockPool::Block* BlockPool::take_at(Arena& a, char* p, size_t bytes) {
  for (Block* b : a.idle[false]) {
    if (b->p > p || b->p + b->bytes < p + bytes) continue;
    a.idle[false].erase(b);
    b->state = Block::held;
    if (b->p == p) return b;
    cut(b, size_t(p - b->p), &a);
    Block* const mine = b->after;
    a.idle[false].erase(mine);
    mine->state = Block::held;
    put_idle(b);
    return mine;
  }
  return nullptr;
}

/// A whole segment that nobody uses, of `bytes` to `most` bytes. Its work is done in the queue, where everybody's is.
BlockPool::Block* BlockPool::take_whole(size_t bytes, size_t most, bool small) {
  Block want{nullptr, bytes, small};
  auto& idle = common_.idle[small];
  for (auto it = idle.lower_bound(&want); it != idle.end() && (*it)->bytes <= most; ++it)
    if (Block* b = *it; !b->before && !b->after) return idle.erase(it), b;
  return nullptr;
}

/// A segment of `bytes` bytes from the source.
BlockPool::Block* BlockPool::take_segment(size_t bytes, bool small) {
  const auto fits = [&] { return stats_.limit == 0 || stats_.bytes_reserved + int64_t(bytes) <= stats_.limit; };
  void* p = fits() ? from_.take(device_, bytes) : nullptr;
  if (!p && drop_whole() > 0 && fits()) p = from_.take(device_, bytes);
  if (!p) return nullptr;
  stats_.bytes_reserved += int64_t(bytes);
  return new Block{static_cast<char*>(p), bytes, small};
}

BlockPool::Block* BlockPool::new_segment(Home& home, size_t bytes, bool small) {
  const size_t size = small ? kSmallSegment : whole(bytes < kSharedSegment / 2 ? kSharedSegment : bytes, kSmallSegment);
  Block* b = &home == &common_ ? nullptr : take_whole(size, size + size / 4, small);
  if (b)
    ++stats_.cache_hits;
  else if (!(b = take_segment(size, small)))
    return nullptr;
  b->home = &home;
  if (&home != &common_) use(int64_t(b->bytes));
  return b;
}

int64_t BlockPool::drop_whole() {
  int64_t dropped = 0;
  sort_ready();
  for (auto& set : common_.idle)
    for (auto it = set.begin(); it != set.end();) {
      Block* b = *it;
      if (b->before || b->after) {
        ++it;
        continue;
      }
      if (dropped == 0 && from_.wait) from_.wait(device_);
      from_.give(device_, b->p);
      dropped += int64_t(b->bytes);
      it = set.erase(it);
      delete b;
    }
  stats_.bytes_reserved -= dropped;
  return dropped;
}

/// Leaves `b`, which is held or not of `rest`, the first `bytes` bytes; the others are idle in `rest`.
void BlockPool::cut(Block* b, size_t bytes, Home* rest) {
  Block* r = new Block{b->p + bytes, b->bytes - bytes, b->small};
  r->home = rest, r->before = b, r->after = b->after;
  if (b->after) b->after->before = r;
  b->after = r, b->bytes = bytes;
  put_idle(r);
}

/// Merges it with neighbours that are idle in the same home.
void BlockPool::put_idle(Block* b) {
  auto& idle = b->home->idle[b->small];
  b->state = Block::idle;
  if (Block* n = b->after; n && n->state == Block::idle && n->home == b->home) {
    idle.erase(n);
    b->bytes += n->bytes, b->after = n->after;
    if (n->after) n->after->before = b;
    delete n;
  }
  if (Block* n = b->before; n && n->state == Block::idle && n->home == b->home) {
    idle.erase(n);
    n->bytes += b->bytes, n->after = b->after;
    if (b->after) b->after->before = n;
    delete b;
    b = n;
  }
  idle.insert(b);
}

void* BlockPool::take(size_t bytes, const char* tag, Arena* arena) {
  if (bytes > PTRDIFF_MAX / 2) return nullptr;
  const size_t rounded = std::max(whole(bytes, kUnit), kUnit);
  const bool small = rounded <= kSmall && !arena;
  const std::lock_guard lock(mutex_);
  if (arena && arena->rehearses) return take_rehearsed(*arena, rounded, tag);
  Block* b = small ? take_ready(rounded) : nullptr;
  if (b) {
    ++stats_.cache_hits;
  } else {
    Home& home = arena ? *arena : common_;
    if (arena && arena->piece && arena->asked < arena->plan.at.size())
      b = take_at(*arena, arena->piece + arena->plan.at[arena->asked], rounded);
    if (!b) b = take_idle(home, rounded, small);
    if (!b && small && sort_ready()) b = take_idle(home, rounded, small);
    if (b)
      ++stats_.cache_hits;
    else if (!(b = new_segment(home, rounded, small)))
      return nullptr;
    b->state = Block::held;
    if (const size_t rest = b->bytes - rounded; rest >= (small || arena ? kUnit : kSmall)) cut(b, rounded, &home);
    blocks_.emplace(b->p, b);
  }
  b->state = Block::held, b->tag = tag;
  ++stats_.allocations;
  if (arena)
    ++arena->asked;
  else
    use(int64_t(b->bytes));
  return b->p;
}

/// A block that begins where none of the rehearsal does, and overlaps others.
void* BlockPool::take_rehearsed(Arena& a, size_t bytes, const char* tag) {
  constexpr size_t kBlocks = 4096;  // that begin in a piece
  if (a.pieces.empty() || a.pieces.back()->bytes < a.used + bytes) {
    Block* const piece = take_segment(whole(bytes + kBlocks * kUnit, kSmallSegment), false);
    if (!piece) return nullptr;
    piece->state = Block::held;
    a.pieces.push_back(piece), a.used = 0;
  }
  auto* const b = new Block{a.pieces.back()->p + a.used, bytes, false};
  a.used += kUnit;
  b->state = Block::held, b->home = &a, b->tag = tag, b->life = a.lives.size();
  a.lives.push_back({bytes, a.clock++});
  ++a.held, ++stats_.allocations;
  blocks_.emplace(b->p, b);
  return b->p;
}
/// Once nobody holds any of it.
void BlockPool::end_rehearsal(Arena* a) {
  if (!a->forgotten || a->held) return;
  for (Block* piece : a->pieces) {
    piece->home = &common_;
    put_idle(piece);
  }
  delete a;
}

void BlockPool::give(void* p) {
  const std::lock_guard lock(mutex_);
  const auto it = blocks_.find(p);
  if (it == blocks_.end() || it->second->state != Block::held) __builtin_trap();
  Block* const b = it->second;
  ++stats_.frees;
  if (b->home != &common_)
    if (auto* const arena = static_cast<Arena*>(b->home); arena->rehearses) {
      arena->lives[b->life].given = arena->clock++;
      --arena->held;
      blocks_.erase(it);
      delete b;
      return end_rehearsal(arena);
    }
  if (b->home == &common_) use(-int64_t(b->bytes));
  if (b->small && b->home == &common_) {
    Block*& pile = ready_[b->bytes / kUnit];
    b->state = Block::ready, b->below = pile, pile = b;
    ++ready_count_;
    return;
  }
  blocks_.erase(it);
  put_idle(b);
}

BlockPool::Arena* BlockPool::rehearse() {
  auto* const a = new Arena;
  a->rehearses = true;
  return a;
}
BlockPlan BlockPool::plan_of(const Arena* rehearsal, size_t apart) {
  const std::lock_guard lock(mutex_);
  return plan_blocks(rehearsal->lives, apart);
}
BlockPool::Arena* BlockPool::open(const BlockPlan& plan) {
  auto* const a = new Arena;
  a->plan = plan;
  if (plan.bytes == 0) return a;
  const size_t size = whole(plan.bytes, kSmallSegment);
  const std::lock_guard lock(mutex_);
  drop_whole();  // what ordinary runs left, and will not need beside it
  Block* const b = take_segment(size, false);
  if (!b) return a;
  a->piece = b->p;
  b->home = a;
  use(int64_t(size));
  put_idle(b);
  return a;
}

void BlockPool::forget(Arena* a) {
  const std::lock_guard lock(mutex_);
  if (a->rehearses) {
    a->forgotten = true;
    return end_rehearsal(a);
  }
  for (auto& idle : a->idle)
    for (Block* b : std::exchange(idle, {})) {
      b->home = &common_;
      use(-int64_t(b->bytes));
      put_idle(b);
    }
  for (auto& [address, b] : blocks_)
    if (b->home == a) b->home = &common_;
  delete a;
}

MemoryStats BlockPool::stats() {
  const std::lock_guard lock(mutex_);
  return stats_;
}
void BlockPool::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_in_use = stats_.bytes_in_use;
}
void BlockPool::set_limit(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  stats_.limit = std::max<int64_t>(bytes, 0);
}
int64_t BlockPool::release_cached() {
  const std::lock_guard lock(mutex_);
  return drop_whole();
}

std::vector<BlockPool::Held> BlockPool::held() {
  std::map<std::string, Held> sums;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [p, b] : blocks_) {
      if (b->state != Block::held) continue;
      const char* const tag = b->tag && *b->tag ? b->tag : "(outside of any module)";
      Held& sum = sums.try_emplace(tag, Held{tag}).first->second;
      sum.bytes += int64_t(b->bytes), ++sum.blocks;
    }
  }
  std::vector<Held> all;
  for (const auto& [tag, sum] : sums) all.push_back(sum);
  std::stable_sort(all.begin(), all.end(), [](const Held& a, const Held& b) { return a.bytes > b.bytes; });
  return all;
}

}  // namespace keel::cuda
