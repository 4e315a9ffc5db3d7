// Recordings: CUDA graphs, captured from a stream of their own, so that what other threads ask of the device meanwhile stays out of them.
#include <string>

#include "backend/cuda/block_pool.h"
#include "backend/cuda/runtime.h"

namespace keel::cuda {
namespace {

struct Recording {
  int device = 0;
  cudaStream_t stream = nullptr;  // while it is being made
  cudaGraphExec_t graph = nullptr;
  BlockPool::Arena* arena = nullptr;
  const char* spoilt = nullptr;
};
thread_local Recording* current = nullptr;
thread_local std::string spoilt_text;

}  // namespace

cudaStream_t stream_of(int device) { return current && current->device == device ? current->stream : queue_of(device); }
BlockPool::Arena* arena_of(int device) { return current && current->device == device ? current->arena : nullptr; }

bool spoils(int device, const char* what) {
  if (!current || current->device != device) return false;
  if (!current->spoilt) current->spoilt = what;
  return true;
}

const char* record_begin(int device, size_t room) {
  if (current) return "a recording is in progress";
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  auto* r = new Recording{device};
  r->arena = open_arena(device, room);
  cudaError_t e = cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking);
  // Relaxed: memory may be asked of the driver meanwhile.
  if (e == cudaSuccess) e = cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeRelaxed);
  if (e != cudaSuccess) {
    if (r->stream) cudaStreamDestroy(r->stream);
    const char* const wrong = text_of(e, "beginning to record");
    return forget(device, r), wrong;
  }
  current = r;
  return nullptr;
}

const char* record_end(int device, void** recording) {
  Recording* const r = current;
  if (!r || r->device != device) return "nothing was recorded";
  current = nullptr;
  close_arena(device, r->arena);
  cudaGraph_t graph = nullptr;
  cudaError_t e = cudaStreamEndCapture(r->stream, &graph);
  cudaStreamDestroy(r->stream);
  r->stream = nullptr;
  const bool wanted = recording && !r->spoilt;
  if (e == cudaSuccess && wanted) e = cudaGraphInstantiate(&r->graph, graph, 0);
  if (e == cudaSuccess && wanted) e = cudaGraphUpload(r->graph, queue_of(device));
  if (graph) cudaGraphDestroy(graph);
  if (e == cudaSuccess && wanted) return *recording = r, nullptr;
  cudaGetLastError();
  const char* wrong = text_of(e, "recording");
  if (r->spoilt) spoilt_text = std::string(r->spoilt) + " while recording", wrong = spoilt_text.c_str();
  forget(device, r);
  return wrong;
}

const char* replay(int device, void* recording) {
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  return text_of(cudaGraphLaunch(static_cast<Recording*>(recording)->graph, queue_of(device)), "replaying");
}

void forget(int device, void* recording) {
  auto* const r = static_cast<Recording*>(recording);
  use(device);
  if (r->graph) cudaGraphExecDestroy(r->graph);  // once it has run
  forget_arena(device, r->arena);
  delete r;
}

}  // namespace keel::cuda
