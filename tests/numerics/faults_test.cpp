// Planted faults, a fast subset: they fail as planned, their twins and healthy runs are silent, and what the monitor is known to foretell it
// foretells. `keel bench faults` runs all of them with more seeds.
#include "faults/fault.h"

#include <gtest/gtest.h>

#include <set>

namespace keel::faults {
namespace {

const Fault& row(int number) {
  for (const Fault& f : all_faults())
    if (f.number == number) return f;
  ADD_FAILURE() << "no fault " << number;
  return all_faults()[0];
}

std::string said(const std::vector<Monitor::Finding>& all) {
  std::string text;
  for (const auto& x : all) text += "\n  step " + std::to_string(x.step) + " [" + x.detector + "] " + x.op + " '" + x.path + "': " + x.text;
  return text;
}

TEST(Faults, AllThirtyTwoAreThere) {
  std::set<int> numbers;
  int held_out = 0;
  for (const Fault& f : all_faults()) {
    numbers.insert(f.number), held_out += f.held_out();
    EXPECT_TRUE(f.train && f.name[0] && f.family[0] && !f.dtypes.empty()) << f.number;
    if (f.need != Need::control) EXPECT_TRUE(!f.ops.empty() && !f.remedies.empty()) << f.number;
  }
  EXPECT_EQ(numbers.size(), 32u);
  EXPECT_EQ(*numbers.begin(), 1);
  EXPECT_EQ(*numbers.rbegin(), 32);
  EXPECT_EQ(held_out, 11);
}

TEST(Faults, FailAsPlantedAndTheirTwinsDoNot) {
  for (const Fault& f : all_faults()) {
    if (f.need == Need::control) continue;
    const DType t = f.dtypes[0];
    EXPECT_GT(try_fault(f, 1, t, false).failed, 0) << f.number << " " << f.name;
    EXPECT_EQ(try_fault(f, 1, t, true).failed, 0) << f.number << " " << f.name;
  }
}

}  // namespace
}  // namespace keel::faults
