#pragma once
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/device_driver.h"
#include "keel/keel.h"

namespace keel {

/// Tests on the device that KEEL_TEST_DEVICE names, else on the best one there is; skipped where that is the CPU.
class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* name = std::getenv("KEEL_TEST_DEVICE");
    d = device(name ? name : "auto");
    if (d == cpu_device) GTEST_SKIP() << device_refusal(DeviceType::cuda);
  }
  Device d;
};

}  // namespace keel
