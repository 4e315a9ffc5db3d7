// The pool of device memory by itself, over addresses that nobody touches.
#include "backend/cuda/block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace keel {
namespace {

using cuda::BlockPool;
constexpr size_t kMiB = size_t(1) << 20;

/// Segments at addresses that grow, never the same twice.
struct Source {
  inline static std::map<char*, size_t> segments;
  inline static char* next = nullptr;
  inline static size_t room = 0;
  static void* take(int, size_t bytes) {
    if (bytes > room) return nullptr;
    char* const p = next;
    room -= bytes, next += bytes + 4096, segments[p] = bytes;
    return p;
  }
  static void give(int, void* p) {
    room += segments.at(static_cast<char*>(p));
    segments.erase(static_cast<char*>(p));
  }
  static bool waits(int, const void* begin, const void* end) { return busy && begin <= busy && busy < end; }
  inline static const char* busy = nullptr;
};

class BlockPools : public ::testing::Test {
 protected:
  void SetUp() override {
    Source::segments.clear(), Source::next = reinterpret_cast<char*>(size_t(1) << 40), Source::room = size_t(1) << 34,
                              Source::busy = nullptr;
    pool.begin(0, {Source::take, Source::give, nullptr, Source::waits});
  }
  /// Takes a block and holds it to what blocks are: aligned, inside of a segment, and apart from all others.
  char* take(size_t bytes, BlockPool::Arena* arena = nullptr) {
    auto* const p = static_cast<char*>(pool.take(bytes, "test", arena));
    EXPECT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 512, 0u);
    auto segment = Source::segments.upper_bound(p);
    EXPECT_TRUE(segment != Source::segments.begin() && p + bytes <= std::prev(segment)->first + std::prev(segment)->second);
    const auto above = held.lower_bound(p);
    EXPECT_TRUE(above == held.end() || p + bytes <= above->first) << bytes;
    EXPECT_TRUE(above == held.begin() || std::prev(above)->first + std::prev(above)->second <= p) << bytes;
    held[p] = bytes;
    return p;
  }
  void give(char* p) { held.erase(p), pool.give(p); }
  BlockPool pool;
  std::map<char*, size_t> held;
};

TEST_F(BlockPools, BlocksAreApart) {
  std::mt19937 draw(1);
  BlockPool::Arena* arena = nullptr;
  for (int i = 0; i < 40000; ++i) {
    const uint32_t k = draw() % 100;
    if (i % 1000 == 0) {  // what is planned is not what is asked for then: places are taken, or too small
      cuda::BlockPlan plan;
      for (int b = 0; b < 300; ++b) plan.at.push_back(draw() % 40000 * 512);
      plan.bytes = size_t(draw() % 24) * kMiB;
      arena = pool.open(plan);
    }
    if (i % 1000 == 900) pool.forget(std::exchange(arena, nullptr));
    if (i % 5000 == 4999) pool.release_cached();
    if (held.size() < 40 + draw() % 200 && k < 60) {
      const size_t bytes = k < 30 ? draw() % 3000 : k < 50 ? draw() % (2 * kMiB) : draw() % (24 * kMiB);
      take(bytes, i % 1000 < 500 && k % 2 ? arena : nullptr);
    } else if (!held.empty()) {
      auto it = held.begin();
      std::advance(it, draw() % held.size());
      give(it->first);
    }
    ASSERT_FALSE(HasFailure()) << "call " << i;
  }
  if (arena) pool.forget(arena);
  while (!held.empty()) give(held.begin()->first);
  EXPECT_EQ(pool.stats().bytes_in_use, 0);
  pool.release_cached();
  EXPECT_EQ(pool.stats().bytes_reserved, 0);  // everything was merged to whole segments
  EXPECT_TRUE(Source::segments.empty());
}

/// Calls of a step, as a rehearsal and as the recording see them; negative: what the call of that index took is given.
struct Calls {
  std::vector<int64_t> calls;
  template <class Take, class Give>
  std::vector<char*> run(Take take, Give give) const {
    std::vector<char*> held;
    for (const int64_t c : calls) {
      if (c >= 0)
        held.push_back(take(size_t(c)));
      else
        give(std::exchange(held[size_t(-c - 1)], nullptr));
    }
    std::erase(held, nullptr);
    return held;
  }
};

TEST_F(BlockPools, ARecordingTakesWhatItsStepNeeds) {
  // Small blocks among large ones, as gradients come while what they were computed from goes; at last a block as large as all of these.
  Calls step;
  for (int i = 0; i < 8; ++i) step.calls.push_back(6 * int64_t(kMiB) + i * 512);
  for (int i = 7; i >= 0; --i) step.calls.push_back(100 * 512), step.calls.push_back(-1 - i);
  step.calls.push_back(48 * int64_t(kMiB));
  BlockPool::Arena* const rehearsal = pool.rehearse();
  std::vector<char*> left =
      step.run([&](size_t n) { return static_cast<char*>(pool.take(n, "test", rehearsal)); }, [&](char* p) { pool.give(p); });
  EXPECT_EQ(pool.stats().bytes_in_use, 0);
  EXPECT_LT(pool.stats().bytes_reserved, int64_t(64 * kMiB));
  for (char* p : left) pool.give(p);
  const cuda::BlockPlan plan = pool.plan_of(rehearsal, 0);
  pool.forget(rehearsal);
  const size_t most = 48 * kMiB + 28 * 512;  // all of the first at once
  EXPECT_FALSE(plan.apart);
  EXPECT_GE(plan.bytes, most);
  EXPECT_LE(plan.bytes, most + 8 * 100 * 512);
  BlockPool::Arena* const arena = pool.open(plan);
  const int64_t reserved = pool.stats().bytes_reserved;
  EXPECT_LT(reserved, int64_t(plan.bytes + 2 * kMiB));  // that of the rehearsal went back
  left = step.run([&](size_t n) { return take(n, arena); }, [&](char* p) { give(p); });
  EXPECT_EQ(pool.stats().bytes_reserved, reserved);
  EXPECT_EQ(pool.stats().bytes_in_use, reserved);
  pool.forget(arena);
  for (char* p : left) give(p);
  EXPECT_EQ(pool.stats().bytes_in_use, 0);
}

