// What a board of statistics has gathered goes to the host in the queue; an event says that it has arrived.
#include <mutex>

#include "backend/cuda/runtime.h"

namespace keel::cuda {
namespace {

constexpr uint64_t kKept = 64;  // tickets that are told apart; an older one waits for a younger

struct Arrivals {
  std::mutex mutex;
  cudaEvent_t made[kKept] = {};
  uint64_t tickets = 0;
};
Arrivals& arrivals(int device) {
  static Arrivals* const all = new Arrivals[kMaxDevices];
  return all[device];
}

const char* send(int device, void* to, const void* from, size_t bytes, uint64_t* ticket, bool clears) {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  const cudaStream_t s = stream_of(device);
  Arrivals& a = arrivals(device);
  const std::lock_guard lock(a.mutex);
  cudaEvent_t& event = a.made[(a.tickets + 1) % kKept];
  cudaError_t e = event ? cudaSuccess : cudaEventCreate(&event);
  if (e == cudaSuccess) e = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s);
  if (e == cudaSuccess && clears) e = cudaMemsetAsync(const_cast<void*>(from), 0, bytes, s);
  if (e == cudaSuccess) e = cudaEventRecord(event, s);
  if (e == cudaSuccess) *ticket = ++a.tickets;
  return text_of(e, "copying to the host");
}

}  // namespace

const char* fetch(int device, void* to, const void* from, size_t bytes, uint64_t* ticket) {
  if (spoils(device, "a copy between host and device")) return "a copy between host and device while recording";
  return send(device, to, from, bytes, ticket, false);
}
const char* collect(int device, void* to, void* from, size_t bytes, uint64_t* ticket) {
  if (const char* wrong = settle(device, nullptr, nullptr)) return wrong;
  return send(device, to, from, bytes, ticket, true);
}

const char* collected(int device, uint64_t ticket, bool wait, bool* made) {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  const cudaEvent_t event = arrivals(device).made[ticket % kKept];
  const cudaError_t e = wait ? cudaEventSynchronize(event) : cudaEventQuery(event);
  *made = e == cudaSuccess;
  if (e != cudaErrorNotReady) return text_of(e, "waiting for statistics");
  cudaGetLastError();
  return nullptr;
}

const char* elapsed(int device, uint64_t from, uint64_t to, float* milliseconds);
const char* elapsed(int device, uint64_t from, uint64_t to, float* milliseconds) {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  const Arrivals& a = arrivals(device);
  return text_of(cudaEventElapsedTime(milliseconds, a.made[from % kKept], a.made[to % kKept]), "timing a step");
}

}  // namespace keel::cuda
