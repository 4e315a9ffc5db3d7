// Planted faults, a fast subset: they fail as planned, their twins and healthy runs are silent, and what cannot be foretold is named in its
// step. `keel bench faults` runs all of them with more seeds.
#include "faults/fault.h"

#include <gtest/gtest.h>

#include <set>

namespace keel::faults {
namespace {

std::string said(const std::vector<Monitor::Finding>& all) {
  std::string text;
  for (const auto& x : all) text += "\n  step " + std::to_string(x.step) + " [" + x.detector + "] " + x.op + " '" + x.path + "': " + x.text;
  return text;
}

TEST(Faults, AllAreThere) {
  std::set<int> numbers;
  int held_out = 0;
  for (const Fault& f : all_faults()) {
    numbers.insert(f.number), held_out += f.held_out();
    EXPECT_TRUE(f.train && f.name[0] && f.family[0] && !f.dtypes.empty()) << f.number;
    EXPECT_EQ(f.need == Need::control, f.ops.empty() && f.remedies.empty()) << f.number;
  }
  EXPECT_EQ(numbers.size(), 155u);
  EXPECT_EQ(*numbers.begin(), 1);
  EXPECT_EQ(*numbers.rbegin(), 224);
  EXPECT_EQ(held_out, 11);
}

TEST(Faults, FailAsPlantedAndTheirTwinsDoNot) {
  for (const Fault& f : all_faults()) {
    if (f.need == Need::control) continue;
    EXPECT_GT(try_fault(f, 1, f.dtypes[0], false).failed, 0) << f.number << " " << f.name;
    const Verdict twin = try_fault(f, 1, f.dtypes[0], true);
    EXPECT_EQ(twin.failed, 0) << f.number << " " << f.name;
    EXPECT_TRUE(f.held_out() || f.blind_set() == 8 || twin.words == 0)  // the bench judges what is held out, and the last blind set
        << f.number << " " << f.name << said(twin.all);
  }
}

TEST(Faults, GradualOnesAreForetoldAndTheSuggestionMendsThem) {
  for (const Fault& f : all_faults()) {
    if (f.held_out() || f.blind_set() >= 4 || f.need == Need::control || f.need == Need::same_step)
      continue;  // nobody claims the fourth set and those after it
    const DType t = f.dtypes[0];
    const Verdict v = try_fault(f, 2, t, false);
    EXPECT_TRUE(v.in_time) << f.number << " " << f.name << ", failed in step " << v.failed << said(v.all);
    EXPECT_FALSE(v.suggestion.kind.empty()) << f.number << " " << f.name << said(v.all);
    const Verdict mended = try_fault(f, 2, t, false, 2 * v.failed, v.suggestion, v.suggested);
    EXPECT_EQ(mended.failed, 0) << f.number << " " << f.name << ": " << v.suggestion.kind << " " << v.suggestion.value;
  }
}

/// Remedies of three of these do not suffice: their runs fail as before, or in twice the time.
TEST(Faults, RowsWrittenWithTheRulesAreToldAndMended) {
  for (const Fault& f : all_faults()) {
    if (f.blind_set() != 6) continue;
    const DType t = f.dtypes[0];
    const Verdict v = try_fault(f, 2, t, false);
    EXPECT_TRUE(v.in_time) << f.number << " " << f.name << ", failed in step " << v.failed << said(v.all);
    EXPECT_FALSE(v.suggestion.kind.empty()) << f.number << " " << f.name << said(v.all);
    const Verdict mended = try_fault(f, 2, t, false, 2 * v.failed, v.suggestion, v.suggested);
    const bool not_enough = f.number == 85 || f.number == 96 || f.number == 98;
    EXPECT_EQ(mended.failed > 0, not_enough) << f.number << " " << f.name << ": " << v.suggestion.kind << " " << v.suggestion.value;
  }
}

TEST(Faults, WhatCannotBeForetoldIsNamedInItsStepAndWritesNoWeight) {
  for (const Fault& f : all_faults()) {
    if (f.need != Need::same_step || f.held_out() || f.blind_set() >= 4) continue;
    for (const DType t : f.dtypes) {
      const Verdict v = try_fault(f, 2, t, false);
      EXPECT_TRUE(v.in_time) << f.number << " " << f.name << said(v.all);
      EXPECT_TRUE(v.weights_clean) << f.number << " " << f.name;
    }
  }
}

TEST(Faults, HealthyRunsAreSilent) {
  for (const Healthy& h : healthy_runs()) {
    Monitor monitor;
    faults::Run run(monitor, 1, false, f32, 100);
    h.train(run);
    monitor.step();
    EXPECT_EQ(run.step, 100) << h.name;
    EXPECT_EQ(run.failed, 0) << h.name;
    EXPECT_TRUE(monitor.warnings().empty()) << h.name << said(monitor.warnings());
    EXPECT_TRUE(monitor.findings().empty()) << h.name << said(monitor.findings());
  }
}

}  // namespace
}  // namespace keel::faults
