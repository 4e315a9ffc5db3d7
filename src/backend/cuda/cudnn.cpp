// cuDNN 9, opened when the first convolution is asked for. Its graphs are described through the C interface alone: a tensor, an operation,
// a graph, a list of engines by heuristic, a plan. The first engine that the library can finalise and that promises the same bits in every
// run is taken; engines that round f32 to less are passed over. Compiled where the header is there; without it every plan is refused.
#include "backend/cuda/cudnn.h"

#if __has_include(<cudnn.h>)
#include <cudnn.h>
#include <dlfcn.h>

#include <array>
#include <map>
#include <mutex>
#include <type_traits>
#include <vector>
#define KEEL_HAS_CUDNN 1
#endif

namespace keel::cuda {

#ifdef KEEL_HAS_CUDNN
namespace {

struct Library {
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

  Library() {
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
    if (!all) refusal = "libcudnn.so.9 lacks a function that is needed";
    else if (f_cudnnGetVersion() < 90000) refusal = "libcudnn.so.9 is older than 9.0";
  }
};
Library& cudnn() {
  static Library* const l = new Library;
  return *l;
}

/// A descriptor of the library. Errors stick: after the first one, nothing more is asked.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    ok_ = cudnn().f_cudnnBackendCreateDescriptor(type, &d_) == CUDNN_STATUS_SUCCESS;
  }
  Descriptor(Descriptor&& o) noexcept : d_(o.d_), ok_(o.ok_) { o.d_ = nullptr; }
  Descriptor(const Descriptor&) = delete;
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

cudnnDataType_t data_type(DType t) { return t == f16 ? CUDNN_DATA_HALF : t == bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT; }

enum Id : int64_t { kX = 'x', kW = 'w', kY = 'y', kBias = 'b', kSum = 's' };

/// A tensor with its channels innermost.
Descriptor tensor(Id id, DType t, const int64_t* extent, bool inner = false, bool wide = false) {
  const int64_t stride[4] = {extent[1] * extent[2] * extent[3], 1, extent[1] * extent[3], extent[1]}, align = 16;
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, wide ? CUDNN_DATA_FLOAT : data_type(t))
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, extent, 4)
      .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, stride, 4)
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t(id))
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, align)
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, inner);
  d.finalise();
  return d;
}

using Key = std::array<int64_t, 23>;
Key key_of(const Convolution& c, int device) {
  Key k{};
  size_t at = 0;
  for (const int64_t* list : {c.x, c.w, c.y})
    for (int i = 0; i < 4; ++i) k[at++] = list[i];
  for (const int64_t* list : {c.stride, c.padding, c.dilation})
    for (int i = 0; i < 2; ++i) k[at++] = list[i];
  k[at++] = c.groups, k[at++] = int64_t(c.kind), k[at++] = int64_t(c.dtype), k[at++] = c.bias, k[at] = device;
  return k;
}

}  // namespace

