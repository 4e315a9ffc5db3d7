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
  uint64_t max_bits, low_bits, nan, inf, subnormal;
  uint64_t part;   // where a pass looked at a part: of how many blocks in a row at one (low half), and the phase; 0: at everything
  uint64_t seen;   // elements that passes looked at
  uint64_t first;  // complement of the place in memory of the first NaN or infinity, where one pass looked at everything; 0: not known

  static constexpr uint64_t kRest = uint64_t(1) << 63;  // in `part`: another pass has looked at the rest
  // In the slot of a StepGuard `seen` counts its elements, `part` holds its lists, and `first` the complement of its tensor.
  bool in_part() const { return part && !(part & kRest); }
};
/// Kernels of a device find their slots where those of the CPU find a StatSlot; null: nobody watches.
inline BoardSlot* board_slot(const KernelArgs& a, int i) { return reinterpret_cast<BoardSlot*>(a.stats[i]); }
/// What boards take; of other dtypes nothing is known.
constexpr bool on_boards(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16 || t == DType::f64; }

/// How much of a tensor a pass looks at: a part as the pace says, everything, or what the pass before left out.
enum class Look : uint8_t { part, whole, rest };
/// The pace of passes over parts. A tensor is blocks of 1 KB; of each `every` in a row a pass looks at one, and at another one in each of
/// `every` phases.
struct Pace {
  uint32_t every = 1, phase = 0;  // `every` is a power of two
  // The board of who watches. Its slot 0 takes no result; slots before `used` may have been written by kernels that are queued. Once
  // one of those holds a NaN, passes over parts look at everything, up to the board's collection: so what made it is seen even where the
  // pass over its result comes after those who passed it on.
  BoardSlot* board = nullptr;
  uint32_t used = 0;
};
constexpr int64_t kBlockBytes = 1024;
constexpr int64_t kLeastPart = int64_t(512) << 10;  // bytes; less takes as long as starting a pass
/// Of how many blocks in a row of a tensor of `bytes` bytes one is looked at.
constexpr uint32_t every_of(int64_t bytes, uint32_t most) {
  uint32_t every = 1;
  while (every < most && bytes / (2 * int64_t(every)) >= kLeastPart) every *= 2;
  return every;
}
#ifdef __CUDACC__
__host__ __device__
#endif
    /// Which block of run `run`: not the same in neighbouring runs, or rows of many blocks would be seen in the same columns only.
    constexpr uint32_t
    block_of_run(uint64_t run, uint32_t every, uint32_t phase) {
  return (phase + (uint32_t(run) * 0x9e3779b1u >> 16)) & (every - 1);
}

/// Elements of a tensor's memory, counted from its first one: `lines` lines of `count` elements, `stride` apart, each line `pitch` after the
/// one before.
struct Lines {
  int64_t from = 0, count = 0, stride = 1, lines = 1, pitch = 0;
  int64_t size() const { return count * lines; }
};
/// Such elements of the tensor at `data` on their way to the host: as they are, one after another, to `to`.
struct Gather {
  const void* data;
  DType dtype;
  Lines what;
  void* to;
};

/// What `DeviceDriver::kernels` points to.
struct DeviceKernels {
  const DeviceKernel* items = nullptr;
  int32_t count = 0;
  /// Asks for passes over `n` tensors, each of which adds its statistics to a slot; text as from the driver's functions. They are put off so
  /// that one launch serves many: until the list is full, until memory that they look at is handed out again or copied to, until the board is
  /// asked for by `forbid` or `collect`, or until `settle`. `rest` is for a slot that a pass over the same tensor has been asked for before, in this
  /// phase; it does nothing where that saw everything. Null: this device has no boards, and statistics are taken on host copies.
  const char* (*observe)(int device, int n, const TensorView* x, BoardSlot* const* to, Look look) = nullptr;
  /// Queues: *word becomes 1 where one of these slots of `board` holds a NaN or an infinity, or `also` is there and *also is not 0; else 0.
  const char* (*forbid)(int device, const BoardSlot* board, int n, const uint32_t* slots, const float* also, float* word) = nullptr;
  /// The pace from here on.
  void (*pace)(int device, const Pace& pace) = nullptr;
  /// Queues passes and copies of values that were put off, where one of them looks at memory in [begin, end); all of them where `begin` is
  /// null. To be called before work that writes there.
  const char* (*settle)(int device, const void* begin, const void* end) = nullptr;
  /// Asks for the values of some elements, to be copied to memory of the device. Put off as passes are, and seen as they are now.
  const char* (*gather)(int device, int n, const Gather* what) = nullptr;
  /// Milliseconds of the device between the copies that two of the last tickets of `collect` stand for, both of which have been made.
  const char* (*elapsed)(int device, uint64_t from, uint64_t to, float* milliseconds) = nullptr;
};

/// The kernels of devices of a kind; filled from their library at the first call.
const KernelTable& library_kernels(DeviceType t);
inline const KernelTable& kernels_on(DeviceType t) { return t == DeviceType::cpu ? detail::cpu_table : library_kernels(t); }

}  // namespace keel
