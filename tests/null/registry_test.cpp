// What can be known of the rows without running a kernel.
#include <gtest/gtest.h>

#include <set>

#include "backend/kernel.h"
#include "ops/cases.h"

namespace keel {
namespace {

TEST(Registry, EveryOpHasCases) {
  std::set<std::string> covered;
  for (const auto& c : testing_cases::all_cases().ops) covered.insert(c.op);
  std::string missing;
  for (int64_t i = 0; i < registry().size(); ++i)
    if (!covered.count(registry().op(i).name)) missing += std::string(" ") + registry().op(i).name;
  EXPECT_EQ(missing, "") << "ops without cases in tests/ops";
}

TEST(Registry, SamplesHaveTheParamsOfTheirOp) {
  for (const auto& c : testing_cases::all_cases().ops) {
    const OpDef* d = registry().find(c.op.c_str());
    ASSERT_TRUE(d) << c.op << " has cases but is not registered";
    for (const auto& s : c.samples) EXPECT_EQ(s.params.size(), d->params.size) << c.op << ": a sample has params of another op";
    for (const auto& s : c.errors) EXPECT_EQ(s.params.size(), d->params.size) << c.op << ": an error sample has params of another op";
  }
}

TEST(Registry, EveryRowIsDocumented) {
  for (int64_t i = 0; i < registry().size(); ++i) {
    const OpDef& d = registry().op(i);
    EXPECT_STRNE(d.doc, "") << d.name << " has no doc";
    EXPECT_TRUE(d.infer) << d.name;
    EXPECT_GT(d.out.size(), 0) << d.name;
  }
}

TEST(Registry, EveryOpCanRun) {
  for (int64_t i = 0; i < registry().size(); ++i) {
    const OpDef& d = registry().op(i);
    EXPECT_TRUE(d.decompose || d.view || cpu_kernels().first(d) || reference_kernels().first(d))
        << d.name << " has neither a kernel nor a decomposition";
    if (d.is_primitive && !d.why_no_oracle) {
      EXPECT_TRUE(reference_kernels().first(d)) << d.name << " is primitive and has no reference kernel to judge it";
    }
  }
}

}  // namespace
}  // namespace keel
