// Copies to the device beside its queue: a second stream that waits for the work that was queued before, so that memory which that work
// still reads is not written, and events that the queue waits for in turn.
#include <map>
#include <mutex>
#include <unordered_map>

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

/// Pinned memory that was given back: to pin a piece takes a millisecond, and every walk over a dataset wants some.
struct Pinned {
  static constexpr size_t kMost = size_t(256) << 20;
  std::mutex mutex;
  std::multimap<size_t, void*> idle;
  std::unordered_map<void*, size_t> sizes;
  size_t kept = 0;
};
Pinned& pinned() {
  static Pinned* const p = new Pinned;
  return *p;
}

}  // namespace

void* pin(size_t bytes) {
  size_t size = 4096;
  while (size < bytes) size *= 2;
  Pinned& all = pinned();
  const std::lock_guard lock(all.mutex);
  if (const auto it = all.idle.find(size); it != all.idle.end()) {
    void* const p = it->second;
    all.idle.erase(it), all.kept -= size;
    return p;
  }
  void* p = nullptr;
  if (cudaHostAlloc(&p, size, cudaHostAllocPortable) == cudaSuccess) return all.sizes[p] = size, p;
  cudaGetLastError();
  return nullptr;
}
void unpin(void* p) {
  Pinned& all = pinned();
  const std::lock_guard lock(all.mutex);
  const size_t size = all.sizes.at(p);
  if (all.kept + size <= Pinned::kMost) {
    all.idle.emplace(size, p), all.kept += size;
  } else {
    all.sizes.erase(p);
    cudaFreeHost(p);
  }
}

const char* upload(int device, int n, void* const* to, const void* const* from, const size_t* bytes, uint64_t* ticket) {
  if (spoils(device, "a copy between host and device")) return "a copy between host and device while recording";
  Lane* const l = lane(device);
  if (!l) return text_of(cudaGetLastError(), "setting up a second queue");
  for (int i = 0; i < n; ++i)
    if (const char* wrong = settle(device, to[i], static_cast<char*>(to[i]) + bytes[i])) return wrong;
  const std::lock_guard lock(l->mutex);
  use(device);
  cudaError_t e = cudaEventRecord(l->queued, queue_of(device));
  if (e == cudaSuccess) e = cudaStreamWaitEvent(l->stream, l->queued, 0);
  for (int i = 0; i < n && e == cudaSuccess; ++i) e = cudaMemcpyAsync(to[i], from[i], bytes[i], cudaMemcpyHostToDevice, l->stream);
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
