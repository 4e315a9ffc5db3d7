// Which devices a library built for some architectures serves.
#include "backend/cuda/architectures.h"

#include <gtest/gtest.h>

namespace keel {
namespace {

using cuda::serves;

TEST(Architectures, MachineCodeServesItsMajorNumberAndTheNewestWhatComesLater) {
  constexpr int release[] = {800, 860, 890, 900, 1000}, one[] = {900};
  for (const int capability : {800, 860, 870, 890, 900, 1000, 1030, 1200}) EXPECT_TRUE(serves(release, capability)) << capability;
  EXPECT_FALSE(serves(release, 750));
  EXPECT_FALSE(serves(one, 890));
  EXPECT_TRUE(serves(one, 1000));
  constexpr int apart[] = {860, 1000};
  EXPECT_FALSE(serves(apart, 800));  // code for 8.6 is not for 8.0
  EXPECT_FALSE(serves(apart, 900));  // and only the newest is there as PTX
  EXPECT_EQ(cuda::names_of(release), "8.0, 8.6, 8.9, 9.0, 10.0");
}

}  // namespace
}  // namespace keel
