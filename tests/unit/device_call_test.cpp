// What errors that a device finds late know of the call.
#include "op/device_call.h"

#include <gtest/gtest.h>

#include "core/device_driver.h"
#include "core/impl.h"
#include "keel/keel.h"

namespace keel {

extern OpDef op_neg;

namespace {

uint64_t remembered(const Tensor& x) {
  const Tensor* const in[] = {&x};
  const Spec* const specs[] = {&impl(x).spec};
  SpecList out;
  out.push_back(impl(x).spec);
  const Call c{op_neg, nullptr, Inputs(in, 1), Specs(specs, 1), out, nullptr, scope()};
  return remember_call(c);
}
std::string told(uint64_t call) {
  DeviceFault f;
  f.call = call, f.code = KernelStatus::bad_place, f.got = 9, f.limit = 4, f.what = "target";
  return late_error(f).what();
}

TEST(LateErrors, NameTheCallWhileItIsRecent) {
  const Tensor x = ones({3});
  const uint64_t call = remembered(x);
  EXPECT_NE(told(call).find("neg"), std::string::npos) << told(call);
  for (int i = 0; i < 512; ++i) remembered(x);
  EXPECT_EQ(told(call).find("neg"), std::string::npos) << told(call);
}

TEST(LateErrors, NameACallOfARecordingForAsLongAsTheRecordingLives) {
  const Tensor x = ones({3});
  uint64_t call = 0;
  {
    KeptCalls recording;
    {
      const KeepCalls keep(recording);
      call = remembered(x);
    }
    for (int i = 0; i < 2000; ++i) remembered(x);
    EXPECT_NE(told(call).find("neg"), std::string::npos) << told(call);
    EXPECT_NE(told(call).find("f32[3]"), std::string::npos) << told(call);
  }
  EXPECT_EQ(told(call).find("neg"), std::string::npos) << told(call);
}

}  // namespace
}  // namespace keel