struct ConvolutionPlan {
  Descriptor plan{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
  std::vector<Descriptor> parts;  // what the plan refers to
  int64_t workspace = 0;
  bool bias = false;
};

namespace {

/// Whether an engine gives the same bits in every run and computes in f32. Tensor cores would round f32 operands to TF32.
bool keeps_promises(const Descriptor& engine, bool full) {
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  const int64_t n = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, notes, CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
  for (int64_t i = 0; i < n && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; ++i)
    if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
        notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION || (full && notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE))
      return false;
  return true;
}

ConvolutionPlan* make_plan(const Convolution& c, cudnnHandle_t handle) {
  auto* made = new ConvolutionPlan;
  std::vector<Descriptor>& parts = made->parts;
  parts.reserve(16);
  made->bias = c.bias;
  const auto keep = [&](Descriptor d) -> Descriptor& { return parts.emplace_back(std::move(d)); };
  const auto give_up = [&]() -> ConvolutionPlan* { return delete made, nullptr; };
  const int64_t bias_extent[4] = {1, c.y[1], 1, 1}, dims = 2;
  const float one = 1, zero = 0;

  Descriptor& x = keep(tensor(kX, c.dtype, c.x));
  Descriptor& w = keep(tensor(kW, c.dtype, c.w));
  Descriptor& y = keep(tensor(c.bias ? kSum : kY, c.dtype, c.y, c.bias, c.bias));
  Descriptor& how = keep(Descriptor(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR));
  how.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION)
      .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, dims)
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, c.dilation, 2)
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, c.stride, 2)
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, c.padding, 2)
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, c.padding, 2)
      .finalise();

  std::vector<cudnnBackendDescriptor_t> ops;
  bool ok = false;
  const auto operation = [&](cudnnBackendDescriptorType_t type, cudnnBackendAttributeName_t n_how, cudnnBackendAttributeName_t n_x,
                             cudnnBackendAttributeName_t n_w, cudnnBackendAttributeName_t n_y, cudnnBackendAttributeName_t n_alpha,
                             cudnnBackendAttributeName_t n_beta) {
    Descriptor& op = keep(Descriptor(type));
    op.set(n_how, how).set(n_x, x).set(n_w, w).set(n_y, y).set(n_alpha, CUDNN_TYPE_FLOAT, one).set(n_beta, CUDNN_TYPE_FLOAT, zero);
    ok = op.finalise();
    ops.push_back(op.raw());
  };
  if (c.kind == Convolution::forward)
    operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
  else if (c.kind == Convolution::to_input)
    operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
  else
    operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA);
  if (ok && c.bias) {  // the sum stays f32 and is rounded once, with the bias in it
    Descriptor& bias = keep(tensor(kBias, c.dtype, bias_extent));
    Descriptor& out = keep(tensor(kY, c.dtype, c.y));
    Descriptor& add = keep(Descriptor(CUDNN_BACKEND_POINTWISE_DESCRIPTOR));
    add.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_ADD)
        .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
        .finalise();
    Descriptor& op = keep(Descriptor(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR));
    ok = op.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add)
             .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, y)
             .set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, bias)
             .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out)
             .finalise();
    ops.push_back(op.raw());
  }
  if (!ok) return give_up();

  Descriptor& graph = keep(Descriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
  if (!graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops.data(), int64_t(ops.size()))
           .set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle)
           .finalise())
    return give_up();

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
      if (!keeps_promises(engine, c.dtype == f32)) continue;
      Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      if (!plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle)
               .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw[i])
               .finalise())
        continue;
      if (plan.get(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, &made->workspace, 1) != 1) continue;
      made->plan.~Descriptor();
      new (&made->plan) Descriptor(std::move(plan));
      keep(std::move(configs[size_t(i)])), keep(std::move(engine));
      return made;
    }
  }
  return give_up();
}

}  // namespace

const char* cudnn_refusal() { return cudnn().refusal; }

const ConvolutionPlan* convolution_plan(const Convolution& c, int device) {
  Library& lib = cudnn();
  if (lib.refusal) return nullptr;
  use(device);
  std::call_once(lib.made[device], [&] {
    if (lib.f_cudnnCreate(&lib.handles[device]) != CUDNN_STATUS_SUCCESS) lib.handles[device] = nullptr;
  });
  if (!lib.handles[device]) return nullptr;
  static std::mutex mutex;
  static auto* const known = new std::map<Key, const ConvolutionPlan*>;
  const Key key = key_of(c, device);
  const std::lock_guard lock(mutex);
  const auto it = known->find(key);
  if (it != known->end()) return it->second;
  const std::lock_guard mine(lib.running[device]);
  return known->emplace(key, make_plan(c, lib.handles[device])).first->second;
}

size_t workspace_of(const ConvolutionPlan& p) { return size_t(p.workspace); }

KernelStatus run(const ConvolutionPlan& p, const void* x, const void* w, const void* bias, const void* y, void* workspace, int device,
                 cudaStream_t stream) {
  Library& lib = cudnn();
  const int64_t ids[4] = {kX, kW, kY, kBias};
  const void* data[4] = {x, w, y, bias};
  const int64_t n = p.bias ? 4 : 3;
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  if (!pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids, n)
           .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, data, n)
           .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
           .finalise())
    return KernelStatus::device("cuDNN refused the operands of a convolution");
  const std::lock_guard mine(lib.running[device]);
  if (lib.f_cudnnSetStream(lib.handles[device], stream) != CUDNN_STATUS_SUCCESS ||
      lib.f_cudnnBackendExecute(lib.handles[device], p.plan.raw(), pack.raw()) != CUDNN_STATUS_SUCCESS)
    return KernelStatus::device("cuDNN refused a convolution");
  return launched();
}

#else
struct ConvolutionPlan {};
const char* cudnn_refusal() { return "this build knows no cuDNN: its header was not there"; }
const ConvolutionPlan* convolution_plan(const Convolution&, int) { return nullptr; }
size_t workspace_of(const ConvolutionPlan&) { return 0; }
KernelStatus run(const ConvolutionPlan&, const void*, const void*, const void*, const void*, void*, int, cudaStream_t) { return {}; }
#endif

}  // namespace keel::cuda