TEST_F(BlockPools, SmallStepsShareNothing) {
  BlockPool::Arena* const rehearsal = pool.rehearse();
  for (int i = 0; i < 10; ++i) pool.give(pool.take(size_t(1000 + i), "test", rehearsal));
  const cuda::BlockPlan plan = pool.plan_of(rehearsal, 10 * 1024);
  EXPECT_TRUE(plan.apart);
  EXPECT_EQ(plan.bytes, 10 * 1024u);
  EXPECT_FALSE(pool.plan_of(rehearsal, 10 * 1024 - 1).apart);
  pool.forget(rehearsal);
  BlockPool::Arena* const arena = pool.open(plan);
  std::set<char*> all;
  for (int i = 0; i < 10; ++i) {
    char* const p = take(size_t(1000 + i), arena);
    all.insert(p), give(p);
  }
  EXPECT_EQ(all.size(), 10u);
  pool.forget(arena);
}

/// What a rehearsal handed out and somebody still holds keeps its addresses from everybody else.
TEST_F(BlockPools, RehearsalsWaitForTheirBlocks) {
  BlockPool::Arena* const rehearsal = pool.rehearse();
  void* const p = pool.take(3 * kMiB, "test", rehearsal);
  pool.forget(rehearsal);
  for (int i = 0; i < 8; ++i) take(3 * kMiB);
  EXPECT_FALSE(held.contains(static_cast<char*>(p)));
  pool.give(p);
  const int64_t reserved = pool.stats().bytes_reserved;
  take(3 * kMiB);
  EXPECT_EQ(pool.stats().bytes_reserved, reserved);
}

/// Lives at random: blocks that live at the same time lie apart, and all of them in little more than the most that live at once.
TEST(BlockPlans, HoldWhatLives) {
  std::mt19937 draw(3);
  for (int round = 0; round < 40; ++round) {
    std::vector<cuda::BlockLife> lives;
    int64_t clock = 0;
    std::vector<size_t> open;
    for (int i = 0; i < 300; ++i) {
      if (!open.empty() && draw() % 2) {
        const size_t at = draw() % open.size();
        lives[open[at]].given = clock++;
        open.erase(open.begin() + int64_t(at));
      } else {
        open.push_back(lives.size());
        lives.push_back({size_t(512) << draw() % 12, clock++});
      }
    }
    const cuda::BlockPlan plan = cuda::plan_blocks(lives, 0);
    size_t most = 0;
    for (size_t i = 0; i < lives.size(); ++i) {
      ASSERT_LE(plan.at[i] + lives[i].bytes, plan.bytes);
      size_t now = 0;
      for (size_t k = 0; k < lives.size(); ++k) {
        const bool together = lives[k].taken < lives[i].given && lives[i].taken < lives[k].given;
        if (together && lives[k].taken <= lives[i].taken) now += lives[k].bytes;
        ASSERT_TRUE(i == k || !together || plan.at[i] + lives[i].bytes <= plan.at[k] || plan.at[k] + lives[k].bytes <= plan.at[i]);
      }
      most = std::max(most, now);
    }
    EXPECT_LE(plan.bytes, most + most / 8) << "round " << round;
  }
}

/// What was given last is had again, without a look among the idle ones; a pass that waits to look at it is spared where there is another.
TEST_F(BlockPools, SmallBlocksComeBack) {
  char *const a = take(4), *const b = take(4), *const c = take(4000);
  give(a), give(b);
  EXPECT_EQ(take(100), b);
  give(b);
  Source::busy = b;
  EXPECT_EQ(take(512), a);
  EXPECT_EQ(take(512), b);        // the only one left that is ready
  take(kMiB), take(kMiB - 5120);  // all there is
  give(a), give(b), give(c);
  EXPECT_EQ(take(5000), a);  // merged, since none fits
  EXPECT_EQ(Source::segments.size(), 1u);
}

/// What is held when a recording goes stays good, and comes back to everybody.
TEST_F(BlockPools, BlocksOutliveTheirRecording) {
  BlockPool::Arena* const arena = pool.open({{0, 3 * kMiB}, 8 * kMiB});
  char *const large = take(3 * kMiB, arena), *const small = take(100, arena);
  pool.forget(arena);
  EXPECT_EQ(pool.stats().bytes_in_use, int64_t(3 * kMiB + 512));
  take(4 * kMiB), take(100);  // in what is free of that segment
  EXPECT_EQ(Source::segments.size(), 2u);
  give(large), give(small);
  EXPECT_EQ(take(3 * kMiB), large);
}

TEST_F(BlockPools, RefusesAboveTheLimit) {
  pool.set_limit(int64_t(40 * kMiB));
  char* const a = take(20 * kMiB);
  EXPECT_EQ(pool.take(30 * kMiB, "test", nullptr), nullptr);
  give(a);
  take(30 * kMiB);  // what nobody uses makes room
  EXPECT_EQ(pool.take(SIZE_MAX, "test", nullptr), nullptr);
  EXPECT_EQ(pool.held().size(), 1u);
  EXPECT_EQ(pool.held()[0].bytes, int64_t(30 * kMiB));
}

}  // namespace
}  // namespace keel
