// Random numbers of a test do not depend on the tests before it in the same process.
#include <gtest/gtest.h>

#include "keel/random.h"

namespace keel {
namespace {

struct Seed : testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { manual_seed(0); }
};
[[maybe_unused]] const bool kAdded = (testing::UnitTest::GetInstance()->listeners().Append(new Seed), true);

}  // namespace
}  // namespace keel
