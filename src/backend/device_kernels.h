#pragma once
// How a device library lists its kernels: by the op's name, since it knows no rows.
#include "backend/kernel.h"
#include "core/device_driver.h"

namespace keel {

struct DeviceKernel {
  const char* op;
  KernelEntry* entry;
};

/// Statistics of results as a device gathers them, in its own memory: a slot of a board. As in a StatSlot, but `low_bits` is the complement of
/// `min_bits`: a slot of zeros is empty, and every number only grows.
struct BoardSlot {
  uint64_t max_bits, low_bits, nan, inf, subnormal, unused[3];
};
/// Kernels of a device find their slots where those of the CPU find a StatSlot; null: nobody watches.
inline BoardSlot* board_slot(const KernelArgs& a, int i) { return reinterpret_cast<BoardSlot*>(a.stats[i]); }
/// What boards take; of other dtypes nothing is known.
constexpr bool on_boards(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16 || t == DType::f64; }

/// What `DeviceDriver::kernels` points to.
struct DeviceKernels {
  const DeviceKernel* items = nullptr;
  int32_t count = 0;
  /// Queues passes over `n` tensors, each of which adds its statistics to a slot; text as from the driver's functions. Null: this device has
  /// no boards, and statistics are taken on host copies.
  const char* (*observe)(int device, int n, const TensorView* x, BoardSlot* const* to) = nullptr;
  /// Queues: *word becomes 1 where one of these slots of `board` holds a NaN or an infinity, or `also` is there and *also is not 0; else 0.
  const char* (*forbid)(int device, const BoardSlot* board, int n, const uint32_t* slots, const float* also, float* word) = nullptr;
};

/// The kernels of devices of a kind; filled from their library at the first call.
const KernelTable& library_kernels(DeviceType t);
inline const KernelTable& kernels_on(DeviceType t) { return t == DeviceType::cpu ? detail::cpu_table : library_kernels(t); }

}  // namespace keel
