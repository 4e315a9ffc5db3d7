#pragma once
// What a device beside the CPU does for tensors to live on it. One object a kind of device, filled by a shared library (keel_cuda) that is
// opened when a program first asks for the device; plain data and plain functions, so that nothing but memory and numbers crosses.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/impl.h"
#include "core/memory_use.h"
#include "keel/device.h"
#include "keel/error.h"
#include "keel/memory.h"

namespace keel {

struct OpDef;
struct DeviceFusion;

/// Which way a copy goes.
enum class CopyWay : int32_t { to_device, to_host, within };

/// What queued work of a call found wrong with its data: a KernelStatus (backend/kernel.h) with the call's number.
struct DeviceFault {
  uint64_t call = 0;
  int32_t code = 0, axis = -1;
  int64_t got = 0, limit = 0;
  const char* what = "";
};
/// The error that `f` stands for, about the call that it names. Defined where rows are known.
Error late_error(const DeviceFault& f);

/// Functions that return text return null where all went well; the text lives until the thread's next call. All work of a device goes into
/// one queue (on CUDA: the stream of `stream`), in the order of the calls; only `copy` to the host and `synchronize` wait for it.
struct DeviceDriver {
  uint32_t size = sizeof(DeviceDriver);
  int32_t count = 0;         // devices that can be used; their indices are 0 ... count - 1
  const char* build = "";    // keel::build_id() of the library
  const char* name = "";     // "cuda"
  const char* refusal = "";  // why count is 0, or not what the machine has
  /// At least `bytes` bytes, 512-byte aligned; null where the device or its limit refuses. `tag` lives forever and says who asked.
  void* (*allocate)(int device, size_t bytes, const char* tag) = nullptr;
  /// The block may be handed out again for work that is queued later.
  void (*free)(int device, void* p, size_t bytes) = nullptr;
  /// Host memory is read before the call returns.
  const char* (*copy)(int device, void* to, const void* from, size_t bytes, CopyWay way) = nullptr;
  /// Queues `n` copies within the device, to memory that none of the others reads or writes; null: `copy` does them one by one.
  const char* (*copies)(int device, int n, void* const* to, const void* const* from, const size_t* bytes) = nullptr;
  /// Copies beside the queue, for data that is wanted later; all five, or none. `pin` gives host memory that the device reads by itself.
  void* (*pin)(size_t bytes) = nullptr;
  void (*unpin)(void* p) = nullptr;
  /// Begins `n` copies from pinned memory once all work that is queued so far has been done, and returns; tickets count up from 1.
  const char* (*upload)(int device, int n, void* const* to, const void* const* from, const size_t* bytes, uint64_t* ticket) = nullptr;
  /// Work that is queued from now on begins after those copies and the ones before them.
  const char* (*join)(int device, uint64_t ticket) = nullptr;
  /// Waits until they have been made.
  const char* (*await)(int device, uint64_t ticket) = nullptr;
  /// Queues a copy of device memory to pinned memory; tickets count up from 1. `collect` queues after it the clearing of that device memory
  /// to zero bytes. All three, or none.
  const char* (*fetch)(int device, void* to, const void* from, size_t bytes, uint64_t* ticket) = nullptr;
  const char* (*collect)(int device, void* to, void* from, size_t bytes, uint64_t* ticket) = nullptr;
  /// Whether that copy has been made; with `wait` only once it has.
  const char* (*collected)(int device, uint64_t ticket, bool wait, bool* made) = nullptr;
  /// Waits for all queued work; the text is the first error of that work.
  const char* (*synchronize)(int device) = nullptr;
  /// After all queued work was waited for: takes the first fault that it reported; false where there is none. May be null.
  bool (*fault)(int device, DeviceFault* to) = nullptr;
  void* (*stream)(int device) = nullptr;
  MemoryStats (*memory)(int device) = nullptr;
  void (*reset_peak)(int device) = nullptr;
  void (*set_limit)(int device, int64_t bytes) = nullptr;
  int64_t (*release_cached)(int device) = nullptr;
  /// Writes what an out-of-memory error prints: ended by a zero, cut at `room`.
  void (*memory_report)(int device, size_t wanted, char* text, size_t room) = nullptr;
  /// Model, memory, versions and libraries that are missing in a line, for people; or why the device cannot be set up.
  void (*describe)(int device, char* text, size_t room) = nullptr;
  /// Kernels by op name; see backend/device_kernels.h.
  const void* kernels = nullptr;
  /// From here to `record_end`, what this thread asks of the device is written down and not done; other threads go on as ever. Memory that
  /// the thread asks for meanwhile is the recording's own: a block that is freed before the end serves again within, and none of it serves
  /// anybody else until the recording has been forgotten and the block freed. A copy to or from the host and a wait give an error, also at
  /// the end. The same is done twice: without `rehearsal` it is one, which shows what memory is needed when, has addresses but no memory of
  /// its own, and cannot be replayed; the recording proper is given the rehearsal, of which nobody holds memory any more, and forgets it,
  /// also where it cannot begin. All four, or none.
  const char* (*record_begin)(int device, void* rehearsal) = nullptr;
  /// What was written down, to be done by `replay`; without `recording`, or after an error, it is thrown away.
  const char* (*record_end)(int device, void** recording) = nullptr;
  /// While it records: the memory that work from here to the next call of this touches beside what is asked for meanwhile. Pieces of work
  /// that touch none of the same memory, or only read it, may be done at the same time, where the device finds that worth while. May be
  /// null; where it is not called, everything is done in order.
  void (*piece)(int device, int n, const MemoryUse* uses) = nullptr;
  const char* (*replay)(int device, void* recording) = nullptr;
  void (*forget)(int device, void* recording) = nullptr;
  /// Kernels made of several ops; see backend/device_fusion.h. Null: this kind of device makes none.
  const DeviceFusion* fusion = nullptr;
};

/// What the calling thread has asked of devices beside kernels and memory, since it last set this to nothing.
struct DeviceNotes {
  int64_t copies = 0;         // to and from the host
  int64_t waits = 0;
  int64_t host_runs = 0;      // calls of ops that the CPU served
  const OpDef* op = nullptr;  // where the first of them came from; null outside of ops
  bool recording = false;     // inputs that live in host memory come as copies on the device
  void note(int64_t& count);
};
DeviceNotes& device_notes();

/// The driver of a kind of device, opened at the first call; null where it cannot be had: `device_refusal` says why.
const DeviceDriver* device_driver(DeviceType t);
const char* device_refusal(DeviceType t);

/// The driver of a device that holds tensors, which is open.
#pragma GCC visibility push(default)  // the io library uses it too
const DeviceDriver& driver_of(Device d);
/// Raises what work that is done has reported, if anything.
void raise_fault(Device d);
#pragma GCC visibility pop
/// The part of a storage from the first to the last element that a view touches, counted from the view's first; [low, high).
struct ElementSpan {
  int64_t low = 0, high = 0;
  explicit ElementSpan(const TensorImpl& x);
  size_t bytes(DType t) const { return size_t(high - low) * size_of(t); }
};
/// `x` in host memory with the same strides: itself, or a copy of the memory that its elements span, after all work queued before.
Tensor on_host(const Tensor& x);
/// A dense host tensor in the memory of device `to`, strides kept.
Tensor send(const Tensor& x, Device to);

/// Copies bytes to, from or within `d`; raises DeviceError with what earlier work of the device did wrong.
void device_copy(Device d, void* to, const void* from, size_t bytes, CopyWay way);

}  // namespace keel
