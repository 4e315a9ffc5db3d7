#pragma once
// Calls and tensors between the CPU and another device.
#include <vector>

#include "backend/device_kernels.h"
#include "op/scope.h"

namespace keel {

/// The same values on device `to`; dense tensors keep the order of their axes in memory.
Tensor move_to(const Tensor& x, Device to);

/// The error that a kernel's status stands for.
Error status_error(const KernelStatus& s);
/// Keeps what an error found later must say of `c`: the number that late_error finds it by.
uint64_t remember_call(const Call& c);

/// Numbers of calls that a recording repeats, of which a late error must still know everything when it is found in a replay.
class KeptCalls {
 public:
  KeptCalls() = default;
  KeptCalls(const KeptCalls&) = delete;
  ~KeptCalls();

 private:
  friend class KeepCalls;
  friend uint64_t remember_call(const Call&);
  std::vector<uint64_t> numbers_;
};
/// While it lives, calls of this thread are kept for as long as `calls` lives.
class KeepCalls {
 public:
  explicit KeepCalls(KeptCalls& calls);
  KeepCalls(const KeepCalls&) = delete;
  ~KeepCalls();
};

/// Who watches a call: slots, one a declared output. Those of the host are filled when the call returns, those of a device's board by queued work.
struct Watch {
  StatSlot* host = nullptr;
  BoardSlot* board = nullptr;
  explicit operator bool() const { return host || board; }
};
/// Where a call runs.
Device device_of(const Call& c);
/// The kernel of `d`, or what stands in for it.
Tensors run_backend_on(Device d, Call& c, Watch watch);
/// Serves a call on `d` by the CPU: inputs are copied there, results back.
Tensors run_on_host(Call& c, Device d);

}  // namespace keel
