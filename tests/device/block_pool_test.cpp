// The pool of device memory by itself, over addresses that nobody touches.
#include "backend/cuda/block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

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
    if (i % 1000 == 0) arena = pool.open(size_t(draw() % 64) * kMiB);
    if (i % 1000 == 500) pool.close(arena);
    if (i % 1000 == 900) pool.forget(std::exchange(arena, nullptr));
    if (i % 5000 == 4999) pool.release_cached();
    if (arena) pool.lasting(arena, draw() % 4 == 0);
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
  pool.forget(arena ? arena : pool.open(0));
  while (!held.empty()) give(held.begin()->first);
  EXPECT_EQ(pool.stats().bytes_in_use, 0);
  pool.release_cached();
  EXPECT_EQ(pool.stats().bytes_reserved, 0);  // everything was merged to whole segments
  EXPECT_TRUE(Source::segments.empty());
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

TEST_F(BlockPools, ARecordingFitsIntoOnePiece) {
  // Ten blocks of 30 MiB are given before four of 75 MiB are wanted; in segments of their own they would be of no use.
  pool.count();
  std::vector<char*> first, second;
  const auto run = [&](BlockPool::Arena* arena) {
    for (int i = 0; i < 10; ++i) first.push_back(take(30 * kMiB, arena));
    for (char* p : std::exchange(first, {})) give(p);
    for (int i = 0; i < 4; ++i) second.push_back(take(75 * kMiB, arena));
    for (char* p : std::exchange(second, {})) give(p);
  };
  run(nullptr);
  EXPECT_EQ(pool.counted(), 300 * kMiB);
  EXPECT_EQ(pool.stats().bytes_in_use, 0);
  EXPECT_EQ(pool.stats().bytes_reserved, int64_t((300 + 4 * 76) * kMiB));
  BlockPool::Arena* const arena = pool.open(pool.counted() + 40 * kMiB);
  run(arena);
  pool.close(arena);
  EXPECT_EQ(pool.stats().bytes_in_use, int64_t(300 * kMiB));
  EXPECT_EQ(pool.stats().bytes_reserved, int64_t(340 * kMiB));  // what the run without it had left went back
  take(30 * kMiB);                                              // what it did not use is everybody's
  EXPECT_EQ(pool.stats().bytes_reserved, int64_t(340 * kMiB));
  pool.forget(arena);
  BlockPool::Arena* const next = pool.open(300 * kMiB);
  EXPECT_EQ(pool.stats().bytes_reserved, int64_t(640 * kMiB));  // the first segment is cut
  pool.forget(next);
}

/// What is held to the end lies at the end; between both nothing is in use.
TEST_F(BlockPools, WhatLastsLiesApart) {
  BlockPool::Arena* const arena = pool.open(64 * kMiB);
  std::vector<char*> passing, lasting;
  for (int i = 0; i < 6; ++i) passing.push_back(take(6 * kMiB, arena));
  for (int i = 0; i < 6; ++i) {  // as gradients come while what they were computed from goes
    pool.lasting(arena, true);
    lasting.push_back(take(kMiB, arena));
    pool.lasting(arena, false);
    give(passing.back()), passing.pop_back();
  }
  char* const wide = take(36 * kMiB, arena);  // all in one
  EXPECT_EQ(Source::segments.size(), 1u);
  EXPECT_GT(lasting.back(), wide + 36 * kMiB);
  give(wide), give(lasting[3]);
  pool.close(arena);
  EXPECT_EQ(pool.stats().bytes_in_use, int64_t(42 * kMiB));
  char* const between = take(22 * kMiB);  // is everybody's
  EXPECT_EQ(Source::segments.size(), 1u);
  pool.forget(arena);
  EXPECT_EQ(pool.stats().bytes_in_use, int64_t(27 * kMiB));
  give(between);
  for (const int i : {0, 1, 2, 4, 5}) give(lasting[size_t(i)]);
  EXPECT_EQ(pool.release_cached(), int64_t(64 * kMiB));
}

/// What is held when a recording goes stays good, and comes back to everybody.
TEST_F(BlockPools, BlocksOutliveTheirRecording) {
  BlockPool::Arena* const arena = pool.open(8 * kMiB);
  char *const large = take(3 * kMiB, arena), *const small = take(100, arena);
  pool.close(arena);
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
