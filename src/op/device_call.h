#pragma once
// Calls and tensors between the CPU and another device.
#include "backend/device_kernels.h"
#include "op/scope.h"

namespace keel {

/// The same values on device `to`; dense tensors keep the order of their axes in memory.
Tensor move_to(const Tensor& x, Device to);

/// The error that a kernel's status stands for.
Error status_error(const KernelStatus& s);
/// Keeps what an error found later must say of `c`: the number that late_error finds it by.
uint64_t remember_call(const Call& c);

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
