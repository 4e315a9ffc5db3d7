// Memory stays where it is over a hundred thousand training steps.
#include <gtest/gtest.h>

#include <cstdio>

#include "keel/keel.h"
#include "unit/sanitized.h"

namespace keel {
namespace {

/// Resident memory of the process in bytes; 0 where the system does not say.
int64_t resident() {
  long pages = 0, here = 0;
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%ld %ld", &pages, &here) != 2) here = 0;
    std::fclose(f);
  }
  return int64_t(here) * 4096;
}

struct Tiny : nn::Module<Tiny> {
  nn::Linear first{4, 8}, second{8, 3};
  static void fields(auto& m, auto&& f) { f("first", m.first)("second", m.second); }
  Tensor forward(const Tensor& x) const { return second(relu(first(x))); }
};

TEST(Leak, TrainingStepsLeaveNothingBehind) {
  const int steps = kSanitized ? 2000 : 100000;
  manual_seed(1);
  Tiny net;
  optim::Adam opt(net.parameters(), {.lr = 1e-3});
  const Tensor x = randn({2, 4}), y = tensor({0, 2});
  const auto step = [&] {
    opt.zero_grad();
    Tensor loss = cross_entropy(net(x), y);
    loss.backward();
    opt.step();
  };
  for (int i = 0; i < 500; ++i) step();  // lists and caches fill
  const MemoryStats before = memory_stats();
  const int64_t resident_before = resident();
  for (int i = 0; i < steps; ++i) step();
  const MemoryStats after = memory_stats();
  EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
  EXPECT_EQ(after.allocations - after.frees, before.allocations - before.frees);
  EXPECT_GT(after.allocations - before.allocations, steps);  // and there was something to leak
  EXPECT_EQ(after.bytes_reserved, before.bytes_reserved);
  // One block of 16 bytes a step would be 1.6 MB. Sanitizers keep freed memory for a while, and look for leaks themselves.
  if (!kSanitized) { EXPECT_LT(resident() - resident_before, int64_t(1) << 20); }
}

}  // namespace
}  // namespace keel
