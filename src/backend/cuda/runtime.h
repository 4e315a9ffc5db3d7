#pragma once
// The CUDA side of DeviceDriver: devices, their one stream, errors.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "backend/cuda/block_pool.h"
#include "core/memory_use.h"
#include "keel/memory.h"

namespace keel {
struct DeviceFusion;
}

namespace keel::cuda {

inline constexpr int kMaxDevices = 64;

/// One T a device, made when it is first asked for and never destroyed: tensors may be freed while the program ends. Every op comes by
/// here several times.
template <class T>
class OnEachDevice {
 public:
  /// `begin(t)` is called once, before anybody else sees `t`.
  template <class Begin>
  T& at(int device, const Begin& begin) {
    if (T* const t = made_[device].load(std::memory_order_acquire)) [[likely]]
      return *t;
    const std::lock_guard lock(making_);
    if (T* const t = made_[device].load(std::memory_order_relaxed)) return *t;
    T* const t = new T;
    begin(*t);
    made_[device].store(t, std::memory_order_release);
    return *t;
  }

 private:
  std::atomic<T*> made_[kMaxDevices] = {};
  std::mutex making_;
};

/// Makes `device` the thread's current one; the error of that or of its setting up.
cudaError_t ready(int device);
/// The same where the error shows in the call that follows.
void use(int device);
/// The stream that all work of `device` goes into.
cudaStream_t queue_of(int device);
/// The stream that this thread's work goes into: that one, or, while the thread records, the recording's.
cudaStream_t stream_of(int device);
/// Where queued work reports what it finds wrong: `best` is the least call and position so far, `lock` guards `found`, in host memory.
struct FaultBoard {
  unsigned long long best;
  unsigned lock;
  struct Found {
    volatile uint64_t call;
    volatile int32_t code, axis;
    volatile int64_t got, limit;
    const char* volatile what;
  } * found;
};
/// The board of `device`, in its memory.
FaultBoard* faults_of(int device);
/// Where the blocks of a kernel tell each other what they found (exchange.cuh).
struct Exchange {
  static constexpr int kMost = 160, kWords = 2;  // blocks; words that one tells
  struct alignas(16) Word {
    uint64_t value, turn;
  } words[kWords][kMost];
  uint64_t turn;  // the last one that is over
};
/// That of `device`, in its memory.
Exchange* exchange_of(int device);
/// Multiprocessors of `device`.
int processors(int device);
/// Its compute capability: 90 for 9.0.
int arch_of(int device);

/// Text for an error code, kept until the thread's next call; null for success.
const char* text_of(cudaError_t e, const char* doing);

// Recordings (record.cpp); DeviceDriver says what they promise.
const char* record_begin(int device, void* rehearsal);
const char* record_end(int device, void** recording);
/// A kernel may cut its work into more of them.
void piece(int device, int n, const MemoryUse* uses);
/// In the thread's recording, if any: the piece of work that it is at writes there, too.
void touches(int device, const void* begin, const void* end);
/// Before a kernel all of whose blocks must run at once, or that has the device's exchange: no two of these in a recording run at the same
/// time.
void alone();
const char* replay(int device, void* recording);
void forget(int device, void* recording);
/// Whether this thread records work of `device`; if so, the recording is spoilt, and `what` says by what.
bool spoils(int device, const char* what);

// Kernels of several ops (fuse.cpp).
const DeviceFusion* fusion();
/// What makes them, or why nothing does.
std::string fusion_text();

// Copies in the queue, several at a time (copies.cu); DeviceDriver says what they promise.
const char* copies(int device, int n, void* const* to, const void* const* from, const size_t* bytes);

// Copies beside the queue (upload.cpp); DeviceDriver says what they promise.
void* pin(size_t bytes);
void unpin(void* p);
const char* upload(int device, int n, void* const* to, const void* const* from, const size_t* bytes, uint64_t* ticket);
const char* join(int device, uint64_t ticket);
const char* await(int device, uint64_t ticket);

/// Passes over memory that were put off are queued before it changes; DeviceKernels::settle (observe.cu).
const char* settle(int device, const void* begin, const void* end);
/// Whether one of them looks at memory in [begin, end).
bool waits(int device, const void* begin, const void* end);

// Copies to the host that nobody waits for yet (board.cpp).
const char* fetch(int device, void* to, const void* from, size_t bytes, uint64_t* ticket);
const char* collect(int device, void* to, void* from, size_t bytes, uint64_t* ticket);
const char* collected(int device, uint64_t ticket, bool wait, bool* made);

// The memory of a device (memory.cpp): a pool (block_pool.h).
void* allocate(int device, size_t bytes, const char* tag);
void release(int device, void* p, size_t bytes);
MemoryStats memory_of(int device);
void reset_peak(int device);
void set_limit(int device, int64_t bytes);
int64_t release_cached(int device);
/// Of the recording that this thread makes on `device`; null where it makes none.
BlockPool::Arena* arena_of(int device);
/// The device's pool, for those who have arenas of it.
BlockPool& pool_of(int device);
void memory_report(int device, size_t wanted, char* text, size_t room);

}  // namespace keel::cuda
