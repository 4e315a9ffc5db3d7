// Statistics of blocks and streaming copies, at every instruction-set level.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/loops/loops.h"
#include "backend/cpu/loops/stat_rows.h"
#include "keel/numerics/types.h"
#include "unit/isa_scope.h"

namespace keel::cpu {
namespace {

const Isa kLevels[] = {Isa::scalar, Isa::avx2, Isa::avx512};

TEST(LoopsStat, BlockAgreesWithAPlainCount) {
  IsaScope restore;
  std::mt19937_64 r(5);
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    for (int round = 0; round < 40; ++round) {
      std::vector<uint32_t> x(size_t(1 + r() % 300));
      for (uint32_t& v : x) {
        const uint64_t pick = r() % (round < 20 ? 3 : 9);
        v = uint32_t(r());
        if (pick < 3)
          v = (v & 0x807fffff) | uint32_t(100 + r() % 60) << 23;  // ordinary numbers
        else if (pick == 3)
          v &= 0x80000000;
        else if (pick == 4)
          v &= 0x807fffff;
        else if (pick == 5)
          v = (v & 0x80000000) | 0x7f800000;
      }
      StatSlot::Part part, want;
      stat_block(f32, x.data(), int64_t(x.size()), part);
      for (uint32_t v : x) {
        const uint64_t u = v & 0x7fffffff;
        want.max_bits = std::max(want.max_bits, u), want.min_bits = std::min(want.min_bits, u - 1), ++want.count;
        want.nan += u > 0x7f800000, want.inf += u == 0x7f800000, want.subnormal += u && u < 0x00800000;
      }
      EXPECT_EQ(part.max_bits, want.max_bits);
      EXPECT_EQ(part.min_bits, want.min_bits);
      EXPECT_EQ(part.count, want.count);
      EXPECT_EQ(part.nan, want.nan);
      EXPECT_EQ(part.inf, want.inf);
      EXPECT_EQ(part.subnormal, want.subnormal);
    }
    // Blocks behind one another into one part: what is known decides how closely the next is looked at.
    for (int round = 0; round < 40; ++round) {
      StatSlot::Part part, want;
      for (int block = 0; block < 30; ++block) {
        const int64_t rows = 1 + int64_t(r() % 5), cols = 1 + int64_t(r() % 1200), step = cols + int64_t(r() % 3);
        std::vector<uint32_t> x(size_t(rows * step), 0x7fc00000);
        const uint64_t odd = r() % 4;  // one other value in most blocks
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < cols; ++j)
            x[size_t(i * step + j)] = (uint32_t(r()) & 0x807fffff) | uint32_t(120 + (round % 4 + 1) * (r() % 8)) << 23;
        uint32_t& other = x[size_t(int64_t(r() % uint64_t(rows)) * step + int64_t(r() % uint64_t(cols)))];
        if (odd == 1) other = uint32_t(r()) & 0x80000000;
        if (odd == 2) other = uint32_t(r());
        if (odd == 3 && round % 2) other &= 0x807fffff;
        stat_rows(f32, x.data(), rows, cols, step, part);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < cols; ++j) {
            const uint64_t u = x[size_t(i * step + j)] & 0x7fffffff;
            want.max_bits = std::max(want.max_bits, u), want.min_bits = std::min(want.min_bits, u - 1), ++want.count;
            want.nan += u > 0x7f800000, want.inf += u == 0x7f800000, want.subnormal += u && u < 0x00800000;
          }
        ASSERT_EQ(part.max_bits, want.max_bits);
        ASSERT_EQ(part.min_bits, want.min_bits);
        ASSERT_EQ(part.count, want.count);
        ASSERT_EQ(part.nan, want.nan);
        ASSERT_EQ(part.inf, want.inf);
        ASSERT_EQ(part.subnormal, want.subnormal);
      }
    }
    StatSlot::Part zero, e4m3;
    const double zeros[5] = {};
    stat_block(f64, zeros, 5, zero);
    EXPECT_EQ(zero.max_bits, 0u);
    EXPECT_EQ(zero.min_bits, ~uint64_t(0));
    EXPECT_EQ(zero.count, 5u);
    const uint8_t codes[] = {0x7f, 0xff, 0x01, 0x38, 0x00};
    stat_block(f8e4m3fn, codes, 5, e4m3);
    EXPECT_EQ(e4m3.nan, 2u);
    EXPECT_EQ(e4m3.inf, 0u);
    EXPECT_EQ(e4m3.subnormal, 1u);
  }
}

TEST(LoopsStat, SumsAreWatchedOnTheWay) {
  IsaScope restore;
  std::mt19937_64 r(6);
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    for (int round = 0; round < 60; ++round) {
      StatSlot::Part part, want;
      for (int block = 0; block < 12; ++block) {
        const size_t n = 1 + r() % 400;
        std::vector<float> a(n), b(n), y(n), sum(n);
        for (size_t i = 0; i < n; ++i) {
          a[i] = float(int64_t(r() % 2000) - 1000), b[i] = round % 3 ? float(r() % 1000) + 0.5f : float(int64_t(r() % 2000) - 1000);
          if (round % 5 == 4 && r() % 200 == 0) a[i] = r() % 2 ? NAN : -INFINITY;
          if (round % 4 == 3 && r() % 200 == 0) a[i] = 1e-40f, b[i] = 0;
          sum[i] = a[i] + b[i];
        }
        float* const to = block % 2 ? a.data() : y.data();
        add_watched(a.data(), b.data(), to, int64_t(n), part);
        EXPECT_EQ(std::memcmp(to, sum.data(), n * 4), 0);
        stat_block(f32, sum.data(), int64_t(n), want);
        ASSERT_EQ(part.max_bits, want.max_bits);
        ASSERT_EQ(part.min_bits, want.min_bits);
        ASSERT_EQ(part.count, want.count);
        ASSERT_EQ(part.nan, want.nan);
        ASSERT_EQ(part.inf, want.inf);
        ASSERT_EQ(part.subnormal, want.subnormal);
      }
    }
  }
}

TEST(LoopsStream, CopiesAnyAlignmentAndLength) {
  IsaScope restore;
  std::vector<uint8_t> from(1000), to(1000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = uint8_t(i * 7 + 1);
  for (Isa isa : kLevels) {
    set_isa_for_tests(isa);
    for (size_t a : {0, 1, 4, 13, 60})
      for (size_t b : {0, 3, 4, 8})
        for (size_t n : {0, 1, 63, 64, 127, 200, 800}) {
          std::fill(to.begin(), to.end(), uint8_t(0));
          stream_copy(to.data() + a, from.data() + b, n);
          stream_fence();
          for (size_t i = 0; i < n; ++i) ASSERT_EQ(to[a + i], from[b + i]);
          for (size_t i = 0; i < to.size(); ++i) {
            if (i < a || i >= a + n) { ASSERT_EQ(to[i], 0); }
          }
        }
  }
}

}  // namespace
}  // namespace keel::cpu
