#pragma once
// How a device library lists its kernels: by the op's name, since it knows no rows.
#include "backend/kernel.h"
#include "core/device_driver.h"

namespace keel {

struct DeviceKernel {
  const char* op;
  KernelEntry* entry;
};

/// What `DeviceDriver::kernels` points to.
struct DeviceKernels {
  const DeviceKernel* items = nullptr;
  int32_t count = 0;
  /// The statistics of a whole tensor, written to the host before the call returns; null: they are taken on a host copy.
  void (*observe)(int device, const TensorView& x, StatSlot& slot) = nullptr;
};

/// The kernels of devices of a kind; filled from their library at the first call.
const KernelTable& library_kernels(DeviceType t);
inline const KernelTable& kernels_on(DeviceType t) { return t == DeviceType::cpu ? detail::cpu_table : library_kernels(t); }

}  // namespace keel
