// cuDNN 9, opened when the first plan is asked for. Compiled where its header is there.
#include "backend/cuda/cudnn_library.h"

#ifdef KEEL_HAS_CUDNN
#include <dlfcn.h>

#include <type_traits>

namespace keel::cuda {

CudnnLibrary::CudnnLibrary() {
  void* library = nullptr;
  for (const char* name : {"libcudnn.so.9", "/usr/local/cuda/lib64/libcudnn.so.9"})
    if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    refusal = "libcudnn.so.9 was not found (package nvidia-cudnn, or cuDNN's own)";
    return;
  }
  bool all = true;
  const auto take = [&](auto& f, const char* name) {
    all = (f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name))) && all;
  };
#define KEEL_TAKE(NAME) take(f_##NAME, #NAME)
  KEEL_TAKE(cudnnGetVersion), KEEL_TAKE(cudnnCreate), KEEL_TAKE(cudnnSetStream), KEEL_TAKE(cudnnBackendCreateDescriptor);
  KEEL_TAKE(cudnnBackendDestroyDescriptor), KEEL_TAKE(cudnnBackendSetAttribute), KEEL_TAKE(cudnnBackendGetAttribute);
  KEEL_TAKE(cudnnBackendFinalize), KEEL_TAKE(cudnnBackendExecute);
#undef KEEL_TAKE
  if (!all)
    refusal = "libcudnn.so.9 lacks a function that is needed";
  else if (f_cudnnGetVersion() < 90000)
    refusal = "libcudnn.so.9 is older than 9.0";
}
cudnnHandle_t CudnnLibrary::handle(int device) {
  if (refusal) return nullptr;
  use(device);
  std::call_once(made[device], [&] {
    if (f_cudnnCreate(&handles[device]) != CUDNN_STATUS_SUCCESS) handles[device] = nullptr;
  });
  return handles[device];
}
CudnnLibrary& cudnn() {
  static CudnnLibrary* const l = new CudnnLibrary;
  return *l;
}

namespace {

/// Whether an engine computes in f32 and keeps what `fit` asks for. Tensor cores would round f32 operands to TF32.
bool is_fit(const Descriptor& engine, Fit fit) {
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  const int64_t n = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, notes, CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
  for (int64_t i = 0; i < n && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; ++i)
    if ((!fit.any_order && notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
        notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION || (fit.full && notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE))
      return false;
  return true;
}

}  // namespace

bool CudnnPlan::choose(const std::vector<cudnnBackendDescriptor_t>& operations, cudnnHandle_t handle, Fit fit) {
  Descriptor& graph = keep(Descriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
  if (!graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations.data(), int64_t(operations.size()))
           .set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle)
           .finalise())
    return false;

  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    if (!heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph).set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode).finalise())
      continue;
    constexpr int64_t kMost = 16;
    std::vector<Descriptor> configs;
    cudnnBackendDescriptor_t raw[kMost];
    for (int64_t i = 0; i < kMost; ++i) configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), raw[i] = configs.back().raw();
    const int64_t n = heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw, kMost);
    for (int64_t i = 0; i < n && i < kMost; ++i) {
      Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
      cudnnBackendDescriptor_t e = engine.raw();
      if (configs[size_t(i)].get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, &e, 1) != 1) continue;
      if (!is_fit(engine, fit)) continue;
      Descriptor made(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      if (!made.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle)
               .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw[i])
               .finalise())
        continue;
      if (made.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, &workspace, 1) != 1) continue;
      plan = std::move(made);
      keep(std::move(configs[size_t(i)])), keep(std::move(engine));
      return true;
    }
  }
  return false;
}

KernelStatus run_plan(const CudnnPlan& p, const int64_t* ids, const void* const* data, int64_t n, void* workspace, int device,
                      cudaStream_t stream, const char* doing) {
  CudnnLibrary& lib = cudnn();
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  if (!pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids, n)
           .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, data, n)
           .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
           .finalise())
    return KernelStatus::device(doing);
  const std::lock_guard mine(lib.running[device]);
  if (lib.f_cudnnSetStream(lib.handles[device], stream) != CUDNN_STATUS_SUCCESS ||
      lib.f_cudnnBackendExecute(lib.handles[device], p.plan.raw(), pack.raw()) != CUDNN_STATUS_SUCCESS)
    return KernelStatus::device(doing);
  return launched();
}

}  // namespace keel::cuda
#endif
