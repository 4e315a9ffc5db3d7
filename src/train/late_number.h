#pragma once
// Single numbers on their way from a device to a host that goes on meanwhile.
#include "core/device_driver.h"
#include "keel/tensor.h"

namespace keel::train {

/// Two numbers at most are under way. Where the device does not copy by itself (DeviceDriver::fetch), and of dtypes that are no
/// floats of 16 bits or more, each is waited for at once.
class LateNumbers {
 public:
  explicit LateNumbers(Device from);
  ~LateNumbers();
  LateNumbers(const LateNumbers&) = delete;
  LateNumbers& operator=(const LateNumbers&) = delete;

  struct Number {
    double value = 0;
    uint64_t ticket = 0;  // 0: `value` is there
    int place = 0;
    DType dtype = DType::none;
  };
  /// The only element of `x`.
  Number send(const Tensor& x);
  /// Waits for it. Raises what work up to there reported.
  double value(const Number& n) const;

 private:
  static constexpr size_t kBytes = 8;
  Device from_;
  const DeviceDriver* driver_ = nullptr;
  char* room_ = nullptr;  // pinned
  int next_ = 0;
  uint64_t last_ = 0;
};

}  // namespace keel::train
