#pragma once
// cuDNN 9's graph interface as plans are made with it: a tensor, an operation, a graph, a list of engines by heuristic, a plan. The library
// is opened when the first plan is asked for. Only cudnn*.cpp include this.
#include "backend/cuda/kernel.h"

#if __has_include(<cudnn.h>)
#include <cudnn.h>

#include <deque>
#include <mutex>
#include <utility>
#include <vector>
#define KEEL_HAS_CUDNN 1

namespace keel::cuda {

struct CudnnLibrary {
  const char* refusal = nullptr;
#define KEEL_CUDNN_FUNCTION(NAME) decltype(&NAME) f_##NAME = nullptr
  KEEL_CUDNN_FUNCTION(cudnnGetVersion);
  KEEL_CUDNN_FUNCTION(cudnnCreate);
  KEEL_CUDNN_FUNCTION(cudnnSetStream);
  KEEL_CUDNN_FUNCTION(cudnnBackendCreateDescriptor);
  KEEL_CUDNN_FUNCTION(cudnnBackendDestroyDescriptor);
  KEEL_CUDNN_FUNCTION(cudnnBackendSetAttribute);
  KEEL_CUDNN_FUNCTION(cudnnBackendGetAttribute);
  KEEL_CUDNN_FUNCTION(cudnnBackendFinalize);
  KEEL_CUDNN_FUNCTION(cudnnBackendExecute);
#undef KEEL_CUDNN_FUNCTION
  cudnnHandle_t handles[kMaxDevices] = {};
  std::once_flag made[kMaxDevices];
  std::mutex running[kMaxDevices];  // a handle is one thread's at a time

  CudnnLibrary();
  /// The handle of `device`, or null.
  cudnnHandle_t handle(int device);
};
CudnnLibrary& cudnn();

/// A descriptor of the library. Errors stick: after the first one, nothing more is asked.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    ok_ = cudnn().f_cudnnBackendCreateDescriptor(type, &d_) == CUDNN_STATUS_SUCCESS;
  }
  Descriptor(Descriptor&& o) noexcept : d_(o.d_), ok_(o.ok_) { o.d_ = nullptr; }
  Descriptor& operator=(Descriptor&& o) noexcept {
    std::swap(d_, o.d_), std::swap(ok_, o.ok_);
    return *this;
  }
  ~Descriptor() {
    if (d_) cudnn().f_cudnnBackendDestroyDescriptor(d_);
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t what, cudnnBackendAttributeType_t type, const T* values, int64_t n) {
    ok_ = ok_ && cudnn().f_cudnnBackendSetAttribute(d_, what, type, n, values) == CUDNN_STATUS_SUCCESS;
    return *this;
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t what, cudnnBackendAttributeType_t type, const T& value) {
    return set(what, type, &value, 1);
  }
  Descriptor& set(cudnnBackendAttributeName_t what, const Descriptor& other) {
    ok_ = ok_ && other.ok_;
    return set(what, CUDNN_TYPE_BACKEND_DESCRIPTOR, other.d_);
  }
  bool finalise() { return ok_ = ok_ && cudnn().f_cudnnBackendFinalize(d_) == CUDNN_STATUS_SUCCESS; }
  /// Reads at most `most` values; gives how many there are.
  template <class T>
  int64_t get(cudnnBackendAttributeName_t what, cudnnBackendAttributeType_t type, T* values, int64_t most) const {
    int64_t n = 0;
    if (!ok_ || cudnn().f_cudnnBackendGetAttribute(d_, what, type, most, &n, values) != CUDNN_STATUS_SUCCESS) return 0;
    return n;
  }
  bool ok() const { return ok_; }
  cudnnBackendDescriptor_t raw() const { return d_; }

 private:
  cudnnBackendDescriptor_t d_ = nullptr;
  bool ok_ = false;
};

inline cudnnDataType_t cudnn_type(DType t) { return t == f16 ? CUDNN_DATA_HALF : t == bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT; }

/// What an engine has to keep. `full`: operands are f32 and not to be rounded to less. Unless `any_order`: the same bits in every run, as far
/// as it says so of itself.
struct Fit {
  bool full = false, any_order = false;
};

struct CudnnPlan {
  Descriptor plan{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
  std::deque<Descriptor> parts;  // what the plan refers to
  int64_t workspace = 0;

  Descriptor& keep(Descriptor d) { return parts.emplace_back(std::move(d)); }
  /// Makes the plan of a graph by the first engine that the library can finalise and that is fit; false where there is none.
  bool choose(const std::vector<cudnnBackendDescriptor_t>& operations, cudnnHandle_t handle, Fit fit);
};

/// Runs a plan on the operands with these ids; `doing` says what for.
KernelStatus run_plan(const CudnnPlan& p, const int64_t* ids, const void* const* data, int64_t n, void* workspace, int device,
                      cudaStream_t stream, const char* doing);

}  // namespace keel::cuda
#endif
