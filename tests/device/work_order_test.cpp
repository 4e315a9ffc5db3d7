// The order of recorded work by itself, held to a slow and plain one.
#include "backend/cuda/work_order.h"

#include <gtest/gtest.h>

#include <random>

namespace keel {
namespace {

using cuda::WorkOrder;

const char* at(size_t i) { return reinterpret_cast<const char*>(size_t(1) << 32) + i; }

TEST(WorkOrders, OnlyClashesWait) {
  WorkOrder order;
  EXPECT_EQ(order.begin(), 0);
  EXPECT_TRUE(order.touch(at(0), at(64), true).empty());
  EXPECT_EQ(order.begin(), 1);
  EXPECT_EQ(order.touch(at(63), at(70), false), std::vector<int>{0});
  EXPECT_EQ(order.begin(), 2);
  EXPECT_TRUE(order.touch(at(64), at(80), false).empty());  // both read
  EXPECT_TRUE(order.touch(at(70), at(70), true).empty());   // nothing
  EXPECT_EQ(order.begin(), 3);
  EXPECT_EQ(order.touch(at(66), at(67), true), (std::vector<int>{2, 1}));
  EXPECT_TRUE(order.touch(at(0), at(1), true).empty());  // 0 comes before 1
  EXPECT_EQ(order.count(), 4);
}

/// Two pieces that touch the same memory, of which one writes, stand in an order, directly or by way of others; what says so is no more
/// than needed: nothing that is known otherwise, and no pieces that have nothing in common.
TEST(WorkOrders, HoldsWhatMustHold) {
  std::mt19937 draw(5);
  for (int round = 0; round < 20; ++round) {
    struct Span {
      size_t begin, end;
      bool writes;
    };
    WorkOrder order;
    std::vector<std::vector<Span>> spans;
    std::vector<std::vector<char>> before;
    for (int i = 0; i < 150; ++i) {
      ASSERT_EQ(order.begin(), i);
      spans.emplace_back(), before.emplace_back(size_t(i));
      for (int k = 0; k < 3; ++k) {
        const size_t begin = draw() % 4000;
        const Span s{begin, begin + 1 + draw() % 40, draw() % 3 == 0};
        const auto clashes = [&](int j) {
          for (const Span& x : spans[size_t(j)])
            if ((x.writes || s.writes) && x.begin < s.end && s.begin < x.end) return true;
          return false;
        };
        for (const int j : order.touch(at(s.begin), at(s.end), s.writes)) {
          EXPECT_TRUE(clashes(j));
          EXPECT_FALSE(before.back()[size_t(j)]);
          before.back()[size_t(j)] = 1;
          for (int n = 0; n < j; ++n) before.back()[size_t(n)] |= before[size_t(j)][size_t(n)];
        }
        for (int j = 0; j < i; ++j) EXPECT_TRUE(before.back()[size_t(j)] || !clashes(j)) << j << " " << i;
        spans.back().push_back(s);
      }
    }
  }
}

}  // namespace
}  // namespace keel
