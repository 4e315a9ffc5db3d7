// Recordings: CUDA graphs, captured from a stream of their own, so that what other threads ask of the device meanwhile stays out of them.
#include <algorithm>
#include <string>
#include <vector>

#include "backend/cuda/block_pool.h"
#include "backend/cuda/runtime.h"
#include "backend/cuda/work_order.h"
#include "base/env.h"

namespace keel::cuda {
namespace {

// A step of tensors that take no more together leaves most of the device idle: its memory is not worth saving.
constexpr size_t kApart = size_t(64) << 20;
/// 0 where KEEL_BRANCHES=0 says that all work of a recording is done in order.
size_t apart() { return base::env_string("KEEL_BRANCHES") == "0" ? 0 : kApart; }

struct Recording {
  int device = 0;
  bool rehearses = false;
  cudaStream_t stream = nullptr;  // while it is being made
  cudaGraphExec_t graph = nullptr;
  BlockPool::Arena* arena = nullptr;
  const char* spoilt = nullptr;
  // Where pieces of work may be done at the same time: their order, and the last kernels of each, which those that follow wait for.
  bool in_pieces = false;
  WorkOrder order;
  std::vector<std::vector<cudaGraphNode_t>> ends;
  std::vector<cudaGraphNode_t> first;
  cudaError_t failed = cudaSuccess;
};
thread_local Recording* current = nullptr;
thread_local std::string spoilt_text;

/// What the next thing that `r` records will wait for.
std::vector<cudaGraphNode_t> awaited(Recording& r) {
  cudaStreamCaptureStatus status;
  const cudaGraphNode_t* nodes = nullptr;
  size_t n = 0;
  if (const cudaError_t e = cudaStreamGetCaptureInfo(r.stream, &status, nullptr, nullptr, &nodes, nullptr, &n))
    return r.failed = e, std::vector<cudaGraphNode_t>();
  return {nodes, nodes + n};
}
void await_only(Recording& r, std::vector<cudaGraphNode_t>& nodes) {
  const cudaError_t e =
      cudaStreamUpdateCaptureDependencies(r.stream, nodes.data(), nullptr, nodes.size(), cudaStreamSetCaptureDependencies);
  if (e != cudaSuccess) r.failed = e;
}
void touch(Recording& r, const void* begin, const void* end, bool writes) {
  const std::vector<int>& pieces = r.order.touch(begin, end, writes);
  if (pieces.empty()) return;
  std::vector<cudaGraphNode_t> nodes = awaited(r);
  for (const int p : pieces)
    for (const cudaGraphNode_t node : r.ends[size_t(p)])
      if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
  await_only(r, nodes);
}

}  // namespace

cudaStream_t stream_of(int device) { return current && current->device == device ? current->stream : queue_of(device); }
BlockPool::Arena* arena_of(int device) { return current && current->device == device ? current->arena : nullptr; }

bool spoils(int device, const char* what) {
  if (!current || current->device != device) return false;
  if (!current->spoilt) current->spoilt = what;
  return true;
}

const char* record_begin(int device, void* rehearsal) {
  BlockPool& pool = pool_of(device);
  const BlockPlan plan = rehearsal ? pool.plan_of(static_cast<Recording*>(rehearsal)->arena, apart()) : BlockPlan();
  if (rehearsal) forget(device, rehearsal);
  if (current) return "a recording is in progress";
  if (const cudaError_t e = ready(device)) return text_of(e, "setting up the device");
  auto* r = new Recording;
  r->device = device, r->rehearses = !rehearsal;
  r->arena = rehearsal ? pool.open(plan) : pool.rehearse();
  r->in_pieces = plan.apart;
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

void piece(int device, int n, const MemoryUse* uses) {
  if (!current || current->device != device || !current->in_pieces) return;
  Recording& r = *current;
  // What was recorded before the first piece, if anything, comes before all of them.
  if (r.order.count()) {
    r.ends.push_back(awaited(r));
    std::vector<cudaGraphNode_t> first = r.first;
    await_only(r, first);
  } else {
    r.first = awaited(r);
  }
  r.order.begin();
  for (int i = 0; i < n; ++i) touch(r, uses[i].begin, uses[i].end, uses[i].written);
}
void touches(int device, const void* begin, const void* end) {
  if (current && current->device == device && current->in_pieces && current->order.count()) touch(*current, begin, end, true);
}
void alone() {
  static const char one = 0;
  if (current) touches(current->device, &one, &one + 1);
}

const char* record_end(int device, void** recording) {
  Recording* const r = current;
  if (!r || r->device != device) return "nothing was recorded";
  current = nullptr;
  cudaGraph_t graph = nullptr;
  cudaError_t e = cudaStreamEndCapture(r->stream, &graph);
  if (e == cudaSuccess) e = r->failed;
  cudaStreamDestroy(r->stream);
  r->stream = nullptr;
  const bool wanted = recording && !r->spoilt;
  if (e == cudaSuccess && wanted && !r->rehearses) e = cudaGraphInstantiate(&r->graph, graph, 0);
  if (e == cudaSuccess && wanted && !r->rehearses) e = cudaGraphUpload(r->graph, queue_of(device));
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
  pool_of(device).forget(r->arena);
  delete r;
}

}  // namespace keel::cuda
