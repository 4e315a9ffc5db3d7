// Convolution as a graph of cuDNN's. Engines that round f32 to less, or change their bits from run to run where those are promised, are passed
// over. Without the header every plan is refused.
#include "backend/cuda/cudnn.h"

#include "backend/cuda/cudnn_library.h"

#ifdef KEEL_HAS_CUDNN
#include <array>
#include <map>
#endif

namespace keel::cuda {

#ifdef KEEL_HAS_CUDNN
namespace {

enum Id : int64_t { kX = 'x', kW = 'w', kY = 'y', kBias = 'b', kSum = 's' };

/// A tensor with its channels innermost.
Descriptor tensor(Id id, DType t, const int64_t* extent, bool inner = false, bool wide = false) {
  const int64_t stride[4] = {extent[1] * extent[2] * extent[3], 1, extent[1] * extent[3], extent[1]}, align = 16;
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, wide ? CUDNN_DATA_FLOAT : cudnn_type(t))
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, extent, 4)
      .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, stride, 4)
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t(id))
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, align)
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, inner);
  d.finalise();
  return d;
}

using Key = std::array<int64_t, 25>;
Key key_of(const Convolution& c, int device) {
  Key k{};
  size_t at = 0;
  for (const int64_t* list : {c.x, c.w, c.y})
    for (int i = 0; i < 4; ++i) k[at++] = list[i];
  for (const int64_t* list : {c.stride, c.padding, c.dilation})
    for (int i = 0; i < 2; ++i) k[at++] = list[i];
  k[at++] = c.groups, k[at++] = int64_t(c.kind), k[at++] = int64_t(c.dtype), k[at++] = c.bias;
  k[at++] = c.any_order, k[at++] = c.tf32, k[at] = device;
  return k;
}

}  // namespace

struct ConvolutionPlan : CudnnPlan {
  bool bias = false;
};

namespace {

ConvolutionPlan* make_plan(const Convolution& c, cudnnHandle_t handle) {
  auto* made = new ConvolutionPlan;
  made->bias = c.bias;
  const auto keep = [&](Descriptor d) -> Descriptor& { return made->keep(std::move(d)); };
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
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
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
  if (!ok || !made->choose(ops, handle, {.full = c.dtype == f32 && !c.tf32, .any_order = c.any_order})) return delete made, nullptr;
  return made;
}

}  // namespace

const char* cudnn_refusal() { return cudnn().refusal; }

const ConvolutionPlan* convolution_plan(const Convolution& c, int device) {
  CudnnLibrary& lib = cudnn();
  if (!lib.handle(device)) return nullptr;
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
  const int64_t ids[4] = {kX, kW, kY, kBias};
  const void* data[4] = {x, w, y, bias};
  return run_plan(p, ids, data, p.bias ? 4 : 3, workspace, device, stream, "cuDNN refused a convolution");
}

#else
struct ConvolutionPlan {};
const char* cudnn_refusal() { return "this build knows no cuDNN: its header was not there"; }
const ConvolutionPlan* convolution_plan(const Convolution&, int) { return nullptr; }
size_t workspace_of(const ConvolutionPlan&) { return 0; }
KernelStatus run(const ConvolutionPlan&, const void*, const void*, const void*, const void*, void*, int, cudaStream_t) { return {}; }
#endif

}  // namespace keel::cuda
