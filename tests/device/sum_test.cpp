// Sums into another dtype, as counts and means of 16-bit numbers want them: on the device, beside the same on the CPU.
#include "backend/kernel.h"
#include "device/on_device.h"

namespace keel {
namespace {

class SumsOnDevice : public DeviceTest {};

TEST_F(SumsOnDevice, IntoAnotherDType) {
  manual_seed(2);
  const Tensor x = randint(0, 5, {37, 19, 8}).astype(f32);
  const int64_t calls = fallback_calls();
  for (const DType from : {f16, bf16, f32, f64, boolean, u8, i32, i64})
    for (const DType to : {f32, f64})
      for (const Axes& axes : {Axes(), Axes(0), Axes(2), Axes{0, 2}}) {
        const Tensor here = x.astype(from), there = here.to(d);
        const Tensor want = sum(here, {.axis = axes, .dtype = to}), got = sum(there, {.axis = axes, .dtype = to});
        EXPECT_EQ(got.dtype(), to);
        EXPECT_TRUE(array_equal(got.to(cpu_device), want)) << name_of(from) << " into " << name_of(to);  // whole numbers: exact
      }
  EXPECT_EQ(sum(full({2000, 3}, 1, {.dtype = f32}).to(d), {.dtype = f64}).item(), 6000);
  EXPECT_EQ(sum(full({3000}, 1e-3, {.dtype = f64}).to(d), {.dtype = f32}).dtype(), f32);
  if (d.type == DeviceType::cuda) {
    EXPECT_EQ(fallback_calls(), calls) << "left to the CPU";
  }
}

}  // namespace
}  // namespace keel
