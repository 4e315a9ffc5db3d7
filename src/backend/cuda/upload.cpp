// Copies to the device beside its queue: a second stream that waits for the work that was queued before, so that memory which that work
// still reads is not written, and events that the queue waits for in turn.
#include <mutex>

#include "backend/cuda/runtime.h"

namespace keel::cuda {
namespace {

constexpr uint64_t kKept = 64;  // tickets that are told apart; an older one waits for a younger

struct Lane {
  std::mutex mutex;
  cudaStream_t stream = nullptr;
  cudaEvent_t queued = nullptr, made[kKept] = {};
  uint64_t tickets = 0;
};
/// Null where it cannot be had.
Lane* lane(int device) {
  static Lane* const all = new Lane[kMaxDevices];
  Lane& l = all[device];
  const std::lock_guard lock(l.mutex);
  if (l.stream) return &l;
  if (ready(device) != cudaSuccess || cudaEventCreateWithFlags(&l.queued, cudaEventDisableTiming) != cudaSuccess) return nullptr;
  for (cudaEvent_t& e : l.made)
    if (cudaEventCreateWithFlags(&e, cudaEventDisableTiming) != cudaSuccess) return nullptr;
  return cudaStreamCreateWithFlags(&l.stream, cudaStreamNonBlocking) == cudaSuccess ? &l : nullptr;
}

}  // namespace

void* pin(size_t bytes) {
  void* p = nullptr;
  if (cudaHostAlloc(&p, bytes, cudaHostAllocPortable) == cudaSuccess) return p;
  cudaGetLastError();
  return nullptr;
}
void unpin(void* p) { cudaFreeHost(p); }

const char* upload(int device, void* to, const void* from, size_t bytes, uint64_t* ticket) {
  if (spoils(device, "a copy between host and device")) return "a copy between host and device while recording";
  Lane* const l = lane(device);
  if (!l) return text_of(cudaGetLastError(), "setting up a second queue");
  if (const char* wrong = settle(device, to, static_cast<char*>(to) + bytes)) return wrong;
  const std::lock_guard lock(l->mutex);
  use(device);
  cudaError_t e = cudaEventRecord(l->queued, queue_of(device));
  if (e == cudaSuccess) e = cudaStreamWaitEvent(l->stream, l->queued, 0);
  if (e == cudaSuccess) e = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, l->stream);
  if (e == cudaSuccess) e = cudaEventRecord(l->made[(l->tickets + 1) % kKept], l->stream);
  if (e == cudaSuccess) *ticket = ++l->tickets;
  return text_of(e, "copying to the device");
}
const char* join(int device, uint64_t ticket) {
  if (spoils(device, "a wait for a copy")) return "a wait for a copy while recording";
  Lane* const l = lane(device);
  if (!l) return text_of(cudaGetLastError(), "setting up a second queue");
  use(device);
  return text_of(cudaStreamWaitEvent(queue_of(device), l->made[ticket % kKept], 0), "waiting for a copy");
}
const char* await(int device, uint64_t ticket) {
  if (spoils(device, "a wait for a copy")) return "a wait for a copy while recording";
  Lane* const l = lane(device);
  if (!l) return text_of(cudaGetLastError(), "setting up a second queue");
  use(device);
  return text_of(cudaEventSynchronize(l->made[ticket % kKept]), "waiting for a copy");
}

}  // namespace keel::cuda
